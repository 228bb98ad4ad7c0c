//! The OpenAI chat completions family from and to the typed form, for clients of another dialect.
//!
//! Wire: OpenAI API reference; what hosts send beside it is accepted: whole tool calls in one chunk, calls without an
//! index, arguments as an object, reasoning under several names, content as an array of parts, usage in any chunk.

use serde_json::Value;

use crate::error::Failure;
use crate::family::fault::{self, Fault};
use crate::family::openai_chat::{self, DONE, PATH};
use crate::family::quirk::Quirk;
use crate::family::target::{ReasoningStyle, Target, Written, cannot, dropped};
use crate::json::progress::Progress;
use crate::json::view::Node;
use crate::json::write::Writer;
use crate::text::citation::{Span, of_link};
use crate::text::event::{Event, Finish};
use crate::text::issuer;
use crate::text::prompt::{Effort, Format, Message, Param, Part, Prompt, Role, Source, Tool, ToolChoice, ToolKind};
use crate::text::terms::Term;

/// Parameters that go out under their own names.
const TAKEN: &[Param] = &[
    Param::Audio,
    Param::FrequencyPenalty,
    Param::LogitBias,
    Param::Logprobs,
    Param::Metadata,
    Param::Modalities,
    Param::N,
    Param::ParallelToolCalls,
    Param::Prediction,
    Param::PresencePenalty,
    Param::PromptCacheKey,
    Param::SafetyIdentifier,
    Param::Seed,
    Param::ServiceTier,
    Param::Stop,
    Param::Store,
    Param::Temperature,
    Param::TopLogprobs,
    Param::TopP,
    Param::User,
    Param::Verbosity,
    Param::WebSearchOptions,
];

/// What a model without free sampling refuses.
pub const SAMPLING: &[Param] = &[Param::Temperature, Param::TopP, Param::TopK, Param::MinP];

/// Writes a request.
pub fn write(prompt: &Prompt<'_>, target: &Target<'_>) -> Result<Written, Failure> {
    let is_dropped =
        |name: &str| target.quirks.iter().any(|q| matches!(q, Quirk::Drop(list) if list.iter().any(|f| f == name)));
    let sent_as = |name: &'static str| {
        let renamed = target.quirks.iter().find_map(|quirk| match quirk {
            Quirk::Rename(from, to) if from == name => Some(to.as_str()),
            _ => None,
        });
        renamed.unwrap_or(name)
    };
    let taken: Vec<Param> = TAKEN
        .iter()
        .copied()
        .filter(|param| !is_dropped(param.name()))
        .filter(|param| target.traits.sampling_params != Some(false) || !SAMPLING.contains(param))
        .collect();
    let mut w = Writer::object();
    w.text("model", target.upstream);
    w.array_at("messages");
    for message in &prompt.messages {
        self::message(message, target, &mut w)?;
    }
    w.end_array();
    if prompt.stream {
        w.flag("stream", true);
        if !target.quirks.contains(&Quirk::NoStreamOptions) {
            w.value("stream_options", r#"{"include_usage":true}"#);
        }
    }
    if let Some(limit) = target.limit {
        w.count(sent_as("max_completion_tokens"), limit);
    }
    tools(prompt, target, &mut w);
    if let Some(format) = &prompt.format {
        if target.traits.structured_output == Some(false) || is_dropped("response_format") {
            return Err(cannot("response_format", "a form of the answer"));
        }
        response_format(format, &mut w);
    }
    reasoning(&prompt.reasoning, target, &mut w);
    for (param, json) in prompt.params.iter().filter(|(param, _)| taken.contains(param)) {
        w.value(sent_as(param.name()), json);
    }
    let mut lost = dropped(&prompt.params, &taken);
    lost.extend(prompt.unknown.iter().map(|name| name.clone().into_owned()));
    if prompt.names_speakers() && target.quirks.contains(&Quirk::NoMessageName) {
        lost.push("name".to_owned());
    }
    Ok(Written { path: PATH.to_owned(), headers: Vec::new(), body: w.close().into_bytes(), dropped: lost })
}

fn message(message: &Message<'_>, target: &Target<'_>, w: &mut Writer) -> Result<(), Failure> {
    // Each result is a message of its own here.
    for part in &message.parts {
        if let Part::Result { id, parts, .. } = part {
            let mut text = String::new();
            for part in parts {
                match part {
                    Part::Text(more) => text.push_str(more),
                    Part::CacheUpToHere(_) => {}
                    Part::Image { .. } => return Err(cannot(&message.path, "an image in a tool result")),
                    _ => return Err(cannot(&message.path, "a file in a tool result")),
                }
            }
            w.begin_object().text("role", "tool").text("tool_call_id", id).text("content", &text).end_object();
        }
    }
    let said: Vec<&Part<'_>> =
        message.parts.iter().filter(|part| !matches!(part, Part::Result { .. } | Part::CacheUpToHere(_))).collect();
    if said.is_empty() && message.parts.iter().any(|part| matches!(part, Part::Result { .. })) {
        return Ok(());
    }
    let role = match message.role {
        Role::System => "system",
        Role::Assistant => "assistant",
        Role::User | Role::Tool => "user",
    };
    w.begin_object().text("role", role);
    if !target.quirks.contains(&Quirk::NoMessageName) {
        w.text_if("name", message.name.as_deref());
    }
    match message.role {
        Role::Assistant => assistant(&said, message, target, w)?,
        _ => content(&said, message, target.quirks.contains(&Quirk::PlainMedia), w)?,
    }
    w.end_object();
    Ok(())
}

fn content(parts: &[&Part<'_>], message: &Message<'_>, is_plain: bool, w: &mut Writer) -> Result<(), Failure> {
    if let [] | [Part::Text(_)] = parts {
        let only = parts.first().and_then(|part| if let Part::Text(text) = part { Some(text.as_ref()) } else { None });
        w.text("content", only.unwrap_or_default());
        return Ok(());
    }
    w.array_at("content");
    for part in parts {
        w.begin_object();
        match part {
            Part::Text(text) | Part::Refusal(text) => {
                w.text("type", "text").text("text", text);
            }
            Part::Image { source, detail } => {
                w.text("type", "image_url").object_at("image_url");
                w.text("url", &url(source, &message.path, "an image by its id")?).text_if("detail", detail.as_deref());
                w.end_object();
            }
            Part::Audio { data, .. } if is_plain => {
                w.text("type", "input_audio").text("input_audio", data);
            }
            Part::Audio { data, format } => {
                w.text("type", "input_audio").object_at("input_audio").text("data", data).text("format", format);
                w.end_object();
            }
            Part::File { source: Source::Text(text), .. } => {
                w.text("type", "text").text("text", text);
            }
            Part::File { source, name, .. } if is_plain => {
                w.text("type", "document_url").text("document_url", &url(source, &message.path, "a file by its id")?);
                w.text_if("document_name", name.as_deref());
            }
            Part::File { source, name, .. } => {
                w.text("type", "file").object_at("file");
                match source {
                    Source::Id(_) => return Err(cannot(&message.path, "a file by its id")),
                    Source::Url(_) => return Err(cannot(&message.path, "a file by its URL")),
                    _ => w.text("filename", name.as_deref().unwrap_or("file")),
                };
                w.text("file_data", &url(source, &message.path, "a file")?).end_object();
            }
            Part::Other { kind, .. } => return Err(cannot(&message.path, &format!("a part of type {kind}"))),
            Part::Reasoning(_) | Part::Call(_) | Part::Result { .. } | Part::CacheUpToHere(_) => {
                return Err(cannot(&message.path, "this part"));
            }
        }
        w.end_object();
    }
    w.end_array();
    Ok(())
}

fn url(source: &Source<'_>, path: &str, what: &str) -> Result<String, Failure> {
    match source {
        Source::Data { media_type, data } => Ok(format!("data:{media_type};base64,{data}")),
        Source::Url(url) => Ok(url.clone().into_owned()),
        Source::Id(_) | Source::Text(_) => Err(cannot(path, what)),
    }
}

fn assistant(parts: &[&Part<'_>], message: &Message<'_>, target: &Target<'_>, w: &mut Writer) -> Result<(), Failure> {
    let (mut text, mut refusal, mut thought) = (String::new(), String::new(), String::new());
    let mut calls = Vec::new();
    let mut details = Writer::new();
    details.begin_array();
    let own = issuer::of_provider(target.provider);
    for part in parts {
        match part {
            Part::Text(more) => text.push_str(more),
            Part::Refusal(more) => refusal.push_str(more),
            Part::Call(call) => calls.push(call),
            Part::Reasoning(reasoning) => {
                thought.push_str(reasoning.text.as_deref().unwrap_or_default());
                if reasoning.issuer.as_deref() == Some(own.as_str()) {
                    details.begin_object();
                    match &reasoning.sealed {
                        Some(sealed) => details.text("type", "reasoning.encrypted").text("data", sealed),
                        None => details
                            .text("type", "reasoning.text")
                            .text_if("text", reasoning.text.as_deref())
                            .text_if("signature", reasoning.signature.as_deref()),
                    };
                    details.text_if("id", reasoning.id.as_deref()).end_object();
                }
            }
            Part::Image { .. } | Part::Audio { .. } | Part::File { .. } => {
                return Err(cannot(&message.path, "media said by the assistant"));
            }
            _ => return Err(cannot(&message.path, "this part")),
        }
    }
    match text.is_empty() && (!calls.is_empty() || !refusal.is_empty()) {
        true => w.value("content", "null"),
        false => w.text("content", &text),
    };
    if !refusal.is_empty() {
        w.text("refusal", &refusal);
    }
    // Hosts of these styles want the thought of a tool loop back, and refuse the call without it.
    let wants_thought = matches!(
        target.traits.reasoning_style,
        Some(ReasoningStyle::ThinkingType | ReasoningStyle::ThinkingTypeAndEffort | ReasoningStyle::EnableThinking)
    );
    if wants_thought && !thought.is_empty() && !calls.is_empty() {
        w.text("reasoning_content", &thought);
    }
    details.end_array();
    if details.as_str() != "[]" {
        w.value("reasoning_details", details.as_str());
    }
    if !calls.is_empty() {
        w.array_at("tool_calls");
        for call in calls {
            w.begin_object().text("id", &call.id);
            match call.kind {
                ToolKind::Function => {
                    let arguments = if call.arguments.is_empty() { "{}" } else { call.arguments.as_ref() };
                    w.text("type", "function").object_at("function");
                    w.text("name", &call.name).text("arguments", arguments).end_object();
                }
                ToolKind::Custom => {
                    w.text("type", "custom").object_at("custom");
                    w.text("name", &call.name).text("input", &call.arguments).end_object();
                }
            }
            w.end_object();
        }
        w.end_array();
    }
    Ok(())
}

fn tools(prompt: &Prompt<'_>, target: &Target<'_>, w: &mut Writer) {
    let allowed = |tool: &Tool<'_>| match &prompt.tool_choice {
        Some(ToolChoice::Allowed { names, .. }) => names.contains(&tool.name),
        _ => true,
    };
    let tools: Vec<&Tool<'_>> = prompt.tools.iter().filter(|tool| allowed(tool)).collect();
    if tools.is_empty() {
        return;
    }
    w.array_at("tools");
    for tool in tools {
        let (kind, member) = match tool.kind {
            ToolKind::Function => ("function", "parameters"),
            ToolKind::Custom => ("custom", "format"),
        };
        w.begin_object().text("type", kind).object_at(kind).text("name", &tool.name);
        w.text_if("description", tool.description.as_deref()).value_if(member, tool.schema);
        if let Some(strict) = tool.strict {
            w.flag("strict", strict);
        }
        w.end_object().end_object();
    }
    w.end_array();
    let may_force = target.traits.forced_tool_choice != Some(false);
    match &prompt.tool_choice {
        None => {}
        Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. }) => {
            w.text("tool_choice", "auto");
        }
        Some(ToolChoice::None) => {
            w.text("tool_choice", "none");
        }
        Some(_) if !may_force => {
            w.text("tool_choice", "auto");
        }
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => {
            w.text("tool_choice", "required");
        }
        Some(ToolChoice::Named(name)) => {
            let is_custom = prompt.tools.iter().any(|tool| tool.name == *name && tool.kind == ToolKind::Custom);
            let kind = if is_custom { "custom" } else { "function" };
            w.object_at("tool_choice").text("type", kind).object_at(kind).text("name", name).end_object().end_object();
        }
    }
}

fn response_format(format: &Format<'_>, w: &mut Writer) {
    w.object_at("response_format");
    match format {
        Format::Json => {
            w.text("type", "json_object");
        }
        Format::Schema { name, description, schema, strict } => {
            w.text("type", "json_schema").object_at("json_schema").text("name", name);
            w.text_if("description", description.as_deref()).value("schema", schema);
            if let Some(strict) = strict {
                w.flag("strict", *strict);
            }
            w.end_object();
        }
    }
    w.end_object();
}

/// A budget as the effort that stands for about as many tokens.
fn effort_of(effort: &Effort<'_>) -> Option<String> {
    if effort.is_off() {
        return Some("none".to_owned());
    }
    match (&effort.effort, effort.budget_tokens, effort.enabled) {
        (Some(effort), _, _) => Some(effort.clone().into_owned()),
        (None, Some(budget), _) => Some(match budget {
            0..=2_048 => "low".to_owned(),
            2_049..=12_000 => "medium".to_owned(),
            _ => "high".to_owned(),
        }),
        (None, None, Some(true)) => Some("medium".to_owned()),
        (None, None, _) => None,
    }
}

/// An effort as a budget, for hosts that take one.
fn budget_of(effort: &Effort<'_>, word: &str) -> Option<u64> {
    effort.budget_tokens.or(match word {
        "none" => None,
        "minimal" | "low" => Some(1_024),
        "medium" => Some(8_192),
        _ => Some(24_576),
    })
}

fn reasoning(effort: &Effort<'_>, target: &Target<'_>, w: &mut Writer) {
    let Some(wanted) = effort_of(effort) else { return };
    if target.traits.reasoning == Some(false) {
        return;
    }
    let word = target.traits.effort(&wanted);
    let is_on = word != "none";
    let switch = |w: &mut Writer| {
        w.object_at("thinking").text("type", if is_on { "enabled" } else { "disabled" }).end_object();
    };
    match target.traits.reasoning_style.unwrap_or(ReasoningStyle::ReasoningEffort) {
        ReasoningStyle::ReasoningEffort => {
            w.text("reasoning_effort", word);
        }
        ReasoningStyle::ThinkingType => switch(w),
        ReasoningStyle::ThinkingTypeAndEffort => {
            switch(w);
            if is_on {
                w.text("reasoning_effort", word);
            }
        }
        ReasoningStyle::EnableThinking => {
            w.flag("enable_thinking", is_on);
            if let Some(budget) = budget_of(effort, word).filter(|_| is_on) {
                w.count("thinking_budget", budget);
            }
        }
        ReasoningStyle::ReasoningObject => {
            w.object_at("reasoning");
            match (is_on, effort.budget_tokens) {
                (false, _) => w.flag("enabled", false),
                (true, Some(budget)) => w.count("max_tokens", budget),
                (true, None) => w.text("effort", word),
            };
            w.end_object();
        }
        ReasoningStyle::ReasoningEnabledAndEffort => {
            w.object_at("reasoning").flag("enabled", is_on).end_object();
            if is_on {
                w.text("reasoning_effort", word);
            }
        }
        ReasoningStyle::ChatTemplateKwargs => {
            w.object_at("chat_template_kwargs").flag("enable_thinking", is_on).flag("thinking", is_on).end_object();
        }
        ReasoningStyle::ThinkingOutputConfig | ReasoningStyle::ThinkingTokenBudget => switch(w),
        ReasoningStyle::ThinkingConfig => {
            w.text("reasoning_effort", word);
        }
    }
}

/// One tool call under way.
#[derive(Debug)]
struct Open {
    choice: u32,
    /// The provider's own index, where it sends one.
    index: Option<u64>,
    id: String,
    call: u32,
    kind: ToolKind,
    ended: bool,
    has_arguments: bool,
    /// How far its arguments are, where they are JSON.
    progress: Progress,
}

/// Decodes answers.
#[derive(Debug, Default)]
pub struct Decoder {
    quirks: Vec<Quirk>,
    issuer: String,
    started: bool,
    calls: Vec<Open>,
    /// Links of sources and their titles.
    citations: Vec<(String, Option<String>)>,
    finished: bool,
}

impl Decoder {
    /// For a provider's answer.
    pub fn new(quirks: &[Quirk], provider: &str) -> Decoder {
        Decoder { quirks: quirks.to_vec(), issuer: issuer::of_provider(provider), ..Decoder::default() }
    }

    /// One frame of a stream.
    pub fn frame(&mut self, data: &str, out: &mut Vec<Event>) {
        let data = data.trim();
        if data.is_empty() {
            return;
        }
        if data == DONE {
            out.push(Event::Done);
            return;
        }
        match Node::parse(data) {
            Some(node) => self.object(node, out),
            None => out.push(Event::Malformed),
        }
    }

    /// A whole answer.
    pub fn whole(&mut self, text: &str, out: &mut Vec<Event>) {
        let Some(node) = Node::parse(text) else {
            out.push(Event::Malformed);
            return;
        };
        self.object(node, out);
        let told = out.iter().any(|event| matches!(event, Event::Fault(_)));
        if !told && !node.get("choices").is_some_and(Node::is_array) {
            out.push(Event::Malformed);
        }
        self.finish(out);
        out.push(Event::Done);
    }

    /// The stream ended in good order.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        self.cite(out);
    }

    fn object(&mut self, node: Node<'_>, out: &mut Vec<Event>) {
        if let Some(fault) = self.fault(node) {
            out.push(Event::Fault(fault));
            return;
        }
        let has_choices = node.get("choices").is_some_and(|choices| choices.items().next().is_some());
        if !self.started && has_choices {
            self.started = true;
            out.push(Event::Start {
                id: node.text_at("id").map(Into::into),
                model: node.text_at("model").map(Into::into),
            });
        }
        if let Some(tier) = node.text_at("service_tier") {
            out.push(Event::ServiceTier(tier.into_owned()));
        }
        let mut nested = None;
        for choice in node.get("choices").map(Node::items).into_iter().flatten() {
            self.choice(choice, out);
            nested = nested.or(choice.get("usage"));
        }
        if let Some(list) = node.get("citations") {
            self.citations = list.items().filter_map(Node::text).map(|url| (url.into_owned(), None)).collect();
        }
        for found in node.get("search_results").map(Node::items).into_iter().flatten() {
            let known = self.citations.iter_mut().find(|(url, _)| found.text_at("url").is_some_and(|one| one == *url));
            if let Some((_, title)) = known {
                *title = found.text_at("title").map(Into::into);
            }
        }
        let size = node.get("usage").and_then(|usage| openai_chat::search_context_size(usage.raw()));
        out.extend(size.map(|size| Event::Term(Term::SearchContextSize, size)));
        let usage = node.get("usage").or_else(|| node.at(&["x_groq", "usage"])).or(nested);
        if let Some(usage) = usage.and_then(|usage| openai_chat::usage(usage.raw(), &self.quirks)) {
            out.push(Event::Usage(usage));
        }
    }

    fn fault(&self, node: Node<'_>) -> Option<Fault> {
        let base_resp = node.get("base_resp").filter(|_| self.quirks.contains(&Quirk::BaseResp));
        let odd = node.get("choices").is_none() && node.get("usage").is_none();
        let groq = node.at(&["x_groq", "error"]);
        let is_error = node.get("error").is_some()
            || groq.is_some()
            || base_resp.is_some()
            || node.text_at("object").as_deref() == Some("error")
            || odd;
        if !is_error {
            return None;
        }
        let told = crate::json::from_str::<Value>(node.raw()).ok().and_then(|value| fault::from_value(&value));
        told.or_else(|| groq.map(|error| Fault { message: error.raw().to_owned(), ..Fault::default() }))
    }

    fn choice(&mut self, node: Node<'_>, out: &mut Vec<Event>) {
        let choice = node.u64_at("index").and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
        for key in ["delta", "message"] {
            if let Some(delta) = node.get(key) {
                let logprobs = node.get("logprobs").map(|node| node.raw().to_owned());
                self.delta(delta, key == "message", choice, logprobs, out);
            }
        }
        let Some(word) = node.text_at("finish_reason").filter(|word| !word.is_empty()) else { return };
        if openai_chat::is_error_finish(&word) {
            out.push(Event::Fault(Fault { code: word.into_owned(), ..Fault::default() }));
            return;
        }
        let has_calls = self.end_calls(choice, out);
        self.cite(out);
        let reason = match openai_chat::finish_reason(&word) {
            "length" => Finish::Length,
            "content_filter" => Finish::ContentFilter,
            "tool_calls" => Finish::ToolCalls,
            _ if has_calls => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        self.finished = true;
        out.push(Event::Finish { choice, reason, stop_sequence: None });
    }

    /// Ends what calls of a choice are open; says whether there were any.
    pub(super) fn end_calls(&mut self, choice: u32, out: &mut Vec<Event>) -> bool {
        for open in self.calls.iter_mut().filter(|open| open.choice == choice && !open.ended) {
            end(open, out);
        }
        self.calls.iter().any(|open| open.choice == choice)
    }

    /// Sources of the answer as a list of links, as annotations.
    fn cite(&mut self, out: &mut Vec<Event>) {
        for (url, title) in self.citations.drain(..) {
            let json = of_link(&url, title.as_deref(), Span::default(), &[]);
            out.push(Event::Annotation { choice: 0, json });
        }
    }

    fn delta(&mut self, delta: Node<'_>, is_whole: bool, choice: u32, logprobs: Option<String>, out: &mut Vec<Event>) {
        let thought = ["reasoning_content", "reasoning"].into_iter().find_map(|key| delta.text_at(key));
        let has_thought = thought.is_some();
        if let Some(text) = thought.filter(|text| !text.is_empty()) {
            out.push(Event::Reasoning { choice, text: text.into_owned() });
        }
        for detail in delta.get("reasoning_details").map(Node::items).into_iter().flatten() {
            self.detail(detail, choice, has_thought, out);
        }
        if let Some(content) = delta.get("content") {
            match content.text() {
                Some(text) if !text.is_empty() || logprobs.is_some() => {
                    out.push(Event::Text { choice, text: text.into_owned(), logprobs });
                }
                Some(_) => {}
                None => content.items().for_each(|part| self::part(part, choice, out)),
            }
        }
        if let Some(text) = delta.text_at("refusal").filter(|text| !text.is_empty()) {
            out.push(Event::Refusal { choice, text: text.into_owned(), is_generated: true });
        }
        // In a whole answer each entry is a call of its own.
        for (place, call) in (0u64..).zip(delta.get("tool_calls").map(Node::items).into_iter().flatten()) {
            let index = call.u64_at("index").or(is_whole.then_some(place));
            self.call(call, index, call.get("function").or_else(|| call.get("custom")), choice, out);
        }
        if let Some(call) = delta.get("function_call") {
            self.call(call, None, Some(call), choice, out);
        }
        for annotation in delta.get("annotations").map(Node::items).into_iter().flatten() {
            out.push(Event::Annotation { choice, json: annotation.raw().to_owned() });
        }
        for image in delta.get("images").map(Node::items).into_iter().flatten() {
            let url = image.at(&["image_url", "url"]).and_then(Node::text).or_else(|| image.text_at("image_url"));
            if let Some(url) = url {
                out.push(Event::Image { choice, url: url.into_owned() });
            }
        }
        if let Some(audio) = delta.get("audio") {
            out.push(Event::Audio { choice, json: audio.raw().to_owned() });
        }
    }

    fn detail(&self, detail: Node<'_>, choice: u32, has_text: bool, out: &mut Vec<Event>) {
        let text = detail.text_at("text").or_else(|| detail.text_at("summary"));
        if let Some(text) = text.filter(|text| !has_text && !text.is_empty()) {
            out.push(Event::Reasoning { choice, text: text.into_owned() });
        }
        let (signature, sealed) = (detail.text_at("signature"), detail.text_at("data"));
        if signature.is_some() || sealed.is_some() {
            out.push(Event::ReasoningEnd {
                choice,
                signature: signature.map(Into::into),
                sealed: sealed.map(Into::into),
                id: detail.text_at("id").map(Into::into),
                issuer: Some(self.issuer.clone()),
            });
        }
    }

    /// A piece of a tool call. What ties pieces together: the index, else the id, else the order.
    pub(super) fn call(
        &mut self,
        node: Node<'_>,
        index: Option<u64>,
        inner: Option<Node<'_>>,
        choice: u32,
        out: &mut Vec<Event>,
    ) {
        let id = node.text_at("id").filter(|id| !id.is_empty());
        let name = inner.and_then(|inner| inner.text_at("name")).filter(|name| !name.is_empty());
        let known = self.calls.iter().rposition(|open| {
            open.choice == choice
                && match (index, &id) {
                    // Some hosts give all calls the same number: another id and a name begin another call.
                    (Some(index), Some(id)) if name.is_some() => open.index == Some(index) && open.id == **id,
                    (Some(index), _) => open.index == Some(index),
                    (None, Some(id)) => open.id == **id,
                    (None, None) => false,
                }
        });
        let last = self.calls.iter().rposition(|open| open.choice == choice);
        let at = match (known, index, &id, &name) {
            (Some(at), _, _, _) => Some(at),
            (None, None, None, None) => last,
            _ => None,
        };
        let at = match at {
            Some(at) => at,
            None => {
                let Some(name) = name else { return };
                let call =
                    u32::try_from(self.calls.iter().filter(|open| open.choice == choice).count()).unwrap_or(u32::MAX);
                let id = id.unwrap_or_default().into_owned();
                let kind = if node.text_at("type").as_deref() == Some("custom") {
                    ToolKind::Custom
                } else {
                    ToolKind::Function
                };
                // The calls before it are complete where their arguments are; hosts may send calls side by side, and
                // only those without numbers of their own surely one after the other.
                let is_before = |open: &&mut Open| {
                    let is_whole = open.index.is_none() || open.index == index || open.progress.is_done();
                    open.choice == choice && !open.ended && is_whole
                };
                self.calls.iter_mut().filter(is_before).for_each(|open| end(open, out));
                let name = name.into_owned();
                out.push(Event::CallStart { choice, call, id: id.clone(), name, kind, signature: None });
                let progress = Progress::default();
                self.calls.push(Open { choice, index, id, call, kind, ended: false, has_arguments: false, progress });
                self.calls.len().saturating_sub(1)
            }
        };
        let arguments = inner.and_then(|inner| inner.get("arguments").or_else(|| inner.get("input")));
        let arguments = arguments.map(|node| node.text().map_or_else(|| node.raw().to_owned(), Into::into));
        let is_last = self.calls.iter().rposition(|open| open.choice == choice) == Some(at);
        if let (Some(open), Some(arguments)) = (self.calls.get_mut(at), arguments.filter(|text| !text.is_empty())) {
            open.has_arguments = true;
            if open.kind == ToolKind::Function {
                open.progress.push(&arguments);
            }
            out.push(Event::CallDelta { choice, call: open.call, arguments });
            if !is_last && !open.ended && open.progress.is_done() {
                end(open, out);
            }
        }
    }
}

/// Ends a call; one without arguments gets an empty object, where its arguments are JSON.
fn end(open: &mut Open, out: &mut Vec<Event>) {
    let (choice, call) = (open.choice, open.call);
    if !open.has_arguments && open.kind == ToolKind::Function {
        out.push(Event::CallDelta { choice, call, arguments: "{}".to_owned() });
    }
    open.ended = true;
    out.push(Event::CallEnd { choice, call });
}

/// A part of content that comes as an array: text, or a thought in parts of its own.
fn part(part: Node<'_>, choice: u32, out: &mut Vec<Event>) {
    let thought = part.get("thinking").or_else(|| part.get("summary"));
    if let Some(thought) = thought {
        let texts = thought.items().filter_map(|item| item.text_at("text"));
        let text: String = thought.text().map_or_else(|| texts.collect(), Into::into);
        if !text.is_empty() {
            out.push(Event::Reasoning { choice, text });
        }
    } else if let Some(text) = part.text_at("text").filter(|text| !text.is_empty()) {
        out.push(Event::Text { choice, text: text.into_owned(), logprobs: None });
    }
}

#[cfg(test)]
mod tests;
