//! The typed form as an Anthropic request.
//!
//! Order rules of the API: turns of one role are merged; results of tools stand first in the user turn that follows the
//! calls; a mark for the cache stands on the block it closes; reasoning is sent back unchanged and first, and only
//! where Claude itself signed it.

use crate::error::Failure;
use crate::family::openai_chat_typed::SAMPLING;
use crate::family::target::{Target, Written, cannot, dropped};
use crate::json::view::Node;
use crate::json::write::Writer;
use crate::text::prompt::{Format, Lifetime, Message, Param, Part, Prompt, Role, Source, Tool, ToolChoice, ToolKind};
use crate::text::{file, issuer};

/// Where the family is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// At its maker's own API.
    Own,
    /// Through Vertex AI.
    Vertex,
    /// Through Amazon Bedrock, by invoke.
    Bedrock,
}

/// Parameters that have a counterpart.
const TAKEN: &[Param] = &[
    Param::Temperature,
    Param::TopP,
    Param::TopK,
    Param::Stop,
    Param::ParallelToolCalls,
    Param::ServiceTier,
    Param::User,
    Param::SafetyIdentifier,
];

/// Blocks of the family's own that the typed form has no words for: they go as they came, with their marks.
const OWN_BLOCKS: &[&str] = &["document", "search_result"];

/// Least budget of reasoning the API takes, in tokens.
const BUDGET_MIN: u64 = 1024;

/// Writes a request.
pub fn write(prompt: &Prompt<'_>, target: &Target<'_>, host: Host) -> Result<Written, Failure> {
    if prompt.param(Param::N).is_some_and(|n| n != "1") {
        return Err(cannot("n", "more than one choice"));
    }
    let mut limit = target.limit_or_own();
    let thinking = thinking(prompt, target, &mut limit);
    let takes = |param: &Param| {
        let is_sampling = SAMPLING.contains(param);
        let is_refused = target.traits.sampling_params == Some(false);
        // It has two tiers, each of which has a word of its own here.
        let is_other_tier =
            *param == Param::ServiceTier && prompt.param(*param).is_none_or(|tier| tier_of(tier).is_none());
        // While it reasons by a budget, the API takes no sampling parameters.
        TAKEN.contains(param)
            && !is_other_tier
            && !(is_sampling && (is_refused || matches!(thinking, Thinking::Budget(_))))
    };
    let taken: Vec<Param> = TAKEN.iter().copied().filter(takes).collect();
    let mut w = Writer::object();
    match host {
        Host::Own => w.text("model", target.upstream),
        Host::Vertex => w.text("anthropic_version", "vertex-2023-10-16"),
        Host::Bedrock => w.text("anthropic_version", "bedrock-2023-05-31"),
    };
    w.count("max_tokens", limit);
    let (system, rest) = prompt.split_system();
    self::system(system, &mut w)?;
    messages(rest, target, &mut w)?;
    if prompt.stream && host != Host::Bedrock {
        w.flag("stream", true);
    }
    let mut lost = dropped(&prompt.params, &taken);
    lost.extend(crowded_out(prompt, &thinking));
    tools(prompt, target, matches!(thinking, Thinking::Budget(_)), &mut w, &mut lost);
    let mut effort = None;
    match &thinking {
        Thinking::Unsaid => {}
        Thinking::Off => {
            w.object_at("thinking").text("type", "disabled").end_object();
        }
        Thinking::Budget(tokens) => {
            w.object_at("thinking").text("type", "enabled").count("budget_tokens", *tokens).end_object();
        }
        Thinking::Adaptive(word) => {
            w.object_at("thinking").text("type", "adaptive");
            if prompt.reasoning.summary.as_deref() == Some("none") {
                w.text("display", "omitted");
            }
            w.end_object();
            effort = word.as_deref();
        }
    }
    format(prompt, target, effort, &mut w)?;
    for (param, json) in prompt.params.iter().filter(|(param, _)| taken.contains(param)) {
        parameter(*param, json, &mut w);
    }
    let user = prompt.param(Param::SafetyIdentifier).or_else(|| prompt.param(Param::User));
    if let Some(user) = user {
        w.object_at("metadata").value("user_id", user).end_object();
    }
    lost.extend(prompt.unknown.iter().map(|name| name.clone().into_owned()));
    let path = match host {
        Host::Own => "/messages".to_owned(),
        Host::Vertex => {
            let verb = if prompt.stream { "streamRawPredict" } else { "rawPredict" };
            format!("/publishers/anthropic/models/{}:{verb}", target.upstream)
        }
        Host::Bedrock => {
            let verb = if prompt.stream { "invoke-with-response-stream" } else { "invoke" };
            crate::family::bedrock::path_of(target.upstream, verb)
        }
    };
    Ok(Written { path, headers: Vec::new(), body: w.close().into_bytes(), dropped: lost })
}

fn parameter(param: Param, json: &str, w: &mut Writer) {
    match param {
        Param::Temperature => {
            // The scale ends at 1 here.
            let is_above = Node::of(json).raw().parse::<f64>().is_ok_and(|value| value > 1.0);
            w.value("temperature", if is_above { "1" } else { json });
        }
        Param::TopP => {
            w.value("top_p", json);
        }
        Param::TopK => {
            w.value("top_k", json);
        }
        Param::Stop => {
            let node = Node::of(json);
            let list = if node.is_array() { node.items().collect() } else { vec![node] };
            let said = list.into_iter().filter(|stop| stop.text().is_some_and(|text| !text.trim().is_empty()));
            w.array_at("stop_sequences");
            said.for_each(|stop| {
                w.raw(stop.raw());
            });
            w.end_array();
        }
        Param::ServiceTier => {
            w.text_if("service_tier", tier_of(json));
        }
        _ => {}
    }
}

/// The API's word for a tier of the chat dialect.
fn tier_of(json: &str) -> Option<&'static str> {
    match json {
        "\"default\"" | "\"standard\"" => Some("standard_only"),
        "\"auto\"" => Some("auto"),
        _ => None,
    }
}

/// How reasoning is switched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thinking {
    /// The client said nothing.
    Unsaid,
    /// Off.
    Off,
    /// On, with at most so many tokens.
    Budget(u64),
    /// As much as the model likes, or with that effort.
    Adaptive(Option<String>),
}

/// How reasoning is to be switched for what the client asked. A budget lies inside `limit`.
pub fn thinking(prompt: &Prompt<'_>, target: &Target<'_>, limit: &mut u64) -> Thinking {
    let (wanted, traits) = (&prompt.reasoning, target.traits);
    if !wanted.is_stated() || traits.reasoning == Some(false) {
        return Thinking::Unsaid;
    }
    if traits.adaptive_thinking {
        if wanted.is_off() && !traits.reasoning_always_on {
            return Thinking::Off;
        }
        let word = match wanted.effort.as_deref() {
            _ if wanted.is_off() => Some("low"),
            Some("minimal") => Some("low"),
            Some(word) => Some(word),
            None => wanted.budget_tokens.map(|budget| match budget {
                0..=2_048 => "low",
                2_049..=12_000 => "medium",
                _ => "high",
            }),
        };
        return Thinking::Adaptive(word.map(|word| traits.effort(word).to_owned()));
    }
    // A budget and a tool that must be called exclude each other. The call is what the client's code waits for.
    if wanted.is_off() || forces_a_tool(prompt, target) {
        return Thinking::Off;
    }
    let budget = wanted.budget_tokens.unwrap_or(match wanted.effort.as_deref() {
        Some("minimal" | "low") => BUDGET_MIN,
        Some("medium") => 4_096,
        _ => 12_288,
    });
    let most = traits.budget_tokens.and_then(|(_, most)| most).unwrap_or(u64::MAX);
    let budget = budget.max(BUDGET_MIN).min(most);
    // The budget lies inside the limit: a limit that leaves no room for both is kept, and reasoning is what goes.
    if *limit > budget {
        return Thinking::Budget(budget);
    }
    match limit.checked_sub(BUDGET_MIN) {
        Some(room) if room > 0 => Thinking::Budget(BUDGET_MIN.max(limit.saturating_sub(room.div_ceil(2)).min(budget))),
        _ => Thinking::Off,
    }
}

/// Whether a tool must be called, at a model that lets itself be told so.
fn forces_a_tool(prompt: &Prompt<'_>, target: &Target<'_>) -> bool {
    let is_forced = matches!(
        prompt.tool_choice,
        Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Allowed { required: true, .. })
    );
    is_forced && !prompt.tools.is_empty() && target.traits.forced_tool_choice != Some(false)
}

/// Reasoning that was asked for and has no room below the limit or beside the tool that must be called, by the name a
/// warning gives it.
pub fn crowded_out(prompt: &Prompt<'_>, thinking: &Thinking) -> Option<String> {
    let is_crowded_out = *thinking == Thinking::Off && !prompt.reasoning.is_off();
    is_crowded_out.then(|| "reasoning_effort".to_owned())
}

fn system(messages: &[Message<'_>], w: &mut Writer) -> Result<(), Failure> {
    if messages.iter().all(|message| message.parts.is_empty()) {
        return Ok(());
    }
    w.array_at("system");
    for message in messages {
        for (place, part) in message.parts.iter().enumerate() {
            match part {
                Part::Text(text) if text.is_empty() => {}
                Part::Text(text) => {
                    w.begin_object().text("type", "text").text("text", text);
                    cache(message.parts.get(place.saturating_add(1)), w);
                    w.end_object();
                }
                Part::CacheUpToHere(_) => {}
                _ => return Err(cannot(&message.path, "anything but text in a system message")),
            }
        }
    }
    w.end_array();
    Ok(())
}

/// The mark for the cache, where the next part is one.
fn cache(next: Option<&Part<'_>>, w: &mut Writer) {
    if let Some(Part::CacheUpToHere(lifetime)) = next {
        mark(*lifetime, w);
    }
}

fn mark(lifetime: Lifetime, w: &mut Writer) {
    w.object_at("cache_control").text("type", "ephemeral");
    if lifetime != Lifetime::Short {
        w.text("ttl", "1h");
    }
    w.end_object();
}

/// Turns of one role in a row are one turn.
fn messages(messages: &[Message<'_>], target: &Target<'_>, w: &mut Writer) -> Result<(), Failure> {
    w.array_at("messages");
    let is_assistant = |message: &&Message<'_>| message.role == Role::Assistant;
    // Turns in which nothing is said are refused.
    let said: Vec<&Message<'_>> = messages.iter().filter(|message| says_something(message)).collect();
    let mut rest = said.as_slice();
    if rest.first().is_none_or(is_assistant) {
        // There must be a turn, and the first one the user's.
        w.begin_object().text("role", "user").text("content", "…").end_object();
    }
    while let Some(first) = rest.first() {
        let role = is_assistant(first);
        let count = rest.iter().take_while(|message| is_assistant(message) == role).count();
        let (turn, after) = rest.split_at(count);
        rest = after;
        if role && rest.is_empty() && target.traits.assistant_prefill == Some(false) {
            return Err(cannot(&first.path, "the beginning of the answer"));
        }
        w.begin_object().text("role", if role { "assistant" } else { "user" }).array_at("content");
        let is_result = |part: &Part<'_>| matches!(part, Part::Result { .. });
        for results_first in [true, false] {
            for message in turn {
                for (place, part) in message.parts.iter().enumerate() {
                    if role || is_result(part) == results_first {
                        let next = message.parts.get(place.saturating_add(1));
                        let is_last = role && rest.is_empty() && next.is_none();
                        block(part, next, is_last, &message.path, w)?;
                    }
                }
            }
            if role {
                break;
            }
        }
        w.end_array().end_object();
    }
    w.end_array();
    Ok(())
}

/// Whether a block comes of the message.
fn says_something(message: &Message<'_>) -> bool {
    message.parts.iter().any(|part| match part {
        Part::Text(text) | Part::Refusal(text) => !text.is_empty(),
        Part::CacheUpToHere(_) => false,
        Part::Reasoning(reasoning) => {
            let is_own = reasoning.issuer.as_deref() == Some(issuer::CLAUDE);
            is_own && (reasoning.sealed.is_some() || reasoning.signature.is_some())
        }
        _ => true,
    })
}

fn block(part: &Part<'_>, next: Option<&Part<'_>>, is_last: bool, path: &str, w: &mut Writer) -> Result<(), Failure> {
    match part {
        Part::CacheUpToHere(_) => return Ok(()),
        Part::Text(text) | Part::Refusal(text) => {
            let text = if is_last { text.trim_end() } else { text.as_ref() };
            if text.is_empty() {
                return Ok(());
            }
            w.begin_object().text("type", "text").text("text", text);
        }
        Part::Image { source, .. } => {
            w.begin_object().text("type", "image");
            self::source(source, path, w)?;
        }
        Part::File { source: Source::Data { media_type, data }, .. } if media_type.starts_with("image/") => {
            w.begin_object().text("type", "image").object_at("source").text("type", "base64");
            w.text("media_type", media_type).text("data", data).end_object();
        }
        Part::File { source, name, is_cited } => {
            let source = &document(source, path)?;
            w.begin_object().text("type", "document").text_if("title", name.as_deref());
            self::source(source, path, w)?;
            if *is_cited {
                w.object_at("citations").flag("enabled", true).end_object();
            }
        }
        Part::Audio { .. } => return Err(cannot(path, "audio")),
        Part::Other { kind, json } if OWN_BLOCKS.contains(&kind.as_ref()) => {
            w.raw(json);
            return Ok(());
        }
        Part::Other { kind, .. } => return Err(cannot(path, &format!("a part of type {kind}"))),
        Part::Reasoning(reasoning) => {
            let is_own = reasoning.issuer.as_deref() == Some(issuer::CLAUDE);
            match (&reasoning.sealed, &reasoning.signature) {
                (Some(data), _) if is_own => {
                    w.begin_object().text("type", "redacted_thinking").text("data", data).end_object();
                }
                (None, Some(signature)) if is_own => {
                    w.begin_object().text("type", "thinking");
                    w.text("thinking", reasoning.text.as_deref().unwrap_or_default()).text("signature", signature);
                    w.end_object();
                }
                _ => {}
            }
            return Ok(());
        }
        Part::Call(call) => {
            w.begin_object().text("type", "tool_use").text("id", &id(&call.id)).text("name", &call.name);
            w.value("input", &call.object());
        }
        Part::Result { id: of, parts, is_error } => {
            w.begin_object().text("type", "tool_result").text("tool_use_id", &id(of)).array_at("content");
            for (place, part) in parts.iter().enumerate() {
                block(part, parts.get(place.saturating_add(1)), false, path, w)?;
            }
            w.end_array();
            if *is_error {
                w.flag("is_error", true);
            }
        }
    }
    cache(next, w);
    w.end_object();
    Ok(())
}

/// Ids of other makers may hold letters that the API refuses.
fn id(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect()
}

/// A document is a PDF or plain text here; what is text goes as its text.
fn document<'a>(source: &Source<'a>, path: &str) -> Result<Source<'a>, Failure> {
    match source {
        Source::Data { media_type, data } if file::is_text(media_type) => {
            let text = file::text(data).ok_or_else(|| cannot(path, "a text file that is not UTF-8 in base64"))?;
            Ok(Source::Text(text.into()))
        }
        Source::Data { media_type, .. } if media_type != "application/pdf" => {
            Err(cannot(path, &format!("a file of type {media_type}")))
        }
        other => Ok(other.clone()),
    }
}

fn source(source: &Source<'_>, path: &str, w: &mut Writer) -> Result<(), Failure> {
    w.object_at("source");
    match source {
        Source::Data { media_type, data } => {
            w.text("type", "base64").text("media_type", media_type).text("data", data);
        }
        Source::Url(url) => {
            w.text("type", "url").text("url", url);
        }
        Source::Text(text) => {
            w.text("type", "text").text("media_type", "text/plain").text("data", text);
        }
        Source::Id(_) => return Err(cannot(path, "a file by its id")),
    }
    w.end_object();
    Ok(())
}

fn tools(prompt: &Prompt<'_>, target: &Target<'_>, is_reasoning: bool, w: &mut Writer, lost: &mut Vec<String>) {
    let is_allowed = |tool: &Tool<'_>| match &prompt.tool_choice {
        Some(ToolChoice::Allowed { names, .. }) => names.contains(&tool.name),
        _ => true,
    };
    if prompt.tools.is_empty() {
        return;
    }
    w.array_at("tools");
    for tool in prompt.tools.iter().filter(|tool| is_allowed(tool)) {
        w.begin_object().text("name", &tool.name).text_if("description", tool.description.as_deref());
        let schema = match tool.kind {
            ToolKind::Function => &tool.object_schema(),
            // Free text travels in one member of an object.
            ToolKind::Custom => r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#,
        };
        w.value("input_schema", schema);
        if tool.strict == Some(true) {
            w.flag("strict", true);
        }
        if let Some(lifetime) = tool.cache {
            mark(lifetime, w);
        }
        w.end_object();
    }
    w.end_array();
    let one_at_a_time = prompt.param(Param::ParallelToolCalls) == Some("false");
    let may_force = target.traits.forced_tool_choice != Some(false) && !is_reasoning;
    let kind = match &prompt.tool_choice {
        None if one_at_a_time => "auto",
        None => return,
        Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. }) => "auto",
        Some(ToolChoice::None) => "none",
        Some(_) if !may_force => {
            lost.push("tool_choice".to_owned());
            "auto"
        }
        Some(ToolChoice::Required | ToolChoice::Allowed { .. }) => "any",
        Some(ToolChoice::Named(_)) => "tool",
    };
    w.object_at("tool_choice").text("type", kind);
    if let (Some(ToolChoice::Named(name)), "tool") = (&prompt.tool_choice, kind) {
        w.text("name", name);
    }
    if one_at_a_time && kind != "none" {
        w.flag("disable_parallel_tool_use", true);
    }
    w.end_object();
}

fn format(prompt: &Prompt<'_>, target: &Target<'_>, effort: Option<&str>, w: &mut Writer) -> Result<(), Failure> {
    let schema = match &prompt.format {
        None => None,
        Some(_) if target.traits.structured_output == Some(false) => {
            return Err(cannot("response_format", "a form of the answer"));
        }
        // There is no switch for "any object"; a schema of one says the same.
        Some(Format::Json) => Some(r#"{"type":"object"}"#),
        Some(Format::Schema { schema, .. }) => Some(*schema),
    };
    if schema.is_none() && effort.is_none() {
        return Ok(());
    }
    w.object_at("output_config").text_if("effort", effort);
    if let Some(schema) = schema {
        w.object_at("format").text("type", "json_schema").value("schema", schema).end_object();
    }
    w.end_object();
    Ok(())
}
