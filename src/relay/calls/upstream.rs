//! A scene as each family's own answer, whole and streamed. Shapes follow the references of the makers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::scene::{Call, Scene, Step, quoted};
use crate::family::Family;
use crate::family::event_stream::tests::frame;

/// One server-sent event for each; a line end inside makes it several `data:` lines.
fn sse(all: Vec<String>) -> Vec<u8> {
    let mut out = String::new();
    for data in all {
        data.split('\n').for_each(|line| out.push_str(&format!("data: {line}\n")));
        out.push('\n');
    }
    out.into_bytes()
}

/// A streamed answer.
pub fn stream(family: Family, scene: &Scene) -> Vec<u8> {
    match family {
        Family::OpenAiChat | Family::AzureOpenAi | Family::Mistral | Family::VertexMistral | Family::Watsonx => {
            sse(chat(scene))
        }
        Family::WorkersAi => sse(workers_ai(scene)),
        Family::OpenAiResponses => sse(responses(scene)),
        Family::Anthropic | Family::VertexAnthropic => sse(anthropic(scene)),
        Family::Gemini | Family::VertexGemini => sse(gemini(scene)),
        Family::Cohere => sse(cohere(scene)),
        Family::BedrockInvoke => {
            let wrapped = |data: String| format!("{{\"bytes\":\"{}\"}}", STANDARD.encode(data));
            anthropic(scene).into_iter().flat_map(|data| frame(":event-type", "chunk", &wrapped(data))).collect()
        }
        Family::BedrockConverse => {
            converse(scene).into_iter().flat_map(|(kind, data)| frame(":event-type", kind, &data)).collect()
        }
    }
}

/// A whole answer.
pub fn whole(family: Family, scene: &Scene) -> String {
    match family {
        Family::OpenAiChat | Family::AzureOpenAi | Family::Mistral | Family::VertexMistral | Family::Watsonx => {
            chat_whole(scene)
        }
        Family::WorkersAi => format!(r#"{{"result":{},"success":true,"errors":[]}}"#, workers_ai_result(scene)),
        Family::OpenAiResponses => response(scene),
        Family::Anthropic | Family::VertexAnthropic | Family::BedrockInvoke => {
            let block = |kind: Said<'_>| match kind {
                Said::Text(text) => format!(r#"{{"type":"text","text":{}}}"#, scene.q(text)),
                Said::Call(call) => format!(
                    r#"{{"type":"tool_use","id":{},"name":{},"input":{}}}"#,
                    scene.q(&call.id),
                    scene.q(&call.name),
                    call.arguments
                ),
            };
            let usage = r#"{"input_tokens":3,"output_tokens":2}"#;
            format!(
                r#"{{"id":"m","type":"message","role":"assistant","model":"u","content":[{}],"stop_reason":"tool_use","usage":{usage}}}"#,
                scene.said(block)
            )
        }
        Family::Gemini | Family::VertexGemini => candidate(&scene.said(|said| gemini_part(scene, said)), true),
        Family::Cohere => {
            let calls: Vec<String> = scene.calls.iter().map(|call| cohere_call(scene, call, &call.arguments)).collect();
            let text = scene.q(&format!("{}{}", scene.before, scene.aside));
            format!(
                r#"{{"id":"c","finish_reason":"TOOL_CALL","message":{{"role":"assistant","content":[{{"type":"text","text":{text}}}],"tool_calls":[{}]}}}}"#,
                calls.join(",")
            )
        }
        Family::BedrockConverse => {
            let block = |kind: Said<'_>| match kind {
                Said::Text(text) => format!(r#"{{"text":{}}}"#, scene.q(text)),
                Said::Call(call) => format!(
                    r#"{{"toolUse":{{"toolUseId":{},"name":{},"input":{}}}}}"#,
                    scene.q(&call.id),
                    scene.q(&call.name),
                    call.arguments
                ),
            };
            format!(
                r#"{{"output":{{"message":{{"role":"assistant","content":[{}]}}}},"stopReason":"tool_use"}}"#,
                scene.said(block)
            )
        }
    }
}

/// A block of a whole answer.
#[derive(Clone, Copy)]
enum Said<'a> {
    Text(&'a str),
    Call(&'a Call),
}

impl Scene {
    fn q(&self, text: &str) -> String {
        quoted(text, self.is_ascii)
    }

    /// The blocks in their order, with commas between.
    fn said(&self, write: impl Fn(Said<'_>) -> String) -> String {
        let mut all = Vec::new();
        if !self.before.is_empty() {
            all.push(Said::Text(&self.before));
        }
        for (at, call) in self.calls.iter().enumerate() {
            all.push(Said::Call(call));
            if at == 0 && !self.aside.is_empty() {
                all.push(Said::Text(&self.aside));
            }
        }
        all.into_iter().map(write).collect::<Vec<_>>().join(",")
    }
}

/// Type, and the names of what holds a call and its arguments.
fn names(call: &Call) -> (&'static str, &'static str) {
    if call.is_custom { ("custom", "input") } else { ("function", "arguments") }
}

/// Text and all calls, which have no ids: those the gateway makes are not the scene's, so they are given here.
fn workers_ai_result(scene: &Scene) -> String {
    let calls = scene.calls.iter().map(|call| {
        let (id, name) = (scene.q(&call.id), scene.q(&call.name));
        format!(r#"{{"id":{id},"name":{name},"arguments":{}}}"#, call.arguments)
    });
    let text = scene.q(&format!("{}{}", scene.before, scene.aside));
    format!(r#"{{"response":{text},"tool_calls":[{}]}}"#, calls.collect::<Vec<_>>().join(","))
}

fn workers_ai(scene: &Scene) -> Vec<String> {
    let said = [&scene.before, &scene.aside].into_iter().map(|text| format!(r#"{{"response":{}}}"#, scene.q(text)));
    let calls = scene.calls.iter().map(|call| {
        let (id, name) = (scene.q(&call.id), scene.q(&call.name));
        format!(r#"{{"tool_calls":[{{"id":{id},"name":{name},"arguments":{}}}]}}"#, call.arguments)
    });
    said.chain(calls).chain(["[DONE]".to_owned()]).collect()
}

fn chat(scene: &Scene) -> Vec<String> {
    let choice = |delta: &str, finish: &str| {
        format!(
            r#"{{"id":"x","model":"u","choices":[{{"index":0,"delta":{{{delta}}},"finish_reason":{finish}}}],"usage":null}}"#
        )
    };
    let text = |text: &str| choice(&format!(r#""content":{}"#, scene.q(text)), "null");
    let mut out = vec![choice(r#""role":"assistant","content":"""#, "null")];
    if !scene.before.is_empty() {
        out.push(text(&scene.before));
    }
    for step in scene.side_by_side() {
        let delta = match step {
            Step::Start(at) => {
                let call = &scene.calls[at];
                let (kind, member) = names(call);
                let (id, name) = (scene.q(&call.id), scene.q(&call.name));
                let whole = if scene.is_joined { scene.q(&call.arguments) } else { "\"\"".to_owned() };
                format!(
                    r#""tool_calls":[{{"index":{at},"id":{id},"type":"{kind}","{kind}":{{"name":{name},"{member}":{whole}}}}}]"#
                )
            }
            Step::More(at, piece) if !scene.is_joined => {
                let (kind, member) = names(&scene.calls[at]);
                format!(r#""tool_calls":[{{"index":{at},"{kind}":{{"{member}":{}}}}}]"#, scene.q(piece))
            }
            Step::Aside => {
                out.push(text(&scene.aside));
                continue;
            }
            Step::More(..) | Step::End(_) => continue,
        };
        out.push(choice(&delta, "null"));
    }
    out.push(choice("", "\"tool_calls\""));
    out.push(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#.to_owned());
    out.push("[DONE]".to_owned());
    out
}

fn chat_whole(scene: &Scene) -> String {
    let call = |call: &Call| {
        let (kind, member) = names(call);
        let (id, name, arguments) = (scene.q(&call.id), scene.q(&call.name), scene.q(&call.arguments));
        format!(r#"{{"id":{id},"type":"{kind}","{kind}":{{"name":{name},"{member}":{arguments}}}}}"#)
    };
    let calls: Vec<String> = scene.calls.iter().map(call).collect();
    let text = scene.q(&format!("{}{}", scene.before, scene.aside));
    format!(
        r#"{{"id":"x","model":"u","choices":[{{"index":0,"message":{{"role":"assistant","content":{text},"tool_calls":[{}]}},"finish_reason":"tool_calls"}}]}}"#,
        calls.join(",")
    )
}

fn response_call(scene: &Scene, call: &Call, arguments: &str) -> String {
    let (kind, member) = if call.is_custom { ("custom_tool_call", "input") } else { ("function_call", "arguments") };
    let (id, name, arguments) = (scene.q(&call.id), scene.q(&call.name), scene.q(arguments));
    format!(r#"{{"type":"{kind}","id":"fc","call_id":{id},"name":{name},"{member}":{arguments}}}"#)
}

fn response_text(scene: &Scene, text: &str) -> String {
    format!(
        r#"{{"type":"message","role":"assistant","content":[{{"type":"output_text","text":{},"annotations":[]}}]}}"#,
        scene.q(text)
    )
}

/// The items in the order in which they begin: calls, and text among them.
fn response(scene: &Scene) -> String {
    let mut items = Vec::new();
    if !scene.before.is_empty() {
        items.push(response_text(scene, &scene.before));
    }
    for step in scene.side_by_side() {
        match step {
            Step::Start(at) => items.push(response_call(scene, &scene.calls[at], &scene.calls[at].arguments)),
            Step::Aside => items.push(response_text(scene, &scene.aside)),
            Step::More(..) | Step::End(_) => {}
        }
    }
    format!(
        r#"{{"id":"r","model":"u","status":"completed","output":[{}],"usage":{{"input_tokens":3,"output_tokens":2}}}}"#,
        items.join(",")
    )
}

fn responses(scene: &Scene) -> Vec<String> {
    let mut out = vec![r#"{"type":"response.created","response":{"id":"r","model":"u","output":[]}}"#.to_owned()];
    let mut count = 0usize;
    let mut places = vec![0usize; scene.calls.len()];
    let text = |text: &str, count: &mut usize, out: &mut Vec<String>| {
        let at = *count;
        *count += 1;
        let (item, piece) = (response_text(scene, text), scene.q(text));
        out.push(format!(
            r#"{{"type":"response.output_item.added","output_index":{at},"item":{{"type":"message","content":[]}}}}"#
        ));
        out.push(format!(r#"{{"type":"response.output_text.delta","output_index":{at},"delta":{piece}}}"#));
        out.push(format!(r#"{{"type":"response.output_item.done","output_index":{at},"item":{item}}}"#));
    };
    if !scene.before.is_empty() {
        text(&scene.before, &mut count, &mut out);
    }
    for step in scene.side_by_side() {
        match step {
            Step::Start(at) => {
                places[at] = count;
                let item = response_call(scene, &scene.calls[at], "");
                out.push(format!(r#"{{"type":"response.output_item.added","output_index":{count},"item":{item}}}"#));
                count += 1;
            }
            // A provider may say nothing before the item is whole.
            Step::More(..) if scene.is_joined => {}
            Step::More(at, piece) => {
                let kind = if scene.calls[at].is_custom { "custom_tool_call_input" } else { "function_call_arguments" };
                let (place, piece) = (places[at], scene.q(piece));
                out.push(format!(r#"{{"type":"response.{kind}.delta","output_index":{place},"delta":{piece}}}"#));
            }
            Step::End(at) => {
                let (place, item) = (places[at], response_call(scene, &scene.calls[at], &scene.calls[at].arguments));
                out.push(format!(r#"{{"type":"response.output_item.done","output_index":{place},"item":{item}}}"#));
            }
            Step::Aside => text(&scene.aside, &mut count, &mut out),
        }
    }
    out.push(format!(r#"{{"type":"response.completed","response":{}}}"#, response(scene)));
    out
}

fn anthropic(scene: &Scene) -> Vec<String> {
    let mut out = vec![
        r#"{"type":"message_start","message":{"id":"m","model":"u","role":"assistant","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}"#
            .to_owned(),
        r#"{"type":"ping"}"#.to_owned(),
    ];
    let mut index = 0usize;
    let start = |index: usize, block: &str| {
        format!(r#"{{"type":"content_block_start","index":{index},"content_block":{block}}}"#)
    };
    let delta = |index: usize, kind: &str, member: &str, text: &str| {
        let text = scene.q(text);
        format!(r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"{kind}","{member}":{text}}}}}"#)
    };
    let stop = |index: usize| format!(r#"{{"type":"content_block_stop","index":{index}}}"#);
    let text = |text: &str, index: &mut usize, out: &mut Vec<String>| {
        out.push(start(*index, r#"{"type":"text","text":""}"#));
        out.push(delta(*index, "text_delta", "text", text));
        out.push(stop(*index));
        *index += 1;
    };
    if !scene.before.is_empty() {
        text(&scene.before, &mut index, &mut out);
    }
    for step in scene.in_order() {
        match step {
            Step::Start(at) => {
                let (id, name) = (scene.q(&scene.calls[at].id), scene.q(&scene.calls[at].name));
                out.push(start(index, &format!(r#"{{"type":"tool_use","id":{id},"name":{name},"input":{{}}}}"#)));
            }
            // Without arguments the API sends no pieces.
            Step::More(at, _) if scene.calls[at].arguments == "{}" => {}
            Step::More(_, piece) => out.push(delta(index, "input_json_delta", "partial_json", piece)),
            Step::End(_) => {
                out.push(stop(index));
                index += 1;
            }
            Step::Aside => text(&scene.aside, &mut index, &mut out),
        }
    }
    out.push(r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":2}}"#.to_owned());
    out.push(r#"{"type":"message_stop"}"#.to_owned());
    out
}

fn gemini_part(scene: &Scene, said: Said<'_>) -> String {
    match said {
        Said::Text(text) => format!(r#"{{"text":{}}}"#, scene.q(text)),
        Said::Call(call) => format!(
            r#"{{"functionCall":{{"id":{},"name":{},"args":{}}}}}"#,
            scene.q(&call.id),
            scene.q(&call.name),
            call.arguments
        ),
    }
}

fn candidate(parts: &str, is_last: bool) -> String {
    let end = if is_last {
        r#","finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2}}"#
    } else {
        "}]}"
    };
    format!(r#"{{"responseId":"g","candidates":[{{"index":0,"content":{{"role":"model","parts":[{parts}]}}{end}"#)
}

/// A frame for each part, or all in one.
fn gemini(scene: &Scene) -> Vec<String> {
    if scene.is_joined {
        return vec![candidate(&scene.said(|said| gemini_part(scene, said)), true)];
    }
    let mut out = Vec::new();
    let frames = std::cell::RefCell::new(&mut out);
    scene.said(|said| {
        frames.borrow_mut().push(candidate(&gemini_part(scene, said), false));
        String::new()
    });
    out.push(candidate("", true));
    out
}

fn cohere_call(scene: &Scene, call: &Call, arguments: &str) -> String {
    let (id, name, arguments) = (scene.q(&call.id), scene.q(&call.name), scene.q(arguments));
    format!(r#"{{"id":{id},"type":"function","function":{{"name":{name},"arguments":{arguments}}}}}"#)
}

fn cohere(scene: &Scene) -> Vec<String> {
    let event = |kind: &str, index: usize, message: &str| {
        format!(r#"{{"type":"{kind}","index":{index},"delta":{{"message":{{{message}}}}}}}"#)
    };
    let text = scene.q(&format!("{}{}", scene.before, scene.aside));
    let mut out = vec![
        r#"{"type":"message-start","id":"c","delta":{"message":{"role":"assistant"}}}"#.to_owned(),
        event("content-start", 0, r#""content":{"type":"text","text":""}"#),
        event("content-delta", 0, &format!(r#""content":{{"text":{text}}}"#)),
        r#"{"type":"content-end","index":0}"#.to_owned(),
    ];
    for step in scene.in_order() {
        match step {
            Step::Start(at) => {
                let call = cohere_call(scene, &scene.calls[at], "");
                out.push(event("tool-call-start", at, &format!(r#""tool_calls":{call}"#)));
            }
            Step::More(at, piece) => {
                let piece = scene.q(piece);
                let call = format!(r#""tool_calls":{{"function":{{"arguments":{piece}}}}}"#);
                out.push(event("tool-call-delta", at, &call));
            }
            Step::End(at) => out.push(format!(r#"{{"type":"tool-call-end","index":{at}}}"#)),
            Step::Aside => {}
        }
    }
    out.push(r#"{"type":"message-end","delta":{"finish_reason":"TOOL_CALL"}}"#.to_owned());
    out
}

fn converse(scene: &Scene) -> Vec<(&'static str, String)> {
    let mut out = vec![("messageStart", r#"{"role":"assistant"}"#.to_owned())];
    let mut index = 0usize;
    let text = |text: &str, index: &mut usize, out: &mut Vec<(&'static str, String)>| {
        let text = scene.q(text);
        out.push(("contentBlockDelta", format!(r#"{{"contentBlockIndex":{index},"delta":{{"text":{text}}}}}"#)));
        out.push(("contentBlockStop", format!(r#"{{"contentBlockIndex":{index}}}"#)));
        *index += 1;
    };
    if !scene.before.is_empty() {
        text(&scene.before, &mut index, &mut out);
    }
    for step in scene.in_order() {
        match step {
            Step::Start(at) => {
                let (id, name) = (scene.q(&scene.calls[at].id), scene.q(&scene.calls[at].name));
                let start = format!(r#"{{"toolUse":{{"toolUseId":{id},"name":{name}}}}}"#);
                out.push(("contentBlockStart", format!(r#"{{"contentBlockIndex":{index},"start":{start}}}"#)));
            }
            Step::More(_, piece) => {
                let delta = format!(r#"{{"toolUse":{{"input":{}}}}}"#, scene.q(piece));
                out.push(("contentBlockDelta", format!(r#"{{"contentBlockIndex":{index},"delta":{delta}}}"#)));
            }
            Step::End(_) => {
                out.push(("contentBlockStop", format!(r#"{{"contentBlockIndex":{index}}}"#)));
                index += 1;
            }
            Step::Aside => text(&scene.aside, &mut index, &mut out),
        }
    }
    out.push(("messageStop", r#"{"stopReason":"tool_use"}"#.to_owned()));
    out.push(("metadata", r#"{"usage":{"inputTokens":3,"outputTokens":2}}"#.to_owned()));
    out
}
