//! DashScope: Wan and HappyHorse at Alibaba's Model Studio.

use serde_json::{Map, Value, json};

use super::{Ask, Call, Media, Progress, seconds, text};
use crate::job::order::{Kind, Role};

pub(super) fn submit(ask: &Ask<'_>) -> Call {
    let mut input = Map::new();
    input.insert("prompt".to_owned(), ask.order.prompt.as_str().into());
    if let Some(text) = &ask.order.negative_prompt {
        input.insert("negative_prompt".to_owned(), text.as_str().into());
    }
    let media = ask.order.references.iter().map(|one| {
        let role = match one.role {
            Role::FirstFrame => "first_frame",
            Role::LastFrame => "last_frame",
            Role::Reference => "reference_image",
        };
        json!({"type": role, "url": one.url})
    });
    let media: Vec<Value> = media.collect();
    if !media.is_empty() {
        input.insert("media".to_owned(), media.into());
    }
    let mut parameters = Map::new();
    let mut set = |name: &str, value: Value| drop(parameters.insert(name.to_owned(), value));
    set("resolution", ask.terms.resolution.as_deref().unwrap_or_default().to_ascii_uppercase().into());
    set("duration", ask.terms.seconds.into());
    set("ratio", ask.terms.ratio_text().into());
    if let Some(seed) = ask.order.seed {
        set("seed", seed.into());
    }
    let body = json!({"model": ask.upstream, "input": input, "parameters": parameters});
    let call = Call::post("/services/aigc/video-generation/video-synthesis", &body);
    Call { headers: vec![("X-DashScope-Async", "enable".to_owned())], ..call }
}

pub(super) fn progress(value: &Value) -> Option<Progress> {
    Some(match text(value, "/output/task_status")? {
        "PENDING" => Progress::waiting(false),
        "RUNNING" | "SUSPENDED" => Progress::waiting(true),
        "SUCCEEDED" => {
            let media = Media::links(Kind::Video, value.pointer("/output/video_url"));
            let pointer = if value.pointer("/usage/output_video_duration").is_some() {
                "/usage/output_video_duration"
            } else {
                "/usage/video_duration"
            };
            Progress::made(media, seconds(value, pointer))
        }
        "FAILED" | "CANCELED" | "UNKNOWN" => Progress::failed(text(value, "/output/code").unwrap_or_default()),
        _ => return None,
    })
}
