//! MiniMax: the second form of its video API for its newer models, the first for the others.

use serde_json::{Map, Value, json};

use super::{Ask, Call, Handle, Media, Progress, id_of, seconds, text};
use crate::job::order::{Kind, Role};
use crate::job::reach::To;
use crate::usage::Usage;

/// Models of the first form.
const FIRST_FORM: &[&str] = &["Hailuo-0", "T2V", "I2V", "S2V"];

fn is_first_form(upstream: &str) -> bool {
    FIRST_FORM.iter().any(|word| upstream.contains(word))
}

pub(super) fn submit(ask: &Ask<'_>) -> Call {
    let resolution = ask.terms.resolution.as_deref().unwrap_or_default().to_ascii_uppercase();
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    set("model", ask.upstream.into());
    set("duration", ask.terms.seconds.into());
    set("resolution", resolution.into());
    if is_first_form(ask.upstream) {
        set("prompt", ask.order.prompt.as_str().into());
        for (role, name) in [(Role::FirstFrame, "first_frame_image"), (Role::LastFrame, "last_frame_image")] {
            if let Some(one) = ask.order.first(role) {
                set(name, one.url.as_str().into());
            }
        }
        return Call::post("/v1/video_generation", &Value::Object(body));
    }
    set("ratio", ask.terms.ratio_text().into());
    set("content", super::ark::content(ask).into());
    Call::post("/v2/video_generation", &Value::Object(body))
}

pub(super) fn started(value: &Value, upstream: &str) -> Option<Handle> {
    let id = id_of(value, "/task_id")?;
    let path = match is_first_form(upstream) {
        true => format!("/v1/query/video_generation?task_id={id}"),
        false => format!("/v2/query/video_generation/{id}"),
    };
    Some(Handle { id, state: Some(To::Path(path)), ..Handle::default() })
}

pub(super) fn progress(value: &Value) -> Option<Progress> {
    if let Some(status) = text(value, "/task/status") {
        return Some(match status {
            "queued" => Progress::waiting(false),
            "running" => Progress::waiting(true),
            "succeeded" => {
                let media = Media::links(Kind::Video, value.pointer("/task/content/url"));
                Progress::made(media, seconds(value, "/task/usage/output_seconds"))
            }
            "failed" | "cancelled" | "expired" => Progress::failed(&json!(value.pointer("/task/error")).to_string()),
            _ => return None,
        });
    }
    Some(match text(value, "/status")? {
        "Preparing" | "Queueing" => Progress::waiting(false),
        "Processing" => Progress::waiting(true),
        "Success" => Progress::Then(To::Path(format!("/v1/files/retrieve?file_id={}", id_of(value, "/file_id")?))),
        "Fail" => Progress::failed(text(value, "/base_resp/status_msg").unwrap_or_default()),
        _ => return None,
    })
}

pub(super) fn result(value: &Value) -> Option<Progress> {
    let media = Media::links(Kind::Video, value.pointer("/file/download_url"));
    (!media.is_empty()).then(|| Progress::made(media, Usage::default()))
}
