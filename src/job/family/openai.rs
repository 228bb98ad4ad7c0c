//! OpenAI videos, and who speaks like it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Ask, Call, Handle, Media, Progress, Source, blame, number, text};
use crate::job::order::Kind;
use crate::job::reach::To;
use crate::media::multipart::{self, Part};
use crate::usage::Usage;

const PATH: &str = "/videos";

pub(super) fn submit(ask: &Ask<'_>) -> Call {
    let fields = [
        ("model", ask.upstream.to_owned()),
        ("prompt", ask.order.prompt.clone()),
        ("seconds", ask.terms.seconds.to_string()),
        ("size", ask.terms.size_text('x')),
    ];
    let reference = ask.order.references.first();
    let file = reference.and_then(|one| {
        let (kind, data) = one.inline()?;
        Some((kind.to_owned(), STANDARD.decode(data).ok()?))
    });
    let Some((kind, bytes)) = file else {
        let mut body: serde_json::Map<String, Value> =
            fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        if let Some(one) = reference {
            body.insert("input_reference".to_owned(), json!({"image_url": one.url}));
        }
        return Call::post(PATH, &Value::Object(body));
    };
    let field = |(name, value): (&str, String)| Part {
        name: name.to_owned(),
        filename: None,
        content_type: None,
        bytes: value.into_bytes().into(),
    };
    let extension = kind.rsplit('/').next().unwrap_or("png");
    let file = Part {
        name: "input_reference".to_owned(),
        filename: Some(format!("reference.{extension}")),
        content_type: Some(kind.clone()),
        bytes: bytes.into(),
    };
    let parts: Vec<Part> = fields.into_iter().map(field).chain([file]).collect();
    let (content_type, body) = multipart::write(&parts, &multipart::own_boundary(ask.id));
    let body = body.concat();
    Call { content_type, body, ..Call::bare("POST", To::Path(PATH.to_owned())) }
}

pub(super) fn progress(value: &Value, handle: &Handle) -> Option<Progress> {
    let percent = number(value, "/progress").map(|percent| percent.min(100));
    Some(match text(value, "/status")? {
        "queued" => Progress::Waiting { is_running: false, percent },
        "in_progress" => Progress::Waiting { is_running: true, percent },
        "completed" => {
            let path = format!("{PATH}/{}/content", handle.id);
            let made = Media { kind: Kind::Video, source: Source::Own(To::Path(path)) };
            // What it says of its length is what it was asked for.
            Progress::Made(vec![made], Usage::default())
        }
        "failed" => Progress::Failed(blame(text(value, "/error/code").unwrap_or_default())),
        _ => return None,
    })
}
