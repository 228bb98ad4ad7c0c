//! A body of the Responses dialect as the typed form. Every error is `invalid_input` about a path.

use crate::dialect::responses::{FIELDS, GATEWAY_FIELDS, value};
use crate::dialect::seal::{self, Opened};
use crate::error::Failure;
use crate::json::view::Node;
use crate::text::file;
use crate::text::prompt::{
    Call, Effort, Format, Message, Param, Part, Prompt, Reasoning, Role, Source, Text, Tool, ToolChoice, ToolKind,
};
use crate::text::request::Body;

/// Parameters of the chat dialect that mean nothing here: an answer has one choice, of text.
const NOT_HERE: &[Param] = &[Param::Audio, Param::Modalities, Param::N, Param::Logprobs];
/// Fields of this dialect that the typed form has no place for.
const UNTRANSLATED: &[&str] = &["context_management", "max_tool_calls"];

type Read<T> = Result<T, Failure>;

/// The typed form of a body.
pub(super) fn read(body: &Body) -> Read<Prompt<'_>> {
    let mut prompt = Prompt { messages: messages(body)?, ..Prompt::default() };
    tools(body, &mut prompt)?;
    tool_choice(body, &mut prompt)?;
    text(body, &mut prompt)?;
    reasoning(body, &mut prompt)?;
    params(body, &mut prompt);
    Ok(prompt)
}

fn params<'a>(body: &'a Body, prompt: &mut Prompt<'a>) {
    let mut wants_logprobs = value(body, "include")
        .is_some_and(|list| list.items().any(|name| name.text().as_deref() == Some("message.output_text.logprobs")));
    for member in &body.members {
        let key = member.key.as_str();
        let Some(node) = value(body, key) else { continue };
        match Param::from_name(key).filter(|param| !NOT_HERE.contains(param)) {
            Some(param) => {
                wants_logprobs |= param == Param::TopLogprobs && node.raw() != "0";
                prompt.params.push((param, node.raw()));
            }
            None => {
                let is_known = GATEWAY_FIELDS.contains(&key) || key == "model" || FIELDS.iter().any(|(f, _)| *f == key);
                if !is_known || UNTRANSLATED.contains(&key) {
                    prompt.unknown.push(key.into());
                }
            }
        }
    }
    if wants_logprobs {
        prompt.params.push((Param::Logprobs, "true"));
    }
}

/// The string at a member that must be there.
fn needed<'a>(node: Node<'a>, key: &str, path: &str) -> Read<Text<'a>> {
    string(node, key, path)?.ok_or_else(|| Failure::invalid(format!("{path}.{key}"), "is missing"))
}

/// The string at a member that may be absent.
fn string<'a>(node: Node<'a>, key: &str, path: &str) -> Read<Option<Text<'a>>> {
    match node.get(key) {
        None => Ok(None),
        Some(value) => match value.text() {
            Some(text) => Ok(Some(text)),
            None => Err(Failure::invalid(format!("{path}.{key}"), "must be a string")),
        },
    }
}

/// The member that must be an object where it is there.
fn object<'a>(node: Node<'a>, key: &str, path: &str) -> Read<Option<Node<'a>>> {
    match node.get(key) {
        Some(value) if !value.is_object() => Err(Failure::invalid(format!("{path}.{key}"), "must be an object")),
        found => Ok(found),
    }
}

/// The bool at a member that may be absent.
fn flag(node: Node<'_>, key: &str, path: &str) -> Read<Option<bool>> {
    match node.get(key) {
        None => Ok(None),
        Some(value) => {
            value.bool().map(Some).ok_or_else(|| Failure::invalid(format!("{path}.{key}"), "must be true or false"))
        }
    }
}

fn must_be_object(node: Node<'_>, path: &str) -> Read<()> {
    if node.is_object() { Ok(()) } else { Err(Failure::invalid(path, "must be an object")) }
}

/// A signature over a call that is still to come, or has been.
struct Signature<'a> {
    call: Text<'a>,
    value: Text<'a>,
    issuer: Text<'a>,
}

fn messages(body: &Body) -> Read<Vec<Message<'_>>> {
    let mut found = Vec::new();
    if let Some(text) = value(body, "instructions").and_then(Node::text) {
        push(&mut found, Role::System, vec![Part::Text(text)], "instructions".to_owned());
    }
    let Some(input) = value(body, "input") else { return Err(Failure::invalid("input", "is missing")) };
    if let Some(text) = input.text() {
        push(&mut found, Role::User, vec![Part::Text(text)], "input".to_owned());
        return Ok(found);
    }
    let mut signatures = Vec::new();
    let mut is_empty = true;
    for (index, node) in input.items().enumerate() {
        is_empty = false;
        item(node, format!("input[{index}]"), &mut found, &mut signatures)?;
    }
    if is_empty {
        return Err(Failure::invalid("input", "is empty"));
    }
    let calls = found.iter_mut().flat_map(|message| &mut message.parts).filter_map(|part| match part {
        Part::Call(call) => Some(call),
        _ => None,
    });
    for call in calls {
        if let Some(at) = signatures.iter().position(|signature| signature.call == call.id) {
            let Signature { value, issuer, .. } = signatures.swap_remove(at);
            (call.signature, call.issuer) = (Some(value), Some(issuer));
        }
    }
    Ok(found)
}

/// Adds parts, to the last turn where the model goes on speaking or more tools answer.
fn push<'a>(found: &mut Vec<Message<'a>>, role: Role, parts: Vec<Part<'a>>, path: String) {
    match found.last_mut() {
        Some(last) if last.role == role && matches!(role, Role::Assistant | Role::Tool) => last.parts.extend(parts),
        _ => found.push(Message { role, parts, name: None, path }),
    }
}

fn item<'a>(
    node: Node<'a>,
    path: String,
    found: &mut Vec<Message<'a>>,
    signatures: &mut Vec<Signature<'a>>,
) -> Read<()> {
    must_be_object(node, &path)?;
    let kind = match string(node, "type", &path)? {
        Some(kind) => kind,
        None if node.get("role").is_some() => "message".into(),
        // The API lets the type of a reference be absent.
        None if node.get("id").is_some() => "item_reference".into(),
        None => return Err(Failure::invalid(format!("{path}.type"), "is missing")),
    };
    let (role, part) = match kind.as_ref() {
        "message" => {
            let (role, parts) = message(node, &path)?;
            push(found, role, parts, path);
            return Ok(());
        }
        "function_call" => (Role::Assistant, call(node, "arguments", ToolKind::Function, &path)?),
        "custom_tool_call" => (Role::Assistant, call(node, "input", ToolKind::Custom, &path)?),
        "function_call_output" | "custom_tool_call_output" => {
            let id = needed(node, "call_id", &path)?;
            let parts = content(node, "output", &path)?;
            (Role::Tool, Part::Result { id, parts, is_error: false })
        }
        "reasoning" => match reasoning_item(node, &path)? {
            (text, Some(Opened::Call { id, signature, issuer })) => {
                signatures.push(Signature { call: id, value: signature, issuer });
                match text {
                    None => return Ok(()),
                    text => (Role::Assistant, Part::Reasoning(Reasoning { text, ..Reasoning::default() })),
                }
            }
            (text, Some(Opened::Reasoning(opened))) => {
                let id = opened.id.or(string(node, "id", &path)?);
                (Role::Assistant, Part::Reasoning(Reasoning { text, id, ..opened }))
            }
            (text, None) => {
                let id = string(node, "id", &path)?;
                (Role::Assistant, Part::Reasoning(Reasoning { text, id, ..Reasoning::default() }))
            }
        },
        "item_reference" => {
            let why = "is a reference to an item, and the gateway keeps no state: send the item itself";
            return Err(Failure::invalid(path, why));
        }
        // What a hosted tool did is the model's; what is an answer to it, the client's.
        other => {
            let role = if other.ends_with("_call") || other == "compaction" { Role::Assistant } else { Role::User };
            (role, Part::Other { kind: kind.clone(), json: node.raw() })
        }
    };
    push(found, role, vec![part], path);
    Ok(())
}

fn message<'a>(node: Node<'a>, path: &str) -> Read<(Role, Vec<Part<'a>>)> {
    let role = match needed(node, "role", path)?.as_ref() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        _ => {
            return Err(Failure::invalid(format!("{path}.role"), "must be user, assistant, system or developer"));
        }
    };
    Ok((role, content(node, "content", path)?))
}

fn call<'a>(node: Node<'a>, arguments: &str, kind: ToolKind, path: &str) -> Read<Part<'a>> {
    Ok(Part::Call(Call {
        id: needed(node, "call_id", path)?,
        name: needed(node, "name", path)?,
        arguments: needed(node, arguments, path)?,
        kind,
        signature: None,
        issuer: None,
    }))
}

/// A string, or an array of parts.
fn content<'a>(node: Node<'a>, key: &str, path: &str) -> Read<Vec<Part<'a>>> {
    let path = format!("{path}.{key}");
    let Some(content) = node.get(key) else { return Err(Failure::invalid(path, "is missing")) };
    match content.text() {
        Some(text) => Ok(vec![Part::Text(text)]),
        None if content.is_array() => {
            content.items().enumerate().map(|(index, node)| part(node, &format!("{path}[{index}]"))).collect()
        }
        None => Err(Failure::invalid(path, "must be a string or an array of parts")),
    }
}

fn part<'a>(node: Node<'a>, path: &str) -> Read<Part<'a>> {
    must_be_object(node, path)?;
    let kind = needed(node, "type", path)?;
    Ok(match kind.as_ref() {
        "input_text" | "output_text" | "text" => Part::Text(needed(node, "text", path)?),
        "refusal" => Part::Refusal(needed(node, "refusal", path)?),
        "input_image" => {
            let source = match (string(node, "image_url", path)?, string(node, "file_id", path)?) {
                (Some(url), _) => Source::from_url(url),
                (None, Some(id)) => Source::Id(id),
                (None, None) => return Err(Failure::invalid(format!("{path}.image_url"), "is missing")),
            };
            Part::Image { source, detail: string(node, "detail", path)? }
        }
        "input_file" => {
            let name = string(node, "filename", path)?;
            let source = match (
                string(node, "file_data", path)?,
                string(node, "file_url", path)?,
                string(node, "file_id", path)?,
            ) {
                (Some(data), _, _) => file::source(data, name.as_deref()),
                (None, Some(url), _) => Source::from_url(url),
                (None, None, Some(id)) => Source::Id(id),
                (None, None, None) => return Err(Failure::invalid(format!("{path}.file_data"), "is missing")),
            };
            Part::File { source, name, is_cited: false }
        }
        "input_audio" => {
            let Some(audio) = object(node, "input_audio", path)? else {
                return Err(Failure::invalid(format!("{path}.input_audio"), "is missing"));
            };
            let path = format!("{path}.input_audio");
            Part::Audio { data: needed(audio, "data", &path)?, format: needed(audio, "format", &path)? }
        }
        _ => Part::Other { kind: kind.clone(), json: node.raw() },
    })
}

/// The text of a reasoning item, and what its `encrypted_content` says.
fn reasoning_item<'a>(node: Node<'a>, path: &str) -> Read<(Option<Text<'a>>, Option<Opened<'a>>)> {
    let mut text = texts(node, "content", path)?;
    if text.is_none() {
        text = texts(node, "summary", path)?;
    }
    let sealed = string(node, "encrypted_content", path)?;
    Ok((text, sealed.map(seal::open)))
}

/// The texts of an array of parts, a blank line between them; `None` where there is none.
fn texts<'a>(node: Node<'a>, key: &str, path: &str) -> Read<Option<Text<'a>>> {
    let Some(list) = node.get(key) else { return Ok(None) };
    if !list.is_array() {
        return Err(Failure::invalid(format!("{path}.{key}"), "must be an array"));
    }
    let mut joined: Option<Text<'a>> = None;
    for (index, part) in list.items().enumerate() {
        let path = format!("{path}.{key}[{index}]");
        must_be_object(part, &path)?;
        let text = needed(part, "text", &path)?;
        joined = Some(match joined {
            None => text,
            Some(before) => format!("{before}\n\n{text}").into(),
        });
    }
    Ok(joined.filter(|text| !text.is_empty()))
}

fn tools<'a>(body: &'a Body, prompt: &mut Prompt<'a>) -> Read<()> {
    let Some(list) = value(body, "tools") else { return Ok(()) };
    for (index, node) in list.items().enumerate() {
        let path = format!("tools[{index}]");
        must_be_object(node, &path)?;
        let (kind, schema) = match needed(node, "type", &path)?.as_ref() {
            "function" => (ToolKind::Function, object(node, "parameters", &path)?),
            "custom" => (ToolKind::Custom, object(node, "format", &path)?),
            // Only the host that has the tool can run it.
            hosted => {
                prompt.unknown.push(format!("{path}.{hosted}").into());
                continue;
            }
        };
        prompt.tools.push(Tool {
            kind,
            name: needed(node, "name", &path)?,
            description: string(node, "description", &path)?,
            schema: schema.map(Node::raw),
            strict: flag(node, "strict", &path)?,
            cache: None,
        });
    }
    Ok(())
}

fn tool_choice<'a>(body: &'a Body, prompt: &mut Prompt<'a>) -> Read<()> {
    const PATH: &str = "tool_choice";
    let Some(node) = value(body, PATH) else { return Ok(()) };
    let word = if node.is_string() { node.text().unwrap_or_default() } else { needed(node, "type", PATH)? };
    prompt.tool_choice = Some(match (word.as_ref(), node.is_object()) {
        ("auto", false) => ToolChoice::Auto,
        ("none", false) => ToolChoice::None,
        ("required", false) => ToolChoice::Required,
        (_, false) => return Err(Failure::invalid(PATH, "must be auto, none, required or an object")),
        ("function" | "custom", true) => ToolChoice::Named(needed(node, "name", PATH)?),
        ("allowed_tools", true) => {
            let required = match needed(node, "mode", PATH)?.as_ref() {
                "auto" => false,
                "required" => true,
                _ => return Err(Failure::invalid("tool_choice.mode", "must be auto or required")),
            };
            let Some(list) = node.get("tools").filter(|list| list.is_array()) else {
                return Err(Failure::invalid("tool_choice.tools", "must be an array of tools"));
            };
            let mut names = Vec::new();
            for (index, tool) in list.items().enumerate() {
                let path = format!("{PATH}.tools[{index}]");
                must_be_object(tool, &path)?;
                match needed(tool, "type", &path)?.as_ref() {
                    "function" | "custom" => names.push(needed(tool, "name", &path)?),
                    hosted => prompt.unknown.push(format!("{path}.{hosted}").into()),
                }
            }
            ToolChoice::Allowed { required, names }
        }
        (_, true) => {
            prompt.unknown.push(PATH.into());
            return Ok(());
        }
    });
    Ok(())
}

fn text<'a>(body: &'a Body, prompt: &mut Prompt<'a>) -> Read<()> {
    let Some(node) = value(body, "text") else { return Ok(()) };
    if string(node, "verbosity", "text")?.is_some()
        && let Some(verbosity) = node.get("verbosity")
    {
        prompt.params.push((Param::Verbosity, verbosity.raw()));
    }
    let Some(format) = object(node, "format", "text")? else { return Ok(()) };
    const PATH: &str = "text.format";
    prompt.format = match needed(format, "type", PATH)?.as_ref() {
        "text" => None,
        "json_object" => Some(Format::Json),
        "json_schema" => Some(Format::Schema {
            name: needed(format, "name", PATH)?,
            description: string(format, "description", PATH)?,
            schema: object(format, "schema", PATH)?
                .ok_or_else(|| Failure::invalid("text.format.schema", "is missing"))?
                .raw(),
            strict: flag(format, "strict", PATH)?,
        }),
        _ => {
            prompt.unknown.push(PATH.into());
            None
        }
    };
    Ok(())
}

fn reasoning<'a>(body: &'a Body, prompt: &mut Prompt<'a>) -> Read<()> {
    const PATH: &str = "reasoning";
    let Some(node) = value(body, PATH) else { return Ok(()) };
    let summary = match string(node, "summary", PATH)? {
        // Its name before.
        None => string(node, "generate_summary", PATH)?,
        summary => summary,
    };
    prompt.reasoning = Effort {
        effort: string(node, "effort", PATH)?,
        budget_tokens: node.u64_at("max_tokens"),
        enabled: flag(node, "enabled", PATH)?,
        summary,
    };
    const KNOWN: &[&str] = &["effort", "summary", "generate_summary", "max_tokens", "enabled"];
    let others = node.members().filter(|(key, value)| !KNOWN.contains(&key.as_ref()) && !value.is_null());
    prompt.unknown.extend(others.map(|(key, _)| format!("{PATH}.{key}").into()));
    Ok(())
}
