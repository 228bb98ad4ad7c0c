//! Responses answers as events.

use std::collections::BTreeMap;

use crate::family::fault::{self, Fault};
use crate::json::view::Node;
use crate::json::write::Writer;
use crate::text::citation;
use crate::text::event::{Event, Finish};
use crate::text::issuer;
use crate::text::prompt::ToolKind;
use crate::usage::{Meter, Usage};

/// What has been told of one output item already, so that its final form adds only what is missing.
#[derive(Debug, Default)]
struct Item {
    /// The call it is, with what has come of its arguments.
    call: Option<(u32, usize)>,
    /// Bytes of text, refusal and reasoning told.
    text: usize,
    refusal: usize,
    reasoning: usize,
    /// Citations told.
    cited: usize,
    ended: bool,
}

/// Decodes answers.
#[derive(Debug, Default)]
pub struct Decoder {
    issuer: String,
    items: BTreeMap<u64, Item>,
    calls: u32,
    started: bool,
    /// Letters of text so far.
    letters: u64,
    /// How many stood before each part of a message, by item and part.
    begun: Vec<((u64, u64), u64)>,
}

impl Decoder {
    /// For a provider's answer.
    pub fn new(provider: &str) -> Decoder {
        Decoder { issuer: issuer::of_provider(provider), ..Decoder::default() }
    }

    /// One frame of a stream. Events of hosted tools and unknown ones are skipped.
    pub fn frame(&mut self, data: &str, out: &mut Vec<Event>) {
        let data = data.trim();
        if data.is_empty() || data == "[DONE]" {
            return;
        }
        let Some(node) = Node::parse(data) else {
            out.push(Event::Malformed);
            return;
        };
        let index = node.u64_at("output_index").unwrap_or(0);
        let delta = || node.text_at("delta").filter(|delta| !delta.is_empty()).map(|delta| delta.into_owned());
        match node.text_at("type").as_deref() {
            Some("response.created" | "response.in_progress" | "response.queued") => {
                if let Some(response) = node.get("response") {
                    self.start(response, out);
                }
            }
            Some("response.output_item.added") => {
                if let Some(item) = node.get("item") {
                    self.open(index, item, out);
                }
            }
            Some("response.output_item.done") => {
                if let Some(item) = node.get("item") {
                    self.done(index, item, out);
                }
            }
            Some("response.output_text.delta") => {
                if let Some(text) = delta() {
                    self.item(index).text += text.len();
                    self.begin((index, node.u64_at("content_index").unwrap_or(0)));
                    self.letters = self.letters.saturating_add(citation::letters(&text));
                    let logprobs = logprobs(node.get("logprobs"));
                    out.push(Event::Text { choice: 0, text, logprobs });
                }
            }
            Some("response.refusal.delta") => {
                if let Some(text) = delta() {
                    self.item(index).refusal += text.len();
                    out.push(Event::Refusal { choice: 0, text, is_generated: true });
                }
            }
            Some("response.reasoning_summary_text.delta" | "response.reasoning_text.delta") => {
                if let Some(text) = delta() {
                    self.item(index).reasoning += text.len();
                    out.push(Event::Reasoning { choice: 0, text });
                }
            }
            Some("response.function_call_arguments.delta" | "response.custom_tool_call_input.delta") => {
                if let (Some(arguments), Some((call, told))) = (delta(), self.item(index).call.as_mut()) {
                    *told += arguments.len();
                    out.push(Event::CallDelta { choice: 0, call: *call, arguments });
                }
            }
            Some("response.output_text.annotation.added") => {
                let before = self.begin((index, node.u64_at("content_index").unwrap_or(0)));
                self.item(index).cited += 1;
                out.extend(node.get("annotation").and_then(|annotation| cited(annotation, before)));
            }
            Some("response.completed" | "response.incomplete" | "response.failed" | "response.cancelled") => {
                if let Some(response) = node.get("response") {
                    self.end(response, out);
                }
            }
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
        let has_output = node.get("output").is_some_and(Node::is_array);
        if node.get("error").is_some() && !has_output {
            out.push(Event::Fault(fault(node)));
        } else if has_output {
            self.start(node, out);
            self.end(node, out);
        } else {
            out.push(Event::Malformed);
        }
    }

    /// How many letters stand before a part that goes on or begins now.
    fn begin(&mut self, place: (u64, u64)) -> u64 {
        if let Some((_, before)) = self.begun.iter().find(|(known, _)| *known == place) {
            return *before;
        }
        self.begun.push((place, self.letters));
        self.letters
    }

    fn item(&mut self, index: u64) -> &mut Item {
        self.items.entry(index).or_default()
    }

    fn start(&mut self, response: Node<'_>, out: &mut Vec<Event>) {
        if !self.started {
            self.started = true;
            out.push(Event::Start {
                id: response.text_at("id").map(Into::into),
                model: response.text_at("model").map(Into::into),
            });
        }
    }

    fn open(&mut self, index: u64, item: Node<'_>, out: &mut Vec<Event>) {
        let kind = match item.text_at("type").as_deref() {
            Some("function_call") => ToolKind::Function,
            Some("custom_tool_call") => ToolKind::Custom,
            _ => return,
        };
        if self.item(index).call.is_some() {
            return;
        }
        let call = self.calls;
        self.calls = self.calls.saturating_add(1);
        self.item(index).call = Some((call, 0));
        let id = item.text_at("call_id").or_else(|| item.text_at("id"));
        let id = id.unwrap_or_default().into_owned();
        out.push(Event::CallStart { choice: 0, call, id, name: item.string_at("name"), kind, signature: None });
    }

    /// An item in its final form: what its deltas left out is told now.
    fn done(&mut self, index: u64, node: Node<'_>, out: &mut Vec<Event>) {
        self.open(index, node, out);
        let issuer = self.issuer.clone();
        let item = self.item(index);
        if std::mem::replace(&mut item.ended, true) {
            return;
        }
        let rest = |told: usize, text: String| text.get(told..).filter(|rest| !rest.is_empty()).map(str::to_owned);
        match node.text_at("type").as_deref() {
            Some("message") => {
                let join = |kind: &str, key: &str| -> String {
                    let parts = node.get("content").map(Node::items).into_iter().flatten();
                    let of_kind = parts.filter(|part| part.text_at("type").is_some_and(|known| known == kind));
                    of_kind.map(|part| part.string_at(key)).collect()
                };
                let (told, refused, cited) = (item.text, item.refusal, item.cited);
                let whole = join("output_text", "text");
                let untold = rest(told, whole.clone());
                // Where this message begins: what is told of it now counts already.
                let so_far = whole.get(..told.min(whole.len())).map(citation::letters).unwrap_or_default();
                let before = self.letters.saturating_sub(so_far);
                self.letters = before.saturating_add(citation::letters(&whole));
                out.extend(untold.map(|text| Event::Text { choice: 0, text, logprobs: None }));
                out.extend(rest(refused, join("refusal", "refusal")).map(|text| Event::Refusal {
                    choice: 0,
                    text,
                    is_generated: true,
                }));
                out.extend(annotations(node, before).into_iter().skip(cited));
            }
            Some("reasoning") => {
                let join = |list: &str| -> String {
                    let parts = node.get(list).map(Node::items).into_iter().flatten();
                    parts.map(|part| part.string_at("text")).collect()
                };
                let (summary, content) = (join("summary"), join("content"));
                let text = if summary.is_empty() { content } else { summary };
                if let Some(text) = Some(text).filter(|text| item.reasoning == 0 && !text.is_empty()) {
                    out.push(Event::Reasoning { choice: 0, text });
                }
                let sealed = node.text_at("encrypted_content").map(|text| text.into_owned());
                let issuer = sealed.as_ref().map(|_| issuer);
                let id = node.text_at("id").map(|text| text.into_owned());
                out.push(Event::ReasoningEnd { choice: 0, signature: None, sealed, id, issuer });
            }
            Some("function_call" | "custom_tool_call") => {
                let Some((call, told)) = item.call else { return };
                let arguments = node.text_at("arguments").or_else(|| node.text_at("input")).unwrap_or_default();
                let arguments = match arguments.is_empty() && told == 0 && node.get("input").is_none() {
                    true => "{}".to_owned(),
                    false => arguments.into_owned(),
                };
                if let Some(arguments) = rest(told, arguments) {
                    out.push(Event::CallDelta { choice: 0, call, arguments });
                }
                out.push(Event::CallEnd { choice: 0, call });
            }
            _ => {}
        }
    }

    fn end(&mut self, response: Node<'_>, out: &mut Vec<Event>) {
        for (index, item) in (0u64..).zip(response.get("output").map(Node::items).into_iter().flatten()) {
            self.done(index, item, out);
        }
        if let Some(tier) = response.text_at("service_tier") {
            out.push(Event::ServiceTier(tier.into_owned()));
        }
        if let Some(usage) = response.get("usage") {
            out.push(Event::Usage(usage_of(usage).with(Meter::WebSearches, searches(response))));
        }
        let why = response.at(&["incomplete_details", "reason"]).and_then(Node::text);
        let reason = match (response.text_at("status").as_deref(), why.as_deref()) {
            (Some("failed" | "cancelled"), _) => {
                out.push(Event::Fault(fault(response)));
                return;
            }
            (Some("incomplete"), Some("content_filter")) => Finish::ContentFilter,
            (Some("incomplete"), _) => Finish::Length,
            _ if self.calls > 0 => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        out.push(Event::Finish { choice: 0, reason, stop_sequence: None });
        out.push(Event::Done);
    }
}

/// `error: {code, message}`, or the same members at the top of an error event.
fn fault(node: Node<'_>) -> Fault {
    let told = crate::json::from_str(node.raw()).ok().and_then(|value| fault::from_value(&value));
    told.unwrap_or_else(|| Fault {
        code: node.string_at("code").to_lowercase(),
        message: node.string_at("message"),
        ..Fault::default()
    })
}

fn logprobs(list: Option<Node<'_>>) -> Option<String> {
    let list = list.filter(|list| list.items().next().is_some())?;
    Some(Writer::object().value("content", list.raw()).value("refusal", "null").clone().close())
}

fn cited(flat: Node<'_>, before: u64) -> Option<Event> {
    citation::nested(flat, before).map(|json| Event::Annotation { choice: 0, json })
}

/// All citations of a message; `before` letters stand before it.
fn annotations(message: Node<'_>, mut before: u64) -> Vec<Event> {
    let mut all = Vec::new();
    for part in message.get("content").map(Node::items).into_iter().flatten() {
        all.extend(part.get("annotations").map(Node::items).into_iter().flatten().filter_map(|one| cited(one, before)));
        before = before.saturating_add(part.text_at("text").map_or(0, |text| citation::letters(&text)));
    }
    all
}

/// How often the web was searched; that a page found so was opened or looked through is no search.
fn searches(response: Node<'_>) -> u64 {
    let items = response.get("output").map(Node::items).into_iter().flatten();
    let is_search = |item: &Node<'_>| {
        let action = item.at(&["action", "type"]).and_then(Node::text);
        item.text_at("type").as_deref() == Some("web_search_call") && action.is_none_or(|action| action == "search")
    };
    u64::try_from(items.filter(is_search).count()).unwrap_or(u64::MAX)
}

/// Cached and written tokens are inside the input, reasoning is inside the output.
fn usage_of(node: Node<'_>) -> Usage {
    let (input, output) = (node.u64_at("input_tokens").unwrap_or(0), node.u64_at("output_tokens").unwrap_or(0));
    let details = node.get("input_tokens_details");
    let of = |key: &str| details.and_then(|details| details.u64_at(key)).unwrap_or(0);
    let cached = of("cached_tokens").min(input);
    let written = of("cache_write_tokens").min(input.saturating_sub(cached));
    let half_day = details.and_then(|details| details.at(&["cache_write_tokens_details", "ttl_12h_tokens"]));
    let half_day = half_day.and_then(Node::u64).unwrap_or(0).min(written);
    let reasoning =
        node.at(&["output_tokens_details", "reasoning_tokens"]).and_then(Node::u64).unwrap_or(0).min(output);
    Usage::default()
        .with(Meter::InputTokens, input.saturating_sub(cached).saturating_sub(written))
        .with(Meter::CacheReadTokens, cached)
        .with(Meter::CacheWriteTokens, written.saturating_sub(half_day))
        .with(Meter::CacheWrite12hTokens, half_day)
        .with(Meter::OutputTokens, output.saturating_sub(reasoning))
        .with(Meter::ReasoningTokens, reasoning)
}
