//! A parsed Messages body as the typed form.

use std::borrow::Cow;

use crate::dialect::seal::{self, Opened};
use crate::error::Failure;
use crate::json::view::Node;
use crate::text::issuer;
use crate::text::prompt::{
    Call, Effort, Format, Lifetime, Message, Param, Part, Prompt, Reasoning, Role, Source, Text, Tool, ToolChoice,
    ToolKind,
};
use crate::text::request::Request;

/// The typed form. Fails where a block is not of the documented shape.
pub fn prompt(request: &Request) -> Result<Prompt<'_>, Failure> {
    let body = &request.body;
    let node = |key: &str| body.value(key).map(Node::of).filter(|node| !node.is_null());
    let mut prompt = Prompt { stream: request.stream, ..Prompt::default() };
    if let Some(system) = node("system") {
        let mut parts = Vec::new();
        content(system, "system", &mut parts)?;
        prompt.messages.push(Message { role: Role::System, parts, name: None, path: "system".to_owned() });
    }
    for (index, message) in node("messages").map(Node::items).into_iter().flatten().enumerate() {
        let path = format!("messages[{index}]");
        let mut parts = Vec::new();
        if let Some(said) = message.get("content") {
            content(said, &format!("{path}.content"), &mut parts)?;
        }
        let role = match message.text_at("role").as_deref() {
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            _ => Role::User,
        };
        prompt.messages.push(Message { role, parts, name: None, path });
    }
    // A mark at the top stands for one on the last block.
    if let (Some(control), Some(last)) = (node("cache_control"), prompt.messages.last_mut())
        && !matches!(last.parts.last(), None | Some(Part::CacheUpToHere(_)))
    {
        last.parts.push(Part::CacheUpToHere(lifetime_of(control)));
    }
    for (index, item) in node("tools").map(Node::items).into_iter().flatten().enumerate() {
        match tool(item, index)? {
            Some(tool) => prompt.tools.push(tool),
            // A tool that the provider itself would run.
            None => prompt.unknown.push(Cow::Owned(format!("tools[{index}]"))),
        }
    }
    let choice = node("tool_choice");
    prompt.tool_choice = match choice.and_then(|choice| choice.text_at("type")).as_deref() {
        None => None,
        Some("auto") => Some(ToolChoice::Auto),
        Some("any") => Some(ToolChoice::Required),
        Some("none") => Some(ToolChoice::None),
        Some("tool") => {
            let name = choice.and_then(|choice| choice.text_at("name"));
            Some(ToolChoice::Named(name.ok_or_else(|| Failure::invalid("tool_choice.name", "is missing"))?))
        }
        Some(_) => return Err(Failure::invalid("tool_choice.type", "must be auto, any, tool or none")),
    };
    if choice.and_then(|choice| choice.bool_at("disable_parallel_tool_use")) == Some(true) {
        prompt.params.push((Param::ParallelToolCalls, "false"));
    }
    prompt.reasoning = effort(node("thinking"), node("output_config"));
    prompt.format = node("output_config").and_then(|config| config.at(&["format", "schema"])).map(|schema| {
        let (name, schema) = (Cow::Borrowed("answer"), schema.raw());
        Format::Schema { name, description: None, schema, strict: Some(true) }
    });
    for (key, param) in [
        ("temperature", Param::Temperature),
        ("top_p", Param::TopP),
        ("top_k", Param::TopK),
        ("stop_sequences", Param::Stop),
    ] {
        prompt.params.extend(node(key).map(|node| (param, node.raw())));
    }
    if let Some(user) = node("metadata").and_then(|metadata| metadata.get("user_id")) {
        prompt.params.push((Param::User, user.raw()));
    }
    if let Some(tier) = node("service_tier") {
        let json = if tier.text().as_deref() == Some("standard_only") { r#""default""# } else { tier.raw() };
        prompt.params.push((Param::ServiceTier, json));
    }
    let understood = super::FIELDS.iter().map(|(name, _)| *name).chain(["model", "cache_control"]);
    let understood: Vec<&str> = understood.collect();
    let unknown = body.members.iter().map(|member| member.key.as_str()).filter(|key| !understood.contains(key));
    prompt.unknown.extend(unknown.map(Cow::Borrowed));
    Ok(prompt)
}

fn content<'a>(node: Node<'a>, path: &str, parts: &mut Vec<Part<'a>>) -> Result<(), Failure> {
    if let Some(text) = node.text() {
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        return Ok(());
    }
    for (index, item) in node.items().enumerate() {
        if signature_of_a_call(item).is_some() {
            continue;
        }
        let mut part = block(item, &format!("{path}[{index}]"))?;
        if let Part::Call(call) = &mut part {
            let known = node.items().filter_map(signature_of_a_call).find(|(id, _, _)| *id == call.id);
            if let Some((_, signature, issuer)) = known {
                (call.signature, call.issuer) = (Some(signature), Some(issuer));
            }
        }
        parts.push(part);
        parts.extend(lifetime(item).map(Part::CacheUpToHere));
    }
    Ok(())
}

/// What a redacted block says of a call beside it: the call's id, a signature over it, and whose.
fn signature_of_a_call(node: Node<'_>) -> Option<(Text<'_>, Text<'_>, Text<'_>)> {
    let data = node.text_at("type").filter(|kind| kind == "redacted_thinking").and_then(|_| node.text_at("data"))?;
    match seal::open(data) {
        Opened::Call { id, signature, issuer } => Some((id, signature, issuer)),
        Opened::Reasoning(_) => None,
    }
}

fn lifetime(node: Node<'_>) -> Option<Lifetime> {
    node.get("cache_control").filter(|control| !control.is_null()).map(lifetime_of)
}

fn lifetime_of(control: Node<'_>) -> Lifetime {
    if control.text_at("ttl").as_deref() == Some("1h") { Lifetime::Hour } else { Lifetime::Short }
}

fn block<'a>(node: Node<'a>, path: &str) -> Result<Part<'a>, Failure> {
    let need = |key: &str| {
        node.text_at(key).ok_or_else(|| Failure::invalid(format!("{path}.{key}"), "is missing or no string"))
    };
    let owned = |text: Text<'a>| -> (Option<Text<'a>>, Text<'a>) {
        let (issuer, value) = issuer::unmarked(&text, Some(issuer::CLAUDE));
        (issuer.map(|issuer| Cow::Owned(issuer.to_owned())), Cow::Owned(value.to_owned()))
    };
    Ok(match need("type")?.as_ref() {
        "text" => Part::Text(need("text")?),
        "image" => Part::Image { source: source(node, path)?, detail: None },
        "document" if holds_more_than_text(node) => Part::Other { kind: "document".into(), json: node.raw() },
        "document" => Part::File {
            source: source(node, path)?,
            name: node.text_at("title"),
            is_cited: node.at(&["citations", "enabled"]).and_then(Node::bool) == Some(true),
        },
        "thinking" => {
            let signed = node.text_at("signature").filter(|signature| !signature.is_empty()).map(owned);
            let (issuer, signature) = signed.map_or((None, None), |(issuer, value)| (issuer, Some(value)));
            let text = node.text_at("thinking");
            Part::Reasoning(Reasoning { text, signature, sealed: None, id: None, issuer })
        }
        "redacted_thinking" => {
            let (issuer, data) = owned(need("data")?);
            Part::Reasoning(Reasoning { sealed: Some(data), issuer, ..Reasoning::default() })
        }
        "tool_use" => Part::Call(Call {
            id: need("id")?,
            name: need("name")?,
            arguments: Cow::Borrowed(node.get("input").map_or("{}", Node::raw)),
            kind: ToolKind::Function,
            signature: None,
            issuer: None,
        }),
        "tool_result" => {
            let mut parts = Vec::new();
            if let Some(inner) = node.get("content") {
                content(inner, &format!("{path}.content"), &mut parts)?;
            }
            Part::Result { id: need("tool_use_id")?, parts, is_error: node.bool_at("is_error") == Some(true) }
        }
        _ => Part::Other { kind: need("type")?, json: node.raw() },
    })
}

fn source<'a>(node: Node<'a>, path: &str) -> Result<Source<'a>, Failure> {
    let source = node.get("source").ok_or_else(|| Failure::invalid(format!("{path}.source"), "is missing"))?;
    let need = |key: &str| {
        source.text_at(key).ok_or_else(|| Failure::invalid(format!("{path}.source.{key}"), "is missing or no string"))
    };
    Ok(match need("type")?.as_ref() {
        "base64" => Source::Data { media_type: need("media_type")?, data: need("data")? },
        "url" => Source::Url(need("url")?),
        "text" => Source::Text(need("data")?),
        "file" => Source::Id(need("file_id")?),
        "content" => Source::Text(match source.get("content") {
            Some(text) if text.text().is_some() => text.text().unwrap_or_default(),
            Some(list) if list.is_array() => {
                let texts: Vec<Text<'a>> = list.items().filter_map(|item| item.text_at("text")).collect();
                Cow::Owned(texts.join("\n"))
            }
            _ => return Err(Failure::invalid(format!("{path}.source.content"), "must be text or a list of blocks")),
        }),
        _ => return Err(Failure::invalid(format!("{path}.source.type"), "must be base64, url, text, content or file")),
    })
}

/// Whether a document made of blocks has others than text, which only the dialect's own hosts take.
fn holds_more_than_text(node: Node<'_>) -> bool {
    let blocks = node.at(&["source", "content"]).map(Node::items).into_iter().flatten();
    blocks.into_iter().any(|block| block.text_at("type").as_deref() != Some("text"))
}

fn tool<'a>(node: Node<'a>, index: usize) -> Result<Option<Tool<'a>>, Failure> {
    if node.text_at("type").is_some_and(|kind| kind != "custom") {
        return Ok(None);
    }
    let name = node.text_at("name").ok_or_else(|| Failure::invalid(format!("tools[{index}].name"), "is missing"))?;
    Ok(Some(Tool {
        kind: ToolKind::Function,
        name,
        description: node.text_at("description"),
        schema: node.get("input_schema").map(Node::raw),
        strict: node.bool_at("strict"),
        cache: lifetime(node),
    }))
}

fn effort<'a>(thinking: Option<Node<'a>>, config: Option<Node<'a>>) -> Effort<'a> {
    let kind = thinking.and_then(|thinking| thinking.text_at("type"));
    let display = thinking.and_then(|thinking| thinking.text_at("display"));
    Effort {
        effort: config.and_then(|config| config.text_at("effort")),
        budget_tokens: thinking.and_then(|thinking| thinking.u64_at("budget_tokens")),
        enabled: match kind.as_deref() {
            Some("disabled") => Some(false),
            Some(_) => Some(true),
            None => None,
        },
        summary: display.map(|display| if display == "omitted" { "none".into() } else { "auto".into() }),
    }
}
