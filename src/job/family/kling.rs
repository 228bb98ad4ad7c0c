//! Kling. Every answer has a code of its own, also those with status 200.

use serde_json::{Map, Value};

use super::{Ask, Call, Handle, Media, Progress, id_of, text};
use crate::job::order::{Kind, Role};
use crate::job::reach::To;
use crate::usage::Usage;

fn path(ask: &Ask<'_>) -> &'static str {
    if ask.order.first(Role::FirstFrame).is_some() { "/videos/image2video" } else { "/videos/text2video" }
}

pub(super) fn submit(ask: &Ask<'_>) -> Call {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    set("model_name", ask.upstream.into());
    set("prompt", ask.order.prompt.as_str().into());
    set("mode", if ask.terms.resolution.as_deref() == Some("1080p") { "pro" } else { "std" }.into());
    set("aspect_ratio", ask.terms.ratio_text().into());
    set("duration", ask.terms.seconds.to_string().into());
    if let Some(text) = &ask.order.negative_prompt {
        set("negative_prompt", text.as_str().into());
    }
    for (role, name) in [(Role::FirstFrame, "image"), (Role::LastFrame, "image_tail")] {
        if let Some(one) = ask.order.first(role) {
            // Base64 without what stands before it in a data URL.
            set(name, one.inline().map_or(one.url.as_str(), |(_, data)| data).into());
        }
    }
    Call::post(path(ask), &Value::Object(body))
}

fn is_good(value: &Value) -> bool {
    value.get("code").and_then(Value::as_i64) == Some(0)
}

pub(super) fn started(value: &Value, ask: &Ask<'_>) -> Option<Handle> {
    let id = id_of(value, "/data/task_id").filter(|_| is_good(value))?;
    let state = Some(To::Path(format!("{}/{id}", path(ask))));
    Some(Handle { id, state, ..Handle::default() })
}

pub(super) fn progress(value: &Value) -> Option<Progress> {
    Some(match text(value, "/data/task_status").filter(|_| is_good(value))? {
        "submitted" => Progress::waiting(false),
        "processing" => Progress::waiting(true),
        "succeed" => {
            let videos = value.pointer("/data/task_result/videos");
            let lengths = videos.and_then(Value::as_array).into_iter().flatten();
            let seconds = lengths.filter_map(|one| super::length(one, "/duration")).sum();
            let usage = Usage::default().with(crate::usage::Meter::OutputVideoSeconds, seconds);
            Progress::made(Media::links(Kind::Video, videos), usage)
        }
        "failed" => Progress::failed(text(value, "/data/task_status_msg").unwrap_or_default()),
        _ => return None,
    })
}
