//! fal: a queue in front of many models.

use serde_json::{Map, Value, json};

use super::{Ask, Call, Handle, Media, Progress, id_of, number, text};
use crate::error::Code;
use crate::job::order::{Kind, Role};
use crate::job::reach::To;
use crate::usage::{Meter, Usage};

pub(super) fn submit(ask: &Ask<'_>) -> Call {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    set("prompt", ask.order.prompt.as_str().into());
    let (w, h) = ask.terms.size;
    let has_shape = ask.order.ratio.is_some() || ask.order.size.is_some();
    match ask.terms.kind {
        Kind::Video => {
            // Some models count in "8s", most in "8".
            let mark = if ask.upstream.contains("veo") { "s" } else { "" };
            set("duration", format!("{}{mark}", ask.terms.seconds).into());
            set("aspect_ratio", ask.terms.ratio_text().into());
            set("resolution", ask.terms.resolution.clone().into());
        }
        Kind::Image => {
            set("num_images", ask.terms.each.into());
            set("image_size", json!({"width": w, "height": h}));
            if has_shape {
                set("aspect_ratio", ask.terms.ratio_text().into());
            }
            if let Some(resolution) = &ask.terms.resolution {
                set("resolution", resolution.to_ascii_uppercase().into());
            }
            if let Some(quality) = &ask.order.quality {
                set("quality", quality.as_str().into());
            }
        }
    }
    if let Some(text) = &ask.order.negative_prompt {
        set("negative_prompt", text.as_str().into());
    }
    if let Some(seed) = ask.order.seed {
        set("seed", seed.into());
    }
    for (role, name) in [(Role::FirstFrame, "image_url"), (Role::LastFrame, "end_image_url")] {
        if let Some(one) = ask.order.first(role) {
            set(name, one.url.as_str().into());
        }
    }
    let references = ask.order.all(Role::Reference);
    if !references.is_empty() {
        set("image_urls", json!(references));
    }
    Call::post(format!("/{}", ask.upstream), &Value::Object(body))
}

/// Its addresses use a part of the model's name only: they are the host's to say.
pub(super) fn started(value: &Value) -> Option<Handle> {
    let to = |pointer: &str| text(value, pointer).map(|url| To::Url(url.to_owned()));
    Some(Handle {
        id: id_of(value, "/request_id")?,
        state: Some(to("/status_url")?),
        result: Some(to("/response_url")?),
        cancel: to("/cancel_url"),
    })
}

pub(super) fn progress(value: &Value, handle: &Handle) -> Option<Progress> {
    Some(match text(value, "/status")? {
        "IN_QUEUE" => Progress::waiting(false),
        "IN_PROGRESS" => Progress::waiting(true),
        "COMPLETED" => match text(value, "/error") {
            Some(_) => Progress::failed(text(value, "/error_type").unwrap_or_default()),
            None => Progress::Then(handle.result.clone()?),
        },
        _ => return None,
    })
}

pub(super) fn result(status: u16, value: &Value) -> Option<Progress> {
    if status >= 400 {
        let is_theirs = status >= 500 || status == 429;
        return Some(Progress::Failed(if is_theirs { Code::ProviderError } else { Code::InvalidInput }));
    }
    let videos = value.get("video").or_else(|| value.get("videos"));
    let images = value.get("images").or_else(|| value.get("image"));
    let media = match videos {
        Some(_) => Media::links(Kind::Video, videos),
        None => Media::links(Kind::Image, images),
    };
    let count = u64::try_from(media.len()).unwrap_or(0);
    let usage = match videos {
        Some(_) => Usage::default().with(Meter::OutputVideoSeconds, number(value, "/video/duration").unwrap_or(0)),
        None => Usage::default().with(Meter::OutputImages, count),
    };
    Some(Progress::made(media, usage))
}
