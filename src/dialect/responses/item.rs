//! Output items, and the response object around them.

use crate::dialect::Voice;
use crate::error::Failure;
use crate::json::write::Writer;
use crate::text::citation;
use crate::text::event::Finish;
use crate::text::prompt::ToolKind;
use crate::usage::{Meter, Usage};

/// How far an item or a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

impl Status {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Status::InProgress => "in_progress",
            Status::Completed => "completed",
            Status::Incomplete => "incomplete",
            Status::Failed => "failed",
        }
    }

    /// Of an answer that ended for this reason.
    pub(super) const fn of(finish: Option<Finish>) -> Status {
        match finish {
            Some(Finish::Length | Finish::ContentFilter) => Status::Incomplete,
            Some(Finish::Stop | Finish::ToolCalls) | None => Status::Completed,
        }
    }
}

/// One output item.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) status: Status,
    pub(super) body: Body,
}

/// What an item holds.
#[derive(Debug)]
pub(super) enum Body {
    Message(Vec<Part>),
    Reasoning {
        text: String,
        sealed: Option<String>,
    },
    Call {
        call: u32,
        id: String,
        name: String,
        input: String,
        kind: ToolKind,
    },
    /// Base64.
    Image(String),
}

/// One part of a message.
#[derive(Debug)]
pub(super) enum Part {
    /// Annotations and logprobs are JSON in this dialect's form.
    Text {
        text: String,
        annotations: Vec<String>,
        logprobs: Vec<String>,
    },
    Refusal(String),
}

impl Part {
    pub(super) fn write(&self, w: &mut Writer) {
        w.begin_object();
        match self {
            Part::Text { text, annotations, logprobs } => {
                w.text("type", "output_text").text("text", text).array_at("annotations");
                annotations.iter().for_each(|json| {
                    w.raw(json);
                });
                w.end_array().array_at("logprobs");
                logprobs.iter().for_each(|json| {
                    w.raw(json);
                });
                w.end_array();
            }
            Part::Refusal(text) => {
                w.text("type", "refusal").text("refusal", text);
            }
        }
        w.end_object();
    }
}

/// A part of a reasoning item's summary.
pub(super) fn write_summary(text: &str, w: &mut Writer) {
    w.begin_object().text("type", "summary_text").text("text", text).end_object();
}

impl Item {
    /// The item as it is now; while it is in progress, without what its deltas brought.
    pub(super) fn write(&self, w: &mut Writer) {
        let is_begun = self.status == Status::InProgress;
        w.begin_object().text("id", &self.id);
        match &self.body {
            Body::Message(parts) => {
                w.text("type", "message").text("status", self.status.name()).text("role", "assistant");
                w.array_at("content");
                parts.iter().filter(|_| !is_begun).for_each(|part| part.write(w));
                w.end_array();
            }
            Body::Reasoning { text, sealed } => {
                w.text("type", "reasoning").text("status", self.status.name()).array_at("summary");
                if !text.is_empty() && !is_begun {
                    write_summary(text, w);
                }
                w.end_array().text_if("encrypted_content", sealed.as_deref());
            }
            Body::Call { id, name, input, kind, .. } => {
                let (kind, field) = match kind {
                    ToolKind::Function => ("function_call", "arguments"),
                    ToolKind::Custom => ("custom_tool_call", "input"),
                };
                w.text("type", kind).text("status", self.status.name()).text("call_id", id).text("name", name);
                w.text(field, if is_begun { "" } else { input });
            }
            Body::Image(data) => {
                w.text("type", "image_generation_call").text("status", self.status.name());
                w.key("result");
                if is_begun {
                    w.raw("null")
                } else {
                    w.string(data)
                };
            }
        }
        w.end_object();
    }
}

/// Fields of the request that an answer repeats, and what it says where the request is silent.
pub(super) const ECHOED: &[(&str, &str)] = &[
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("temperature", "null"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_logprobs", "null"),
    ("top_p", "null"),
    ("truncation", r#""disabled""#),
    ("user", "null"),
];

/// The response object, all but its items.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) voice: Voice,
    /// The echoed members, in JSON, without braces.
    pub(super) echo: String,
    pub(super) service_tier: Option<String>,
}

/// How a response stands.
#[derive(Debug, Default)]
pub(super) struct State<'a> {
    pub(super) finish: Option<Finish>,
    pub(super) failure: Option<&'a Failure>,
    pub(super) usage: Option<&'a Usage>,
    /// Members that the usage gains.
    pub(super) price: Option<&'a str>,
}

impl Frame {
    pub(super) fn id(&self) -> String {
        format!("resp_{}", self.voice.request_id)
    }

    /// The whole object.
    pub(super) fn write(&self, status: Status, items: &[Item], state: &State<'_>, w: &mut Writer) {
        w.begin_object().text("id", &self.id()).text("object", "response").count("created_at", self.voice.created);
        w.text("status", status.name()).flag("background", false);
        w.key("error");
        match state.failure {
            Some(failure) => write_error(failure, &self.voice.request_id, w),
            None => {
                w.raw("null");
            }
        }
        w.key("incomplete_details");
        match state.finish.filter(|_| status == Status::Incomplete) {
            Some(Finish::Length) => w.raw(r#"{"reason":"max_output_tokens"}"#),
            Some(Finish::ContentFilter) => w.raw(r#"{"reason":"content_filter"}"#),
            _ => w.raw("null"),
        };
        w.text("model", &self.voice.model).array_at("output");
        items.iter().for_each(|item| item.write(w));
        w.end_array().value("previous_response_id", "null").flag("store", false).raw(&self.echo);
        w.key("service_tier");
        match &self.service_tier {
            Some(tier) => w.string(tier),
            None => w.raw("null"),
        };
        w.key("usage");
        match state.usage {
            Some(usage) => write_usage(usage, state.price, w),
            None => {
                w.raw("null");
            }
        }
        w.end_object();
    }
}

/// An error as an object. The code is the gateway's own, as in its envelope.
pub(super) fn write_error(failure: &Failure, request_id: &str, w: &mut Writer) {
    w.begin_object();
    error_members(failure, w);
    w.text("type", failure.code.kind()).text("request_id", request_id).end_object();
}

/// The members of an error that the dialect knows.
pub(super) fn error_members(failure: &Failure, w: &mut Writer) {
    w.text("code", failure.code.name()).text("message", &failure.message).key("param");
    match &failure.param {
        Some(param) => w.string(param),
        None => w.raw("null"),
    };
}

/// Usage in the dialect's counting: cached, written and reasoning tokens are inside the totals.
fn write_usage(usage: &Usage, price: Option<&str>, w: &mut Writer) {
    let sum = |meters: &[Meter]| meters.iter().fold(0, |sum: u64, meter| sum.saturating_add(usage.quantity(*meter)));
    let (input, output) = (usage.prompt_tokens(), usage.completion_tokens());
    let half_day = usage.quantity(Meter::CacheWrite12hTokens);
    let others = sum(&[Meter::CacheWriteTokens, Meter::CacheWrite1hTokens, Meter::CacheWriteAudioTokens]);
    w.begin_object().count("input_tokens", input).object_at("input_tokens_details");
    w.count("cached_tokens", sum(&[Meter::CacheReadTokens, Meter::CacheReadAudioTokens, Meter::CacheReadImageTokens]));
    w.count("cache_write_tokens", others.saturating_add(half_day));
    if half_day > 0 {
        w.object_at("cache_write_tokens_details").count("ttl_30m_tokens", others).count("ttl_12h_tokens", half_day);
        w.end_object();
    }
    w.end_object().count("output_tokens", output).object_at("output_tokens_details");
    w.count("reasoning_tokens", usage.quantity(Meter::ReasoningTokens)).end_object();
    w.count("total_tokens", input.saturating_add(output));
    if let Some(price) = price.filter(|price| !price.is_empty()) {
        w.raw(price);
    }
    w.end_object();
}

/// A citation of the chat dialect (`{"type":T,T:{…}}`) in this dialect's flat form. Positions count from the beginning
/// of all text there, of the part here: `before` characters come off.
pub(super) fn annotation(json: &str, before: u64) -> Option<String> {
    let (kind, inner) = citation::parts(json)?;
    let is_link = kind == citation::URL;
    let mut w = Writer::object();
    w.text("type", kind);
    for (key, value) in inner.members() {
        match value.u64().filter(|_| is_position(&key)) {
            Some(at) => w.count(&key, at.saturating_sub(before)),
            None => w.value(&key, value.raw()),
        };
    }
    // The dialect promises all four of a link, and of everything else the file's id.
    let promised = [("start_index", "0"), ("end_index", "0"), ("title", "\"\""), ("url", "\"\""), ("file_id", "\"\"")];
    for (key, nothing) in
        promised.into_iter().filter(|(key, _)| is_link != (*key == "file_id") && inner.get(key).is_none())
    {
        if !inner.members().any(|(known, _)| known == key) {
            w.value(key, nothing);
        }
    }
    Some(w.close())
}

fn is_position(key: &str) -> bool {
    matches!(key, "start_index" | "end_index")
}

/// Where the citation begins, in the chat dialect's counting.
pub(super) fn start_of(json: &str) -> Option<u64> {
    citation::parts(json)?.1.u64_at("start_index")
}
