//! Kling. Every answer has a code of its own, also those with status 200.

use serde_json::{Map, Value};

use super::{Ask, Call, Fault, Handle, Media, Progress, id_of, text};
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

/// What its codes mean, in words that the table of failures knows: other hosts give the same numbers another meaning.
pub(super) fn fault(value: &Value) -> Option<Fault> {
    let number = value.get("code").and_then(Value::as_u64).filter(|code| *code != 0)?;
    let (code, status) = match number {
        1000..=1004 => ("authentication_error", 401),
        1100..=1103 => ("insufficient_quota", 403),
        1200..=1299 => ("", 400),
        1301 => ("content_policy_violation", 400),
        1302 | 1303 => ("rate_limit", 429),
        1304 => ("permission_error", 403),
        5001 => ("", 503),
        5002 => ("", 504),
        _ => ("", 500),
    };
    let message = text(value, "/message").unwrap_or_default().to_owned();
    Some(Fault { code: code.to_owned(), status: Some(status), message, ..Fault::default() })
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
