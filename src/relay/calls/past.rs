//! The other way: calls of earlier turns go back to every family as the client of every dialect tells them.

use proptest::prelude::*;

use super::scene::{Call, Scene, quoted, scene};
use super::{CASES, as_told, is_alike, pairs, same};
use crate::dialect::Dialect;
use crate::family::Family;
use crate::family::target::{Target, Traits};
use crate::json::view::Node;

fn joined(scene: &Scene, one: impl Fn(&Call) -> String) -> String {
    scene.calls.iter().map(one).collect::<Vec<_>>().join(",")
}

/// A conversation in which the scene's calls were made and answered.
fn body(dialect: Dialect, scene: &Scene) -> String {
    let q = |text: &str| quoted(text, scene.is_ascii);
    match dialect {
        Dialect::Chat => {
            let calls = joined(scene, |call| {
                let (kind, member) = if call.is_custom { ("custom", "input") } else { ("function", "arguments") };
                let (id, name, arguments) = (q(&call.id), q(&call.name), q(&call.arguments));
                format!(r#"{{"id":{id},"type":"{kind}","{kind}":{{"name":{name},"{member}":{arguments}}}}}"#)
            });
            let results =
                joined(scene, |call| format!(r#"{{"role":"tool","tool_call_id":{},"content":"r"}}"#, q(&call.id)));
            format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":"x"}},{{"role":"assistant","content":null,"tool_calls":[{calls}]}},{results}]}}"#
            )
        }
        Dialect::Responses => {
            let calls = joined(scene, |call| {
                let (kind, member) =
                    if call.is_custom { ("custom_tool_call", "input") } else { ("function_call", "arguments") };
                let (id, name, arguments) = (q(&call.id), q(&call.name), q(&call.arguments));
                format!(r#"{{"type":"{kind}","call_id":{id},"name":{name},"{member}":{arguments}}}"#)
            });
            let results = joined(scene, |call| {
                format!(r#"{{"type":"function_call_output","call_id":{},"output":"r"}}"#, q(&call.id))
            });
            format!(r#"{{"model":"m","input":[{{"role":"user","content":"x"}},{calls},{results}]}}"#)
        }
        Dialect::Messages => {
            let calls = joined(scene, |call| {
                let (id, name) = (q(&call.id), q(&call.name));
                format!(r#"{{"type":"tool_use","id":{id},"name":{name},"input":{}}}"#, call.arguments)
            });
            let results = joined(scene, |call| {
                format!(r#"{{"type":"tool_result","tool_use_id":{},"content":"r"}}"#, q(&call.id))
            });
            format!(
                r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"x"}},{{"role":"assistant","content":[{calls}]}},{{"role":"user","content":[{results}]}}]}}"#
            )
        }
    }
}

/// The elements of a list in each of the turns.
fn inside<'a>(turns: Vec<Node<'a>>, key: &str) -> Vec<Node<'a>> {
    turns.into_iter().filter_map(|turn| turn.get(key)).flat_map(Node::items).collect()
}

/// The calls in a family's request, and the ids of the answers to them.
fn read(family: Family, body: &str) -> (Vec<Call>, Vec<String>) {
    let node = Node::parse(body).unwrap();
    let list = |key: &str| -> Vec<Node<'_>> { node.get(key).unwrap().items().collect() };
    let call = |node: Node<'_>, id: &str, inner: Node<'_>, is_custom: bool| {
        let arguments = ["arguments", "args", "input"].iter().find_map(|key| inner.get(key)).unwrap();
        Call {
            id: node.string_at(id),
            name: inner.string_at("name"),
            arguments: arguments.text().map_or_else(|| arguments.raw().to_owned(), Into::into),
            is_custom,
        }
    };
    let ids = |nodes: Vec<Node<'_>>, key: &str| -> Vec<String> {
        nodes.into_iter().filter_map(|node| node.text_at(key)).map(Into::into).collect()
    };
    match family {
        Family::OpenAiChat
        | Family::AzureOpenAi
        | Family::Mistral
        | Family::VertexMistral
        | Family::Cohere
        | Family::Watsonx
        | Family::WorkersAi => {
            let calls = inside(list("messages"), "tool_calls").into_iter();
            let calls = calls.map(|node| match node.get("custom") {
                Some(inner) => call(node, "id", inner, true),
                None => call(node, "id", node.get("function").unwrap(), false),
            });
            (calls.collect(), ids(list("messages"), "tool_call_id"))
        }
        Family::OpenAiResponses => {
            let kind = |node: &Node<'_>| node.string_at("type");
            let calls = list("input").into_iter().filter(|node| kind(node).ends_with("_call"));
            let calls = calls.map(|node| call(node, "call_id", node, kind(&node) == "custom_tool_call"));
            let results = list("input").into_iter().filter(|node| kind(node).ends_with("_output")).collect();
            (calls.collect(), ids(results, "call_id"))
        }
        Family::Anthropic | Family::VertexAnthropic | Family::BedrockInvoke => {
            let blocks = inside(list("messages"), "content");
            let calls = blocks.iter().filter(|node| node.get("input").is_some());
            (calls.map(|node| call(*node, "id", *node, false)).collect(), ids(blocks.clone(), "tool_use_id"))
        }
        Family::Gemini | Family::VertexGemini => {
            let parts = inside(list("contents"), "parts");
            let of = |key: &str| parts.iter().filter_map(|node| node.get(key)).collect::<Vec<_>>();
            let calls = of("functionCall").into_iter().map(|node| call(node, "id", node, false));
            (calls.collect(), ids(of("functionResponse"), "id"))
        }
        Family::BedrockConverse => {
            let blocks = inside(list("messages"), "content");
            let of = |key: &str| blocks.iter().filter_map(|node| node.get(key)).collect::<Vec<_>>();
            let calls = of("toolUse").into_iter().map(|node| call(node, "toolUseId", node, false));
            (calls.collect(), ids(of("toolResult"), "toolUseId"))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn calls_of_earlier_turns_go_back_whole(scene in scene()) {
        for (dialect, family) in pairs(&scene) {
            let request = dialect.parse(body(dialect, &scene).into_bytes()).unwrap();
            let prompt = dialect.prompt(&request).unwrap();
            let traits = Traits::default();
            let target = Target { upstream: "u", provider: "p", quirks: &[], traits: &traits, limit: None, own_limit: None };
            let written = family.write(&prompt, &target).unwrap();
            let (mut calls, results) = read(family, std::str::from_utf8(&written.body).unwrap());
            // Ids may be made to fit a family, but stay different ones, and each has its answer.
            let ids: Vec<String> = calls.iter().map(|call| call.id.clone()).collect();
            prop_assert_eq!(&ids, &results, "{:?} to {:?}", dialect, family);
            let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
            prop_assert_eq!(distinct.len(), scene.calls.len());
            calls.iter_mut().zip(&scene.calls).for_each(|(call, sent)| call.id.clone_from(&sent.id));
            let told = as_told(&scene, family);
            // Free text that goes into an object is quoted by us.
            let is_exact = is_alike(dialect, family) && told.calls == scene.calls;
            same(&told.calls, &calls, is_exact)
                .map_err(|error| TestCaseError::fail(format!("{dialect:?} to {family:?}: {error}")))?;
        }
    }
}
