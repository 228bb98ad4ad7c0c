//! Messages answers, whole and streamed, out of the typed form.

use std::collections::VecDeque;

use crate::dialect::messages::cite;
use crate::dialect::{Amend, Voice, seal};
use crate::json::view::Node;
use crate::json::write::Writer;
use crate::text::citation;
use crate::text::event::{Event, Finish};
use crate::text::issuer;
use crate::text::reply::{Block, Reply};
use crate::usage::{Meter, Usage};

/// How a block of text begins.
const EMPTY_TEXT: &str = r#"{"type":"text","text":""}"#;

/// One event: its name in both places.
pub(super) fn event(name: &str, data: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"\n\n");
}

fn id(voice: &Voice) -> String {
    format!("msg_{}", voice.request_id)
}

/// Usage as Anthropic counts: the input is what was neither read from the cache nor written to it.
fn usage(usage: &Usage, price: Option<&str>) -> String {
    let q = |meter: Meter| usage.quantity(meter);
    let sum = |meters: &[Meter]| meters.iter().fold(0u64, |sum, meter| sum.saturating_add(q(*meter)));
    let read = sum(&[Meter::CacheReadTokens, Meter::CacheReadAudioTokens, Meter::CacheReadImageTokens]);
    let short = sum(&[Meter::CacheWriteTokens, Meter::CacheWriteAudioTokens]);
    let long = sum(&[Meter::CacheWrite1hTokens, Meter::CacheWrite12hTokens]);
    let written = short.saturating_add(long);
    let mut w = Writer::object();
    w.count("input_tokens", usage.prompt_tokens().saturating_sub(read).saturating_sub(written));
    w.count("cache_creation_input_tokens", written).count("cache_read_input_tokens", read);
    w.object_at("cache_creation").count("ephemeral_5m_input_tokens", short);
    w.count("ephemeral_1h_input_tokens", long).end_object();
    w.count("output_tokens", usage.completion_tokens());
    w.object_at("output_tokens_details").count("thinking_tokens", q(Meter::ReasoningTokens)).end_object();
    let mut text = w.close();
    if let Some(price) = price {
        text.pop();
        text.push(',');
        text.push_str(price);
        text.push('}');
    }
    text
}

fn stop_reason(finish: Finish, stop_sequence: Option<&str>) -> &'static str {
    match finish {
        Finish::Stop if stop_sequence.is_some() => "stop_sequence",
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::ContentFilter => "refusal",
    }
}

/// Arguments as the object the dialect wants. Text that is none is kept in one member, so that nothing is lost.
fn input(arguments: &str) -> String {
    match Node::parse(arguments) {
        _ if arguments.trim().is_empty() => "{}".to_owned(),
        Some(node) if node.is_object() => node.raw().to_owned(),
        _ => Writer::object().text("input", arguments).clone().close(),
    }
}

/// A value that must come back, with its issuer's name where it is not Anthropic's own.
fn marked(value: &str, issuer: Option<&str>) -> String {
    issuer::marked(issuer.unwrap_or("unknown"), value, Some(issuer::CLAUDE))
}

/// A whole answer.
pub fn write(reply: &Reply, voice: &Voice, price: Option<&str>) -> Vec<u8> {
    let mut w = Writer::object();
    w.text("id", &id(voice)).text("type", "message").text("role", "assistant").text("model", &voice.model);
    w.array_at("content");
    let choice = reply.choices.first();
    let mut citations = choice.map(|choice| choice.annotations.as_slice()).map(Citations::new).unwrap_or_default();
    for block in choice.map(|choice| choice.blocks.as_slice()).unwrap_or_default() {
        match block {
            Block::Text(text) => {
                w.begin_object().text("type", "text").text("text", text);
                citations.write(text, &mut w);
                w.end_object();
            }
            Block::Refusal(text) => {
                w.begin_object().text("type", "text").text("text", text).end_object();
            }
            Block::Image(url) => {
                w.begin_object().text("type", "text").text("text", &picture(url)).end_object();
            }
            Block::Reasoning { text, signature, sealed, issuer, .. } => {
                let issuer = issuer.as_deref();
                if !text.is_empty() || signature.is_some() {
                    let signature = signature.as_deref().map(|value| marked(value, issuer)).unwrap_or_default();
                    w.begin_object().text("type", "thinking").text("thinking", text).text("signature", &signature);
                    w.end_object();
                }
                if let Some(data) = sealed {
                    w.begin_object().text("type", "redacted_thinking").text("data", &marked(data, issuer)).end_object();
                }
            }
            Block::Call { id, name, arguments, signature, .. } => {
                if let Some((issuer, value)) = signature {
                    w.begin_object().text("type", "redacted_thinking").text("data", &seal::call(id, value, issuer));
                    w.end_object();
                }
                w.begin_object().text("type", "tool_use").text("id", id).text("name", name);
                w.value("input", &input(arguments)).end_object();
            }
            Block::Audio(_) => {}
        }
    }
    if !citations.left.is_empty() {
        w.begin_object().text("type", "text").text("text", "");
        citations.write_all(&mut w);
        w.end_object();
    }
    w.end_array();
    let has_calls = choice.is_some_and(|choice| choice.has_calls());
    let finish =
        choice.and_then(|choice| choice.finish).unwrap_or(if has_calls { Finish::ToolCalls } else { Finish::Stop });
    let stop_sequence = choice.and_then(|choice| choice.stop_sequence.as_deref());
    w.text("stop_reason", stop_reason(finish, stop_sequence));
    match stop_sequence {
        Some(text) => w.text("stop_sequence", text),
        None => w.value("stop_sequence", "null"),
    };
    w.value("usage", &usage(&reply.usage.clone().unwrap_or_default(), price));
    w.close().into_bytes()
}

/// The dialect's answers hold no pictures: one is told in the text.
fn picture(url: &str) -> String {
    format!("![image]({url})")
}

/// Citations that are not written yet, each with the letter at which it begins.
#[derive(Default)]
struct Citations {
    left: VecDeque<(u64, String)>,
    letters: u64,
}

impl Citations {
    fn new(annotations: &[String]) -> Citations {
        let start = |json: &str| citation::parts(json).and_then(|(_, node)| node.u64_at("start_index")).unwrap_or(0);
        let mut left: Vec<(u64, String)> =
            annotations.iter().filter_map(|json| Some((start(json), cite::location(json)?))).collect();
        left.sort_by_key(|(start, _)| *start);
        Citations { left: left.into(), letters: 0 }
    }

    /// Those of a block of text: all that begin before its end. A block without any has no list: strict clients refuse an
    /// empty one.
    fn write(&mut self, text: &str, w: &mut Writer) {
        self.letters = self.letters.saturating_add(citation::letters(text));
        let count = self.left.iter().take_while(|(start, _)| *start < self.letters).count();
        self.some(count, w);
    }

    fn write_all(&mut self, w: &mut Writer) {
        self.some(self.left.len(), w);
    }

    fn some(&mut self, count: usize, w: &mut Writer) {
        if count == 0 {
            return;
        }
        w.array_at("citations");
        self.left.drain(..count).for_each(|(_, location)| {
            w.raw(&location);
        });
        w.end_array();
    }
}

/// The kind of block that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Call(u32),
}

/// Whether it is written into a block.
fn has_block(what: &Event) -> bool {
    matches!(
        what,
        Event::Text { .. }
            | Event::Refusal { .. }
            | Event::Reasoning { .. }
            | Event::ReasoningEnd { .. }
            | Event::CallStart { .. }
            | Event::CallDelta { .. }
            | Event::CallEnd { .. }
            | Event::Annotation { .. }
            | Event::Image { .. }
    )
}

/// The call that it goes on with or ends.
fn piece_of(what: &Event) -> Option<u32> {
    match what {
        Event::CallDelta { call, .. } | Event::CallEnd { call, .. } => Some(*call),
        _ => None,
    }
}

/// Writes a stream. One choice only: the dialect has no others.
#[derive(Debug)]
pub struct Encoder {
    voice: Voice,
    started: bool,
    open: Option<Open>,
    index: u64,
    finish: Option<(Finish, Option<String>)>,
    /// What came while a call was open: blocks stand one after the other here, and none is opened twice.
    waiting: VecDeque<Event>,
}

impl Encoder {
    /// For one answer.
    pub fn new(voice: Voice) -> Encoder {
        Encoder { voice, started: false, open: None, index: 0, finish: None, waiting: VecDeque::new() }
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if self.started {
            return;
        }
        self.started = true;
        let mut w = Writer::object();
        w.text("type", "message_start").object_at("message");
        w.text("id", &id(&self.voice))
            .text("type", "message")
            .text("role", "assistant")
            .text("model", &self.voice.model);
        w.value("content", "[]").value("stop_reason", "null").value("stop_sequence", "null");
        w.value("usage", &usage(&Usage::default(), None)).end_object();
        event("message_start", &w.close(), out);
        event("ping", r#"{"type":"ping"}"#, out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_none() {
            return;
        }
        let mut w = Writer::object();
        w.text("type", "content_block_stop").count("index", self.index);
        event("content_block_stop", &w.close(), out);
        self.index = self.index.saturating_add(1);
    }

    fn open(&mut self, kind: Open, block: &str, out: &mut Vec<u8>) {
        self.start(out);
        if self.open == Some(kind) {
            return;
        }
        self.close(out);
        self.open = Some(kind);
        let mut w = Writer::object();
        w.text("type", "content_block_start").count("index", self.index).value("content_block", block);
        event("content_block_start", &w.close(), out);
    }

    fn delta(&self, kind: &str, member: &str, text: &str, out: &mut Vec<u8>) {
        let mut w = Writer::object();
        w.text("type", "content_block_delta").count("index", self.index);
        w.object_at("delta").text("type", kind).text(member, text).end_object();
        event("content_block_delta", &w.close(), out);
    }

    fn cite(&self, location: &str, out: &mut Vec<u8>) {
        let mut w = Writer::object();
        w.text("type", "content_block_delta").count("index", self.index);
        w.object_at("delta").text("type", "citations_delta").value("citation", location).end_object();
        event("content_block_delta", &w.close(), out);
    }

    fn redacted(&mut self, data: &str, out: &mut Vec<u8>) {
        self.start(out);
        self.close(out);
        let mut w = Writer::object();
        w.text("type", "redacted_thinking").text("data", data);
        self.open(Open::Thinking, &w.close(), out);
        self.close(out);
    }

    fn call(&mut self, call: u32, id: &str, name: &str, out: &mut Vec<u8>) {
        let mut w = Writer::object();
        w.text("type", "tool_use").text("id", id).text("name", name).value("input", "{}");
        self.open(Open::Call(call), &w.close(), out);
    }

    /// One event.
    pub fn push(&mut self, what: &Event, out: &mut Vec<u8>) {
        if what.choice().is_some_and(|choice| choice > 0) {
            return;
        }
        match self.open {
            Some(Open::Call(open)) if has_block(what) && piece_of(what) != Some(open) => self.wait(what),
            _ => self.write(what, out),
        }
        if !matches!(self.open, Some(Open::Call(_))) {
            self.resume(out);
        }
    }

    fn write(&mut self, what: &Event, out: &mut Vec<u8>) {
        match what {
            Event::Start { .. } => self.start(out),
            Event::Text { text, .. } | Event::Refusal { text, .. } => {
                if !text.is_empty() {
                    self.open(Open::Text, EMPTY_TEXT, out);
                    self.delta("text_delta", "text", text, out);
                }
            }
            Event::Reasoning { text, .. } => {
                self.open(Open::Thinking, r#"{"type":"thinking","thinking":"","signature":""}"#, out);
                self.delta("thinking_delta", "thinking", text, out);
            }
            Event::ReasoningEnd { signature, sealed, issuer, .. } => {
                if let Some(value) = signature {
                    self.open(Open::Thinking, r#"{"type":"thinking","thinking":"","signature":""}"#, out);
                    self.delta("signature_delta", "signature", &marked(value, issuer.as_deref()), out);
                }
                if self.open == Some(Open::Thinking) {
                    self.close(out);
                }
                if let Some(data) = sealed {
                    self.redacted(&marked(data, issuer.as_deref()), out);
                }
            }
            Event::CallStart { call, id, name, signature, .. } => {
                // A call has no field for it here; what clients bring back unread stands before it.
                if let Some((issuer, value)) = signature {
                    self.redacted(&seal::call(id, value, issuer), out);
                }
                self.call(*call, id, name, out);
            }
            Event::CallDelta { call, arguments, .. } => {
                if self.open == Some(Open::Call(*call)) {
                    self.delta("input_json_delta", "partial_json", arguments, out);
                }
            }
            Event::CallEnd { call, .. } => {
                if self.open == Some(Open::Call(*call)) {
                    self.close(out);
                }
            }
            Event::Finish { reason, stop_sequence, .. } => self.finish = Some((*reason, stop_sequence.clone())),
            Event::Annotation { json, .. } => {
                if let Some(location) = cite::location(json) {
                    self.open(Open::Text, EMPTY_TEXT, out);
                    self.cite(&location, out);
                }
            }
            Event::Image { url, .. } => {
                self.open(Open::Text, EMPTY_TEXT, out);
                self.delta("text_delta", "text", &picture(url), out);
            }
            Event::Audio { .. } => {}
            Event::Usage(_)
            | Event::ServiceTier(_)
            | Event::Term(..)
            | Event::Fault(_)
            | Event::Malformed
            | Event::Done => {}
        }
    }

    fn wait(&mut self, what: &Event) {
        if let Event::CallDelta { call, arguments: more, .. } = what {
            let earlier = self.waiting.iter_mut().rev().find(|event| piece_of(event) == Some(*call));
            if let Some(Event::CallDelta { arguments, .. }) = earlier {
                arguments.push_str(more);
                return;
            }
        }
        self.waiting.push_back(what.clone());
    }

    /// Goes on with what waits, up to the next call that is not complete.
    fn resume(&mut self, out: &mut Vec<u8>) {
        while !self.waiting.is_empty() {
            let Some(Open::Call(open)) = self.open else {
                if let Some(event) = self.waiting.pop_front() {
                    self.write(&event, out);
                }
                continue;
            };
            let all = std::mem::take(&mut self.waiting);
            let (own, others): (VecDeque<_>, _) = all.into_iter().partition(|event| piece_of(event) == Some(open));
            self.waiting = others;
            own.iter().for_each(|event| self.write(event, out));
            if self.open == Some(Open::Call(open)) {
                return;
            }
        }
    }

    /// The regular end.
    pub fn finish(&mut self, counted: Option<&Usage>, amend: Amend<'_>, out: &mut Vec<u8>) {
        self.start(out);
        self.close(out);
        while !self.waiting.is_empty() {
            self.resume(out);
            self.close(out);
        }
        let (finish, stop_sequence) = self.finish.take().unwrap_or((Finish::Stop, None));
        let mut w = Writer::object();
        w.text("type", "message_delta").object_at("delta");
        w.text("stop_reason", stop_reason(finish, stop_sequence.as_deref()));
        match &stop_sequence {
            Some(text) => w.text("stop_sequence", text),
            None => w.value("stop_sequence", "null"),
        };
        w.end_object();
        let none = Usage::default();
        w.value("usage", &usage(counted.unwrap_or(&none), counted.and_then(amend).as_deref()));
        event("message_delta", &w.close(), out);
        super::end_mark(out);
    }
}
