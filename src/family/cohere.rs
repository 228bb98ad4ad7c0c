//! The Cohere v2 chat family.
//!
//! Wire: Cohere API reference, `POST /v2/chat` and its stream events. Nearly OpenAI's shape for messages and tools, with
//! other names around it.

use crate::error::Failure;
use crate::family::fault::Fault;
use crate::family::target::{Target, Written, cannot, clipped, dropped};
use crate::json::view::Node;
use crate::json::write::Writer;
use crate::text::citation::{Span, also, of_file, of_link};
use crate::text::event::{Event, Finish};
use crate::text::prompt::{Format, Message, Param, Part, Prompt, Role, Source, ToolChoice, ToolKind};
use crate::usage::{Meter, Usage};

/// Parameters that have a counterpart, and its name.
const TAKEN: &[(Param, &str)] = &[
    (Param::Temperature, "temperature"),
    (Param::TopP, "p"),
    (Param::TopK, "k"),
    (Param::Seed, "seed"),
    (Param::PresencePenalty, "presence_penalty"),
    (Param::FrequencyPenalty, "frequency_penalty"),
    (Param::Logprobs, "logprobs"),
];

/// Writes a request.
pub fn write(prompt: &Prompt<'_>, target: &Target<'_>) -> Result<Written, Failure> {
    if prompt.param(Param::N).is_some_and(|n| n != "1") {
        return Err(cannot("n", "more than one choice"));
    }
    let mut taken: Vec<Param> = TAKEN.iter().map(|(param, _)| *param).collect();
    taken.push(Param::Stop);
    let mut w = Writer::object();
    w.text("model", target.upstream).flag("stream", prompt.stream);
    w.array_at("messages");
    for said in &prompt.messages {
        message(said, &mut w)?;
    }
    w.end_array();
    if let Some(limit) = target.limit {
        w.count("max_tokens", limit);
    }
    for (param, name) in TAKEN {
        let range = match param {
            Param::TopP => Some((0.01, 0.99)),
            Param::PresencePenalty | Param::FrequencyPenalty => Some((0.0, 1.0)),
            _ => None,
        };
        let value =
            prompt.param(*param).map(|json| range.map_or(json.into(), |(least, most)| clipped(json, least, most)));
        w.value_if(name, value.as_deref());
    }
    if let Some(stop) = prompt.param(Param::Stop) {
        let is_list = Node::of(stop).is_array();
        w.value("stop_sequences", &if is_list { stop.to_owned() } else { format!("[{stop}]") });
    }
    tools(prompt, target, &mut w);
    match &prompt.format {
        None => {}
        Some(_) if target.traits.structured_output == Some(false) => {
            return Err(cannot("response_format", "a form of the answer"));
        }
        Some(format) => {
            w.object_at("response_format").text("type", "json_object");
            if let Format::Schema { schema, .. } = format {
                w.value("json_schema", schema);
            }
            w.end_object();
        }
    }
    if prompt.reasoning.is_stated() && target.traits.reasoning != Some(false) {
        let is_off = prompt.reasoning.is_off();
        w.object_at("thinking").text("type", if is_off { "disabled" } else { "enabled" });
        if let Some(budget) = prompt.reasoning.budget_tokens.filter(|_| !is_off) {
            w.count("token_budget", budget);
        }
        w.end_object();
    }
    let mut lost = dropped(&prompt.params, &taken);
    lost.extend(prompt.unknown.iter().map(|name| name.clone().into_owned()));
    Ok(Written { path: "/chat".to_owned(), headers: Vec::new(), body: w.close().into_bytes(), dropped: lost })
}

fn message(message: &Message<'_>, w: &mut Writer) -> Result<(), Failure> {
    for part in &message.parts {
        if let Part::Result { id, parts, .. } = part {
            let mut text = String::new();
            for part in parts {
                match part {
                    Part::Text(more) => text.push_str(more),
                    Part::CacheUpToHere(_) => {}
                    _ => return Err(cannot(&message.path, "media in a tool result")),
                }
            }
            w.begin_object().text("role", "tool").text("tool_call_id", id).text("content", &text).end_object();
        }
    }
    let is_said = |part: &&Part<'_>| !matches!(part, Part::Result { .. } | Part::CacheUpToHere(_) | Part::Reasoning(_));
    let said: Vec<&Part<'_>> = message.parts.iter().filter(is_said).collect();
    if said.is_empty() {
        return Ok(());
    }
    let role = match message.role {
        Role::System => "system",
        Role::Assistant => "assistant",
        Role::User | Role::Tool => "user",
    };
    w.begin_object().text("role", role);
    let content: Vec<&Part<'_>> = said.iter().copied().filter(|part| !matches!(part, Part::Call(_))).collect();
    if !content.is_empty() {
        w.array_at("content");
        for part in content {
            match part {
                Part::Text(text) | Part::Refusal(text) | Part::File { source: Source::Text(text), .. } => {
                    w.begin_object().text("type", "text").text("text", text).end_object();
                }
                Part::Image { source, detail } => {
                    let url = match source {
                        Source::Data { media_type, data } => format!("data:{media_type};base64,{data}"),
                        Source::Url(url) => url.clone().into_owned(),
                        Source::Id(_) | Source::Text(_) => return Err(cannot(&message.path, "an image by its id")),
                    };
                    w.begin_object().text("type", "image_url").object_at("image_url").text("url", &url);
                    w.text_if("detail", detail.as_deref()).end_object().end_object();
                }
                _ => return Err(cannot(&message.path, "audio or a file")),
            }
        }
        w.end_array();
    }
    if said.iter().any(|part| matches!(part, Part::Call(_))) {
        w.array_at("tool_calls");
        for part in said {
            if let Part::Call(call) = part {
                let arguments = if call.arguments.is_empty() { "{}" } else { call.arguments.as_ref() };
                w.begin_object().text("id", &call.id).text("type", "function").object_at("function");
                w.text("name", &call.name).text("arguments", arguments).end_object().end_object();
            }
        }
        w.end_array();
    }
    w.end_object();
    Ok(())
}

fn tools(prompt: &Prompt<'_>, target: &Target<'_>, w: &mut Writer) {
    // A choice of tools has no words here; a list of one, or of the allowed ones, says the same.
    let allowed = |name: &str| match &prompt.tool_choice {
        Some(ToolChoice::Named(only)) => only == name,
        Some(ToolChoice::Allowed { names, .. }) => names.iter().any(|known| known == name),
        _ => true,
    };
    let tools: Vec<_> = prompt.tools.iter().filter(|tool| allowed(&tool.name)).collect();
    if tools.is_empty() {
        return;
    }
    w.array_at("tools");
    for tool in &tools {
        w.begin_object().text("type", "function").object_at("function").text("name", &tool.name);
        w.text_if("description", tool.description.as_deref());
        w.value("parameters", &tool.object_schema()).end_object().end_object();
    }
    w.end_array();
    if tools.iter().all(|tool| tool.strict == Some(true)) {
        w.flag("strict_tools", true);
    }
    match &prompt.tool_choice {
        Some(ToolChoice::None) => {
            w.text("tool_choice", "NONE");
        }
        Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Allowed { required: true, .. })
            if target.traits.forced_tool_choice != Some(false) =>
        {
            w.text("tool_choice", "REQUIRED");
        }
        _ => {}
    }
}

/// Decodes answers.
#[derive(Debug, Default)]
pub struct Decoder {
    calls: u32,
    /// The call under way, and whether arguments have come.
    open: Option<(u32, bool)>,
}

impl Decoder {
    /// One frame of a stream. Unknown events are skipped.
    pub fn frame(&mut self, data: &str, out: &mut Vec<Event>) {
        let data = data.trim();
        if data.is_empty() || data == "[DONE]" {
            return;
        }
        let Some(node) = Node::parse(data) else {
            out.push(Event::Malformed);
            return;
        };
        let message = node.at(&["delta", "message"]);
        match node.text_at("type").as_deref() {
            Some("message-start") => {
                out.push(Event::Start { id: node.text_at("id").map(Into::into), model: None });
            }
            Some("content-start" | "content-delta") => {
                if let Some(content) = message.and_then(|message| message.get("content")) {
                    say(content, out);
                }
                weigh(node.get("logprobs"), out);
            }
            Some("tool-plan-delta") => {
                let plan = message.and_then(|message| message.text_at("tool_plan"));
                out.extend(plan.map(|text| Event::Reasoning { choice: 0, text: text.into_owned() }));
            }
            Some("tool-call-start") => {
                if let Some(call) = message.and_then(|message| message.get("tool_calls")) {
                    self.call(call, out);
                }
            }
            Some("tool-call-delta") => {
                let call = message.and_then(|message| message.at(&["tool_calls", "function"]));
                let more = call.and_then(|call| call.text_at("arguments")).filter(|more| !more.is_empty());
                if let (Some(arguments), Some((call, has_arguments))) = (more, &mut self.open) {
                    *has_arguments = true;
                    out.push(Event::CallDelta { choice: 0, call: *call, arguments: arguments.into_owned() });
                }
            }
            Some("tool-call-end") => self.end_call(out),
            Some("citation-start") => {
                if let Some(citations) = message.and_then(|message| message.get("citations")) {
                    cite(citations, out);
                }
            }
            Some("message-end") => {
                if let Some(delta) = node.get("delta") {
                    self.end(delta, out);
                }
            }
            Some(_) => {}
            None if node.get("message").is_some() => out.push(Event::Fault(fault(node))),
            None => out.push(Event::Malformed),
        }
    }

    /// A whole answer.
    pub fn whole(&mut self, text: &str, out: &mut Vec<Event>) {
        let Some(node) = Node::parse(text) else {
            out.push(Event::Malformed);
            return;
        };
        let Some(message) = node.get("message").filter(|message| message.is_object()) else {
            let is_told = node.get("message").is_some();
            out.push(if is_told { Event::Fault(fault(node)) } else { Event::Malformed });
            return;
        };
        out.push(Event::Start { id: node.text_at("id").map(Into::into), model: None });
        let plan = message.text_at("tool_plan").filter(|plan| !plan.is_empty());
        out.extend(plan.map(|text| Event::Reasoning { choice: 0, text: text.into_owned() }));
        message.get("content").map(Node::items).into_iter().flatten().for_each(|content| say(content, out));
        node.get("logprobs").map(Node::items).into_iter().flatten().for_each(|piece| weigh(Some(piece), out));
        for call in message.get("tool_calls").map(Node::items).into_iter().flatten() {
            self.call(call, out);
            self.end_call(out);
        }
        message.get("citations").map(Node::items).into_iter().flatten().for_each(|citation| cite(citation, out));
        self.end(node, out);
    }

    fn call(&mut self, node: Node<'_>, out: &mut Vec<Event>) {
        self.end_call(out);
        let call = self.calls;
        self.calls = self.calls.saturating_add(1);
        let inner = node.get("function");
        let name = inner.map(|inner| inner.string_at("name")).unwrap_or_default();
        let id = node.string_at("id");
        out.push(Event::CallStart { choice: 0, call, id, name, kind: ToolKind::Function, signature: None });
        let arguments = inner.and_then(|inner| inner.text_at("arguments")).filter(|text| !text.is_empty());
        self.open = Some((call, arguments.is_some()));
        out.extend(arguments.map(|text| Event::CallDelta { choice: 0, call, arguments: text.into_owned() }));
    }

    fn end_call(&mut self, out: &mut Vec<Event>) {
        if let Some((call, has_arguments)) = self.open.take() {
            if !has_arguments {
                out.push(Event::CallDelta { choice: 0, call, arguments: "{}".to_owned() });
            }
            out.push(Event::CallEnd { choice: 0, call });
        }
    }

    fn end(&mut self, node: Node<'_>, out: &mut Vec<Event>) {
        self.end_call(out);
        if let Some(usage) = node.get("usage") {
            out.push(Event::Usage(usage_of(usage)));
        }
        let reason = match node.text_at("finish_reason").as_deref() {
            Some("MAX_TOKENS") => Finish::Length,
            Some("TOOL_CALL") => Finish::ToolCalls,
            Some("ERROR" | "ERROR_TOXIC" | "TIMEOUT") => {
                let message = node.string_at("error");
                out.push(Event::Fault(Fault { code: "error".to_owned(), message, ..Fault::default() }));
                return;
            }
            None => return,
            Some(_) if self.calls > 0 => Finish::ToolCalls,
            Some(_) => Finish::Stop,
        };
        out.push(Event::Finish { choice: 0, reason, stop_sequence: None });
        out.push(Event::Done);
    }
}

fn say(content: Node<'_>, out: &mut Vec<Event>) {
    let text = |key: &str| content.text_at(key).filter(|text| !text.is_empty()).map(|text| text.into_owned());
    out.extend(text("thinking").map(|text| Event::Reasoning { choice: 0, text }));
    out.extend(text("text").map(|text| Event::Text { choice: 0, text, logprobs: None }));
}

/// Log probabilities of a piece of text, in the chat dialect's form: it is told as one token.
fn weigh(logprobs: Option<Node<'_>>, out: &mut Vec<Event>) {
    let Some(node) = logprobs else { return };
    let Some(first) = node.get("logprobs").and_then(|list| list.items().next()) else { return };
    let mut w = Writer::object();
    w.array_at("content").begin_object().text("token", &node.string_at("text")).value("logprob", first.raw());
    w.value("bytes", "null").value("top_logprobs", "[]").end_object().end_array().value("refusal", "null");
    out.push(Event::Text { choice: 0, text: String::new(), logprobs: Some(w.close()) });
}

/// A citation has one or more sources: pages, documents of the request, what a tool answered.
fn cite(citation: Node<'_>, out: &mut Vec<Event>) {
    let span = Span { start: citation.u64_at("start").unwrap_or(0), end: citation.u64_at("end").unwrap_or(0) };
    for (at, source) in (0u64..).zip(citation.get("sources").map(Node::items).into_iter().flatten()) {
        let inside = |key: &str| source.at(&["document", key]).and_then(Node::text);
        let id = source.text_at("id").or_else(|| inside("id")).unwrap_or_default();
        let title = inside("title").or_else(|| Some(id.clone()).filter(|id| !id.is_empty()));
        let json = match inside("url") {
            Some(url) => of_link(&url, title.as_deref(), span, &[]),
            None => of_file(&id, title.as_deref(), at, span, &also(source, &["tool_output"])),
        };
        out.push(Event::Annotation { choice: 0, json });
    }
}

fn fault(node: Node<'_>) -> Fault {
    Fault { message: node.string_at("message"), ..Fault::default() }
}

/// Billed units are what the provider charges for; tokens stand in where it names none. Cached ones count apart.
fn usage_of(node: Node<'_>) -> Usage {
    let count = |key: &str| {
        let of = |group: &str| node.get(group).and_then(|group| group.u64_at(key));
        of("billed_units").or_else(|| of("tokens")).unwrap_or(0)
    };
    let input = count("input_tokens");
    let cached = node.u64_at("cached_tokens").unwrap_or(0).min(input);
    Usage::default()
        .with(Meter::InputTokens, input.saturating_sub(cached))
        .with(Meter::CacheReadTokens, cached)
        .with(Meter::OutputTokens, count("output_tokens"))
}

#[cfg(test)]
mod tests;
