//! `POST /v1/images/generations` and `/v1/images/edits`, in OpenAI's shape.

use serde_json::{Map, Value, json};

use super::multipart::{self, Part};
use super::{Answered, Common, Measures, Reading, Shape, Written, json_of};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::usage::{Meter, Usage};

const IMAGES_MAX: u64 = 10;
/// Tokens of one picture out, at most: the dearest quality at the largest size, with room.
const OUTPUT_TOKENS: u64 = 20_000;
/// Tokens of one picture in, at most.
const INPUT_TOKENS: u64 = 10_000;
/// Megapixels of a picture whose size nobody states.
const MEGAPIXELS: u64 = 4;

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    /// What all work has.
    pub common: Common,
    prompt: String,
    count: u64,
    /// `url` or `b64_json`, as the client wants it.
    format: Option<String>,
    /// Files and their fields, of an edit.
    files: Vec<Part>,
}

impl Images {
    /// Parses a body of JSON.
    pub fn parse(bytes: &[u8]) -> Result<Images, Failure> {
        Images::of(Common::parse(bytes, None)?, Vec::new())
    }

    /// Parses a body of parts.
    pub fn parse_parts(parts: Vec<Part>) -> Result<Images, Failure> {
        let (files, fields): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|part| part.filename.is_some());
        let mut body = Map::new();
        for part in fields {
            let text = String::from_utf8(part.bytes).map_err(|_| Failure::invalid(&*part.name, "is no text"))?;
            // Numbers are numbers also in a form.
            let value = text.parse::<u64>().map_or_else(|_| Value::String(text.clone()), Value::from);
            body.insert(part.name, if matches!(text.as_str(), "") { Value::Null } else { value });
        }
        if !files.iter().any(|file| matches!(file.name.as_str(), "image" | "image[]")) {
            return Err(Failure::invalid("image", "is missing"));
        }
        Images::of(Common::of(body, None)?, files)
    }

    fn of(common: Common, files: Vec<Part>) -> Result<Images, Failure> {
        let prompt = common.text("prompt")?.filter(|text| !text.is_empty());
        let prompt = prompt.ok_or_else(|| Failure::invalid("prompt", "is missing"))?.to_owned();
        let count = common.count("n", 1, IMAGES_MAX)?.unwrap_or(1);
        let format = common.word("response_format", &["url", "b64_json"])?;
        common.text("size")?;
        common.text("quality")?;
        if common.body.get("stream").and_then(Value::as_bool) == Some(true) {
            return Err(
                Failure::new(crate::error::Code::UnsupportedParameter, "pictures are not streamed").about("stream")
            );
        }
        Ok(Images { common, prompt, count, format, files })
    }

    /// The quality that prices depend on.
    pub fn quality(&self) -> Option<&str> {
        self.common.body.get("quality").and_then(Value::as_str)
    }

    /// The size that prices depend on.
    pub fn size(&self) -> Option<&str> {
        self.common.body.get("size").and_then(Value::as_str)
    }

    pub(super) const fn shapes(&self) -> &'static [Shape] {
        if self.files.is_empty() { &[Shape::OpenAi, Shape::Gemini] } else { &[Shape::OpenAi] }
    }

    fn megapixels(&self) -> u64 {
        let sides = self.size().and_then(|size| size.split_once('x'));
        let parsed = sides.and_then(|(w, h)| Some((w.parse::<u64>().ok()?, h.parse::<u64>().ok()?)));
        parsed.map_or(MEGAPIXELS, |(w, h)| w.saturating_mul(h).div_ceil(1_000_000)).max(1)
    }

    pub(super) fn measures(&self) -> Measures {
        let text = u64::try_from(self.prompt.len()).unwrap_or(u64::MAX);
        let files = u64::try_from(self.files.len()).unwrap_or(u64::MAX);
        let input = (Meter::InputTokens, text);
        let picture_in = (Meter::InputImageTokens, files.saturating_mul(INPUT_TOKENS));
        let tokens_out = self.count.saturating_mul(OUTPUT_TOKENS);
        vec![
            vec![input, picture_in, (Meter::OutputImageTokens, tokens_out)],
            vec![input, (Meter::OutputImageTokens, tokens_out)],
            vec![(Meter::OutputImages, self.count)],
            vec![(Meter::OutputMegapixels, self.count.saturating_mul(self.megapixels()))],
            vec![(Meter::Requests, 1)],
        ]
    }

    pub(super) fn counted(&self) -> Vec<(Meter, u64)> {
        vec![
            (Meter::OutputImages, self.count),
            (Meter::OutputMegapixels, self.count.saturating_mul(self.megapixels())),
            (Meter::Requests, 1),
            // Nothing was sent, so nothing is counted.
            (Meter::InputImageTokens, 0),
        ]
    }

    pub(super) fn write(&self, shape: Shape, upstream: &str) -> Result<Written, Failure> {
        if shape == Shape::Gemini {
            return Ok(self.gemini(upstream));
        }
        // These models always answer in base64 and refuse to be asked.
        let is_fixed = upstream.contains("gpt-image");
        let without: &[&str] = if is_fixed { &["response_format"] } else { &[] };
        let body = self.common.passed(upstream, without);
        if self.files.is_empty() {
            return Ok(Written::json("/images/generations", Value::Object(body).to_string()));
        }
        let field = |(name, value): (String, Value)| Part {
            name,
            filename: None,
            content_type: None,
            bytes: value.as_str().map_or_else(|| value.to_string(), str::to_owned).into_bytes(),
        };
        let fields = body.into_iter().filter(|(_, value)| !value.is_null()).map(field);
        let parts: Vec<Part> = fields.chain(self.files.iter().cloned()).collect();
        let (content_type, body) = multipart::write(&parts, "gateway-edit-7MA4YWxkTrZu0gW");
        Ok(Written { path: "/images/edits".to_owned(), content_type, body })
    }

    /// Image models answer like others; Imagen is a predictor.
    fn gemini(&self, upstream: &str) -> Written {
        if !upstream.contains("imagen") {
            let body = json!({"contents": [{"role": "user", "parts": [{"text": self.prompt}]}],
                "generationConfig": {"responseModalities": ["TEXT", "IMAGE"], "candidateCount": 1}});
            return Written::json(&format!("/models/{upstream}:generateContent"), body.to_string());
        }
        let mut parameters = json!({"sampleCount": self.count});
        if let (Some(ratio), Some(parameters)) = (self.ratio(), parameters.as_object_mut()) {
            parameters.insert("aspectRatio".to_owned(), ratio.into());
        }
        let body = json!({"instances": [{"prompt": self.prompt}], "parameters": parameters});
        Written::json(&format!("/models/{upstream}:predict"), body.to_string())
    }

    /// The nearest of the ratios that Imagen knows.
    fn ratio(&self) -> Option<&'static str> {
        let (w, h) = self.size()?.split_once('x')?;
        let (w, h) = (w.parse::<u32>().ok()?, h.parse::<u32>().ok()?);
        let known = [("1:1", 1.0), ("3:4", 0.75), ("4:3", 4.0 / 3.0), ("9:16", 9.0 / 16.0), ("16:9", 16.0 / 9.0)];
        let wanted = f64::from(w) / f64::from(h.max(1));
        known.into_iter().min_by(|a, b| (a.1 - wanted).abs().total_cmp(&(b.1 - wanted).abs())).map(|(name, _)| name)
    }

    pub(super) fn read(&self, bytes: Vec<u8>, reading: &Reading<'_>) -> Result<Answered, Fault> {
        let malformed = || Fault { message: "malformed".to_owned(), ..Fault::default() };
        let mut value = json_of(&bytes)?;
        if reading.shape == Shape::Gemini {
            value = gemini_answer(&value, reading.created).ok_or_else(malformed)?;
        }
        let data = value.get_mut("data").and_then(Value::as_array_mut).ok_or_else(malformed)?;
        if data.is_empty() {
            return Err(malformed());
        }
        let count = u64::try_from(data.len()).unwrap_or(u64::MAX);
        // A link that was asked for and is not there: the picture itself is one.
        if self.format.as_deref() == Some("url") {
            for one in data.iter_mut().filter_map(Value::as_object_mut) {
                if !one.contains_key("url")
                    && let Some(Value::String(picture)) = one.remove("b64_json")
                {
                    one.insert("url".to_owned(), format!("data:image/png;base64,{picture}").into());
                }
            }
        }
        let of = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64);
        let pictures_in = of("/usage/input_tokens_details/image_tokens").unwrap_or(0);
        let usage = Usage::default()
            .with(Meter::InputTokens, of("/usage/input_tokens").unwrap_or(0).saturating_sub(pictures_in))
            .with(Meter::InputImageTokens, pictures_in)
            .with(Meter::OutputImageTokens, of("/usage/output_tokens").unwrap_or(0))
            .with(Meter::OutputImages, count);
        if let Some(object) = value.as_object_mut() {
            object.entry("usage").or_insert_with(|| json!({}));
        }
        let body = value.to_string().into_bytes();
        Ok(Answered { content_type: "application/json".to_owned(), body, usage })
    }
}

fn gemini_answer(value: &Value, created: u64) -> Option<Value> {
    if let Some(list) = value.get("predictions").and_then(Value::as_array) {
        let pictures = list.iter().filter_map(|one| one.get("bytesBase64Encoded"));
        let data: Vec<Value> = pictures.map(|picture| json!({"b64_json": picture})).collect();
        return Some(json!({"created": created, "data": data}));
    }
    let parts = value.pointer("/candidates/0/content/parts")?.as_array()?;
    let pictures = parts.iter().filter_map(|part| part.pointer("/inlineData/data"));
    let data: Vec<Value> = pictures.map(|picture| json!({"b64_json": picture})).collect();
    let of = |name: &str| value.pointer(name).and_then(Value::as_u64);
    let usage = json!({
        "input_tokens": of("/usageMetadata/promptTokenCount"), "output_tokens": of("/usageMetadata/candidatesTokenCount"),
        "total_tokens": of("/usageMetadata/totalTokenCount"),
    });
    Some(json!({"created": created, "data": data, "usage": usage}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_checked_by_its_fields() {
        let of = |value: Value| Images::parse(value.to_string().as_bytes());
        assert_eq!(of(json!({"model": "m", "prompt": "p", "n": 2, "size": "2048x1024"})).unwrap().megapixels(), 3);
        for (body, param) in [
            (json!({"model": "m"}), "prompt"),
            (json!({"model": "m", "prompt": "p", "n": 0}), "n"),
            (json!({"model": "m", "prompt": "p", "n": 11}), "n"),
            (json!({"model": "m", "prompt": "p", "response_format": "png"}), "response_format"),
            (json!({"model": "m", "prompt": "p", "stream": true}), "stream"),
            (json!({"model": "m", "prompt": "p", "size": 5}), "size"),
        ] {
            assert_eq!(of(body.clone()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn an_edit_goes_on_with_its_files_and_the_models_own_name() {
        let part = |name: &str, filename: Option<&str>, bytes: &str| Part {
            name: name.into(),
            filename: filename.map(Into::into),
            content_type: None,
            bytes: bytes.as_bytes().to_vec(),
        };
        let parts = vec![
            part("model", None, "org/m"),
            part("prompt", None, "p"),
            part("n", None, "2"),
            part("image[]", Some("a.png"), "PNG"),
        ];
        let work = Images::parse_parts(parts).unwrap();
        let written = work.write(Shape::OpenAi, "up").unwrap();
        let sent = multipart::parse(&written.body, &multipart::boundary(&written.content_type).unwrap()).unwrap();
        let of = |name: &str| {
            sent.iter().find(|part| part.name == name).map(|part| String::from_utf8_lossy(&part.bytes).into_owned())
        };
        assert_eq!(
            (of("model").as_deref(), of("n").as_deref(), of("image[]").as_deref()),
            (Some("up"), Some("2"), Some("PNG"))
        );
        assert_eq!(
            Images::parse_parts(vec![part("model", None, "m"), part("prompt", None, "p")])
                .unwrap_err()
                .param
                .as_deref(),
            Some("image")
        );
    }
}
