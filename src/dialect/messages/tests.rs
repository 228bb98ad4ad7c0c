use serde_json::{Value, json};

use super::*;
use crate::dialect::Voice;
use crate::text::event::{Event, Finish};
use crate::text::issuer;
use crate::text::prompt::{Part, ToolKind};
use crate::text::reply::Reply;
use crate::usage::{Meter, Usage};

fn voice() -> Voice {
    Voice { request_id: "r".into(), model: "a/b".into(), created: 5, wants_usage: true, echo: None }
}

#[test]
fn a_request_comes_over_whole() {
    let body = json!({"model":"m","max_tokens":9,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"top_k":3,"novel":1,
        "thinking":{"type":"enabled","budget_tokens":2000},"tools":[{"name":"f","input_schema":{"type":"object"}},{"type":"web_search_20250305","name":"web"}],
        "tool_choice":{"type":"any","disable_parallel_tool_use":true},
        "messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]},
            {"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"tool_use","id":"t1","name":"f","input":{"a":1.0}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"r","is_error":true}]}]});
    let request = parse(body.to_string().into_bytes()).unwrap();
    assert_eq!((request.demand.max_output, request.demand.images), (Some(9), 1));
    let p = prompt(&request).unwrap();
    assert_eq!(p.messages.len(), 4);
    let Part::Reasoning(r) = &p.messages[2].parts[0] else { panic!() };
    assert_eq!((r.signature.as_deref(), r.issuer.as_deref()), (Some("s"), Some(issuer::CLAUDE)));
    let Part::Call(c) = &p.messages[2].parts[1] else { panic!() };
    assert_eq!(c.arguments, r#"{"a":1.0}"#);
    assert!(matches!(&p.messages[3].parts[0], Part::Result { is_error: true, .. }));
    assert_eq!((p.tools.len(), p.unknown.len(), p.reasoning.budget_tokens), (1, 2, Some(2000)));
}

#[test]
fn what_is_wrong_is_named() {
    for (body, param) in [
        (json!({"model":"m","messages":[{"role":"user","content":"x"}]}), "max_tokens"),
        (json!({"model":"m","max_tokens":0,"messages":[{"role":"user","content":"x"}]}), "max_tokens"),
        (json!({"model":"m","max_tokens":1}), "messages"),
        (json!({"model":"m","max_tokens":1,"messages":[]}), "messages"),
        (json!({"model":"m","max_tokens":1,"messages":[{"role":"tool","content":"x"}]}), "messages[0].role"),
        (json!({"model":"m","max_tokens":1,"messages":[{"role":"user"}]}), "messages[0].content"),
        (
            json!({"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text"}]}]}),
            "messages[0].content[0].text",
        ),
        (
            json!({"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"image"}]}]}),
            "messages[0].content[0].source",
        ),
    ] {
        let failure = parse(body.to_string().into_bytes()).expect_err(&body.to_string());
        assert_eq!(failure.param.as_deref(), Some(param), "{}", failure.message);
    }
}

fn events() -> Vec<Event> {
    let call = |call: u32, id: &str| Event::CallStart {
        choice: 0,
        call,
        id: id.into(),
        name: "f".into(),
        kind: ToolKind::Function,
        signature: None,
    };
    let more = |call: u32, text: &str| Event::CallDelta { choice: 0, call, arguments: text.into() };
    vec![
        Event::Start { id: None, model: None },
        Event::Reasoning { choice: 0, text: "hm".into() },
        Event::ReasoningEnd {
            choice: 0,
            signature: Some("S".into()),
            sealed: None,
            id: None,
            issuer: Some(issuer::GEMINI.into()),
        },
        Event::Text { choice: 0, text: "Hi".into(), logprobs: None },
        call(0, "c0"),
        call(1, "c1"),
        more(0, "{\"a\""),
        more(1, "{\"b\":2}"),
        more(0, ":1}"),
        Event::CallEnd { choice: 0, call: 0 },
        Event::CallEnd { choice: 0, call: 1 },
        Event::Finish { choice: 0, reason: Finish::ToolCalls, stop_sequence: None },
        Event::Usage(counted()),
    ]
}

fn counted() -> Usage {
    Usage::default().with(Meter::InputTokens, 3).with(Meter::CacheReadTokens, 4).with(Meter::OutputTokens, 2)
}

#[test]
fn a_stream_has_its_blocks_one_after_the_other() {
    let (mut encoder, mut out) = (Encoder::new(voice()), Vec::new());
    events().iter().for_each(|event| encoder.push(event, &mut out));
    encoder.finish(Some(&counted()), &|_| Some("\"cost\":0.5".into()), &mut out);
    let text = String::from_utf8(out).unwrap();
    let data: Vec<Value> = text
        .split("\n\n")
        .filter_map(|frame| frame.split_once("\ndata: "))
        .map(|(name, data)| {
            let value: Value = serde_json::from_str(data).unwrap();
            assert_eq!(name.strip_prefix("event: "), value["type"].as_str());
            value
        })
        .collect();
    let mut open = None;
    let mut arguments = vec![String::new(); 8];
    for value in &data {
        let index = value["index"].as_u64();
        match value["type"].as_str().unwrap() {
            "content_block_start" => assert!(open.replace(index).is_none()),
            "content_block_stop" => assert_eq!(open.take(), Some(index)),
            "content_block_delta" => {
                assert_eq!(open, Some(index));
                if let Some(part) = value["delta"]["partial_json"].as_str() {
                    arguments[usize::try_from(index.unwrap()).unwrap()].push_str(part);
                }
            }
            _ => {}
        }
    }
    assert_eq!((arguments[2].as_str(), arguments[3].as_str()), ("{\"a\":1}", "{\"b\":2}"));
    assert_eq!((data[0]["type"].as_str(), data[1]["type"].as_str()), (Some("message_start"), Some("ping")));
    let delta = &data[data.len() - 2];
    assert_eq!(
        (&delta["delta"]["stop_reason"], &delta["usage"]["input_tokens"], &delta["usage"]["cost"]),
        (&json!("tool_use"), &json!(3), &json!(0.5))
    );
    assert!(text.contains("gw1.gemini-v1.S"), "another's signature says whose it is");
}

#[test]
fn a_whole_answer_says_the_same() {
    let value: Value = serde_json::from_slice(&write(&Reply::fold(events()), &voice(), Some("\"cost\":1"))).unwrap();
    assert_eq!(value["content"][2]["input"], json!({"a":1}));
    assert_eq!(
        (&value["stop_reason"], &value["usage"]["cache_read_input_tokens"], &value["usage"]["cost"]),
        (&json!("tool_use"), &json!(4), &json!(1))
    );
}

#[test]
fn a_failure_is_in_its_makers_form() {
    let value: Value = serde_json::from_str(&failure(&Failure::invalid("max_tokens", "is missing"), "r")).unwrap();
    assert_eq!(
        (&value["type"], &value["error"]["type"], &value["error"]["param"], &value["request_id"]),
        (&json!("error"), &json!("invalid_request_error"), &json!("max_tokens"), &json!("r"))
    );
}

#[test]
fn a_mark_at_the_top_stands_on_the_last_block() {
    let parts = |more: Value| {
        let mut body =
            json!({"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = parse(body.to_string().into_bytes()).unwrap();
        prompt(&request).unwrap().messages.iter().map(|message| format!("{:?}", message.parts)).collect::<String>()
    };
    let hour = json!({"cache_control":{"type":"ephemeral","ttl":"1h"}});
    assert!(parts(hour).ends_with("CacheUpToHere(Hour)]"));
    assert!(!parts(json!({})).contains("CacheUpToHere"));
    // SDKs send null for a mark that there is not.
    assert!(!parts(json!({"cache_control":null})).contains("CacheUpToHere"));
    let block = json!({"type":"text","text":"a","cache_control":null});
    assert!(!parts(json!({"messages":[{"role":"user","content":[block]}]})).contains("CacheUpToHere"));
}

#[test]
fn a_document_made_of_blocks_is_its_text() {
    let part = |content: Value| {
        let document = json!({"type":"document","title":"t","source":{"type":"content","content":content}});
        let body = json!({"model":"m","max_tokens":9,"messages":[{"role":"user","content":[document]}]});
        let request = parse(body.to_string().into_bytes())?;
        Ok::<String, crate::error::Failure>(format!("{:?}", prompt(&request)?.messages[0].parts[0]))
    };
    let text = |text: &str| json!({"type":"text","text":text});
    assert!(part(json!([text("a"), text("b")])).unwrap().contains(r#"Text("a\nb")"#));
    assert!(part(json!("a")).unwrap().contains(r#"Text("a")"#));
    // A picture in it is left to the dialect's own hosts.
    let picture = json!({"type":"image","source":{"type":"url","url":"https://a.example/x.png"}});
    assert!(part(json!([text("a"), picture])).unwrap().starts_with("Other"));
    assert_eq!(part(json!(3)).unwrap_err().param.as_deref(), Some("messages[0].content[0].source.content"));
}

#[test]
fn a_signature_over_a_call_comes_back_with_it() {
    let signature = Some(("gemini-v1".to_owned(), "SIG".to_owned()));
    let (name, kind) = ("f".to_owned(), crate::text::prompt::ToolKind::Function);
    let told = [
        Event::CallStart { choice: 0, call: 0, id: "c1".to_owned(), name, kind, signature },
        Event::CallDelta { choice: 0, call: 0, arguments: "{}".to_owned() },
        Event::CallEnd { choice: 0, call: 0 },
        Event::Finish { choice: 0, reason: Finish::ToolCalls, stop_sequence: None },
    ];
    let whole = write(&Reply::fold(told.clone()), &voice(), None);
    let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    let mut streamed = Vec::new();
    let mut encoder = Encoder::new(voice());
    told.iter().for_each(|event| encoder.push(event, &mut streamed));
    let streamed = String::from_utf8(streamed).unwrap();
    let data = whole["content"][0]["data"].as_str().unwrap();
    assert!(
        streamed.contains(&format!(r#""content_block":{{"type":"redacted_thinking","data":"{data}"}}"#)),
        "{streamed}"
    );
    let body = format!(
        r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":{}}}]}}"#,
        whole["content"]
    );
    let request = parse(body.into_bytes()).unwrap();
    let prompt = prompt(&request).unwrap();
    let [Part::Call(call)] = &prompt.messages[1].parts[..] else { panic!("{:?}", prompt.messages[1]) };
    assert_eq!((call.signature.as_deref(), call.issuer.as_deref()), (Some("SIG"), Some("gemini-v1")));
}
