//! Bodies of clients, parsed: JSON of `/v1/generations`, JSON and forms of `/v1/videos`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::order::{Field, Front, Order, Reference, Role};
use crate::error::Failure;
use crate::media::Common;
use crate::media::multipart::Part;
use crate::ssrf::Loopback;

/// Most bytes of a prompt.
const PROMPT_BYTES_MAX: usize = 32_000;
/// Most outputs of one order.
const COUNT_MAX: u64 = 10;
/// Most reference images.
const REFERENCES_MAX: usize = 9;
/// Most seconds of a film.
const SECONDS_MAX: u64 = 60;
/// Most pixels of a side.
const SIDE_MAX: u32 = 8_192;
/// Longest `wait`, in seconds.
pub const WAIT_S_MAX: u64 = 60;

/// What of a generation stands beside its `input`.
pub const ON_TOP: &[&str] = &["n", "wait", "user", "session_id", "metadata", "provider"];
/// Fields of `input` that are understood.
const INPUT: &[&str] = &[
    "prompt",
    "aspect_ratio",
    "size",
    "duration",
    "resolution",
    "quality",
    "seed",
    "negative_prompt",
    "reference_images",
    "image",
];
/// Fields of a video's body that are understood.
const VIDEO: &[&str] = &[
    "prompt",
    "seconds",
    "size",
    "input_reference",
    "model",
    "models",
    "provider",
    "user",
    "session_id",
    "metadata",
    "seed",
    "negative_prompt",
    "preset",
];

/// A body, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What is wanted.
    pub order: Order,
    /// What all work has.
    pub common: Common,
    /// How long the answer may be held back, in milliseconds.
    pub wait_ms: u64,
    /// Fields that nobody is sent.
    pub dropped: Vec<String>,
}

type Fields = Map<String, Value>;

/// A body of `POST /v1/generations`.
pub fn generation(bytes: &[u8]) -> Result<Parsed, Failure> {
    let common = Common::parse(bytes, None)?;
    let input = match common.body.get("input") {
        Some(Value::Object(input)) => input.clone(),
        None | Some(Value::Null) => return Err(Failure::invalid("input", "is missing")),
        Some(_) => return Err(Failure::invalid("input", "must be an object")),
    };
    let at = |name: &str| format!("input.{name}");
    let mut references = Vec::new();
    if let Some(image) = input.get("image").filter(|value| !value.is_null()) {
        references.push(reference(image, &at("image"), Role::FirstFrame)?);
    }
    match input.get("reference_images") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            let role = if references.is_empty() && list.len() == 1 { Role::FirstFrame } else { Role::Reference };
            for (place, one) in list.iter().enumerate() {
                references.push(reference(one, &format!("input.reference_images[{place}]"), role)?);
            }
        }
        Some(_) => return Err(Failure::invalid(at("reference_images"), "must be a list")),
    }
    if references.len() > REFERENCES_MAX {
        return Err(Failure::invalid(at("reference_images"), format!("may hold {REFERENCES_MAX} images at most")));
    }
    let order = Order {
        front: Front::Generations,
        models: common.models.clone(),
        prompt: prompt(&input, &at("prompt"))?,
        negative_prompt: text(&input, "negative_prompt", &at("negative_prompt"))?,
        seconds: number(&input, "duration", &at("duration"), 1, SECONDS_MAX)?,
        ratio: sides(&input, "aspect_ratio", &at("aspect_ratio"), ':', 100)?,
        size: sides(&input, "size", &at("size"), 'x', SIDE_MAX)?,
        resolution: word(&input, "resolution", &at("resolution"))?,
        quality: word(&input, "quality", &at("quality"))?,
        seed: number(&input, "seed", &at("seed"), 0, u64::from(u32::MAX))?,
        references,
        count: common.count("n", 1, COUNT_MAX)?.unwrap_or(1),
    };
    let wait_ms = common.count("wait", 0, WAIT_S_MAX)?.unwrap_or(0).saturating_mul(1000);
    let unknown = |name: &&String| !INPUT.contains(&name.as_str());
    let dropped = input.keys().filter(unknown).map(|name| at(name)).collect();
    Ok(Parsed { order, common, wait_ms, dropped })
}

/// A body of `POST /v1/videos` in JSON. Its model may be missing: then it is `fallback`.
pub fn video(bytes: &[u8], fallback: Option<&str>) -> Result<Parsed, Failure> {
    let common = Common::parse(bytes, fallback)?;
    let references = match common.body.get("input_reference") {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => vec![reference(value, "input_reference", Role::FirstFrame)?],
    };
    video_of(common, references)
}

/// The same as a form.
pub fn video_parts(parts: Vec<Part>, fallback: Option<&str>) -> Result<Parsed, Failure> {
    let mut fields = Map::new();
    let mut references = Vec::new();
    let mut nested = Map::new();
    for part in parts {
        if part.name == "input_reference" && part.filename.is_some() {
            // What it is says the file itself, where it can be told; else what the client says of it.
            let stated = part.content_type.as_deref().unwrap_or_default();
            let stated = stated.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            let kind = crate::media::picture::kind_of(&part.bytes).map(str::to_owned).or(Some(stated));
            let kind = kind.filter(|kind| kind.starts_with("image/") && !part.bytes.is_empty());
            let kind = kind.ok_or_else(|| Failure::invalid("input_reference", "must be an image"))?;
            let url = format!("data:{kind};base64,{}", STANDARD.encode(&part.bytes));
            references.push(Reference { url, role: Role::FirstFrame });
            continue;
        }
        let value = String::from_utf8(part.bytes.to_vec()).map_err(|_| Failure::invalid(&*part.name, "is no text"))?;
        // An object of a form is one field for each of its members.
        match part.name.strip_prefix("input_reference[").and_then(|rest| rest.strip_suffix(']')) {
            Some(member) => drop(nested.insert(member.to_owned(), value.into())),
            None => drop(fields.insert(part.name, if value.is_empty() { Value::Null } else { value.into() })),
        }
    }
    if !nested.is_empty() {
        references.push(reference(&Value::Object(nested), "input_reference", Role::FirstFrame)?);
    }
    video_of(Common::of(fields, fallback)?, references)
}

fn video_of(common: Common, references: Vec<Reference>) -> Result<Parsed, Failure> {
    let body = &common.body;
    let order = Order {
        front: Front::Videos,
        models: common.models.clone(),
        prompt: prompt(body, "prompt")?,
        negative_prompt: text(body, "negative_prompt", "negative_prompt")?,
        seconds: number(body, "seconds", "seconds", 1, SECONDS_MAX)?,
        size: sides(body, "size", "size", 'x', SIDE_MAX)?,
        seed: number(body, "seed", "seed", 0, u64::from(u32::MAX))?,
        references,
        count: 1,
        ..Order::default()
    };
    let dropped = body.keys().filter(|name| !VIDEO.contains(&name.as_str())).cloned().collect();
    Ok(Parsed { order, common, wait_ms: 0, dropped })
}

fn prompt(fields: &Fields, at: &str) -> Result<String, Failure> {
    let found = text(fields, "prompt", at)?.filter(|text| !text.trim().is_empty());
    let found = found.ok_or_else(|| Failure::invalid(at, "is missing"))?;
    if found.len() > PROMPT_BYTES_MAX {
        return Err(Failure::invalid(at, format!("may have {PROMPT_BYTES_MAX} bytes at most")));
    }
    Ok(found)
}

fn text(fields: &Fields, name: &str, at: &str) -> Result<Option<String>, Failure> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= PROMPT_BYTES_MAX => Ok(Some(text.clone())),
        Some(Value::String(_)) => Err(Failure::invalid(at, format!("may have {PROMPT_BYTES_MAX} bytes at most"))),
        Some(_) => Err(Failure::invalid(at, "must be a string")),
    }
}

fn word(fields: &Fields, name: &str, at: &str) -> Result<Option<String>, Failure> {
    let Some(text) = text(fields, name, at)? else { return Ok(None) };
    let is_word = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_word { Ok(Some(text.to_ascii_lowercase())) } else { Err(Failure::invalid(at, "must be one short word")) }
}

/// A whole number, also as text (OpenAI's `seconds`).
fn number(fields: &Fields, name: &str, at: &str, least: u64, most: u64) -> Result<Option<u64>, Failure> {
    let found = match fields.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.trim_end_matches('s').parse().ok(),
        Some(value) => value.as_u64(),
    };
    match found.filter(|value| (least..=most).contains(value)) {
        Some(value) => Ok(Some(value)),
        None => Err(Failure::invalid(at, format!("must be a whole number from {least} to {most}"))),
    }
}

/// Two numbers, such as `16:9` and `1280x720`.
fn sides(fields: &Fields, name: &str, at: &str, mark: char, most: u32) -> Result<Option<(u32, u32)>, Failure> {
    let Some(text) = text(fields, name, at)? else { return Ok(None) };
    let parsed = text.split_once(mark).and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    match parsed.filter(|(a, b)| (1..=most).contains(a) && (1..=most).contains(b)) {
        Some(sides) => Ok(Some(sides)),
        None => Err(Failure::invalid(at, format!("must be two numbers from 1 to {most} with `{mark}` between them"))),
    }
}

fn reference(value: &Value, at: &str, role: Role) -> Result<Reference, Failure> {
    let (url, role) = match value {
        Value::String(url) => (url.clone(), role),
        Value::Object(object) => {
            let member = |name: &str| object.get(name).and_then(Value::as_str);
            if member("file_id").is_some() {
                return Err(Failure::invalid(format!("{at}.file_id"), "names a file of another service"));
            }
            let plain = member("url").or_else(|| member("image_url")).map(str::to_owned);
            let data = member("b64_json").map(|data| format!("data:image/png;base64,{data}"));
            let url = plain.or(data).ok_or_else(|| Failure::invalid(at, "has no `url`"))?;
            let role = match member("role") {
                None => role,
                Some("first_frame") => Role::FirstFrame,
                Some("last_frame") => Role::LastFrame,
                Some("reference") => Role::Reference,
                Some(_) => {
                    let message = "must be one of first_frame, last_frame, reference";
                    return Err(Failure::invalid(format!("{at}.role"), message));
                }
            };
            (url, role)
        }
        _ => return Err(Failure::invalid(at, "must be a URL, or an object with one")),
    };
    let found = Reference { url, role };
    if found.url.starts_with("data:") {
        let is_image = found.inline().is_some_and(|(kind, data)| {
            kind.starts_with("image/") && !data.is_empty() && STANDARD.decode(data).is_ok()
        });
        return if is_image { Ok(found) } else { Err(Failure::invalid(at, "is no data URL of an image in base64")) };
    }
    Ok(found)
}

/// Hosts fetch images themselves, but nobody is to be sent anywhere that the gateway would not go.
pub fn check_references(order: &Order, loopback: Loopback) -> Result<(), Failure> {
    for reference in order.references.iter().filter(|one| one.inline().is_none()) {
        if let Err(refusal) = crate::ssrf::check(&reference.url, loopback) {
            return Err(order.refuse(Field::References, refusal.message()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: &Value) -> Result<Parsed, Failure> {
        generation(value.to_string().as_bytes())
    }

    #[test]
    fn a_generation_is_read_field_by_field() {
        let body = json!({"model": "m", "n": 2, "wait": 30, "input": {"prompt": "p", "aspect_ratio": "9:16", "size": "720x1280",
            "duration": "8", "resolution": "720P", "seed": 7, "negative_prompt": "q", "style": "x",
            "reference_images": ["https://a.dev/1.png", {"url": "data:image/png;base64,AAAA", "role": "last_frame"}]}});
        let Parsed { order, wait_ms, dropped, .. } = of(&body).unwrap();
        assert_eq!((order.count, wait_ms, order.seconds, order.ratio), (2, 30_000, Some(8), Some((9, 16))));
        assert_eq!((order.resolution.as_deref(), order.size), (Some("720p"), Some((720, 1280))));
        assert_eq!(order.references.iter().map(|one| one.role).collect::<Vec<_>>(), [Role::Reference, Role::LastFrame]);
        assert_eq!(dropped, ["input.style"]);
        let alone = of(&json!({"model": "m", "input": {"prompt": "p", "reference_images": ["https://a.dev/1.png"]}}));
        assert_eq!(alone.unwrap().order.references[0].role, Role::FirstFrame);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = "x".repeat(PROMPT_BYTES_MAX + 1);
        for (input, param) in [
            (json!({}), "input.prompt"),
            (json!({"prompt": " "}), "input.prompt"),
            (json!({"prompt": long}), "input.prompt"),
            (json!({"prompt": "p", "duration": 0}), "input.duration"),
            (json!({"prompt": "p", "duration": 61}), "input.duration"),
            (json!({"prompt": "p", "duration": 2.5}), "input.duration"),
            (json!({"prompt": "p", "aspect_ratio": "wide"}), "input.aspect_ratio"),
            (json!({"prompt": "p", "size": "1280*720"}), "input.size"),
            (json!({"prompt": "p", "size": "0x720"}), "input.size"),
            (json!({"prompt": "p", "resolution": "high definition"}), "input.resolution"),
            (json!({"prompt": "p", "seed": -1}), "input.seed"),
            (json!({"prompt": "p", "reference_images": "x"}), "input.reference_images"),
            (json!({"prompt": "p", "reference_images": [5]}), "input.reference_images[0]"),
            (json!({"prompt": "p", "reference_images": ["data:text/plain;base64,AA"]}), "input.reference_images[0]"),
            (
                json!({"prompt": "p", "reference_images": [{"url": "https://a.dev", "role": "x"}]}),
                "input.reference_images[0].role",
            ),
            (json!({"prompt": "p", "image": {"file_id": "f"}}), "input.image.file_id"),
        ] {
            let failure = of(&json!({"model": "m", "input": input})).unwrap_err();
            assert_eq!(failure.param.as_deref(), Some(param), "{input}");
        }
        for (body, param) in [
            (json!({"model": "m"}), "input"),
            (json!({"model": "m", "input": "p"}), "input"),
            (json!({"input": {"prompt": "p"}}), "model"),
            (json!({"model": "m", "input": {"prompt": "p"}, "n": 11}), "n"),
            (json!({"model": "m", "input": {"prompt": "p"}, "wait": 61}), "wait"),
        ] {
            assert_eq!(of(&body).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn an_inner_address_is_nobodys_reference() {
        for (url, is_good) in
            [("https://a.dev/x.png", true), ("http://a.dev/x", false), ("https://169.254.169.254/x", false)]
        {
            let order = of(&json!({"model": "m", "input": {"prompt": "p", "image": url}})).unwrap().order;
            assert_eq!(check_references(&order, Loopback::Refused).is_ok(), is_good, "{url}");
        }
    }

    #[test]
    fn a_video_is_the_same_in_json_and_as_a_form() {
        let part = |name: &str, text: &str| Part {
            name: name.into(),
            filename: None,
            content_type: None,
            bytes: text.as_bytes().to_vec().into(),
        };
        let form = vec![part("prompt", "p"), part("model", "m"), part("seconds", "8"), part("size", "1280x720")];
        let json = br#"{"prompt": "p", "model": "m", "seconds": "8", "size": "1280x720"}"#;
        let (form, json) = (video_parts(form, None).unwrap(), video(json, None).unwrap());
        assert_eq!(form.order, json.order);
        assert_eq!((form.order.seconds, form.order.size), (Some(8), Some((1280, 720))));
        let file = Part {
            name: "input_reference".into(),
            filename: Some("a.png".into()),
            content_type: Some("image/png".into()),
            bytes: b"\xff\xd8\xff".to_vec().into(),
        };
        let with = |file: Part| video_parts(vec![part("prompt", "p"), part("model", "m"), file], None);
        let order = with(file.clone()).unwrap().order;
        assert_eq!(
            order.references[0].inline(),
            Some(("image/jpeg", "/9j/")),
            "it is what it is, whatever it is called"
        );
        for (kind, bytes) in [(Some("image/png"), &b""[..]), (None, b"<html>"), (Some("text/html"), b"<html>")] {
            let content_type = kind.map(str::to_owned);
            let file = Part { bytes: bytes.to_vec().into(), content_type, ..file.clone() };
            assert_eq!(with(file).unwrap_err().param.as_deref(), Some("input_reference"));
        }
        let nested =
            vec![part("prompt", "p"), part("model", "m"), part("input_reference[image_url]", "https://a.dev/x")];
        assert_eq!(video_parts(nested, None).unwrap().order.references[0].url, "https://a.dev/x");
        assert_eq!(
            video(br#"{"prompt": "p", "seconds": "x"}"#, Some("m")).unwrap_err().param.as_deref(),
            Some("seconds")
        );
    }
}
