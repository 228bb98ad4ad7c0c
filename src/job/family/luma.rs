//! Luma.

use serde_json::{Value, json};

use super::{Ask, Call, Media, Progress, text};
use crate::job::order::{Kind, Role};
use crate::usage::{Meter, Usage};

pub(super) fn submit(ask: &Ask<'_>) -> Call {
    let mut body = json!({
        "prompt": ask.order.prompt, "model": ask.upstream, "aspect_ratio": ask.terms.ratio_text(),
    });
    let Some(fields) = body.as_object_mut() else { return Call::post("/generations", &body) };
    let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    if ask.terms.kind == Kind::Image {
        let references: Vec<Value> = ask.order.references.iter().map(|one| json!({"url": one.url})).collect();
        if !references.is_empty() {
            set("image_ref", references.into());
        }
        return Call::post("/generations/image", &body);
    }
    set("resolution", ask.terms.resolution.clone().into());
    set("duration", format!("{}s", ask.terms.seconds).into());
    let mut frames = serde_json::Map::new();
    for (role, name) in [(Role::FirstFrame, "frame0"), (Role::LastFrame, "frame1")] {
        if let Some(one) = ask.order.first(role) {
            frames.insert(name.to_owned(), json!({"type": "image", "url": one.url}));
        }
    }
    if !frames.is_empty() {
        set("keyframes", Value::Object(frames));
    }
    Call::post("/generations", &body)
}

pub(super) fn progress(value: &Value) -> Option<Progress> {
    Some(match text(value, "/state")? {
        "queued" => Progress::waiting(false),
        "dreaming" => Progress::waiting(true),
        "completed" => match text(value, "/assets/video") {
            Some(_) => Progress::made(Media::links(Kind::Video, value.pointer("/assets/video")), Usage::default()),
            None => {
                let media = Media::links(Kind::Image, value.pointer("/assets/image"));
                Progress::made(media, Usage::default().with(Meter::OutputImages, 1))
            }
        },
        "failed" => Progress::failed(text(value, "/failure_reason").unwrap_or_default()),
        _ => return None,
    })
}
