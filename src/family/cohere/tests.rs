use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::Dialect;
use crate::family::target::Traits;
use crate::sse::Frames;
use crate::text::reply::{Block, Reply};

#[test]
fn a_conversation_with_tools() {
    let body = json!({"model":"m","top_p":0.5,"stop":"X","seed":1,"user":"u","tool_choice":{"type":"function","function":{"name":"f"}},
        "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}},{"type":"function","function":{"name":"g"}}],
        "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"a":1}}},
        "messages":[{"role":"developer","content":"s"},{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"q\": 1}"}}]},{"role":"tool","tool_call_id":"c","content":"r"}]});
    let request = Dialect::Chat.parse(body.to_string().into_bytes()).unwrap();
    let prompt = Dialect::Chat.prompt(&request).unwrap();
    let traits = Traits::default();
    let written = write(
        &prompt,
        &Target { upstream: "u", provider: "p", quirks: &[], traits: &traits, limit: Some(5), own_limit: None },
    )
    .unwrap();
    let out: Value = serde_json::from_slice(&written.body).unwrap();
    assert_eq!(
        out,
        json!({"model":"u","stream":false,"messages":[{"role":"system","content":[{"type":"text","text":"s"}]},{"role":"user","content":[{"type":"text","text":"hi"}]},
        {"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"q\": 1}"}}]},{"role":"tool","tool_call_id":"c","content":"r"}],
        "max_tokens":5,"p":0.5,"seed":1,"stop_sequences":["X"],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":"REQUIRED",
        "response_format":{"type":"json_object","json_schema":{"a":1}}})
    );
}

fn stream() -> String {
    let events = [
        json!({"type":"message-start","id":"i","delta":{"message":{"role":"assistant"}}}),
        json!({"type":"tool-plan-delta","delta":{"message":{"tool_plan":"hm"}}}),
        json!({"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}),
        json!({"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Gr\u{fc}\u{df}e"}}}}),
        json!({"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"c","type":"function","function":{"name":"f","arguments":""}}}}}),
        json!({"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\"q\":1}"}}}}}),
        json!({"type":"tool-call-end","index":0}),
        json!({"type":"tool-call-start","index":1,"delta":{"message":{"tool_calls":{"id":"d","function":{"name":"g"}}}}}),
        json!({"type":"tool-call-end","index":1}),
        json!({"type":"message-end","delta":{"finish_reason":"TOOL_CALL","usage":{"billed_units":{"input_tokens":9,"output_tokens":3},"tokens":{"input_tokens":99,"output_tokens":3},"cached_tokens":4}}}),
    ];
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

fn decoded(stream: &str, cut: usize) -> Vec<Event> {
    let (mut decoder, mut frames, mut out) = (Decoder::default(), Frames::default(), Vec::new());
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
    assert_eq!(
        reply.usage.unwrap().iter().collect::<Vec<_>>(),
        [(Meter::InputTokens, 5), (Meter::CacheReadTokens, 4), (Meter::OutputTokens, 3)]
    );
    for cut in 1..stream.len() {
        assert_eq!(decoded(&stream, cut), whole, "{cut}");
    }
}

#[test]
fn whole_answers_and_errors() {
    let one = |body: Value| {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        decoder.whole(&body.to_string(), &mut out);
        out
    };
    let reply = Reply::fold(one(
        json!({"id":"i","finish_reason":"COMPLETE","message":{"role":"assistant","content":[{"type":"thinking","thinking":"t"},{"type":"text","text":"hi"}]},"usage":{"tokens":{"input_tokens":2,"output_tokens":1}}}),
    ));
    assert_eq!((reply.choices[0].text().as_str(), reply.choices[0].finish), ("hi", Some(Finish::Stop)));
    assert!(matches!(&one(json!({"message":"bad"}))[..], [Event::Fault(_)]));
    assert!(
        one(json!({"finish_reason":"ERROR","message":{"content":[]}}))
            .iter()
            .any(|event| matches!(event, Event::Fault(_)))
    );
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in ".*") {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        decoder.frame(&text, &mut out);
        decoder.whole(&text, &mut out);
    }
}

#[test]
fn log_probabilities_come_over() {
    let mut decoder = Decoder::default();
    let mut streamed = Vec::new();
    let delta = json!({"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Hi"}}},"logprobs":{"token_ids":[7],"text":"Hi","logprobs":[-0.5]}});
    decoder.frame(&delta.to_string(), &mut streamed);
    let mut whole = Vec::new();
    let answer = json!({"id":"c","finish_reason":"COMPLETE","message":{"content":[{"type":"text","text":"Hi"}]},"logprobs":[{"token_ids":[7],"text":"Hi","logprobs":[-0.5]}]});
    Decoder::default().whole(&answer.to_string(), &mut whole);
    for events in [streamed, whole] {
        let choice = &Reply::fold(events).choices[0];
        assert_eq!((choice.text().as_str(), choice.logprobs.len()), ("Hi", 1));
        let told: Value = serde_json::from_str(&choice.logprobs[0]).unwrap();
        assert_eq!((&told["content"][0]["token"], &told["content"][0]["logprob"]), (&json!("Hi"), &json!(-0.5)));
    }
}
