//! `POST /v1/embeddings`, in OpenAI's shape.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Answered, Common, Measures, Reading, Shape, Written, json_of};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::family::target::cannot;
use crate::usage::{Meter, Usage};

/// Most inputs of a request.
const INPUTS_MAX: usize = 2048;

/// One input.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Text.
    Text(String),
    /// Tokens of the model's own tokenizer.
    Tokens(Vec<u64>),
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// What all work has.
    pub common: Common,
    inputs: Vec<Input>,
    dimensions: Option<u64>,
    is_base64: bool,
}

impl Embeddings {
    /// Parses a body.
    pub fn parse(bytes: &[u8]) -> Result<Embeddings, Failure> {
        let common = Common::parse(bytes, None)?;
        let dimensions = common.count("dimensions", 1, 65_536)?;
        let is_base64 = common.word("encoding_format", &["float", "base64"])?.as_deref() == Some("base64");
        let inputs = match common.body.get("input") {
            None | Some(Value::Null) => return Err(Failure::invalid("input", "is missing")),
            Some(Value::String(text)) => vec![Input::Text(text.clone())],
            Some(Value::Array(list)) if !list.is_empty() && list.iter().all(Value::is_u64) => {
                vec![Input::Tokens(list.iter().filter_map(Value::as_u64).collect())]
            }
            Some(Value::Array(list)) => list
                .iter()
                .enumerate()
                .map(|(at, item)| match item {
                    Value::String(text) => Ok(Input::Text(text.clone())),
                    Value::Array(tokens) if !tokens.is_empty() && tokens.iter().all(Value::is_u64) => {
                        Ok(Input::Tokens(tokens.iter().filter_map(Value::as_u64).collect()))
                    }
                    _ => Err(Failure::invalid(format!("input[{at}]"), "must be a string or a list of tokens")),
                })
                .collect::<Result<Vec<_>, _>>()?,
            Some(_) => return Err(Failure::invalid("input", "must be a string, a list of strings or tokens")),
        };
        let is_blank = |input: &Input| matches!(input, Input::Text(text) if text.is_empty());
        if inputs.is_empty() || inputs.iter().any(is_blank) {
            return Err(Failure::invalid("input", "is empty"));
        }
        if inputs.len() > INPUTS_MAX {
            return Err(Failure::invalid("input", format!("has more than {INPUTS_MAX} entries")));
        }
        Ok(Embeddings { common, inputs, dimensions, is_base64 })
    }

    fn tokens_max(&self) -> u64 {
        let of = |input: &Input| match input {
            Input::Text(text) => text.len(),
            Input::Tokens(tokens) => tokens.len(),
        };
        self.inputs.iter().map(of).fold(0, |sum, more| sum.saturating_add(u64::try_from(more).unwrap_or(u64::MAX)))
    }

    pub(super) fn measures(&self) -> Measures {
        vec![vec![(Meter::InputTokens, self.tokens_max())], vec![(Meter::InputCharacters, self.tokens_max())]]
    }

    fn texts(&self) -> Result<Vec<&str>, Failure> {
        self.inputs
            .iter()
            .map(|input| match input {
                Input::Text(text) => Ok(text.as_str()),
                Input::Tokens(_) => Err(cannot("input", "a list of tokens")),
            })
            .collect()
    }

    pub(super) fn write(&self, shape: Shape, upstream: &str) -> Result<Written, Failure> {
        let body = match shape {
            Shape::OpenAi => Value::Object(self.common.passed(upstream, &[])),
            Shape::Voyage => {
                self.texts()?;
                let mut body = self.common.passed(upstream, &["dimensions", "encoding_format", "user"]);
                if let Some(dimensions) = self.dimensions {
                    body.insert("output_dimension".to_owned(), dimensions.into());
                }
                Value::Object(body)
            }
            Shape::Jina => {
                let mut body = self.common.passed(upstream, &["encoding_format", "user"]);
                body.insert("input".to_owned(), json!(self.texts()?));
                Value::Object(body)
            }
            Shape::Cohere => {
                let kind = self.common.text("input_type")?.unwrap_or("search_document");
                let mut body = json!({"model": upstream, "texts": self.texts()?, "input_type": kind, "embedding_types": ["float"]});
                if let (Some(dimensions), Some(body)) = (self.dimensions, body.as_object_mut()) {
                    body.insert("output_dimension".to_owned(), dimensions.into());
                }
                return Ok(Written::json("/embed", body.to_string()));
            }
            Shape::Gemini => {
                let one = |text: &str| {
                    let mut one = Map::new();
                    one.insert("model".to_owned(), format!("models/{upstream}").into());
                    one.insert("content".to_owned(), json!({"parts": [{"text": text}]}));
                    if let Some(dimensions) = self.dimensions {
                        one.insert("outputDimensionality".to_owned(), dimensions.into());
                    }
                    Value::Object(one)
                };
                let requests: Vec<Value> = self.texts()?.into_iter().map(one).collect();
                let path = format!("/models/{upstream}:batchEmbedContents");
                return Ok(Written::json(&path, json!({"requests": requests}).to_string()));
            }
            Shape::ElevenLabs | Shape::Deepgram => return Err(cannot("model", "embeddings")),
        };
        Ok(Written::json("/embeddings", body.to_string()))
    }

    pub(super) fn read(&self, bytes: &[u8], reading: &Reading<'_>) -> Result<Answered, Fault> {
        let malformed = || Fault { message: "malformed".to_owned(), ..Fault::default() };
        let value = json_of(bytes)?;
        let (vectors, tokens): (Vec<Value>, Option<u64>) = match reading.shape {
            Shape::Cohere => {
                let list = value.pointer("/embeddings/float").and_then(Value::as_array).ok_or_else(malformed)?;
                (list.clone(), value.pointer("/meta/billed_units/input_tokens").and_then(Value::as_u64))
            }
            Shape::Gemini => {
                let list = value.get("embeddings").and_then(Value::as_array).ok_or_else(malformed)?;
                let of = |one: &Value| one.get("values").cloned().ok_or_else(malformed);
                let tokens = value.pointer("/usageMetadata/promptTokenCount").and_then(Value::as_u64);
                (list.iter().map(of).collect::<Result<_, _>>()?, tokens)
            }
            _ => {
                let list = value.get("data").and_then(Value::as_array).ok_or_else(malformed)?;
                let mut placed: Vec<(u64, Value)> = Vec::new();
                for (at, one) in (0u64..).zip(list) {
                    let vector = one.get("embedding").cloned().ok_or_else(malformed)?;
                    placed.push((one.get("index").and_then(Value::as_u64).unwrap_or(at), vector));
                }
                placed.sort_by_key(|(index, _)| *index);
                let of = |name: &str| value.pointer(name).and_then(Value::as_u64);
                let tokens = of("/usage/prompt_tokens").or_else(|| of("/usage/total_tokens"));
                (placed.into_iter().map(|(_, vector)| vector).collect(), tokens)
            }
        };
        if vectors.len() != self.inputs.len() {
            return Err(malformed());
        }
        let mut data = Vec::new();
        for (index, vector) in vectors.into_iter().enumerate() {
            let vector = formed(vector, self.is_base64).ok_or_else(malformed)?;
            data.push(json!({"object": "embedding", "index": index, "embedding": vector}));
        }
        let tokens = tokens.unwrap_or(0);
        let usage = Usage::default().with(Meter::InputTokens, tokens);
        let body = json!({"object": "list", "data": data, "model": reading.model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}});
        Ok(Answered { content_type: "application/json".to_owned(), body: body.to_string().into_bytes(), usage })
    }
}

/// A vector as the client wants it: floats, or base64 of little-endian 32-bit floats.
fn formed(vector: Value, is_base64: bool) -> Option<Value> {
    match (vector, is_base64) {
        (Value::String(text), true) => Some(Value::String(text)),
        (Value::Array(list), false) => Some(Value::Array(list)),
        (Value::Array(list), true) => {
            let mut bytes = Vec::with_capacity(list.len().saturating_mul(4));
            for number in &list {
                #[allow(clippy::cast_possible_truncation, reason = "the wire has 32 bits")]
                bytes.extend_from_slice(&(number.as_f64()? as f32).to_le_bytes());
            }
            Some(Value::String(STANDARD.encode(bytes)))
        }
        (Value::String(text), false) => {
            let bytes = STANDARD.decode(text).ok()?;
            let float = |four: &[u8]| four.try_into().ok().map(f32::from_le_bytes).map(|number| json!(number));
            bytes.chunks(4).map(float).collect::<Option<Vec<Value>>>().map(Value::Array)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: Value) -> Result<Embeddings, Failure> {
        Embeddings::parse(value.to_string().as_bytes())
    }

    #[test]
    fn inputs_of_every_form_are_taken_and_others_refused() {
        for (input, count) in
            [(json!("a"), 1), (json!(["a", "b"]), 2), (json!([1, 2, 3]), 1), (json!([[1], [2, 3]]), 2)]
        {
            assert_eq!(parse(json!({"model": "m", "input": input})).unwrap().inputs.len(), count);
        }
        for (body, param) in [
            (json!({"model": "m"}), "input"),
            (json!({"input": "a"}), "model"),
            (json!({"model": "m", "input": ""}), "input"),
            (json!({"model": "m", "input": []}), "input"),
            (json!({"model": "m", "input": ["a", 1]}), "input[1]"),
            (json!({"model": "m", "input": "a", "dimensions": 0}), "dimensions"),
            (json!({"model": "m", "input": "a", "encoding_format": "hex"}), "encoding_format"),
        ] {
            assert_eq!(parse(body.clone()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn vectors_change_their_form_without_loss() {
        let floats = json!([0.5, -1.25, 3.0]);
        let text = formed(floats.clone(), true).unwrap();
        assert_eq!(text, json!("AAAAPwAAoL8AAEBA"));
        assert_eq!(formed(text.clone(), false).unwrap(), floats);
        assert_eq!(formed(text.clone(), true).unwrap(), text);
        assert_eq!(formed(json!({"a": 1}), true), None);
    }
}
