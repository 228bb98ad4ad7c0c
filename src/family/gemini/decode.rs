//! Gemini answers as events. Each frame of a stream is a whole answer with the new parts; usage adds up by itself.

use crate::family::fault::{self, Fault};
use crate::family::gemini::ground::{self, Ground};
use crate::json::view::Node;
use crate::json::write::Writer;
use crate::text::event::{Event, Finish};
use crate::text::issuer;
use crate::text::prompt::ToolKind;
use crate::usage::{Meter, Usage};

/// Decodes answers.
#[derive(Debug, Default)]
pub struct Decoder {
    started: bool,
    /// Calls so far, by choice.
    calls: Vec<(u32, u32)>,
    has_content: bool,
    finished: bool,
    grounds: Vec<Ground>,
    searches: u64,
}

impl Decoder {
    /// One frame of a stream.
    pub fn frame(&mut self, data: &str, out: &mut Vec<Event>) {
        if data.trim().is_empty() {
            return;
        }
        match Node::parse(data) {
            Some(node) => self.object(node, out),
            None => out.push(Event::Malformed),
        }
    }

    /// The stream ended in good order.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        if self.finished {
            out.push(Event::Done);
        }
    }

    /// A whole answer.
    pub fn whole(&mut self, text: &str, out: &mut Vec<Event>) {
        // Without server-sent events, a stream is one list of what its frames would be.
        match Node::parse(text).filter(|node| node.is_array()) {
            Some(list) => list.items().for_each(|node| self.object(node, out)),
            None => self.frame(text, out),
        }
        if out.is_empty() {
            out.push(Event::Malformed);
        }
        self.finish(out);
    }

    fn object(&mut self, node: Node<'_>, out: &mut Vec<Event>) {
        // Errors of a stream may come inside an array of one.
        let node = node.items().next().unwrap_or(node);
        if node.get("error").is_some() {
            let fault = crate::json::from_str(node.raw()).ok().and_then(|value| fault::from_value(&value));
            out.push(Event::Fault(fault.unwrap_or_default()));
            return;
        }
        let candidates = node.get("candidates");
        let blocked = node.at(&["promptFeedback", "blockReason"]).is_some();
        if candidates.is_none() && !blocked && node.get("usageMetadata").is_none() {
            out.push(Event::Malformed);
            return;
        }
        if !self.started {
            self.started = true;
            out.push(Event::Start {
                id: node.text_at("responseId").map(Into::into),
                model: node.text_at("modelVersion").map(Into::into),
            });
        }
        if let Some(usage) = node.get("usageMetadata") {
            self.searches = self.searches.max(searches(node));
            out.push(Event::Usage(usage_of(usage).with(Meter::WebSearches, self.searches)));
        }
        for candidate in candidates.map(Node::items).into_iter().flatten() {
            self.candidate(candidate, out);
        }
        if candidates.is_none() && blocked {
            self.finished = true;
            out.push(Event::Finish { choice: 0, reason: Finish::ContentFilter, stop_sequence: None });
        }
    }

    fn candidate(&mut self, node: Node<'_>, out: &mut Vec<Event>) {
        let choice = node.u64_at("index").and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
        for part in node.at(&["content", "parts"]).map(Node::items).into_iter().flatten() {
            self.part(part, choice, out);
        }
        if let Some(logprobs) = node.get("logprobsResult").and_then(logprobs) {
            out.push(Event::Text { choice, text: String::new(), logprobs: Some(logprobs) });
        }
        if let Some(ground) = ground::of(&mut self.grounds, choice) {
            ground.note(node);
        }
        let Some(word) = node.text_at("finishReason").filter(|word| !word.is_empty()) else { return };
        // What the answer stands on is known when all of it is.
        let annotations = ground::of(&mut self.grounds, choice).map(Ground::annotations).unwrap_or_default();
        out.extend(annotations.into_iter().map(|json| Event::Annotation { choice, json }));
        let has_calls = self.calls.iter().any(|(known, _)| *known == choice);
        let reason = match word.as_ref() {
            "STOP" if has_calls => Finish::ToolCalls,
            "STOP" => Finish::Stop,
            "MAX_TOKENS" => Finish::Length,
            "SAFETY"
            | "RECITATION"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION"
            | "MODEL_ARMOR"
            | "LANGUAGE" => Finish::ContentFilter,
            // Its own failure, of which nothing was seen: somebody else may do better.
            word if !self.has_content => {
                out.push(Event::Fault(Fault { code: word.to_lowercase(), ..Fault::default() }));
                return;
            }
            _ => Finish::Stop,
        };
        self.finished = true;
        out.push(Event::Finish { choice, reason, stop_sequence: None });
    }

    fn part(&mut self, part: Node<'_>, choice: u32, out: &mut Vec<Event>) {
        let signature = part.text_at("thoughtSignature").map(|text| text.into_owned());
        if let Some(call) = part.get("functionCall") {
            let number =
                u32::try_from(self.calls.iter().filter(|(known, _)| *known == choice).count()).unwrap_or(u32::MAX);
            self.calls.push((choice, number));
            self.has_content = true;
            let id = call.string_at("id");
            let signature = signature.map(|value| (issuer::GEMINI.to_owned(), value));
            let (name, kind) = (call.string_at("name"), ToolKind::Function);
            out.push(Event::CallStart { choice, call: number, id, name, kind, signature });
            let arguments = call.get("args").map_or("{}", Node::raw).to_owned();
            out.push(Event::CallDelta { choice, call: number, arguments });
            out.push(Event::CallEnd { choice, call: number });
            return;
        }
        if let Some(text) = part.text_at("text").filter(|text| !text.is_empty()) {
            self.has_content = true;
            let text = text.into_owned();
            out.push(match part.bool_at("thought") {
                Some(true) => Event::Reasoning { choice, text },
                _ => {
                    if let Some(ground) = ground::of(&mut self.grounds, choice) {
                        ground.say(&text);
                    }
                    Event::Text { choice, text, logprobs: None }
                }
            });
        }
        for (key, member) in [("executableCode", "code"), ("codeExecutionResult", "output")] {
            if let Some(text) = part.get(key).and_then(|inner| inner.text_at(member)) {
                self.has_content = true;
                out.push(Event::Text { choice, text: text.into_owned(), logprobs: None });
            }
        }
        if let Some(media) = part.get("inlineData") {
            self.has_content = true;
            let (kind, data) = (media.string_at("mimeType"), media.string_at("data"));
            out.push(match kind.starts_with("audio/") {
                true => Event::Audio { choice, json: Writer::object().text("data", &data).clone().close() },
                false => Event::Image { choice, url: format!("data:{kind};base64,{data}") },
            });
        }
        if let Some(value) = signature {
            let issuer = Some(issuer::GEMINI.to_owned());
            out.push(Event::ReasoningEnd { choice, signature: Some(value), sealed: None, id: None, issuer });
        }
    }
}

/// Log probabilities of the tokens that came, in the chat dialect's form.
fn logprobs(result: Node<'_>) -> Option<String> {
    let token = |node: Node<'_>, w: &mut Writer| {
        let text = node.string_at("token");
        let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
        w.text("token", &text).value("logprob", node.get("logProbability").map_or("null", Node::raw));
        w.value("bytes", &format!("[{}]", bytes.join(",")));
    };
    let mut tops = result.get("topCandidates").map(Node::items).into_iter().flatten();
    let mut w = Writer::object();
    w.array_at("content");
    let mut is_empty = true;
    for chosen in result.get("chosenCandidates").map(Node::items).into_iter().flatten() {
        is_empty = false;
        w.begin_object();
        token(chosen, &mut w);
        w.array_at("top_logprobs");
        let others = tops.next().and_then(|top| top.get("candidates"));
        for other in others.map(Node::items).into_iter().flatten() {
            w.begin_object();
            token(other, &mut w);
            w.end_object();
        }
        w.end_array().end_object();
    }
    w.end_array().value("refusal", "null");
    (!is_empty).then(|| w.close())
}

/// What is billed of a frame's searches: each query, but of the models before the third generation each prompt that was
/// searched for.
fn searches(node: Node<'_>) -> u64 {
    let candidates = node.get("candidates").map(Node::items).into_iter().flatten();
    let lists = candidates.filter_map(|candidate| candidate.at(&["groundingMetadata", "webSearchQueries"]));
    let queries = u64::try_from(lists.flat_map(Node::items).count()).unwrap_or(u64::MAX);
    let model = node.string_at("modelVersion");
    let by_prompt = ["gemini-1", "gemini-2"].iter().any(|generation| model.starts_with(generation));
    if by_prompt { queries.min(1) } else { queries }
}

/// Cached tokens are inside the prompt, thoughts are outside the answer; other modalities stand in the details.
fn usage_of(node: Node<'_>) -> Usage {
    let count = |key: &str| node.u64_at(key).unwrap_or(0);
    let detail = |list: &str, kind: &str| -> u64 {
        let items = node.get(list).map(Node::items).into_iter().flatten();
        let of_kind = items.filter(|item| item.text_at("modality").is_some_and(|modality| modality == kind));
        of_kind.filter_map(|item| item.u64_at("tokenCount")).fold(0, u64::saturating_add)
    };
    let prompt = count("promptTokenCount").saturating_add(count("toolUsePromptTokenCount"));
    let cached = count("cachedContentTokenCount").min(prompt);
    let cached_audio = detail("cacheTokensDetails", "AUDIO").min(cached);
    let cached_image = detail("cacheTokensDetails", "IMAGE").min(cached.saturating_sub(cached_audio));
    let fresh = prompt.saturating_sub(cached);
    let audio = detail("promptTokensDetails", "AUDIO").saturating_sub(cached_audio).min(fresh);
    let image = detail("promptTokensDetails", "IMAGE").saturating_sub(cached_image).min(fresh.saturating_sub(audio));
    let video = detail("promptTokensDetails", "VIDEO").min(fresh.saturating_sub(audio).saturating_sub(image));
    let out = count("candidatesTokenCount");
    let out_audio = detail("candidatesTokensDetails", "AUDIO").min(out);
    let out_image = detail("candidatesTokensDetails", "IMAGE").min(out.saturating_sub(out_audio));
    let text = out.saturating_sub(out_audio).saturating_sub(out_image);
    let out_video = detail("candidatesTokensDetails", "VIDEO").min(text);
    Usage::default()
        .with(Meter::InputTokens, fresh.saturating_sub(audio).saturating_sub(image).saturating_sub(video))
        .with(Meter::CacheReadTokens, cached.saturating_sub(cached_audio).saturating_sub(cached_image))
        .with(Meter::CacheReadAudioTokens, cached_audio)
        .with(Meter::CacheReadImageTokens, cached_image)
        .with(Meter::InputAudioTokens, audio)
        .with(Meter::InputImageTokens, image)
        .with(Meter::InputVideoTokens, video)
        .with(Meter::OutputTokens, text.saturating_sub(out_video))
        .with(Meter::OutputVideoTokens, out_video)
        .with(Meter::OutputAudioTokens, out_audio)
        .with(Meter::OutputImageTokens, out_image)
        .with(Meter::ReasoningTokens, count("thoughtsTokenCount"))
}
