//! What a client of each dialect reads in an answer. Reads as strictly as the official SDKs add streams up.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::scene::Call;
use crate::dialect::Dialect;

/// What was read.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Read {
    pub text: String,
    pub calls: Vec<Call>,
}

/// A whole answer.
pub fn whole(dialect: Dialect, bytes: &[u8]) -> Read {
    match dialect {
        Dialect::Chat => {
            let value: Value = serde_json::from_slice(bytes).unwrap();
            let message = &value["choices"][0]["message"];
            let text = message["content"].as_str().unwrap_or_default().to_owned();
            let calls = message["tool_calls"].as_array().unwrap().iter().map(chat_call).collect();
            assert_eq!(value["choices"][0]["finish_reason"], "tool_calls");
            Read { text, calls }
        }
        Dialect::Responses => response(&serde_json::from_slice(bytes).unwrap()),
        Dialect::Messages => messages(bytes),
    }
}

/// A streamed answer.
pub fn streamed(dialect: Dialect, bytes: &[u8]) -> Read {
    let text = std::str::from_utf8(bytes).unwrap();
    let frames = text.split("\n\n").map(|frame| {
        let lines = frame.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.collect::<Vec<_>>().join("\n")
    });
    let data: Vec<String> = frames.filter(|data| !data.is_empty()).collect();
    match dialect {
        Dialect::Chat => {
            assert_eq!(data.last().map(String::as_str), Some("[DONE]"));
            chat_stream(&parsed(&data[..data.len() - 1]))
        }
        Dialect::Responses => response_stream(&parsed(&data)),
        Dialect::Messages => messages_stream(&parsed(&data)),
    }
}

fn parsed(data: &[String]) -> Vec<Value> {
    data.iter().map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))).collect()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn chat_call(call: &Value) -> Call {
    let kind = call["type"].as_str().unwrap();
    let is_custom = kind == "custom";
    let inner = &call[kind];
    let arguments = string(&inner[if is_custom { "input" } else { "arguments" }]);
    Call { id: string(&call["id"]), name: string(&inner["name"]), arguments, is_custom }
}

fn chat_stream(chunks: &[Value]) -> Read {
    let mut read = Read::default();
    let mut finish = None;
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
        let delta = &choice["delta"];
        read.text.push_str(delta["content"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let at = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            if call.get("id").is_some() {
                // Once, and in order.
                assert_eq!(at, read.calls.len());
                read.calls.push(chat_call(call));
            } else {
                let known = &mut read.calls[at];
                let (kind, member) = if known.is_custom { ("custom", "input") } else { ("function", "arguments") };
                known.arguments.push_str(call[kind][member].as_str().unwrap());
            }
        }
        finish = choice["finish_reason"].as_str().or(finish);
    }
    assert_eq!(finish, Some("tool_calls"));
    read
}

fn response_call(item: &Value) -> Option<Call> {
    let is_custom = match item["type"].as_str().unwrap() {
        "function_call" => false,
        "custom_tool_call" => true,
        _ => return None,
    };
    let arguments = string(&item[if is_custom { "input" } else { "arguments" }]);
    Some(Call { id: string(&item["call_id"]), name: string(&item["name"]), arguments, is_custom })
}

fn response(value: &Value) -> Read {
    assert_eq!(value["status"], "completed");
    let items = value["output"].as_array().unwrap();
    let parts = items.iter().flat_map(|item| item["content"].as_array().into_iter().flatten());
    Read {
        text: parts.map(|part| part["text"].as_str().unwrap()).collect(),
        calls: items.iter().filter_map(response_call).collect(),
    }
}

fn response_stream(events: &[Value]) -> Read {
    let mut calls: BTreeMap<u64, Call> = BTreeMap::new();
    // Text by item: those that begin first are read first, whenever they go on.
    let mut texts: BTreeMap<u64, String> = BTreeMap::new();
    let mut last = None;
    for event in events {
        let place = event["output_index"].as_u64().unwrap_or_default();
        let delta = || event["delta"].as_str().unwrap();
        match event["type"].as_str().unwrap() {
            "response.output_item.added" => {
                if let Some(call) = response_call(&event["item"]) {
                    assert!(calls.insert(place, call).is_none());
                }
            }
            "response.output_text.delta" => texts.entry(place).or_default().push_str(delta()),
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                calls.get_mut(&place).unwrap().arguments.push_str(delta());
            }
            "response.output_item.done" => assert_eq!(response_call(&event["item"]).as_ref(), calls.get(&place)),
            "response.completed" => last = Some(response(&event["response"])),
            _ => {}
        }
    }
    let read = Read { text: texts.into_values().collect(), calls: calls.into_values().collect() };
    assert_eq!(last.as_ref(), Some(&read), "the last event says all of it again");
    read
}

#[derive(Deserialize)]
struct Message {
    content: Vec<Block>,
    stop_reason: String,
}

#[derive(Deserialize)]
struct Block {
    #[serde(default)]
    text: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    input: Option<Box<RawValue>>,
}

fn messages(bytes: &[u8]) -> Read {
    let message: Message = serde_json::from_slice(bytes).unwrap();
    assert_eq!(message.stop_reason, "tool_use");
    let mut read = Read::default();
    for Block { text, id, name, input } in message.content {
        read.text.push_str(&text);
        let call = |input: Box<RawValue>| Call { id, name, arguments: input.get().to_owned(), is_custom: false };
        read.calls.extend(input.map(call));
    }
    read
}

fn messages_stream(events: &[Value]) -> Read {
    let (mut read, mut open, mut next) = (Read::default(), None, 0u64);
    for event in events {
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert!(open.is_none() && index == Some(next), "blocks stand one after the other");
                open = index;
                let block = &event["content_block"];
                if block["type"] == "tool_use" {
                    let (id, name) = (string(&block["id"]), string(&block["name"]));
                    read.calls.push(Call { id, name, arguments: String::new(), is_custom: false });
                }
            }
            "content_block_delta" => {
                assert_eq!(open, index);
                let delta = &event["delta"];
                match delta["type"].as_str().unwrap() {
                    "text_delta" => read.text.push_str(delta["text"].as_str().unwrap()),
                    "input_json_delta" => {
                        let call = read.calls.last_mut().unwrap();
                        call.arguments.push_str(delta["partial_json"].as_str().unwrap());
                    }
                    other => panic!("{other}"),
                }
            }
            "content_block_stop" => {
                assert_eq!(open.take(), index);
                next += 1;
            }
            "message_delta" => assert_eq!(event["delta"]["stop_reason"], "tool_use"),
            _ => {}
        }
    }
    assert!(open.is_none());
    // Without pieces, the input is the empty object of the block's start.
    read.calls.iter_mut().filter(|call| call.arguments.is_empty()).for_each(|call| call.arguments.push_str("{}"));
    read
}
