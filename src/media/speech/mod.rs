//! `POST /v1/audio/speech` in OpenAI's shape, and `/v1/tts/synthesize`.

pub mod hosts;
pub mod sound;

use serde_json::{Map, Value};

use super::common::Common;
use super::meter::{Basis, Told};
use crate::error::{Code, Failure};
use crate::usage::Meter;

/// Longest text, in characters.
const CHARACTERS_MAX: usize = 100_000;
/// Tokens of sound for a character of text, at most: the slowest speech with pauses, at the densest count.
const TOKENS_PER_CHARACTER: u64 = 8;
/// Tokens of sound beside that.
const TOKENS_ROOM: u64 = 2_000;
/// The names of formats.
pub const FORMATS: &[&str] = &["mp3", "opus", "aac", "flac", "wav", "pcm"];

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Speech {
    /// What all work has, in OpenAI's names.
    pub common: Common,
    text: String,
    voice: String,
    /// None where the client leaves it to the host.
    format: Option<String>,
    speed: Option<f64>,
    sample_rate: Option<u64>,
    wants_events: bool,
}

impl Speech {
    /// Parses a body in OpenAI's shape.
    pub fn parse(bytes: &[u8]) -> Result<Speech, Failure> {
        Speech::of(Common::parse(bytes, None)?)
    }

    /// Parses a body of `/v1/tts/synthesize`: `{model_id, text, voice_id, format, sample_rate, speed}`.
    pub fn parse_synthesis(bytes: &[u8]) -> Result<Speech, Failure> {
        let mut body: Map<String, Value> = crate::json::parse_body(bytes)
            .map_err(|error| Failure { param: error.path, ..Failure::new(Code::InvalidInput, error.message) })?;
        const NAMES: &[(&str, &str)] =
            &[("model_id", "model"), ("text", "input"), ("voice_id", "voice"), ("format", "response_format")];
        for (theirs, ours) in NAMES {
            if let Some(value) = body.remove(*theirs) {
                body.insert((*ours).to_owned(), value);
            }
        }
        Common::of(body, None).and_then(Speech::of).map_err(|mut failure| {
            let own = failure.param.as_deref().and_then(|param| NAMES.iter().find(|(_, ours)| *ours == param));
            failure.param = own.map(|(theirs, _)| (*theirs).to_owned()).or(failure.param);
            failure
        })
    }

    fn of(mut common: Common) -> Result<Speech, Failure> {
        let text = common.text("input")?.filter(|said| !said.is_empty());
        let text = text.ok_or_else(|| Failure::invalid("input", "is missing"))?.to_owned();
        if text.chars().count() > CHARACTERS_MAX {
            return Err(Failure::invalid("input", format!("is longer than {CHARACTERS_MAX} characters")));
        }
        let id = common.body.get("voice").map(|value| value.get("id").unwrap_or(value));
        let voice = match id {
            Some(Value::String(id)) if !id.is_empty() => id.clone(),
            None | Some(Value::Null) => return Err(Failure::invalid("voice", "is missing")),
            Some(_) => return Err(Failure::invalid("voice", "must be a name")),
        };
        let format = common.word("response_format", FORMATS)?;
        let speed = match common.body.get("speed") {
            None | Some(Value::Null) => None,
            Some(value) => match value.as_f64().filter(|speed| (0.25..=4.0).contains(speed)) {
                Some(speed) => Some(speed),
                None => return Err(Failure::invalid("speed", "must be a number from 0.25 to 4")),
            },
        };
        // The usual speed is no wish: hosts that know no other can serve it.
        if speed == Some(1.0) {
            common.body.remove("speed");
        }
        let speed = speed.filter(|speed| *speed != 1.0);
        let sample_rate = common.count("sample_rate", 8_000, 48_000)?;
        let wants_events = common.word("stream_format", &["audio", "sse"])?.as_deref() == Some("sse");
        Ok(Speech { common, text, voice, format, speed, sample_rate, wants_events })
    }

    /// Whether the client wants events.
    pub const fn is_stream(&self) -> bool {
        self.wants_events
    }

    fn characters(&self) -> u64 {
        u64::try_from(self.text.chars().count()).unwrap_or(u64::MAX)
    }

    /// Ways to count it.
    pub fn bases(&self) -> Vec<Basis> {
        let text = u64::try_from(self.text.len()).unwrap_or(u64::MAX);
        let sound = self.characters().saturating_mul(TOKENS_PER_CHARACTER).saturating_add(TOKENS_ROOM);
        vec![
            vec![(Meter::InputCharacters, self.characters())],
            vec![(Meter::InputTokens, text), (Meter::OutputAudioTokens, sound)],
            vec![(Meter::Requests, 1)],
        ]
    }

    /// What the request counts by itself.
    pub fn counted(&self) -> Told {
        Told::default().with(Meter::InputCharacters, self.characters()).with(Meter::Requests, 1)
    }

    /// What it will probably be: people say some 15 characters a second, which hosts count as 20 to 30 tokens.
    pub fn guessed(&self) -> Told {
        Told::default().with(Meter::OutputAudioTokens, self.characters().saturating_mul(2))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        assert!(body(json!({"stream_format": "sse"})).unwrap().wants_events);
        let usual = body(json!({"speed": 1})).unwrap();
        assert_eq!((usual.speed, usual.common.body.get("speed")), (None, None));
        assert_eq!(usual.guessed().get(Meter::OutputAudioTokens), Some(10));
        for (more, param) in [
            (json!({"input": ""}), "input"),
            (json!({"voice": null}), "voice"),
            (json!({"response_format": "midi"}), "response_format"),
            (json!({"stream_format": "rtp"}), "stream_format"),
            (json!({"sample_rate": 1}), "sample_rate"),
            (json!({"speed": 9}), "speed"),
        ] {
            assert_eq!(body(more).unwrap_err().param.as_deref(), Some(param));
        }
        let failure = body(json!({"response_format": "midi"})).unwrap_err();
        assert!(failure.message.contains("mp3, opus, aac"), "{}", failure.message);
        let synthesis = |value: Value| Speech::parse_synthesis(value.to_string().as_bytes());
        assert_eq!(
            synthesis(json!({"model_id": "m", "text": "x", "voice_id": "v", "format": "wav"}))
                .unwrap()
                .format
                .as_deref(),
            Some("wav")
        );
        assert_eq!(synthesis(json!({"model_id": "m", "voice_id": "v"})).unwrap_err().param.as_deref(), Some("text"));
        assert_eq!(synthesis(json!({"text": "x", "voice_id": "v"})).unwrap_err().param.as_deref(), Some("model_id"));
    }
}
