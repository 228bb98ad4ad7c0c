//! IBM watsonx.ai: OpenAI chat completions under other names, with a path of its own for streams.
//!
//! Wire: watsonx.ai API reference, `POST /ml/v1/text/chat` and `/ml/v1/text/chat_stream`. The project that pays stands in
//! the body and comes from the provider's catalog file. Answers are those of [`crate::family::openai_chat`].

use crate::error::Failure;
use crate::family::openai_chat_typed;
use crate::family::quirk::Quirk;
use crate::family::target::{Target, Written};
use crate::json::view::Node;
use crate::json::{ObjectEdits, members};
use crate::text::prompt::{Param, Prompt};

/// What the API has no field for.
const REFUSED: &[&str] = &[
    "audio",
    "metadata",
    "modalities",
    "parallel_tool_calls",
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
    quirks.extend([Quirk::NoStreamOptions, Quirk::Drop(REFUSED.iter().map(|field| (*field).to_owned()).collect())]);
    let written = openai_chat_typed::write(prompt, &Target { quirks: &quirks, ..*target })?;
    let path = if prompt.stream { "/text/chat_stream" } else { "/text/chat" };
    let body = renamed(&written.body, prompt.param(Param::Stop));
    Ok(Written { path: path.to_owned(), body, ..written })
}

/// The model's name, the choice of tools and the stop sequences in the API's form.
fn renamed(body: &[u8], stop: Option<&str>) -> Vec<u8> {
    let members = members(body).unwrap_or_default();
    let mut edits = ObjectEdits::new(body, &members);
    edits.rename("model", "model_id");
    edits.remove("stream");
    let choice = members.iter().find(|member| member.key == "tool_choice");
    // A word has a field of its own, beside that of a choice by name.
    if choice.is_some_and(|member| body.get(member.value.start) == Some(&b'"')) {
        edits.rename("tool_choice", "tool_choice_option");
    }
    if let Some(one) = stop.filter(|stop| Node::of(stop).is_string() && members.iter().any(|m| m.key == "stop")) {
        edits.set("stop", &format!("[{one}]"));
    }
    edits.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::family::target::Traits;

    fn sent(text: &str) -> (String, serde_json::Value, Vec<String>) {
        let request = Dialect::Chat.parse(text.as_bytes().to_vec()).unwrap();
        let prompt = Dialect::Chat.prompt(&request).unwrap();
        let traits = Traits::default();
        let target =
            Target { upstream: "ibm/up", provider: "p", quirks: &[], traits: &traits, limit: Some(5), own_limit: None };
        let written = write(&prompt, &target).unwrap();
        (written.path, serde_json::from_slice(&written.body).unwrap(), written.dropped)
    }

    #[test]
    fn names_and_paths_are_the_apis() {
        let tools =
            r#""tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"user","content":"x"}]"#;
        let (path, body, dropped) = sent(&format!(
            r#"{{"model":"m","stream":true,"stop":"X","user":"u","verbosity":"low","tool_choice":"required",{tools}}}"#
        ));
        assert_eq!(path, "/text/chat_stream");
        assert_eq!((&body["model_id"], &body["max_completion_tokens"]), (&"ibm/up".into(), &5.into()));
        assert_eq!((&body["tool_choice_option"], &body["stop"][0]), (&"required".into(), &"X".into()));
        for gone in ["model", "stream", "stream_options", "tool_choice", "user", "verbosity"] {
            assert!(body.get(gone).is_none(), "{gone}");
        }
        assert_eq!(dropped, ["verbosity"]);
        let named = r#""tool_choice":{"type":"function","function":{"name":"f"}}"#;
        let (path, body, _) = sent(&format!(r#"{{"model":"m",{named},{tools}}}"#));
        assert_eq!((path.as_str(), &body["tool_choice"]["function"]["name"]), ("/text/chat", &"f".into()));
        assert!(body.get("tool_choice_option").is_none());
    }
}
