//! `POST /v1/images/generations` and `/v1/images/edits`, in OpenAI's shape: JSON, and forms for edits.

pub mod answer;
pub mod hosts;
pub mod jobs;
pub mod passing;
pub mod size;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::common::Common;
use super::meter::{Basis, Told};
use super::multipart::Part;
use super::picture;
use crate::error::{Code, Failure};
use crate::usage::Meter;
use size::Size;

const IMAGES_MAX: u64 = 10;
/// Most pictures of an edit.
const PICTURES_MAX: usize = 16;
/// Tokens of one picture out, at most: the dearest quality at the largest size, with room.
const OUTPUT_TOKENS: u64 = 20_000;
/// Tokens of one picture in, at most.
const INPUT_TOKENS: u64 = 10_000;
/// Largest picture that the gateway fetches, in bytes.
pub const PICTURE_BYTES_MAX: usize = 20 * 1024 * 1024;

/// A picture of the client's.
#[derive(Debug, Clone, PartialEq)]
pub enum Picture {
    /// A file of the form.
    File(Part),
    /// A link or a `data:` URL.
    Url(String),
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    /// What all work has.
    pub common: Common,
    prompt: String,
    count: u64,
    /// `url` or `b64_json`, as the client wants it.
    format: Option<String>,
    size: Option<Size>,
    pictures: Vec<Picture>,
    mask: Option<Picture>,
    is_edit: bool,
    is_stream: bool,
}

/// A body's fields that hold pictures.
const PICTURE_FIELDS: &[&str] = &["image", "image[]", "images", "mask"];

/// Fields that are texts, also where they look like numbers.
const TEXTS: &[&str] = &[
    "model",
    "prompt",
    "negative_prompt",
    "user",
    "safety_identifier",
    "session_id",
    "preset",
    "size",
    "quality",
    "style",
];
/// Tokens of a picture as hosts count them at each quality, at a usual size.
const LIKELY_TOKENS: &[(&str, u64)] =
    &[("low", 400), ("medium", 1_600), ("standard", 1_600), ("high", 6_300), ("hd", 6_300)];
const LIKELY_TOKENS_ELSE: u64 = 2_000;

impl Images {
    /// Parses a body of JSON.
    pub fn parse(bytes: &[u8], is_edit: bool) -> Result<Images, Failure> {
        let mut common = Common::parse(bytes, None)?;
        let (mut pictures, mut mask) = (Vec::new(), None);
        if is_edit {
            for name in PICTURE_FIELDS {
                let Some(value) = common.body.remove(*name).filter(|value| !value.is_null()) else { continue };
                let urls = urls(name, &value)?;
                match *name {
                    "mask" => mask = urls.into_iter().next(),
                    _ => pictures.extend(urls),
                }
            }
        }
        Images::of(common, pictures, mask, is_edit)
    }

    /// Parses a body of parts.
    pub fn parse_parts(parts: Vec<Part>) -> Result<Images, Failure> {
        let (files, fields): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|part| part.filename.is_some());
        let mut body = Map::new();
        for part in fields {
            let text = std::str::from_utf8(&part.bytes).map_err(|_| Failure::invalid(&*part.name, "is no text"))?;
            // Numbers and truths are such also in a form, but where a text stands.
            let value = match text {
                "" => Value::Null,
                _ if TEXTS.contains(&part.name.as_str()) => text.into(),
                "true" | "false" => Value::Bool(text == "true"),
                _ => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
            };
            body.insert(part.name, value);
        }
        let (mut pictures, mut mask) = (Vec::new(), None);
        for file in files {
            match file.name.as_str() {
                "image" | "image[]" => pictures.push(Picture::File(file)),
                "mask" => mask = Some(Picture::File(file)),
                other => return Err(Failure::invalid(other, "is no picture to edit")),
            }
        }
        Images::of(Common::of(body, None)?, pictures, mask, true)
    }

    fn of(common: Common, pictures: Vec<Picture>, mask: Option<Picture>, is_edit: bool) -> Result<Images, Failure> {
        let prompt = common.text("prompt")?.filter(|text| !text.is_empty());
        let prompt = prompt.ok_or_else(|| Failure::invalid("prompt", "is missing"))?.to_owned();
        let count = common.count("n", 1, IMAGES_MAX)?.unwrap_or(1);
        let format = common.word("response_format", &["url", "b64_json"])?;
        let size = match common.text("size")? {
            None | Some("auto") => None,
            Some(text) => Some(
                Size::parse(text)
                    .ok_or_else(|| Failure::invalid("size", "must be auto, or width and height as 1024x1024"))?,
            ),
        };
        for name in ["quality", "background", "output_format", "style", "moderation"] {
            common.text(name)?;
        }
        common.count("partial_images", 0, 3)?;
        let is_stream = match common.body.get("stream") {
            None | Some(Value::Null) => false,
            Some(value) => value.as_bool().ok_or_else(|| Failure::invalid("stream", "must be true or false"))?,
        };
        if is_edit && pictures.is_empty() {
            return Err(Failure::invalid("image", "is missing"));
        }
        if pictures.len() > PICTURES_MAX {
            return Err(Failure::invalid("image", format!("has more than {PICTURES_MAX} pictures")));
        }
        for one in pictures.iter().chain(&mask) {
            if let Picture::File(part) = one
                && picture::kind_of(&part.bytes).is_none()
            {
                return Err(Failure::new(Code::InvalidInput, "is not a PNG, JPEG, GIF or WebP file")
                    .about(part.name.trim_end_matches("[]")));
            }
        }
        Ok(Images { common, prompt, count, format, size, pictures, mask, is_edit, is_stream })
    }

    /// The quality that prices depend on.
    pub fn quality(&self) -> Option<&str> {
        self.common.body.get("quality").and_then(Value::as_str)
    }

    /// The size that prices depend on.
    pub fn size(&self) -> Option<&str> {
        self.common.body.get("size").and_then(Value::as_str)
    }

    /// Whether the client wants events.
    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Links that a host without links needs the content of.
    pub fn links(&self) -> Vec<String> {
        let url = |one: &Picture| match one {
            Picture::Url(url) if picture::is_link(url) => Some(url.clone()),
            _ => None,
        };
        self.pictures.iter().chain(&self.mask).filter_map(url).collect()
    }

    /// Ways to count it.
    pub fn bases(&self) -> Vec<Basis> {
        let text = u64::try_from(self.prompt.len()).unwrap_or(u64::MAX);
        let pictures = u64::try_from(self.pictures.len()).unwrap_or(u64::MAX).saturating_mul(INPUT_TOKENS);
        let out = (Meter::OutputImageTokens, self.count.saturating_mul(OUTPUT_TOKENS));
        vec![
            vec![(Meter::InputTokens, text), (Meter::InputImageTokens, pictures), out],
            vec![(Meter::OutputImages, self.count)],
            vec![(Meter::OutputMegapixels, self.megapixels())],
            vec![(Meter::Requests, 1)],
        ]
    }

    /// What it will probably be.
    pub fn guessed(&self, told: &Told) -> Told {
        let wanted = self.quality();
        let each = LIKELY_TOKENS.iter().find(|(quality, _)| wanted == Some(*quality)).map(|(_, tokens)| *tokens);
        let made = told.get(Meter::OutputImages).unwrap_or(self.count);
        Told::default().with(Meter::OutputImageTokens, made.saturating_mul(each.unwrap_or(LIKELY_TOKENS_ELSE)))
    }

    fn megapixels(&self) -> u64 {
        self.count.saturating_mul(self.size.map_or(size::MEGAPIXELS, Size::megapixels))
    }

    /// What the request counts by itself.
    pub fn counted(&self) -> Told {
        Told::default()
            .with(Meter::OutputImages, self.count)
            .with(Meter::OutputMegapixels, self.megapixels())
            .with(Meter::Requests, 1)
    }
}

/// The pictures of a field: a URL, `{url}`, `{image_url}`, or a list of them.
fn urls(name: &str, value: &Value) -> Result<Vec<Picture>, Failure> {
    let one = |value: &Value| {
        let named = value.get("image_url").or_else(|| value.get("url")).unwrap_or(value);
        let url = named.get("url").unwrap_or(named).as_str();
        let url = url.ok_or_else(|| Failure::invalid(name, "must be an https URL or a data: URL in base64"))?;
        picture::check(url, name).map(|()| Picture::Url(url.to_owned()))
    };
    match value {
        Value::Array(list) => list.iter().map(one).collect(),
        other => Ok(vec![one(other)?]),
    }
}

impl Picture {
    /// As a URL: a link where the host takes links, else a `data:` URL.
    fn url(&self, asked: &super::shape::Asked<'_>, takes_links: bool) -> Result<String, Failure> {
        match self {
            Picture::Url(url) if takes_links || !picture::is_link(url) => Ok(url.clone()),
            _ => self.inline(asked).map(|one| format!("data:{};base64,{}", one.content_type, one.base64)),
        }
    }

    /// Inline.
    fn inline(&self, asked: &super::shape::Asked<'_>) -> Result<picture::Inline, Failure> {
        use base64::Engine;
        match self {
            Picture::Url(url) => picture::inline(url, asked.fetched, "image"),
            Picture::File(part) => Ok(picture::Inline {
                content_type: picture::kind_of(&part.bytes).unwrap_or("image/png").to_owned(),
                base64: base64::engine::general_purpose::STANDARD.encode(&part.bytes),
            }),
        }
    }

    /// As a file of a form.
    fn part(&self, name: &str, asked: &super::shape::Asked<'_>) -> Result<Part, Failure> {
        use base64::Engine;
        match self {
            Picture::File(part) => Ok(part.named(name)),
            Picture::Url(_) => {
                let one = self.inline(asked)?;
                let bytes = base64::engine::general_purpose::STANDARD.decode(&one.base64);
                let bytes = bytes.map_err(|_| Failure::invalid("image", "is not base64"))?;
                let filename = Some(format!("picture.{}", one.content_type.rsplit('/').next().unwrap_or("png")));
                Ok(Part {
                    name: name.to_owned(),
                    filename,
                    content_type: Some(one.content_type),
                    bytes: Bytes::from(bytes),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn png(name: &str) -> Part {
        let bytes = Bytes::from_static(b"\x89PNG\r\n\x1a\n");
        Part { name: name.into(), filename: Some("a.png".into()), content_type: Some("image/png".into()), bytes }
    }

    #[test]
    fn a_request_is_checked_by_its_fields() {
        let of = |value: Value| Images::parse(value.to_string().as_bytes(), false);
        assert_eq!(of(json!({"model": "m", "prompt": "p", "n": 2, "size": "2048x1024"})).unwrap().megapixels(), 6);
        for (body, param) in [
            (json!({"model": "m"}), "prompt"),
            (json!({"model": "m", "prompt": "p", "n": 0}), "n"),
            (json!({"model": "m", "prompt": "p", "n": 11}), "n"),
            (json!({"model": "m", "prompt": "p", "response_format": "png"}), "response_format"),
            (json!({"model": "m", "prompt": "p", "stream": "yes"}), "stream"),
            (json!({"model": "m", "prompt": "p", "size": "big"}), "size"),
            (json!({"model": "m", "prompt": "p", "quality": 5}), "quality"),
            (json!({"model": "m", "prompt": "p", "partial_images": 4}), "partial_images"),
        ] {
            assert_eq!(of(body.clone()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn edits_take_files_and_links() {
        let fields = || vec![Part::text("model", "m"), Part::text("prompt", "p"), Part::text("n", "2")];
        let work = Images::parse_parts([fields(), vec![png("image[]"), png("image[]"), png("mask")]].concat()).unwrap();
        assert_eq!((work.count, work.pictures.len(), work.mask.is_some()), (2, 2, true));
        let numeric =
            [vec![Part::text("model", "m"), Part::text("prompt", "007"), Part::text("user", "5")], vec![png("image")]];
        let numeric = Images::parse_parts(numeric.concat()).unwrap();
        assert_eq!(
            (numeric.prompt.as_str(), numeric.guessed(&Told::default()).get(Meter::OutputImageTokens)),
            ("007", Some(2_000))
        );
        assert_eq!(Images::parse_parts(fields()).unwrap_err().param.as_deref(), Some("image"));
        let text = Part { bytes: Bytes::from_static(b"hello"), ..png("image") };
        assert_eq!(Images::parse_parts([fields(), vec![text]].concat()).unwrap_err().param.as_deref(), Some("image"));
        let of = |image: Value| {
            Images::parse(json!({"model": "m", "prompt": "p", "image": image}).to_string().as_bytes(), true)
        };
        let link = "https://x.example/a.png";
        for image in [json!(link), json!([link]), json!({"url": link}), json!([{"image_url": link}])] {
            assert_eq!(of(image).unwrap().links(), [link]);
        }
        for image in [json!("a.png"), json!(5), json!(null), json!([])] {
            assert_eq!(of(image).unwrap_err().param.as_deref(), Some("image"));
        }
    }
}
