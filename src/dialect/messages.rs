//! The Anthropic Messages dialect: requests.
//!
//! Wire: Anthropic API reference, `POST /v1/messages`. Fields this file does not know are kept and passed on to
//! providers of the same family.

mod cite;
mod out;
mod prompt;

use crate::dialect::common::{self, Kind, around, count, field, label, provider, text_field};
use crate::error::{Code, Failure};

use crate::json::view::Node;
use crate::json::write::Writer;
use crate::text::demand::Demand;
use crate::text::request::{Body, Need, Request};
use crate::text::terms::Terms;

pub use out::{Encoder, write};
pub use prompt::prompt;

/// Fields that are for the gateway alone and never sent to a provider.
pub const GATEWAY_FIELDS: &[&str] = &["provider", "models", "preset", "session_id", "usage"];

/// Known top-level fields and their types; each may also be null.
const FIELDS: &[(&str, Kind)] = &[
    ("max_tokens", Kind::Integer),
    ("messages", Kind::Array),
    ("metadata", Kind::Object),
    ("models", Kind::Array),
    ("output_config", Kind::Object),
    ("preset", Kind::Text),
    ("provider", Kind::Object),
    ("service_tier", Kind::Text),
    ("session_id", Kind::Text),
    ("stop_sequences", Kind::Array),
    ("stream", Kind::Bool),
    ("system", Kind::TextOrArray),
    ("temperature", Kind::Number),
    ("thinking", Kind::Object),
    ("tool_choice", Kind::Object),
    ("tools", Kind::Array),
    ("top_k", Kind::Integer),
    ("top_p", Kind::Number),
    ("usage", Kind::Object),
];

/// Parses a body. Errors are `invalid_input` with the field's path in `param`.
pub fn parse(bytes: Vec<u8>) -> Result<Request, Failure> {
    parse_body(common::read(bytes)?)
}

/// The same of a body whose members are known.
pub fn parse_body(body: Body) -> Result<Request, Failure> {
    let request = parse_to_count(body)?;
    match request.demand.max_output {
        Some(_) => Ok(request),
        None => Err(Failure::invalid("max_tokens", "is missing")),
    }
}

/// Parses the body of a count, which needs no limit.
pub fn parse_to_count(body: Body) -> Result<Request, Failure> {
    common::check_types(&body, FIELDS)?;
    let models = common::models(&body)?;
    let max_output = match field::<i64>(&body, "max_tokens")? {
        Some(limit) if limit < 1 => return Err(Failure::invalid("max_tokens", "must be at least 1")),
        limit => limit.and_then(|limit| u64::try_from(limit).ok()),
    };
    let mut counted = Counted::default();
    messages(&body, &mut counted)?;
    let node = |key: &str| body.value(key).map(Node::of).filter(|node| !node.is_null());
    let has_tools = node("tools").is_some_and(|tools| tools.items().next().is_some());
    let has_schema = node("output_config").is_some_and(|config| config.get("format").is_some());
    let needs = [
        (has_tools, Need::Tools),
        (counted.images > 0, Need::Vision),
        (counted.has_file, Need::FileInput),
        (has_schema, Need::StructuredOutput),
    ];
    let metadata = node("metadata").and_then(|metadata| metadata.text_at("user_id"));
    let user = metadata.map(|user| user.into_owned()).filter(|user| user.len() <= common::LABEL_BYTES_MAX);
    Ok(Request {
        quality: None,
        size: None,
        models,
        stream: field::<bool>(&body, "stream")?.unwrap_or(false),
        wants_usage: true,
        wants_cost: common::wants_cost(&body)?,
        needs: needs.into_iter().filter(|(has, _)| *has).map(|(_, need)| need).collect(),
        demand: Demand {
            text_bytes: count(body.bytes.len()).saturating_sub(counted.media_chars),
            around_bytes: around(&body, &["messages", "system", "tools", "output_config"]),
            messages: counted.messages,
            images: counted.images,
            audio_chars: 0,
            file_chars: counted.file_chars,
            remote_files: counted.remote_files,
            max_output,
            choices: 1,
            tools: common::has_tools(&body),
            searches: common::searches(&body),
        },
        provider: provider(&body)?,
        user,
        session: label(&body, "session_id")?,
        terms: Terms {
            service_tier: text_field(&body, "service_tier")?.filter(|tier| tier != "standard_only"),
            speed: text_field(&body, "speed")?,
            region: text_field(&body, "inference_geo")?,
            search_context_size: None,
        },
        developer_roles: Vec::new(),
        body,
    })
}

/// What the messages hold.
#[derive(Default)]
struct Counted {
    messages: u64,
    images: u64,
    file_chars: u64,
    remote_files: u64,
    media_chars: u64,
    has_file: bool,
}

fn messages(body: &Body, counted: &mut Counted) -> Result<(), Failure> {
    let Some(text) = body.value("messages") else { return Err(Failure::invalid("messages", "is missing")) };
    let list = Node::of(text);
    if !list.is_array() {
        return Err(Failure::invalid("messages", "must be an array"));
    }
    for (index, message) in list.items().enumerate() {
        let path = format!("messages[{index}]");
        if !message.is_object() {
            return Err(Failure::invalid(path, "must be an object"));
        }
        match message.get("role").map(|role| role.text()) {
            None => return Err(Failure::invalid(format!("{path}.role"), "is missing")),
            Some(role) if matches!(role.as_deref(), Some("user" | "assistant" | "system")) => {}
            Some(_) => return Err(Failure::invalid(format!("{path}.role"), "must be user, assistant or system")),
        }
        let Some(content) = message.get("content") else {
            return Err(Failure::invalid(format!("{path}.content"), "is missing"));
        };
        if !content.is_string() && !content.is_array() {
            return Err(Failure::invalid(format!("{path}.content"), "must be a string or an array of blocks"));
        }
        blocks(content, &format!("{path}.content"), counted)?;
        counted.messages = counted.messages.saturating_add(1);
    }
    if counted.messages == 0 {
        return Err(Failure::invalid("messages", "is empty"));
    }
    Ok(())
}

fn blocks(content: Node<'_>, path: &str, counted: &mut Counted) -> Result<(), Failure> {
    for (index, block) in content.items().enumerate() {
        let path = format!("{path}[{index}]");
        let kind = block.text_at("type").ok_or_else(|| Failure::invalid(format!("{path}.type"), "is missing"))?;
        let need = |key: &str| match block.get(key) {
            Some(value) => Ok(value),
            None => Err(Failure::invalid(format!("{path}.{key}"), "is missing")),
        };
        match kind.as_ref() {
            "text" if !need("text")?.is_string() => {
                return Err(Failure::invalid(format!("{path}.text"), "must be a string"));
            }
            "image" => {
                counted.images = counted.images.saturating_add(1);
                let data = need("source")?.text_at("data").map_or(0, |data| count(data.len()));
                counted.media_chars = counted.media_chars.saturating_add(data);
            }
            "document" => {
                counted.has_file = true;
                match need("source")?.text_at("data").map(|data| count(data.len())) {
                    Some(chars) => {
                        counted.file_chars = counted.file_chars.saturating_add(chars);
                        counted.media_chars = counted.media_chars.saturating_add(chars);
                    }
                    None => counted.remote_files = counted.remote_files.saturating_add(1),
                }
            }
            "tool_use" => {
                need("id")?;
                need("name")?;
                need("input")?;
            }
            "tool_result" => {
                need("tool_use_id")?;
                if let Some(content) = block.get("content") {
                    blocks(content, &format!("{path}.content"), counted)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The error type in Anthropic's own list that has our status.
const fn error_kind(code: Code) -> &'static str {
    match code.status() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// The envelope of a failure: Anthropic's, with our code and field beside its type.
pub fn failure(failure: &Failure, request_id: &str) -> String {
    let mut w = Writer::object();
    w.text("type", "error").object_at("error").text("type", error_kind(failure.code));
    w.text("message", &failure.message).text("code", failure.code.name());
    match &failure.param {
        Some(param) => w.text("param", param),
        None => w.value("param", "null"),
    };
    w.text("request_id", request_id);
    if let Some(details) = &failure.details {
        w.value("details", &details.to_string());
    }
    w.end_object().text("request_id", request_id);
    w.close()
}

/// The last event of a stream that failed.
pub fn failure_event(failure: &Failure, request_id: &str, out: &mut Vec<u8>) {
    out::event("error", &self::failure(failure, request_id), out);
}

/// What ends a stream.
pub fn end_mark(out: &mut Vec<u8>) {
    out::event("message_stop", r#"{"type":"message_stop"}"#, out);
}

#[cfg(test)]
mod tests;
