//! xAI videos.

use serde_json::{Value, json};

use super::{Ask, Call, Media, Progress, number, seconds, text};
use crate::error::Code;
use crate::job::order::Kind;

pub(super) fn submit(ask: &Ask<'_>) -> Call {
    let mut body = json!({
        "model": ask.upstream, "prompt": ask.order.prompt, "duration": ask.terms.seconds,
        "aspect_ratio": ask.terms.ratio_text(), "resolution": ask.terms.resolution,
    });
    if let (Some(body), Some(one)) = (body.as_object_mut(), ask.order.references.first()) {
        body.insert("image".to_owned(), json!({"url": one.url}));
    }
    Call::post("/videos/generations", &body)
}

pub(super) fn progress(value: &Value) -> Option<Progress> {
    if value.pointer("/video/respect_moderation").and_then(Value::as_bool) == Some(false) {
        return Some(Progress::Failed(Code::InvalidInput));
    }
    Some(match text(value, "/status")? {
        "pending" => Progress::Waiting { is_running: true, percent: number(value, "/progress") },
        "done" => Progress::made(Media::links(Kind::Video, value.get("video")), seconds(value, "/video/duration")),
        "failed" | "expired" => Progress::failed(&json!(value.get("error")).to_string()),
        _ => return None,
    })
}
