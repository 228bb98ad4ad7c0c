//! What providers speak: one file per wire family, the shapes of their errors, and the quirks a provider may declare.
//!
//! A family writes a [`Prompt`] as its own request ([`Family::write`]) and decodes its answers into events
//! ([`Decoder`]). This file is the table; it knows no wire.

pub mod anthropic;
pub mod bedrock;
pub mod cohere;
pub mod event_stream;
pub mod fault;
pub mod gemini;
pub mod mistral;
pub mod openai_chat;
pub mod openai_chat_typed;
pub mod openai_responses;
pub mod quirk;
pub mod target;
pub mod wait;
pub mod watsonx;
pub mod workers_ai;

use crate::error::Failure;
use crate::family::quirk::Quirk;
use crate::family::target::{Target, Written};
use crate::text::custom;
use crate::text::event::Event;
use crate::text::ids;
use crate::text::prompt::{Prompt, ToolChoice};

/// A wire family for text. The name is the one in catalog files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// OpenAI chat completions, spoken by most hosts.
    OpenAiChat,
    /// The same on Azure.
    AzureOpenAi,
    /// OpenAI chat completions as Mistral has them.
    Mistral,
    /// OpenAI Responses.
    OpenAiResponses,
    /// Anthropic Messages.
    Anthropic,
    /// Anthropic Messages through Vertex AI.
    VertexAnthropic,
    /// Gemini `generateContent`.
    Gemini,
    /// The same through Vertex AI.
    VertexGemini,
    /// Cohere v2 chat.
    Cohere,
    /// Mistral's models through Vertex AI.
    VertexMistral,
    /// Amazon Bedrock's Converse.
    BedrockConverse,
    /// Anthropic Messages through Amazon Bedrock, by invoke.
    BedrockInvoke,
    /// IBM watsonx.ai's chat.
    Watsonx,
    /// Cloudflare Workers AI by its own surface.
    WorkersAi,
}

const NAMES: &[(&str, Family)] = &[
    ("openai-chat", Family::OpenAiChat),
    ("azure-openai", Family::AzureOpenAi),
    ("mistral", Family::Mistral), // a family, not the provider
    ("openai-responses", Family::OpenAiResponses),
    ("anthropic-messages", Family::Anthropic),
    ("vertex-anthropic", Family::VertexAnthropic),
    ("gemini", Family::Gemini),
    ("vertex-gemini", Family::VertexGemini),
    ("cohere-v2", Family::Cohere),
    ("vertex-mistral", Family::VertexMistral),
    ("bedrock-converse", Family::BedrockConverse),
    ("bedrock-invoke", Family::BedrockInvoke),
    ("watsonx", Family::Watsonx), // a family, not the provider
    ("cloudflare-ai-run", Family::WorkersAi),
];

impl Family {
    /// Whether its streams are AWS event streams rather than server-sent events.
    pub const fn has_event_stream(self) -> bool {
        matches!(self, Family::BedrockConverse | Family::BedrockInvoke)
    }

    /// The family of that name; `None` where this build does not speak it.
    pub fn from_name(name: &str) -> Option<Family> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, family)| *family)
    }

    /// The name in catalog files.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, family)| *family == self).map_or("", |(name, _)| name)
    }

    /// Whether its tools may take free text, at a provider with these quirks.
    pub fn takes_free_text(self, quirks: &[Quirk]) -> bool {
        match self {
            Family::OpenAiChat => quirks.contains(&Quirk::TakesFreeText),
            Family::AzureOpenAi | Family::OpenAiResponses => true,
            _ => false,
        }
    }

    /// Writes a request. Fails where the prompt holds something the family has no words for. Tools that take free text are
    /// functions where the family has none ([`custom`]).
    /// Calls that share an id get one each ([`ids`]).
    pub fn write(self, prompt: &Prompt<'_>, target: &Target<'_>) -> Result<Written, Failure> {
        let unique = ids::unique(prompt);
        let prompt = unique.as_ref().unwrap_or(prompt);
        if let Some(ToolChoice::Named(name)) = &prompt.tool_choice
            && !prompt.tools.is_empty()
            && prompt.tools.iter().all(|tool| tool.name != *name)
        {
            return Err(Failure::invalid("tool_choice", "names no tool of the request"));
        }
        let mut written = match self.takes_free_text(target.quirks) || !custom::is_needed(prompt) {
            true => self.words(prompt, target)?,
            false => {
                let (prompt, lost) = custom::as_functions(prompt);
                let written = self.words(&prompt, target)?;
                Written { dropped: written.dropped.into_iter().chain(lost).collect(), ..written }
            }
        };
        let lost = [
            ("citations", prompt.wants_citations() && !self.cites()),
            ("name", prompt.names_speakers() && !self.names_speakers()),
            ("is_error", prompt.has_failed_results() && !self.tells_failed_results()),
        ];
        written.dropped.extend(lost.into_iter().filter(|(_, is_lost)| *is_lost).map(|(name, _)| name.to_owned()));
        Ok(written)
    }

    /// Whether a message may say who of several speaks. Of hosts that take no names the writer of this shape says so.
    const fn names_speakers(self) -> bool {
        use Family::*;
        matches!(self, OpenAiChat | AzureOpenAi | Mistral | VertexMistral | Watsonx | WorkersAi)
    }

    /// Whether the result of a tool may say that it is an error.
    const fn tells_failed_results(self) -> bool {
        use Family::*;
        matches!(self, Anthropic | VertexAnthropic | BedrockInvoke | BedrockConverse | Gemini | VertexGemini)
    }

    /// Whether it can be asked to cite the files of a request.
    const fn cites(self) -> bool {
        matches!(self, Family::Anthropic | Family::VertexAnthropic | Family::BedrockInvoke | Family::BedrockConverse)
    }

    fn words(self, prompt: &Prompt<'_>, target: &Target<'_>) -> Result<Written, Failure> {
        match self {
            Family::OpenAiChat | Family::AzureOpenAi => openai_chat::write(prompt, target),
            Family::Mistral => mistral::write(prompt, target),
            Family::OpenAiResponses => openai_responses::write(prompt, target),
            Family::Anthropic => anthropic::write(prompt, target, anthropic::Host::Own),
            Family::VertexAnthropic => anthropic::write(prompt, target, anthropic::Host::Vertex),
            Family::Gemini => gemini::write(prompt, target, gemini::Host::Own),
            Family::VertexGemini => gemini::write(prompt, target, gemini::Host::Vertex),
            Family::Cohere => cohere::write(prompt, target),
            Family::VertexMistral => mistral::write_for_vertex(prompt, target),
            Family::BedrockConverse => bedrock::write(prompt, target),
            Family::BedrockInvoke => anthropic::write(prompt, target, anthropic::Host::Bedrock),
            Family::Watsonx => watsonx::write(prompt, target),
            Family::WorkersAi => workers_ai::write(prompt, target),
        }
    }
}

/// Reads one answer of a provider, frame by frame or whole. Holds what the conversation needs: ids, numbers of tool
/// calls, usage that adds up.
#[derive(Debug)]
pub enum Decoder {
    /// OpenAI chat completions, Mistral's included.
    Chat(openai_chat::Decoder),
    /// OpenAI Responses.
    Responses(openai_responses::Decoder),
    /// Anthropic Messages.
    Anthropic(anthropic::Decoder),
    /// Gemini.
    Gemini(gemini::Decoder),
    /// Cohere.
    Cohere(cohere::Decoder),
    /// Amazon Bedrock's Converse.
    Bedrock(bedrock::Decoder),
    /// Cloudflare Workers AI.
    WorkersAi(workers_ai::Decoder),
}

impl Decoder {
    /// For one answer of a provider with these quirks. `provider` is its id, for what it seals.
    pub fn new(family: Family, quirks: &[Quirk], provider: &str) -> Decoder {
        match family {
            Family::OpenAiChat | Family::AzureOpenAi | Family::Mistral | Family::VertexMistral | Family::Watsonx => {
                Decoder::Chat(openai_chat::Decoder::new(quirks, provider))
            }
            Family::OpenAiResponses => Decoder::Responses(openai_responses::Decoder::new(provider)),
            Family::Anthropic | Family::VertexAnthropic | Family::BedrockInvoke => {
                Decoder::Anthropic(anthropic::Decoder::default())
            }
            Family::BedrockConverse => Decoder::Bedrock(bedrock::Decoder::new(provider)),
            Family::Gemini | Family::VertexGemini => Decoder::Gemini(gemini::Decoder::default()),
            Family::Cohere => Decoder::Cohere(cohere::Decoder::default()),
            Family::WorkersAi => Decoder::WorkersAi(workers_ai::Decoder::new(quirks, provider)),
        }
    }

    /// One frame of a stream.
    pub fn frame(&mut self, data: &str, out: &mut Vec<Event>) {
        match self {
            Decoder::Chat(decoder) => decoder.frame(data, out),
            Decoder::Responses(decoder) => decoder.frame(data, out),
            Decoder::Anthropic(decoder) => decoder.frame(data, out),
            Decoder::Gemini(decoder) => decoder.frame(data, out),
            Decoder::Cohere(decoder) => decoder.frame(data, out),
            Decoder::Bedrock(decoder) => decoder.frame(data, out),
            Decoder::WorkersAi(decoder) => decoder.frame(data, out),
        }
    }

    /// The stream ended in good order: what its last frames left open.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        match self {
            Decoder::Chat(decoder) => decoder.finish(out),
            Decoder::Responses(_) | Decoder::Anthropic(_) | Decoder::Cohere(_) => {}
            Decoder::Gemini(decoder) => decoder.finish(out),
            Decoder::Bedrock(decoder) => decoder.finish(out),
            Decoder::WorkersAi(decoder) => decoder.finish(out),
        }
    }

    /// A whole answer that was not streamed, as the events of one. An error inside a 200 is a `Fault`, text that is no
    /// answer of the family `Malformed`.
    pub fn whole(&mut self, text: &str, out: &mut Vec<Event>) {
        match self {
            Decoder::Chat(decoder) => decoder.whole(text, out),
            Decoder::Responses(decoder) => decoder.whole(text, out),
            Decoder::Anthropic(decoder) => decoder.whole(text, out),
            Decoder::Gemini(decoder) => decoder.whole(text, out),
            Decoder::Cohere(decoder) => decoder.whole(text, out),
            Decoder::Bedrock(decoder) => decoder.whole(text, out),
            Decoder::WorkersAi(decoder) => decoder.whole(text, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_found_by_its_name() {
        for (name, family) in NAMES {
            assert_eq!((Family::from_name(name), family.name()), (Some(*family), *name));
        }
        assert_eq!(Family::from_name("telepathy"), None);
    }

    #[test]
    fn what_a_family_has_no_words_for_is_named() {
        use crate::dialect::Dialect;
        let call = r#"{"role":"assistant","content":[{"type":"tool_use","id":"c","name":"f","input":{}}]}"#;
        let result =
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"c","is_error":true,"content":"no"}]}"#;
        let asked = r#"{"role":"user","content":"x"}"#;
        let failed = format!(r#"{{"model":"m","max_tokens":9,"messages":[{asked},{call},{result}]}}"#);
        let named = r#"{"model":"m","messages":[{"role":"user","name":"ann","content":"x"}]}"#.to_owned();
        let traits = target::Traits::default();
        let target =
            Target { upstream: "up", provider: "p", quirks: &[], traits: &traits, limit: Some(5), own_limit: None };
        let lost = |dialect: Dialect, body: &str, name: &str| -> Vec<Family> {
            let request = dialect.parse(body.as_bytes().to_vec()).unwrap();
            let prompt = dialect.prompt(&request).unwrap();
            let is_lost = |family: &Family| {
                let written = family.write(&prompt, &target).unwrap();
                written.dropped.iter().any(|one| one == name)
            };
            NAMES.iter().map(|(_, family)| *family).filter(is_lost).collect()
        };
        use Family::*;
        let named = lost(Dialect::Chat, &named, "name");
        let without = [Anthropic, Gemini, Cohere, BedrockConverse, OpenAiResponses, Mistral, VertexMistral, WorkersAi];
        assert!(without.iter().all(|one| named.contains(one)), "{named:?}");
        assert!(![OpenAiChat, AzureOpenAi, Watsonx].iter().any(|one| named.contains(one)), "{named:?}");
        let failed = lost(Dialect::Messages, &failed, "is_error");
        assert!([OpenAiChat, Cohere, Mistral, OpenAiResponses].iter().all(|one| failed.contains(one)), "{failed:?}");
        assert!(![Anthropic, Gemini, BedrockConverse].iter().any(|one| failed.contains(one)), "{failed:?}");
    }
}
