//! The OpenAI chat completions dialect: a parsed body as the typed form.
//!
//! Beside OpenAI's own fields it reads what its extensions carry from turn to turn: `reasoning_content` and
//! `reasoning_details` on assistant messages (as OpenRouter has them), `extra_content.*.thought_signature` on tool calls
//! (as Google's OpenAI-shaped surface has it), and `cache_control` on parts (as Anthropic has it).

use std::borrow::Cow;

use crate::error::Failure;
use crate::json::view::Node;
use crate::text::prompt::{
    Call, Effort, Format, Lifetime, Message, Param, Part, Prompt, Reasoning, Role, Source, Text, Tool, ToolChoice,
    ToolKind,
};
use crate::text::request::Request;
use crate::text::{file, issuer};

/// Fields that the typed form understands, or that are for the gateway.
const UNDERSTOOD: &[&str] = &[
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "response_format",
    "reasoning_effort",
    "reasoning",
    "include_reasoning",
];

/// The typed form. Fails where a message or tool is not of the documented shape.
pub fn prompt(request: &Request) -> Result<Prompt<'_>, Failure> {
    let body = &request.body;
    let node = |key: &str| body.value(key).map(Node::of).filter(|node| !node.is_null());
    let mut prompt = Prompt { stream: request.stream, ..Prompt::default() };
    for (index, item) in node("messages").map(Node::items).into_iter().flatten().enumerate() {
        message(item, index, &mut prompt)?;
    }
    for (index, item) in node("tools").map(Node::items).into_iter().flatten().enumerate() {
        prompt.tools.push(tool(item, &format!("tools[{index}]"))?);
    }
    for (index, item) in node("functions").map(Node::items).into_iter().flatten().enumerate() {
        prompt.tools.push(function(item, ToolKind::Function, None, &format!("functions[{index}]"))?);
    }
    prompt.tool_choice = node("tool_choice").or_else(|| node("function_call")).map(tool_choice).transpose()?;
    prompt.format = node("response_format").and_then(|format| response_format(format).transpose()).transpose()?;
    prompt.reasoning = effort(node("reasoning_effort"), node("reasoning"));
    for member in &body.members {
        let key = member.key.as_str();
        let Some(json) = body.value(key).filter(|json| *json != "null") else { continue };
        match Param::from_name(key) {
            Some(param) => prompt.params.push((param, json)),
            None if UNDERSTOOD.contains(&key) || super::chat::GATEWAY_FIELDS.contains(&key) => {}
            None => prompt.unknown.push(Cow::Borrowed(key)),
        }
    }
    Ok(prompt)
}

fn wrong(path: &str, what: &str) -> Failure {
    Failure::invalid(path.to_owned(), what.to_owned())
}

fn message<'a>(node: Node<'a>, index: usize, prompt: &mut Prompt<'a>) -> Result<(), Failure> {
    let path = format!("messages[{index}]");
    let role = match node.text_at("role").as_deref() {
        Some("system" | "developer") => Role::System,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => Role::Tool,
        Some("user") => Role::User,
        _ => return Err(wrong(&format!("{path}.role"), "is not a role that can be sent to this provider")),
    };
    let mut parts = Vec::new();
    if role == Role::Assistant {
        reasoning(node, &mut parts);
    }
    content(node.get("content"), &path, &mut parts)?;
    if let Some(refusal) = node.text_at("refusal") {
        parts.push(Part::Refusal(refusal));
    }
    for (index, item) in node.get("tool_calls").map(Node::items).into_iter().flatten().enumerate() {
        let call = call(item, node, &format!("{path}.tool_calls[{index}]"))?;
        parts.push(Part::Call(call));
    }
    // The deprecated form has one call and no id: its name stands in, here and in the answer to it.
    if let Some(old) = node.get("function_call") {
        let name = old.text_at("name").ok_or_else(|| wrong(&format!("{path}.function_call.name"), "is missing"))?;
        parts.push(Part::Call(Call {
            id: name.clone(),
            name,
            arguments: arguments(old.get("arguments")),
            kind: ToolKind::Function,
            signature: None,
            issuer: None,
        }));
    }
    if role == Role::Tool {
        let id = node.text_at("tool_call_id").or_else(|| node.text_at("name"));
        let id = id.ok_or_else(|| wrong(&format!("{path}.tool_call_id"), "is missing"))?;
        parts = vec![Part::Result { id, parts, is_error: false }];
    }
    prompt.messages.push(Message { role, parts, name: node.text_at("name"), path });
    Ok(())
}

fn content<'a>(node: Option<Node<'a>>, path: &str, parts: &mut Vec<Part<'a>>) -> Result<(), Failure> {
    let Some(node) = node else { return Ok(()) };
    if let Some(text) = node.text() {
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        return Ok(());
    }
    for (index, item) in node.items().enumerate() {
        part(item, &format!("{path}.content[{index}]"), parts)?;
    }
    Ok(())
}

fn part<'a>(node: Node<'a>, path: &str, parts: &mut Vec<Part<'a>>) -> Result<(), Failure> {
    let need =
        |value: Option<Text<'a>>, below: &str| value.ok_or_else(|| wrong(&format!("{path}.{below}"), "is missing"));
    match node.text_at("type").as_deref() {
        Some("text") => parts.push(Part::Text(need(node.text_at("text"), "text")?)),
        Some("image_url") => {
            let image = node.get("image_url");
            let url = image.and_then(|image| image.text().or_else(|| image.text_at("url")));
            let source = Source::from_url(need(url, "image_url.url")?);
            parts.push(Part::Image { source, detail: image.and_then(|image| image.text_at("detail")) });
        }
        Some("input_audio") => {
            let audio = node.get("input_audio");
            let of = |key: &str| audio.and_then(|audio| audio.text_at(key));
            let data = need(of("data"), "input_audio.data")?;
            parts.push(Part::Audio { data, format: need(of("format"), "input_audio.format")? });
        }
        Some("file") => {
            let file = node.get("file");
            let of = |key: &str| file.and_then(|file| file.text_at(key));
            let name = of("filename");
            let source = match (of("file_data"), of("file_id")) {
                (Some(data), _) => file::source(data, name.as_deref()),
                (None, Some(id)) => Source::Id(id),
                (None, None) => return Err(wrong(&format!("{path}.file"), "has neither file_data nor file_id")),
            };
            parts.push(Part::File { source, name, is_cited: false });
        }
        Some("refusal") => parts.push(Part::Refusal(need(node.text_at("refusal"), "refusal")?)),
        _ => {
            let kind = need(node.text_at("type"), "type")?;
            parts.push(Part::Other { kind, json: node.raw() });
        }
    }
    if let Some(lifetime) = lifetime(node) {
        parts.push(Part::CacheUpToHere(lifetime));
    }
    Ok(())
}

/// `prompt_cache_breakpoint` in OpenAI's form or `cache_control` in Anthropic's.
fn lifetime(node: Node<'_>) -> Option<Lifetime> {
    let said = |name| node.get(name).filter(|mark| !mark.is_null());
    let mark = said("prompt_cache_breakpoint").or_else(|| said("cache_control"))?;
    Some(match mark.text_at("ttl").as_deref() {
        Some("1h") => Lifetime::Hour,
        Some("12h") => Lifetime::HalfDay,
        _ => Lifetime::Short,
    })
}

/// The reasoning that an assistant message brings back.
fn reasoning<'a>(node: Node<'a>, parts: &mut Vec<Part<'a>>) {
    let details: Vec<Node<'a>> = node.get("reasoning_details").map(Node::items).into_iter().flatten().collect();
    for detail in &details {
        let kind = detail.text_at("type");
        let text = match kind.as_deref() {
            Some("reasoning.text") => detail.text_at("text"),
            Some("reasoning.summary") => detail.text_at("summary"),
            _ => None,
        };
        // What belongs to a call is found there, see `call`.
        let sealed = detail.text_at("data").filter(|_| !is_of_a_call(node, *detail));
        let signature = detail.text_at("signature");
        if text.is_some() || sealed.is_some() || signature.is_some() {
            let (id, issuer) = (detail.text_at("id"), detail.text_at("format"));
            parts.push(Part::Reasoning(Reasoning { text, signature, sealed, id, issuer }));
        }
    }
    if details.is_empty()
        && let Some(text) = node.text_at("reasoning_content").or_else(|| node.text_at("reasoning"))
    {
        parts.push(Part::Reasoning(Reasoning { text: Some(text), ..Reasoning::default() }));
    }
}

fn is_of_a_call(message: Node<'_>, detail: Node<'_>) -> bool {
    let Some(id) = detail.text_at("id") else { return false };
    let mut calls = message.get("tool_calls").map(Node::items).into_iter().flatten();
    calls.any(|call| call.text_at("id").is_some_and(|known| known == id))
}

fn call<'a>(node: Node<'a>, message: Node<'a>, path: &str) -> Result<Call<'a>, Failure> {
    let kind = if node.text_at("type").as_deref() == Some("custom") { ToolKind::Custom } else { ToolKind::Function };
    let inner = match kind {
        ToolKind::Function => node.get("function"),
        ToolKind::Custom => node.get("custom"),
    };
    let id = node.text_at("id").ok_or_else(|| wrong(&format!("{path}.id"), "is missing"))?;
    let name = inner.and_then(|inner| inner.text_at("name"));
    let name = name.ok_or_else(|| wrong(&format!("{path}.function.name"), "is missing"))?;
    let arguments = match kind {
        ToolKind::Function => arguments(inner.and_then(|inner| inner.get("arguments"))),
        ToolKind::Custom => inner.and_then(|inner| inner.text_at("input")).unwrap_or_default(),
    };
    let mut details = message.get("reasoning_details").map(Node::items).into_iter().flatten();
    let detail =
        details.find(|detail| detail.text_at("id").is_some_and(|known| known == id) && detail.get("data").is_some());
    let (signature, issuer) = match detail {
        Some(detail) => (detail.text_at("data"), detail.text_at("format")),
        None => {
            let mut extras = node.get("extra_content").map(Node::members).into_iter().flatten();
            let signature = extras.find_map(|(_, extra)| extra.text_at("thought_signature"));
            let issuer = signature.as_ref().map(|_| Cow::Borrowed(issuer::GEMINI));
            (signature, issuer)
        }
    };
    Ok(Call { id, name, arguments, kind, signature, issuer })
}

/// Arguments are JSON text inside a string; some clients send the object itself.
fn arguments(node: Option<Node<'_>>) -> Text<'_> {
    match node {
        None => Cow::Borrowed(""),
        Some(node) => node.text().unwrap_or(Cow::Borrowed(node.raw())),
    }
}

fn tool<'a>(node: Node<'a>, path: &str) -> Result<Tool<'a>, Failure> {
    match node.text_at("type").as_deref() {
        Some("custom") => {
            let inner = node.get("custom").ok_or_else(|| wrong(&format!("{path}.custom"), "is missing"))?;
            function(inner, ToolKind::Custom, lifetime(node), &format!("{path}.custom"))
        }
        None | Some("function") => {
            let inner = node.get("function").ok_or_else(|| wrong(&format!("{path}.function"), "is missing"))?;
            function(inner, ToolKind::Function, lifetime(node), &format!("{path}.function"))
        }
        Some(_) => Err(wrong(&format!("{path}.type"), "is not a tool that can be sent to this provider")),
    }
}

fn function<'a>(node: Node<'a>, kind: ToolKind, cache: Option<Lifetime>, path: &str) -> Result<Tool<'a>, Failure> {
    let name = node.text_at("name").ok_or_else(|| wrong(&format!("{path}.name"), "is missing"))?;
    let schema = match kind {
        ToolKind::Function => node.get("parameters"),
        ToolKind::Custom => node.get("format"),
    };
    Ok(Tool {
        kind,
        name,
        description: node.text_at("description"),
        schema: schema.map(Node::raw),
        strict: node.bool_at("strict"),
        cache: cache.or_else(|| lifetime(node)),
    })
}

fn tool_choice(node: Node<'_>) -> Result<ToolChoice<'_>, Failure> {
    let name_in = |node: Node<'_>| -> Option<String> {
        let inner = node.get("function").or_else(|| node.get("custom")).unwrap_or(node);
        inner.text_at("name").map(Cow::into_owned)
    };
    match node.text().as_deref() {
        Some("auto") => return Ok(ToolChoice::Auto),
        Some("none") => return Ok(ToolChoice::None),
        Some("required" | "any") => return Ok(ToolChoice::Required),
        Some(_) => return Err(wrong("tool_choice", "must be none, auto, required or name a tool")),
        None => {}
    }
    if node.text_at("type").as_deref() == Some("allowed_tools") {
        let allowed = node.get("allowed_tools").unwrap_or(node);
        let names = allowed.get("tools").map(Node::items).into_iter().flatten().filter_map(name_in);
        return Ok(ToolChoice::Allowed {
            required: allowed.text_at("mode").as_deref() == Some("required"),
            names: names.map(Cow::Owned).collect(),
        });
    }
    name_in(node).map(|name| ToolChoice::Named(Cow::Owned(name))).ok_or_else(|| wrong("tool_choice", "names no tool"))
}

fn response_format(node: Node<'_>) -> Result<Option<Format<'_>>, Failure> {
    match node.text_at("type").as_deref() {
        Some("text") | None => Ok(None),
        Some("json_object") => Ok(Some(Format::Json)),
        Some("json_schema") => {
            let inner = node.get("json_schema");
            let of = |key: &str| inner.and_then(|inner| inner.text_at(key));
            Ok(Some(Format::Schema {
                name: of("name").ok_or_else(|| wrong("response_format.json_schema.name", "is missing"))?,
                description: of("description"),
                schema: inner
                    .and_then(|inner| inner.get("schema"))
                    .map(Node::raw)
                    .ok_or_else(|| wrong("response_format.json_schema.schema", "is missing"))?,
                strict: inner.and_then(|inner| inner.bool_at("strict")),
            }))
        }
        Some(_) => Err(wrong("response_format.type", "is not a form that can be sent to this provider")),
    }
}

/// `reasoning_effort`, or the `reasoning` object of several hosts.
fn effort<'a>(effort: Option<Node<'a>>, object: Option<Node<'a>>) -> Effort<'a> {
    let of = |key: &str| object.and_then(|object| object.text_at(key));
    let is_hidden = object.and_then(|object| object.bool_at("exclude")) == Some(true);
    Effort {
        effort: effort.and_then(Node::text).or_else(|| of("effort")),
        budget_tokens: object.and_then(|object| object.u64_at("max_tokens")),
        enabled: object.and_then(|object| object.bool_at("enabled")),
        summary: if is_hidden { Some("none".into()) } else { of("summary") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Request {
        super::super::chat::parse(body.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_conversation_with_tools_comes_over_whole() {
        let request = of(
            r#"{"model":"m","seed":7,"top_p":0.50,"reasoning_effort":"low","novel":1,"tool_choice":{"type":"function","function":{"name":"f"}},
            "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","b":1,"a":2},"strict":true}}],
            "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"z":1}}},
            "messages":[{"role":"developer","content":"be"},{"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral","ttl":"1h"}},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AA","detail":"low"}}]},
            {"role":"assistant","content":null,"reasoning_details":[{"type":"reasoning.text","text":"t","signature":"s","format":"claude-v1"},
              {"type":"reasoning.encrypted","data":"sig","id":"c1","format":"gemini-v1"}],
              "tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\": 1.0}"}}]},
            {"role":"tool","tool_call_id":"c1","content":"42"}]}"#,
        );
        let p = prompt(&request).unwrap();
        assert_eq!(
            p.messages.iter().map(|m| m.role).collect::<Vec<_>>(),
            [Role::System, Role::User, Role::Assistant, Role::Tool]
        );
        assert!(matches!(
            &p.messages[1].parts[..],
            [Part::Text(_), Part::CacheUpToHere(Lifetime::Hour), Part::Image { .. }]
        ));
        let Part::Reasoning(r) = &p.messages[2].parts[0] else { panic!() };
        assert_eq!(
            (r.text.as_deref(), r.signature.as_deref(), r.issuer.as_deref()),
            (Some("t"), Some("s"), Some(issuer::CLAUDE))
        );
        let Part::Call(c) = &p.messages[2].parts[1] else { panic!() };
        assert_eq!(
            (c.arguments.as_ref(), c.signature.as_deref(), c.issuer.as_deref()),
            (r#"{"x": 1.0}"#, Some("sig"), Some("gemini-v1"))
        );
        assert_eq!(p.called("c1"), Some("f"));
        assert_eq!(p.tools[0].schema, Some(r#"{"type":"object","b":1,"a":2}"#));
        assert_eq!(p.tool_choice, Some(ToolChoice::Named("f".into())));
        assert_eq!((p.param(Param::Seed), p.param(Param::TopP)), (Some("7"), Some("0.50")));
        assert_eq!(p.unknown, ["novel"]);
        assert!(matches!(p.format, Some(Format::Schema { schema: r#"{"z":1}"#, .. })));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (messages, param) in [
            (r#"[{"role":"user","content":[{"type":"image_url"}]}]"#, "messages[0].content[0].image_url.url"),
            (r#"[{"role":"assistant","tool_calls":[{"function":{}}]}]"#, "messages[0].tool_calls[0].id"),
            (r#"[{"role":"critic","content":"x"}]"#, "messages[0].role"),
        ] {
            let request = of(&format!(r#"{{"model":"m","messages":{messages}}}"#));
            assert_eq!(prompt(&request).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
