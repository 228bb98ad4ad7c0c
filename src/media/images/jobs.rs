//! Pictures at hosts that take an order and have to be asked again: within the request, in their synchronous form where
//! they have one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Images;
use super::answer::{Made, answer};
use super::hosts::{kept, no_mask, one_picture, put, text};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::json::from_bytes;
use crate::media::shape::{
    Again, Answered, Asked, Raw, Reading, Shape, Written, at_once, fates, json_of, malformed, withheld,
};

/// How long to wait before an order is asked for again, in milliseconds; it grows with each question.
const POLL_MS: u64 = 500;
const RATIOS: &[&str] = &["1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "21:9", "9:21"];

/// fal: the call that waits (`https://fal.run/{model}`).
pub const FAL: Shape<Images> = Shape {
    families: &["fal-run"],
    fates: fates! {
        "n" => "num_images", "size" => "image_size", "quality" Kept, "background" Kept, "output_format" Kept,
        "response_format" => "made here", "style" Dropped, "seed" Kept, "negative_prompt" Kept,
        "edits" => "image_url, image_urls", "mask" => "mask_url", "stream" => "one event",
        "partial_images" Dropped,
    },
    passes: false,
    write: fal,
    follow: at_once,
    read: read_fal,
};

/// Replicate: `Prefer: wait`, then polled.
pub const REPLICATE: Shape<Images> = Shape {
    families: &["replicate"],
    fates: fates! {
        "n" => "num_outputs", "size" => "aspect_ratio", "quality" Dropped, "background" Dropped,
        "output_format" Kept, "response_format" => "made here", "style" Dropped, "seed" Kept,
        "negative_prompt" Kept, "edits" => "input_image", "mask" Refused, "stream" => "one event",
        "partial_images" Dropped,
    },
    passes: false,
    write: replicate,
    follow: follow_replicate,
    read: read_replicate,
};

/// Black Forest Labs: ordered, then polled where the host says.
pub const BFL: Shape<Images> = Shape {
    families: &["bfl"],
    fates: fates! {
        "n" => "several calls", "size" => "width, height, aspect_ratio", "quality" Dropped, "background" Dropped,
        "output_format" => "jpeg, png", "response_format" => "made here", "style" Dropped, "seed" Kept,
        "edits" => "input_image", "mask" Refused, "stream" => "one event", "partial_images" Dropped,
    },
    passes: false,
    write: bfl,
    follow: follow_bfl,
    read: read_bfl,
};

/// Fireworks: pictures at once, FLUX Kontext by order.
pub const FIREWORKS: Shape<Images> = Shape {
    families: &["fireworks-images"],
    fates: fates! {
        "n" => "several calls", "size" => "aspect_ratio", "quality" Dropped, "background" Dropped,
        "output_format" => "accept", "response_format" => "made here", "style" Dropped, "seed" Kept,
        "edits" => "input_image", "mask" Refused, "stream" => "one event", "partial_images" Dropped,
    },
    passes: false,
    write: fireworks,
    follow: follow_fireworks,
    read: read_fireworks,
};

fn prompted(work: &Images, names: &[&str]) -> Map<String, Value> {
    let mut body = kept(work, names);
    body.insert("prompt".to_owned(), work.prompt.clone().into());
    body
}

fn fal(work: &Images, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    let mut body = prompted(work, &["seed", "negative_prompt", "quality", "background", "output_format"]);
    put(&mut body, "num_images", Some(work.count));
    put(&mut body, "image_size", work.size.map(|size| json!({"width": size.width, "height": size.height})));
    let urls = work.pictures.iter().map(|one| one.url(asked, true)).collect::<Result<Vec<String>, Failure>>()?;
    match urls.as_slice() {
        [] => {}
        // Models that compose take a list even of one.
        [one] if !asked.upstream.ends_with("/edit") && !asked.upstream.contains("multi") => {
            put(&mut body, "image_url", Some(one.as_str()));
        }
        several => put(&mut body, "image_urls", Some(json!(several))),
    }
    if let Some(mask) = &work.mask {
        put(&mut body, "mask_url", Some(mask.url(asked, true)?));
    }
    Ok(vec![Written::json(format!("/{}", asked.upstream), Value::Object(body))])
}

fn read_fal(work: &Images, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let value = json_of(&raws.first().ok_or_else(malformed)?.bytes)?;
    let list: Vec<&Value> = match (value.get("images").and_then(Value::as_array), value.get("image")) {
        (Some(list), _) => list.iter().collect(),
        (None, Some(one)) => vec![one],
        (None, None) => return Err(malformed()),
    };
    let flags = value.get("has_nsfw_concepts").and_then(Value::as_array);
    let is_bad = |at: usize| flags.and_then(|flags| flags.get(at)).and_then(Value::as_bool) == Some(true);
    let links = list.iter().enumerate().filter(|(at, _)| !is_bad(*at)).filter_map(|(_, one)| one.get("url")?.as_str());
    let made = Made::of_links(links);
    if made.data.is_empty() && !list.is_empty() {
        return Err(withheld());
    }
    answer(work, made, reading)
}

fn replicate(work: &Images, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    no_mask(work)?;
    let mut input = prompted(work, &["seed", "negative_prompt", "output_format"]);
    put(&mut input, "num_outputs", Some(work.count).filter(|count| *count > 1));
    put(&mut input, "aspect_ratio", work.size.and_then(|size| size.ratio(RATIOS)));
    if let Some(one) = one_picture(work)? {
        put(&mut input, "input_image", Some(one.url(asked, true)?));
    }
    // An official model has a path of its own; others are named by a version.
    let (path, body) = match asked.upstream.split_once(':') {
        Some((_, version)) => ("/predictions".to_owned(), json!({"version": version, "input": input})),
        None => (format!("/models/{}/predictions", asked.upstream), json!({"input": input})),
    };
    Ok(vec![Written::json(path, body).with_header("prefer", "wait=60")])
}

fn follow_replicate(_: &Images, raw: &Raw, _: &Asked<'_>) -> Result<Option<Again>, Fault> {
    let value: Value = from_bytes(&raw.bytes).ok_or_else(malformed)?;
    match value.get("status").and_then(Value::as_str) {
        Some("starting" | "processing") => {
            let url = value.pointer("/urls/get").and_then(Value::as_str).ok_or_else(malformed)?;
            Ok(Some(Again { after_ms: POLL_MS, call: Written::get(url) }))
        }
        Some("succeeded") => Ok(None),
        Some("failed") => {
            let message = value.get("error").map(Value::to_string).unwrap_or_default();
            let is_unsafe = ["nsfw", "sensitive", "flagged", "safety"]
                .iter()
                .any(|word| message.to_ascii_lowercase().contains(word));
            Err(if is_unsafe { withheld() } else { Fault { status: Some(502), message, ..Fault::default() } })
        }
        _ => Err(malformed()),
    }
}

fn read_replicate(work: &Images, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let value: Value = raws.first().and_then(|raw| from_bytes(&raw.bytes)).ok_or_else(malformed)?;
    let links: Vec<&str> = match value.get("output") {
        Some(Value::String(url)) => vec![url],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => return Err(malformed()),
    };
    answer(work, Made::of_links(links), reading)
}

fn bfl(work: &Images, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    no_mask(work)?;
    let mut body = kept(work, &["seed"]);
    put(&mut body, "prompt", Some(work.prompt.as_str()));
    // Kontext and Ultra take a ratio, the others pixels.
    match asked.upstream.contains("kontext") || asked.upstream.contains("ultra") {
        true => put(&mut body, "aspect_ratio", work.size.and_then(|size| size.ratio(RATIOS))),
        false => {
            put(&mut body, "width", work.size.map(|size| size.width));
            put(&mut body, "height", work.size.map(|size| size.height));
        }
    }
    put(&mut body, "output_format", text(work, "output_format").filter(|kind| ["jpeg", "png"].contains(kind)));
    for (place, picture) in (1..).zip(&work.pictures) {
        let name = if place == 1 { "input_image".to_owned() } else { format!("input_image_{place}") };
        put(&mut body, &name, Some(picture.inline(asked)?.base64));
    }
    let one = Written::json(format!("/{}", asked.upstream), Value::Object(body));
    Ok((0..work.count).map(|_| one.clone()).collect())
}

fn follow_bfl(_: &Images, raw: &Raw, _: &Asked<'_>) -> Result<Option<Again>, Fault> {
    let value = json_of(&raw.bytes)?;
    if let Some(url) = value.get("polling_url").and_then(Value::as_str) {
        return Ok(Some(Again { after_ms: POLL_MS, call: Written::get(url) }));
    }
    match state(&value)? {
        State::Ready => Ok(None),
        // The host has one address for it; the question is repeated as it was.
        State::Pending => Ok(Some(Again { after_ms: POLL_MS, call: Written::default() })),
    }
}

enum State {
    Pending,
    Ready,
}

/// The states of Black Forest Labs, which Fireworks took over.
fn state(value: &Value) -> Result<State, Fault> {
    match value.get("status").and_then(Value::as_str) {
        Some("Pending" | "Queued" | "Processing") => Ok(State::Pending),
        Some("Ready") => Ok(State::Ready),
        Some("Request Moderated" | "Content Moderated") => Err(withheld()),
        Some(other) => Err(Fault { status: Some(502), message: other.to_owned(), ..Fault::default() }),
        None => Err(malformed()),
    }
}

fn read_bfl(work: &Images, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let mut made = Made::default();
    for raw in raws {
        let value = json_of(&raw.bytes)?;
        let sample = value.pointer("/result/sample").and_then(Value::as_str).ok_or_else(malformed)?;
        made.data.push(json!({"url": sample}));
    }
    answer(work, made, reading)
}

fn fireworks(work: &Images, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    no_mask(work)?;
    let mut body = kept(work, &["seed"]);
    put(&mut body, "prompt", Some(work.prompt.as_str()));
    put(&mut body, "aspect_ratio", work.size.and_then(|size| size.ratio(RATIOS)));
    let path = format!("/workflows/{}", asked.upstream);
    let one = if asked.upstream.contains("kontext") {
        if let Some(picture) = one_picture(work)? {
            put(&mut body, "input_image", Some(picture.url(asked, false)?));
        }
        Written::json(path, Value::Object(body))
    } else {
        if work.is_edit {
            return Err(crate::family::target::cannot("image", "an edit"));
        }
        let kind = if text(work, "output_format") == Some("jpeg") { "image/jpeg" } else { "image/png" };
        Written::json(format!("{path}/text_to_image"), Value::Object(body)).with_header("accept", kind)
    };
    Ok((0..work.count).map(|_| one.clone()).collect())
}

fn follow_fireworks(_: &Images, raw: &Raw, asked: &Asked<'_>) -> Result<Option<Again>, Fault> {
    if raw.content_type.starts_with("image/") {
        return Ok(None);
    }
    let value = json_of(&raw.bytes)?;
    if let Some(id) = value.get("request_id").and_then(Value::as_str) {
        let path = format!("/workflows/{}/get_result", asked.upstream);
        return Ok(Some(Again { after_ms: POLL_MS, call: Written::json(path, json!({"id": id})) }));
    }
    match state(&value)? {
        State::Ready => Ok(None),
        State::Pending => Ok(Some(Again { after_ms: POLL_MS, call: Written::default() })),
    }
}

fn read_fireworks(work: &Images, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let mut made = Made::default();
    for raw in raws {
        if raw.content_type.starts_with("image/") {
            made.data.push(json!({"b64_json": STANDARD.encode(&raw.bytes)}));
            continue;
        }
        let value = json_of(&raw.bytes)?;
        let sample = value.pointer("/result/sample").and_then(Value::as_str).ok_or_else(malformed)?;
        // Either a link, or the picture itself.
        made.data.push(if crate::media::picture::is_link(sample) {
            json!({"url": sample})
        } else {
            json!({"b64_json": sample})
        });
    }
    answer(work, made, reading)
}
