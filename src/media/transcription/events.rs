//! Transcripts as they are heard: OpenAI's events as they are, Mistral's in OpenAI's words.

use serde_json::{Value, json};

use super::answer::Heard;
use crate::family::fault::Fault;
use crate::media::Work;
use crate::media::meter::Told;
use crate::media::stream::{Fold, event};

/// OpenAI's.
pub fn openai(_: &Work) -> Box<dyn Fold> {
    Box::new(OpenAi(Told::default()))
}

/// Mistral's.
pub fn mistral(_: &Work) -> Box<dyn Fold> {
    Box::new(Mistral(Told::default()))
}

fn told(value: &Value) -> Told {
    let done = json!({"text": "", "usage": value.get("usage"), "duration": value.get("duration")});
    Heard::of_openai(done).map(|heard| heard.told).unwrap_or_default()
}

struct OpenAi(Told);

impl Fold for OpenAi {
    fn on(&mut self, value: &Value, out: &mut Vec<u8>) -> Result<bool, Fault> {
        event(value, out);
        let is_done = value.get("type").and_then(Value::as_str) == Some("transcript.text.done");
        if is_done {
            self.0 = told(value);
        }
        Ok(is_done)
    }

    fn told(&self) -> Told {
        self.0.clone()
    }
}

struct Mistral(Told);

impl Fold for Mistral {
    fn on(&mut self, value: &Value, out: &mut Vec<u8>) -> Result<bool, Fault> {
        let text = value.get("text").and_then(Value::as_str).unwrap_or_default();
        match value.get("type").and_then(Value::as_str).unwrap_or_default() {
            "transcription.text.delta" => event(&json!({"type": "transcript.text.delta", "delta": text}), out),
            "transcription.segment" => event(
                &json!({"type": "transcript.text.segment", "text": text, "start": value.get("start"), "end": value.get("end"),
                    "speaker": value.get("speaker_id")}),
                out,
            ),
            "transcription.done" => {
                self.0 = told(value);
                let seconds = self.0.get(crate::usage::Meter::InputAudioSeconds);
                let usage = json!({"type": "duration", "seconds": seconds});
                event(&json!({"type": "transcript.text.done", "text": text, "usage": usage}), out);
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    fn told(&self) -> Told {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Meter;

    #[test]
    fn mistrals_events_in_openais_words() {
        let (mut fold, mut out) = (Mistral(Told::default()), Vec::new());
        for value in [
            json!({"type": "transcription.language", "audio_language": "en"}),
            json!({"type": "transcription.text.delta", "text": "Hi"}),
            json!({"type": "transcription.segment", "text": "Hi", "start": 0, "end": 1}),
        ] {
            assert!(!fold.on(&value, &mut out).unwrap());
        }
        let done = json!({"type": "transcription.done", "text": "Hi", "usage": {"prompt_audio_seconds": 3, "prompt_tokens": 9}});
        assert!(fold.on(&done, &mut out).unwrap());
        assert_eq!(fold.told().get(Meter::InputAudioSeconds), Some(3));
        let text = String::from_utf8(out).unwrap();
        let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!(names, ["transcript.text.delta", "transcript.text.segment", "transcript.text.done"]);
    }
}
