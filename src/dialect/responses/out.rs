//! Answers in the Responses dialect. A whole answer is what a stream of the same events ends with.

use crate::dialect::responses::item::{
    Body, ECHOED, Frame, Item, Part, State, Status, annotation, error_members, start_of, write_error, write_summary,
};
use crate::dialect::responses::value;
use crate::dialect::seal;
use crate::dialect::{Amend, Voice};
use crate::error::Failure;
use crate::json::view::Node;
use crate::json::write::Writer;
use crate::text::event::{Event, Finish};
use crate::text::prompt::{Source, ToolKind};
use crate::text::reply::{Block, Reply};
use crate::text::request::Request;
use crate::usage::Usage;

/// The members of a request that its answer repeats, in JSON, without braces.
pub fn echo(request: &Request) -> String {
    members(|name| value(&request.body, name).map(Node::raw))
}

fn members<'a>(said: impl Fn(&str) -> Option<&'a str>) -> String {
    let members = ECHOED.iter().map(|(name, silent)| format!("\"{name}\":{}", said(name).unwrap_or(silent)));
    members.collect::<Vec<_>>().join(",")
}

/// A whole answer.
pub fn write(reply: &Reply, voice: &Voice, price: Option<&str>) -> Vec<u8> {
    let mut encoder = Encoder::new(voice.clone());
    encoder.wire.is_quiet = true;
    let mut out = Vec::new();
    replay(reply, &mut |event| encoder.push(&event, &mut out));
    encoder.close_all(Status::of(encoder.finish), &mut out);
    let mut w = Writer::new();
    let state = State { finish: encoder.finish, usage: reply.usage.as_ref(), price, ..State::default() };
    encoder.frame.write(Status::of(encoder.finish), &encoder.items, &state, &mut w);
    w.finish().into_bytes()
}

/// The events a folded answer came from, as far as this dialect tells them apart.
fn replay(reply: &Reply, push: &mut dyn FnMut(Event)) {
    if let Some(tier) = &reply.service_tier {
        push(Event::ServiceTier(tier.clone()));
    }
    let Some(choice) = reply.choices.first() else { return };
    let mut logprobs = choice.logprobs.iter();
    for block in &choice.blocks {
        match block.clone() {
            Block::Text(text) => {
                push(Event::Text { choice: 0, text, logprobs: logprobs.next().cloned() });
                logprobs.by_ref().for_each(|logprobs| {
                    push(Event::Text { choice: 0, text: String::new(), logprobs: Some(logprobs.clone()) });
                });
            }
            Block::Refusal(text) => push(Event::Refusal { choice: 0, text, is_generated: true }),
            Block::Reasoning { text, signature, sealed, id, issuer, .. } => {
                push(Event::Reasoning { choice: 0, text });
                push(Event::ReasoningEnd { choice: 0, signature, sealed, id, issuer });
            }
            Block::Call { call, id, name, arguments, kind, signature } => {
                push(Event::CallStart { choice: 0, call, id, name, kind, signature });
                push(Event::CallDelta { choice: 0, call, arguments });
                // Calls that were cut off stay open until the end says how it was.
            }
            Block::Image(url) => push(Event::Image { choice: 0, url }),
            // The dialect has no audio.
            Block::Audio(_) => {}
        }
    }
    choice.annotations.iter().for_each(|json| push(Event::Annotation { choice: 0, json: json.clone() }));
    if let Some(reason) = choice.finish {
        push(Event::Finish { choice: 0, reason, stop_sequence: choice.stop_sequence.clone() });
    }
}

/// The last event of a stream that failed before anything was created, or whose events are not ours.
pub fn failure_event(failure: &Failure, request_id: &str, out: &mut Vec<u8>) {
    Wire::default().error(failure, request_id, out);
}

/// Numbered events on their way out.
#[derive(Debug, Default)]
struct Wire {
    sequence: u64,
    /// Nothing is written: only the items count.
    is_quiet: bool,
}

impl Wire {
    fn emit(&mut self, kind: &str, out: &mut Vec<u8>, fill: &dyn Fn(&mut Writer)) {
        if self.is_quiet {
            return;
        }
        let mut w = Writer::object();
        w.text("type", kind).count("sequence_number", self.sequence);
        fill(&mut w);
        self.sequence = self.sequence.saturating_add(1);
        out.extend_from_slice(format!("event: {kind}\n").as_bytes());
        crate::sse::write_data(&w.close(), out);
    }

    /// Flat as documented, and with the `error` object that the SDKs raise an exception for.
    fn error(&mut self, failure: &Failure, request_id: &str, out: &mut Vec<u8>) {
        self.emit("error", out, &|w| {
            error_members(failure, w);
            w.key("error");
            write_error(failure, request_id, w);
        });
    }
}

/// Writes a stream.
#[derive(Debug)]
pub struct Encoder {
    frame: Frame,
    wire: Wire,
    items: Vec<Item>,
    finish: Option<Finish>,
    is_created: bool,
    is_over: bool,
}

impl Encoder {
    /// For one answer.
    pub fn new(mut voice: Voice) -> Encoder {
        let echo = voice.echo.take().unwrap_or_else(|| members(|_| None));
        Encoder {
            frame: Frame { voice, echo, service_tier: None },
            wire: Wire::default(),
            items: Vec::new(),
            finish: None,
            is_created: false,
            is_over: false,
        }
    }

    /// One event.
    pub fn push(&mut self, event: &Event, out: &mut Vec<u8>) {
        // A request of this dialect has one choice.
        if self.is_over || event.choice().is_some_and(|choice| choice != 0) {
            return;
        }
        match event {
            Event::ServiceTier(tier) => self.frame.service_tier = Some(tier.clone()),
            Event::Start { .. } => self.create(out),
            Event::Text { text, logprobs, .. } => {
                let logprobs = logprobs.as_deref().map(tokens).unwrap_or_default();
                if !text.is_empty() || !logprobs.is_empty() {
                    self.text(text, logprobs, out);
                }
            }
            Event::Refusal { text, .. } => self.refusal(text, out),
            Event::Reasoning { text, .. } if !text.is_empty() => self.reasoning(text, out),
            Event::ReasoningEnd { signature, sealed, id, issuer, .. } => {
                let value = seal::reasoning(id.as_deref(), signature.as_deref(), sealed.as_deref(), issuer.as_deref());
                self.reasoning_end(value, out);
            }
            Event::CallStart { call, id, name, kind, signature, .. } => {
                if let Some((issuer, signature)) = signature {
                    self.close_speech(out);
                    self.reasoning_end(Some(seal::call(id, signature, issuer)), out);
                }
                let (id, name) = (id.clone(), name.clone());
                self.open(Body::Call { call: *call, id, name, input: String::new(), kind: *kind }, out);
            }
            Event::CallDelta { call, arguments, .. } => self.call_delta(*call, arguments, out),
            Event::CallEnd { call, .. } => {
                if let Some(at) = self.call_at(*call) {
                    self.close(at, Status::Completed, out);
                }
            }
            Event::Annotation { json, .. } => self.annotation(json, out),
            Event::Image { url, .. } => self.image(url, out),
            Event::Finish { reason, .. } => {
                self.create(out);
                self.finish = Some(*reason);
            }
            Event::Reasoning { .. } | Event::Audio { .. } | Event::Usage(_) | Event::Term(..) => {}
            Event::Fault(_) | Event::Malformed | Event::Done => {}
        }
    }

    /// The regular end.
    pub fn finish(&mut self, usage: Option<&Usage>, amend: Amend<'_>, out: &mut Vec<u8>) {
        if self.is_over {
            return;
        }
        self.create(out);
        let status = Status::of(self.finish);
        self.close_all(status, out);
        self.is_over = true;
        let price = usage.and_then(amend);
        let state = State { finish: self.finish, usage, price: price.as_deref(), ..State::default() };
        let kind = if status == Status::Completed { "response.completed" } else { "response.incomplete" };
        let (frame, items) = (&self.frame, &self.items);
        self.wire.emit(kind, out, &|w| frame.write(status, items, &state, w.key("response")));
    }

    /// The end of a stream that failed.
    pub fn fail(&mut self, failure: &Failure, request_id: &str, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        if !self.is_created {
            return self.wire.error(failure, request_id, out);
        }
        for item in self.items.iter_mut().filter(|item| item.status == Status::InProgress) {
            item.status = Status::Incomplete;
        }
        let state = State { failure: Some(failure), ..State::default() };
        let (frame, items) = (&self.frame, &self.items);
        self.wire.emit("response.failed", out, &|w| frame.write(Status::Failed, items, &state, w.key("response")));
    }

    fn create(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_created, true) {
            return;
        }
        let frame = &self.frame;
        for kind in ["response.created", "response.in_progress"] {
            self.wire.emit(kind, out, &|w| {
                frame.write(Status::InProgress, &[], &State::default(), w.key("response"));
            });
        }
    }

    /// A new item, behind whatever text or reasoning was open. Calls may run side by side.
    fn open(&mut self, body: Body, out: &mut Vec<u8>) {
        self.create(out);
        self.close_speech(out);
        let (prefix, at) = (prefix(&body), self.items.len());
        let id = format!("{prefix}_{}_{at}", self.frame.voice.request_id);
        let item = Item { id, status: Status::InProgress, body };
        self.wire.emit("response.output_item.added", out, &|w| {
            item.write(w.count("output_index", index(at)).key("item"));
        });
        self.items.push(item);
    }

    /// Closes open text and reasoning.
    fn close_speech(&mut self, out: &mut Vec<u8>) {
        for at in 0..self.items.len() {
            if self.items.get(at).is_some_and(|item| !matches!(item.body, Body::Call { .. })) {
                self.close(at, Status::Completed, out);
            }
        }
    }

    fn close_all(&mut self, status: Status, out: &mut Vec<u8>) {
        // A limit cuts what comes last; what stands before it is whole.
        let last = self.items.len().saturating_sub(1);
        for at in 0..self.items.len() {
            self.close(at, if at == last { status } else { Status::Completed }, out);
        }
    }

    fn close(&mut self, at: usize, status: Status, out: &mut Vec<u8>) {
        let Some(item) = self.items.get_mut(at).filter(|item| item.status == Status::InProgress) else { return };
        item.status = status;
        let item = &*item;
        match &item.body {
            Body::Message(parts) => {
                if let Some(part) = parts.last() {
                    part_done(&mut self.wire, &item.id, at, parts.len().saturating_sub(1), part, out);
                }
            }
            Body::Reasoning { text, .. } if !text.is_empty() => {
                self.wire.emit("response.reasoning_summary_text.done", out, &|w| {
                    place(w, &item.id, at).count("summary_index", 0).text("text", text);
                });
                self.wire.emit("response.reasoning_summary_part.done", out, &|w| {
                    write_summary(text, place(w, &item.id, at).count("summary_index", 0).key("part"));
                });
            }
            Body::Call { name, input, kind: ToolKind::Function, .. } => {
                self.wire.emit("response.function_call_arguments.done", out, &|w| {
                    place(w, &item.id, at).text("name", name).text("arguments", input);
                });
            }
            Body::Call { input, kind: ToolKind::Custom, .. } => {
                self.wire.emit("response.custom_tool_call_input.done", out, &|w| {
                    place(w, &item.id, at).text("input", input);
                });
            }
            Body::Reasoning { .. } => {}
            Body::Image(_) => {
                self.wire.emit("response.image_generation_call.completed", out, &|w| {
                    place(w, &item.id, at);
                });
            }
        }
        self.wire.emit("response.output_item.done", out, &|w| {
            item.write(w.count("output_index", index(at)).key("item"));
        });
    }

    /// Makes sure that a message is open and its last part is of the wanted kind.
    fn part(&mut self, is_refusal: bool, out: &mut Vec<u8>) {
        let is_open = |item: &Item| matches!(item.body, Body::Message(_)) && item.status == Status::InProgress;
        // An open message is the last item that is no call.
        if !self.items.iter().any(is_open) {
            self.open(Body::Message(Vec::new()), out);
        }
        let Some(at) = self.items.iter().position(is_open) else { return };
        let Some(Item { id, body: Body::Message(parts), .. }) = self.items.get_mut(at) else { return };
        match parts.last() {
            Some(part) if matches!(part, Part::Refusal(_)) == is_refusal => return,
            Some(part) => part_done(&mut self.wire, id, at, parts.len().saturating_sub(1), part, out),
            None => {}
        }
        let new = if is_refusal {
            Part::Refusal(String::new())
        } else {
            Part::Text { text: String::new(), annotations: Vec::new(), logprobs: Vec::new() }
        };
        let number = parts.len();
        self.wire.emit("response.content_part.added", out, &|w| {
            new.write(place(w, id, at).count("content_index", index(number)).key("part"));
        });
        parts.push(new);
    }

    /// The open message's place, id, the number of its last part, and that part.
    fn open_part(&mut self) -> Option<(usize, &str, usize, &mut Part, &mut Wire)> {
        let found = self.items.iter_mut().enumerate().find_map(|(at, item)| match &mut item.body {
            Body::Message(parts) if item.status == Status::InProgress => Some((at, item.id.as_str(), parts)),
            _ => None,
        });
        let (at, id, parts) = found?;
        let number = parts.len().saturating_sub(1);
        Some((at, id, number, parts.last_mut()?, &mut self.wire))
    }

    fn text(&mut self, more: &str, tokens: Vec<String>, out: &mut Vec<u8>) {
        self.part(false, out);
        let Some((at, id, number, Part::Text { text, logprobs, .. }, wire)) = self.open_part() else { return };
        text.push_str(more);
        wire.emit("response.output_text.delta", out, &|w| {
            place(w, id, at).count("content_index", index(number)).text("delta", more).array_at("logprobs");
            tokens.iter().for_each(|token| {
                w.raw(token);
            });
            w.end_array();
        });
        logprobs.extend(tokens);
    }

    fn refusal(&mut self, more: &str, out: &mut Vec<u8>) {
        self.part(true, out);
        let Some((at, id, number, Part::Refusal(text), wire)) = self.open_part() else { return };
        text.push_str(more);
        wire.emit("response.refusal.delta", out, &|w| {
            place(w, id, at).count("content_index", index(number)).text("delta", more);
        });
    }

    fn open_reasoning(&self) -> Option<usize> {
        let is_open = |item: &Item| matches!(item.body, Body::Reasoning { .. }) && item.status == Status::InProgress;
        self.items.iter().position(is_open)
    }

    fn reasoning(&mut self, more: &str, out: &mut Vec<u8>) {
        if self.open_reasoning().is_none() {
            self.open(Body::Reasoning { text: String::new(), sealed: None }, out);
        }
        let Some(at) = self.open_reasoning() else { return };
        let Some(Item { id, body: Body::Reasoning { text, .. }, .. }) = self.items.get_mut(at) else { return };
        if text.is_empty() {
            self.wire.emit("response.reasoning_summary_part.added", out, &|w| {
                write_summary("", place(w, id, at).count("summary_index", 0).key("part"));
            });
        }
        text.push_str(more);
        self.wire.emit("response.reasoning_summary_text.delta", out, &|w| {
            place(w, id, at).count("summary_index", 0).text("delta", more);
        });
    }

    fn reasoning_end(&mut self, value: Option<String>, out: &mut Vec<u8>) {
        if value.is_some() && self.open_reasoning().is_none() {
            self.open(Body::Reasoning { text: String::new(), sealed: None }, out);
        }
        let Some(at) = self.open_reasoning() else { return };
        if let Some(Item { body: Body::Reasoning { sealed, .. }, .. }) = self.items.get_mut(at) {
            *sealed = value;
        }
        self.close(at, Status::Completed, out);
    }

    fn call_at(&self, number: u32) -> Option<usize> {
        let is_it = |item: &Item| matches!(item.body, Body::Call { call, .. } if call == number);
        self.items.iter().rposition(|item| is_it(item) && item.status == Status::InProgress)
    }

    fn call_delta(&mut self, number: u32, more: &str, out: &mut Vec<u8>) {
        let Some(at) = self.call_at(number).filter(|_| !more.is_empty()) else { return };
        let Some(Item { id, body: Body::Call { input, kind, .. }, .. }) = self.items.get_mut(at) else { return };
        input.push_str(more);
        let kind = match kind {
            ToolKind::Function => "response.function_call_arguments.delta",
            ToolKind::Custom => "response.custom_tool_call_input.delta",
        };
        self.wire.emit(kind, out, &|w| {
            place(w, id, at).text("delta", more);
        });
    }

    /// A citation belongs to the text in which it begins, else to the last; where there is none yet, to an empty one.
    fn annotation(&mut self, json: &str, out: &mut Vec<u8>) {
        let has_text = |item: &Item| matches!(&item.body, Body::Message(parts) if parts.iter().any(is_text));
        if !self.items.iter().any(has_text) {
            self.part(false, out);
        }
        let start = start_of(json).unwrap_or(u64::MAX);
        let (mut before, mut found) = (0u64, None);
        for (at, item) in self.items.iter().enumerate() {
            let Body::Message(parts) = &item.body else { continue };
            for (number, part) in parts.iter().enumerate() {
                let Part::Text { text, .. } = part else { continue };
                if found.is_none_or(|(_, _, begin)| start >= begin) && start >= before {
                    found = Some((at, number, before));
                }
                before = before.saturating_add(index(text.chars().count()));
            }
        }
        let Some((at, number, begin)) = found else { return };
        let Some(flat) = annotation(json, begin) else { return };
        let Some(Item { id, body: Body::Message(parts), .. }) = self.items.get_mut(at) else { return };
        let Some(Part::Text { annotations, .. }) = parts.get_mut(number) else { return };
        self.wire.emit("response.output_text.annotation.added", out, &|w| {
            place(w, id, at).count("content_index", index(number));
            w.count("annotation_index", index(annotations.len())).value("annotation", &flat);
        });
        annotations.push(flat);
    }

    /// The dialect has images as base64 only; a link is told in the text.
    fn image(&mut self, url: &str, out: &mut Vec<u8>) {
        match Source::from_url(url.into()) {
            Source::Data { data, .. } => {
                self.open(Body::Image(data.into_owned()), out);
                self.close_speech(out);
            }
            _ => self.text(&format!("![image]({url})"), Vec::new(), out),
        }
    }
}

fn is_text(part: &Part) -> bool {
    matches!(part, Part::Text { .. })
}

fn prefix(body: &Body) -> &'static str {
    match body {
        Body::Message(_) => "msg",
        Body::Reasoning { .. } => "rs",
        Body::Call { kind: ToolKind::Function, .. } => "fc",
        Body::Call { kind: ToolKind::Custom, .. } => "ctc",
        Body::Image(_) => "ig",
    }
}

fn index(at: usize) -> u64 {
    u64::try_from(at).unwrap_or(u64::MAX)
}

fn place<'w>(w: &'w mut Writer, id: &str, at: usize) -> &'w mut Writer {
    w.text("item_id", id).count("output_index", index(at))
}

fn part_done(wire: &mut Wire, id: &str, at: usize, number: usize, part: &Part, out: &mut Vec<u8>) {
    let (kind, name, said) = match part {
        Part::Text { text, .. } => ("response.output_text.done", "text", text),
        Part::Refusal(text) => ("response.refusal.done", "refusal", text),
    };
    wire.emit(kind, out, &|w| {
        place(w, id, at).count("content_index", index(number)).text(name, said);
        if let Part::Text { logprobs, .. } = part {
            w.array_at("logprobs");
            logprobs.iter().for_each(|token| {
                w.raw(token);
            });
            w.end_array();
        }
    });
    wire.emit("response.content_part.done", out, &|w| {
        part.write(place(w, id, at).count("content_index", index(number)).key("part"));
    });
}

/// The tokens in `logprobs` of the chat dialect: its `content`, or the array alone.
fn tokens(json: &str) -> Vec<String> {
    let Some(node) = Node::parse(json) else { return Vec::new() };
    let list = if node.is_array() { Some(node) } else { node.get("content") };
    list.map(|list| list.items().map(|token| token.raw().to_owned()).collect()).unwrap_or_default()
}
