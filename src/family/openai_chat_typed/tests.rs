use proptest::prelude::*;

use super::*;
use crate::family::target::Traits;
use crate::sse::Frames;
use crate::text::reply::{Block, Reply};
use crate::usage::Meter;

fn request(text: &str) -> crate::text::request::Request {
    crate::dialect::Dialect::Chat.parse(text.as_bytes().to_vec()).unwrap()
}

fn written(text: &str, quirks: &[Quirk], traits: &Traits) -> Result<(serde_json::Value, Vec<String>), Failure> {
    let request = request(text);
    let prompt = crate::dialect::Dialect::Chat.prompt(&request)?;
    let target = Target { upstream: "up", provider: "p", quirks, traits, limit: Some(9), own_limit: None };
    let written = write(&prompt, &target)?;
    Ok((serde_json::from_slice(&written.body).unwrap(), written.dropped))
}

#[test]
fn a_request_comes_out_as_it_went_in() {
    let text = r#"{"model":"m","seed":7,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":"required",
        "messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"https://x.example/i.png"}}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1.0}"}}]},{"role":"tool","tool_call_id":"c","content":"r"}]}"#;
    let (sent, dropped) =
        written(text, &[Quirk::Rename("max_completion_tokens".into(), "max_tokens".into())], &Traits::default())
            .unwrap();
    let given: serde_json::Value = serde_json::from_str(text).unwrap();
    for key in ["messages", "tools", "tool_choice", "seed"] {
        assert_eq!(sent[key], given[key], "{key}");
    }
    assert_eq!((&sent["model"], &sent["max_tokens"], dropped), (&"up".into(), &9.into(), vec![]));
}

#[test]
fn what_cannot_be_sent_is_said() {
    let (sent, dropped) = written(
        r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":0.5,"top_k":3,"novel":1,"store":true}"#,
        &[Quirk::Drop(vec!["store".into()])],
        &Traits { sampling_params: Some(false), ..Traits::default() },
    )
    .unwrap();
    assert!(sent.get("temperature").is_none() && sent.get("store").is_none());
    assert_eq!(dropped, ["temperature", "top_k", "novel"]);
    let format = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object"}}"#;
    let none = Traits { structured_output: Some(false), ..Traits::default() };
    assert_eq!(written(format, &[], &none).unwrap_err().param.as_deref(), Some("response_format"));
}

#[test]
fn reasoning_is_asked_for_as_the_host_wants_it() {
    for (style, effort, expected) in [
        (ReasoningStyle::ReasoningEffort, "low", r#"{"reasoning_effort":"low"}"#),
        (ReasoningStyle::ThinkingType, "none", r#"{"thinking":{"type":"disabled"}}"#),
        (ReasoningStyle::EnableThinking, "high", r#"{"enable_thinking":true,"thinking_budget":24576}"#),
        (ReasoningStyle::ReasoningObject, "low", r#"{"reasoning":{"effort":"low"}}"#),
    ] {
        let text =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"reasoning_effort":"{effort}"}}"#);
        let traits = Traits { reasoning_style: Some(style), ..Traits::default() };
        let (sent, _) = written(&text, &[], &traits).unwrap();
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&sent[key], value, "{style:?}");
        }
    }
}

fn decoded(stream: &str, cut: usize) -> Vec<Event> {
    let mut decoder = Decoder::new(&[], "p");
    let mut frames = Frames::default();
    let mut out = Vec::new();
    let (a, b) = stream.as_bytes().split_at(cut.min(stream.len()));
    for bytes in [a, b] {
        frames
            .push(bytes, |frame| {
                if let Some(data) = frame.data {
                    decoder.frame(data, &mut out);
                }
            })
            .unwrap();
    }
    decoder.finish(&mut out);
    out
}

const STREAM: &str = concat!(
    "data: {\"id\":\"x\",\"model\":\"u\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grüße\"}}]}\r\n\r\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"q\\\":1}\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"g\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n",
    "data: [DONE]\n\n",
);

#[test]
fn a_stream_is_the_same_however_it_is_cut() {
    let whole = decoded(STREAM, 0);
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
    assert_eq!(calls, [("a", "{\"q\":1}"), ("b", "{}")]);
    assert_eq!(reply.usage.as_ref().unwrap().quantity(Meter::InputTokens), 5);
    for cut in 1..STREAM.len() {
        assert_eq!(decoded(STREAM, cut), whole, "{cut}");
    }
}

#[test]
fn calls_without_an_index_are_told_apart() {
    let stream = concat!(
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1.50}}}]}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"b\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"b\",\"function\":{\"name\":\"f\",\"arguments\":\"}\"}}]},\"finish_reason\":\"tool_calls\"}]}\n\n",
    );
    let reply = Reply::fold(decoded(stream, 0));
    let arguments: Vec<&str> = reply.choices[0]
        .blocks
        .iter()
        .filter_map(|block| match block {
            Block::Call { arguments, .. } => Some(arguments.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(arguments, ["{\"x\":1.50}", "{}"]);
}

#[test]
fn calls_that_all_have_the_same_index_are_told_apart() {
    let stream = concat!(
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"b\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"}\"}}]},\"finish_reason\":\"tool_calls\"}]}\n\n",
    );
    let reply = Reply::fold(decoded(stream, 0));
    let call = |call: u32, id: &str| Block::Call {
        call,
        id: id.into(),
        name: "f".into(),
        arguments: "{}".into(),
        kind: ToolKind::Function,
        signature: None,
    };
    assert_eq!(reply.choices[0].blocks, [call(0, "a"), call(1, "b")]);
}

#[test]
fn errors_inside_are_told() {
    for stream in [
        "data: {\"error\":{\"message\":\"m\",\"code\":\"overloaded\"}}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}\n\n",
    ] {
        assert!(decoded(stream, 0).iter().any(|event| matches!(event, Event::Fault(_))), "{stream}");
    }
    assert!(decoded("data: {nonsense\n\n", 0).contains(&Event::Malformed));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in ".*") {
        let mut decoder = Decoder::new(&[], "p");
        let mut out = Vec::new();
        decoder.frame(&text, &mut out);
        decoder.whole(&text, &mut out);
    }
}

/// What a client without side by side must be told: a call's end comes as soon as it is sure.
#[test]
fn a_call_ends_when_the_next_begins_unless_they_go_on_side_by_side() {
    let piece = |index: u64, start: bool, arguments: &str| {
        let head = if start { format!(r#""id":"c{index}","type":"function","#) } else { String::new() };
        let name = if start { r#""name":"f","# } else { "" };
        let arguments = crate::json::write::quoted(arguments);
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":{index},{head}"function":{{{name}"arguments":{arguments}}}}}]}}}}]}}"#
        )
    };
    let told = |frames: &[String]| {
        let mut decoder = Decoder::new(&[], "p");
        let mut events = Vec::new();
        frames.iter().for_each(|frame| decoder.frame(frame, &mut events));
        let word = |event: &Event| match event {
            Event::CallStart { call, .. } => Some(format!("+{call}")),
            Event::CallEnd { call, .. } => Some(format!("-{call}")),
            Event::CallDelta { call, .. } => Some(format!("{call}")),
            _ => None,
        };
        events.iter().filter_map(word).collect::<Vec<_>>().join(" ")
    };
    let in_order = [
        piece(0, true, ""),
        piece(0, false, "{\"a\""),
        piece(0, false, ":1}"),
        piece(1, true, ""),
        piece(1, false, "{"),
    ];
    assert_eq!(told(&in_order), "+0 0 0 -0 +1 1");
    let mixed = [
        piece(0, true, ""),
        piece(1, true, "{"),
        piece(0, false, "{\"a\":"),
        piece(1, false, "}"),
        piece(0, false, "1}"),
    ];
    assert_eq!(told(&mixed), "+0 +1 1 0 1 0 -0");
}

#[test]
fn each_call_of_a_whole_answer_is_one_whatever_its_id() {
    let call = |id: &str, name: &str| format!(r#"{{"id":"{id}","function":{{"name":"{name}","arguments":"{{}}"}}}}"#);
    let calls = [call("a", "get"), call("a", "put"), call("", "now")].join(",");
    let text = format!(
        r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","tool_calls":[{calls}]}},"finish_reason":"tool_calls"}}]}}"#
    );
    let (mut decoder, mut out) = (Decoder::new(&[], "p"), Vec::new());
    decoder.whole(&text, &mut out);
    let reply = Reply::fold(out);
    let found: Vec<(&str, &str)> = reply.choices[0]
        .blocks
        .iter()
        .filter_map(|block| match block {
            Block::Call { name, arguments, .. } => Some((name.as_str(), arguments.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(found, [("get", "{}"), ("put", "{}"), ("now", "{}")]);
}
