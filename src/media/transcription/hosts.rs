//! Transcription at each family of hosts.

use serde_json::{Value, json};

use super::answer::{Heard, answer};
use super::{Transcription, events};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::family::target::cannot;
use crate::media::multipart::{self, Part};
use crate::media::shape::{
    Again, Answered, Asked, Delivery, Raw, Reading, Shape, Written, at_once, fates, json_of, malformed,
};

/// What the writers take from the typed form, or from the gateway's own fields.
pub const CORE: &[&str] = &["provider_id"];

/// How long to wait for a transcript that is not done, in milliseconds; it grows with each question.
const POLL_MS: u64 = 500;

/// The hosts.
pub const TABLE: &[&Shape<Transcription>] = &[
    &Shape {
        families: &["openai-chat", "openai-responses", "azure-openai", "fireworks-audio"],
        fates: fates! {
            "language" Kept, "prompt" Kept, "temperature" Kept,
            "response_format" => "asked in full where that says how long it was", "timestamp_granularities" Kept,
            "include" Kept, "chunking_strategy" Kept, "keywords" Kept, "diarize" Kept, "stream" Kept,
        },
        passes: true,
        write: openai,
        follow: at_once,
        read: read_openai,
    },
    &Shape {
        families: &["mistral"],
        fates: fates! {
            "language" Kept, "prompt" Dropped, "temperature" Kept, "response_format" => "made here",
            "timestamp_granularities" unless "language", "include" Dropped, "chunking_strategy" Dropped,
            "keywords" => "context_bias", "diarize" Kept, "stream" Kept,
        },
        passes: false,
        write: mistral,
        follow: at_once,
        read: read_mistral,
    },
    &Shape {
        families: &["deepgram"],
        fates: fates! {
            "language" Kept, "prompt" Dropped, "temperature" Dropped, "response_format" => "made here",
            "timestamp_granularities" => "always given", "include" Dropped, "chunking_strategy" Dropped,
            "keywords" => "keyterm, keywords", "diarize" Kept, "stream" => "one delta",
        },
        passes: false,
        write: deepgram,
        follow: at_once,
        read: read_deepgram,
    },
    &Shape {
        families: &["elevenlabs"],
        fates: fates! {
            "language" => "language_code", "prompt" Dropped, "temperature" Kept, "response_format" => "made here",
            "timestamp_granularities" => "always by word", "include" Dropped, "chunking_strategy" Dropped,
            "keywords" => "keyterms", "diarize" Kept, "stream" => "one delta",
        },
        passes: false,
        write: elevenlabs,
        follow: at_once,
        read: read_elevenlabs,
    },
    &Shape {
        families: &["assemblyai"],
        fates: fates! {
            "language" => "language_code", "prompt" Dropped, "temperature" Dropped, "response_format" => "made here",
            "timestamp_granularities" => "always by word", "include" Dropped, "chunking_strategy" Dropped,
            "keywords" => "keyterms_prompt", "diarize" => "speaker_labels", "stream" => "one delta",
        },
        passes: false,
        write: |work, _| {
            transcribes(work)?;
            Ok(vec![Written::bytes("/upload", "application/octet-stream", vec![work.file.bytes.clone()])])
        },
        follow: follow_assemblyai,
        read: read_assemblyai,
    },
];

/// Of hosts that do not translate.
fn transcribes(work: &Transcription) -> Result<(), Failure> {
    if work.is_translation() { Err(cannot("model", "a translation")) } else { Ok(()) }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The client's fields as parts: a list as repeated ones.
fn parts(fields: serde_json::Map<String, Value>) -> Vec<Part> {
    let part = |(name, value): (String, Value)| match value {
        Value::Array(list) => {
            list.iter().filter_map(Value::as_str).map(|one| Part::text(&format!("{name}[]"), one)).collect()
        }
        Value::String(text) => vec![Part::text(&name, &text)],
        Value::Null => Vec::new(),
        other => vec![Part::text(&name, &other.to_string())],
    };
    fields.into_iter().flat_map(part).collect()
}

fn form(work: &Transcription, asked: &Asked<'_>, mut parts: Vec<Part>, path: &str) -> Written {
    parts.push(work.file.named("file"));
    let (content_type, body) = multipart::write(&parts, &multipart::own_boundary(asked.id));
    Written::bytes(path, content_type, body)
}

fn openai(work: &Transcription, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    let verb = if work.is_translation() { "translations" } else { "transcriptions" };
    let mut fields = work.common.passed(asked.upstream, &["provider_id", "response_format", "stream"]);
    // Models that count in tokens know no long form; that of others says how long it was, and all else can be made of it.
    let is_short = asked.upstream.contains("transcribe");
    let is_diarized = work.format == "diarized_json";
    let format = match (is_diarized, is_short) {
        (true, _) => "diarized_json",
        (false, true) => "json",
        (false, false) => "verbose_json",
    };
    if is_short && !is_diarized && matches!(work.format.as_str(), "srt" | "vtt" | "verbose_json") {
        return Err(cannot("response_format", "a format with times"));
    }
    fields.insert("response_format".to_owned(), format.into());
    let streams = work.is_stream && is_short;
    if streams {
        fields.insert("stream".to_owned(), "true".into());
    }
    let written = form(work, asked, parts(fields), &format!("/audio/{verb}"));
    Ok(vec![if streams { written.delivered(Delivery::Events(events::openai), STREAM) } else { written }])
}

/// The content type of streamed transcripts.
const STREAM: &str = "text/event-stream; charset=utf-8";

fn mistral(work: &Transcription, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    transcribes(work)?;
    let mut parts = vec![Part::text("model", asked.upstream)];
    for name in ["language", "temperature"] {
        parts.extend(work.field(name).map(|value| Part::text(name, value)));
    }
    parts.extend(work.wants_speakers().then(|| Part::text("diarize", "true")));
    // The host takes either a language or times.
    if work.field("language").is_none() {
        let wanted = work.list("timestamp_granularities");
        let needs_segments = wanted.is_empty() && matches!(work.format.as_str(), "srt" | "vtt" | "verbose_json");
        let wanted = if needs_segments { vec!["segment"] } else { wanted };
        parts.extend(wanted.into_iter().map(|one| Part::text("timestamp_granularities", one)));
    }
    parts.extend(work.list("keywords").into_iter().map(|one| Part::text("context_bias", one)));
    if work.is_stream {
        parts.push(Part::text("stream", "true"));
    }
    let written = form(work, asked, parts, "/audio/transcriptions");
    Ok(vec![if work.is_stream { written.delivered(Delivery::Events(events::mistral), STREAM) } else { written }])
}

fn deepgram(work: &Transcription, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    transcribes(work)?;
    let mut path = format!("/listen?model={}&smart_format=true", encoded(asked.upstream));
    match work.field("language") {
        Some(language) => path.push_str(&format!("&language={}", encoded(language))),
        None => path.push_str("&detect_language=true"),
    }
    if work.wants_speakers() {
        path.push_str("&diarize=true");
    }
    let name = if asked.upstream.starts_with("nova-3") { "keyterm" } else { "keywords" };
    work.list("keywords").iter().for_each(|word| path.push_str(&format!("&{name}={}", encoded(word))));
    let kind = work.file.content_type.as_deref().unwrap_or("application/octet-stream");
    Ok(vec![Written::bytes(path, kind, vec![work.file.bytes.clone()])])
}

fn elevenlabs(work: &Transcription, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    transcribes(work)?;
    let mut parts = vec![Part::text("model_id", asked.upstream), Part::text("timestamps_granularity", "word")];
    parts.extend(work.field("language").map(|language| Part::text("language_code", language)));
    parts.extend(work.field("temperature").map(|heat| Part::text("temperature", heat)));
    parts.extend(work.wants_speakers().then(|| Part::text("diarize", "true")));
    parts.extend(work.list("keywords").into_iter().map(|word| Part::text("keyterms", word)));
    Ok(vec![form(work, asked, parts, "/speech-to-text")])
}

fn read_openai(work: &Transcription, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let raw = raws.into_iter().next().ok_or_else(malformed)?;
    // A host that knows one form only answers in it. A page of a proxy is no transcript.
    if !raw.content_type.contains("json") && !raw.bytes.starts_with(b"{") {
        let is_page = raw.content_type.contains("html") || raw.content_type.contains("xml");
        if is_page || raw.bytes.is_empty() {
            return Err(malformed());
        }
        let text = String::from_utf8(raw.bytes).map_err(|_| malformed())?;
        let text = text.trim_end().to_owned();
        return Ok(answer(work, Heard { text, ..Heard::default() }, reading));
    }
    let heard = Heard::of_openai(json_of(&raw.bytes)?).ok_or_else(malformed)?;
    Ok(answer(work, heard, reading))
}

fn read_mistral(work: &Transcription, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let value = json_of(&raws.first().ok_or_else(malformed)?.bytes)?;
    let seconds = value.pointer("/usage/prompt_audio_seconds").and_then(Value::as_f64);
    let segments = value.get("segments").and_then(Value::as_array).cloned().unwrap_or_default();
    let end = |list: &[Value]| list.last().and_then(|last| last.get("end")).and_then(Value::as_f64);
    let duration = seconds.or_else(|| end(&segments));
    let is_words = work.list("timestamp_granularities").contains(&"word");
    let mut heard = Heard::of_openai(value).ok_or_else(malformed)?.lasting(duration);
    heard.whole = None;
    heard.usage = None;
    if is_words {
        let word = |one: &Value| json!({"word": one.get("text"), "start": one.get("start"), "end": one.get("end")});
        heard.words = segments.iter().map(word).collect();
        heard.segments = Vec::new();
    }
    Ok(answer(work, heard, reading))
}

fn read_deepgram(work: &Transcription, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let value = json_of(&raws.first().ok_or_else(malformed)?.bytes)?;
    let channels = value.pointer("/results/channels").and_then(Value::as_array).ok_or_else(malformed)?;
    let best = channels.first().and_then(|one| one.pointer("/alternatives/0")).ok_or_else(malformed)?;
    let word = |word: &Value| {
        let text = word.get("punctuated_word").or_else(|| word.get("word"));
        let mut out = json!({"word": text, "start": word.get("start"), "end": word.get("end"), "confidence": word.get("confidence")});
        if let (Some(speaker), Some(out)) = (word.get("speaker"), out.as_object_mut()) {
            out.insert("speaker".to_owned(), speaker.clone());
        }
        out
    };
    let words = best.get("words").and_then(Value::as_array).map(|list| list.iter().map(word).collect());
    let language = value.pointer("/results/channels/0/detected_language").and_then(Value::as_str);
    let heard = Heard {
        text: best.get("transcript").and_then(Value::as_str).ok_or_else(malformed)?.to_owned(),
        language: language.or(work.field("language")).map(str::to_owned),
        confidence: best.get("confidence").and_then(Value::as_f64),
        words: words.unwrap_or_default(),
        ..Heard::default()
    };
    Ok(answer(work, heard.lasting(value.pointer("/metadata/duration").and_then(Value::as_f64)), reading))
}

fn read_elevenlabs(work: &Transcription, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let value = json_of(&raws.first().ok_or_else(malformed)?.bytes)?;
    let all = value.get("words").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_word = |word: &&Value| word.get("type").and_then(Value::as_str) != Some("spacing");
    let word = |word: &Value| {
        let mut out = json!({"word": word.get("text"), "start": word.get("start"), "end": word.get("end")});
        if let (Some(speaker), Some(out)) = (word.get("speaker_id").filter(|id| !id.is_null()), out.as_object_mut()) {
            out.insert("speaker".to_owned(), speaker.clone());
        }
        out
    };
    let words: Vec<Value> = all.iter().filter(is_word).map(word).collect();
    let end = words.last().and_then(|word| word.get("end")).and_then(Value::as_f64);
    let heard = Heard {
        text: value.get("text").and_then(Value::as_str).ok_or_else(malformed)?.to_owned(),
        language: value.get("language_code").and_then(Value::as_str).map(str::to_owned),
        confidence: value.get("language_probability").and_then(Value::as_f64),
        words,
        ..Heard::default()
    };
    Ok(answer(work, heard.lasting(value.get("audio_duration_secs").and_then(Value::as_f64).or(end)), reading))
}

/// What AssemblyAI says of a file in which it can hear nothing; anything else is its own failure.
fn refused(message: &str) -> Fault {
    const OF_THE_FILE: &[&str] =
        &["transcoding failed", "not supported", "appear to contain audio", "no spoken audio", "too short", "corrupt"];
    let said = message.to_lowercase();
    let is_of_the_file = OF_THE_FILE.iter().any(|words| said.contains(words));
    Fault { status: Some(if is_of_the_file { 422 } else { 502 }), message: message.to_owned(), ..Fault::default() }
}

/// Uploaded, then ordered, then asked for until it is there.
fn follow_assemblyai(work: &Transcription, raw: &Raw, asked: &Asked<'_>) -> Result<Option<Again>, Fault> {
    let value: Value = crate::json::from_bytes(&raw.bytes).ok_or_else(malformed)?;
    if value.get("status").and_then(Value::as_str) == Some("error") {
        return Err(refused(value.get("error").and_then(Value::as_str).unwrap_or_default()));
    }
    if let Some(fault) = crate::family::fault::from_value(&value) {
        return Err(fault);
    }
    if let Some(url) = value.get("upload_url").and_then(Value::as_str) {
        let mut body = json!({"audio_url": url, "speech_model": asked.upstream});
        if let Some(body) = body.as_object_mut() {
            match work.field("language") {
                Some(language) => drop(body.insert("language_code".to_owned(), language.into())),
                None => drop(body.insert("language_detection".to_owned(), true.into())),
            }
            if work.wants_speakers() {
                body.insert("speaker_labels".to_owned(), true.into());
            }
            let words = work.list("keywords");
            if !words.is_empty() {
                body.insert("keyterms_prompt".to_owned(), json!(words));
            }
        }
        return Ok(Some(Again { after_ms: 0, call: Written::json("/transcript", body) }));
    }
    match value.get("status").and_then(Value::as_str) {
        Some("queued" | "processing") => {
            let id = value.get("id").and_then(Value::as_str).ok_or_else(malformed)?;
            Ok(Some(Again { after_ms: POLL_MS, call: Written::get(format!("/transcript/{}", encoded(id))) }))
        }
        Some("completed") => Ok(None),
        _ => Err(malformed()),
    }
}

fn read_assemblyai(work: &Transcription, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let value = json_of(&raws.first().ok_or_else(malformed)?.bytes)?;
    let seconds = |one: &Value, name: &str| one.get(name).and_then(Value::as_f64).map(|ms| ms / 1000.0);
    let word = |one: &Value| json!({"word": one.get("text"), "start": seconds(one, "start"), "end": seconds(one, "end"), "confidence": one.get("confidence")});
    let list = |name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let segment = |(id, one): (usize, &Value)| json!({"id": id, "start": seconds(one, "start"), "end": seconds(one, "end"), "text": one.get("text"), "speaker": one.get("speaker")});
    let heard = Heard {
        text: value.get("text").and_then(Value::as_str).ok_or_else(malformed)?.to_owned(),
        language: value.get("language_code").and_then(Value::as_str).map(str::to_owned),
        confidence: value.get("confidence").and_then(Value::as_f64),
        segments: list("utterances").iter().enumerate().map(segment).collect(),
        words: list("words").iter().map(word).collect(),
        ..Heard::default()
    };
    let duration = value.get("audio_duration").and_then(Value::as_f64);
    Ok(answer(work, heard.lasting(duration), reading))
}

#[cfg(test)]
mod tests;
