//! `POST /v1/audio/transcriptions` and `/v1/audio/translations` in OpenAI's shape, and `/v1/stt/transcribe`.

use serde_json::{Map, Value, json};

use super::multipart::{self, Part};
use super::{Answered, Common, Measures, Reading, Shape, Written, json_of};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::family::target::cannot;
use crate::usage::{Meter, Usage};

/// Longest file, in bytes.
const FILE_BYTES_MAX: usize = 25 * 1024 * 1024;
/// Bytes of a second of sound at the lowest rate in use (8 kbit/s): a file has no more seconds than this says.
const BYTES_PER_SECOND: u64 = 1_000;
const FORMATS: &[&str] = &["json", "text", "srt", "verbose_json", "vtt"];

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
    /// What all work has.
    pub common: Common,
    front: Front,
    file: Part,
    format: String,
    /// Fields that may be repeated, as they came.
    lists: Vec<Part>,
}

impl Transcription {
    /// Parses the parts of a form.
    pub fn parse(front: Front, parts: Vec<Part>) -> Result<Transcription, Failure> {
        let field = if front == Front::Transcribe { "audio" } else { "file" };
        let (mut file, mut lists, mut body) = (None, Vec::new(), Map::new());
        for part in parts {
            if part.name == field && part.filename.is_some() {
                file = Some(part);
            } else if part.name.ends_with("[]") {
                lists.push(part);
            } else {
                let text = String::from_utf8(part.bytes).map_err(|_| Failure::invalid(&*part.name, "is no text"))?;
                body.insert(part.name, Value::String(text));
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
            return Err(Failure::new(crate::error::Code::PayloadTooLarge, message).about(field));
        }
        let common = Common::of(body, None).map_err(|mut failure| {
            let is_model = front == Front::Transcribe && failure.param.as_deref() == Some("model");
            failure.param = if is_model { Some("model_id".to_owned()) } else { failure.param };
            failure
        })?;
        let format = common.word("response_format", FORMATS)?.unwrap_or_else(|| "json".to_owned());
        if common.text("stream")?.is_some_and(|stream| stream == "true") {
            return Err(
                Failure::new(crate::error::Code::UnsupportedParameter, "transcripts are not streamed").about("stream")
            );
        }
        Ok(Transcription { common, front, file, format, lists })
    }

    /// The one provider that is to serve, where the form names one.
    pub fn provider(&self) -> Option<&str> {
        self.common.body.get("provider_id").and_then(Value::as_str).filter(|id| !id.is_empty())
    }

    fn language(&self) -> Option<&str> {
        self.common.body.get("language").and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    pub(super) const fn shapes(&self) -> &'static [Shape] {
        match self.front {
            Front::Translations => &[Shape::OpenAi],
            _ => &[Shape::OpenAi, Shape::Deepgram, Shape::ElevenLabs],
        }
    }

    fn seconds_max(&self) -> u64 {
        u64::try_from(self.file.bytes.len()).unwrap_or(u64::MAX).div_ceil(BYTES_PER_SECOND).max(1)
    }

    pub(super) fn measures(&self) -> Measures {
        // Speech is not faster than ten tokens a second, and hosts count about as many of sound.
        let tokens = self.seconds_max().saturating_mul(12).saturating_add(2_000);
        vec![
            vec![(Meter::InputAudioSeconds, self.seconds_max())],
            vec![(Meter::InputAudioTokens, tokens), (Meter::InputTokens, tokens), (Meter::OutputTokens, tokens)],
            vec![(Meter::InputTokens, tokens), (Meter::OutputTokens, tokens)],
            vec![(Meter::Requests, 1)],
        ]
    }

    pub(super) fn write(&self, shape: Shape, upstream: &str, by: &[Meter]) -> Result<Written, Failure> {
        let encoded =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        match shape {
            Shape::OpenAi => {
                let verb = if self.front == Front::Translations { "translations" } else { "transcriptions" };
                let mut fields = self.common.passed(upstream, &["provider_id", "response_format"]);
                // Only the long form says how long it was, and everything else can be made of it.
                let is_by_seconds = by.contains(&Meter::InputAudioSeconds) && !upstream.contains("gpt-4o");
                let format = if is_by_seconds || self.front == Front::Transcribe {
                    "verbose_json"
                } else {
                    self.format.as_str()
                };
                fields.insert("response_format".to_owned(), format.into());
                let field = |(name, value): (String, Value)| Part {
                    name,
                    filename: None,
                    content_type: None,
                    bytes: value.as_str().map_or_else(|| value.to_string(), str::to_owned).into_bytes(),
                };
                let file = Part { name: "file".to_owned(), ..self.file.clone() };
                let parts: Vec<Part> =
                    fields.into_iter().map(field).chain(self.lists.iter().cloned()).chain([file]).collect();
                let (content_type, body) = multipart::write(&parts, "gateway-sound-7MA4YWxkTrZu0gW");
                Ok(Written { path: format!("/audio/{verb}"), content_type, body })
            }
            Shape::Deepgram => {
                let mut path = format!("/listen?model={}&smart_format=true", encoded(upstream));
                match self.language() {
                    Some(language) => path.push_str(&format!("&language={}", encoded(language))),
                    None => path.push_str("&detect_language=true"),
                }
                let content_type =
                    self.file.content_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned());
                Ok(Written { path, content_type, body: self.file.bytes.clone() })
            }
            Shape::ElevenLabs => {
                let text = |name: &str, value: &str| Part {
                    name: name.to_owned(),
                    filename: None,
                    content_type: None,
                    bytes: value.as_bytes().to_vec(),
                };
                let mut parts = vec![text("model_id", upstream), text("timestamps_granularity", "word")];
                parts.extend(self.language().map(|language| text("language_code", language)));
                parts.push(Part { name: "file".to_owned(), ..self.file.clone() });
                let (content_type, body) = multipart::write(&parts, "gateway-sound-7MA4YWxkTrZu0gW");
                Ok(Written { path: "/speech-to-text".to_owned(), content_type, body })
            }
            _ => Err(cannot("model", "sound")),
        }
    }

    pub(super) fn read(&self, bytes: Vec<u8>, reading: &Reading<'_>) -> Result<Answered, Fault> {
        let malformed = || Fault { message: "malformed".to_owned(), ..Fault::default() };
        // Plain text is what the client asked for, from a host that was asked for it.
        if !reading.content_type.contains("json") && reading.shape == Shape::OpenAi && self.front != Front::Transcribe {
            let content_type = reading.content_type.to_owned();
            return Ok(Answered { content_type, body: bytes, usage: Usage::default() });
        }
        let value = json_of(&bytes)?;
        let told = match reading.shape {
            Shape::Deepgram => deepgram(&value),
            Shape::ElevenLabs => elevenlabs(&value),
            _ => Some(value),
        };
        let told = told.filter(|told| told.get("text").is_some_and(Value::is_string)).ok_or_else(malformed)?;
        let of = |pointer: &str| told.pointer(pointer).and_then(Value::as_f64);
        let seconds = of("/usage/seconds").or_else(|| of("/duration"));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a span of sound, rounded up")]
        let seconds = seconds.map_or(0, |seconds| seconds.max(0.0).ceil() as u64);
        let count = |pointer: &str| told.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let audio = count("/usage/input_token_details/audio_tokens");
        let usage = Usage::default()
            .with(Meter::InputAudioSeconds, seconds)
            .with(Meter::InputAudioTokens, audio)
            .with(Meter::InputTokens, count("/usage/input_tokens").saturating_sub(audio))
            .with(Meter::OutputTokens, count("/usage/output_tokens"));
        let text = told.get("text").and_then(Value::as_str).unwrap_or_default();
        let plain = |body: String| ("text/plain; charset=utf-8".to_owned(), body);
        let json = |value: Value| ("application/json".to_owned(), value.to_string());
        let (content_type, body) = match (self.front, self.format.as_str()) {
            (Front::Transcribe, _) => json(json!({
                "text": text, "duration": told.get("duration"), "language": told.get("language").cloned().or(self.language().map(Into::into)),
                "confidence": told.get("confidence"), "words": told.get("words").cloned().unwrap_or_else(|| json!([])), "model": reading.model,
            })),
            (_, "text") => plain(format!("{text}\n")),
            (_, "srt") => plain(subtitles(&told, true)),
            (_, "vtt") => plain(subtitles(&told, false)),
            (_, "verbose_json") => json(told.clone()),
            _ => json(match told.get("usage") {
                Some(usage) => json!({"text": text, "usage": usage}),
                None => json!({"text": text, "usage": {"type": "duration", "seconds": seconds}}),
            }),
        };
        Ok(Answered { content_type, body: body.into_bytes(), usage })
    }
}

fn deepgram(value: &Value) -> Option<Value> {
    let best = value.pointer("/results/channels/0/alternatives/0")?;
    let words = best.get("words").and_then(Value::as_array).cloned().unwrap_or_default();
    let words: Vec<Value> = words
        .iter()
        .map(|word| {
            let text = word.get("punctuated_word").or_else(|| word.get("word"));
            json!({"word": text, "start": word.get("start"), "end": word.get("end"), "confidence": word.get("confidence")})
        })
        .collect();
    Some(json!({
        "task": "transcribe", "text": best.get("transcript")?, "duration": value.pointer("/metadata/duration"),
        "language": value.pointer("/results/channels/0/detected_language"), "confidence": best.get("confidence"),
        "segments": [], "words": words,
    }))
}

fn elevenlabs(value: &Value) -> Option<Value> {
    let words = value.get("words").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_word = |word: &&Value| word.get("type").and_then(Value::as_str) != Some("spacing");
    let words: Vec<Value> = words
        .iter()
        .filter(is_word)
        .map(|word| json!({"word": word.get("text"), "start": word.get("start"), "end": word.get("end")}))
        .collect();
    let last = words.last().and_then(|word| word.get("end")).cloned();
    Some(json!({
        "task": "transcribe", "text": value.get("text")?, "duration": value.get("audio_duration_secs").cloned().or(last),
        "language": value.get("language_code"), "segments": [], "words": words,
    }))
}

/// Subtitles of segments, or of one segment where there are none.
fn subtitles(told: &Value, is_srt: bool) -> String {
    let duration = told.get("duration").cloned().unwrap_or_else(|| json!(0));
    let whole = vec![json!({"start": 0, "end": duration, "text": told.get("text")})];
    let segments =
        told.get("segments").and_then(Value::as_array).filter(|list| !list.is_empty()).cloned().unwrap_or(whole);
    let mut out = if is_srt { String::new() } else { "WEBVTT\n\n".to_owned() };
    for (number, segment) in (1..).zip(&segments) {
        let at = |name: &str| clock(segment.get(name).and_then(Value::as_f64).unwrap_or(0.0), is_srt);
        let text = segment.get("text").and_then(Value::as_str).unwrap_or_default().trim();
        if is_srt {
            out.push_str(&format!("{number}\n"));
        }
        out.push_str(&format!("{} --> {}\n{text}\n\n", at("start"), at("end")));
    }
    out
}

/// `00:00:01,500` in SRT, `00:00:01.500` in VTT.
fn clock(seconds: f64, is_srt: bool) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a span of sound")]
    let ms = (seconds.max(0.0) * 1000.0).round() as u64;
    let comma = if is_srt { ',' } else { '.' };
    format!("{:02}:{:02}:{:02}{comma}{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, filename: Option<&str>, text: &str) -> Part {
        Part {
            name: name.into(),
            filename: filename.map(Into::into),
            content_type: None,
            bytes: text.as_bytes().to_vec(),
        }
    }

    fn work(front: Front, format: &str) -> Transcription {
        let (file, model) = if front == Front::Transcribe { ("audio", "model_id") } else { ("file", "model") };
        Transcription::parse(
            front,
            vec![part(model, None, "m"), part("response_format", None, format), part(file, Some("a.mp3"), "SOUND")],
        )
        .unwrap()
    }

    #[test]
    fn every_format_is_made_of_the_long_one() {
        let told = json!({"task": "transcribe", "duration": 2.5, "language": "english", "text": "Hi there.",
            "segments": [{"id": 0, "start": 0.0, "end": 2.5, "text": " Hi there."}], "words": [{"word": "Hi", "start": 0, "end": 1}]});
        let read = |front: Front, format: &str| {
            let reading =
                Reading { shape: Shape::OpenAi, content_type: "application/json", model: "org/m", id: "g", created: 0 };
            let answered = work(front, format).read(told.to_string().into_bytes(), &reading).unwrap();
            assert_eq!(answered.usage.quantity(Meter::InputAudioSeconds), 3, "seconds are rounded up");
            String::from_utf8(answered.body).unwrap()
        };
        assert_eq!(read(Front::Transcriptions, "text"), "Hi there.\n");
        assert_eq!(read(Front::Transcriptions, "srt"), "1\n00:00:00,000 --> 00:00:02,500\nHi there.\n\n");
        assert_eq!(read(Front::Transcriptions, "vtt"), "WEBVTT\n\n00:00:00.000 --> 00:00:02.500\nHi there.\n\n");
        assert_eq!(serde_json::from_str::<Value>(&read(Front::Transcriptions, "verbose_json")).unwrap(), told);
        let short: Value = serde_json::from_str(&read(Front::Transcriptions, "json")).unwrap();
        assert_eq!(short["text"], "Hi there.");
        let own: Value = serde_json::from_str(&read(Front::Transcribe, "json")).unwrap();
        assert_eq!(
            (own["text"].as_str(), own["duration"].as_f64(), own["model"].as_str()),
            (Some("Hi there."), Some(2.5), Some("org/m"))
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let of = |front: Front, parts: Vec<Part>| Transcription::parse(front, parts).unwrap_err().param;
        assert_eq!(of(Front::Transcriptions, vec![part("model", None, "m")]).as_deref(), Some("file"));
        assert_eq!(of(Front::Transcriptions, vec![part("file", Some("a"), "x")]).as_deref(), Some("model"));
        assert_eq!(of(Front::Transcribe, vec![part("audio", Some("a"), "x")]).as_deref(), Some("model_id"));
        assert_eq!(
            of(Front::Transcriptions, vec![part("file", Some("a"), ""), part("model", None, "m")]).as_deref(),
            Some("file")
        );
        let bad = vec![part("file", Some("a"), "x"), part("model", None, "m"), part("response_format", None, "doc")];
        assert_eq!(of(Front::Transcriptions, bad).as_deref(), Some("response_format"));
    }
}
