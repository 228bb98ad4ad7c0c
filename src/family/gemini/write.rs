//! The typed form as a Gemini request.

use crate::error::Failure;
use crate::family::openai_chat_typed::SAMPLING;
use crate::family::target::{Target, Written, cannot, dropped};
use crate::json::view::Node;
use crate::json::write::Writer;
use crate::text::issuer;
use crate::text::prompt::{Format, Message, Param, Part, Prompt, Role, Source, Tool, ToolChoice, ToolKind};

/// Where the family is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// At the Gemini API.
    Own,
    /// Through Vertex AI.
    Vertex,
}

/// Parameters that have a counterpart in `generationConfig`, and its name.
const TAKEN: &[(Param, &str)] = &[
    (Param::Temperature, "temperature"),
    (Param::TopP, "topP"),
    (Param::TopK, "topK"),
    (Param::Seed, "seed"),
    (Param::PresencePenalty, "presencePenalty"),
    (Param::FrequencyPenalty, "frequencyPenalty"),
    (Param::N, "candidateCount"),
    (Param::Logprobs, "responseLogprobs"),
    (Param::TopLogprobs, "logprobs"),
];

/// What stands in for the signature of a call that another model made, by the API's documentation.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Writes a request.
pub fn write(prompt: &Prompt<'_>, target: &Target<'_>, host: Host) -> Result<Written, Failure> {
    let is_refused = |param: &Param| target.traits.sampling_params == Some(false) && SAMPLING.contains(param);
    let mut taken: Vec<Param> = TAKEN.iter().map(|(param, _)| *param).filter(|param| !is_refused(param)).collect();
    taken.extend([Param::Stop, Param::Modalities, Param::ServiceTier, Param::WebSearchOptions]);
    let mut w = Writer::object();
    let (system, rest) = prompt.split_system();
    if system.iter().any(|message| !message.parts.is_empty()) {
        w.object_at("systemInstruction").array_at("parts");
        for message in system {
            parts(message, prompt, &mut w)?;
        }
        w.end_array().end_object();
    }
    contents(rest, prompt, &mut w)?;
    tools(prompt, target, &mut w);
    w.object_at("generationConfig");
    if let Some(limit) = target.limit {
        w.count("maxOutputTokens", limit);
    }
    for (param, name) in TAKEN.iter().filter(|(param, _)| taken.contains(param)) {
        w.value_if(name, prompt.param(*param));
    }
    if let Some(stop) = prompt.param(Param::Stop) {
        let is_list = Node::of(stop).is_array();
        w.value("stopSequences", &if is_list { stop.to_owned() } else { format!("[{stop}]") });
    }
    if let Some(modalities) = prompt.param(Param::Modalities) {
        w.value("responseModalities", &modalities.to_uppercase());
    }
    match &prompt.format {
        None => {}
        Some(_) if target.traits.structured_output == Some(false) => {
            return Err(cannot("response_format", "a form of the answer"));
        }
        Some(Format::Json) => {
            w.text("responseMimeType", "application/json");
        }
        Some(Format::Schema { schema, .. }) => {
            w.text("responseMimeType", "application/json").value("responseJsonSchema", schema);
        }
    }
    thinking(prompt, target, &mut w);
    w.end_object();
    if let Some(tier) = prompt.param(Param::ServiceTier).filter(|tier| *tier != "\"auto\"" && *tier != "\"default\"") {
        w.value("serviceTier", tier);
    }
    let mut lost = dropped(&prompt.params, &taken);
    lost.extend(prompt.unknown.iter().map(|name| name.clone().into_owned()));
    let verb = if prompt.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    let stem = match host {
        Host::Own => "/models/",
        Host::Vertex => "/publishers/google/models/",
    };
    let path = format!("{stem}{}:{verb}", target.upstream);
    Ok(Written { path, headers: Vec::new(), body: w.close().into_bytes(), dropped: lost })
}

/// Turns of one role in a row are one turn, and results of tools are the user's.
fn contents(messages: &[Message<'_>], prompt: &Prompt<'_>, w: &mut Writer) -> Result<(), Failure> {
    w.array_at("contents");
    let is_model = |message: &&Message<'_>| message.role == Role::Assistant;
    // Turns in which nothing is said are refused, and there must be one.
    let said: Vec<&Message<'_>> = messages.iter().filter(|message| says_something(message)).collect();
    let mut rest = said.as_slice();
    if rest.is_empty() {
        w.begin_object().text("role", "user").array_at("parts").begin_object().text("text", "…").end_object();
        w.end_array().end_object();
    }
    while let Some(first) = rest.first() {
        let role = is_model(first);
        let count = rest.iter().take_while(|message| is_model(message) == role).count();
        let (turn, after) = rest.split_at(count);
        rest = after;
        w.begin_object().text("role", if role { "model" } else { "user" }).array_at("parts");
        for message in turn {
            parts(message, prompt, w)?;
        }
        w.end_array().end_object();
    }
    w.end_array();
    Ok(())
}

fn is_own(issuer: Option<&str>) -> bool {
    issuer == Some(issuer::GEMINI)
}

/// Whether a part comes of the message.
fn says_something(message: &Message<'_>) -> bool {
    message.parts.iter().any(|part| match part {
        Part::Text(text) | Part::Refusal(text) => !text.is_empty(),
        Part::CacheUpToHere(_) => false,
        Part::Reasoning(reasoning) => reasoning.signature.is_some() && is_own(reasoning.issuer.as_deref()),
        _ => true,
    })
}

fn parts(message: &Message<'_>, prompt: &Prompt<'_>, w: &mut Writer) -> Result<(), Failure> {
    let mut is_first_call = true;
    for part in &message.parts {
        match part {
            Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
            Part::Text(text) | Part::Refusal(text) => {
                w.begin_object().text("text", text).end_object();
            }
            Part::Image { source, .. } => media(source, "image/png", &message.path, w)?,
            Part::Audio { data, format } => {
                w.begin_object().object_at("inlineData").text("mimeType", &format!("audio/{format}"));
                w.text("data", data).end_object().end_object();
            }
            Part::File { source: Source::Text(text), .. } => {
                w.begin_object().text("text", text).end_object();
            }
            Part::File { source, .. } => media(source, "application/pdf", &message.path, w)?,
            // The text need not go back; a signature that stands alone must.
            Part::Reasoning(reasoning) => {
                if let Some(signature) = reasoning.signature.as_deref().filter(|_| is_own(reasoning.issuer.as_deref()))
                {
                    w.begin_object().text("text", "").text("thoughtSignature", signature).end_object();
                }
            }
            Part::Call(call) => {
                w.begin_object().object_at("functionCall").text("id", &call.id).text("name", &call.name);
                w.value("args", &call.object()).end_object();
                match call.signature.as_deref().filter(|_| is_own(call.issuer.as_deref())) {
                    Some(signature) => {
                        w.text("thoughtSignature", signature);
                    }
                    None if is_first_call => {
                        w.text("thoughtSignature", NO_SIGNATURE);
                    }
                    None => {}
                }
                is_first_call = false;
                w.end_object();
            }
            Part::Result { id, parts, is_error } => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Text(more) => text.push_str(more),
                        Part::CacheUpToHere(_) => {}
                        _ => return Err(cannot(&message.path, "media in a tool result")),
                    }
                }
                let name = prompt.called(id).unwrap_or(id);
                w.begin_object().object_at("functionResponse").text("id", id).text("name", name);
                match Node::parse(&text).filter(|node| node.is_object() && !is_error) {
                    Some(node) => w.value("response", node.raw()),
                    None => {
                        w.object_at("response").text(if *is_error { "error" } else { "result" }, &text).end_object()
                    }
                };
                w.end_object().end_object();
            }
            Part::CacheUpToHere(_) => {}
            Part::Other { kind, .. } => return Err(cannot(&message.path, &format!("a part of type {kind}"))),
        }
    }
    Ok(())
}

fn media(source: &Source<'_>, unstated: &str, path: &str, w: &mut Writer) -> Result<(), Failure> {
    w.begin_object();
    match source {
        Source::Data { media_type, data } => {
            w.object_at("inlineData").text("mimeType", media_type).text("data", data).end_object();
        }
        Source::Url(url) => {
            let path = url.split(['?', '#']).next().unwrap_or_default();
            let ending = path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
            let kind = match ending.as_str() {
                "jpg" | "jpeg" => "image/jpeg",
                "png" => "image/png",
                "webp" => "image/webp",
                "gif" => "image/gif",
                "pdf" => "application/pdf",
                _ => unstated,
            };
            w.object_at("fileData").text("fileUri", url).text("mimeType", kind).end_object();
        }
        Source::Id(_) | Source::Text(_) => return Err(cannot(path, "a file by its id")),
    }
    w.end_object();
    Ok(())
}

fn tools(prompt: &Prompt<'_>, target: &Target<'_>, w: &mut Writer) {
    let searches = prompt.param(Param::WebSearchOptions).is_some();
    if prompt.tools.is_empty() && !searches {
        return;
    }
    w.array_at("tools");
    if !prompt.tools.is_empty() {
        w.begin_object().array_at("functionDeclarations");
        for tool in &prompt.tools {
            declaration(tool, w);
        }
        w.end_array().end_object();
    }
    if searches {
        w.begin_object().object_at("googleSearch").end_object().end_object();
    }
    w.end_array();
    let may_force = target.traits.forced_tool_choice != Some(false);
    let (mode, names): (&str, Vec<&str>) = match &prompt.tool_choice {
        None => return,
        Some(ToolChoice::Auto) => ("AUTO", Vec::new()),
        Some(ToolChoice::None) => ("NONE", Vec::new()),
        Some(_) if !may_force => ("AUTO", Vec::new()),
        Some(ToolChoice::Required) => ("ANY", Vec::new()),
        Some(ToolChoice::Named(name)) => ("ANY", vec![name.as_ref()]),
        Some(ToolChoice::Allowed { required, names }) => {
            (if *required { "ANY" } else { "VALIDATED" }, names.iter().map(|name| name.as_ref()).collect())
        }
    };
    w.object_at("toolConfig").object_at("functionCallingConfig").text("mode", mode);
    if !names.is_empty() {
        w.array_at("allowedFunctionNames");
        names.iter().for_each(|name| {
            w.string(name);
        });
        w.end_array();
    }
    w.end_object().end_object();
}

fn declaration(tool: &Tool<'_>, w: &mut Writer) {
    w.begin_object().text("name", &tool.name).text_if("description", tool.description.as_deref());
    let schema = match tool.kind {
        ToolKind::Function => tool.schema,
        ToolKind::Custom => Some(r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#),
    };
    // An object without members is refused; such a tool takes nothing.
    let takes_something = |schema: &&str| {
        let node = Node::of(schema);
        let has_members = |node: Node<'_>| node.members().next().is_some();
        has_members(node) && node.get("properties").is_none_or(has_members)
    };
    w.value_if("parametersJsonSchema", schema.filter(takes_something));
    w.end_object();
}

/// Models that take a budget are told one; the others a level.
fn thinking(prompt: &Prompt<'_>, target: &Target<'_>, w: &mut Writer) {
    let wanted = &prompt.reasoning;
    if !wanted.is_stated() || target.traits.reasoning == Some(false) {
        return;
    }
    w.object_at("thinkingConfig");
    let shows = !wanted.is_off() && wanted.summary.as_deref() != Some("none");
    w.flag("includeThoughts", shows);
    let word = wanted.effort.as_deref();
    match target.traits.budget_tokens {
        Some((least, most)) => {
            let asked = wanted.budget_tokens.unwrap_or(match word {
                _ if wanted.is_off() => 0,
                Some("minimal" | "low") => 1_024,
                Some("high" | "xhigh" | "max") => 24_576,
                _ => 8_192,
            });
            w.count("thinkingBudget", asked.max(least.unwrap_or(0)).min(most.unwrap_or(u64::MAX)));
        }
        None => {
            let asked = match (wanted.is_off(), word, wanted.budget_tokens) {
                (true, _, _) => "minimal",
                (_, Some(word), _) => word,
                (_, None, Some(0..=2_048)) => "low",
                (_, None, Some(2_049..=12_000)) => "medium",
                _ => "high",
            };
            let level = match target.traits.effort(asked) {
                "none" | "minimal" => "MINIMAL",
                "low" => "LOW",
                "medium" => "MEDIUM",
                _ => "HIGH",
            };
            w.text("thinkingLevel", level);
        }
    }
    w.end_object();
}
