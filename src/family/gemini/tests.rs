use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::Dialect;
use crate::family::target::{Target, Traits};
use crate::sse::Frames;
use crate::text::event::{Event, Finish};
use crate::text::reply::{Block, Reply};
use crate::usage::Meter;

fn sent(body: &Value, traits: &Traits) -> (String, Value) {
    let request = Dialect::Chat.parse(body.to_string().into_bytes()).unwrap();
    let prompt = Dialect::Chat.prompt(&request).unwrap();
    let target = Target { upstream: "g", provider: "p", quirks: &[], traits, limit: Some(9), own_limit: None };
    let written = write(&prompt, &target, Host::Own).unwrap();
    (written.path, serde_json::from_slice(&written.body).unwrap())
}

#[test]
fn a_conversation_with_tools() {
    let (path, out) = sent(
        &json!({"model":"m","stream":true,"seed":3,"stop":"X","tool_choice":"required","reasoning_effort":"low",
        "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"q":{"type":"string"}}}}},{"type":"function","function":{"name":"g"}}],
        "messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"q\":\"x\"}"},"extra_content":{"maker":{"thought_signature":"SIG"}}},{"id":"d","type":"function","function":{"name":"g","arguments":""}}]},
        {"role":"tool","tool_call_id":"c","content":"{\"a\":1}"},{"role":"tool","tool_call_id":"d","content":"plain"}]}),
        &Traits::default(),
    );
    assert_eq!(path, "/models/g:streamGenerateContent?alt=sse");
    assert_eq!(
        out,
        json!({"systemInstruction":{"parts":[{"text":"s"}]},
        "contents":[{"role":"user","parts":[{"text":"hi"},{"inlineData":{"mimeType":"image/png","data":"AA"}}]},
            {"role":"model","parts":[{"functionCall":{"id":"c","name":"f","args":{"q":"x"}},"thoughtSignature":"SIG"},{"functionCall":{"id":"d","name":"g","args":{}}}]},
            {"role":"user","parts":[{"functionResponse":{"id":"c","name":"f","response":{"a":1}}},{"functionResponse":{"id":"d","name":"g","response":{"result":"plain"}}}]}],
        "tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":{"type":"object","properties":{"q":{"type":"string"}}}},{"name":"g"}]}],
        "toolConfig":{"functionCallingConfig":{"mode":"ANY"}},
        "generationConfig":{"maxOutputTokens":9,"seed":3,"stopSequences":["X"],"thinkingConfig":{"includeThoughts":true,"thinkingLevel":"LOW"}}})
    );
}

#[test]
fn a_budget_where_the_model_takes_one() {
    let traits = Traits { budget_tokens: Some((Some(128), Some(32768))), ..Traits::default() };
    let (_, out) =
        sent(&json!({"model":"m","reasoning_effort":"none","messages":[{"role":"user","content":"x"}]}), &traits);
    assert_eq!(out["generationConfig"]["thinkingConfig"], json!({"includeThoughts":false,"thinkingBudget":128}));
}

const STREAM: &str = concat!(
    "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"hm\",\"thought\":true}]},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":12},\"responseId\":\"r\"}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Grüße\"}]}}]}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\",\"args\":{\"q\": 1.0}},\"thoughtSignature\":\"S\"},{\"functionCall\":{\"name\":\"g\"}}]}}]}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":12,\"cachedContentTokenCount\":4,\"candidatesTokenCount\":8,\"thoughtsTokenCount\":40}}\r\n\r\n",
);

fn decoded(stream: &str, cut: usize) -> Vec<Event> {
    let (mut decoder, mut frames, mut out) = (Decoder::default(), Frames::default(), Vec::new());
    let (a, b) = stream.as_bytes().split_at(cut);
    for bytes in [a, b] {
        frames.push(bytes, |frame| frame.data.into_iter().for_each(|data| decoder.frame(data, &mut out))).unwrap();
    }
    decoder.finish(&mut out);
    out
}

#[test]
fn a_stream_is_the_same_however_it_is_cut() {
    let whole = decoded(STREAM, 0);
    let reply = Reply::fold(whole.clone());
    let usage = reply.usage.unwrap();
    assert_eq!(
        usage.iter().collect::<Vec<_>>(),
        [(Meter::InputTokens, 8), (Meter::CacheReadTokens, 4), (Meter::OutputTokens, 8), (Meter::ReasoningTokens, 40)]
    );
    let choice = &reply.choices[0];
    assert_eq!((choice.text().as_str(), choice.finish), ("Grüße", Some(Finish::ToolCalls)));
    assert!(choice.blocks.iter().any(
        |block| matches!(block, Block::Call { arguments, signature: Some(_), .. } if arguments == "{\"q\": 1.0}")
    ));
    assert!(
        choice
            .blocks
            .iter()
            .any(|block| matches!(block, Block::Call { name, arguments, .. } if name == "g" && arguments == "{}"))
    );
    for cut in 1..STREAM.len() {
        assert_eq!(decoded(STREAM, cut), whole, "{cut}");
    }
}

#[test]
fn the_ways_to_end() {
    let one = |body: &Value| {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        decoder.whole(&body.to_string(), &mut out);
        out
    };
    let blocked = one(&json!({"promptFeedback":{"blockReason":"SAFETY"}}));
    assert!(blocked.iter().any(|event| matches!(event, Event::Finish { reason: Finish::ContentFilter, .. })));
    assert!(
        one(&json!({"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}]}))
            .iter()
            .any(|event| matches!(event, Event::Fault(_)))
    );
    let error = one(
        &json!([{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"1.5s"}]}}]),
    );
    assert!(
        matches!(&error[..], [Event::Fault(fault)] if fault.status == Some(429) && fault.retry_after_ms == Some(1500))
    );
    assert!(one(&json!({"odd":1})).contains(&Event::Malformed));
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
    let answer = json!({"candidates":[{"content":{"parts":[{"text":"Hé"}]},"finishReason":"STOP","logprobsResult":{
        "chosenCandidates":[{"token":"Hé","logProbability":-0.25}],"topCandidates":[{"candidates":[{"token":"Hé","logProbability":-0.25},{"token":"Yo","logProbability":-2}]}]}}]});
    let mut events = Vec::new();
    Decoder::default().whole(&answer.to_string(), &mut events);
    let choice = &Reply::fold(events).choices[0];
    assert_eq!((choice.text().as_str(), choice.logprobs.len()), ("Hé", 1));
    let told: Value = serde_json::from_str(&choice.logprobs[0]).unwrap();
    let first = &told["content"][0];
    assert_eq!(
        (&first["token"], &first["logprob"], &first["bytes"]),
        (&json!("Hé"), &json!(-0.25), &json!([72, 195, 169]))
    );
    assert_eq!((&first["top_logprobs"][1]["token"], &first["top_logprobs"][1]["logprob"]), (&json!("Yo"), &json!(-2)));
}

#[test]
fn a_list_is_a_stream_all_at_once() {
    let part = |text: &str, end: &str| {
        format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}}{end}}}],"usageMetadata":{{"promptTokenCount":1}}}}"#
        )
    };
    let text = format!("[{},\n{}]", part("a", ""), part("b", r#","finishReason":"STOP""#));
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    decoder.whole(&text, &mut out);
    let reply = Reply::fold(out);
    assert_eq!((reply.choices[0].text().as_str(), reply.choices[0].finish), ("ab", Some(Finish::Stop)));
}

#[test]
fn what_google_bills_beside_tokens_of_text_is_counted() {
    let usage = |model: &str, queries: &str| {
        let text = format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"a"}}]}},"finishReason":"STOP","groundingMetadata":{{"webSearchQueries":{queries}}}}}],
            "modelVersion":"{model}","usageMetadata":{{"promptTokenCount":5,"candidatesTokenCount":90,
            "candidatesTokensDetails":[{{"modality":"TEXT","tokenCount":10}},{{"modality":"VIDEO","tokenCount":80}}]}}}}"#
        );
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        decoder.whole(&text, &mut out);
        Reply::fold(out).usage.unwrap()
    };
    let searches = |model: &str, queries: &str| usage(model, queries).quantity(Meter::WebSearches);
    assert_eq!(searches("gemini-3.8-flash", r#"["a","b","c"]"#), 3);
    assert_eq!(searches("gemini-2.5-flash", r#"["a","b","c"]"#), 1, "by the prompt");
    assert_eq!(searches("gemini-3.8-flash", "[]"), 0);
    let video = usage("gemini-omni-1.1-flash", "[]");
    assert_eq!((video.quantity(Meter::OutputTokens), video.quantity(Meter::OutputVideoTokens)), (10, 80));
}
