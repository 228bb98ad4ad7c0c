//! Replicate predictions.

use serde_json::{Map, Value, json};

use super::{Ask, Call, Handle, Media, Progress, id_of, text};
use crate::job::order::{Kind, Role};
use crate::job::reach::To;
use crate::usage::{Meter, Usage};

pub(super) fn submit(ask: &Ask<'_>) -> Call {
    let mut input = Map::new();
    let mut set = |name: &str, value: Value| drop(input.insert(name.to_owned(), value));
    set("prompt", ask.order.prompt.as_str().into());
    if ask.order.ratio.is_some() || ask.order.size.is_some() || ask.terms.kind == Kind::Video {
        set("aspect_ratio", ask.terms.ratio_text().into());
    }
    if ask.terms.kind == Kind::Video {
        set("duration", ask.terms.seconds.into());
    }
    if let Some(resolution) = &ask.terms.resolution {
        set("resolution", resolution.as_str().into());
    }
    if let Some(text) = &ask.order.negative_prompt {
        set("negative_prompt", text.as_str().into());
    }
    if let Some(seed) = ask.order.seed {
        set("seed", seed.into());
    }
    for (role, name) in [(Role::FirstFrame, "image"), (Role::LastFrame, "last_frame_image")] {
        if let Some(one) = ask.order.first(role) {
            set(name, one.url.as_str().into());
        }
    }
    let references = ask.order.all(Role::Reference);
    if !references.is_empty() {
        set("reference_images", json!(references));
    }
    match ask.upstream.split_once(':') {
        Some((_, version)) => Call::post("/predictions", &json!({"version": version, "input": input})),
        None => Call::post(format!("/models/{}/predictions", ask.upstream), &json!({"input": input})),
    }
}

pub(super) fn started(value: &Value) -> Option<Handle> {
    let to = |pointer: &str| text(value, pointer).map(|url| To::Url(url.to_owned()));
    Some(Handle { id: id_of(value, "/id")?, state: to("/urls/get"), cancel: to("/urls/cancel"), result: None })
}

pub(super) fn progress(value: &Value, kind: Kind) -> Option<Progress> {
    Some(match text(value, "/status")? {
        "starting" | "queued" => Progress::waiting(false),
        "processing" => Progress::waiting(true),
        "succeeded" => {
            let spent = super::number(value, "/metrics/predict_time").unwrap_or(0);
            let usage = Usage::default().with(Meter::ComputeSeconds, spent);
            Progress::made(Media::links(kind, value.get("output")), usage)
        }
        "failed" | "canceled" | "aborted" => Progress::failed(text(value, "/error").unwrap_or_default()),
        _ => return None,
    })
}
