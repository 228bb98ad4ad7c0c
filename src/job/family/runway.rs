//! Runway.

use serde_json::{Map, Value, json};

use super::{Ask, Call, Media, Progress, text};
use crate::job::order::{Kind, Role};
use crate::usage::Usage;

pub(super) fn submit(ask: &Ask<'_>) -> Call {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    set("model", ask.upstream.into());
    set("promptText", ask.order.prompt.as_str().into());
    set("ratio", ask.terms.size_text(':').into());
    if let Some(seed) = ask.order.seed {
        set("seed", seed.into());
    }
    let references = ask.order.all(Role::Reference);
    if !references.is_empty() {
        let list: Vec<Value> = references.iter().map(|url| json!({"uri": url})).collect();
        set("referenceImages", list.into());
    }
    if ask.terms.kind == Kind::Image {
        return Call::post("/text_to_image", &Value::Object(body));
    }
    set("duration", ask.terms.seconds.into());
    if let Some(text) = &ask.order.negative_prompt {
        set("negativePrompt", text.as_str().into());
    }
    let frame =
        |role: Role, position: &str| ask.order.first(role).map(|one| json!({"uri": one.url, "position": position}));
    let frames: Vec<Value> =
        [frame(Role::FirstFrame, "first"), frame(Role::LastFrame, "last")].into_iter().flatten().collect();
    if frames.is_empty() {
        return Call::post("/text_to_video", &Value::Object(body));
    }
    set("promptImage", frames.into());
    Call::post("/image_to_video", &Value::Object(body))
}

pub(super) fn progress(value: &Value, kind: Kind) -> Option<Progress> {
    let percent = || {
        let share = value.get("progress")?.as_f64().filter(|share| (0.0..=1.0).contains(share))?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "of a hundred")]
        Some((share * 100.0) as u64)
    };
    Some(match text(value, "/status")? {
        "PENDING" | "THROTTLED" => Progress::waiting(false),
        "RUNNING" => Progress::Waiting { is_running: true, percent: percent() },
        "SUCCEEDED" => Progress::made(Media::links(kind, value.get("output")), Usage::default()),
        "FAILED" | "CANCELLED" => Progress::failed(text(value, "/failureCode").unwrap_or_default()),
        _ => return None,
    })
}
