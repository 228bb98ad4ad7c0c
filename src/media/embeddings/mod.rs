//! `POST /v1/embeddings`, in OpenAI's shape, with inputs of text, tokens, and of text and pictures.

pub mod hosts;
pub mod vector;

use serde_json::{Value, json};

use super::common::Common;
use super::meter::{Basis, Told};
use super::picture;
use super::shape::{Answered, Reading, malformed};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::family::target::cannot;
use crate::usage::Meter;

/// Most inputs of a request.
const INPUTS_MAX: usize = 2048;
/// Most pieces of one input.
const PIECES_MAX: usize = 64;
/// Tokens of a picture at most.
const IMAGE_TOKENS: u64 = 10_000;

/// One input.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Tokens of the model's own tokenizer.
    Tokens(Vec<u64>),
    /// Texts and pictures that make one vector.
    Pieces(Vec<Piece>),
}

/// A piece of an input.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Text.
    Text(String),
    /// A picture: a link or a `data:` URL.
    Picture(String),
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
        common.text("input_type")?;
        let inputs = match common.body.get("input") {
            None | Some(Value::Null) => return Err(Failure::invalid("input", "is missing")),
            Some(Value::String(text)) => vec![Input::Pieces(vec![Piece::Text(text.clone())])],
            Some(Value::Array(list)) if !list.is_empty() && list.iter().all(Value::is_u64) => vec![tokens(list)],
            Some(Value::Array(list)) => {
                list.iter().enumerate().map(|(at, item)| input(at, item)).collect::<Result<Vec<_>, _>>()?
            }
            Some(_) => return Err(Failure::invalid("input", "must be a string, a list of strings or tokens")),
        };
        let is_blank = |input: &Input| matches!(input, Input::Pieces(pieces) if pieces.iter().all(|piece| matches!(piece, Piece::Text(text) if text.is_empty())));
        if inputs.is_empty() || inputs.iter().any(is_blank) {
            return Err(Failure::invalid("input", "is empty"));
        }
        if inputs.len() > INPUTS_MAX {
            return Err(Failure::invalid("input", format!("has more than {INPUTS_MAX} entries")));
        }
        Ok(Embeddings { common, inputs, dimensions, is_base64 })
    }

    fn pictures(&self) -> impl Iterator<Item = &str> {
        let pieces = self.inputs.iter().flat_map(|input| match input {
            Input::Pieces(pieces) => pieces.as_slice(),
            Input::Tokens(_) => &[],
        });
        pieces.filter_map(|piece| match piece {
            Piece::Picture(url) => Some(url.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Links that a host without links needs the content of.
    pub fn links(&self) -> Vec<String> {
        self.pictures().filter(|url| picture::is_link(url)).map(str::to_owned).collect()
    }

    fn tokens_max(&self) -> u64 {
        let of = |input: &Input| match input {
            Input::Tokens(tokens) => tokens.len(),
            Input::Pieces(pieces) => {
                pieces.iter().map(|piece| if let Piece::Text(text) = piece { text.len() } else { 0 }).sum()
            }
        };
        self.inputs.iter().map(of).fold(0, |sum, more| sum.saturating_add(u64::try_from(more).unwrap_or(u64::MAX)))
    }

    /// Ways to count it.
    pub fn bases(&self) -> Vec<Basis> {
        let (tokens, pictures) = (self.tokens_max(), self.picture_count());
        if pictures == 0 {
            return vec![vec![(Meter::InputTokens, tokens)], vec![(Meter::InputCharacters, tokens)]];
        }
        let most = pictures.saturating_mul(IMAGE_TOKENS);
        vec![
            vec![(Meter::InputTokens, tokens), (Meter::InputImages, pictures)],
            vec![(Meter::InputTokens, tokens), (Meter::InputImageTokens, most)],
        ]
    }

    fn picture_count(&self) -> u64 {
        u64::try_from(self.pictures().count()).unwrap_or(u64::MAX)
    }

    /// What the request counts by itself.
    pub fn counted(&self) -> Told {
        let characters = |input: &Input| match input {
            Input::Tokens(_) => 0,
            Input::Pieces(pieces) => pieces
                .iter()
                .map(|piece| if let Piece::Text(text) = piece { text.chars().count() } else { 0 })
                .sum::<usize>(),
        };
        let characters: usize = self.inputs.iter().map(characters).sum();
        let is_text = self.inputs.iter().all(|input| matches!(input, Input::Pieces(_)));
        let told = Told::default().with(Meter::InputImages, self.picture_count()).with(Meter::Requests, 1);
        let is_tokens = self.inputs.iter().all(|input| matches!(input, Input::Tokens(_)));
        told.with(Meter::InputCharacters, is_text.then(|| u64::try_from(characters).unwrap_or(u64::MAX)))
            .with(Meter::InputTokens, is_tokens.then(|| self.tokens_max()))
    }

    /// The inputs in batches of at most that many.
    fn batches(&self, most: Option<u64>) -> impl Iterator<Item = &[Input]> {
        let most = most.and_then(|most| usize::try_from(most).ok()).filter(|most| *most > 0).unwrap_or(INPUTS_MAX);
        self.inputs.chunks(most)
    }

    /// The answer of all vectors, in the order of the inputs.
    fn answer(&self, vectors: Vec<Value>, told: Told, reading: &Reading<'_>) -> Result<Answered, Fault> {
        if vectors.len() != self.inputs.len() {
            return Err(malformed());
        }
        let mut data = Vec::with_capacity(vectors.len());
        for (index, vector) in vectors.into_iter().enumerate() {
            let vector = vector::formed(vector, self.is_base64).ok_or_else(malformed)?;
            data.push(json!({"object": "embedding", "index": index, "embedding": vector}));
        }
        let pictures = told.get(Meter::InputImageTokens).unwrap_or(0);
        // Where nobody counted, what is charged for: an estimate, and no zero.
        let counted = told.get(Meter::InputTokens).or_else(|| self.counted().get(Meter::InputTokens));
        let tokens = counted.unwrap_or_else(|| self.tokens_max().div_ceil(4)).saturating_add(pictures);
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        let body = json!({"object": "list", "data": data, "model": reading.model, "usage": usage});
        let body = body.to_string().into_bytes();
        Ok(Answered { content_type: "application/json".to_owned(), body, told, ..Answered::default() })
    }
}

fn tokens(list: &[Value]) -> Input {
    Input::Tokens(list.iter().filter_map(Value::as_u64).collect())
}

/// One entry of a list: a text, tokens, a text or a picture as an object, or `{content: [...]}` of several.
fn input(at: usize, item: &Value) -> Result<Input, Failure> {
    match item {
        Value::String(text) => Ok(Input::Pieces(vec![Piece::Text(text.clone())])),
        Value::Array(list) if !list.is_empty() && list.iter().all(Value::is_u64) => Ok(tokens(list)),
        Value::Object(object) => {
            let path = format!("input[{at}]");
            match object.get("content") {
                Some(Value::Array(list)) if (1..=PIECES_MAX).contains(&list.len()) => {
                    let one = |(n, item)| piece(&format!("{path}.content[{n}]"), item);
                    Ok(Input::Pieces(list.iter().enumerate().map(one).collect::<Result<_, _>>()?))
                }
                Some(_) => Err(Failure::invalid(format!("{path}.content"), "must be a list of texts and pictures")),
                None => Ok(Input::Pieces(vec![piece(&path, item)?])),
            }
        }
        _ => Err(Failure::invalid(format!("input[{at}]"), "must be a string, a list of tokens, a text or a picture")),
    }
}

fn piece(path: &str, item: &Value) -> Result<Piece, Failure> {
    if let Some(text) = item.as_str().or_else(|| item.get("text").and_then(Value::as_str)) {
        return Ok(Piece::Text(text.to_owned()));
    }
    let named = item.get("image_url").map(|image| image.get("url").unwrap_or(image)).or_else(|| item.get("image"));
    match named.and_then(Value::as_str) {
        Some(url) => picture::check(url, path).map(|()| Piece::Picture(url.to_owned())),
        None => Err(Failure::invalid(path, "must be a text or an image_url")),
    }
}

/// The one text of an input.
fn text_of(input: &Input) -> Result<&str, Failure> {
    match input {
        Input::Pieces(pieces) => match pieces.as_slice() {
            [Piece::Text(text)] => Ok(text),
            _ => Err(cannot("input", "a picture")),
        },
        Input::Tokens(_) => Err(cannot("input", "a list of tokens")),
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
        let link = json!({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}});
        for (input, count) in [
            (json!("a"), 1),
            (json!(["a", "b"]), 2),
            (json!([1, 2, 3]), 1),
            (json!([[1], [2, 3]]), 2),
            (json!([{"text": "a"}, {"image": "https://x.example/a.png"}, link]), 3),
            (json!([{"content": ["a", link]}]), 1),
        ] {
            assert_eq!(parse(json!({"model": "m", "input": input})).unwrap().inputs.len(), count);
        }
        for (body, param) in [
            (json!({"model": "m"}), "input"),
            (json!({"input": "a"}), "model"),
            (json!({"model": "m", "input": ""}), "input"),
            (json!({"model": "m", "input": []}), "input"),
            (json!({"model": "m", "input": ["a", 1]}), "input[1]"),
            (json!({"model": "m", "input": [{"image": "a.png"}]}), "input[0]"),
            (json!({"model": "m", "input": [{"content": []}]}), "input[0].content"),
            (json!({"model": "m", "input": [{"content": [5]}]}), "input[0].content[0]"),
            (json!({"model": "m", "input": "a", "dimensions": 0}), "dimensions"),
            (json!({"model": "m", "input": "a", "encoding_format": "hex"}), "encoding_format"),
        ] {
            assert_eq!(parse(body.clone()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn pictures_are_counted_beside_the_text() {
        let link = json!({"image_url": {"url": "https://x.example/a.png"}});
        let work = parse(json!({"model": "m", "input": [{"content": ["grün", link]}, link]})).unwrap();
        assert_eq!(work.links().len(), 2);
        assert_eq!(work.counted().get(Meter::InputImages), Some(2));
        assert_eq!(work.counted().get(Meter::InputCharacters), Some(4));
        assert!(work.bases()[0].contains(&(Meter::InputImages, 2)));
        let tokens = parse(json!({"model": "m", "input": [[1], [2, 3]]})).unwrap().counted();
        assert_eq!((tokens.get(Meter::InputCharacters), tokens.get(Meter::InputTokens)), (None, Some(3)));
    }
}
