//! What a host heard, and the forms in which a client wants it.

use serde_json::{Value, json};

use super::subtitles::{cues, srt, vtt};
use super::{Front, Transcription};
use crate::media::meter::Told;
use crate::media::shape::{Answered, Reading};
use crate::media::stream::event;
use crate::usage::Meter;

/// What a host heard, in OpenAI's words.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Heard {
    /// The text.
    pub text: String,
    /// How long the sound is, in seconds.
    pub duration: Option<f64>,
    /// The language.
    pub language: Option<String>,
    /// How sure the host is.
    pub confidence: Option<f64>,
    /// `{id, start, end, text}`.
    pub segments: Vec<Value>,
    /// `{word, start, end}`.
    pub words: Vec<Value>,
    /// The usage object as the host wrote it.
    pub usage: Option<Value>,
    /// The whole answer of a host that speaks OpenAI's own words.
    pub whole: Option<Value>,
    /// What the host counted.
    pub told: Told,
}

impl Heard {
    /// Of an answer in OpenAI's words; none where it is not one.
    pub fn of_openai(value: Value) -> Option<Heard> {
        let text = value.get("text")?.as_str()?.to_owned();
        let number = |pointer: &str| value.pointer(pointer).and_then(Value::as_f64);
        let count = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64);
        let duration = number("/duration").or_else(|| value.get("duration")?.as_str()?.parse().ok());
        let seconds = number("/usage/seconds").or_else(|| number("/usage/prompt_audio_seconds")).or(duration);
        let is_tokens = value.pointer("/usage/type").and_then(Value::as_str) == Some("tokens");
        let audio = count("/usage/input_token_details/audio_tokens");
        let text_in = count("/usage/input_token_details/text_tokens");
        let all_in = count("/usage/input_tokens");
        let told = Told::default()
            .with(Meter::InputAudioSeconds, seconds.filter(|_| !is_tokens).and_then(whole_seconds))
            .with(Meter::InputAudioTokens, audio)
            .with(Meter::InputTokens, text_in.or_else(|| Some(all_in?.saturating_sub(audio.unwrap_or(0)))))
            .with(Meter::OutputTokens, count("/usage/output_tokens"));
        let list = |name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let language = value.get("language").and_then(Value::as_str).map(str::to_owned);
        let (segments, words, usage) = (list("segments"), list("words"), value.get("usage").cloned());
        Some(Heard { text, duration, language, segments, words, usage, told, whole: Some(value), ..Heard::default() })
    }

    /// The same with its length, by which it is also charged.
    #[must_use]
    pub fn lasting(mut self, duration: Option<f64>) -> Heard {
        self.duration = duration;
        self.told = std::mem::take(&mut self.told).with(Meter::InputAudioSeconds, duration.and_then(whole_seconds));
        self
    }
}

/// Seconds, rounded up; none where a host tells less than nothing, which is not a length.
pub fn whole_seconds(seconds: f64) -> Option<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a span of sound, rounded up")]
    (seconds >= 0.0).then(|| seconds.ceil() as u64)
}

/// The host's segments, or such as are made of its words.
fn segments(heard: &Heard, duration: f64) -> Vec<Value> {
    if !heard.segments.is_empty() || heard.words.is_empty() {
        return heard.segments.clone();
    }
    let cues = cues(&[], &heard.words, &heard.text, duration).into_iter().enumerate();
    cues.map(|(id, cue)| json!({"id": id, "start": cue.start, "end": cue.end, "text": cue.text})).collect()
}

/// Who said what: the host's segments, or words of one speaker after the other.
fn turns(heard: &Heard) -> Vec<Value> {
    let of = |one: &Value, name: &str| one.get(name).cloned().unwrap_or_default();
    let who = |one: &Value| match one.get("speaker").or_else(|| one.get("speaker_id")) {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Null) | None => "A".to_owned(),
        Some(other) => other.to_string(),
    };
    let mut turns: Vec<(String, Value, Value, String)> = Vec::new();
    for one in &heard.segments {
        turns.push((
            who(one),
            of(one, "start"),
            of(one, "end"),
            of(one, "text").as_str().unwrap_or_default().to_owned(),
        ));
    }
    for one in heard.words.iter().filter(|_| heard.segments.is_empty()) {
        let (speaker, said) = (who(one), of(one, "word"));
        let said = said.as_str().unwrap_or_default();
        match turns.last_mut().filter(|(last, ..)| *last == speaker) {
            Some((_, _, end, text)) => {
                *end = of(one, "end");
                text.push(' ');
                text.push_str(said);
            }
            None => turns.push((speaker, of(one, "start"), of(one, "end"), said.to_owned())),
        }
    }
    let segment = |(place, (speaker, start, end, text)): (usize, (String, Value, Value, String))| {
        json!({"type": "transcript.text.segment", "id": format!("seg_{place}"), "start": start, "end": end,
            "speaker": speaker, "text": text})
    };
    turns.into_iter().enumerate().map(segment).collect()
}

/// The answer in the form that the client wants.
pub fn answer(work: &Transcription, heard: Heard, reading: &Reading<'_>) -> Answered {
    let duration = heard.duration.unwrap_or(0.0);
    let usage = || match &heard.usage {
        Some(usage) if usage.get("type").is_some() => usage.clone(),
        _ => json!({"type": "duration", "seconds": heard.told.get(Meter::InputAudioSeconds)}),
    };
    let cues = || cues(&heard.segments, &heard.words, &heard.text, duration);
    let plain = |body: String| ("text/plain; charset=utf-8", body);
    let json = |value: Value| ("application/json", value.to_string());
    let (content_type, body) = match (work.front, work.format.as_str()) {
        (Front::Transcribe, _) => json(json!({
            "text": heard.text, "duration": heard.duration, "language": heard.language.as_deref().or(work.field("language")),
            "confidence": heard.confidence, "words": heard.words, "model": reading.model,
        })),
        _ if work.is_stream => {
            let mut out = Vec::new();
            event(&json!({"type": "transcript.text.delta", "delta": heard.text}), &mut out);
            event(&json!({"type": "transcript.text.done", "text": heard.text, "usage": usage()}), &mut out);
            ("text/event-stream; charset=utf-8", String::from_utf8(out).unwrap_or_default())
        }
        (_, "text") => plain(format!("{}\n", heard.text)),
        (_, "srt") => plain(srt(&cues())),
        (_, "vtt") => plain(vtt(&cues())),
        (_, "diarized_json") if heard.whole.is_none() => {
            let segments = turns(&heard);
            json(
                json!({"task": "transcribe", "text": heard.text, "duration": heard.duration, "segments": segments, "usage": usage()}),
            )
        }
        (_, "verbose_json" | "diarized_json") => {
            let task = if work.is_translation() { "translate" } else { "transcribe" };
            json(heard.whole.clone().filter(|whole| whole.get("duration").is_some()).unwrap_or_else(|| {
                json!({"task": task, "text": heard.text, "duration": heard.duration, "language": heard.language,
                    "segments": segments(&heard, duration), "words": heard.words, "usage": usage()})
            }))
        }
        _ => {
            let mut short = json!({"text": heard.text, "usage": usage()});
            let asked = heard.whole.as_ref().and_then(|whole| whole.get("logprobs")).filter(|told| !told.is_null());
            if let (Some(told), Some(short)) = (asked, short.as_object_mut()) {
                short.insert("logprobs".to_owned(), told.clone());
            }
            json(short)
        }
    };
    let body = body.into_bytes();
    Answered { content_type: content_type.to_owned(), body, told: heard.told, ..Answered::default() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::multipart::Part;

    fn work(front: Front, fields: &[(&str, &str)]) -> Transcription {
        let (file, model) = if front == Front::Transcribe { ("audio", "model_id") } else { ("file", "model") };
        let sound =
            Part { filename: Some("a.mp3".into()), bytes: Bytes::from_static(b"SOUND"), ..Part::text(file, "") };
        let fields = fields.iter().map(|(name, value)| Part::text(name, value));
        Transcription::parse(front, [Part::text(model, "m"), sound].into_iter().chain(fields).collect()).unwrap()
    }

    #[test]
    fn a_length_below_nothing_is_not_known() {
        let heard = |duration: f64| Heard::of_openai(json!({"text": "Hi.", "duration": duration})).unwrap();
        assert_eq!(heard(-2.5).told.get(Meter::InputAudioSeconds), None);
        assert_eq!(heard(0.0).told.get(Meter::InputAudioSeconds), Some(0));
        assert_eq!(Heard::default().lasting(Some(-1.0)).told.get(Meter::InputAudioSeconds), None);
    }

    #[test]
    fn every_format_is_made_of_the_long_one() {
        let told = json!({"task": "transcribe", "duration": 2.5, "language": "english", "text": "Hi there.",
            "segments": [{"id": 0, "start": 0.0, "end": 2.5, "text": " Hi there."}], "words": [{"word": "Hi", "start": 0, "end": 1}]});
        let read = |front: Front, fields: &[(&str, &str)]| {
            let reading = Reading { upstream: "u", model: "org/m", id: "g", created: 0 };
            let answered = answer(&work(front, fields), Heard::of_openai(told.clone()).unwrap(), &reading);
            assert_eq!(answered.told.get(Meter::InputAudioSeconds), Some(3), "seconds are rounded up");
            String::from_utf8(answered.body).unwrap()
        };
        let of = |format: &str| read(Front::Transcriptions, &[("response_format", format)]);
        assert_eq!(of("text"), "Hi there.\n");
        assert_eq!(of("srt"), "1\n00:00:00,000 --> 00:00:02,500\nHi there.\n\n");
        assert_eq!(of("vtt"), "WEBVTT\n\n00:00:00.000 --> 00:00:02.500\nHi there.\n\n");
        assert_eq!(serde_json::from_str::<Value>(&of("verbose_json")).unwrap(), told);
        let short: Value = serde_json::from_str(&of("json")).unwrap();
        assert_eq!(short, json!({"text": "Hi there.", "usage": {"type": "duration", "seconds": 3}}));
        let own: Value = serde_json::from_str(&read(Front::Transcribe, &[])).unwrap();
        assert_eq!(
            (own["text"].as_str(), own["duration"].as_f64(), own["model"].as_str()),
            (Some("Hi there."), Some(2.5), Some("org/m"))
        );
        let events = read(Front::Transcriptions, &[("stream", "true")]);
        assert!(
            events.starts_with("event: transcript.text.delta\n") && events.contains("transcript.text.done"),
            "{events}"
        );
    }

    #[test]
    fn speakers_take_turns() {
        let word = |word: &str, start: f64, speaker: Value| json!({"word": word, "start": start, "end": start + 0.5, "speaker": speaker});
        let words = vec![word("Hi", 0.0, json!(0)), word("you.", 0.5, json!(0)), word("Ho.", 1.0, json!(1))];
        let reading = Reading { upstream: "u", model: "org/m", id: "g", created: 0 };
        let work = work(Front::Transcriptions, &[("response_format", "diarized_json")]);
        assert!(work.wants_speakers());
        let heard = Heard { text: "Hi you. Ho.".into(), words, ..Heard::default() }.lasting(Some(1.5));
        let body: Value = serde_json::from_slice(&answer(&work, heard, &reading).body).unwrap();
        assert_eq!(
            body["segments"],
            json!([
                {"type": "transcript.text.segment", "id": "seg_0", "start": 0.0, "end": 1.0, "speaker": "0", "text": "Hi you."},
                {"type": "transcript.text.segment", "id": "seg_1", "start": 1.0, "end": 1.5, "speaker": "1", "text": "Ho."},
            ])
        );
    }

    #[test]
    fn the_long_form_has_segments_also_of_words_alone() {
        let words =
            vec![json!({"word": "Hi.", "start": 0.0, "end": 0.5}), json!({"word": "Ho.", "start": 0.5, "end": 1.0})];
        let reading = Reading { upstream: "u", model: "org/m", id: "g", created: 0 };
        let work = work(Front::Transcriptions, &[("response_format", "verbose_json")]);
        let of = |words: Vec<Value>| {
            let heard = Heard { text: "Hi. Ho.".into(), words, ..Heard::default() }.lasting(Some(1.0));
            let body: Value = serde_json::from_slice(&answer(&work, heard, &reading).body).unwrap();
            body["segments"].clone()
        };
        let segment =
            |id: u64, start: f64, text: &str| json!({"id": id, "start": start, "end": start + 0.5, "text": text});
        assert_eq!(of(words), json!([segment(0, 0.0, "Hi."), segment(1, 0.5, "Ho.")]));
        assert_eq!(of(Vec::new()), json!([]));
    }

    #[test]
    fn log_probabilities_that_were_asked_for_stay() {
        let reading = Reading { upstream: "u", model: "org/m", id: "g", created: 0 };
        let told = json!({"text": "Hi", "logprobs": [{"token": "Hi", "logprob": -0.1}]});
        let body = answer(&work(Front::Transcriptions, &[]), Heard::of_openai(told.clone()).unwrap(), &reading).body;
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["logprobs"], told["logprobs"]);
    }

    #[test]
    fn tokens_are_told_apart() {
        let usage = json!({"type": "tokens", "input_tokens": 40, "input_token_details": {"audio_tokens": 30, "text_tokens": 10}, "output_tokens": 5});
        let heard = Heard::of_openai(json!({"text": "x", "usage": usage})).unwrap();
        let of = |meter| heard.told.get(meter);
        assert_eq!(
            (
                of(Meter::InputAudioTokens),
                of(Meter::InputTokens),
                of(Meter::OutputTokens),
                of(Meter::InputAudioSeconds)
            ),
            (Some(30), Some(10), Some(5), None)
        );
        assert!(Heard::of_openai(json!({"words": []})).is_none());
    }
}
