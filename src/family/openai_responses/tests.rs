use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::Dialect;
use crate::family::target::{Target, Traits};
use crate::sse::Frames;
use crate::text::event::{Event, Finish};
use crate::text::reply::{Block, Reply};
use crate::usage::Meter;

#[test]
fn a_conversation_with_tools() {
    let body = json!({"model":"m","reasoning_effort":"low","verbosity":"low","seed":1,"tool_choice":{"type":"function","function":{"name":"f"}},
        "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],
        "messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"https://x.example/i"}}]},
        {"role":"assistant","content":"t","reasoning_details":[{"type":"reasoning.encrypted","data":"E","id":"rs","format":"openai-v1:p"}],"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"q\": 1.0}"}}]},
        {"role":"tool","tool_call_id":"c","content":"r"}]});
    let request = Dialect::Chat.parse(body.to_string().into_bytes()).unwrap();
    let prompt = Dialect::Chat.prompt(&request).unwrap();
    let traits = Traits::default();
    let written = write(
        &prompt,
        &Target { upstream: "u", provider: "p", quirks: &[], traits: &traits, limit: Some(99), own_limit: None },
    )
    .unwrap();
    assert_eq!(written.dropped, ["seed"]);
    let out: Value = serde_json::from_slice(&written.body).unwrap();
    assert_eq!(
        out,
        json!({"model":"u","store":false,"input":[
        {"type":"message","role":"developer","content":[{"type":"input_text","text":"s"}]},
        {"type":"message","role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_image","detail":"auto","image_url":"https://x.example/i"}]},
        {"type":"reasoning","id":"rs","summary":[],"encrypted_content":"E"},
        {"type":"message","role":"assistant","content":[{"type":"output_text","text":"t","annotations":[]}]},
        {"type":"function_call","call_id":"c","name":"f","arguments":"{\"q\": 1.0}"},
        {"type":"function_call_output","call_id":"c","output":"r"}],
        "max_output_tokens":99,"tools":[{"type":"function","name":"f","parameters":{"type":"object"},"strict":false}],"tool_choice":{"type":"function","name":"f"},
        "text":{"verbosity":"low"},"include":["reasoning.encrypted_content"],"reasoning":{"effort":"low","summary":"auto"}})
    );
}

fn stream() -> String {
    let events = [
        json!({"type":"response.created","response":{"id":"resp_1","model":"u","status":"in_progress","output":[]}}),
        json!({"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","id":"rs","summary":[]}}),
        json!({"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"hm"}),
        json!({"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"rs","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"E"}}),
        json!({"type":"response.output_text.delta","output_index":1,"delta":"Gr\u{fc}\u{df}e"}),
        json!({"type":"response.output_item.done","output_index":1,"item":{"type":"message","content":[{"type":"output_text","text":"Gr\u{fc}\u{df}e","annotations":[]}]}}),
        json!({"type":"response.output_item.added","output_index":2,"item":{"type":"function_call","call_id":"c","name":"f","arguments":""}}),
        json!({"type":"response.function_call_arguments.delta","output_index":2,"delta":"{\"q\":"}),
        json!({"type":"response.function_call_arguments.delta","output_index":2,"delta":"1}"}),
        json!({"type":"response.output_item.done","output_index":2,"item":{"type":"function_call","call_id":"c","name":"f","arguments":"{\"q\":1}"}}),
        json!({"type":"response.output_item.done","output_index":3,"item":{"type":"function_call","call_id":"d","name":"g","arguments":""}}),
        json!({"type":"response.completed","response":{"id":"resp_1","status":"completed","output":[],"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":5}}}}),
    ];
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

fn decoded(stream: &str, cut: usize) -> Vec<Event> {
    let (mut decoder, mut frames, mut out) = (Decoder::new("p"), Frames::default(), Vec::new());
    let (a, b) = stream.as_bytes().split_at(cut);
    for bytes in [a, b] {
        frames.push(bytes, |frame| frame.data.into_iter().for_each(|data| decoder.frame(data, &mut out))).unwrap();
    }
    out
}

#[test]
fn a_stream_is_the_same_however_it_is_cut() {
    let stream = stream();
    let whole = decoded(&stream, 0);
    let reply = Reply::fold(whole.clone());
    let choice = &reply.choices[0];
    assert_eq!((choice.text().as_str(), choice.finish), ("Grüße", Some(Finish::ToolCalls)));
    let calls: Vec<(&str, &str)> = choice
        .blocks
        .iter()
        .filter_map(|block| match block {
            Block::Call { id, arguments, .. } => Some((id.as_str(), arguments.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(calls, [("c", "{\"q\":1}"), ("d", "{}")]);
    assert!(
        matches!(&choice.blocks[0], Block::Reasoning { text, sealed: Some(sealed), .. } if text == "hm" && sealed == "E")
    );
    assert_eq!(
        reply.usage.unwrap().iter().collect::<Vec<_>>(),
        [(Meter::InputTokens, 5), (Meter::CacheReadTokens, 4), (Meter::OutputTokens, 2), (Meter::ReasoningTokens, 5)]
    );
    for cut in 1..stream.len() {
        assert_eq!(decoded(&stream, cut), whole, "{cut}");
    }
}

#[test]
fn the_ways_to_end() {
    let one = |body: Value| {
        let (mut decoder, mut out) = (Decoder::new("p"), Vec::new());
        decoder.whole(&body.to_string(), &mut out);
        out
    };
    let message = json!([{"type":"message","content":[{"type":"output_text","text":"hi"}]}]);
    for (status, why, finish) in [
        ("completed", None, Finish::Stop),
        ("incomplete", Some("max_output_tokens"), Finish::Length),
        ("incomplete", Some("content_filter"), Finish::ContentFilter),
    ] {
        let reply = Reply::fold(one(json!({"output":message,"status":status,"incomplete_details":{"reason":why}})));
        assert_eq!((reply.choices[0].finish, reply.choices[0].text().as_str()), (Some(finish), "hi"));
    }
    assert!(
        one(json!({"output":[],"status":"failed","error":{"code":"server_error","message":"m"}}))
            .iter()
            .any(|event| matches!(event, Event::Fault(fault) if fault.code == "server_error"))
    );
    assert!(matches!(&one(json!({"error":{"message":"m","type":"t"}}))[..], [Event::Fault(_)]));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in ".*") {
        let (mut decoder, mut out) = (Decoder::new("p"), Vec::new());
        decoder.frame(&text, &mut out);
        decoder.whole(&text, &mut out);
    }
}

#[test]
fn log_probabilities_are_asked_for_in_its_own_way() {
    let body = json!({"model":"m","logprobs":true,"top_logprobs":2,"messages":[{"role":"user","content":"x"}]});
    let request = Dialect::Chat.parse(body.to_string().into_bytes()).unwrap();
    let traits = Traits::default();
    let target = Target { upstream: "u", provider: "p", quirks: &[], traits: &traits, limit: None, own_limit: None };
    let written = write(&Dialect::Chat.prompt(&request).unwrap(), &target).unwrap();
    let out: Value = serde_json::from_slice(&written.body).unwrap();
    assert_eq!((&out["include"], &out["top_logprobs"]), (&json!(["message.output_text.logprobs"]), &json!(2)));
    assert!(out.get("logprobs").is_none() && written.dropped.is_empty(), "{:?}", written.dropped);
}

#[test]
fn searches_of_the_web_are_counted_and_what_was_done_with_a_page_is_not() {
    let call = |action: &str| format!(r#"{{"type":"web_search_call","id":"ws","status":"completed"{action}}}"#);
    let items = [
        call(r#","action":{"type":"search","query":"a"}"#),
        call(""),
        call(r#","action":{"type":"open_page","url":"https://a.example"}"#),
        call(r#","action":{"type":"find_in_page","url":"https://a.example","pattern":"x"}"#),
    ];
    let response = format!(
        r#"{{"id":"r","status":"completed","output":[{}],"usage":{{"input_tokens":3,"output_tokens":2}}}}"#,
        items.join(",")
    );
    for text in [response.clone(), format!(r#"{{"type":"response.completed","response":{response}}}"#)] {
        let (mut decoder, mut out) = (Decoder::new("p"), Vec::new());
        match text.starts_with(r#"{"type"#) {
            true => decoder.frame(&text, &mut out),
            false => decoder.whole(&text, &mut out),
        }
        assert_eq!(Reply::fold(out).usage.unwrap().quantity(Meter::WebSearches), 2);
    }
}
