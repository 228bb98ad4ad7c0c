//! The OpenAI chat completions dialect: answers, whole and streamed, out of the typed form.
//!
//! Wire: OpenAI API reference, chat completion object and chunk. Reasoning goes out as `reasoning_content`; what must
//! come back with it as `reasoning_details` (OpenRouter's form, `format` is the issuer). Citations of documents go out as
//! `citations`, beside the dialect's `annotations`.

use crate::dialect::{Amend, Voice};
use crate::json::view::Node;
use crate::json::write::Writer;
use crate::sse::write_data;
use crate::text::citation;
use crate::text::event::{Event, Finish};
use crate::text::prompt::ToolKind;
use crate::text::reply::{Block, Choice, Reply};
use crate::usage::{Meter, Usage};

/// What ends a stream.
const DONE: &str = "[DONE]";

fn id(voice: &Voice) -> String {
    format!("chatcmpl-{}", voice.request_id)
}

/// Usage as OpenAI counts: cached, written and other modalities inside the prompt, reasoning inside the completion.
pub fn usage(usage: &Usage, price: Option<&str>) -> String {
    let q = |meter: Meter| usage.quantity(meter);
    let sum = |meters: &[Meter]| meters.iter().fold(0u64, |sum, meter| sum.saturating_add(q(*meter)));
    let (prompt, completion) = (usage.prompt_tokens(), usage.completion_tokens());
    let mut w = Writer::object();
    w.count("prompt_tokens", prompt);
    w.count("completion_tokens", completion);
    w.count("total_tokens", prompt.saturating_add(completion));
    w.object_at("prompt_tokens_details");
    w.count("cached_tokens", sum(&[Meter::CacheReadTokens, Meter::CacheReadAudioTokens, Meter::CacheReadImageTokens]));
    w.count(
        "cache_write_tokens",
        sum(&[
            Meter::CacheWriteTokens,
            Meter::CacheWrite1hTokens,
            Meter::CacheWrite12hTokens,
            Meter::CacheWriteAudioTokens,
        ]),
    );
    w.count("audio_tokens", q(Meter::InputAudioTokens)).end_object();
    w.object_at("completion_tokens_details");
    w.count("reasoning_tokens", q(Meter::ReasoningTokens));
    w.count("audio_tokens", q(Meter::OutputAudioTokens)).end_object();
    let mut text = w.close();
    if let Some(price) = price {
        text.pop();
        text.push(',');
        text.push_str(price);
        text.push('}');
    }
    text
}

/// A whole answer.
pub fn write(reply: &Reply, voice: &Voice, price: Option<&str>) -> Vec<u8> {
    let mut w = Writer::object();
    w.text("id", &id(voice)).text("object", "chat.completion");
    w.count("created", voice.created).text("model", &voice.model);
    w.array_at("choices");
    // An answer in which nothing was said has a choice all the same: clients read the first one.
    let nothing = [Choice::default()];
    let choices = if reply.choices.is_empty() { nothing.as_slice() } else { reply.choices.as_slice() };
    for (index, choice) in (0u64..).zip(choices) {
        w.begin_object().count("index", index).object_at("message");
        message(choice, &mut w);
        w.end_object();
        match choice.logprobs.is_empty() {
            true => w.value("logprobs", "null"),
            false => w.value("logprobs", &logprobs(&choice.logprobs)),
        };
        w.text("finish_reason", finish_of(choice).name()).end_object();
    }
    w.end_array();
    if let Some(counted) = &reply.usage {
        w.value("usage", &usage(counted, price));
    }
    w.text_if("service_tier", reply.service_tier.as_deref());
    w.close().into_bytes()
}

fn finish_of(choice: &Choice) -> Finish {
    choice.finish.unwrap_or(if choice.has_calls() { Finish::ToolCalls } else { Finish::Stop })
}

/// Pieces of `{content: […], refusal: […]}` as one.
fn logprobs(pieces: &[String]) -> String {
    let tokens = |key: &str| {
        let all = pieces.iter().flat_map(|piece| Node::of(piece).get(key).map(Node::items).into_iter().flatten());
        all.map(|token| token.raw().to_owned()).collect::<Vec<_>>()
    };
    let mut w = Writer::object();
    for key in ["content", "refusal"] {
        let tokens = tokens(key);
        match tokens.is_empty() {
            true => w.value(key, "null"),
            false => w.value(key, &format!("[{}]", tokens.join(","))),
        };
    }
    w.close()
}

fn message(choice: &Choice, w: &mut Writer) {
    let text = choice.text();
    let has_text = choice.blocks.iter().any(|block| matches!(block, Block::Text(_)));
    w.text("role", "assistant");
    let refusals: String = choice
        .blocks
        .iter()
        .filter_map(|block| match block {
            Block::Refusal(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    match has_text || (!choice.has_calls() && refusals.is_empty()) {
        true => w.text("content", &text),
        false => w.value("content", "null"),
    };
    match refusals.is_empty() {
        true => w.value("refusal", "null"),
        false => w.text("refusal", &refusals),
    };
    reasoning(choice, w);
    if choice.has_calls() {
        w.array_at("tool_calls");
        for block in &choice.blocks {
            if let Block::Call { id, name, arguments, kind, signature, .. } = block {
                w.begin_object();
                call(id, name, *kind, arguments, signature.as_ref(), w);
                w.end_object();
            }
        }
        w.end_array();
    }
    let images: Vec<&str> = choice
        .blocks
        .iter()
        .filter_map(|block| match block {
            Block::Image(url) => Some(url.as_str()),
            _ => None,
        })
        .collect();
    if !images.is_empty() {
        w.array_at("images");
        images.iter().for_each(|url| image(url, w));
        w.end_array();
    }
    if let Some(Block::Audio(pieces)) = choice.blocks.iter().find(|block| matches!(block, Block::Audio(_))) {
        audio(pieces, w);
    }
    let (links, others): (Vec<&str>, Vec<&str>) =
        choice.annotations.iter().map(String::as_str).partition(|json| is_link(json));
    w.value("annotations", &format!("[{}]", links.join(",")));
    if !others.is_empty() {
        w.value("citations", &format!("[{}]", others.join(",")));
    }
}

/// The dialect has annotations for links alone, and strict clients refuse others there.
fn is_link(json: &str) -> bool {
    citation::parts(json).is_none_or(|(kind, _)| kind == citation::URL)
}

/// Pieces of an audio object: ids and ends replace, data and transcripts join.
fn audio(pieces: &[String], w: &mut Writer) {
    let mut joined: Vec<(String, String)> = Vec::new();
    let mut plain: Vec<(String, String)> = Vec::new();
    for piece in pieces {
        for (key, value) in Node::of(piece).members() {
            match (key.as_ref(), value.text()) {
                ("data" | "transcript", Some(text)) => match joined.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, so_far)) => so_far.push_str(&text),
                    None => joined.push((key.into_owned(), text.into_owned())),
                },
                _ => {
                    plain.retain(|(known, _)| *known != key);
                    plain.push((key.into_owned(), value.raw().to_owned()));
                }
            }
        }
    }
    w.object_at("audio");
    plain.iter().for_each(|(key, json)| {
        w.value(key, json);
    });
    joined.iter().for_each(|(key, text)| {
        w.text(key, text);
    });
    w.end_object();
}

fn image(url: &str, w: &mut Writer) {
    w.begin_object().text("type", "image_url").object_at("image_url").text("url", url).end_object().end_object();
}

/// The members of a tool call that stand in a message and in the first chunk of a call alike.
fn call(id: &str, name: &str, kind: ToolKind, arguments: &str, signature: Option<&(String, String)>, w: &mut Writer) {
    w.text("id", id);
    match kind {
        ToolKind::Function => {
            w.text("type", "function").object_at("function").text("name", name).text("arguments", arguments);
        }
        ToolKind::Custom => {
            w.text("type", "custom").object_at("custom").text("name", name).text("input", arguments);
        }
    }
    w.end_object();
    if let Some((_, value)) = signature {
        // The place where Google's own OpenAI-shaped surface has it, so that its clients bring it back.
        w.object_at("extra_content").object_at(concat!("goo", "gle")).text("thought_signature", value);
        w.end_object().end_object();
    }
}

fn reasoning(choice: &Choice, w: &mut Writer) {
    let mut shown = String::new();
    let mut details = Writer::new();
    details.begin_array();
    let mut index = 0u64;
    for block in &choice.blocks {
        match block {
            Block::Reasoning { text, signature, sealed, id, issuer, .. } => {
                shown.push_str(text);
                let end = End { signature, sealed, id, issuer };
                if detail(index, text, &end, &mut details) {
                    index = index.saturating_add(1);
                }
            }
            Block::Call { id, signature: Some((issuer, value)), .. } => {
                details.begin_object().text("type", "reasoning.encrypted").text("data", value).text("id", id);
                details.text("format", issuer).count("index", index).end_object();
                index = index.saturating_add(1);
            }
            _ => {}
        }
    }
    details.end_array();
    if !shown.is_empty() {
        w.text("reasoning_content", &shown);
    }
    if index > 0 {
        w.value("reasoning_details", details.as_str());
    }
}

struct End<'a> {
    signature: &'a Option<String>,
    sealed: &'a Option<String>,
    id: &'a Option<String>,
    issuer: &'a Option<String>,
}

/// One or two entries of `reasoning_details`; says whether there was anything that must come back.
fn detail(index: u64, text: &str, end: &End<'_>, w: &mut Writer) -> bool {
    let close = |w: &mut Writer| {
        w.text_if("id", end.id.as_deref()).text_if("format", end.issuer.as_deref()).count("index", index).end_object();
    };
    if end.signature.is_some() {
        w.begin_object().text("type", "reasoning.text").text("text", text);
        w.text_if("signature", end.signature.as_deref());
        close(w);
    }
    if let Some(sealed) = end.sealed {
        w.begin_object().text("type", "reasoning.encrypted").text("data", sealed);
        close(w);
    }
    end.signature.is_some() || end.sealed.is_some()
}

/// Writes a stream.
#[derive(Debug)]
pub struct Encoder {
    voice: Voice,
    /// Choices whose first chunk (with the role) has gone out.
    opened: Vec<u32>,
    /// Why choices ended, in the order they did. Told at the end: some hosts say so with every piece, and nothing may
    /// follow it here.
    finished: Vec<(u32, Finish)>,
    service_tier: Option<String>,
    /// Reasoning of the block under way, by choice: it must be repeated with its signature.
    reasoning: Vec<(u32, String)>,
    /// Details of reasoning so far, by choice: clients tell them apart by their numbers.
    details: Vec<u32>,
    /// Calls of tools that take free text, by choice.
    customs: Vec<(u32, u32)>,
    /// How every chunk begins; empty until the first one, and when that changes.
    head: String,
    /// A chunk and what is new in it; kept for their space.
    chunk: Writer,
    delta: Writer,
}

impl Encoder {
    /// For one answer.
    pub fn new(voice: Voice) -> Encoder {
        Encoder {
            voice,
            opened: Vec::new(),
            finished: Vec::new(),
            service_tier: None,
            reasoning: Vec::new(),
            details: Vec::new(),
            customs: Vec::new(),
            head: String::new(),
            chunk: Writer::new(),
            delta: Writer::new(),
        }
    }

    /// One event.
    pub fn push(&mut self, event: &Event, out: &mut Vec<u8>) {
        let Some(choice) = event.choice() else {
            if let Event::ServiceTier(tier) = event {
                self.service_tier = Some(tier.clone());
                self.head.clear();
            }
            return;
        };
        if let Event::Finish { reason, .. } = event {
            self.finished.retain(|(known, _)| *known != choice);
            self.finished.push((choice, *reason));
            return;
        }
        let mut delta = std::mem::take(&mut self.delta);
        delta.clear().begin_object();
        let is_first = !self.opened.contains(&choice);
        if is_first {
            delta.text("role", "assistant");
            // No text yet, and perhaps none to come: clients that add up the pieces keep it as it is in a whole answer.
            if !matches!(event, Event::Text { .. }) {
                delta.value("content", "null");
            }
        }
        let mut logprobs_json = None;
        match event {
            Event::Text { text, logprobs, .. } => {
                delta.text("content", text);
                logprobs_json = logprobs.as_deref();
            }
            Event::Refusal { text, .. } => {
                delta.text("refusal", text);
            }
            Event::Reasoning { text, .. } => {
                match self.reasoning.iter_mut().find(|(known, _)| *known == choice) {
                    Some((_, so_far)) => so_far.push_str(text),
                    None => self.reasoning.push((choice, text.clone())),
                }
                delta.text("reasoning_content", text);
            }
            Event::ReasoningEnd { signature, sealed, id, issuer, .. } => {
                let at = self.reasoning.iter().position(|(known, _)| *known == choice);
                let text = at.map(|at| self.reasoning.swap_remove(at).1).unwrap_or_default();
                let mut details = Writer::new();
                details.begin_array();
                if !detail(self.detail(choice), &text, &End { signature, sealed, id, issuer }, &mut details) {
                    return;
                }
                self.details.push(choice);
                details.end_array();
                delta.value("reasoning_details", details.as_str());
            }
            Event::CallStart { call: number, id, name, kind, signature, .. } => {
                if *kind == ToolKind::Custom {
                    self.customs.push((choice, *number));
                }
                delta.array_at("tool_calls").begin_object().count("index", u64::from(*number));
                call(id, name, *kind, "", signature.as_ref(), &mut delta);
                delta.end_object().end_array();
                if let Some((issuer, value)) = signature {
                    delta.array_at("reasoning_details").begin_object().text("type", "reasoning.encrypted");
                    delta.text("data", value).text("id", id).text("format", issuer).count("index", self.detail(choice));
                    delta.end_object().end_array();
                    self.details.push(choice);
                }
            }
            Event::CallDelta { call, arguments, .. } => {
                delta.array_at("tool_calls").begin_object().count("index", u64::from(*call));
                let (inner, member) = match self.customs.contains(&(choice, *call)) {
                    true => ("custom", "input"),
                    false => ("function", "arguments"),
                };
                delta.object_at(inner).text(member, arguments).end_object().end_object().end_array();
            }
            Event::CallEnd { .. } => return,
            Event::Annotation { json, .. } => {
                let name = if is_link(json) { "annotations" } else { "citations" };
                delta.value(name, &format!("[{json}]"));
            }
            Event::Audio { json, .. } => {
                delta.value("audio", json);
            }
            Event::Image { url, .. } => {
                delta.array_at("images");
                image(url, &mut delta);
                delta.end_array();
            }
            _ => return,
        }
        delta.end_object();
        if is_first {
            self.opened.push(choice);
        }
        self.chunk(choice, delta, logprobs_json, None, out);
    }

    /// A chunk of one choice.
    fn chunk(&mut self, choice: u32, delta: Writer, logprobs: Option<&str>, finish: Option<Finish>, out: &mut Vec<u8>) {
        let mut w = self.begun();
        w.array_at("choices").begin_object().count("index", u64::from(choice)).value("delta", delta.as_str());
        w.value("logprobs", logprobs.unwrap_or("null"));
        match finish {
            Some(finish) => w.text("finish_reason", finish.name()),
            None => w.value("finish_reason", "null"),
        };
        w.end_object().end_array();
        if self.voice.wants_usage {
            w.value("usage", "null");
        }
        w.end_object();
        write_data(w.as_str(), out);
        (self.chunk, self.delta) = (w, delta);
    }

    /// The number of the next detail of a choice.
    fn detail(&self, choice: u32) -> u64 {
        u64::try_from(self.details.iter().filter(|known| **known == choice).count()).unwrap_or(u64::MAX)
    }

    /// A chunk with its first members.
    fn begun(&mut self) -> Writer {
        if self.head.is_empty() {
            let mut w = Writer::object();
            w.text("id", &id(&self.voice)).text("object", "chat.completion.chunk");
            w.count("created", self.voice.created).text("model", &self.voice.model);
            w.text_if("service_tier", self.service_tier.as_deref());
            self.head = w.finish();
        }
        let mut w = std::mem::take(&mut self.chunk);
        w.clear().raw(&self.head);
        w
    }

    /// The regular end: why each choice ended, the usage chunk where it was asked for, and the end mark.
    pub fn finish(&mut self, counted: Option<&Usage>, amend: Amend<'_>, out: &mut Vec<u8>) {
        // Whoever began and did not say why it ended was done, and so is an answer in which nobody began.
        let mut finished = std::mem::take(&mut self.finished);
        let is_told = |finished: &[(u32, Finish)], choice: u32| finished.iter().any(|(known, _)| *known == choice);
        for choice in self.opened.iter().copied() {
            if !is_told(&finished, choice) {
                finished.push((choice, Finish::Stop));
            }
        }
        if finished.is_empty() {
            finished.push((0, Finish::Stop));
        }
        for (choice, reason) in finished {
            let mut delta = std::mem::take(&mut self.delta);
            delta.clear().begin_object();
            if !self.opened.contains(&choice) {
                delta.text("role", "assistant").text("content", "");
            }
            delta.end_object();
            self.chunk(choice, delta, None, Some(reason), out);
        }
        if let Some(counted) = counted.filter(|_| self.voice.wants_usage) {
            let mut w = self.begun();
            w.value("choices", "[]").value("usage", &usage(counted, amend(counted).as_deref()));
            write_data(&w.close(), out);
        }
        write_data(DONE, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice() -> Voice {
        Voice { request_id: "r".into(), model: "a/b".into(), created: 5, wants_usage: true, echo: None }
    }

    fn events() -> Vec<Event> {
        let call = |call: u32, id: &str| Event::CallStart {
            choice: 0,
            call,
            id: id.into(),
            name: "f".into(),
            kind: ToolKind::Function,
            signature: None,
        };
        vec![
            Event::Start { id: None, model: None },
            Event::Reasoning { choice: 0, text: "think".into() },
            Event::ReasoningEnd {
                choice: 0,
                signature: Some("sig".into()),
                sealed: None,
                id: None,
                issuer: Some("claude-v1".into()),
            },
            Event::Text { choice: 0, text: "Hi".into(), logprobs: None },
            call(0, "c0"),
            Event::CallDelta { choice: 0, call: 0, arguments: "{\"a\"".into() },
            call(1, "c1"),
            Event::CallDelta { choice: 0, call: 0, arguments: ":1}".into() },
            Event::CallDelta { choice: 0, call: 1, arguments: "{}".into() },
            Event::Finish { choice: 0, reason: Finish::ToolCalls, stop_sequence: None },
            Event::Usage(Usage::default().with(Meter::InputTokens, 3).with(Meter::OutputTokens, 2)),
        ]
    }

    #[test]
    fn a_stream_is_what_the_reference_says() {
        let mut encoder = Encoder::new(voice());
        let mut out = Vec::new();
        events().iter().for_each(|event| encoder.push(event, &mut out));
        let counted = Usage::default().with(Meter::InputTokens, 3).with(Meter::OutputTokens, 2);
        encoder.finish(Some(&counted), &|_| Some("\"cost\":0.5".into()), &mut out);
        let text = String::from_utf8(out).unwrap();
        let chunks: Vec<serde_json::Value> = text
            .split("\n\n")
            .filter_map(|frame| frame.strip_prefix("data: "))
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(chunks[1]["choices"][0]["delta"]["reasoning_details"][0]["signature"], "sig");
        assert_eq!(chunks[1]["choices"][0]["delta"]["reasoning_details"][0]["text"], "think");
        assert_eq!(chunks[3]["choices"][0]["delta"]["tool_calls"][0]["id"], "c0");
        let arguments = |index: u64| -> String {
            chunks
                .iter()
                .flat_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array().cloned().unwrap_or_default())
                .filter(|call| call["index"] == index)
                .map(|call| call["function"]["arguments"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!((arguments(0).as_str(), arguments(1).as_str()), ("{\"a\":1}", "{}"));
        let last = chunks.last().unwrap();
        assert_eq!((&last["usage"]["total_tokens"], &last["usage"]["cost"]), (&5.into(), &0.5.into()));
        assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "tool_calls");
        assert!(text.ends_with("data: [DONE]\n\n"));
    }

    /// The `delta` of each chunk.
    fn deltas(events: &[Event]) -> Vec<serde_json::Value> {
        let mut encoder = Encoder::new(voice());
        let mut out = Vec::new();
        events.iter().for_each(|event| encoder.push(event, &mut out));
        encoder.finish(None, &|_| None, &mut out);
        let text = String::from_utf8(out).unwrap();
        let chunks = text.split("\n\n").filter_map(|frame| frame.strip_prefix("data: ")).filter(|data| *data != DONE);
        chunks
            .map(|data| serde_json::from_str::<serde_json::Value>(data).unwrap()["choices"][0]["delta"].clone())
            .collect()
    }

    #[test]
    fn the_first_chunk_tells_the_role_and_no_text_that_there_is_not() {
        let text = Event::Text { choice: 0, text: "Hi".into(), logprobs: None };
        let refusal = Event::Refusal { choice: 0, text: "No.".into(), is_generated: true };
        let end = Event::ReasoningEnd { choice: 0, signature: None, sealed: None, id: None, issuer: None };
        let role = |more: serde_json::Value| {
            let mut first = serde_json::json!({"role": "assistant"});
            first.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            first
        };
        assert_eq!(deltas(&[end, text])[0], role(serde_json::json!({"content": "Hi"})));
        let refused = role(serde_json::json!({"content": null, "refusal": "No."}));
        assert_eq!(deltas(std::slice::from_ref(&refusal))[0], refused);
        let called = deltas(&events()[4..6]);
        assert_eq!((&called[0]["role"], &called[0]["content"]), (&"assistant".into(), &serde_json::Value::Null));
        let whole: serde_json::Value =
            serde_json::from_slice(&write(&Reply::fold(vec![refusal]), &voice(), None)).unwrap();
        let message = &whole["choices"][0]["message"];
        assert_eq!((&message["content"], &message["refusal"]), (&serde_json::Value::Null, &"No.".into()));
    }

    #[test]
    fn nothing_follows_the_end_of_a_choice_however_often_a_host_tells_it() {
        let text = |text: &str| Event::Text { choice: 0, text: text.into(), logprobs: None };
        let end = |choice: u32, reason: Finish| Event::Finish { choice, reason, stop_sequence: None };
        let mut encoder = Encoder::new(voice());
        let mut out = Vec::new();
        for event in [text("a"), end(0, Finish::Stop), end(1, Finish::Length), text("b"), end(0, Finish::Length)] {
            encoder.push(&event, &mut out);
        }
        encoder.finish(None, &|_| None, &mut out);
        let text = String::from_utf8(out).unwrap();
        let chunks: Vec<serde_json::Value> =
            text.split("\n\n").filter_map(|frame| serde_json::from_str(frame.strip_prefix("data: ")?).ok()).collect();
        let told: Vec<(u64, &str, &str)> = chunks
            .iter()
            .map(|chunk| &chunk["choices"][0])
            .map(|choice| {
                let delta = choice["delta"]["content"].as_str().unwrap_or("-");
                (choice["index"].as_u64().unwrap(), delta, choice["finish_reason"].as_str().unwrap_or("-"))
            })
            .collect();
        assert_eq!(told, [(0, "a", "-"), (0, "b", "-"), (1, "", "length"), (0, "-", "length")]);
        assert!(text.ends_with("data: [DONE]\n\n"));
    }

    #[test]
    fn an_answer_in_which_nothing_is_said_has_a_choice() {
        let whole: serde_json::Value = serde_json::from_slice(&write(&Reply::default(), &voice(), None)).unwrap();
        assert_eq!(
            (&whole["choices"][0]["message"]["content"], &whole["choices"][0]["finish_reason"]),
            (&"".into(), &"stop".into())
        );
        let mut out = Vec::new();
        Encoder::new(voice()).finish(None, &|_| None, &mut out);
        let text = String::from_utf8(out).unwrap();
        let first: serde_json::Value =
            serde_json::from_str(text.lines().next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
        let choice = &first["choices"][0];
        assert_eq!((&choice["delta"]["role"], &choice["finish_reason"]), (&"assistant".into(), &"stop".into()));
    }

    #[test]
    fn a_whole_answer_says_the_same() {
        let text = write(&Reply::fold(events()), &voice(), None);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let message = &value["choices"][0]["message"];
        assert_eq!((&message["content"], &message["reasoning_content"]), (&"Hi".into(), &"think".into()));
        assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"a\":1}");
        assert_eq!(value["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(value["usage"]["prompt_tokens"], 3);
    }
}
