//! OpenAI chat completions as Mistral has them: the same shape with fewer fields, other names for two of them, and tool
//! call ids of exactly nine letters and digits.
//!
//! Answers are those of [`crate::family::openai_chat`], whose decoder reads content as an array of parts.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::error::Failure;
use crate::family::openai_chat_typed;
use crate::family::quirk::Quirk;
use crate::family::target::{Target, Written};
use crate::text::prompt::{Part, Prompt, Text};

/// What the API refuses (422).
const REFUSED: &[&str] =
    &["audio", "logit_bias", "modalities", "safety_identifier", "store", "user", "verbosity", "web_search_options"];

/// Writes a request.
pub fn write(prompt: &Prompt<'_>, target: &Target<'_>) -> Result<Written, Failure> {
    let mut quirks = target.quirks.to_vec();
    quirks.extend([
        Quirk::NoStreamOptions,
        Quirk::NoMessageName,
        Quirk::PlainMedia,
        Quirk::Rename("max_completion_tokens".to_owned(), "max_tokens".to_owned()),
        Quirk::Rename("seed".to_owned(), "random_seed".to_owned()),
        Quirk::Drop(REFUSED.iter().map(|field| (*field).to_owned()).collect()),
    ]);
    let mut prompt = prompt.clone();
    for part in prompt.messages.iter_mut().flat_map(|message| &mut message.parts) {
        match part {
            Part::Call(call) => short(&mut call.id),
            Part::Result { id, .. } => short(id),
            _ => {}
        }
    }
    openai_chat_typed::write(&prompt, &Target { quirks: &quirks, ..*target })
}

/// Writes a request for Mistral's models on Vertex AI, where the path names the model.
pub fn write_for_vertex(prompt: &Prompt<'_>, target: &Target<'_>) -> Result<Written, Failure> {
    let verb = if prompt.stream { "streamRawPredict" } else { "rawPredict" };
    let path = format!("/publishers/mistralai/models/{}:{verb}", target.upstream);
    write(prompt, target).map(|written| Written { path, ..written })
}

/// An id of another maker becomes nine letters and digits, the same ones each time.
fn short(id: &mut Text<'_>) {
    let fits = id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !fits {
        let digits: String = Sha256::digest(id.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        *id = Cow::Owned(digits.get(..9).unwrap_or_default().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::family::target::Traits;

    #[test]
    fn ids_and_names_are_what_the_api_takes() {
        let text = r#"{"model":"m","seed":7,"user":"u","stream":true,"messages":[{"role":"user","content":"x","name":"n"},
            {"role":"assistant","tool_calls":[{"id":"toolu_0123","type":"function","function":{"name":"f","arguments":""}}]},
            {"role":"tool","tool_call_id":"toolu_0123","content":"r"}]}"#;
        let request = Dialect::Chat.parse(text.as_bytes().to_vec()).unwrap();
        let prompt = Dialect::Chat.prompt(&request).unwrap();
        let traits = Traits::default();
        let target =
            Target { upstream: "up", provider: "p", quirks: &[], traits: &traits, limit: Some(5), own_limit: None };
        let sent: serde_json::Value = serde_json::from_slice(&write(&prompt, &target).unwrap().body).unwrap();
        let id = sent["messages"][1]["tool_calls"][0]["id"].as_str().unwrap();
        assert_eq!((id.len(), sent["messages"][2]["tool_call_id"].as_str()), (9, Some(id)));
        assert_eq!((&sent["random_seed"], &sent["max_tokens"]), (&7.into(), &5.into()));
        for gone in ["seed", "user", "stream_options"] {
            assert!(sent.get(gone).is_none(), "{gone}");
        }
    }
}
