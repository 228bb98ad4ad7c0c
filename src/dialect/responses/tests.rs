use serde_json::{Value, json};

use super::*;
use crate::dialect::{Dialect, Voice};
use crate::text::event::{Event, Finish};
use crate::text::prompt::{Part, Role, ToolChoice, ToolKind};
use crate::text::reply::Reply;
use crate::usage::{Meter, Usage};

fn voice() -> Voice {
    Voice { request_id: "r".into(), model: "a/b".into(), created: 5, wants_usage: true, echo: None }
}

fn counted() -> Usage {
    Usage::default().with(Meter::InputTokens, 3).with(Meter::CacheReadTokens, 4).with(Meter::OutputTokens, 2)
}

#[test]
fn a_conversation_comes_over_whole() {
    let body = json!({"model":"m","instructions":"s","max_output_tokens":9,"reasoning":{"effort":"low"},"tool_choice":{"type":"function","name":"f"},
        "tools":[{"type":"function","name":"f","parameters":{"type":"object"},"strict":true}],
        "text":{"format":{"type":"json_schema","name":"n","schema":{"z":1}}},
        "input":[{"role":"user","content":[{"type":"input_text","text":"hi"},{"type":"input_image","image_url":"data:image/png;base64,AA","detail":"low"}]},
            {"type":"function_call","call_id":"c","name":"f","arguments":"{\"q\": 1.0}"},{"type":"function_call_output","call_id":"c","output":"r"}]});
    let request = parse(body.to_string().into_bytes()).unwrap();
    assert_eq!((request.demand.max_output, request.demand.images), (Some(9), 1));
    let p = prompt(&request).unwrap();
    assert_eq!(p.messages[0].role, Role::System);
    let parts: Vec<&Part<'_>> = p.messages.iter().flat_map(|message| &message.parts).collect();
    assert!(parts.iter().any(|part| matches!(part, Part::Image { .. })));
    assert!(parts.iter().any(|part| matches!(part, Part::Call(call) if call.arguments == r#"{"q": 1.0}"#)));
    assert!(parts.iter().any(|part| matches!(part, Part::Result { id, .. } if id == "c")));
    assert_eq!(
        (p.tools[0].schema, p.tool_choice.clone()),
        (Some(r#"{"type":"object"}"#), Some(ToolChoice::Named("f".into())))
    );
    assert_eq!(p.reasoning.effort.as_deref(), Some("low"));
    assert!(p.format.is_some());
}

#[test]
fn what_is_wrong_or_needs_a_memory_is_named() {
    for (body, param) in [
        (json!({"input":"x"}), "model"),
        (json!({"model":"m"}), "input"),
        (json!({"model":"m","input":7}), "input"),
        (json!({"model":"m","input":"x","previous_response_id":"resp_1"}), "previous_response_id"),
        (json!({"model":"m","input":"x","background":true}), "background"),
        (json!({"model":"m","input":"x","max_output_tokens":0}), "max_output_tokens"),
    ] {
        let failure = parse(body.to_string().into_bytes()).expect_err(&body.to_string());
        assert_eq!(failure.param.as_deref(), Some(param), "{body}: {}", failure.message);
    }
}

fn events() -> Vec<Event> {
    let (choice, call) = (0, 0);
    vec![
        Event::Start { id: None, model: None },
        Event::Reasoning { choice, text: "hm".into() },
        Event::Text { choice, text: "Hi ".into(), logprobs: None },
        Event::Text { choice, text: "there".into(), logprobs: None },
        Event::CallStart { choice, call, id: "c".into(), name: "f".into(), kind: ToolKind::Function, signature: None },
        Event::CallDelta { choice, call, arguments: "{\"a\"".into() },
        Event::CallDelta { choice, call, arguments: ":1}".into() },
        Event::CallEnd { choice, call },
        Event::Finish { choice, reason: Finish::ToolCalls, stop_sequence: None },
        Event::Usage(counted()),
    ]
}

#[test]
fn a_stream_counts_its_events_and_closes_what_it_opens() {
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
    for (number, value) in data.iter().enumerate() {
        assert_eq!(value["sequence_number"], json!(number), "{value}");
    }
    let count = |kind: &str| data.iter().filter(|value| value["type"] == kind).count();
    assert_eq!((count("response.output_item.added"), count("response.output_item.done")), (3, 3));
    assert_eq!((data[0]["type"].as_str(), count("response.output_text.delta")), (Some("response.created"), 2));
    let last = &data.last().unwrap()["response"];
    assert_eq!(
        (&last["status"], &last["usage"]["input_tokens"], &last["usage"]["cost"]),
        (&json!("completed"), &json!(7), &json!(0.5))
    );
    assert_eq!(last["output"][2]["arguments"], "{\"a\":1}");
}

#[test]
fn a_whole_answer_says_the_same() {
    let value: Value = serde_json::from_slice(&write(&Reply::fold(events()), &voice(), Some("\"cost\":1"))).unwrap();
    assert_eq!(
        (&value["output"][1]["content"][0]["text"], &value["output"][2]["call_id"]),
        (&json!("Hi there"), &json!("c"))
    );
    assert_eq!(
        (&value["usage"]["input_tokens_details"]["cached_tokens"], &value["usage"]["cost"]),
        (&json!(4), &json!(1))
    );
}

#[test]
fn an_answer_repeats_what_was_asked() {
    let body = json!({"model":"m","input":"x","instructions":"be","temperature":0.5,"metadata":{"a":"b"},"max_output_tokens":9,
        "tools":[{"type":"custom","name":"f"}],"text":{"format":{"type":"json_object"}}});
    let request = parse(body.to_string().into_bytes()).unwrap();
    let voice = Voice { echo: Dialect::Responses.echo(&request), ..voice() };
    let whole: Value = serde_json::from_slice(&write(&Reply::fold(events()), &voice, None)).unwrap();
    let (mut encoder, mut out) = (Encoder::new(voice), Vec::new());
    events().iter().for_each(|event| encoder.push(event, &mut out));
    let text = String::from_utf8(out).unwrap();
    let created = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    for answer in [whole, serde_json::from_str::<Value>(created).unwrap()["response"].take()] {
        for key in ["instructions", "temperature", "metadata", "max_output_tokens", "tools", "text"] {
            assert_eq!(answer[key], body[key], "{key}");
        }
        assert_eq!((&answer["top_p"], &answer["parallel_tool_calls"]), (&Value::Null, &json!(true)));
    }
    assert_eq!(Dialect::Chat.echo(&request), None);
}
