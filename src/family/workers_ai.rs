//! Cloudflare Workers AI by its own surface, `POST /ai/run/{model}`: OpenAI's request without the model's name, and an
//! answer of its own.
//!
//! ```text
//! {"result": {"response": "text" | {…}, "tool_calls"?: [{name, arguments: {…}}], "usage"?}, "success": true, "errors": []}
//! data: {"response":"tok","tool_calls"?,"usage"?}    then    data: [DONE]
//! ```
//!
//! Newer models answer with OpenAI's `choices` in place of `response`, in a result or in a stream. Its streams name no
//! reason for their end: one that reaches its end mark has stopped, for tools where it called some.

use std::borrow::Cow;

use serde_json::Value;

use crate::error::Failure;
use crate::family::fault::{self, Fault};
use crate::family::openai_chat::{self, DONE};
use crate::family::openai_chat_typed;
use crate::family::quirk::Quirk;
use crate::family::target::{Target, Written};
use crate::json::view::Node;
use crate::json::{ObjectEdits, members};
use crate::text::event::{Event, Finish};
use crate::text::prompt::Prompt;

/// What the API has no field for.
const REFUSED: &[&str] = &[
    "audio",
    "logit_bias",
    "metadata",
    "modalities",
    "prediction",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
    "web_search_options",
];

/// Writes a request.
pub fn write(prompt: &Prompt<'_>, target: &Target<'_>) -> Result<Written, Failure> {
    let mut quirks = target.quirks.to_vec();
    quirks.extend([
        Quirk::NoStreamOptions,
        Quirk::NoMessageName,
        Quirk::Rename("max_completion_tokens".to_owned(), "max_tokens".to_owned()),
        Quirk::Drop(REFUSED.iter().map(|field| (*field).to_owned()).collect()),
    ]);
    let written = openai_chat_typed::write(prompt, &Target { quirks: &quirks, ..*target })?;
    let members = members(&written.body).unwrap_or_default();
    let mut edits = ObjectEdits::new(&written.body, &members);
    edits.remove("model");
    let body = edits.finish();
    Ok(Written { path: format!("/{}", target.upstream), body, ..written })
}

/// Decodes answers.
#[derive(Debug, Default)]
pub struct Decoder {
    chat: openai_chat::Decoder,
    quirks: Vec<Quirk>,
    /// An answer of the older form has begun.
    started: bool,
}

impl Decoder {
    /// For a provider's answer.
    pub fn new(quirks: &[Quirk], provider: &str) -> Decoder {
        let chat = openai_chat::Decoder::new(quirks, provider);
        Decoder { chat, quirks: quirks.to_vec(), ..Decoder::default() }
    }

    /// One frame of a stream.
    pub fn frame(&mut self, data: &str, out: &mut Vec<Event>) {
        let data = data.trim();
        match Node::parse(data) {
            None if data.is_empty() => {}
            None if data == DONE => {
                self.end(out);
                out.push(Event::Done);
            }
            None => out.push(Event::Malformed),
            Some(node) => self.object(node, out),
        }
    }

    /// The stream ended in good order.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        self.chat.finish(out);
    }

    /// A whole answer.
    pub fn whole(&mut self, text: &str, out: &mut Vec<Event>) {
        match Node::parse(text) {
            Some(node) if node.get("result").is_some() || fault(node).is_some() => {
                self.object(node, out);
                self.end(out);
                self.finish(out);
                out.push(Event::Done);
            }
            _ => out.push(Event::Malformed),
        }
    }

    fn object(&mut self, node: Node<'_>, out: &mut Vec<Event>) {
        if let Some(fault) = fault(node) {
            out.push(Event::Fault(fault));
            return;
        }
        let node = node.get("result").unwrap_or(node);
        if node.get("choices").is_some() {
            self.chat.frame(node.raw(), out);
            return;
        }
        if !std::mem::replace(&mut self.started, true) {
            out.push(Event::Start { id: None, model: None });
        }
        if let Some(said) = node.get("response") {
            // A model that was asked for JSON may answer with a value.
            let text = said.text().unwrap_or(Cow::Borrowed(said.raw()));
            if !text.is_empty() {
                out.push(Event::Text { choice: 0, text: text.into_owned(), logprobs: None });
            }
        }
        for call in node.get("tool_calls").map(Node::items).into_iter().flatten() {
            self.chat.call(call, call.u64_at("index"), call.get("function").or(Some(call)), 0, out);
        }
        if let Some(usage) = node.get("usage").and_then(|usage| openai_chat::usage(usage.raw(), &self.quirks)) {
            out.push(Event::Usage(usage));
        }
    }

    /// Nobody says why an answer of the older form ends; one of the other form says so itself.
    fn end(&mut self, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.started, false) {
            let has_calls = self.chat.end_calls(0, out);
            let reason = if has_calls { Finish::ToolCalls } else { Finish::Stop };
            out.push(Event::Finish { choice: 0, reason, stop_sequence: None });
        }
    }
}

/// The failure that an answer tells of.
fn fault(node: Node<'_>) -> Option<Fault> {
    let has_errors = node.get("errors").is_some_and(|errors| errors.items().next().is_some());
    if !has_errors && node.bool_at("success") != Some(false) && node.get("error").is_none() {
        return None;
    }
    let told = crate::json::from_str::<Value>(node.raw()).ok().and_then(|value| fault::from_value(&value));
    Some(told.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::family::target::Traits;
    use crate::text::reply::{Block, Reply};
    use crate::usage::{Meter, Usage};

    fn streamed(frames: &[&str]) -> Vec<Event> {
        let mut decoder = Decoder::new(&[], "p");
        let mut out = Vec::new();
        frames.iter().for_each(|frame| decoder.frame(frame, &mut out));
        decoder.finish(&mut out);
        out
    }

    fn whole(text: &str) -> Vec<Event> {
        let mut out = Vec::new();
        Decoder::new(&[], "p").whole(text, &mut out);
        out
    }

    #[test]
    fn the_model_is_the_path() {
        let text =
            r#"{"model":"m","user":"u","n":1,"max_tokens":9,"messages":[{"role":"user","name":"a","content":"x"}]}"#;
        let request = Dialect::Chat.parse(text.as_bytes().to_vec()).unwrap();
        let traits = Traits::default();
        let upstream = "@cf/meta/llama-3.3-70b-instruct-fp8-fast";
        let target = Target { upstream, provider: "p", quirks: &[], traits: &traits, limit: Some(5), own_limit: None };
        let written = write(&Dialect::Chat.prompt(&request).unwrap(), &target).unwrap();
        assert_eq!(written.path, "/@cf/meta/llama-3.3-70b-instruct-fp8-fast");
        let body: Value = serde_json::from_slice(&written.body).unwrap();
        assert_eq!((&body["max_tokens"], body.get("model"), body.get("user")), (&5.into(), None, None));
    }

    #[test]
    fn both_forms_of_an_answer_are_read() {
        let usage = r#""usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}"#;
        let native = format!(
            r#"{{"result":{{"response":"Hi","tool_calls":[{{"name":"f","arguments":{{"a":1.50}}}},{{"name":"g","arguments":{{}}}}],{usage}}},"success":true,"errors":[],"messages":[]}}"#
        );
        let choices = format!(
            r#"{{"result":{{"id":"i","choices":[{{"index":0,"message":{{"role":"assistant","content":"Hi","tool_calls":[{{"id":"c","type":"function","function":{{"name":"f","arguments":"{{\"a\":1.50}}"}}}},{{"id":"d","type":"function","function":{{"name":"g","arguments":"{{}}"}}}}]}},"finish_reason":"tool_calls"}}],{usage}}},"success":true,"errors":[]}}"#
        );
        for (text, events) in [
            ("native", whole(&native)),
            ("choices", whole(&choices)),
            (
                "stream",
                streamed(&[
                    r#"{"response":"H"}"#,
                    r#"{"response":"i","p":"abc"}"#,
                    r#"{"tool_calls":[{"name":"f","arguments":{"a":1.50}},{"name":"g","arguments":{}}]}"#,
                    &format!(r#"{{"response":"",{usage}}}"#),
                    "[DONE]",
                ]),
            ),
            (
                "stream of choices",
                streamed(&[
                    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}]}"#,
                    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1.50}"}}]}}]}"#,
                    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"d","type":"function","function":{"name":"g","arguments":""}}]}}]}"#,
                    &format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"tool_calls"}}],{usage}}}"#),
                    "[DONE]",
                ]),
            ),
        ] {
            assert_eq!(events.last(), Some(&Event::Done), "{text}");
            let reply = Reply::fold(events);
            let choice = &reply.choices[0];
            assert_eq!((choice.text().as_str(), choice.finish), ("Hi", Some(Finish::ToolCalls)), "{text}");
            let calls: Vec<(&str, &str)> = choice
                .blocks
                .iter()
                .filter_map(|block| match block {
                    Block::Call { name, arguments, .. } => Some((name.as_str(), arguments.as_str())),
                    _ => None,
                })
                .collect();
            assert_eq!(calls, [("f", r#"{"a":1.50}"#), ("g", "{}")], "{text}");
            let counted = Usage::default().with(Meter::InputTokens, 7).with(Meter::OutputTokens, 3);
            assert_eq!(reply.usage, Some(counted), "{text}");
        }
    }

    #[test]
    fn json_may_come_as_a_value() {
        let reply = Reply::fold(whole(r#"{"result":{"response":{"a": 1}},"success":true,"errors":[]}"#));
        assert_eq!((reply.choices[0].text().as_str(), reply.choices[0].finish), (r#"{"a": 1}"#, Some(Finish::Stop)));
    }

    #[test]
    fn errors_and_cuts_are_seen() {
        let told = r#"{"result":null,"success":false,"errors":[{"code":3040,"message":"no capacity"}],"messages":[]}"#;
        for events in [whole(told), streamed(&[told])] {
            assert!(matches!(&events[0], Event::Fault(fault) if fault.code == "3040"), "{events:?}");
        }
        assert_eq!(whole("{}"), [Event::Malformed]);
        let cut = streamed(&[r#"{"response":"H"}"#]);
        assert!(!cut.iter().any(|event| matches!(event, Event::Finish { .. } | Event::Done)), "{cut:?}");
    }
}
