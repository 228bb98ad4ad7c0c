//! Anthropic answers as events.

use crate::family::anthropic::cite;
use crate::family::fault::{self, Fault};
use crate::json::view::Node;
use crate::text::citation::{self, Span};
use crate::text::event::{Event, Finish};
use crate::text::issuer;
use crate::text::prompt::ToolKind;
use crate::text::terms::Term;
use crate::usage::{Meter, Usage};

/// What a content block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    /// Text, and how many letters stood before it.
    Text(u64),
    Thinking,
    /// A tool call: its number, and whether arguments have come.
    Call(u32, bool),
    Other,
}

/// Decodes answers.
#[derive(Debug, Default)]
pub struct Decoder {
    blocks: Vec<(u64, Block)>,
    calls: u32,
    signature: Option<String>,
    counts: Counts,
    started: bool,
    /// Letters of text so far.
    letters: u64,
    /// Citations of the block of text at hand: they are told when it is clear how far it goes.
    cited: Vec<String>,
}

/// Counts as the API reports them; later reports replace earlier ones, field by field.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    input: Option<u64>,
    read: Option<u64>,
    written: Option<u64>,
    written_1h: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
    searches: Option<u64>,
}

impl Counts {
    fn add(&mut self, usage: Node<'_>) {
        let set = |count: &mut Option<u64>, value: Option<u64>| *count = value.or(*count);
        set(&mut self.input, usage.u64_at("input_tokens"));
        set(&mut self.read, usage.u64_at("cache_read_input_tokens"));
        set(&mut self.written, usage.u64_at("cache_creation_input_tokens"));
        let hour = usage.at(&["cache_creation", "ephemeral_1h_input_tokens"]);
        set(&mut self.written_1h, hour.and_then(Node::u64));
        set(&mut self.output, usage.u64_at("output_tokens"));
        let thinking = usage.at(&["output_tokens_details", "thinking_tokens"]);
        set(&mut self.thinking, thinking.and_then(Node::u64));
        let searches = usage.at(&["server_tool_use", "web_search_requests"]);
        set(&mut self.searches, searches.and_then(Node::u64));
    }

    /// Input counts only what was neither read nor written here, so the buckets are disjoint as they come.
    fn usage(self) -> Usage {
        let (written, hour) = (self.written.unwrap_or(0), self.written_1h.unwrap_or(0));
        let (output, thinking) = (self.output.unwrap_or(0), self.thinking.unwrap_or(0));
        let thinking = thinking.min(output);
        Usage::default()
            .with(Meter::InputTokens, self.input.unwrap_or(0))
            .with(Meter::CacheReadTokens, self.read.unwrap_or(0))
            .with(Meter::CacheWriteTokens, written.saturating_sub(hour))
            .with(Meter::CacheWrite1hTokens, hour.min(written))
            .with(Meter::OutputTokens, output.saturating_sub(thinking))
            .with(Meter::ReasoningTokens, thinking)
            .with(Meter::WebSearches, self.searches.unwrap_or(0))
    }
}

impl Decoder {
    /// One frame of a stream. Unknown events are skipped, as the API asks.
    pub fn frame(&mut self, data: &str, out: &mut Vec<Event>) {
        if data.trim().is_empty() {
            return;
        }
        let Some(node) = Node::parse(data) else {
            out.push(Event::Malformed);
            return;
        };
        let index = node.u64_at("index").unwrap_or(0);
        match node.text_at("type").as_deref() {
            Some("message_start") => {
                if let Some(message) = node.get("message") {
                    self.start(message, out);
                }
            }
            Some("content_block_start") => {
                if let Some(block) = node.get("content_block") {
                    self.open(index, block, out);
                }
            }
            Some("content_block_delta") => {
                if let Some(delta) = node.get("delta") {
                    self.delta(index, delta, out);
                }
            }
            Some("content_block_stop") => self.close(index, out),
            Some("message_delta") => {
                if let Some(usage) = node.get("usage") {
                    self.counts.add(usage);
                    out.push(Event::Usage(self.counts.usage()));
                }
                if let Some(delta) = node.get("delta") {
                    self.stop(delta, out);
                }
            }
            Some("message_stop") => out.push(Event::Done),
            Some("error") => out.push(Event::Fault(fault(node))),
            Some(_) => {}
            None if node.get("error").is_some() => out.push(Event::Fault(fault(node))),
            None => out.push(Event::Malformed),
        }
    }

    /// A whole answer.
    pub fn whole(&mut self, text: &str, out: &mut Vec<Event>) {
        let Some(node) = Node::parse(text) else {
            out.push(Event::Malformed);
            return;
        };
        if node.get("error").is_some() {
            out.push(Event::Fault(fault(node)));
            return;
        }
        let Some(content) = node.get("content").filter(|content| content.is_array()) else {
            out.push(Event::Malformed);
            return;
        };
        self.start(node, out);
        for (index, block) in (0u64..).zip(content.items()) {
            self.open(index, block, out);
            self.close(index, out);
        }
        if node.get("usage").is_some() {
            out.push(Event::Usage(self.counts.usage()));
        }
        self.stop(node, out);
        out.push(Event::Done);
    }

    fn start(&mut self, message: Node<'_>, out: &mut Vec<Event>) {
        self.started = true;
        out.push(Event::Start {
            id: message.text_at("id").map(Into::into),
            model: message.text_at("model").map(Into::into),
        });
        if let Some(usage) = message.get("usage") {
            self.counts.add(usage);
            if let Some(tier) = usage.text_at("service_tier") {
                out.push(Event::ServiceTier(tier.into_owned()));
            }
            for (name, term) in [("speed", Term::Speed), ("inference_geo", Term::Region)] {
                out.extend(usage.text_at(name).map(|word| Event::Term(term, word.into_owned())));
            }
        }
    }

    /// A block begins; what it already holds (all of it, in a whole answer) is told.
    fn open(&mut self, index: u64, node: Node<'_>, out: &mut Vec<Event>) {
        let text = |key: &str| node.text_at(key).filter(|text| !text.is_empty()).map(|text| text.into_owned());
        let block = match node.text_at("type").as_deref() {
            Some("text") => {
                let before = self.letters;
                out.extend(text("text").map(|text| self.say(text)));
                let citations = node.get("citations").map(Node::items).into_iter().flatten();
                self.cited = citations.map(|citation| citation.raw().to_owned()).collect();
                Block::Text(before)
            }
            Some("thinking") => {
                out.extend(text("thinking").map(|text| Event::Reasoning { choice: 0, text }));
                self.signature = text("signature");
                Block::Thinking
            }
            Some("redacted_thinking") => {
                out.push(Event::ReasoningEnd {
                    choice: 0,
                    signature: None,
                    sealed: text("data"),
                    id: None,
                    issuer: Some(issuer::CLAUDE.to_owned()),
                });
                Block::Other
            }
            Some("tool_use") => {
                let call = self.calls;
                self.calls = self.calls.saturating_add(1);
                let id = text("id").unwrap_or_default();
                let (name, kind) = (node.string_at("name"), ToolKind::Function);
                out.push(Event::CallStart { choice: 0, call, id, name, kind, signature: None });
                let input = node.get("input").filter(|input| input.members().next().is_some());
                let arguments = input.map(|input| input.raw().to_owned());
                let has_arguments = arguments.is_some();
                out.extend(arguments.map(|arguments| Event::CallDelta { choice: 0, call, arguments }));
                Block::Call(call, has_arguments)
            }
            _ => Block::Other,
        };
        self.blocks.push((index, block));
    }

    fn delta(&mut self, index: u64, node: Node<'_>, out: &mut Vec<Event>) {
        let text = |key: &str| node.text_at(key).filter(|text| !text.is_empty()).map(|text| text.into_owned());
        match node.text_at("type").as_deref() {
            Some("text_delta") => out.extend(text("text").map(|text| self.say(text))),
            Some("thinking_delta") => out.extend(text("thinking").map(|text| Event::Reasoning { choice: 0, text })),
            Some("signature_delta") => {
                if let Some(more) = text("signature") {
                    self.signature.get_or_insert_default().push_str(&more);
                }
            }
            Some("input_json_delta") => {
                let block = self.blocks.iter_mut().rev().find(|(known, _)| *known == index);
                if let (Some((_, Block::Call(call, has_arguments))), Some(arguments)) = (block, text("partial_json")) {
                    *has_arguments = true;
                    out.push(Event::CallDelta { choice: 0, call: *call, arguments });
                }
            }
            Some("citations_delta") => {
                self.cited.extend(node.get("citation").map(|citation| citation.raw().to_owned()))
            }
            _ => {}
        }
    }

    fn close(&mut self, index: u64, out: &mut Vec<Event>) {
        let Some(at) = self.blocks.iter().rposition(|(known, _)| *known == index) else { return };
        let (_, block) = self.blocks.swap_remove(at);
        match block {
            Block::Call(call, has_arguments) => {
                if !has_arguments {
                    out.push(Event::CallDelta { choice: 0, call, arguments: "{}".to_owned() });
                }
                out.push(Event::CallEnd { choice: 0, call });
            }
            Block::Thinking => {
                let signature = self.signature.take();
                let issuer = signature.as_ref().map(|_| issuer::CLAUDE.to_owned());
                out.push(Event::ReasoningEnd { choice: 0, signature, sealed: None, id: None, issuer });
            }
            Block::Text(start) => {
                let span = Span { start, end: self.letters };
                let cited = std::mem::take(&mut self.cited);
                let told = cited.iter().map(|json| cite::annotation(Node::of(json), span));
                out.extend(told.map(|json| Event::Annotation { choice: 0, json }));
            }
            Block::Other => {}
        }
    }

    fn say(&mut self, text: String) -> Event {
        self.letters = self.letters.saturating_add(citation::letters(&text));
        Event::Text { choice: 0, text, logprobs: None }
    }

    fn stop(&mut self, node: Node<'_>, out: &mut Vec<Event>) {
        let Some(word) = node.text_at("stop_reason") else { return };
        // Blocks that were left open end with the answer.
        let open: Vec<u64> = self.blocks.iter().map(|(index, _)| *index).collect();
        open.into_iter().for_each(|index| self.close(index, out));
        let reason = match word.as_ref() {
            "max_tokens" | "model_context_window_exceeded" => Finish::Length,
            "tool_use" => Finish::ToolCalls,
            "refusal" => {
                let explanation = node.at(&["stop_details", "explanation"]).and_then(Node::text);
                out.extend(explanation.map(|text| Event::Refusal {
                    choice: 0,
                    text: text.into_owned(),
                    is_generated: false,
                }));
                Finish::ContentFilter
            }
            _ => Finish::Stop,
        };
        let stop_sequence = node.text_at("stop_sequence").map(|text| text.into_owned());
        out.push(Event::Finish { choice: 0, reason, stop_sequence });
    }
}

fn fault(node: Node<'_>) -> Fault {
    crate::json::from_str(node.raw()).ok().and_then(|value| fault::from_value(&value)).unwrap_or_default()
}
