//! Google Veo: long-running operations of AI Studio and of Vertex AI.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Ask, Call, Handle, Media, Progress, Source, number, text};
use crate::error::Code;
use crate::job::order::{Kind, Role};
use crate::job::reach::To;
use crate::usage::Usage;

pub(super) const AI_STUDIO: &str = "/models/";
pub(super) const VERTEX: &str = "/publishers/google/models/";

pub(super) fn submit(ask: &Ask<'_>, below: &str) -> Call {
    let image = |url: &str| {
        let (kind, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
        Some(json!({"bytesBase64Encoded": data, "mimeType": kind}))
    };
    let mut instance = Map::new();
    instance.insert("prompt".to_owned(), ask.order.prompt.as_str().into());
    for (role, name) in [(Role::FirstFrame, "image"), (Role::LastFrame, "lastFrame")] {
        if let Some(found) = ask.order.first(role).and_then(|one| image(&one.url)) {
            instance.insert(name.to_owned(), found);
        }
    }
    let references: Vec<Value> = ask.order.all(Role::Reference).into_iter().filter_map(image).collect();
    if !references.is_empty() {
        let list: Vec<Value> =
            references.into_iter().map(|image| json!({"image": image, "referenceType": "asset"})).collect();
        instance.insert("referenceImages".to_owned(), list.into());
    }
    let mut parameters = json!({
        "aspectRatio": ask.terms.ratio_text(), "durationSeconds": ask.terms.seconds, "sampleCount": ask.terms.each,
    });
    if let Some(parameters) = parameters.as_object_mut() {
        if let Some(resolution) = &ask.terms.resolution {
            parameters.insert("resolution".to_owned(), resolution.as_str().into());
        }
        if let Some(text) = &ask.order.negative_prompt {
            parameters.insert("negativePrompt".to_owned(), text.as_str().into());
        }
        if let Some(seed) = ask.order.seed {
            parameters.insert("seed".to_owned(), seed.into());
        }
    }
    let body = json!({"instances": [instance], "parameters": parameters});
    Call::post(format!("{below}{}:predictLongRunning", ask.upstream), &body)
}

/// Its name is a path.
pub(super) fn started(value: &Value) -> Option<Handle> {
    let name = text(value, "/name")?;
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./~".contains(&byte);
    let is_path = name.len() <= 1_024 && name.bytes().all(is_safe) && !name.contains("..") && !name.starts_with('/');
    is_path.then(|| Handle { id: name.to_owned(), ..Handle::default() })
}

pub(super) fn fetch(handle: &Handle, upstream: &str) -> Call {
    Call::post(format!("{VERTEX}{upstream}:fetchPredictOperation"), &json!({"operationName": handle.id}))
}

fn is_done(value: &Value) -> bool {
    value.get("done").and_then(Value::as_bool) == Some(true)
}

/// What both have in common: whether it is over, and without a result.
fn end(value: &Value) -> Option<Progress> {
    let object = value.as_object()?;
    if !is_done(value) {
        return object.contains_key("name").then(|| Progress::waiting(true));
    }
    let message = text(value, "/error/message").unwrap_or_default();
    object.contains_key("error").then(|| match number(value, "/error/code") {
        // INVALID_ARGUMENT
        Some(3 | 400) => Progress::Failed(Code::InvalidInput),
        _ => Progress::failed(message),
    })
}

/// Where everything was filtered there is nothing.
fn made(value: &Value, filtered: &str, media: Vec<Media>) -> Progress {
    match media.is_empty() {
        true if number(value, filtered).is_some_and(|count| count > 0) => Progress::Failed(Code::InvalidInput),
        _ => Progress::made(media, Usage::default()),
    }
}

pub(super) fn progress(value: &Value) -> Option<Progress> {
    if let Some(end) = end(value) {
        return Some(end);
    }
    let samples = value.pointer("/response/generateVideoResponse/generatedSamples").and_then(Value::as_array);
    let media = samples.into_iter().flatten().filter_map(|one| {
        let url = text(one, "/video/uri")?.to_owned();
        Some(Media { kind: Kind::Video, source: Source::Own(To::Url(url)) })
    });
    let media = media.collect();
    is_done(value).then(|| made(value, "/response/generateVideoResponse/raiMediaFilteredCount", media))
}

pub(super) fn progress_of_vertex(value: &Value) -> Option<Progress> {
    if let Some(end) = end(value) {
        return Some(end);
    }
    let videos = value.pointer("/response/videos").and_then(Value::as_array);
    let media = videos.into_iter().flatten().enumerate().filter_map(|(place, one)| {
        let source = match text(one, "/gcsUri") {
            Some(uri) => {
                let path = uri.strip_prefix("gs://")?;
                Source::Own(To::Url(format!("https://storage.googleapis.com/{path}")))
            }
            None => text(one, "/bytesBase64Encoded").map(|_| Source::Inside(place))?,
        };
        Some(Media { kind: Kind::Video, source })
    });
    let media = media.collect();
    is_done(value).then(|| made(value, "/response/raiMediaFilteredCount", media))
}

pub(super) fn inside(value: &Value, place: usize) -> Option<(Vec<u8>, String)> {
    let one = value.pointer("/response/videos")?.get(place)?;
    let bytes = STANDARD.decode(text(one, "/bytesBase64Encoded")?).ok()?;
    Some((bytes, text(one, "/mimeType").unwrap_or("video/mp4").to_owned()))
}
