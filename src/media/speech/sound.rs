//! Sound out of JSON: base64 and hex, raw samples with a WAV header (RIFF), and events of either.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::family::fault::Fault;
use crate::media::Work;
use crate::media::meter::Told;
use crate::media::shape::malformed;
use crate::media::stream::{Fold, event};
use crate::usage::Meter;

/// The content type of a format.
pub fn content_type(format: &str) -> &'static str {
    match format {
        "mp3" => "audio/mpeg",
        "opus" => "audio/opus",
        "aac" => "audio/aac",
        "flac" => "audio/flac",
        "wav" => "audio/wav",
        _ => "audio/pcm",
    }
}

/// Bytes of hex digits.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

/// A WAV file of 16-bit mono samples.
pub fn wav(samples: &[u8], rate: u32) -> Vec<u8> {
    let size = u32::try_from(samples.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(samples.len().saturating_add(44));
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&size.saturating_add(36).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt ");
    out.extend_from_slice(&16u32.to_le_bytes());
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(&rate.to_le_bytes());
    out.extend_from_slice(&rate.saturating_mul(2).to_le_bytes());
    out.extend_from_slice(&2u16.to_le_bytes());
    out.extend_from_slice(&16u16.to_le_bytes());
    out.extend_from_slice(b"data");
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(samples);
    out
}

/// The rate of `audio/L16;codec=pcm;rate=24000`.
pub fn rate_of(mime: &str) -> u32 {
    const USUAL: u32 = 24_000;
    mime.split(';').find_map(|one| one.trim().strip_prefix("rate=")?.parse().ok()).unwrap_or(USUAL)
}

/// What a host's usage object says of speech.
pub fn told(usage: Option<&Value>) -> Told {
    let of = |name: &str| usage.and_then(|usage| usage.get(name)).and_then(Value::as_u64);
    Told::default()
        .with(Meter::InputTokens, of("input_tokens").or_else(|| of("prompt_tokens")))
        .with(Meter::OutputAudioTokens, of("output_tokens").or_else(|| of("completion_tokens")))
        .with(Meter::InputCharacters, of("input_characters"))
}

/// `speech.audio.delta` and `speech.audio.done`, into the sound itself.
pub fn bytes_of_events(_: &Work) -> Box<dyn Fold> {
    Box::new(Sound { told: Told::default(), passes: false })
}

/// The same, in OpenAI's words.
pub fn events(_: &Work) -> Box<dyn Fold> {
    Box::new(Sound { told: Told::default(), passes: true })
}

struct Sound {
    told: Told,
    passes: bool,
}

impl Fold for Sound {
    fn on(&mut self, value: &Value, out: &mut Vec<u8>) -> Result<bool, Fault> {
        let is_done = match value.get("type").and_then(Value::as_str) {
            Some("speech.audio.done") => {
                self.told = told(value.get("usage"));
                true
            }
            Some("speech.audio.delta") if !self.passes => {
                let text = value.get("audio").or_else(|| value.get("audio_data")).and_then(Value::as_str);
                out.extend(STANDARD.decode(text.ok_or_else(malformed)?).map_err(|_| malformed())?);
                false
            }
            _ => false,
        };
        if self.passes {
            event(&in_openais_words(value), out);
        }
        Ok(is_done)
    }

    fn told(&self) -> Told {
        self.told.clone()
    }
}

/// Mistral has other names for the sound and for tokens.
fn in_openais_words(value: &Value) -> Value {
    let mut value = value.clone();
    let Some(members) = value.as_object_mut() else { return value };
    if let Some(sound) = members.remove("audio_data") {
        members.insert("audio".to_owned(), sound);
    }
    if let Some(usage) = members.get_mut("usage").and_then(Value::as_object_mut) {
        for (theirs, ours) in [("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")] {
            if let Some(count) = usage.remove(theirs) {
                usage.entry(ours).or_insert(count);
            }
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hex_and_wav() {
        assert_eq!(from_hex("00ff1A").as_deref(), Some(&[0, 255, 26][..]));
        assert_eq!((from_hex("0"), from_hex("zz")), (None, None));
        let file = wav(&[1, 2, 3, 4], 24_000);
        assert_eq!((file.len(), &file[..4], &file[8..16]), (48, &b"RIFF"[..], &b"WAVEfmt "[..]));
        assert_eq!((&file[24..28], &file[40..]), (&24_000u32.to_le_bytes()[..], &[4, 0, 0, 0, 1, 2, 3, 4][..]));
        assert_eq!((rate_of("audio/L16;codec=pcm;rate=16000"), rate_of("audio/L16")), (16_000, 24_000));
    }

    #[test]
    fn events_become_sound_and_their_last_one_counts() {
        let mut fold = Sound { told: Told::default(), passes: false };
        let mut out = Vec::new();
        assert!(!fold.on(&json!({"type": "speech.audio.delta", "audio": "AQI="}), &mut out).unwrap());
        assert!(!fold.on(&json!({"type": "speech.audio.delta", "audio_data": "Aw=="}), &mut out).unwrap());
        let done = json!({"type": "speech.audio.done", "usage": {"input_tokens": 3, "output_tokens": 9}});
        assert!(fold.on(&done, &mut out).unwrap());
        assert_eq!((out, fold.told().get(Meter::OutputAudioTokens)), (vec![1, 2, 3], Some(9)));
        assert!(fold.on(&json!({"type": "speech.audio.delta"}), &mut Vec::new()).is_err());
        let mistrals = json!({"type": "speech.audio.done", "audio_data": "AQI=", "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}});
        assert_eq!(
            in_openais_words(&mistrals),
            json!({"type": "speech.audio.done", "audio": "AQI=", "usage": {"input_tokens": 3, "output_tokens": 9, "total_tokens": 12}})
        );
    }
}
