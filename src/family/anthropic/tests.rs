use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::Dialect;
use crate::error::Failure;
use crate::family::target::{Target, Traits, Written};
use crate::sse::Frames;
use crate::text::event::{Event, Finish};
use crate::text::reply::{Block, Reply};
use crate::usage::Meter;

fn written(body: &Value, traits: &Traits, host: Host) -> Result<Written, Failure> {
    let request = Dialect::Chat.parse(body.to_string().into_bytes()).unwrap();
    let prompt = Dialect::Chat.prompt(&request)?;
    let limit = request.demand.max_output;
    write(&prompt, &Target { upstream: "up", provider: "p", quirks: &[], traits, limit, own_limit: Some(8000) }, host)
}

fn sent(body: &Value, traits: &Traits) -> Value {
    serde_json::from_slice(&written(body, traits, Host::Own).unwrap().body).unwrap()
}

#[test]
fn a_conversation_with_tools() {
    let body = json!({"model":"m","max_tokens":50,"temperature":1.5,"stop":"END","parallel_tool_calls":false,"tool_choice":"required","user":"u",
        "tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],
        "messages":[{"role":"system","content":"s"},
            {"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral","ttl":"1h"}},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]},
            {"role":"assistant","content":"","reasoning_details":[{"type":"reasoning.text","text":"t","signature":"s","format":"claude-v1"},{"type":"reasoning.text","text":"x","signature":"y","format":"gemini-v1"}],
             "tool_calls":[{"id":"a.1","type":"function","function":{"name":"f","arguments":"{\"q\": 1.0}"}},{"id":"b","type":"function","function":{"name":"f","arguments":""}}]},
            {"role":"tool","tool_call_id":"a.1","content":"one"},{"role":"tool","tool_call_id":"b","content":"two"},{"role":"user","content":"go"}]});
    assert_eq!(
        sent(&body, &Traits::default()),
        json!({"model":"up","max_tokens":50,"system":[{"type":"text","text":"s"}],
            "messages":[
                {"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral","ttl":"1h"}},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA"}}]},
                {"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"tool_use","id":"a_1","name":"f","input":{"q":1.0}},{"type":"tool_use","id":"b","name":"f","input":{}}]},
                {"role":"user","content":[{"type":"tool_result","tool_use_id":"a_1","content":[{"type":"text","text":"one"}]},{"type":"tool_result","tool_use_id":"b","content":[{"type":"text","text":"two"}]},{"type":"text","text":"go"}]}],
            "tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true},
            "temperature":1,"stop_sequences":["END"],"metadata":{"user_id":"u"}})
    );
    let raw = String::from_utf8(written(&body, &Traits::default(), Host::Own).unwrap().body).unwrap();
    assert!(raw.contains(r#""input":{"q": 1.0}"#), "arguments go as they are");
}

#[test]
fn reasoning_and_form_by_what_the_model_takes() {
    let ask = |effort: &str| json!({"model":"m","max_tokens":9000,"temperature":0.5,"reasoning_effort":effort,"messages":[{"role":"user","content":"x"}]});
    let adaptive = Traits { adaptive_thinking: true, sampling_params: Some(false), ..Traits::default() };
    let out = sent(&ask("high"), &adaptive);
    assert_eq!((&out["thinking"]["type"], &out["output_config"]["effort"]), (&json!("adaptive"), &json!("high")));
    assert!(out.get("temperature").is_none());
    assert_eq!(sent(&ask("none"), &adaptive)["thinking"]["type"], "disabled");
    assert_eq!(sent(&ask("low"), &Traits::default())["thinking"], json!({"type":"enabled","budget_tokens":1024}));
    let schema = json!({"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}});
    assert_eq!(
        sent(&schema, &Traits::default())["output_config"]["format"],
        json!({"type":"json_schema","schema":{"type":"object"}})
    );
    assert_eq!(sent(&schema, &Traits::default())["max_tokens"], 8000);
    let none = Traits { structured_output: Some(false), ..Traits::default() };
    assert_eq!(written(&schema, &none, Host::Own).unwrap_err().param.as_deref(), Some("response_format"));
}

#[test]
fn a_tool_that_must_be_called_goes_before_a_budget_of_reasoning() {
    let ask = |choice: Value| {
        json!({"model":"m","max_tokens":9000,"reasoning_effort":"low","tool_choice":choice,"messages":[{"role":"user","content":"x"}],
            "tools":[{"type":"function","function":{"name":"f"}}]})
    };
    let named = json!({"type":"function","function":{"name":"f"}});
    for (choice, kind) in [(json!("required"), "any"), (named.clone(), "tool")] {
        let written = written(&ask(choice), &Traits::default(), Host::Own).unwrap();
        let out: Value = serde_json::from_slice(&written.body).unwrap();
        assert_eq!((&out["tool_choice"]["type"], &out["thinking"]["type"]), (&json!(kind), &json!("disabled")));
        assert_eq!(written.dropped, ["reasoning_effort"]);
    }
    let unforced = sent(&ask(json!("auto")), &Traits::default());
    assert_eq!((&unforced["tool_choice"]["type"], &unforced["thinking"]["type"]), (&json!("auto"), &json!("enabled")));
    // Where the model cannot be forced, it may as well reason.
    let free = Traits { forced_tool_choice: Some(false), ..Traits::default() };
    assert_eq!(sent(&ask(named), &free)["thinking"]["type"], "enabled");
}

#[test]
fn blocks_of_the_familys_own_go_as_they_came() {
    let found = json!({"type":"search_result","source":"https://a.example","title":"t","content":[{"type":"text","text":"x"}],
        "citations":{"enabled":true},"cache_control":{"type":"ephemeral"}});
    let picture = json!({"type":"image","source":{"type":"url","url":"https://a.example/x.png"}});
    let document = json!({"type":"document","source":{"type":"content","content":[picture]}});
    let body = json!({"model":"m","max_tokens":9,"messages":[{"role":"user","content":[found, document, {"type":"text","text":"q"}]}]});
    let request = Dialect::Messages.parse(body.to_string().into_bytes()).unwrap();
    let prompt = Dialect::Messages.prompt(&request).unwrap();
    let traits = Traits::default();
    let target =
        Target { upstream: "up", provider: "p", quirks: &[], traits: &traits, limit: Some(9), own_limit: None };
    let out: Value = serde_json::from_slice(&write(&prompt, &target, Host::Vertex).unwrap().body).unwrap();
    assert_eq!(out["messages"], body["messages"]);
}

#[test]
fn what_has_no_counterpart_is_said() {
    let body = json!({"model":"m","seed":1,"logit_bias":{"1":2},"messages":[{"role":"user","content":"x"}]});
    assert_eq!(written(&body, &Traits::default(), Host::Own).unwrap().dropped, ["logit_bias", "seed"]);
    for (body, param) in [
        (json!({"model":"m","n":2,"messages":[{"role":"user","content":"x"}]}), "n"),
        (
            json!({"model":"m","messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AA","format":"wav"}}]}]}),
            "messages[0]",
        ),
    ] {
        assert_eq!(written(&body, &Traits::default(), Host::Own).unwrap_err().param.as_deref(), Some(param));
    }
    let vertex = written(
        &json!({"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}),
        &Traits::default(),
        Host::Vertex,
    )
    .unwrap();
    assert!(vertex.path.ends_with("/models/up:streamRawPredict"));
    assert!(String::from_utf8(vertex.body).unwrap().contains("vertex-2023-10-16"));
}

const STREAM: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"c\",\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":7,\"cache_creation_input_tokens\":3,\"cache_creation\":{\"ephemeral_1h_input_tokens\":1},\"output_tokens\":1}}}\n\n",
    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"SIG\"}}\n\n",
    "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"Grüße\"}}\n\n",
    "data: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
    "data: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"f\",\"input\":{}}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\"}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"q\\\":1}\"}}\n\n",
    "data: {\"type\":\"content_block_stop\",\"index\":2}\n\n",
    "data: {\"type\":\"content_block_start\",\"index\":3,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_2\",\"name\":\"g\",\"input\":{}}}\n\n",
    "data: {\"type\":\"content_block_stop\",\"index\":3}\n\n",
    "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":9,\"output_tokens_details\":{\"thinking_tokens\":4}}}\n\n",
    "data: {\"type\":\"message_stop\"}\n\n",
);

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
    let whole = decoded(STREAM, 0);
    let reply = Reply::fold(whole.clone());
    let usage = reply.usage.unwrap();
    let counts: Vec<(Meter, u64)> = usage.iter().collect();
    assert_eq!(
        counts,
        [
            (Meter::InputTokens, 5),
            (Meter::CacheReadTokens, 7),
            (Meter::CacheWriteTokens, 2),
            (Meter::CacheWrite1hTokens, 1),
            (Meter::OutputTokens, 5),
            (Meter::ReasoningTokens, 4)
        ]
    );
    let choice = &reply.choices[0];
    assert_eq!(choice.finish, Some(Finish::ToolCalls));
    assert!(
        matches!(&choice.blocks[0], Block::Reasoning { text, signature: Some(s), .. } if text == "hm" && s == "SIG")
    );
    assert!(matches!(&choice.blocks[1], Block::Text(text) if text == "Grüße"));
    assert!(
        matches!(&choice.blocks[2], Block::Call { id, arguments, .. } if id == "toolu_1" && arguments == "{\"q\":1}")
    );
    assert!(matches!(&choice.blocks[3], Block::Call { arguments, .. } if arguments == "{}"));
    for cut in 1..STREAM.len() {
        assert_eq!(decoded(STREAM, cut), whole, "{cut}");
    }
}

#[test]
fn a_whole_answer_and_the_ways_to_end() {
    for (stop, finish) in [
        ("end_turn", Finish::Stop),
        ("max_tokens", Finish::Length),
        ("refusal", Finish::ContentFilter),
        ("tool_use", Finish::ToolCalls),
        ("novel", Finish::Stop),
    ] {
        let text = json!({"id":"m","type":"message","model":"c","content":[{"type":"text","text":"hi"},{"type":"tool_use","id":"t","name":"f","input":{"a":1}}],"stop_reason":stop,"usage":{"input_tokens":1,"output_tokens":2}}).to_string();
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        decoder.whole(&text, &mut out);
        let reply = Reply::fold(out);
        assert_eq!((reply.choices[0].finish, reply.choices[0].text().as_str()), (Some(finish), "hi"));
    }
}

#[test]
fn errors_are_told() {
    let stream =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n";
    assert!(matches!(&decoded(stream, 0)[..], [Event::Fault(fault)] if fault.kind == "overloaded_error"));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in ".*", kind in "message_start|content_block_start|content_block_delta|message_delta|error") {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        decoder.frame(&text, &mut out);
        decoder.frame(&format!("{{\"type\":\"{kind}\",\"delta\":{{\"type\":\"text_delta\"}},\"content_block\":7,\"message\":[]}}"), &mut out);
        decoder.whole(&text, &mut out);
    }
}

#[test]
fn speed_and_place_are_told_with_the_tier() {
    let text = r#"{"type":"message","id":"m","model":"m","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn",
        "usage":{"input_tokens":1,"output_tokens":1,"service_tier":"standard","speed":"fast","inference_geo":"us"}}"#;
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    decoder.whole(text, &mut out);
    let mut seen = crate::relay::Seen::default();
    out.into_iter().for_each(|event| seen.note(event));
    let told = seen.terms;
    assert_eq!((told.service_tier.as_deref(), told.speed.as_deref()), (Some("standard"), Some("fast")));
    assert_eq!((told.region.as_deref(), told.search_context_size), (Some("us"), None));
}
