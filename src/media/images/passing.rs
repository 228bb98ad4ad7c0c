//! Pictures of many megabytes on their way to the client, without being held: base64 out of a host's JSON as it comes, or
//! the bytes that a link leads to. Around them OpenAI's answer is written as far as it is known, and its end when all is.

use serde_json::{Map, Value};

use super::Images;
use crate::json::skeleton::{ANY, Path, Piece, Skeleton, Unreadable};
use crate::media::base64::Encoder;
use crate::media::picture;

/// Where the pictures stand in the answers of hosts that say nothing afterwards which could take one back.
const LONG: &[Long] = &[
    Long { families: &["openai-chat", "openai-responses", "azure-openai"], paths: OPENAI },
    Long { families: &["xai-images", "together-images", "recraft"], paths: OPENAI },
    Long { families: &["gemini", "vertex-gemini"], paths: GOOGLE },
    Long { families: &["fireworks-images"], paths: &[] },
];
const OPENAI: &[Path] = &[&["data", ANY, "b64_json"]];
const GOOGLE: &[Path] =
    &[&["candidates", ANY, "content", "parts", ANY, "inlineData", "data"], &["predictions", ANY, "bytesBase64Encoded"]];
/// Bytes by which a picture tells its kind, and their length in base64.
const KIND_BYTES: usize = 12;
const KIND_BASE64: usize = 16;

struct Long {
    families: &'static [&'static str],
    paths: &'static [Path],
}

/// The places of pictures in the answers of a family; `None` where its answers are read whole.
pub fn paths(family: &str) -> Option<&'static [Path]> {
    LONG.iter().find(|long| long.families.contains(&family)).map(|long| long.paths)
}

/// Writes OpenAI's answer around pictures that come one after the other.
#[derive(Debug)]
pub struct Frame {
    is_url: bool,
    pictures: usize,
    /// The begin of a picture whose kind is not known yet; `None` where it is, or nobody wants to know.
    begin: Option<Vec<u8>>,
}

impl Frame {
    /// For a client that wants links, or the pictures themselves.
    pub fn new(work: &Images) -> Frame {
        Frame { is_url: work.format.as_deref() == Some("url"), pictures: 0, begin: None }
    }

    /// How many pictures have begun.
    pub fn pictures(&self) -> usize {
        self.pictures
    }

    /// The next picture begins. `beside` is what else is known of the one before.
    pub fn begin(&mut self, created: u64, beside: Option<&Map<String, Value>>, out: &mut Vec<u8>) {
        match self.pictures {
            0 => out.extend_from_slice(format!(r#"{{"created":{created},"data":["#).as_bytes()),
            _ => self.close(beside, out),
        }
        let lead: &[u8] = if self.pictures == 0 { b"" } else { b"," };
        out.extend_from_slice(lead);
        self.pictures = self.pictures.saturating_add(1);
        match self.is_url {
            true => self.begin = Some(Vec::new()),
            false => out.extend_from_slice(br#"{"b64_json":""#),
        }
    }

    /// Some of its base64.
    pub fn part(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match &mut self.begin {
            None => out.extend_from_slice(bytes),
            Some(begin) => {
                begin.extend_from_slice(bytes);
                if begin.len() >= KIND_BASE64 {
                    self.tell_kind(out);
                }
            }
        }
    }

    fn tell_kind(&mut self, out: &mut Vec<u8>) {
        let Some(begin) = self.begin.take() else { return };
        let text = String::from_utf8_lossy(&begin).replace('\\', "");
        let kind = picture::kind_of_base64(&text).unwrap_or("image/png");
        out.extend_from_slice(format!(r#"{{"url":"data:{kind};base64,"#).as_bytes());
        out.extend_from_slice(&begin);
    }

    /// It is over.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.tell_kind(out);
        out.push(b'"');
    }

    fn close(&self, beside: Option<&Map<String, Value>>, out: &mut Vec<u8>) {
        let is_picture = |name: &str| name == "b64_json" || name == "url";
        members(beside.into_iter().flatten().filter(|(name, _)| !is_picture(name)), out);
        out.push(b'}');
    }

    /// All pictures have been written: the rest of the answer, of which `whole` is a body of the same without them.
    pub fn finish(self, whole: &Value, out: &mut Vec<u8>) {
        let last = self.pictures.checked_sub(1).and_then(|at| whole.get("data")?.get(at)?.as_object());
        self.close(last, out);
        out.push(b']');
        let is_written = |name: &str| name == "created" || name == "data";
        members(whole.as_object().into_iter().flatten().filter(|(name, _)| !is_written(name)), out);
        out.push(b'}');
    }
}

fn members<'a>(members: impl Iterator<Item = (&'a String, &'a Value)>, out: &mut Vec<u8>) {
    for (name, value) in members {
        out.extend_from_slice(format!(",{}:{value}", Value::from(name.as_str())).as_bytes());
    }
}

/// A host's JSON, read as it comes.
#[derive(Debug)]
pub struct Passing {
    skeleton: Skeleton,
    frame: Frame,
    created: u64,
}

impl Passing {
    /// With pictures at those places; `created` where the host does not say.
    pub fn new(work: &Images, paths: &'static [Path], created: u64) -> Passing {
        Passing { skeleton: Skeleton::new(paths), frame: Frame::new(work), created }
    }

    /// Whether there is a picture already.
    pub fn has_begun(&self) -> bool {
        self.frame.pictures() > 0
    }

    /// Takes a chunk, writes what the client gets.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let Passing { skeleton, frame, created } = self;
        skeleton.push(bytes, |skeleton, piece| match piece {
            Piece::Begin => {
                let so_far = skeleton.so_far().unwrap_or_default();
                let before = frame.pictures().checked_sub(1);
                let beside = before.and_then(|at| so_far.get("data")?.get(at)?.as_object());
                let created = so_far.get("created").and_then(Value::as_u64).unwrap_or(*created);
                frame.begin(created, beside, out);
            }
            Piece::Part(part) => frame.part(part, out),
            Piece::End => frame.end(out),
        })
    }

    /// The host has said all: what it said beside the pictures, and what writes the end.
    pub fn finish(self) -> Result<(Vec<u8>, Frame), Unreadable> {
        Ok((self.skeleton.finish()?, self.frame))
    }
}

/// A picture's bytes, read as they come.
#[derive(Debug, Default)]
pub struct Drawing {
    encoder: Encoder,
    begin: Vec<u8>,
    is_known: bool,
}

impl Drawing {
    /// Takes a chunk; `false` where it turns out to be no picture.
    pub fn push(&mut self, bytes: &[u8], frame: &mut Frame, out: &mut Vec<u8>) -> bool {
        if self.is_known {
            self.encode(bytes, frame, out);
            return true;
        }
        self.begin.extend_from_slice(bytes);
        if self.begin.len() < KIND_BYTES {
            return true;
        }
        let begin = std::mem::take(&mut self.begin);
        self.is_known = picture::kind_of(&begin).is_some();
        self.encode(&begin, frame, out);
        self.is_known
    }

    fn encode(&mut self, bytes: &[u8], frame: &mut Frame, out: &mut Vec<u8>) {
        let mut base64 = Vec::new();
        self.encoder.push(bytes, &mut base64);
        frame.part(&base64, out);
    }

    /// It is over; `false` where it was no picture.
    pub fn finish(self, frame: &mut Frame, out: &mut Vec<u8>) -> bool {
        let mut base64 = Vec::new();
        self.encoder.finish(&mut base64);
        frame.part(&base64, out);
        frame.end(out);
        self.is_known
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\nand what follows, which is not looked at";

    fn work(more: &str) -> Images {
        Images::parse(format!(r#"{{"model":"m","prompt":"p"{more}}}"#).as_bytes(), false).unwrap()
    }

    fn passed(more: &str, family: &str, answer: &Value, size: usize, end: &Value) -> (Value, Value) {
        let (mut passing, mut out) = (Passing::new(&work(more), paths(family).unwrap(), 7), Vec::new());
        answer.to_string().as_bytes().chunks(size).for_each(|chunk| passing.push(chunk, &mut out).unwrap());
        assert!(passing.has_begun());
        let (skeleton, frame) = passing.finish().unwrap();
        frame.finish(end, &mut out);
        (serde_json::from_slice(&skeleton).unwrap(), serde_json::from_slice(&out).unwrap())
    }

    #[test]
    fn an_answer_of_the_same_shape_comes_out_as_it_went_in() {
        let answer = json!({"background": "opaque", "created": 5, "usage": {"input_tokens": 1}, "data": [
            {"b64_json": "AAAA", "revised_prompt": "a"}, {"b64_json": "BBBB"}, {"b64_json": "", "revised_prompt": "c"}]});
        let mut skeleton = answer.clone();
        skeleton["data"].as_array_mut().unwrap().iter_mut().for_each(|one| one["b64_json"] = "".into());
        for size in [1, 5, 1000] {
            assert_eq!(passed("", "openai-chat", &answer, size, &skeleton), (skeleton.clone(), answer.clone()));
        }
    }

    #[test]
    fn pictures_of_another_shape_are_put_into_this_one() {
        let base64 = STANDARD.encode(PNG);
        let part = json!({"inlineData": {"mimeType": "image/png", "data": base64}});
        let answer =
            json!({"candidates": [{"content": {"parts": [{"text": "here"}, part]}}], "usageMetadata": {"x": 1}});
        let end = json!({"created": 9, "data": [{"b64_json": ""}], "usage": {"cost": 1}});
        let (skeleton, out) = passed("", "gemini", &answer, 9, &end);
        assert_eq!(out, json!({"created": 7, "data": [{"b64_json": base64}], "usage": {"cost": 1}}));
        assert_eq!(skeleton["usageMetadata"], json!({"x": 1}));
        let url = format!("data:image/png;base64,{base64}");
        for size in [1, 50, 1000] {
            let (_, out) = passed(r#","response_format":"url""#, "gemini", &answer, size, &end);
            assert_eq!(out["data"], json!([{"url": url}]));
        }
    }

    #[test]
    fn bytes_of_a_link_become_base64_if_they_are_a_picture() {
        let end = json!({"data": [{"b64_json": ""}, {"b64_json": "", "seed": 3}], "usage": {}});
        for size in [1, 10, 100] {
            let (mut frame, mut out) = (Frame::new(&work("")), Vec::new());
            for _ in 0..2 {
                frame.begin(7, None, &mut out);
                let mut drawing = Drawing::default();
                assert!(PNG.chunks(size).all(|chunk| drawing.push(chunk, &mut frame, &mut out)));
                assert!(drawing.finish(&mut frame, &mut out));
            }
            frame.finish(&end, &mut out);
            let base64 = STANDARD.encode(PNG);
            let data = json!([{"b64_json": base64}, {"b64_json": base64, "seed": 3}]);
            assert_eq!(
                serde_json::from_slice::<Value>(&out).unwrap(),
                json!({"created": 7, "data": data, "usage": {}})
            );
        }
        let (mut frame, mut out, mut drawing) = (Frame::new(&work("")), Vec::new(), Drawing::default());
        assert!(!drawing.push(b"<html>, which is no picture", &mut frame, &mut out));
        assert!(!drawing.finish(&mut frame, &mut out));
    }
}
