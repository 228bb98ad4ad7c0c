//! Ark: Seedance at Volcengine and BytePlus.

use serde_json::{Value, json};

use super::{Ask, Call, Media, Progress, text};
use crate::job::order::{Kind, Role};
use crate::usage::{Meter, Usage};

/// Text and images in one list.
pub(super) fn content(ask: &Ask<'_>) -> Vec<Value> {
    let image = |url: &str, role: &str| json!({"type": "image_url", "image_url": {"url": url}, "role": role});
    let mut content = vec![json!({"type": "text", "text": ask.order.prompt})];
    for one in &ask.order.references {
        let role = match one.role {
            Role::FirstFrame => "first_frame",
            Role::LastFrame => "last_frame",
            Role::Reference => "reference_image",
        };
        content.push(image(&one.url, role));
    }
    content
}

pub(super) fn submit(ask: &Ask<'_>) -> Call {
    let mut body = json!({
        "model": ask.upstream, "content": content(ask), "resolution": ask.terms.resolution,
        "ratio": ask.terms.ratio_text(), "duration": ask.terms.seconds, "watermark": false,
    });
    if let (Some(body), Some(seed)) = (body.as_object_mut(), ask.order.seed) {
        body.insert("seed".to_owned(), seed.into());
    }
    Call::post("/contents/generations/tasks", &body)
}

pub(super) fn progress(value: &Value) -> Option<Progress> {
    Some(match text(value, "/status")? {
        "queued" => Progress::waiting(false),
        "running" => Progress::waiting(true),
        "succeeded" => {
            let media = Media::links(Kind::Video, value.pointer("/content/video_url"));
            let of = |pointer: &str| super::number(value, pointer).unwrap_or(0);
            let usage = Usage::default()
                .with(Meter::OutputVideoSeconds, of("/duration"))
                .with(Meter::OutputVideoTokens, of("/usage/completion_tokens"));
            Progress::made(media, usage)
        }
        "failed" | "cancelled" | "expired" => Progress::failed(text(value, "/error/code").unwrap_or_default()),
        _ => return None,
    })
}
