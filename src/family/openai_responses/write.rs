//! The typed form as a Responses request.

use crate::error::Failure;
use crate::family::openai_chat_typed::SAMPLING;
use crate::family::target::{Target, Written, cannot, dropped};
use crate::json::write::Writer;
use crate::text::issuer;
use crate::text::prompt::{Format, Message, Param, Part, Prompt, Role, Source, Tool, ToolChoice, ToolKind};

/// Parameters that go out under their own names.
const TAKEN: &[Param] = &[
    Param::Temperature,
    Param::TopP,
    Param::Logprobs,
    Param::TopLogprobs,
    Param::ParallelToolCalls,
    Param::Metadata,
    Param::User,
    Param::SafetyIdentifier,
    Param::ServiceTier,
    Param::PromptCacheKey,
    Param::PromptCacheOptions,
    Param::PromptCacheRetention,
    Param::Truncation,
    Param::Verbosity,
];

/// Writes a request.
pub fn write(prompt: &Prompt<'_>, target: &Target<'_>) -> Result<Written, Failure> {
    if prompt.param(Param::N).is_some_and(|n| n != "1") {
        return Err(cannot("n", "more than one choice"));
    }
    let is_refused = |param: &Param| target.traits.sampling_params == Some(false) && SAMPLING.contains(param);
    let taken: Vec<Param> = TAKEN.iter().copied().filter(|param| !is_refused(param)).collect();
    let mut w = Writer::object();
    w.text("model", target.upstream).flag("store", false);
    w.array_at("input");
    for message in &prompt.messages {
        items(message, target, &mut w)?;
    }
    w.end_array();
    if prompt.stream {
        w.flag("stream", true);
    }
    if let Some(limit) = target.limit {
        // The API takes no smaller one.
        w.count("max_output_tokens", limit.max(16));
    }
    include(prompt, target, &mut w);
    tools(prompt, target, &mut w);
    text(prompt, target, &mut w)?;
    reasoning(prompt, target, &mut w);
    // Two have places of their own.
    let is_plain = |param: &Param| taken.contains(param) && !matches!(param, Param::Verbosity | Param::Logprobs);
    for (param, json) in prompt.params.iter().filter(|(param, _)| is_plain(param)) {
        w.value(param.name(), json);
    }
    let mut lost = dropped(&prompt.params, &taken);
    lost.extend(prompt.unknown.iter().map(|name| name.clone().into_owned()));
    Ok(Written { path: "/responses".to_owned(), headers: Vec::new(), body: w.close().into_bytes(), dropped: lost })
}

/// A message as items: what is said in one, each call and each result in one of its own, in their order.
fn items(message: &Message<'_>, target: &Target<'_>, w: &mut Writer) -> Result<(), Failure> {
    let own = issuer::of_provider(target.provider);
    let role = match message.role {
        Role::System => "developer",
        Role::Assistant => "assistant",
        Role::User | Role::Tool => "user",
    };
    let mut said: Vec<&Part<'_>> = Vec::new();
    for part in &message.parts {
        match part {
            Part::CacheUpToHere(_) => {}
            Part::Reasoning(reasoning) => {
                if let Some(sealed) = reasoning.sealed.as_deref().filter(|_| reasoning.issuer.as_deref() == Some(&own))
                {
                    flush(&mut said, role, message, w)?;
                    w.begin_object().text("type", "reasoning").text_if("id", reasoning.id.as_deref());
                    w.array_at("summary");
                    if let Some(text) = reasoning.text.as_deref().filter(|text| !text.is_empty()) {
                        w.begin_object().text("type", "summary_text").text("text", text).end_object();
                    }
                    w.end_array().text("encrypted_content", sealed).end_object();
                }
            }
            Part::Call(call) => {
                flush(&mut said, role, message, w)?;
                w.begin_object();
                match call.kind {
                    ToolKind::Function => {
                        let arguments = if call.arguments.is_empty() { "{}" } else { call.arguments.as_ref() };
                        w.text("type", "function_call").text("call_id", &call.id).text("name", &call.name);
                        w.text("arguments", arguments);
                    }
                    ToolKind::Custom => {
                        w.text("type", "custom_tool_call").text("call_id", &call.id).text("name", &call.name);
                        w.text("input", &call.arguments);
                    }
                }
                w.end_object();
            }
            Part::Result { id, parts, .. } => {
                flush(&mut said, role, message, w)?;
                w.begin_object().text("type", "function_call_output").text("call_id", id);
                let texts: Option<Vec<&str>> = parts
                    .iter()
                    .filter(|part| !matches!(part, Part::CacheUpToHere(_)))
                    .map(|part| match part {
                        Part::Text(text) => Some(text.as_ref()),
                        _ => None,
                    })
                    .collect();
                match texts {
                    Some(texts) => w.text("output", &texts.concat()),
                    None => {
                        w.array_at("output");
                        for part in parts {
                            self::part(part, false, message, w)?;
                        }
                        w.end_array()
                    }
                };
                w.end_object();
            }
            other => said.push(other),
        }
    }
    flush(&mut said, role, message, w)
}

fn flush(said: &mut Vec<&Part<'_>>, role: &str, message: &Message<'_>, w: &mut Writer) -> Result<(), Failure> {
    if said.is_empty() {
        return Ok(());
    }
    w.begin_object().text("type", "message").text("role", role).array_at("content");
    for part in said.drain(..) {
        self::part(part, role == "assistant", message, w)?;
    }
    w.end_array().end_object();
    Ok(())
}

fn part(part: &Part<'_>, is_output: bool, message: &Message<'_>, w: &mut Writer) -> Result<(), Failure> {
    let url = |source: &Source<'_>, what: &str| match source {
        Source::Data { media_type, data } => Ok(format!("data:{media_type};base64,{data}")),
        Source::Url(url) => Ok(url.clone().into_owned()),
        Source::Id(_) | Source::Text(_) => Err(cannot(&message.path, what)),
    };
    match part {
        Part::CacheUpToHere(_) => return Ok(()),
        Part::Text(text) | Part::File { source: Source::Text(text), .. } => {
            let kind = if is_output { "output_text" } else { "input_text" };
            w.begin_object().text("type", kind).text("text", text);
            if is_output {
                w.value("annotations", "[]");
            }
        }
        Part::Refusal(text) => {
            w.begin_object().text("type", "refusal").text("refusal", text);
        }
        _ if is_output => return Err(cannot(&message.path, "media said by the assistant")),
        Part::Image { source, detail } => {
            w.begin_object().text("type", "input_image").text("detail", detail.as_deref().unwrap_or("auto"));
            w.text("image_url", &url(source, "an image by its id")?);
        }
        Part::Audio { data, format } => {
            w.begin_object().text("type", "input_audio").object_at("input_audio");
            w.text("data", data).text("format", format).end_object();
        }
        Part::File { source, name, .. } => {
            w.begin_object().text("type", "input_file");
            match source {
                Source::Url(url) => w.text("file_url", url),
                source => {
                    w.text("filename", name.as_deref().unwrap_or("file"));
                    w.text("file_data", &url(source, "a file by its id")?)
                }
            };
        }
        Part::Other { kind, .. } => return Err(cannot(&message.path, &format!("a part of type {kind}"))),
        Part::Reasoning(_) | Part::Call(_) | Part::Result { .. } => return Err(cannot(&message.path, "this part")),
    }
    w.end_object();
    Ok(())
}

fn tools(prompt: &Prompt<'_>, target: &Target<'_>, w: &mut Writer) {
    if prompt.tools.is_empty() {
        return;
    }
    w.array_at("tools");
    for Tool { kind, name, description, schema, strict, .. } in &prompt.tools {
        w.begin_object();
        match kind {
            ToolKind::Function => {
                w.text("type", "function").text("name", name).text_if("description", description.as_deref());
                w.value("parameters", schema.unwrap_or(r#"{"type":"object","properties":{}}"#));
                w.flag("strict", strict.unwrap_or(false));
            }
            ToolKind::Custom => {
                w.text("type", "custom").text("name", name).text_if("description", description.as_deref());
                w.value_if("format", *schema);
            }
        }
        w.end_object();
    }
    w.end_array();
    let kind_of = |name: &str| {
        let is_custom = prompt.tools.iter().any(|tool| tool.name == name && tool.kind == ToolKind::Custom);
        if is_custom { "custom" } else { "function" }
    };
    let may_force = target.traits.forced_tool_choice != Some(false);
    match &prompt.tool_choice {
        None => {}
        Some(ToolChoice::Auto) => {
            w.text("tool_choice", "auto");
        }
        Some(ToolChoice::None) => {
            w.text("tool_choice", "none");
        }
        Some(_) if !may_force => {
            w.text("tool_choice", "auto");
        }
        Some(ToolChoice::Required) => {
            w.text("tool_choice", "required");
        }
        Some(ToolChoice::Named(name)) => {
            w.object_at("tool_choice").text("type", kind_of(name)).text("name", name).end_object();
        }
        Some(ToolChoice::Allowed { required, names }) => {
            w.object_at("tool_choice").text("type", "allowed_tools");
            w.text("mode", if *required { "required" } else { "auto" }).array_at("tools");
            for name in names {
                w.begin_object().text("type", kind_of(name)).text("name", name).end_object();
            }
            w.end_array().end_object();
        }
    }
}

fn text(prompt: &Prompt<'_>, target: &Target<'_>, w: &mut Writer) -> Result<(), Failure> {
    let verbosity = prompt.param(Param::Verbosity);
    if prompt.format.is_none() && verbosity.is_none() {
        return Ok(());
    }
    if prompt.format.is_some() && target.traits.structured_output == Some(false) {
        return Err(cannot("response_format", "a form of the answer"));
    }
    w.object_at("text");
    match &prompt.format {
        None => {}
        Some(Format::Json) => {
            w.object_at("format").text("type", "json_object").end_object();
        }
        Some(Format::Schema { name, description, schema, strict }) => {
            w.object_at("format").text("type", "json_schema").text("name", name);
            w.text_if("description", description.as_deref()).value("schema", schema);
            if let Some(strict) = strict {
                w.flag("strict", *strict);
            }
            w.end_object();
        }
    }
    w.value_if("verbosity", verbosity).end_object();
    Ok(())
}

/// What the answer holds only where it is asked for.
fn include(prompt: &Prompt<'_>, target: &Target<'_>, w: &mut Writer) {
    let reasons = target.traits.reasoning == Some(true) || prompt.reasoning.is_stated();
    let counts = prompt.param(Param::Logprobs) == Some("true");
    let wanted = [(reasons, "reasoning.encrypted_content"), (counts, "message.output_text.logprobs")];
    if wanted.iter().any(|(is_wanted, _)| *is_wanted) {
        w.array_at("include");
        wanted.iter().filter(|(is_wanted, _)| *is_wanted).for_each(|(_, name)| {
            w.string(name);
        });
        w.end_array();
    }
}

fn reasoning(prompt: &Prompt<'_>, target: &Target<'_>, w: &mut Writer) {
    let wanted = &prompt.reasoning;
    if !wanted.is_stated() || target.traits.reasoning == Some(false) {
        return;
    }
    let word = match (&wanted.effort, wanted.budget_tokens) {
        _ if wanted.is_off() => "none",
        (Some(word), _) => word.as_ref(),
        (None, Some(0..=2_048)) => "low",
        (None, Some(12_001..)) => "high",
        (None, _) => "medium",
    };
    w.object_at("reasoning").text("effort", target.traits.effort(word));
    match wanted.summary.as_deref() {
        Some("none") => {}
        summary if !wanted.is_off() => {
            w.text("summary", summary.unwrap_or("auto"));
        }
        _ => {}
    }
    w.end_object();
}
