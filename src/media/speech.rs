//! `POST /v1/audio/speech` in OpenAI's shape, and `/v1/tts/synthesize`.

use serde_json::{Map, Value, json};

use super::{Answered, Common, Measures, Reading, Shape, Written};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::family::target::cannot;
use crate::usage::{Meter, Usage};

const CHARACTERS_MAX: usize = 100_000;

/// Formats: OpenAI's name, ElevenLabs' `output_format`, Deepgram's query.
const FORMATS: &[(&str, Option<&str>, Option<&str>)] = &[
    ("mp3", Some("mp3_44100_128"), Some("encoding=mp3")),
    ("opus", Some("opus_48000_128"), Some("encoding=opus&container=ogg")),
    ("aac", None, Some("encoding=aac")),
    ("flac", None, Some("encoding=flac")),
    ("wav", Some("wav_44100"), Some("encoding=linear16&container=wav")),
    ("pcm", Some("pcm_24000"), Some("encoding=linear16&container=none&sample_rate=24000")),
];

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Speech {
    /// What all work has, in OpenAI's names.
    pub common: Common,
    text: String,
    voice: String,
    format: String,
    speed: Option<f64>,
}

impl Speech {
    /// Parses a body in OpenAI's shape.
    pub fn parse(bytes: &[u8]) -> Result<Speech, Failure> {
        Speech::of(Common::parse(bytes, None)?, "input", "voice", "response_format")
    }

    /// Parses a body of `/v1/tts/synthesize`: `{model_id, text, voice_id, format, sample_rate, speed}`.
    pub fn parse_synthesis(bytes: &[u8]) -> Result<Speech, Failure> {
        let mut body: Map<String, Value> = crate::json::parse_body(bytes).map_err(|error| Failure {
            param: error.path,
            ..Failure::new(crate::error::Code::InvalidInput, error.message)
        })?;
        const NAMES: &[(&str, &str)] =
            &[("model_id", "model"), ("text", "input"), ("voice_id", "voice"), ("format", "response_format")];
        for (theirs, ours) in NAMES {
            if let Some(value) = body.remove(*theirs) {
                body.insert((*ours).to_owned(), value);
            }
        }
        let renamed = |mut failure: Failure| {
            let own = failure.param.as_deref().and_then(|param| NAMES.iter().find(|(_, ours)| *ours == param));
            failure.param = own.map(|(theirs, _)| (*theirs).to_owned()).or(failure.param);
            failure
        };
        Common::of(body, None)
            .and_then(|common| Speech::of(common, "input", "voice", "response_format"))
            .map_err(renamed)
    }

    fn of(common: Common, text: &str, voice: &str, format: &str) -> Result<Speech, Failure> {
        let said = common.text(text)?.filter(|said| !said.is_empty());
        let said = said.ok_or_else(|| Failure::invalid(text, "is missing"))?.to_owned();
        if said.chars().count() > CHARACTERS_MAX {
            return Err(Failure::invalid(text, format!("is longer than {CHARACTERS_MAX} characters")));
        }
        let id = common.body.get(voice).map(|value| value.get("id").unwrap_or(value));
        let voice_id = match id {
            Some(Value::String(id)) if !id.is_empty() => id.clone(),
            None | Some(Value::Null) => return Err(Failure::invalid(voice, "is missing")),
            Some(_) => return Err(Failure::invalid(voice, "must be a name")),
        };
        let known: Vec<&str> = FORMATS.iter().map(|(name, ..)| *name).collect();
        let format = common.word(format, &known)?.unwrap_or_else(|| "mp3".to_owned());
        let speed = match common.body.get("speed") {
            None | Some(Value::Null) => None,
            Some(value) => match value.as_f64().filter(|speed| (0.25..=4.0).contains(speed)) {
                Some(speed) => Some(speed),
                None => return Err(Failure::invalid("speed", "must be a number from 0.25 to 4")),
            },
        };
        if common.text("stream_format")? == Some("sse") {
            return Err(
                Failure::new(crate::error::Code::UnsupportedParameter, "speech comes as bytes").about("stream_format")
            );
        }
        Ok(Speech { common, text: said, voice: voice_id, format, speed })
    }

    pub(super) fn characters(&self) -> u64 {
        u64::try_from(self.text.chars().count()).unwrap_or(u64::MAX)
    }

    pub(super) fn measures(&self) -> Measures {
        vec![vec![(Meter::InputCharacters, self.characters())], vec![(Meter::Requests, 1)]]
    }

    pub(super) fn write(&self, shape: Shape, upstream: &str) -> Result<Written, Failure> {
        let (_, eleven, deepgram) = FORMATS
            .iter()
            .find(|(name, ..)| *name == self.format)
            .ok_or_else(|| cannot("response_format", "the format"))?;
        match shape {
            Shape::OpenAi => {
                let body = self.common.passed(upstream, &["sample_rate"]);
                Ok(Written::json("/audio/speech", Value::Object(body).to_string()))
            }
            Shape::ElevenLabs => {
                let format = eleven.ok_or_else(|| cannot("response_format", "the format"))?;
                let mut body = json!({"text": self.text, "model_id": upstream});
                if let (Some(speed), Some(body)) = (self.speed, body.as_object_mut()) {
                    body.insert("voice_settings".to_owned(), json!({"speed": speed.clamp(0.7, 1.2)}));
                }
                let voice = percent_encoding::utf8_percent_encode(&self.voice, percent_encoding::NON_ALPHANUMERIC);
                let path = format!("/text-to-speech/{voice}?output_format={format}");
                Ok(Written::json(&path, body.to_string()))
            }
            Shape::Deepgram => {
                let query = deepgram.ok_or_else(|| cannot("response_format", "the format"))?;
                // The voice is a part of the model's name; a request may name another one of the same family.
                let model = if self.voice.contains('-') { &self.voice } else { upstream };
                let model = percent_encoding::utf8_percent_encode(model, percent_encoding::NON_ALPHANUMERIC);
                Ok(Written::json(&format!("/speak?model={model}&{query}"), json!({"text": self.text}).to_string()))
            }
            _ => Err(cannot("model", "speech")),
        }
    }

    pub(super) fn read(&self, bytes: Vec<u8>, reading: &Reading<'_>) -> Result<Answered, Fault> {
        // A host that says what went wrong says it in JSON; sound is never that.
        if reading.content_type.contains("json") {
            let fault = crate::family::fault::parse(&bytes);
            return Err(Fault { message: format!("malformed {}", fault.message), ..fault });
        }
        if bytes.is_empty() {
            return Err(Fault { message: "malformed".to_owned(), ..Fault::default() });
        }
        let stated = Some(reading.content_type).filter(|kind| kind.starts_with("audio/"));
        let own = match self.format.as_str() {
            "mp3" => "audio/mpeg",
            "opus" => "audio/opus",
            "aac" => "audio/aac",
            "flac" => "audio/flac",
            "wav" => "audio/wav",
            _ => "audio/pcm",
        };
        let content_type = stated.unwrap_or(own).to_owned();
        Ok(Answered {
            content_type,
            body: bytes,
            usage: Usage::default().with(Meter::InputCharacters, self.characters()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fronts_are_checked_in_their_own_names() {
        let body = |more: Value| {
            let mut body = json!({"model": "m", "input": "Grüße", "voice": "alloy"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Speech::parse(body.to_string().as_bytes())
        };
        assert_eq!(body(json!({})).unwrap().characters(), 5);
        assert_eq!(body(json!({"voice": {"id": "v1"}})).unwrap().voice, "v1");
        for (more, param) in [
            (json!({"input": ""}), "input"),
            (json!({"voice": null}), "voice"),
            (json!({"response_format": "midi"}), "response_format"),
            (json!({"speed": 9}), "speed"),
        ] {
            assert_eq!(body(more).unwrap_err().param.as_deref(), Some(param));
        }
        let failure = body(json!({"response_format": "midi"})).unwrap_err();
        assert!(failure.message.contains("mp3, opus, aac"), "{}", failure.message);
        let synthesis = |value: Value| Speech::parse_synthesis(value.to_string().as_bytes());
        assert_eq!(
            synthesis(json!({"model_id": "m", "text": "x", "voice_id": "v", "format": "wav"})).unwrap().format,
            "wav"
        );
        assert_eq!(synthesis(json!({"model_id": "m", "voice_id": "v"})).unwrap_err().param.as_deref(), Some("text"));
        assert_eq!(synthesis(json!({"text": "x", "voice_id": "v"})).unwrap_err().param.as_deref(), Some("model_id"));
    }

    #[test]
    fn hosts_are_asked_in_their_own_way() {
        let work = Speech::parse(br#"{"model":"m","input":"x","voice":"v/1","speed":2}"#).unwrap();
        let eleven = work.write(Shape::ElevenLabs, "up").unwrap();
        assert_eq!(eleven.path, "/text-to-speech/v%2F1?output_format=mp3_44100_128");
        assert_eq!(
            serde_json::from_slice::<Value>(&eleven.body).unwrap(),
            json!({"text": "x", "model_id": "up", "voice_settings": {"speed": 1.2}})
        );
        assert_eq!(work.write(Shape::Deepgram, "aura-2").unwrap().path, "/speak?model=aura%2D2&encoding=mp3");
        let flac = Speech::parse(br#"{"model":"m","input":"x","voice":"v","response_format":"flac"}"#).unwrap();
        assert!(flac.write(Shape::ElevenLabs, "up").is_err());
    }
}
