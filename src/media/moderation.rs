//! `POST /v1/moderations`, in OpenAI's shape.

use serde_json::{Map, Value, json};

use super::common::Common;
use super::meter::{Basis, Told};
use super::shape::{Answered, Raw, Reading, Shape, Written, at_once, fates, json_of, malformed};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::family::target::cannot;
use crate::usage::Meter;

/// The model where the request names none, as OpenAI has it.
pub const DEFAULT_MODEL: &str = "omni-moderation-latest";
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

    /// Ways to count it.
    pub fn bases(&self) -> Vec<Basis> {
        vec![vec![(Meter::InputTokens, self.tokens_max.max(1))], vec![(Meter::Requests, 1)]]
    }

    /// What the request counts by itself.
    pub fn counted(&self) -> Told {
        Told::default().with(Meter::Requests, 1)
    }

    /// The texts alone, for hosts that see no pictures.
    fn texts(&self) -> Result<Vec<&str>, Failure> {
        match self.common.body.get("input") {
            Some(Value::String(one)) => Ok(vec![one]),
            Some(Value::Array(list)) => list
                .iter()
                .map(|one| {
                    one.as_str().or_else(|| one.get("text")?.as_str()).ok_or_else(|| cannot("input", "a picture"))
                })
                .collect(),
            _ => Err(Failure::invalid("input", "is missing")),
        }
    }
}

/// What the writers take from the typed form.
pub const CORE: &[&str] = &["input"];

/// The hosts.
pub const TABLE: &[&Shape<Moderation>] = &[
    &Shape {
        families: &["openai-chat", "openai-responses", "azure-openai"],
        fates: fates! {
            "input (text)" Kept, "input (pictures)" Kept,
        },
        passes: true,
        write: |work, asked| {
            Ok(vec![Written::json("/moderations", Value::Object(work.common.passed(asked.upstream, &[])))])
        },
        follow: at_once,
        read: read_openai,
    },
    &Shape {
        families: &["mistral"],
        fates: fates! {
            "input (text)" Kept, "input (pictures)" Refused,
        },
        passes: false,
        write: |work, asked| {
            let body = json!({"model": asked.upstream, "input": work.texts()?});
            Ok(vec![Written::json("/moderations", body)])
        },
        follow: at_once,
        read: read_mistral,
    },
];

fn counted(value: &Value) -> Told {
    let tokens = value.pointer("/usage/prompt_tokens").or_else(|| value.pointer("/usage/total_tokens"));
    Told::default().with(Meter::InputTokens, tokens.and_then(Value::as_u64))
}

fn read_openai(_: &Moderation, raws: Vec<Raw>, _: &Reading<'_>) -> Result<Answered, Fault> {
    let raw = raws.into_iter().next().ok_or_else(malformed)?;
    let value = json_of(&raw.bytes)?;
    if !value.get("results").is_some_and(Value::is_array) {
        return Err(malformed());
    }
    let content_type = "application/json".to_owned();
    Ok(Answered { content_type, body: raw.bytes, told: counted(&value), ..Answered::default() })
}

/// Mistral's categories that are one of OpenAI's; the others keep their name.
const CATEGORIES: &[(&str, &str)] = &[
    ("hate_and_discrimination", "hate"),
    ("violence_and_threats", "violence"),
    ("dangerous_and_criminal_content", "illicit"),
    ("selfharm", "self-harm"),
];

fn read_mistral(_: &Moderation, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let value = json_of(&raws.first().ok_or_else(malformed)?.bytes)?;
    let list = value.get("results").and_then(Value::as_array).ok_or_else(malformed)?;
    let renamed = |object: Option<&Value>| -> Option<Map<String, Value>> {
        let name = |name: &String| {
            CATEGORIES.iter().find(|(theirs, _)| theirs == name).map_or(name.clone(), |(_, ours)| (*ours).to_owned())
        };
        Some(object?.as_object()?.iter().map(|(key, value)| (name(key), value.clone())).collect())
    };
    let one = |one: &Value| {
        let categories = renamed(one.get("categories"))?;
        let is_flagged = categories.values().any(|value| value.as_bool() == Some(true));
        Some(
            json!({"flagged": is_flagged, "categories": categories, "category_scores": renamed(one.get("category_scores"))}),
        )
    };
    let results = list.iter().map(one).collect::<Option<Vec<Value>>>().ok_or_else(malformed)?;
    let body = json!({"id": reading.id, "model": reading.model, "results": results}).to_string().into_bytes();
    Ok(Answered { content_type: "application/json".to_owned(), body, told: counted(&value), ..Answered::default() })
}

#[cfg(test)]
mod tests {
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
    #[test]
    fn other_hosts_words_become_openais() {
        let work = Moderation::parse(br#"{"model":"m","input":["a",{"type":"text","text":"b"}]}"#).unwrap();
        assert_eq!(work.texts().unwrap(), ["a", "b"]);
        let answer = json!({"results": [{"categories": {"selfharm": true, "pii": false}, "category_scores": {"selfharm": 0.9, "pii": 0.1}}], "usage": {"prompt_tokens": 4}});
        let reading = Reading { upstream: "u", model: "org/m", id: "i", created: 0 };
        let raw = Raw { bytes: answer.to_string().into_bytes(), ..Raw::default() };
        let answered = read_mistral(&work, vec![raw], &reading).unwrap();
        let body: Value = serde_json::from_slice(&answered.body).unwrap();
        assert_eq!(
            body["results"][0],
            json!({"flagged": true, "categories": {"self-harm": true, "pii": false}, "category_scores": {"self-harm": 0.9, "pii": 0.1}})
        );
        assert_eq!(answered.told.get(Meter::InputTokens), Some(4));
        let picture = Moderation::parse(
            br#"{"model":"m","input":[{"type":"image_url","image_url":{"url":"https://x.example/a.png"}}]}"#,
        )
        .unwrap();
        assert!(picture.texts().is_err());
    }
}
