//! The OpenAI chat completions family, spoken by most hosts: request bytes for an offer, and what its answers say.
//!
//! Wire: OpenAI API reference, `POST {base}/chat/completions`; deviations are quirks. Accepts what hosts are known to
//! send: missing ids, usage in any chunk (the last one counts), reasoning beside empty content, a whole tool call in
//! one chunk, a stream without `[DONE]`, errors inside a 200.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::family::fault::{self, Fault};
use crate::family::quirk::Quirk;
use crate::family::target::is_idle_field;
use crate::json::view::Node;
use crate::json::{Edit, ObjectEdits};
use crate::text::request::Request;
use crate::text::terms::Terms;
use crate::usage::{Meter, Usage};

/// The family's name in catalog files.
pub const NAME: &str = "openai-chat";
/// The path below a provider's base URL.
pub const PATH: &str = "/chat/completions";
/// What ends a stream.
pub const DONE: &str = "[DONE]";

/// The body for an offer: the client's bytes with only what must change; and what of the client's is not in it, by name.
///
/// `max_output` replaces the client's output limit (or adds one) where it is given.
pub fn request(
    request: &Request,
    upstream: &str,
    quirks: &[Quirk],
    gateway_fields: &[&str],
    max_output: Option<u64>,
) -> (Vec<u8>, Vec<String>) {
    let body = &request.body;
    let mut dropped = Vec::new();
    let mut edits = ObjectEdits::new(&body.bytes, &body.members);
    edits.set("model", &serde_json::to_string(upstream).unwrap_or_default());
    gateway_fields.iter().for_each(|field| edits.remove(field));
    if request.stream {
        stream_options(request, quirks, &mut edits);
    }
    if let Some(limit) = max_output {
        set_limit(request, quirks, limit, &mut edits);
    }
    for quirk in quirks {
        match quirk {
            Quirk::Drop(fields) => {
                for (field, json) in fields.iter().filter_map(|field| Some((field, body.value(field)?))) {
                    edits.remove(field);
                    if !is_idle_field(field, json) {
                        dropped.push(field.clone());
                    }
                }
            }
            Quirk::Rename(from, to) => edits.rename(from, to),
            Quirk::DeveloperAsSystem => {
                for range in &request.developer_roles {
                    edits.edit(Edit { range: range.clone(), with: b"\"system\"".to_vec() });
                }
            }
            Quirk::NoMessageName => {
                if without_names(request, &mut edits) {
                    dropped.push("name".to_owned());
                }
            }
            Quirk::NoStreamOptions
            | Quirk::ReasoningOutsideOutput
            | Quirk::ReasoningSometimesOutsideOutput
            | Quirk::TakesFreeText
            | Quirk::PlainMedia
            | Quirk::UnnumberedCalls
            | Quirk::BaseResp => {}
        }
    }
    (edits.finish(), dropped)
}

/// The provider is always asked for usage, whatever the client wants to see of it.
fn stream_options(request: &Request, quirks: &[Quirk], edits: &mut ObjectEdits<'_>) {
    if quirks.contains(&Quirk::NoStreamOptions) {
        return edits.remove("stream_options");
    }
    if request.wants_usage {
        return;
    }
    let options = match request.body.value("stream_options").and_then(|text| crate::json::from_str(text).ok()) {
        Some(Value::Object(mut options)) => {
            options.insert("include_usage".to_owned(), Value::Bool(true));
            Value::Object(options).to_string()
        }
        _ => r#"{"include_usage":true}"#.to_owned(),
    };
    edits.set("stream_options", &options);
}

fn set_limit(request: &Request, quirks: &[Quirk], limit: u64, edits: &mut ObjectEdits<'_>) {
    let names = ["max_completion_tokens", "max_tokens"];
    let present: Vec<&str> = names.into_iter().filter(|name| request.body.has(name)).collect();
    let renamed = quirks.iter().find_map(|quirk| match quirk {
        Quirk::Rename(from, to) if from == "max_completion_tokens" => Some(to.as_str()),
        _ => None,
    });
    match present.is_empty() {
        true => edits.set(renamed.unwrap_or("max_completion_tokens"), &limit.to_string()),
        false => present.iter().for_each(|name| edits.set(name, &limit.to_string())),
    }
}

/// Takes the names out of the messages; whether one of them told who speaks. That of a tool repeats what its call says.
fn without_names(request: &Request, edits: &mut ObjectEdits<'_>) -> bool {
    let Some(text) = request.body.value("messages").filter(|text| text.contains("\"name\"")) else { return false };
    let Ok(mut messages) = crate::json::from_str::<Vec<Value>>(text) else { return false };
    let mut names_speakers = false;
    for object in messages.iter_mut().filter_map(Value::as_object_mut) {
        let is_name = object.remove("name").is_some_and(|name| !name.is_null());
        names_speakers |= is_name && object.get("role").and_then(Value::as_str) != Some("tool");
    }
    edits.set("messages", &Value::Array(messages).to_string());
    names_speakers
}

/// What one frame or one whole answer told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Something the client can show: text, reasoning, a tool call, audio, or the end of a choice.
    pub has_content: bool,
    /// Bytes of generated text and arguments.
    pub output_bytes: u64,
    /// The finish reason, as the provider writes it.
    pub finish: Option<String>,
    /// Usage, where it was reported.
    pub usage: Option<Usage>,
    /// Nothing but usage: the chunk that only a client that asked for usage gets.
    pub is_usage_only: bool,
    /// The terms of the call, as far as they were reported.
    pub terms: Terms,
    /// An error inside the answer.
    pub fault: Option<Fault>,
    /// The text is not of the family's shape: `fault` is ours, not the provider's.
    pub is_malformed: bool,
    /// The error stands where OpenAI's SDKs look for it: in the frame's own `error`.
    pub is_plain_fault: bool,
    /// The stream's end mark.
    pub is_done: bool,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    service_tier: Option<Text<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    x_groq: Option<Groq<'a>>,
    #[serde(borrow, default)]
    base_resp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Groq<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    message: Option<Delta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow, default)]
    audio: Option<&'a RawValue>,
    #[serde(borrow, default)]
    images: Option<&'a RawValue>,
}

impl Delta<'_> {
    /// Bytes of what it carries; the JSON around it counts a little, which an estimate may.
    fn bytes(&self) -> u64 {
        let parts = [
            self.content,
            self.reasoning_content.or(self.reasoning).or(self.reasoning_details),
            self.refusal,
            self.tool_calls,
            self.function_call,
            self.audio,
            self.images,
        ];
        parts.into_iter().flatten().map(|raw| content_bytes(raw.get())).fold(0, u64::saturating_add)
    }
}

fn content_bytes(json: &str) -> u64 {
    let json = json.trim();
    match json {
        "null" | "\"\"" | "[]" | "{}" => 0,
        text if text.starts_with('"') => u64::try_from(text.len().saturating_sub(2)).unwrap_or(u64::MAX),
        other => u64::try_from(other.len()).unwrap_or(u64::MAX),
    }
}

/// Reads one frame's data.
pub fn frame(data: &str, quirks: &[Quirk]) -> Told {
    parsed(data, quirks).0
}

/// The same, and where the text of a frame stands that tells nothing else: between its quotes.
fn parsed(data: &str, quirks: &[Quirk]) -> (Told, Option<Range<usize>>) {
    let trimmed = data.trim();
    if trimmed == DONE {
        return (Told { is_done: true, ..Told::default() }, None);
    }
    if trimmed.is_empty() {
        return (Told::default(), None);
    }
    match crate::json::from_str::<Wire<'_>>(trimmed) {
        Ok(wire) => {
            let told = told(&wire, trimmed, quirks);
            let text = only_text(&wire, &told).and_then(|text| place(data, text));
            (told, text)
        }
        Err(_) => {
            let value = crate::json::from_str::<Value>(trimmed).ok();
            let fault = value.as_ref().and_then(fault::from_value);
            let has_error = value.as_ref().and_then(|value| value.get("error")).is_some_and(|error| !error.is_null());
            let (is_malformed, is_plain_fault) = (fault.is_none(), fault.is_some() && has_error);
            let fault = Some(fault.unwrap_or_else(malformed));
            (Told { is_malformed, is_plain_fault, fault, ..Told::default() }, None)
        }
    }
}

/// The error in a frame. A text beside it that is no Unicode (half of a surrogate pair) does not hide it.
fn fault_in(data: &str, wire: &Wire<'_>) -> Option<Fault> {
    let value = serde_json::from_str::<Value>(data).unwrap_or_else(|_| {
        let part = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
        serde_json::json!({ "error": part(wire.error), "base_resp": part(wire.base_resp) })
    });
    fault::from_value(&value)
}

/// The text of the only choice, without its quotes, where that is all there is to count.
fn only_text<'a>(wire: &Wire<'a>, told: &Told) -> Option<&'a str> {
    let Some([Choice { delta: Some(delta), message: None, .. }]) = wire.choices.as_deref() else { return None };
    let parts = [wire.error, wire.base_resp, wire.x_groq.as_ref().and_then(|groq| groq.error)];
    let tells_more = parts.iter().any(Option::is_some)
        || told.fault.is_some()
        || told.finish.is_some()
        || told.usage.is_some()
        || told.is_usage_only;
    let text = delta.content.map(RawValue::get).filter(|text| !tells_more && content_bytes(text) == delta.bytes())?;
    text.strip_prefix('"')?.strip_suffix('"')
}

/// Where a part of a text stands in it.
fn place(text: &str, part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let place = start..start.checked_add(part.len())?;
    (place.end <= text.len()).then_some(place)
}

fn malformed() -> Fault {
    Fault { message: "malformed".to_owned(), ..Fault::default() }
}

fn told(wire: &Wire<'_>, data: &str, quirks: &[Quirk]) -> Told {
    let has = |raw: Option<&RawValue>| raw.is_some_and(|raw| raw.get() != "null");
    let groq_error = wire.x_groq.as_ref().and_then(|groq| groq.error);
    let is_error_object = wire.object.as_ref().is_some_and(|object| object.0 == "error");
    let base_resp = wire.base_resp.filter(|_| quirks.contains(&Quirk::BaseResp));
    let no_choices = wire.choices.as_ref().is_none_or(Vec::is_empty);
    let mut out = Told::default();
    let odd = wire.choices.is_none() && !has(wire.usage);
    if has(wire.error) || has(groq_error) || is_error_object || base_resp.is_some() || odd {
        out.fault = fault_in(data, wire);
        if out.fault.is_none() && has(groq_error) {
            out.fault = Some(Fault {
                message: groq_error.map(|raw| raw.get().to_owned()).unwrap_or_default(),
                ..Fault::default()
            });
        }
        out.is_plain_fault = has(wire.error) && out.fault.is_some();
    }
    for choice in wire.choices.iter().flatten() {
        for delta in [&choice.delta, &choice.message].into_iter().flatten() {
            out.output_bytes = out.output_bytes.saturating_add(delta.bytes());
        }
        if let Some(Text(reason)) = &choice.finish_reason {
            out.finish = Some(reason.clone().into_owned());
        }
    }
    out.has_content = out.output_bytes > 0 || out.finish.is_some();
    let nested = wire.choices.iter().flatten().find_map(|choice| choice.usage);
    let usage = [wire.usage, wire.x_groq.as_ref().and_then(|groq| groq.usage), nested];
    out.usage = usage.into_iter().flatten().find_map(|raw| self::usage(raw.get(), quirks));
    out.terms.search_context_size = wire.usage.and_then(|raw| search_context_size(raw.get()));
    out.is_usage_only = no_choices && has(wire.usage) && out.fault.is_none();
    out.terms.service_tier = wire.service_tier.as_ref().map(|tier| tier.0.clone().into_owned());
    if out.fault.is_none() && out.finish.as_deref().is_some_and(is_error_finish) {
        out.fault = Some(Fault { code: out.finish.clone().unwrap_or_default(), ..Fault::default() });
    }
    out
}

/// Finish reasons that mean the provider failed.
pub(crate) fn is_error_finish(reason: &str) -> bool {
    matches!(
        reason.to_ascii_lowercase().as_str(),
        "error"
            | "timeout"
            | "cancelled"
            | "network_error"
            | "insufficient_system_resource"
            | "malformed_function_call"
            | "malformed_model_output"
    )
}

/// A finish reason in the words of the OpenAI dialect. An unknown word is a normal stop.
pub fn finish_reason(provider_word: &str) -> &'static str {
    match provider_word.to_ascii_lowercase().as_str() {
        "length"
        | "max_tokens"
        | "model_length"
        | "model_context_window_exceeded"
        | "max_output_tokens"
        | "time_limit" => "length",
        "tool_calls" | "tool_use" | "tool_call" | "function_call" => "tool_calls",
        "content_filter"
        | "content_filtered"
        | "guardrail_intervened"
        | "refusal"
        | "safety"
        | "sensitive"
        | "blacklist" => "content_filter",
        _ => "stop",
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// What it told.
    pub told: Told,
    /// Where the `usage` object stands in the bytes.
    pub usage_span: Option<Range<usize>>,
}

/// Reads a whole (not streamed) answer. `Err` is an error inside a 200, or an answer that is none.
pub fn answer(bytes: &[u8], quirks: &[Quirk]) -> Result<Answer, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed())?;
    let wire: Wire<'_> = crate::json::from_str(text).map_err(|_| {
        let value = crate::json::from_str::<Value>(text).ok();
        value.and_then(|value| fault::from_value(&value)).unwrap_or_else(malformed)
    })?;
    let told = told(&wire, text, quirks);
    if let Some(fault) = told.fault {
        return Err(fault);
    }
    if wire.choices.is_none() {
        return Err(malformed());
    }
    let usage_span = wire.usage.filter(|raw| raw.get().starts_with('{')).and_then(|raw| place(text, raw.get()));
    Ok(Answer { told, usage_span })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireUsage {
    prompt_tokens: Option<f64>,
    completion_tokens: Option<f64>,
    total_tokens: Option<f64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    prompt_cache_hit_tokens: Option<f64>,
    num_cached_tokens: Option<f64>,
    cached_tokens: Option<f64>,
    reasoning_tokens: Option<f64>,
    citation_tokens: Option<f64>,
    num_search_queries: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Option<f64>,
    cache_write_tokens: Option<f64>,
    audio_tokens: Option<f64>,
    image_tokens: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CompletionDetails {
    reasoning_tokens: Option<f64>,
    audio_tokens: Option<f64>,
    image_tokens: Option<f64>,
}

/// How much context web searches brought, which few hosts tell, in their usage.
pub fn search_context_size(usage: &str) -> Option<String> {
    const NAME: &str = "search_context_size";
    if !usage.contains(NAME) {
        return None;
    }
    Some(Node::of(usage).text_at(NAME)?.into_owned())
}

/// A reported count. Hosts write `12` and `12.0`; anything below zero is no count.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be a whole number that fits")]
fn whole(number: Option<f64>) -> Option<u64> {
    let number = number?;
    (0.0..=9_007_199_254_740_992.0).contains(&number).then_some(number.ceil() as u64)
}

/// A usage object in disjoint buckets. `None` when it does not count both prompt and completion: what is not told is not
/// zero. The total tells the one that is missing.
pub fn usage(json: &str, quirks: &[Quirk]) -> Option<Usage> {
    let wire: WireUsage = crate::json::from_str(json).ok()?;
    let (prompt, completion) = (whole(wire.prompt_tokens), whole(wire.completion_tokens));
    let (prompt, completion) = match (prompt, completion, whole(wire.total_tokens)) {
        (Some(prompt), Some(completion), _) => (prompt, completion),
        (Some(prompt), None, Some(total)) => (prompt, total.saturating_sub(prompt)),
        (None, Some(completion), Some(total)) => (total.saturating_sub(completion), completion),
        _ => return None,
    };
    let input = wire.prompt_tokens_details.unwrap_or_default();
    let output = wire.completion_tokens_details.unwrap_or_default();
    let first = |counts: &[Option<f64>]| counts.iter().find_map(|count| whole(*count)).unwrap_or(0);

    let cached =
        first(&[input.cached_tokens, wire.prompt_cache_hit_tokens, wire.num_cached_tokens, wire.cached_tokens]);
    let written = first(&[input.cache_write_tokens]);
    let audio_in = first(&[input.audio_tokens]);
    let image_in = first(&[input.image_tokens]);
    // Some hosts count cached tokens apart from the prompt; then they are more than it.
    let inside = if cached > prompt { prompt } else { prompt.saturating_sub(cached) };
    let audio_in = audio_in.min(inside);
    let image_in = image_in.min(inside.saturating_sub(audio_in));
    let written = written.min(inside.saturating_sub(audio_in).saturating_sub(image_in));
    let fresh = inside.saturating_sub(written).saturating_sub(audio_in).saturating_sub(image_in);

    let reasoning = first(&[output.reasoning_tokens, wire.reasoning_tokens]);
    let outside = quirks.contains(&Quirk::ReasoningOutsideOutput)
        || (quirks.contains(&Quirk::ReasoningSometimesOutsideOutput) && reasoning > completion);
    let total = if outside { completion.saturating_add(reasoning) } else { completion };
    let reasoning = reasoning.min(total);
    let rest = total.saturating_sub(reasoning);
    let audio_out = first(&[output.audio_tokens]).min(rest);
    let image_out = first(&[output.image_tokens]).min(rest.saturating_sub(audio_out));
    let text_out = rest.saturating_sub(audio_out).saturating_sub(image_out);

    Some(
        Usage::default()
            .with(Meter::InputTokens, fresh)
            .with(Meter::CacheReadTokens, cached)
            .with(Meter::CacheWriteTokens, written)
            .with(Meter::InputAudioTokens, audio_in)
            .with(Meter::InputImageTokens, image_in)
            .with(Meter::OutputTokens, text_out)
            .with(Meter::ReasoningTokens, reasoning)
            .with(Meter::OutputAudioTokens, audio_out)
            .with(Meter::OutputImageTokens, image_out)
            .with(Meter::CitationTokens, first(&[wire.citation_tokens]))
            .with(Meter::WebSearches, first(&[wire.num_search_queries])),
    )
}

/// A whole answer as the frames of a stream, for a host that did not stream although asked to.
pub fn as_stream(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut value: Value = crate::json::from_bytes(bytes)?;
    let object = value.as_object_mut()?;
    object.insert("object".to_owned(), Value::from("chat.completion.chunk"));
    let usage = object.remove("usage").filter(|usage| !usage.is_null());
    for choice in object.get_mut("choices")?.as_array_mut()? {
        let choice = choice.as_object_mut()?;
        let mut delta = choice.remove("message")?;
        for (index, call) in delta.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten().enumerate()
        {
            call.as_object_mut()?.insert("index".to_owned(), Value::from(index));
        }
        choice.insert("delta".to_owned(), delta);
    }
    let mut out = Vec::with_capacity(bytes.len().saturating_add(256));
    crate::sse::write_data(&value.to_string(), &mut out);
    if let Some(usage) = usage {
        let object = value.as_object_mut()?;
        object.insert("choices".to_owned(), Value::Array(Vec::new()));
        object.insert("usage".to_owned(), usage);
        crate::sse::write_data(&value.to_string(), &mut out);
    }
    crate::sse::write_data(DONE, &mut out);
    Some(out)
}

mod reader;

pub use crate::family::openai_chat_typed::{Decoder, write};
pub use reader::Reader;

#[cfg(test)]
mod tests;
