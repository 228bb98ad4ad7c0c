//! Pictures at hosts that answer with them at once. Those that have to be asked again are in [`super::jobs`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::answer::{Made, STREAM, answer, events, read_openai};
use super::jobs::{BFL, FAL, FIREWORKS, REPLICATE};
use super::{Images, Picture};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::family::target::cannot;
use crate::media::meter::Told;
use crate::media::multipart::{self, Part};
use crate::media::shape::{
    Answered, Asked, Delivery, Fates, Raw, Reading, Shape, Written, at_once, fates, json_of, malformed, withheld,
};
use crate::usage::Meter;

/// What the writers take from the typed form.
pub const CORE: &[&str] = &["prompt", "image", "images", "mask"];

/// The hosts.
pub const TABLE: &[&Shape<Images>] = &[
    &Shape {
        families: &["openai-chat", "openai-responses", "azure-openai"],
        fates: fates! {
            "n" Kept, "size" Kept, "quality" Kept, "background" Kept, "output_format" Kept,
            "response_format" => "made here where the model refuses it", "style" Kept, "seed" Kept, "edits" Kept,
            "mask" Kept, "stream" Kept, "partial_images" Kept,
        },
        passes: true,
        write: openai,
        follow: at_once,
        read: read_openai,
    },
    &Shape {
        families: &["xai-images"],
        fates: fates! {
            "n" Kept, "size" => "aspect_ratio", "quality" Kept, "background" Dropped, "output_format" Dropped,
            "response_format" Kept, "style" Dropped, "seed" Dropped, "edits" => "JSON", "mask" Refused,
            "stream" => "one event", "partial_images" Dropped,
        },
        passes: false,
        write: xai,
        follow: at_once,
        read: read_openai,
    },
    &Shape {
        families: &["together-images"],
        fates: fates! {
            "n" Kept, "size" => "width, height", "quality" Dropped, "background" Dropped,
            "output_format" => "jpeg, png", "response_format" => "url, base64", "style" Dropped, "seed" Kept,
            "steps" Kept, "negative_prompt" Kept, "edits" => "image_url", "mask" Refused, "stream" => "one event",
            "partial_images" Dropped,
        },
        passes: false,
        write: together,
        follow: at_once,
        read: read_openai,
    },
    &FIREWORKS,
    &Shape {
        families: &["gemini"],
        fates: GOOGLE,
        passes: false,
        write: |work, asked| google(work, asked, ""),
        follow: at_once,
        read: read_google,
    },
    &Shape {
        families: &["vertex-gemini"],
        fates: GOOGLE,
        passes: false,
        write: |work, asked| google(work, asked, "/publishers/google"),
        follow: at_once,
        read: read_google,
    },
    &FAL,
    &REPLICATE,
    &BFL,
    &Shape {
        families: &["stability"],
        fates: fates! {
            "n" => "several calls", "size" => "aspect_ratio", "quality" Dropped, "background" Dropped,
            "output_format" Kept, "response_format" => "made here", "style" => "style_preset", "seed" Kept,
            "negative_prompt" Kept, "edits" => "image and strength", "mask" Refused, "stream" => "one event",
            "partial_images" Dropped,
        },
        passes: false,
        write: stability,
        follow: at_once,
        read: read_stability,
    },
    &Shape {
        families: &["recraft"],
        fates: fates! {
            "n" Kept, "size" Kept, "quality" Dropped, "background" Dropped, "output_format" => "png, webp",
            "response_format" Kept, "style" Kept, "seed" => "random_seed", "edits" => "imageToImage",
            "mask" => "inpaint", "stream" => "one event", "partial_images" Dropped,
        },
        passes: false,
        write: recraft,
        follow: at_once,
        read: read_openai,
    },
    &Shape {
        families: &["ideogram"],
        fates: fates! {
            "n" => "num_images", "size" => "aspect_ratio", "quality" => "rendering_speed",
            "background" => "transparent", "output_format" Dropped, "response_format" => "made here",
            "style" => "style_type", "seed" Kept, "negative_prompt" Kept, "edits" => "remix", "mask" => "edit",
            "stream" => "one event", "partial_images" Dropped,
        },
        passes: false,
        write: ideogram,
        follow: at_once,
        read: read_ideogram,
    },
];

const GOOGLE: Fates = fates! {
    "n" => "sampleCount, or several calls", "size" => "aspectRatio", "quality" Dropped, "background" Dropped,
    "output_format" => "Imagen", "response_format" => "made here", "style" Dropped, "seed" Dropped,
    "edits" => "image models", "mask" Refused, "stream" => "one event", "partial_images" Dropped,
};

/// The client's value of a text field.
pub fn text<'a>(work: &'a Images, name: &str) -> Option<&'a str> {
    work.common.body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty() && *text != "auto")
}

/// Puts a value where there is one.
pub fn put(body: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), value.into());
    }
}

/// The client's own fields of some names.
pub fn kept(work: &Images, names: &[&str]) -> Map<String, Value> {
    let one = |name: &&str| Some(((*name).to_owned(), work.common.body.get(*name)?.clone()));
    names.iter().filter_map(one).filter(|(_, value)| !value.is_null()).collect()
}

/// Of hosts that know no masks.
pub fn no_mask(work: &Images) -> Result<(), Failure> {
    if work.mask.is_some() { Err(cannot("mask", "a mask")) } else { Ok(()) }
}

/// Of hosts that take one picture.
pub fn one_picture(work: &Images) -> Result<Option<&Picture>, Failure> {
    match work.pictures.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(cannot("image", "more than one picture")),
    }
}

fn openai(work: &Images, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    // These models always answer in base64 and refuse to be asked; only they stream.
    let is_gpt = asked.upstream.contains("gpt-image") || asked.upstream.contains("chatgpt-image");
    let without: &[&str] = if is_gpt { &["response_format"] } else { &["stream", "partial_images"] };
    let body = work.common.passed(asked.upstream, without);
    let written = if work.is_edit {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let fields = body.iter().filter(|(_, value)| !value.is_null());
        let mut parts: Vec<Part> = fields.map(|(name, value)| Part::text(name, &text(value))).collect();
        let name = if work.pictures.len() == 1 { "image" } else { "image[]" };
        for one in &work.pictures {
            parts.push(one.part(name, asked)?);
        }
        if let Some(mask) = &work.mask {
            parts.push(mask.part("mask", asked)?);
        }
        form("/images/edits", &parts, asked)
    } else {
        Written::json("/images/generations", Value::Object(body))
    };
    Ok(vec![match work.is_stream && is_gpt {
        true => written.delivered(Delivery::Events(events), STREAM),
        false => written,
    }])
}

fn form(path: &str, parts: &[Part], asked: &Asked<'_>) -> Written {
    let (content_type, body) = multipart::write(parts, &multipart::own_boundary(asked.id));
    Written::bytes(path, content_type, body)
}

const RATIOS: &[&str] = &["1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3"];

fn xai(work: &Images, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    no_mask(work)?;
    let mut body = kept(work, &["n", "response_format", "quality"]);
    put(&mut body, "model", Some(asked.upstream));
    put(&mut body, "prompt", Some(work.prompt.as_str()));
    put(&mut body, "aspect_ratio", work.size.and_then(|size| size.ratio(RATIOS)));
    if !work.is_edit {
        return Ok(vec![Written::json("/images/generations", Value::Object(body))]);
    }
    let urls = work.pictures.iter().map(|one| one.url(asked, true)).collect::<Result<Vec<_>, _>>()?;
    let images: Vec<Value> = urls.into_iter().map(|url| json!({"type": "image_url", "url": url})).collect();
    match <[Value; 1]>::try_from(images) {
        Ok([one]) => drop(body.insert("image".to_owned(), one)),
        Err(several) => drop(body.insert("images".to_owned(), several.into())),
    }
    Ok(vec![Written::json("/images/edits", Value::Object(body))])
}

fn together(work: &Images, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    no_mask(work)?;
    let mut body = kept(work, &["n", "seed", "steps", "negative_prompt"]);
    put(&mut body, "model", Some(asked.upstream));
    put(&mut body, "prompt", Some(work.prompt.as_str()));
    put(&mut body, "width", work.size.map(|size| size.width));
    put(&mut body, "height", work.size.map(|size| size.height));
    put(&mut body, "output_format", text(work, "output_format").map(|kind| if kind == "jpg" { "jpeg" } else { kind }));
    let format = if work.format.as_deref() == Some("url") { "url" } else { "base64" };
    put(&mut body, "response_format", Some(format));
    if let Some(one) = one_picture(work)? {
        put(&mut body, "image_url", Some(one.url(asked, true)?));
    }
    Ok(vec![Written::json("/images/generations", Value::Object(body))])
}

/// Most pictures of one call of Imagen.
const SAMPLES_MAX: u64 = 4;

/// Image models answer like others; Imagen is a predictor.
fn google(work: &Images, asked: &Asked<'_>, stem: &str) -> Result<Vec<Written>, Failure> {
    no_mask(work)?;
    let path = format!("{stem}/models/{}", asked.upstream);
    if asked.upstream.contains("imagen") {
        if work.is_edit {
            return Err(cannot("image", "an edit"));
        }
        let mut parameters = Map::new();
        let known = &["1:1", "3:4", "4:3", "9:16", "16:9"];
        put(&mut parameters, "aspectRatio", work.size.and_then(|size| size.ratio(known)));
        let kind = text(work, "output_format").map(|kind| json!({"mimeType": format!("image/{kind}")}));
        put(&mut parameters, "outputOptions", kind);
        let call = |count: u64| {
            let mut parameters = parameters.clone();
            put(&mut parameters, "sampleCount", Some(count));
            let body = json!({"instances": [{"prompt": work.prompt}], "parameters": parameters});
            Written::json(format!("{path}:predict"), body)
        };
        let (full, rest) = (work.count / SAMPLES_MAX, work.count % SAMPLES_MAX);
        return Ok((0..full).map(|_| SAMPLES_MAX).chain((rest > 0).then_some(rest)).map(call).collect());
    }
    let mut parts = vec![json!({"text": work.prompt})];
    for one in &work.pictures {
        let inline = one.inline(asked)?;
        parts.push(json!({"inlineData": {"mimeType": inline.content_type, "data": inline.base64}}));
    }
    let mut config = json!({"responseModalities": ["TEXT", "IMAGE"]});
    if let (Some(ratio), Some(config)) = (work.size.and_then(|size| size.ratio(RATIOS)), config.as_object_mut()) {
        config.insert("imageConfig".to_owned(), json!({"aspectRatio": ratio}));
    }
    let body = json!({"contents": [{"role": "user", "parts": parts}], "generationConfig": config});
    let one = Written::json(format!("{path}:generateContent"), body);
    Ok((0..work.count).map(|_| one.clone()).collect())
}

fn read_google(work: &Images, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let mut made = Made::default();
    let mut sum: Option<Told> = None;
    for raw in raws {
        let value = json_of(&raw.bytes)?;
        if let Some(list) = value.get("predictions").and_then(Value::as_array) {
            let pictures = list.iter().filter_map(|one| one.get("bytesBase64Encoded"));
            made.data.extend(pictures.map(|picture| json!({"b64_json": picture})));
            if made.data.is_empty() && list.iter().any(|one| one.get("raiFilteredReason").is_some()) {
                return Err(withheld());
            }
            continue;
        }
        let parts = value.pointer("/candidates/0/content/parts").and_then(Value::as_array);
        let before = made.data.len();
        let pictures = parts.into_iter().flatten().filter_map(|part| part.pointer("/inlineData/data"));
        made.data.extend(pictures.map(|picture| json!({"b64_json": picture})));
        if made.data.len() == before {
            // Words alone, or nothing at all: the model would not draw it.
            let is_answer = value.get("candidates").is_some() || value.get("promptFeedback").is_some();
            return Err(if is_answer { withheld() } else { malformed() });
        }
        let told = google_told(&value);
        sum = Some(match sum {
            None => told,
            Some(sum) => sum.plus(&told),
        });
    }
    if let Some(told) = sum {
        let of = |meter| told.get(meter).unwrap_or(0);
        let input = of(Meter::InputTokens).saturating_add(of(Meter::InputImageTokens));
        let output = of(Meter::OutputTokens).saturating_add(of(Meter::OutputImageTokens));
        let details = json!({"text_tokens": of(Meter::InputTokens), "image_tokens": of(Meter::InputImageTokens)});
        made.usage = Some(json!({"input_tokens": input, "input_tokens_details": details, "output_tokens": output,
            "total_tokens": input.saturating_add(output)}));
        made.told = told;
    }
    answer(work, made, reading)
}

/// Tokens by modality, where the host tells them apart.
fn google_told(value: &Value) -> Told {
    let of = |name: &str| value.pointer(&format!("/usageMetadata/{name}")).and_then(Value::as_u64);
    let images = |name: &str| {
        let list = value.pointer(&format!("/usageMetadata/{name}")).and_then(Value::as_array)?;
        let is_image = |one: &&Value| one.get("modality").and_then(Value::as_str) == Some("IMAGE");
        Some(list.iter().filter(is_image).filter_map(|one| one.get("tokenCount")?.as_u64()).sum::<u64>())
    };
    let (pictures_in, pictures_out) = (images("promptTokensDetails"), images("candidatesTokensDetails"));
    let out = of("candidatesTokenCount");
    Told::default()
        .with(Meter::InputTokens, of("promptTokenCount").map(|all| all.saturating_sub(pictures_in.unwrap_or(0))))
        .with(Meter::InputImageTokens, pictures_in)
        .with(Meter::OutputImageTokens, pictures_out.or(out))
        .with(Meter::OutputTokens, pictures_out.and_then(|pictures| Some(out?.saturating_sub(pictures))))
        .with(Meter::ReasoningTokens, of("thoughtsTokenCount"))
}

fn stability(work: &Images, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    no_mask(work)?;
    let mut parts = vec![Part::text("prompt", &work.prompt)];
    let model = ["core", "ultra"].into_iter().find(|name| asked.upstream.ends_with(name)).unwrap_or("sd3");
    if model == "sd3" && asked.upstream != "sd3" {
        parts.push(Part::text("model", asked.upstream));
    }
    let known = &["1:1", "16:9", "9:16", "21:9", "9:21", "2:3", "3:2", "4:5", "5:4"];
    let ratio = work.size.and_then(|size| size.ratio(known)).filter(|_| work.pictures.is_empty());
    parts.extend(ratio.map(|ratio| Part::text("aspect_ratio", ratio)));
    parts.extend(text(work, "output_format").map(|kind| Part::text("output_format", kind)));
    parts.extend(text(work, "style").map(|style| Part::text("style_preset", style)));
    parts.extend(text(work, "negative_prompt").map(|words| Part::text("negative_prompt", words)));
    if let Some(picture) = one_picture(work)? {
        if model == "core" {
            return Err(cannot("image", "an edit"));
        }
        parts.push(picture.part("image", asked)?);
        let strength = work.common.body.get("strength").and_then(Value::as_f64).unwrap_or(0.7);
        parts.push(Part::text("strength", &strength.to_string()));
        if model == "sd3" {
            parts.push(Part::text("mode", "image-to-image"));
        }
    }
    let seed = work.common.body.get("seed").and_then(Value::as_u64);
    let call = |place: u64| {
        let mut parts = parts.clone();
        parts.extend(seed.map(|seed| Part::text("seed", &seed.wrapping_add(place).to_string())));
        form(&format!("/stable-image/generate/{model}"), &parts, asked).with_header("accept", "application/json")
    };
    Ok((0..work.count).map(call).collect())
}

fn read_stability(work: &Images, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let mut made = Made::default();
    for raw in raws {
        if raw.content_type.starts_with("image/") {
            made.data.push(json!({"b64_json": STANDARD.encode(&raw.bytes)}));
            continue;
        }
        let value = json_of(&raw.bytes)?;
        if value.get("finish_reason").and_then(Value::as_str) == Some("CONTENT_FILTERED") {
            return Err(withheld());
        }
        let picture = value.get("image").and_then(Value::as_str).ok_or_else(malformed)?;
        made.data.push(json!({"b64_json": picture}));
    }
    answer(work, made, reading)
}

fn recraft(work: &Images, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    let mut body = kept(work, &["n", "response_format", "style"]);
    put(&mut body, "model", Some(asked.upstream));
    put(&mut body, "prompt", Some(work.prompt.as_str()));
    put(&mut body, "image_format", text(work, "output_format").filter(|kind| ["png", "webp"].contains(kind)));
    put(&mut body, "random_seed", work.common.body.get("seed").cloned());
    let Some(picture) = one_picture(work)? else {
        put(&mut body, "size", text(work, "size"));
        return Ok(vec![Written::json("/images/generations", Value::Object(body))]);
    };
    let field = |(name, value): (String, Value)| {
        Part::text(&name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let mut parts: Vec<Part> = body.into_iter().map(field).collect();
    parts.push(picture.part("image", asked)?);
    let path = match &work.mask {
        Some(mask) => {
            parts.push(mask.part("mask", asked)?);
            "/images/inpaint"
        }
        None => {
            let strength = work.common.body.get("strength").and_then(Value::as_f64).unwrap_or(0.5);
            parts.push(Part::text("strength", &strength.to_string()));
            "/images/imageToImage"
        }
    };
    Ok(vec![form(path, &parts, asked)])
}

fn ideogram(work: &Images, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    let mut parts = vec![Part::text("prompt", &work.prompt), Part::text("num_images", &work.count.to_string())];
    let known = &["1x1", "16x9", "9x16", "4x3", "3x4", "3x2", "2x3", "1x2", "2x1", "10x16", "16x10", "4x5", "5x4"];
    let ratio = work.size.and_then(|size| size.ratio(known)).filter(|_| work.mask.is_none());
    parts.extend(ratio.map(|ratio| Part::text("aspect_ratio", ratio)));
    let speed = text(work, "quality").map(|quality| match quality {
        "low" => "TURBO",
        "high" | "hd" => "QUALITY",
        _ => "DEFAULT",
    });
    parts.extend(speed.map(|speed| Part::text("rendering_speed", speed)));
    parts.extend(text(work, "style").map(|style| Part::text("style_type", &style.to_ascii_uppercase())));
    parts.extend(text(work, "negative_prompt").map(|words| Part::text("negative_prompt", words)));
    parts
        .extend(work.common.body.get("seed").and_then(Value::as_u64).map(|seed| Part::text("seed", &seed.to_string())));
    let verb = match (one_picture(work)?, &work.mask) {
        (Some(picture), Some(mask)) => {
            parts.extend([picture.part("image", asked)?, mask.part("mask", asked)?]);
            "edit"
        }
        (Some(picture), None) => {
            parts.push(picture.part("image", asked)?);
            "remix"
        }
        (None, _) if text(work, "background") == Some("transparent") => "generate-transparent",
        (None, _) => "generate",
    };
    Ok(vec![form(&format!("/{}/{verb}", asked.upstream), &parts, asked)])
}

fn read_ideogram(work: &Images, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let value = json_of(&raws.first().ok_or_else(malformed)?.bytes)?;
    let list = value.get("data").and_then(Value::as_array).ok_or_else(malformed)?;
    let is_safe = |one: &&Value| one.get("is_image_safe").and_then(Value::as_bool) != Some(false);
    let links: Vec<&str> = list.iter().filter(is_safe).filter_map(|one| one.get("url")?.as_str()).collect();
    if links.is_empty() && !list.is_empty() {
        return Err(withheld());
    }
    answer(work, Made::of_links(links), reading)
}

#[cfg(test)]
mod tests;
