//! What a conversation brings back that another issuer made, taken out of a body that goes through as it is.
//!
//! A client carries along whatever an answer had: signatures and sealed reasoning of the model that gave that answer. Its
//! next model may be another one, and hosts refuse what they did not make. Translated requests leave it out as they are
//! written; here the same is done to bytes of the client's own.

use std::borrow::Cow;

use crate::dialect::{Dialect, common};
use crate::json::ObjectEdits;
use crate::json::view::Node;
use crate::json::write::quoted;
use crate::text::issuer;
use crate::text::request::Request;

/// The request without what a provider did not make; `None` where there is nothing of the kind.
pub fn without(dialect: Dialect, request: &Request, provider: &str) -> Option<Request> {
    let (field, hint) = match dialect {
        Dialect::Chat => ("messages", "\"reasoning_details\""),
        Dialect::Responses => ("input", "\"reasoning\""),
        Dialect::Messages => ("messages", "thinking\""),
    };
    let body = &request.body;
    // Most conversations have nothing of it, and some are long.
    match &body.messages {
        Some(messages) if dialect == Dialect::Chat => {
            let may_be = |name: &[u8]| name == b"reasoning_details" || name.contains(&b'\\');
            let names = messages.iter().flatten().filter_map(|(_, name, _)| body.bytes.get(name.clone()));
            names.into_iter().any(may_be).then_some(())?;
        }
        _ => drop(memchr::memmem::find(body.bytes_of(field)?, hint.as_bytes())?),
    }
    let list = Node::of(body.value(field)?);
    let own = issuer::of_provider(provider);
    let changed = match dialect {
        Dialect::Chat => each(list, &|message| message_without(message, &own)),
        Dialect::Responses => each(list, &|item| if is_foreign_item(item) { Kept::Gone } else { Kept::Whole }),
        Dialect::Messages => each(list, &|message| member_without(message, "content", &is_foreign_block)),
    };
    let Kept::Changed(json) = changed else { return None };
    let mut edits = ObjectEdits::new(&body.bytes, &body.members);
    edits.set(field, &json);
    let bytes = edits.finish();
    dialect.parse_body(common::read(bytes).ok()?).ok()
}

/// What is left of a value.
enum Kept {
    Whole,
    Changed(String),
    Gone,
}

/// A list with `keep` done to each entry.
fn each(list: Node<'_>, keep: &dyn Fn(Node<'_>) -> Kept) -> Kept {
    let mut entries: Vec<Cow<'_, str>> = Vec::new();
    let mut is_changed = false;
    for entry in list.items() {
        match keep(entry) {
            Kept::Whole => entries.push(entry.raw().into()),
            Kept::Changed(json) => {
                is_changed = true;
                entries.push(json.into());
            }
            Kept::Gone => is_changed = true,
        }
    }
    match (is_changed, entries.is_empty()) {
        (false, _) => Kept::Whole,
        (true, true) => Kept::Gone,
        (true, false) => Kept::Changed(format!("[{}]", entries.join(","))),
    }
}

/// An object without the entries of one member that are foreign. A turn in which nothing else was said goes with them.
fn member_without(object: Node<'_>, name: &str, is_foreign: &dyn Fn(Node<'_>) -> bool) -> Kept {
    let Some(list) = object.get(name).filter(|list| list.is_array()) else { return Kept::Whole };
    let list = match each(list, &|entry| if is_foreign(entry) { Kept::Gone } else { Kept::Whole }) {
        Kept::Whole => return Kept::Whole,
        Kept::Gone if name == "content" => return Kept::Gone,
        Kept::Gone => None,
        Kept::Changed(json) => Some(json),
    };
    members_but(object, name, list.as_deref())
}

/// A message without the details of others. What such a detail says of a call stands in the call as well.
fn message_without(message: Node<'_>, own: &str) -> Kept {
    let details = message.get("reasoning_details").map(Node::items).into_iter().flatten();
    let signed: Vec<Cow<'_, str>> =
        details.filter(|detail| is_others(*detail, own)).filter_map(|detail| detail.text_at("id")).collect();
    let Kept::Changed(json) = member_without(message, "reasoning_details", &|detail| is_others(detail, own)) else {
        return Kept::Whole;
    };
    let less = Node::of(&json);
    let calls = less.get("tool_calls").map(|calls| {
        each(calls, &|call| match call.text_at("id").is_some_and(|id| signed.contains(&id)) {
            true => members_but(call, "extra_content", None),
            false => Kept::Whole,
        })
    });
    match calls {
        Some(Kept::Changed(calls)) => members_but(less, "tool_calls", Some(&calls)),
        _ => Kept::Changed(json),
    }
}

/// An object with one member replaced or left out.
fn members_but(object: Node<'_>, name: &str, with: Option<&str>) -> Kept {
    if object.get(name).is_none() {
        return Kept::Whole;
    }
    let mut members: Vec<String> = Vec::new();
    for (key, value) in object.members() {
        let json = if key == name { with } else { Some(value.raw()) };
        members.extend(json.map(|json| format!("{}:{json}", quoted(&key))));
    }
    Kept::Changed(format!("{{{}}}", members.join(",")))
}

/// A detail of reasoning that another issuer of ours made. What names an issuer in a host's own way stays.
fn is_others(detail: Node<'_>, own: &str) -> bool {
    let is_ours = |issuer: &str| issuer == issuer::CLAUDE || issuer == issuer::GEMINI || issuer::is_of_provider(issuer);
    detail.text_at("format").is_some_and(|format| format != own && is_ours(&format))
}

/// Reasoning that no provider of the family can have made, or that it would look for and not find: this gateway's own
/// ids, without the content.
fn is_foreign_item(item: Node<'_>) -> bool {
    item.text_at("type").as_deref() == Some("reasoning")
        && match item.text_at("encrypted_content") {
            Some(sealed) => issuer::is_marked(&sealed),
            None => item.text_at("id").is_some_and(|id| id.starts_with(super::responses::REASONING_ID)),
        }
}

/// A block of thinking that nobody signed, or somebody else.
fn is_foreign_block(block: Node<'_>) -> bool {
    match block.text_at("type").as_deref() {
        Some("thinking") => block.text_at("signature").is_none_or(|one| one.is_empty() || issuer::is_marked(&one)),
        Some("redacted_thinking") => block.text_at("data").is_some_and(|data| issuer::is_marked(&data)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(dialect: Dialect, field: &str, list: &str) -> Option<String> {
        let body = format!(r#"{{"model":"m","max_tokens":9,"{field}":{list}}}"#);
        let request = dialect.parse(body.into_bytes()).unwrap();
        without(dialect, &request, "p").map(|request| request.body.value(field).unwrap().to_owned())
    }

    #[test]
    fn what_another_issuer_made_stays_here() {
        let ask = r#"{"role":"user","content":"q"}"#;
        let own = r#"{"type":"thinking","thinking":"t","signature":"SIG"}"#;
        let said = r#"{"type":"text","text":"a"}"#;
        let blocks = |list: &[&str]| format!(r#"[{ask},{{"role":"assistant","content":[{}]}},{ask}]"#, list.join(","));
        let marked = r#"{"type":"thinking","thinking":"t","signature":"gw1.gemini-v1.S"}"#;
        let unsigned = r#"{"type":"thinking","thinking":"t","signature":""}"#;
        let redacted = r#"{"type":"redacted_thinking","data":"gw1.gemini-v1.S"}"#;
        let messages = |list: &[&str]| left(Dialect::Messages, "messages", &blocks(list));
        assert_eq!(messages(&[own, said]), None);
        assert_eq!(messages(&[marked, redacted, unsigned, own, said]), Some(blocks(&[own, said])));
        assert_eq!(messages(&[marked]), Some(format!("[{ask},{ask}]")));

        let item = |more: &str| format!(r#"{{"type":"reasoning","summary":[],{more}}}"#);
        let items = |list: &[String]| format!("[{ask},{}]", list.join(","));
        let (native, ours) = (item(r#""id":"rs_1","encrypted_content":"E""#), item(r#""id":"rs_gen_X_0""#));
        let kept = item(r#""id":"rs_2""#);
        let marked = item(r#""id":"rs_1","encrypted_content":"gw1.claude-v1.1-1.ab""#);
        let input = |list: &[String]| left(Dialect::Responses, "input", &items(list));
        assert_eq!(input(&[native.clone(), kept.clone()]), None);
        assert_eq!(input(&[marked, native.clone(), ours, kept.clone()]), Some(items(&[native, kept])));

        let detail = |format: &str| format!(r#"{{"type":"reasoning.text","text":"t","format":"{format}"}}"#);
        let turn = |list: &[String]| {
            let details = match list {
                [] => String::new(),
                list => format!(r#","reasoning_details":[{}]"#, list.join(",")),
            };
            format!(r#"[{ask},{{"role":"assistant","content":"a"{details}}}]"#)
        };
        let chat = |list: &[String]| left(Dialect::Chat, "messages", &turn(list));
        let kept = [detail("openai-v1:p"), detail("anthropic-claude-v1")];
        assert_eq!(chat(&kept), None);
        assert_eq!(chat(&[&kept[..], &[detail("claude-v1"), detail("openai-v1:q")]].concat()), Some(turn(&kept)));
        assert_eq!(chat(&[detail("gemini-v1")]), Some(turn(&[])));
        let call = |id: &str, more: &str| {
            format!(r#"{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{}}"}}{more}}}"#)
        };
        let extra = r#","extra_content":{"maker":{"thought_signature":"S"}}"#;
        let signed = |format: &str| {
            format!(
                r#","reasoning_details":[{{"type":"reasoning.encrypted","data":"S","id":"a","format":"{format}"}}]"#
            )
        };
        let turn = |calls: &[String], more: &str| {
            format!(r#"[{ask},{{"role":"assistant","content":null,"tool_calls":[{}]{more}}}]"#, calls.join(","))
        };
        let brought = turn(&[call("a", extra), call("b", extra)], &signed("gemini-v1"));
        let kept = turn(&[call("a", ""), call("b", extra)], "");
        assert_eq!(left(Dialect::Chat, "messages", &brought), Some(kept));
    }
}
