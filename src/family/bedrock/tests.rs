use serde_json::{Value, json};

use super::*;
use crate::dialect::Dialect;
use crate::family::event_stream::as_json;
use crate::family::target::{Target, Traits};
use crate::text::event::Event;
use crate::text::reply::{Block, Reply};
use crate::usage::Meter;

fn written(
    body: &Value,
    upstream: &str,
    traits: &Traits,
) -> Result<(Value, String, Vec<String>), crate::error::Failure> {
    let request = Dialect::Chat.parse(body.to_string().into_bytes()).unwrap();
    let prompt = Dialect::Chat.prompt(&request).unwrap();
    let target = Target { upstream, provider: "p", quirks: &[], traits, limit: Some(50), own_limit: None };
    let out = write(&prompt, &target)?;
    Ok((serde_json::from_slice(&out.body).unwrap(), out.path, out.dropped))
}

#[test]
fn a_conversation_with_tools_and_media() {
    let body = json!({"model":"m","temperature":0.5,"top_p":0.9,"stop":["X"],"seed":1,"stream":true,"service_tier":"flex",
        "tool_choice":{"type":"function","function":{"name":"f"}},
        "tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],
        "messages":[{"role":"developer","content":"s"},
            {"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral"}},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}},
                {"type":"file","file":{"filename":"a_b.pdf","file_data":"data:application/pdf;base64,BB=="}}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"c:1","type":"function","function":{"name":"f","arguments":"{\"q\": 1.50}"}}]},
            {"role":"tool","tool_call_id":"c:1","content":"r"},{"role":"user","content":"go"}]});
    let (out, path, dropped) = written(&body, "us.anthropic.claude-x-v1:0", &Traits::default()).unwrap();
    assert_eq!(path, "/model/us.anthropic.claude-x-v1%3A0/converse-stream");
    assert_eq!(dropped, ["seed"]);
    assert_eq!(
        out,
        json!({"system":[{"text":"s"}],"messages":[
            {"role":"user","content":[{"text":"hi"},{"cachePoint":{"type":"default"}},{"image":{"format":"png","source":{"bytes":"AA=="}}},
                {"document":{"format":"pdf","name":"a-b-pdf","source":{"bytes":"BB=="}}}]},
            {"role":"assistant","content":[{"toolUse":{"toolUseId":"c_1","name":"f","input":{"q":1.50}}}]},
            {"role":"user","content":[{"toolResult":{"toolUseId":"c_1","content":[{"text":"r"}]}},{"text":"go"}]}],
            "inferenceConfig":{"maxTokens":50,"temperature":0.5,"topP":0.9,"stopSequences":["X"]},
            "toolConfig":{"tools":[{"toolSpec":{"name":"f","description":"d","inputSchema":{"json":{"type":"object"}}}}],"toolChoice":{"tool":{"name":"f"}}},
            "serviceTier":{"type":"flex"}})
    );
}

#[test]
fn makers_have_fields_of_their_own() {
    let body = |more: Value| {
        let mut body = json!({"model":"m","messages":[{"role":"user","content":"x"}],"reasoning_effort":"high"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let fields = |body: &Value, upstream: &str| {
        let traits = Traits { structured_output: Some(true), ..Traits::default() };
        written(body, upstream, &traits).unwrap().0["additionalModelRequestFields"].clone()
    };
    assert_eq!(
        fields(&body(json!({})), "amazon.nova-2"),
        json!({"reasoningConfig":{"type":"enabled","maxReasoningEffort":"high"}})
    );
    assert_eq!(fields(&body(json!({})), "openai.gpt-oss-120b-1:0"), json!({"reasoning_effort":"high"}));
    assert_eq!(fields(&body(json!({})), "meta.llama"), Value::Null);
    // The limit of 50 tokens leaves no room for reasoning.
    assert_eq!(fields(&body(json!({})), "anthropic.claude"), json!({"thinking":{"type":"disabled"}}));
    let schema =
        json!({"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}});
    let known = Traits { structured_output: Some(true), ..Traits::default() };
    assert_eq!(
        written(&body(schema.clone()), "meta.llama", &known).unwrap().0["outputConfig"],
        json!({"textFormat":{"type":"json_schema","structure":{"jsonSchema":{"schema":"{\"type\":\"object\"}","name":"n"}}}})
    );
    let refused = written(&body(schema), "meta.llama", &Traits::default()).unwrap_err();
    assert_eq!(refused.param.as_deref(), Some("response_format"));
    let linked = json!({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x.example/a.png"}}]}]});
    assert!(written(&body(linked), "meta.llama", &known).is_err());
}

#[test]
fn a_history_with_calls_keeps_its_tools() {
    let body = json!({"model":"m","messages":[{"role":"user","content":"x"},
        {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":""}}]},
        {"role":"tool","tool_call_id":"c","content":"r"}]});
    let (out, ..) = written(&body, "meta.llama", &Traits::default()).unwrap();
    assert_eq!(
        out["toolConfig"],
        json!({"tools":[{"toolSpec":{"name":"f","inputSchema":{"json":{"type":"object"}}}}]})
    );
}

const FRAMES: &[(&str, &str)] = &[
    ("messageStart", r#"{"role":"assistant","p":"abc"}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"hm"}}}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"signature":"SIG"}}}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":0}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"Grüße"}}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":1}"#),
    ("contentBlockStart", r#"{"contentBlockIndex":2,"start":{"toolUse":{"toolUseId":"c","name":"f"}}}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"toolUse":{"input":"{\"q\":"}}}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"toolUse":{"input":"1.50}"}}}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":2}"#),
    ("contentBlockStart", r#"{"contentBlockIndex":3,"start":{"toolUse":{"toolUseId":"d","name":"g"}}}"#),
    ("messageStop", r#"{"stopReason":"tool_use"}"#),
    (
        "metadata",
        r#"{"usage":{"inputTokens":7,"outputTokens":5,"totalTokens":16,"cacheReadInputTokens":1,"cacheWriteInputTokens":3,"cacheDetails":[{"ttl":"1h","inputTokens":2}]}}"#,
    ),
];

#[test]
fn a_stream_and_a_whole_answer_say_the_same() {
    let (mut decoder, mut streamed) = (Decoder::new("p"), Vec::new());
    FRAMES.iter().for_each(|(kind, payload)| decoder.frame(&as_json(kind, payload), &mut streamed));
    let whole = json!({"output":{"message":{"role":"assistant","content":[
        {"reasoningContent":{"reasoningText":{"text":"hm","signature":"SIG"}}},{"text":"Grüße"},
        {"toolUse":{"toolUseId":"c","name":"f","input":{"q":"1.50"}}},{"toolUse":{"toolUseId":"d","name":"g","input":{}}}]}},
        "stopReason":"tool_use","usage":{"inputTokens":7,"outputTokens":5,"cacheReadInputTokens":1,"cacheWriteInputTokens":3,"cacheDetails":[{"ttl":"1h","inputTokens":2}]}});
    let mut plain = Vec::new();
    Decoder::new("p").whole(&whole.to_string().replace("\"1.50\"", "1.50"), &mut plain);
    let fold = |events: Vec<Event>| {
        events.into_iter().fold(Reply::default(), |mut reply, event| {
            reply.push(event);
            reply
        })
    };
    assert!(matches!(streamed.last(), Some(Event::Done)) && matches!(plain.last(), Some(Event::Done)));
    let (streamed, plain) = (fold(streamed), fold(plain));
    assert_eq!(streamed, plain);
    let usage = plain.usage.as_ref().unwrap();
    assert_eq!(
        (usage.quantity(Meter::CacheWrite1hTokens), usage.quantity(Meter::CacheWriteTokens), usage.prompt_tokens()),
        (2, 1, 11)
    );
    let calls = plain.choices[0].blocks.iter().filter(|block| matches!(block, Block::Call { .. })).count();
    assert_eq!(calls, 2);
}

#[test]
fn exceptions_are_faults_with_their_status() {
    let fault = |kind: &str, payload: &str| {
        let mut out = Vec::new();
        Decoder::new("p").frame(&as_json(kind, payload), &mut out);
        match out.as_slice() {
            [Event::Fault(fault)] => (fault.code.clone(), fault.status),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fault("!throttlingException", r#"{"message":"slow"}"#), ("throttlingexception".to_owned(), Some(429)));
    assert_eq!(fault("!modelStreamErrorException", r#"{"originalStatusCode":424}"#).1, Some(424));
    assert_eq!(fault("!validationException", "").1, Some(400));
}
