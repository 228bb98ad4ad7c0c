//! `POST /v1/moderations`, in OpenAI's shape.

use serde_json::Value;

use super::{Answered, Common, Measures, Written, json_of};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::usage::{Meter, Usage};

/// The model where the request names none, as OpenAI has it.
const DEFAULT_MODEL: &str = "openai/omni-moderation-latest";
/// Tokens of a picture at most.
const IMAGE_TOKENS: u64 = 10_000;

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Moderation {
    /// What all work has.
    pub common: Common,
    tokens_max: u64,
}

impl Moderation {
    /// Parses a body.
    pub fn parse(bytes: &[u8]) -> Result<Moderation, Failure> {
        let common = Common::parse(bytes, Some(DEFAULT_MODEL))?;
        let length = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX);
        let part = |at: usize, part: &Value| match (part, part.get("type").and_then(Value::as_str)) {
            (Value::String(text), _) => Ok(length(text)),
            (_, Some("text")) => part
                .get("text")
                .and_then(Value::as_str)
                .map(length)
                .ok_or_else(|| Failure::invalid(format!("input[{at}].text"), "is missing")),
            (_, Some("image_url")) if part.pointer("/image_url/url").is_some_and(Value::is_string) => Ok(IMAGE_TOKENS),
            (_, Some("image_url")) => Err(Failure::invalid(format!("input[{at}].image_url.url"), "is missing")),
            _ => Err(Failure::invalid(format!("input[{at}]"), "must be a string, a text or an image_url")),
        };
        let tokens_max = match common.body.get("input") {
            None | Some(Value::Null) => return Err(Failure::invalid("input", "is missing")),
            Some(Value::String(text)) => length(text),
            Some(Value::Array(parts)) if !parts.is_empty() => {
                let sizes = parts.iter().enumerate().map(|(at, one)| part(at, one));
                sizes.collect::<Result<Vec<u64>, Failure>>()?.into_iter().fold(0, u64::saturating_add)
            }
            Some(_) => return Err(Failure::invalid("input", "must be a string or a list that is not empty")),
        };
        Ok(Moderation { common, tokens_max })
    }

    pub(super) fn measures(&self) -> Measures {
        vec![vec![(Meter::InputTokens, self.tokens_max.max(1))], vec![(Meter::Requests, 1)]]
    }

    pub(super) fn write(&self, upstream: &str) -> Result<Written, Failure> {
        Ok(Written::json("/moderations", Value::Object(self.common.passed(upstream, &[])).to_string()))
    }

    pub(super) fn read(&self, bytes: Vec<u8>) -> Result<Answered, Fault> {
        let value = json_of(&bytes)?;
        if !value.get("results").is_some_and(Value::is_array) {
            return Err(Fault { message: "malformed".to_owned(), ..Fault::default() });
        }
        let tokens = value.pointer("/usage/prompt_tokens").or_else(|| value.pointer("/usage/total_tokens"));
        let usage = Usage::default().with(Meter::InputTokens, tokens.and_then(Value::as_u64).unwrap_or(0));
        Ok(Answered { content_type: "application/json".to_owned(), body: bytes, usage })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_and_pictures_are_taken() {
        let of = |input: Value| Moderation::parse(json!({"input": input}).to_string().as_bytes());
        let picture = json!({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}});
        assert_eq!(of(json!("abc")).unwrap().tokens_max, 3);
        assert_eq!(of(json!(["abc", "de"])).unwrap().tokens_max, 5);
        assert_eq!(of(json!([{"type": "text", "text": "ab"}, picture])).unwrap().tokens_max, 2 + IMAGE_TOKENS);
        assert_eq!(of(json!("abc")).unwrap().common.models, [DEFAULT_MODEL]);
        for (input, param) in [
            (json!([]), "input"),
            (json!(5), "input"),
            (json!([5]), "input[0]"),
            (json!([{"type": "image_url"}]), "input[0].image_url.url"),
        ] {
            assert_eq!(of(input).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
