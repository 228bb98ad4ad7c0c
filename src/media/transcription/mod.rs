//! `POST /v1/audio/transcriptions` and `/v1/audio/translations` in OpenAI's shape, and `/v1/stt/transcribe`.

pub mod answer;
pub mod events;
pub mod hosts;
pub mod subtitles;

use serde_json::{Map, Value};

use super::common::Common;
use super::meter::{Basis, Told};
use super::multipart::Part;
use crate::error::{Code, Failure};
use crate::usage::Meter;

/// Longest file, in bytes.
const FILE_BYTES_MAX: usize = 25 * 1024 * 1024;
/// Bytes of a second of sound at the lowest rate in use (8 kbit/s): a file has no more seconds than this says.
const BYTES_PER_SECOND: u64 = 1_000;
const FORMATS: &[&str] = &["json", "text", "srt", "verbose_json", "vtt", "diarized_json"];

/// What the front wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// OpenAI's transcriptions.
    Transcriptions,
    /// OpenAI's translations (into English).
    Translations,
    /// `/v1/stt/transcribe`.
    Transcribe,
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcription {
    /// What all work has. Fields that may be repeated (`name[]`) are lists.
    pub common: Common,
    front: Front,
    file: Part,
    format: String,
    is_stream: bool,
}

impl Transcription {
    /// Parses the parts of a form.
    pub fn parse(front: Front, parts: Vec<Part>) -> Result<Transcription, Failure> {
        let field = if front == Front::Transcribe { "audio" } else { "file" };
        let (mut file, mut body) = (None, Map::new());
        for part in parts {
            if part.name == field && part.filename.is_some() {
                file = Some(part);
                continue;
            }
            if part.name == field {
                return Err(Failure::invalid(field, "must be a file: its part has no filename"));
            }
            let text = std::str::from_utf8(&part.bytes).map_err(|_| Failure::invalid(&*part.name, "is no text"))?;
            match part.name.strip_suffix("[]") {
                Some(name) => match body.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                    Value::Array(list) => list.push(text.into()),
                    other => *other = Value::Array(vec![text.into()]),
                },
                None => drop(body.insert(part.name, text.into())),
            }
        }
        if front == Front::Transcribe
            && let Some(model) = body.remove("model_id")
        {
            body.insert("model".to_owned(), model);
        }
        let file = file.ok_or_else(|| Failure::invalid(field, "is missing"))?;
        if file.bytes.is_empty() {
            return Err(Failure::invalid(field, "is empty"));
        }
        if file.bytes.len() > FILE_BYTES_MAX {
            let message = format!("the file is larger than {FILE_BYTES_MAX} bytes");
            return Err(Failure::new(Code::PayloadTooLarge, message).about(field));
        }
        let common = Common::of(body, None).map_err(|mut failure| {
            let is_model = front == Front::Transcribe && failure.param.as_deref() == Some("model");
            failure.param = if is_model { Some("model_id".to_owned()) } else { failure.param };
            failure
        })?;
        let format = common.word("response_format", FORMATS)?.unwrap_or_else(|| "json".to_owned());
        let is_stream = common.word("stream", &["true", "false"])?.as_deref() == Some("true");
        if is_stream && !matches!(format.as_str(), "json" | "text") {
            return Err(Failure::invalid("response_format", "must be json or text for a stream"));
        }
        if let Some(text) = common.text("temperature")?
            && text.parse::<f64>().ok().filter(|heat| (0.0..=1.0).contains(heat)).is_none()
        {
            return Err(Failure::invalid("temperature", "must be a number from 0 to 1"));
        }
        Ok(Transcription { common, front, file, format, is_stream: is_stream && front != Front::Transcribe })
    }

    /// The one provider that is to serve, where the form names one.
    pub fn provider(&self) -> Option<&str> {
        self.common.body.get("provider_id").and_then(Value::as_str).filter(|id| !id.is_empty())
    }

    /// Whether the client wants events.
    pub const fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Whether it is into English.
    pub fn is_translation(&self) -> bool {
        self.front == Front::Translations
    }

    /// Whether it is to be told who speaks.
    fn wants_speakers(&self) -> bool {
        self.field("diarize") == Some("true") || self.format == "diarized_json"
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.common.body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn list(&self, name: &str) -> Vec<&str> {
        let list = self.common.body.get(name).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    fn seconds_max(&self) -> u64 {
        u64::try_from(self.file.bytes.len()).unwrap_or(u64::MAX).div_ceil(BYTES_PER_SECOND).max(1)
    }

    /// Ways to count it.
    pub fn bases(&self) -> Vec<Basis> {
        // Speech is not faster than ten tokens a second, and hosts count about as many of sound.
        let tokens = self.seconds_max().saturating_mul(12).saturating_add(2_000);
        vec![
            vec![(Meter::InputAudioSeconds, self.seconds_max())],
            vec![(Meter::InputAudioTokens, tokens), (Meter::InputTokens, tokens), (Meter::OutputTokens, tokens)],
            vec![(Meter::Requests, 1)],
        ]
    }

    /// What the request counts by itself.
    pub fn counted(&self) -> Told {
        Told::default().with(Meter::Requests, 1)
    }

    /// What it will probably be: by the rate that a WAV file states, else by the usual one of a compressed one.
    pub fn guessed(&self) -> Told {
        let bytes = u64::try_from(self.file.bytes.len()).unwrap_or(u64::MAX);
        let seconds = bytes.div_ceil(bytes_per_second(&self.file.bytes)).max(1);
        Told::default()
            .with(Meter::InputAudioSeconds, seconds)
            .with(Meter::InputAudioTokens, seconds.saturating_mul(10))
            .with(Meter::InputTokens, 0)
            .with(Meter::OutputTokens, seconds.saturating_mul(4))
    }
}

/// How many bytes a second of the sound probably has.
fn bytes_per_second(file: &[u8]) -> u64 {
    const USUAL: u64 = 16_000;
    let is_wav = file.starts_with(b"RIFF") && file.get(8..16) == Some(b"WAVEfmt ");
    let rate = file.get(28..32).filter(|_| is_wav).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    rate.map(u64::from).filter(|rate| (BYTES_PER_SECOND..=10_000_000).contains(rate)).unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn file(name: &str, text: &str) -> Part {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        Part { name: name.into(), filename: Some("a.mp3".into()), content_type: None, bytes }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let of = |front: Front, parts: Vec<Part>| Transcription::parse(front, parts).unwrap_err().param.unwrap();
        let model = || Part::text("model", "m");
        let with = |name: &str, value: &str| vec![file("file", "x"), model(), Part::text(name, value)];
        assert_eq!(of(Front::Transcriptions, vec![model()]), "file");
        assert_eq!(of(Front::Transcriptions, vec![file("file", "x")]), "model");
        assert_eq!(of(Front::Transcribe, vec![file("audio", "x")]), "model_id");
        assert_eq!(of(Front::Transcriptions, vec![file("file", ""), model()]), "file");
        assert_eq!(of(Front::Transcriptions, with("response_format", "doc")), "response_format");
        assert_eq!(of(Front::Transcriptions, with("temperature", "hot")), "temperature");
        let stream = [with("response_format", "srt"), vec![Part::text("stream", "true")]].concat();
        assert_eq!(of(Front::Transcriptions, stream), "response_format");
    }

    #[test]
    fn a_length_that_nobody_told_is_guessed() {
        let of = |bytes: Vec<u8>| {
            let sound = Part { bytes: bytes.into(), ..file("file", "") };
            let work = Transcription::parse(Front::Transcriptions, vec![sound, Part::text("model", "m")]).unwrap();
            work.guessed().get(Meter::InputAudioSeconds)
        };
        assert_eq!((of(vec![1; 40_000]), of(vec![1])), (Some(3), Some(1)));
        assert_eq!(of(crate::media::speech::sound::wav(&[0; 96_000], 24_000)), Some(3), "two seconds and the header");
        let named = vec![Part::text("file", "x"), Part::text("model", "m")];
        let failure = Transcription::parse(Front::Transcriptions, named).unwrap_err();
        assert!(failure.param.as_deref() == Some("file") && failure.message.contains("filename"));
    }

    #[test]
    fn repeated_fields_are_a_list() {
        let granularities = ["word", "segment"].map(|one| Part::text("timestamp_granularities[]", one));
        let parts = [vec![file("file", "x"), Part::text("model", "m")], granularities.to_vec()].concat();
        let work = Transcription::parse(Front::Transcriptions, parts).unwrap();
        assert_eq!(work.list("timestamp_granularities"), ["word", "segment"]);
    }
}
