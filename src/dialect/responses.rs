//! The OpenAI Responses dialect, without state: a request holds its whole conversation, and nothing is kept of it.
//!
//! Wire: OpenAI API reference, `POST /v1/responses`. The typed form is built once to check and measure a body, and again
//! where a family needs it. Fields this file does not know are kept and passed on; known ones must have their documented
//! type. `store` may say what it likes: the answer says `store: false`.

mod item;
mod out;
mod prompt;

pub use out::{Encoder, echo, failure_event, write};

use crate::dialect::common::{self, Kind, around, count, field, label, provider, text_field};
use crate::error::Failure;
use crate::json::view::Node;
use crate::text::demand::Demand;
use crate::text::prompt::{Format, Part, Prompt, Source};
use crate::text::request::{Body, Need, Request};
use crate::text::terms::Terms;

/// How the ids of reasoning begin that this gateway gave.
pub(super) const REASONING_ID: &str = "rs_gen_";

/// Fields that are for the gateway alone and never sent to a provider.
pub const GATEWAY_FIELDS: &[&str] = &["provider", "models", "preset", "session_id", "usage"];

/// Known top-level fields and their types; each may also be null.
const FIELDS: &[(&str, Kind)] = &[
    ("background", Kind::Bool),
    ("context_management", Kind::Array),
    ("conversation", Kind::TextOrObject),
    ("include", Kind::Array),
    ("input", Kind::TextOrArray),
    ("instructions", Kind::Text),
    ("max_output_tokens", Kind::Integer),
    ("max_tool_calls", Kind::Integer),
    ("metadata", Kind::Object),
    ("models", Kind::Array),
    ("parallel_tool_calls", Kind::Bool),
    ("preset", Kind::Text),
    ("previous_response_id", Kind::Text),
    ("prompt", Kind::Object),
    ("prompt_cache_key", Kind::Text),
    ("prompt_cache_options", Kind::Object),
    ("prompt_cache_retention", Kind::Text),
    ("provider", Kind::Object),
    ("reasoning", Kind::Object),
    ("safety_identifier", Kind::Text),
    ("service_tier", Kind::Text),
    ("session_id", Kind::Text),
    ("store", Kind::Bool),
    ("stream", Kind::Bool),
    ("stream_options", Kind::Object),
    ("temperature", Kind::Number),
    ("text", Kind::Object),
    ("tool_choice", Kind::TextOrObject),
    ("tools", Kind::Array),
    ("top_logprobs", Kind::Integer),
    ("top_p", Kind::Number),
    ("truncation", Kind::Text),
    ("usage", Kind::Object),
    ("user", Kind::Text),
];

/// Fields that lean on something kept from before, and what to do instead.
const STATEFUL: &[(&str, &str)] = &[
    ("previous_response_id", "the gateway keeps no state: send the whole conversation in `input`"),
    ("conversation", "the gateway keeps no state: send the whole conversation in `input`"),
    ("prompt", "the gateway keeps no state and no prompt templates: send `instructions` and `input`"),
];

/// Parses a body. Errors are `invalid_input` with the field's path in `param`.
pub fn parse(bytes: Vec<u8>) -> Result<Request, Failure> {
    parse_body(common::read(bytes)?)
}

/// The same of a body whose members are known.
pub fn parse_body(body: Body) -> Result<Request, Failure> {
    common::check_types(&body, FIELDS)?;
    let models = common::models(&body)?;
    for (name, why) in STATEFUL {
        if value(&body, name).is_some() {
            return Err(Failure::invalid(*name, format!("is not supported: {why}")));
        }
    }
    if value(&body, "background").and_then(Node::bool) == Some(true) {
        return Err(Failure::invalid(
            "background",
            "is not supported: the gateway keeps no state to answer from later",
        ));
    }
    let stream = field::<bool>(&body, "stream")?.unwrap_or(false);
    if value(&body, "stream_options").is_some() && !stream {
        return Err(Failure::invalid("stream_options", "is only allowed together with stream: true"));
    }
    let typed = prompt::read(&body)?;
    let measured = Measure::of(&typed);
    let mut demand = measured.demand;
    demand.text_bytes = count(body.bytes.len()).saturating_sub(measured.inline_chars);
    demand.around_bytes = around(&body, &["input", "instructions", "tools", "text"]);
    demand.max_output = max_output(&body)?;
    demand.choices = 1;
    demand.tools = common::has_tools(&body);
    demand.searches = common::searches(&body);
    let found = [
        (measured.has_tools || demand.tools, Need::Tools),
        (demand.images > 0, Need::Vision),
        (measured.has_audio, Need::AudioInput),
        (measured.has_file, Need::FileInput),
        (matches!(typed.format, Some(Format::Schema { .. })), Need::StructuredOutput),
    ];
    let needs = found.into_iter().filter(|(has, _)| *has).map(|(_, need)| need).collect();
    drop(typed);
    Ok(Request {
        quality: None,
        size: None,
        models,
        stream,
        // Usage always comes, in the last event.
        wants_usage: true,
        wants_cost: common::wants_cost(&body)?,
        needs,
        demand,
        provider: provider(&body)?,
        user: label(&body, "user")?,
        session: label(&body, "session_id")?,
        terms: Terms { service_tier: text_field(&body, "service_tier")?, ..Terms::default() },
        developer_roles: Vec::new(),
        body,
    })
}

/// The typed form.
pub fn prompt(request: &Request) -> Result<Prompt<'_>, Failure> {
    let mut typed = prompt::read(&request.body)?;
    typed.stream = request.stream;
    Ok(typed)
}

/// A top-level value; `None` when it is absent or null.
fn value<'a>(body: &'a Body, key: &str) -> Option<Node<'a>> {
    body.value(key).map(Node::of).filter(|node| !node.is_null())
}

fn max_output(body: &Body) -> Result<Option<u64>, Failure> {
    match field::<i64>(body, "max_output_tokens")? {
        Some(n) if n < 1 => Err(Failure::invalid("max_output_tokens", "must be at least 1")),
        limit => Ok(limit.and_then(|n| u64::try_from(n).ok())),
    }
}

/// What the conversation holds, counted.
#[derive(Debug, Default)]
struct Measure {
    demand: Demand,
    /// Base64 characters of all inline media.
    inline_chars: u64,
    has_audio: bool,
    has_file: bool,
    has_tools: bool,
}

impl Measure {
    fn of(prompt: &Prompt<'_>) -> Measure {
        let mut measure = Measure { has_tools: !prompt.tools.is_empty(), ..Measure::default() };
        for message in &prompt.messages {
            // Each part may have been an item, and so a message, of its own.
            let messages = count(message.parts.len()).max(1);
            measure.demand.messages = measure.demand.messages.saturating_add(messages);
            message.parts.iter().for_each(|part| measure.add(part));
        }
        measure
    }

    fn add(&mut self, part: &Part<'_>) {
        let demand = &mut self.demand;
        let inline = match part {
            Part::Image { source, .. } => {
                demand.images = demand.images.saturating_add(1);
                inline_chars(source)
            }
            Part::Audio { data, .. } => {
                self.has_audio = true;
                demand.audio_chars = demand.audio_chars.saturating_add(count(data.len()));
                count(data.len())
            }
            Part::File { source, .. } => {
                self.has_file = true;
                let chars = inline_chars(source);
                demand.file_chars = demand.file_chars.saturating_add(chars);
                if chars == 0 {
                    demand.remote_files = demand.remote_files.saturating_add(1);
                }
                chars
            }
            Part::Result { parts, .. } => {
                parts.iter().for_each(|part| self.add(part));
                0
            }
            // What is not understood is still paid for: a picture or file in it counts as one.
            Part::Other { json, .. } => {
                demand.images = demand.images.saturating_add(count(json.matches("\"image_url\"").count()));
                let files = json.matches("\"file_id\"").count().saturating_add(json.matches("\"file_url\"").count());
                demand.remote_files = demand.remote_files.saturating_add(count(files));
                0
            }
            _ => 0,
        };
        self.inline_chars = self.inline_chars.saturating_add(inline);
    }
}

/// Length of inline data; zero for what is elsewhere.
fn inline_chars(source: &Source<'_>) -> u64 {
    match source {
        Source::Data { data, .. } => count(data.len()),
        Source::Url(_) | Source::Id(_) | Source::Text(_) => 0,
    }
}

#[cfg(test)]
mod tests;
