//! The typed form as a Converse request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::Failure;
use crate::family::anthropic::{Thinking, crowded_out, thinking};
use crate::family::openai_chat_typed::SAMPLING;
use crate::family::target::{Target, Written, cannot, clipped, dropped};
use crate::json::view::Node;
use crate::json::write::{Writer, quoted};
use crate::text::prompt::{
    Format, Lifetime, Message, Param, Part, Prompt, Reasoning, Role, Source, ToolChoice, ToolKind,
};
use crate::text::{file, issuer};

/// Parameters that have a counterpart in the request itself.
const TAKEN: &[Param] = &[Param::Temperature, Param::TopP, Param::TopK, Param::Stop, Param::ServiceTier];

/// Who made a model, as far as its own request fields differ. Told by the model's name at Bedrock, which names its maker
/// (`us.anthropic.claude-…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Claude,
    Nova,
    OpenWeights,
    Other,
}

fn maker(upstream: &str) -> Maker {
    let has = |maker: &str| {
        upstream.starts_with(maker)
            || upstream.contains(&format!(".{maker}"))
            || upstream.contains(&format!("/{maker}"))
    };
    match () {
        () if has("anthropic.") => Maker::Claude,
        () if has("amazon.") => Maker::Nova,
        () if upstream.contains("gpt-oss") => Maker::OpenWeights,
        () => Maker::Other,
    }
}

/// Where a model is asked: ids may hold `:` and, as ARNs, `/`.
pub fn path_of(upstream: &str, verb: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut path = "/model/".to_owned();
    for byte in upstream.bytes() {
        match is_plain(byte) {
            true => path.push(char::from(byte)),
            false => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path.push('/');
    path + verb
}

/// Writes a request.
pub fn write(prompt: &Prompt<'_>, target: &Target<'_>) -> Result<Written, Failure> {
    if prompt.param(Param::N).is_some_and(|n| n != "1") {
        return Err(cannot("n", "more than one choice"));
    }
    let maker = maker(target.upstream);
    let mut limit = target.limit_or_own();
    let thinking = match maker {
        Maker::Claude => thinking(prompt, target, &mut limit),
        _ => Thinking::Unsaid,
    };
    let takes = |param: &Param| {
        let is_refused = target.traits.sampling_params == Some(false) || matches!(thinking, Thinking::Budget(_));
        !(SAMPLING.contains(param) && is_refused)
            && (*param != Param::TopK || matches!(maker, Maker::Claude | Maker::Nova))
    };
    let taken: Vec<Param> = TAKEN.iter().copied().filter(takes).collect();
    let param = |param: Param| prompt.param(param).filter(|_| taken.contains(&param));
    let mut lost = dropped(&prompt.params, &taken);
    lost.extend(crowded_out(prompt, &thinking));
    let mut w = Writer::object();
    let (system, rest) = prompt.split_system();
    self::system(system, &mut w)?;
    messages(rest, target, &mut w)?;
    w.object_at("inferenceConfig");
    if target.limit.is_some() || maker == Maker::Claude {
        w.count("maxTokens", limit);
    }
    // The scale ends at 1 here.
    w.value_if("temperature", param(Param::Temperature).map(|json| clipped(json, 0.0, 1.0)).as_deref());
    w.value_if("topP", param(Param::TopP));
    if let Some(stop) = param(Param::Stop) {
        let is_list = Node::of(stop).is_array();
        w.value("stopSequences", &if is_list { stop.to_owned() } else { format!("[{stop}]") });
    }
    w.end_object();
    tools(prompt, target, matches!(thinking, Thinking::Budget(_)), &mut w, &mut lost);
    let effort = own_fields(prompt, target, maker, &thinking, param(Param::TopK), &mut w);
    format(prompt, target, effort.as_deref(), &mut w)?;
    if let Some(tier) = param(Param::ServiceTier).filter(|tier| *tier != "\"auto\"" && *tier != "\"default\"") {
        w.object_at("serviceTier").value("type", tier).end_object();
    }
    if prompt.reasoning.is_stated() && maker == Maker::Other {
        lost.push("reasoning_effort".to_owned());
    }
    lost.extend(prompt.unknown.iter().map(|name| name.clone().into_owned()));
    let verb = if prompt.stream { "converse-stream" } else { "converse" };
    let path = path_of(target.upstream, verb);
    Ok(Written { path, headers: Vec::new(), body: w.close().into_bytes(), dropped: lost })
}

/// Fields of the model's own maker. The effort of an adaptive Claude is returned: it stands elsewhere.
fn own_fields(
    prompt: &Prompt<'_>,
    target: &Target<'_>,
    maker: Maker,
    thinking: &Thinking,
    top_k: Option<&str>,
    w: &mut Writer,
) -> Option<String> {
    let word = || prompt.reasoning.effort.as_deref();
    let is_asked = prompt.reasoning.is_stated() && target.traits.reasoning != Some(false);
    let says_more = top_k.is_some() || !matches!(thinking, Thinking::Unsaid) || is_asked;
    if !says_more || maker == Maker::Other {
        return None;
    }
    let mut effort = None;
    w.object_at("additionalModelRequestFields");
    match maker {
        Maker::Claude => {
            w.value_if("top_k", top_k);
            match thinking {
                Thinking::Unsaid => {}
                Thinking::Off => {
                    w.object_at("thinking").text("type", "disabled").end_object();
                }
                Thinking::Budget(tokens) => {
                    w.object_at("thinking").text("type", "enabled").count("budget_tokens", *tokens).end_object();
                }
                Thinking::Adaptive(word) => {
                    w.object_at("thinking").text("type", "adaptive").end_object();
                    effort.clone_from(word);
                }
            }
        }
        Maker::Nova => {
            if let Some(top_k) = top_k {
                w.object_at("inferenceConfig").value("topK", top_k).end_object();
            }
            if is_asked {
                let is_off = prompt.reasoning.is_off();
                w.object_at("reasoningConfig").text("type", if is_off { "disabled" } else { "enabled" });
                if !is_off {
                    w.text("maxReasoningEffort", word().map_or("medium", |word| three(target.traits.effort(word))));
                }
                w.end_object();
            }
        }
        Maker::OpenWeights => {
            let wanted = if prompt.reasoning.is_off() { "low" } else { word().unwrap_or("medium") };
            w.text("reasoning_effort", three(target.traits.effort(wanted)));
        }
        Maker::Other => {}
    }
    w.end_object();
    effort
}

/// One of the three efforts that everybody knows.
fn three(effort: &str) -> &'static str {
    match effort {
        "none" | "minimal" | "low" => "low",
        "high" | "xhigh" | "max" => "high",
        _ => "medium",
    }
}

fn format(prompt: &Prompt<'_>, target: &Target<'_>, effort: Option<&str>, w: &mut Writer) -> Result<(), Failure> {
    let refuse = || Err(cannot("response_format", "a form of the answer"));
    let schema = match &prompt.format {
        None => None,
        // There is no switch for "any object", and a schema is followed only by models that are known to.
        Some(Format::Json) => return refuse(),
        Some(Format::Schema { .. }) if target.traits.structured_output != Some(true) => return refuse(),
        Some(Format::Schema { name, description, schema, .. }) => Some((name, description, schema)),
    };
    if schema.is_none() && effort.is_none() {
        return Ok(());
    }
    w.object_at("outputConfig");
    if let Some((name, description, schema)) = schema {
        w.object_at("textFormat").text("type", "json_schema").object_at("structure").object_at("jsonSchema");
        w.text("schema", schema).text("name", name).text_if("description", description.as_deref());
        w.end_object().end_object().end_object();
    }
    w.text_if("effort", effort).end_object();
    Ok(())
}

fn system(messages: &[Message<'_>], w: &mut Writer) -> Result<(), Failure> {
    if messages.iter().all(|message| message.parts.is_empty()) {
        return Ok(());
    }
    w.array_at("system");
    for message in messages {
        for part in &message.parts {
            match part {
                Part::Text(text) if text.is_empty() => {}
                Part::Text(text) => {
                    w.begin_object().text("text", text).end_object();
                }
                Part::CacheUpToHere(lifetime) => cache_point(*lifetime, w),
                _ => return Err(cannot(&message.path, "anything but text in a system message")),
            }
        }
    }
    w.end_array();
    Ok(())
}

fn cache_point(lifetime: Lifetime, w: &mut Writer) {
    w.begin_object().object_at("cachePoint").text("type", "default");
    if lifetime != Lifetime::Short {
        w.text("ttl", "1h");
    }
    w.end_object().end_object();
}

/// Turns of one role in a row are one turn, the first is the user's, and results of tools stand first in theirs.
fn messages(messages: &[Message<'_>], target: &Target<'_>, w: &mut Writer) -> Result<(), Failure> {
    w.array_at("messages");
    let is_assistant = |message: &&Message<'_>| message.role == Role::Assistant;
    // Turns in which nothing is said are refused; there must be one, and the first the user's.
    let said: Vec<&Message<'_>> = messages.iter().filter(|message| says_something(message, target)).collect();
    let mut rest = said.as_slice();
    if rest.first().is_none_or(is_assistant) {
        w.begin_object().text("role", "user").array_at("content").begin_object().text("text", "…").end_object();
        w.end_array().end_object();
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
        let parts = || turn.iter().flat_map(|message| message.parts.iter().map(move |part| (part, message)));
        // The sort is stable: within both kinds the client's order stays.
        let (results, others): (Vec<_>, Vec<_>) = parts().partition(|(part, _)| !role && is_result(part));
        for (part, message) in results.into_iter().chain(others) {
            block(part, target, &message.path, w)?;
        }
        w.end_array().end_object();
    }
    w.end_array();
    Ok(())
}

/// Whether the model can make use of the opaque parts. What Claude signs elsewhere is good here too.
fn is_own(reasoning: &Reasoning<'_>, target: &Target<'_>) -> bool {
    let own = issuer::of_provider(target.provider);
    let is_claude = maker(target.upstream) == Maker::Claude;
    reasoning.issuer.as_deref().is_some_and(|issuer| issuer == own || (is_claude && issuer == issuer::CLAUDE))
}

/// Whether a block comes of the message.
fn says_something(message: &Message<'_>, target: &Target<'_>) -> bool {
    message.parts.iter().any(|part| match part {
        Part::Text(text) | Part::Refusal(text) => !text.is_empty(),
        Part::CacheUpToHere(_) => false,
        Part::Reasoning(reasoning) => {
            is_own(reasoning, target) && (reasoning.sealed.is_some() || reasoning.signature.is_some())
        }
        _ => true,
    })
}

fn block(part: &Part<'_>, target: &Target<'_>, path: &str, w: &mut Writer) -> Result<(), Failure> {
    match part {
        Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
        Part::Text(text) | Part::Refusal(text) => {
            w.begin_object().text("text", text).end_object();
        }
        Part::CacheUpToHere(lifetime) => cache_point(*lifetime, w),
        Part::Image { source: Source::Data { media_type, data }, .. } => {
            let format = media_type.strip_prefix("image/").unwrap_or(media_type);
            media("image", format, data, None, w);
        }
        Part::Image { .. } => return Err(cannot(path, "an image by its link")),
        Part::Audio { data, format } => media("audio", format, data, None, w),
        Part::File { source: Source::Data { media_type, data }, .. } if media_type.starts_with("image/") => {
            media("image", media_type.strip_prefix("image/").unwrap_or_default(), data, None, w);
        }
        Part::File { source: Source::Data { media_type, data }, name, is_cited } => {
            let name = document_name(name.as_deref());
            let format = document_format(media_type);
            let format = format.ok_or_else(|| cannot(path, &format!("a file of type {media_type}")))?;
            media("document", format, data, Some((&name, *is_cited)), w);
        }
        Part::File { source: Source::Text(text), name, is_cited } => {
            let name = document_name(name.as_deref());
            media("document", "txt", &STANDARD.encode(text.as_bytes()), Some((&name, *is_cited)), w);
        }
        Part::File { .. } => return Err(cannot(path, "a file by its link or id")),
        Part::Other { kind, .. } => return Err(cannot(path, &format!("a part of type {kind}"))),
        Part::Reasoning(reasoning) => {
            if !is_own(reasoning, target) {
                return Ok(());
            }
            match (&reasoning.sealed, &reasoning.signature) {
                (Some(data), _) => {
                    w.begin_object().object_at("reasoningContent").text("redactedContent", data);
                    w.end_object().end_object();
                }
                (None, Some(signature)) => {
                    w.begin_object().object_at("reasoningContent").object_at("reasoningText");
                    w.text("text", reasoning.text.as_deref().unwrap_or_default()).text("signature", signature);
                    w.end_object().end_object().end_object();
                }
                (None, None) => {}
            }
        }
        Part::Call(call) => {
            w.begin_object().object_at("toolUse").text("toolUseId", &id(&call.id)).text("name", &call.name);
            w.value("input", &call.object()).end_object().end_object();
        }
        Part::Result { id: of, parts, is_error } => {
            w.begin_object().object_at("toolResult").text("toolUseId", &id(of)).array_at("content");
            for part in parts.iter().filter(|part| !matches!(part, Part::CacheUpToHere(_))) {
                block(part, target, path, w)?;
            }
            w.end_array();
            if *is_error {
                w.text("status", "error");
            }
            w.end_object().end_object();
        }
    }
    Ok(())
}

/// A document has a name beside, and whether it is to be cited.
fn media(kind: &str, format: &str, data: &str, document: Option<(&str, bool)>, w: &mut Writer) {
    w.begin_object().object_at(kind).text("format", format).text_if("name", document.map(|(name, _)| name));
    if document.is_some_and(|(_, is_cited)| is_cited) {
        w.object_at("citations").flag("enabled", true).end_object();
    }
    w.object_at("source").value("bytes", &quoted(data)).end_object().end_object().end_object();
}

/// The short names of documents by their media types.
fn document_format(media_type: &str) -> Option<&str> {
    Some(match media_type {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "text/html" => "html",
        "text/markdown" => "md",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        other if file::is_text(other) => "txt",
        _ => return None,
    })
}

/// A document needs a name of letters, digits, spaces, hyphens and brackets.
fn document_name(name: Option<&str>) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || " -()[]".contains(c);
    let name = name.unwrap_or("document").chars().map(|c| if is_allowed(c) { c } else { '-' });
    name.take(200).collect()
}

/// Ids of other makers may hold letters that the API refuses.
fn id(id: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    id.chars().map(|c| if is_allowed(c) { c } else { '_' }).take(64).collect()
}

fn tools(prompt: &Prompt<'_>, target: &Target<'_>, is_reasoning: bool, w: &mut Writer, lost: &mut Vec<String>) {
    let called = || {
        let parts = prompt.messages.iter().flat_map(|message| &message.parts);
        parts.filter_map(|part| if let Part::Call(call) = part { Some(call.name.as_ref()) } else { None })
    };
    let is_off = prompt.tool_choice == Some(ToolChoice::None);
    // The API wants the tools of a conversation that has calls in it, also where none may be called any more.
    if called().next().is_none() && (prompt.tools.is_empty() || is_off) {
        return;
    }
    let is_allowed = |name: &str| match &prompt.tool_choice {
        Some(ToolChoice::Allowed { names, .. }) => names.iter().any(|allowed| allowed == name),
        _ => true,
    };
    w.object_at("toolConfig").array_at("tools");
    for tool in prompt.tools.iter().filter(|tool| is_allowed(&tool.name)) {
        w.begin_object().object_at("toolSpec").text("name", &tool.name);
        w.text_if("description", tool.description.as_deref().filter(|text| !text.is_empty()));
        let schema = match tool.kind {
            ToolKind::Function => &tool.object_schema(),
            // Free text travels in one member of an object.
            ToolKind::Custom => r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#,
        };
        w.object_at("inputSchema").value("json", schema).end_object();
        if tool.strict == Some(true) {
            w.flag("strict", true);
        }
        w.end_object().end_object();
        if let Some(lifetime) = tool.cache {
            cache_point(lifetime, w);
        }
    }
    let mut known: Vec<&str> = prompt.tools.iter().map(|tool| tool.name.as_ref()).collect();
    for name in called() {
        if !known.contains(&name) {
            known.push(name);
            w.begin_object().object_at("toolSpec").text("name", name);
            w.object_at("inputSchema").value("json", r#"{"type":"object"}"#).end_object().end_object().end_object();
        }
    }
    w.end_array();
    let may_force = target.traits.forced_tool_choice != Some(false) && !is_reasoning;
    if is_off {
        lost.push("tool_choice".to_owned());
    }
    match &prompt.tool_choice {
        None | Some(ToolChoice::None) => {}
        Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. }) => choice("auto", None, w),
        Some(_) if !may_force => {
            lost.push("tool_choice".to_owned());
            choice("auto", None, w);
        }
        Some(ToolChoice::Required | ToolChoice::Allowed { .. }) => choice("any", None, w),
        Some(ToolChoice::Named(name)) => choice("tool", Some(name), w),
    }
    w.end_object();
}

fn choice(kind: &str, name: Option<&str>, w: &mut Writer) {
    w.object_at("toolChoice").object_at(kind).text_if("name", name).end_object().end_object();
}
