//! Black Forest Labs: pictures.

use serde_json::{Map, Value};

use super::{Ask, Call, Handle, Media, Progress, id_of, number, text};
use crate::job::order::Kind;
use crate::job::reach::To;
use crate::usage::{Meter, Usage};

pub(super) fn submit(ask: &Ask<'_>) -> Call {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    set("prompt", ask.order.prompt.as_str().into());
    // Some models take a ratio in place of a size.
    if ask.upstream.contains("kontext") || ask.upstream.contains("ultra") {
        set("aspect_ratio", ask.terms.ratio_text().into());
    } else {
        set("width", ask.terms.size.0.into());
        set("height", ask.terms.size.1.into());
    }
    if let Some(seed) = ask.order.seed {
        set("seed", seed.into());
    }
    for (place, one) in ask.order.references.iter().enumerate() {
        let name =
            if place == 0 { "input_image".to_owned() } else { format!("input_image_{}", place.saturating_add(1)) };
        set(&name, one.inline().map_or(one.url.as_str(), |(_, data)| data).into());
    }
    Call::post(format!("/{}", ask.upstream), &Value::Object(body))
}

/// The address names the region that has the job.
pub(super) fn started(value: &Value) -> Option<Handle> {
    let state = To::Url(text(value, "/polling_url")?.to_owned());
    Some(Handle { id: id_of(value, "/id")?, state: Some(state), ..Handle::default() })
}

pub(super) fn progress(value: &Value) -> Option<Progress> {
    Some(match text(value, "/status")? {
        "Pending" | "Queued" => Progress::waiting(true),
        "Ready" => {
            let media = Media::links(Kind::Image, value.pointer("/result/sample"));
            let usage = Usage::default()
                .with(Meter::OutputImages, 1)
                .with(Meter::OutputMegapixels, number(value, "/output_mp").unwrap_or(0));
            Progress::made(media, usage)
        }
        "Error" | "Failed" | "Request Moderated" | "Content Moderated" | "Task not found" => {
            Progress::failed(text(value, "/status").unwrap_or_default())
        }
        _ => return None,
    })
}
