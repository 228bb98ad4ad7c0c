//! Converse answers as events.

use crate::family::fault::Fault;
use crate::json::view::Node;
use crate::json::write::quoted;
use crate::text::citation::{self, Span, of_file, of_link};
use crate::text::event::{Event, Finish};
use crate::text::issuer;
use crate::text::prompt::ToolKind;
use crate::usage::{Meter, Usage};

/// What stands before the name of an exception in a frame.
pub const EXCEPTION: char = '!';

/// A block of the answer that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Block {
    /// A call, and whether any argument has come.
    Call(u32, bool),
    /// Reasoning: its signature so far.
    Reasoning(Option<String>),
}

/// Decodes answers.
#[derive(Debug)]
pub struct Decoder {
    issuer: String,
    blocks: Vec<(u64, Block)>,
    calls: u32,
    is_finished: bool,
    is_done: bool,
    /// Letters of text so far.
    letters: u64,
    /// The block of text at hand, and how many stood before it.
    text: Option<(u64, u64)>,
    /// Its citations: they are told when it is clear how far it goes.
    cited: Vec<String>,
}

impl Decoder {
    /// For one answer of a provider, who is the issuer of what its models sign.
    pub fn new(provider: &str) -> Decoder {
        Decoder {
            issuer: issuer::of_provider(provider),
            blocks: Vec::new(),
            calls: 0,
            is_finished: false,
            is_done: false,
            letters: 0,
            text: None,
            cited: Vec::new(),
        }
    }

    /// One frame of a stream: an object with one member, named like the frame.
    pub fn frame(&mut self, data: &str, out: &mut Vec<Event>) {
        let first = Node::parse(data).and_then(|node| node.members().next());
        let Some((kind, node)) = first else {
            out.push(Event::Malformed);
            return;
        };
        let index = node.u64_at("contentBlockIndex").unwrap_or(0);
        match kind.as_ref() {
            "messageStart" => out.push(Event::Start { id: None, model: None }),
            "contentBlockStart" => {
                if let Some(call) = node.at(&["start", "toolUse"]) {
                    self.call(index, call, out);
                }
            }
            "contentBlockDelta" => {
                if let Some(delta) = node.get("delta") {
                    self.delta(index, delta, out);
                }
            }
            "contentBlockStop" => self.close(index, out),
            "messageStop" => self.stop(node, out),
            "metadata" => {
                out.extend(node.get("usage").map(|usage| Event::Usage(usage_of(usage))));
                tier(node, out);
                self.is_done = true;
                out.push(Event::Done);
            }
            name if name.starts_with(EXCEPTION) => {
                let name = name.trim_start_matches(EXCEPTION).to_lowercase();
                let status = node.u64_at("originalStatusCode").and_then(|status| u16::try_from(status).ok());
                let message = node.text_at("message").or_else(|| node.text_at("originalMessage"));
                out.push(Event::Fault(Fault {
                    status: status.filter(|status| (400..600).contains(status)).or_else(|| status_of(&name)),
                    message: message.unwrap_or_default().into_owned(),
                    code: name,
                    ..Fault::default()
                }));
            }
            _ => {}
        }
    }

    /// The stream ended in good order; the frame with the usage may be missing.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        if self.is_finished && !self.is_done {
            out.push(Event::Done);
        }
    }

    /// A whole answer.
    pub fn whole(&mut self, text: &str, out: &mut Vec<Event>) {
        let Some(node) = Node::parse(text) else {
            out.push(Event::Malformed);
            return;
        };
        let Some(content) = node.at(&["output", "message", "content"]) else {
            let name = node.text_at("__type").unwrap_or_default();
            match node.text_at("message") {
                Some(message) => out.push(Event::Fault(Fault {
                    code: name.rsplit('#').next().unwrap_or_default().to_lowercase(),
                    message: message.into_owned(),
                    ..Fault::default()
                })),
                None => out.push(Event::Malformed),
            }
            return;
        };
        out.push(Event::Start { id: None, model: None });
        for (index, block) in (0u64..).zip(content.items()) {
            if let Some(call) = block.get("toolUse") {
                self.call(index, call, out);
                let input = call.get("input").filter(|input| input.members().next().is_some());
                if let (Some(input), Some((_, Block::Call(number, has_arguments)))) = (input, self.blocks.last_mut()) {
                    *has_arguments = true;
                    out.push(Event::CallDelta { choice: 0, call: *number, arguments: input.raw().to_owned() });
                }
            } else if let Some(cited) = block.get("citationsContent") {
                cited
                    .get("content")
                    .map(Node::items)
                    .into_iter()
                    .flatten()
                    .for_each(|part| self.delta(index, part, out));
                let citations = cited.get("citations").map(Node::items).into_iter().flatten();
                self.cited = citations.map(|citation| citation.raw().to_owned()).collect();
            } else if let Some(text) = block.at(&["reasoningContent", "reasoningText"]) {
                self.reasoning(index, text, out);
            } else {
                self.delta(index, block, out);
            }
            self.close(index, out);
        }
        out.extend(node.get("usage").map(|usage| Event::Usage(usage_of(usage))));
        tier(node, out);
        self.stop(node, out);
        out.push(Event::Done);
    }

    fn call(&mut self, index: u64, node: Node<'_>, out: &mut Vec<Event>) {
        let call = self.calls;
        self.calls = self.calls.saturating_add(1);
        let id = node.text_at("toolUseId").filter(|id| !id.is_empty());
        let id = id.unwrap_or_default().into_owned();
        let (name, kind) = (node.string_at("name"), ToolKind::Function);
        out.push(Event::CallStart { choice: 0, call, id, name, kind, signature: None });
        self.blocks.push((index, Block::Call(call, false)));
    }

    fn delta(&mut self, index: u64, node: Node<'_>, out: &mut Vec<Event>) {
        if let Some(text) = node.text_at("text").filter(|text| !text.is_empty()) {
            if self.text.is_none_or(|(known, _)| known != index) {
                self.text = Some((index, self.letters));
            }
            self.letters = self.letters.saturating_add(citation::letters(&text));
            out.push(Event::Text { choice: 0, text: text.into_owned(), logprobs: None });
        }
        self.cited.extend(node.get("citation").map(|citation| citation.raw().to_owned()));
        if let Some(input) = node.at(&["toolUse", "input"]).and_then(Node::text).filter(|text| !text.is_empty()) {
            let block = self.blocks.iter_mut().rev().find(|(known, _)| *known == index);
            if let Some((_, Block::Call(call, has_arguments))) = block {
                *has_arguments = true;
                out.push(Event::CallDelta { choice: 0, call: *call, arguments: input.into_owned() });
            }
        }
        if let Some(reasoning) = node.get("reasoningContent") {
            self.reasoning(index, reasoning, out);
        }
    }

    fn reasoning(&mut self, index: u64, node: Node<'_>, out: &mut Vec<Event>) {
        let text = |key: &str| node.text_at(key).filter(|text| !text.is_empty()).map(|text| text.into_owned());
        if let Some(sealed) = text("redactedContent") {
            let issuer = Some(self.issuer.clone());
            out.push(Event::ReasoningEnd { choice: 0, signature: None, sealed: Some(sealed), id: None, issuer });
            return;
        }
        if !self.blocks.iter().any(|(known, _)| *known == index) {
            self.blocks.push((index, Block::Reasoning(None)));
        }
        out.extend(text("text").map(|text| Event::Reasoning { choice: 0, text }));
        let block = self.blocks.iter_mut().rev().find(|(known, _)| *known == index);
        if let (Some(more), Some((_, Block::Reasoning(signature)))) = (text("signature"), block) {
            signature.get_or_insert_default().push_str(&more);
        }
    }

    fn close(&mut self, index: u64, out: &mut Vec<Event>) {
        let start = self.text.filter(|(known, _)| *known == index).map_or(self.letters, |(_, start)| start);
        let span = Span { start, end: self.letters };
        let cited = std::mem::take(&mut self.cited);
        let told = cited.iter().map(|json| annotation(Node::of(json), span));
        out.extend(told.map(|json| Event::Annotation { choice: 0, json }));
        let Some(at) = self.blocks.iter().rposition(|(known, _)| *known == index) else { return };
        match self.blocks.swap_remove(at).1 {
            Block::Call(call, has_arguments) => {
                if !has_arguments {
                    out.push(Event::CallDelta { choice: 0, call, arguments: "{}".to_owned() });
                }
                out.push(Event::CallEnd { choice: 0, call });
            }
            Block::Reasoning(signature) => {
                let issuer = signature.as_ref().map(|_| self.issuer.clone());
                out.push(Event::ReasoningEnd { choice: 0, signature, sealed: None, id: None, issuer });
            }
        }
    }

    fn stop(&mut self, node: Node<'_>, out: &mut Vec<Event>) {
        let open: Vec<u64> = self.blocks.iter().map(|(index, _)| *index).collect();
        open.into_iter().for_each(|index| self.close(index, out));
        let Some(word) = node.text_at("stopReason") else { return };
        let reason = match word.as_ref() {
            "max_tokens" | "model_context_window_exceeded" => Finish::Length,
            "tool_use" => Finish::ToolCalls,
            "guardrail_intervened" | "content_filtered" => Finish::ContentFilter,
            "malformed_model_output" | "malformed_tool_use" => {
                out.push(Event::Fault(Fault { code: "modelerrorexception".to_owned(), ..Fault::default() }));
                return;
            }
            _ => Finish::Stop,
        };
        self.is_finished = true;
        let stop_sequence = node.at(&["additionalModelResponseFields", "stop_sequence"]).and_then(Node::text);
        out.push(Event::Finish { choice: 0, reason, stop_sequence: stop_sequence.map(Into::into) });
    }
}

fn tier(node: Node<'_>, out: &mut Vec<Event>) {
    let tier = node.at(&["serviceTier", "type"]).and_then(Node::text);
    out.extend(tier.map(|tier| Event::ServiceTier(tier.into_owned())));
}

/// A citation: of a page of the web, or a place in a document of the request.
fn annotation(node: Node<'_>, span: Span) -> String {
    let title = node.text_at("title");
    let location = node.get("location").and_then(|location| location.members().next());
    let quotes =
        node.get("sourceContent").map(Node::items).into_iter().flatten().filter_map(|part| part.text_at("text"));
    let quote = quoted(&quotes.collect::<String>());
    let mut more: Vec<(&str, &str)> = Vec::new();
    if quote != "\"\"" {
        more.push(("cited_text", &quote));
    }
    let Some((kind, place)) = location else { return of_file("", title.as_deref(), 0, span, &more) };
    if let Some(url) = place.text_at("url") {
        return of_link(&url, title.as_deref(), span, &more);
    }
    let (start, end) = match kind.as_ref() {
        "documentPage" => ("start_page_number", "end_page_number"),
        "documentChar" => ("start_char_index", "end_char_index"),
        _ => ("start_block_index", "end_block_index"),
    };
    more.extend(place.get("start").map(|node| (start, node.raw())));
    more.extend(place.get("end").map(|node| (end, node.raw())));
    let index = ["documentIndex", "searchResultIndex"].into_iter().find_map(|key| place.u64_at(key)).unwrap_or(0);
    of_file("", title.as_deref(), index, span, &more)
}

/// The status that goes with an exception inside a stream.
fn status_of(exception: &str) -> Option<u16> {
    match exception {
        "throttlingexception" => Some(429),
        "validationexception" => Some(400),
        "serviceunavailableexception" => Some(503),
        "internalserverexception" | "modelstreamerrorexception" => Some(500),
        "modeltimeoutexception" => Some(408),
        "accessdeniedexception" => Some(403),
        _ => None,
    }
}

/// Cached tokens are outside of `inputTokens`.
fn usage_of(node: Node<'_>) -> Usage {
    let count = |key: &str| node.u64_at(key).unwrap_or(0);
    let hour: u64 = {
        let details = node.get("cacheDetails").map(Node::items).into_iter().flatten();
        let hours = details.filter(|detail| detail.text_at("ttl").as_deref() == Some("1h"));
        hours.filter_map(|detail| detail.u64_at("inputTokens")).fold(0, u64::saturating_add)
    };
    let written = count("cacheWriteInputTokens");
    let hour = hour.min(written);
    Usage::default()
        .with(Meter::InputTokens, count("inputTokens"))
        .with(Meter::CacheReadTokens, count("cacheReadInputTokens"))
        .with(Meter::CacheWriteTokens, written.saturating_sub(hour))
        .with(Meter::CacheWrite1hTokens, hour)
        .with(Meter::OutputTokens, count("outputTokens"))
}
