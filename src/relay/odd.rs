//! Requests that are odd but legal where they come from, in the words of families that are stricter.

use serde_json::{Value, json};

use crate::dialect::{Dialect, Voice};
use crate::error::{Code, Failure};
use crate::family::target::{Target, Traits};
use crate::family::{Decoder, Family};
use crate::text::ids::Ids;
use crate::text::reply::Reply;

fn sent(family: Family, body: &Value) -> Result<Value, Failure> {
    let mut body = body.clone();
    body["model"] = "m".into();
    let request = Dialect::Chat.parse(body.to_string().into_bytes()).unwrap();
    let prompt = Dialect::Chat.prompt(&request)?;
    let traits = Traits { structured_output: Some(true), ..Traits::default() };
    let upstream = "anthropic.claude";
    let target = Target { upstream, provider: "p", quirks: &[], traits: &traits, limit: Some(50), own_limit: None };
    family.write(&prompt, &target).map(|written| serde_json::from_slice(&written.body).unwrap())
}

fn user(content: Value) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

#[test]
fn turns_in_which_nothing_is_said_are_left_out() {
    let said = |text: &str| json!({"role": "user", "content": text});
    let body = json!({"messages": [said("a"), {"role": "assistant", "content": ""}, said(""), said("b")]});
    let only = json!({"messages": [{"role": "system", "content": "s"}]});
    for (family, list, turn, placeholder) in [
        (
            Family::Anthropic,
            "messages",
            json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
            json!("…"),
        ),
        (Family::BedrockConverse, "messages", json!([{"text": "a"}, {"text": "b"}]), json!([{"text": "…"}])),
        (Family::Gemini, "contents", json!([{"text": "a"}, {"text": "b"}]), json!([{"text": "…"}])),
    ] {
        let member = if family == Family::Gemini { "parts" } else { "content" };
        assert_eq!(sent(family, &body).unwrap()[list], json!([{"role": "user", member: turn}]), "{family:?}");
        assert_eq!(sent(family, &only).unwrap()[list], json!([{"role": "user", member: placeholder}]), "{family:?}");
    }
    assert_eq!(sent(Family::Mistral, &user(json!(""))).unwrap()["messages"][0]["content"], "");
}

#[test]
fn arguments_that_are_no_object_are_kept_in_one() {
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"x\":"}});
    let body = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": null, "tool_calls": [call]}]});
    let kept = json!({"input": "{\"x\":"});
    for (family, place) in [
        (Family::Anthropic, "/messages/1/content/0/input"),
        (Family::BedrockConverse, "/messages/1/content/0/toolUse/input"),
        (Family::Gemini, "/contents/1/parts/0/functionCall/args"),
    ] {
        assert_eq!(sent(family, &body).unwrap().pointer(place), Some(&kept), "{family:?}");
    }
}

#[test]
fn a_schema_says_that_it_is_of_an_object() {
    let tool = |parameters: Value| json!({"type": "function", "function": {"name": "f", "parameters": parameters}});
    let tools =
        json!([tool(json!({})), tool(json!({"properties": {"a": {}}})), tool(json!({"type": "object", "x": 1}))]);
    let body = json!({"messages": [{"role": "user", "content": "q"}], "tools": tools});
    let schemas = [
        json!({"type": "object", "properties": {}}),
        json!({"type": "object", "properties": {"a": {}}}),
        json!({"type": "object", "x": 1}),
    ];
    for (family, list, below) in [
        (Family::Anthropic, "/tools", "/input_schema"),
        (Family::BedrockConverse, "/toolConfig/tools", "/toolSpec/inputSchema/json"),
        (Family::Cohere, "/tools", "/function/parameters"),
    ] {
        let out = sent(family, &body).unwrap();
        let given: Vec<Value> = out
            .pointer(list)
            .unwrap()
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.pointer(below).unwrap().clone())
            .collect();
        assert_eq!(given, schemas, "{family:?}");
    }
    let gemini = sent(Family::Gemini, &body).unwrap();
    assert_eq!(gemini["tools"][0]["functionDeclarations"][0], json!({"name": "f"}));
}

#[test]
fn files_go_as_what_they_are() {
    let file = |name: &str, data: &str| user(json!([{"type": "file", "file": {"filename": name, "file_data": data}}]));
    let text = file("a.md", "aMOp");
    let picture = file("a.png", "data:image/png;base64,AA==");
    let archive = file("a.zip", "data:application/zip;base64,AA==");
    let claude =
        |body: &Value| sent(Family::Anthropic, body).map(|out| out["messages"][0]["content"][0]["source"].clone());
    assert_eq!(claude(&text).unwrap(), json!({"type": "text", "media_type": "text/plain", "data": "hé"}));
    assert_eq!(claude(&picture).unwrap(), json!({"type": "base64", "media_type": "image/png", "data": "AA=="}));
    let bedrock =
        |body: &Value| sent(Family::BedrockConverse, body).map(|out| out["messages"][0]["content"][0].clone());
    assert_eq!(bedrock(&text).unwrap()["document"]["format"], "md");
    assert_eq!(bedrock(&picture).unwrap()["image"]["format"], "png");
    for refused in [claude(&archive), bedrock(&archive)] {
        assert_eq!(refused.unwrap_err().code, Code::UnsupportedParameter);
    }
    let mistral = sent(Family::Mistral, &text).unwrap();
    let document =
        json!({"type": "document_url", "document_url": "data:text/markdown;base64,aMOp", "document_name": "a.md"});
    assert_eq!(mistral["messages"][0]["content"][0], document);
    let sound = user(json!([{"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}}]));
    let mistral = sent(Family::Mistral, &sound).unwrap();
    assert_eq!(mistral["messages"][0]["content"][0], json!({"type": "input_audio", "input_audio": "AA=="}));
    let link = user(json!([{"type": "image_url", "image_url": {"url": "https://x.example/a.JPG?w=1.5#f.png"}}]));
    let gemini = sent(Family::Gemini, &link).unwrap();
    assert_eq!(gemini["contents"][0]["parts"][0]["fileData"]["mimeType"], "image/jpeg");
}

#[test]
fn numbers_are_moved_into_the_range_of_the_family() {
    let mut body = user(json!("q"));
    for (name, value) in [("temperature", 1.7), ("top_p", 1.0), ("presence_penalty", 1.5), ("frequency_penalty", -0.5)]
    {
        body[name] = value.into();
    }
    assert_eq!(sent(Family::BedrockConverse, &body).unwrap()["inferenceConfig"]["temperature"], 1);
    let cohere = sent(Family::Cohere, &body).unwrap();
    let given =
        ["temperature", "p", "presence_penalty", "frequency_penalty"].map(|name| cohere[name].as_f64().unwrap());
    assert_eq!(given, [1.7, 0.99, 1.0, 0.0]);
}

#[test]
fn a_choice_of_a_tool_that_is_not_there_is_refused_by_name() {
    let mut body = user(json!("q"));
    body["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
    body["tool_choice"] = json!({"type": "function", "function": {"name": "g"}});
    use Family::{Anthropic, BedrockConverse, Cohere, Gemini, Mistral, OpenAiChat, OpenAiResponses};
    for family in [OpenAiChat, OpenAiResponses, Anthropic, Gemini, Cohere, BedrockConverse, Mistral] {
        let failure = sent(family, &body).unwrap_err();
        assert_eq!((failure.code, failure.param.as_deref()), (Code::InvalidInput, Some("tool_choice")), "{family:?}");
    }
}

#[test]
fn reasoning_without_room_is_named() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "q"}], "reasoning_effort": "high"});
    let request = Dialect::Chat.parse(body.to_string().into_bytes()).unwrap();
    let prompt = Dialect::Chat.prompt(&request).unwrap();
    let traits = Traits::default();
    for (limit, lost) in [(100, vec!["reasoning_effort".to_owned()]), (4000, vec![])] {
        let upstream = "anthropic.claude";
        let target =
            Target { upstream, provider: "p", quirks: &[], traits: &traits, limit: Some(limit), own_limit: None };
        for family in [Family::Anthropic, Family::BedrockConverse] {
            assert_eq!(family.write(&prompt, &target).unwrap().dropped, lost, "{family:?}");
        }
    }
}

#[test]
fn a_signature_over_a_call_comes_back_with_it_in_every_dialect() {
    let text = json!({"candidates": [{"content": {"parts": [{"text": "hm", "thought": true},
        {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "SIG"}]}, "finishReason": "STOP"}]});
    let mut events = Vec::new();
    Decoder::new(Family::Gemini, &[], "p").whole(&text.to_string(), &mut events);
    Ids::new("gen_X").give(&mut events);
    let voice = Voice { request_id: "gen_X".into(), model: "m".into(), created: 1, wants_usage: false, echo: None };
    let asked = json!({"role": "user", "content": "q"});
    for dialect in [Dialect::Chat, Dialect::Responses, Dialect::Messages] {
        let answer: Value = serde_json::from_slice(&dialect.write(&Reply::fold(events.clone()), &voice, None)).unwrap();
        let body = match dialect {
            Dialect::Chat => json!({"model": "m", "messages": [asked, answer["choices"][0]["message"]]}),
            Dialect::Responses => {
                let items: Vec<&Value> = [&asked].into_iter().chain(answer["output"].as_array().unwrap()).collect();
                json!({"model": "m", "input": items})
            }
            Dialect::Messages => {
                let turn = json!({"role": "assistant", "content": answer["content"]});
                json!({"model": "m", "max_tokens": 9, "messages": [asked, turn]})
            }
        };
        let request = dialect.parse(body.to_string().into_bytes()).unwrap();
        let prompt = dialect.prompt(&request).unwrap();
        let traits = Traits::default();
        let target =
            Target { upstream: "g", provider: "p", quirks: &[], traits: &traits, limit: None, own_limit: None };
        let sent: Value = serde_json::from_slice(&Family::Gemini.write(&prompt, &target).unwrap().body).unwrap();
        let part = &sent["contents"][1]["parts"][0];
        assert_eq!(
            (&part["functionCall"]["id"], &part["thoughtSignature"]),
            (&"call_X_0_0".into(), &"SIG".into()),
            "{dialect:?}"
        );
    }
}
