//! Speech at each family of hosts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Speech;
use super::sound::{bytes_of_events, content_type, events, from_hex, rate_of, told, wav};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::family::target::cannot;
use crate::media::meter::Told;
use crate::media::shape::{
    Answered, Asked, Delivery, Fates, Raw, Reading, Shape, Written, at_once, fates, json_of, malformed, withheld,
};
use crate::usage::Meter;

/// What the writers take from the typed form.
pub const CORE: &[&str] = &["input"];

/// The hosts.
pub const TABLE: &[&Shape<Speech>] = &[
    &Shape {
        families: &["openai-chat", "openai-responses", "azure-openai"],
        fates: fates! {
            "voice" Kept, "response_format" Kept, "speed" Kept, "instructions" Kept, "stream_format" Kept,
            "sample_rate" Dropped,
        },
        passes: true,
        write: openai,
        follow: at_once,
        read: read_bytes,
    },
    &Shape {
        families: &["groq-speech"],
        fates: fates! {
            "voice" Kept, "response_format" => "mp3, ogg, flac, wav", "speed" Kept, "instructions" Dropped,
            "stream_format" => "audio only", "sample_rate" Kept,
        },
        passes: false,
        write: groq,
        follow: at_once,
        read: read_bytes,
    },
    &Shape {
        families: &["mistral"],
        fates: fates! {
            "voice" => "voice_id", "response_format" => "mp3, opus, flac, wav, pcm", "speed" Dropped,
            "instructions" Dropped, "stream_format" => "audio and sse", "sample_rate" Dropped,
        },
        passes: false,
        write: mistral,
        follow: at_once,
        read: read_json,
    },
    &Shape {
        families: &["elevenlabs"],
        fates: fates! {
            "voice" => "in the path", "response_format" => "output_format",
            "speed" => "voice_settings.speed, 0.7 to 1.2", "instructions" Dropped, "stream_format" => "audio only",
            "sample_rate" => "output_format",
        },
        passes: false,
        write: elevenlabs,
        follow: at_once,
        read: read_bytes,
    },
    &Shape {
        families: &["deepgram"],
        fates: fates! {
            "voice" => "in the model", "response_format" => "encoding and container", "speed" => "0.7 to 1.5",
            "instructions" Dropped, "stream_format" => "audio only", "sample_rate" => "wav and pcm",
        },
        passes: false,
        write: deepgram,
        follow: at_once,
        read: read_bytes,
    },
    &Shape {
        families: &["minimax-speech"],
        fates: fates! {
            "voice" => "voice_setting.voice_id", "response_format" => "audio_setting.format",
            "speed" => "voice_setting.speed, 0.5 to 2", "instructions" Dropped, "stream_format" => "audio only",
            "sample_rate" => "audio_setting.sample_rate",
        },
        passes: false,
        write: minimax,
        follow: at_once,
        read: read_minimax,
    },
    &Shape {
        families: &["gemini"],
        fates: GOOGLE,
        passes: false,
        write: |work, asked| google(work, asked, ""),
        follow: at_once,
        read: read_google,
    },
    &Shape {
        families: &["vertex-gemini"],
        fates: GOOGLE,
        passes: false,
        write: |work, asked| google(work, asked, "/publishers/google"),
        follow: at_once,
        read: read_google,
    },
    &Shape {
        families: &["cartesia"],
        fates: fates! {
            "voice" => "voice.id", "response_format" => "output_format: mp3, wav, pcm",
            "speed" => "generation_config.speed, 0.6 to 1.5", "instructions" Dropped,
            "stream_format" => "audio only", "sample_rate" => "output_format.sample_rate", "language" Kept,
        },
        passes: false,
        write: cartesia,
        follow: at_once,
        read: read_bytes,
    },
];

const GOOGLE: Fates = fates! {
    "voice" => "prebuiltVoiceConfig.voiceName", "response_format" => "wav, pcm", "speed" Refused,
    "instructions" => "before the text", "stream_format" => "audio only", "sample_rate" Dropped,
};

/// OpenAI's voices by sound: which one of another host is nearest. Rows: ours, ElevenLabs, Gemini, Deepgram, MiniMax.
const VOICES: &[(&str, [&str; 4])] = &[
    ("alloy", ["EXAVITQu4vr4xnSDxMaL", "Kore", "asteria", "Calm_Woman"]),
    ("ash", ["iP95p4xoKVk53GoZ742B", "Puck", "arcas", "Casual_Guy"]),
    ("ballad", ["onwK4e9ZLuTAKqWW03F9", "Enceladus", "apollo", "Elegant_Man"]),
    ("coral", ["cgSgspJ2msm6clMCkdW9", "Aoede", "aurora", "Lively_Girl"]),
    ("echo", ["nPczCjzI2devNBz1zQrb", "Charon", "orpheus", "Determined_Man"]),
    ("fable", ["JBFqnCBsd6RMkjVDRZzb", "Fenrir", "draco", "Imposing_Manner"]),
    ("nova", ["XrExE9yKIg1WjnnlVkGX", "Leda", "andromeda", "Friendly_Person"]),
    ("onyx", ["pqHfZKP75CvOlQylNhV4", "Orus", "zeus", "Deep_Voice_Man"]),
    ("sage", ["Xb7hH8MSUJpSbSDYk0k2", "Sulafat", "athena", "Wise_Woman"]),
    ("shimmer", ["pFZP5JQG7iQjIQuC4Bku", "Zephyr", "luna", "Sweet_Girl_2"]),
    ("verse", ["TX3LPaxmHKxFdv7VOQHJ", "Achird", "orion", "Patient_Man"]),
    ("marin", ["EXAVITQu4vr4xnSDxMaL", "Achernar", "thalia", "Inspirational_girl"]),
    ("cedar", ["nPczCjzI2devNBz1zQrb", "Algieba", "atlas", "Decent_Boy"]),
];

/// A host's voice for the client's, by its column in [`VOICES`]; checked against those that the catalog knows.
fn voice(work: &Speech, asked: &Asked<'_>, column: Option<usize>) -> Result<String, Failure> {
    let known = |name: &str| asked.voices.iter().find(|voice| voice.eq_ignore_ascii_case(name));
    if let Some(voice) = known(&work.voice) {
        return Ok(voice.clone());
    }
    let nearest = VOICES.iter().find(|(ours, _)| *ours == work.voice).map(|(_, theirs)| theirs);
    let mapped = nearest.zip(column).and_then(|(theirs, column)| theirs.get(column)).copied().unwrap_or(&work.voice);
    match asked.voices.is_empty() || known(mapped).is_some() {
        true => Ok(mapped.to_owned()),
        false => {
            let ours = VOICES.iter().map(|(ours, _)| *ours).filter(|_| column.is_some());
            let list: Vec<&str> = asked.voices.iter().map(String::as_str).chain(ours).collect();
            Err(Failure::invalid("voice", format!("must be one of {}", list.join(", "))))
        }
    }
}

/// The row of the client's format in a host's table, or a failure that lists the host's own.
fn format<T: Copy>(work: &Speech, table: &[(&'static str, T)]) -> Result<(&'static str, T), Failure> {
    let wanted = work.format.as_deref().or(table.first().map(|(name, _)| *name)).unwrap_or_default();
    table.iter().find(|(name, _)| *name == wanted).copied().ok_or_else(|| {
        let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        Failure::invalid("response_format", format!("must be one of {}", names.join(", ")))
    })
}

fn no_events(work: &Speech) -> Result<(), Failure> {
    if work.wants_events { Err(cannot("stream_format", "speech as events")) } else { Ok(()) }
}

fn rate(work: &Speech, usual: u64) -> u64 {
    work.sample_rate.unwrap_or(usual)
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn openai(work: &Speech, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    let mut body = work.common.passed(asked.upstream, &["sample_rate", "stream_format"]);
    // A voice of the account's own, `{id}`, is in no list.
    if body.get("voice").is_some_and(Value::is_string) {
        body.insert("voice".to_owned(), voice(work, asked, None)?.into());
    }
    // Only the events say how many tokens it was.
    if work.wants_events || asked.is_by_tokens {
        body.insert("stream_format".to_owned(), "sse".into());
    }
    let written = Written::json("/audio/speech", Value::Object(body));
    let own = content_type(work.format.as_deref().unwrap_or("mp3"));
    Ok(vec![match (work.wants_events, asked.is_by_tokens) {
        (true, _) => written.delivered(Delivery::Events(events), "text/event-stream"),
        (false, true) => written.delivered(Delivery::Events(bytes_of_events), own),
        (false, false) => written.delivered(Delivery::Bytes, own),
    }])
}

fn groq(work: &Speech, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    no_events(work)?;
    let (format, theirs) = format(work, &[("mp3", "mp3"), ("opus", "ogg"), ("flac", "flac"), ("wav", "wav")])?;
    let voice = voice(work, asked, None)?;
    let mut body = json!({"model": asked.upstream, "input": work.text, "voice": voice, "response_format": theirs});
    put(&mut body, "speed", work.speed);
    put(&mut body, "sample_rate", work.sample_rate);
    Ok(vec![Written::json("/audio/speech", body).delivered(Delivery::Bytes, content_type(format))])
}

fn mistral(work: &Speech, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    let formats = ["mp3", "opus", "flac", "wav", "pcm"].map(|name| (name, ()));
    let (format, ()) = format(work, &formats)?;
    let voice = voice(work, asked, None)?;
    let body = json!({"model": asked.upstream, "input": work.text, "voice_id": voice, "response_format": format, "stream": true});
    let written = Written::json("/audio/speech", body);
    Ok(vec![match work.wants_events {
        true => written.delivered(Delivery::Events(events), "text/event-stream"),
        false => written.delivered(Delivery::Events(bytes_of_events), content_type(format)),
    }])
}

fn elevenlabs(work: &Speech, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    no_events(work)?;
    let (format, theirs) =
        format(work, &[("mp3", "mp3_44100_128"), ("opus", "opus_48000_128"), ("wav", "wav"), ("pcm", "pcm")])?;
    let theirs = match theirs {
        "wav" => format!("wav_{}", rate(work, 44_100)),
        "pcm" => format!("pcm_{}", rate(work, 24_000)),
        other => other.to_owned(),
    };
    let voice = encoded(&voice(work, asked, Some(0))?);
    let mut body = json!({"text": work.text, "model_id": asked.upstream});
    put(&mut body, "voice_settings", work.speed.map(|speed| json!({"speed": speed.clamp(0.7, 1.2)})));
    let path = format!("/text-to-speech/{voice}/stream?output_format={theirs}");
    Ok(vec![Written::json(path, body).delivered(Delivery::Bytes, content_type(format))])
}

/// Longest text of one call at Deepgram, in characters.
const DEEPGRAM_CHARACTERS_MAX: u64 = 2_000;

fn deepgram(work: &Speech, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    no_events(work)?;
    if work.characters() > DEEPGRAM_CHARACTERS_MAX {
        return Err(cannot("input", "a text of more than 2000 characters"));
    }
    let (format, query) = format(
        work,
        &[
            ("mp3", "encoding=mp3"),
            ("opus", "encoding=opus&container=ogg"),
            ("aac", "encoding=aac"),
            ("flac", "encoding=flac"),
            ("wav", "encoding=linear16&container=wav"),
            ("pcm", "encoding=linear16&container=none"),
        ],
    )?;
    let voice = voice(work, asked, Some(2))?;
    // The voice is a part of the model's name, and may name a model of the same family by itself.
    let model = match (voice.contains('-'), asked.upstream.matches('-').count()) {
        (true, _) => voice,
        (false, 1) => format!("{}-{}-en", asked.upstream, voice.to_ascii_lowercase()),
        (false, _) => asked.upstream.to_owned(),
    };
    let mut path = format!("/speak?model={}&{query}", encoded(&model));
    if format == "pcm" || (format == "wav" && work.sample_rate.is_some()) {
        path.push_str(&format!("&sample_rate={}", rate(work, 24_000)));
    }
    if let Some(speed) = work.speed {
        path.push_str(&format!("&speed={}", speed.clamp(0.7, 1.5)));
    }
    Ok(vec![Written::json(path, json!({"text": work.text})).delivered(Delivery::Bytes, content_type(format))])
}

fn minimax(work: &Speech, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    no_events(work)?;
    let (format, ()) = format(work, &[("mp3", ()), ("wav", ()), ("pcm", ()), ("flac", ())])?;
    let voice = voice(work, asked, Some(3))?;
    let mut setting = json!({"voice_id": voice});
    put(&mut setting, "speed", work.speed.map(|speed| speed.clamp(0.5, 2.0)));
    let body = json!({
        "model": asked.upstream, "text": work.text, "stream": false, "output_format": "hex", "voice_setting": setting,
        "audio_setting": {"format": format, "sample_rate": rate(work, 32_000), "channel": 1},
    });
    Ok(vec![Written::json("/t2a_v2", body)])
}

fn google(work: &Speech, asked: &Asked<'_>, stem: &str) -> Result<Vec<Written>, Failure> {
    no_events(work)?;
    format(work, &[("wav", ()), ("pcm", ())])?;
    let voice = voice(work, asked, Some(1))?;
    let text = match work.common.text("instructions")? {
        Some(how) if !how.is_empty() => format!("{how}:\n{}", work.text),
        _ => work.text.clone(),
    };
    let body = json!({
        "contents": [{"role": "user", "parts": [{"text": text}]}],
        "generationConfig": {"responseModalities": ["AUDIO"],
            "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": voice}}}},
    });
    Ok(vec![Written::json(format!("{stem}/models/{}:generateContent", asked.upstream), body)])
}

fn cartesia(work: &Speech, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    no_events(work)?;
    let (format, container) = format(work, &[("mp3", "mp3"), ("wav", "wav"), ("pcm", "raw")])?;
    let voice = voice(work, asked, None)?;
    let output = match container {
        "mp3" => json!({"container": "mp3", "sample_rate": rate(work, 44_100), "bit_rate": 128_000}),
        other => {
            json!({"container": other, "encoding": "pcm_s16le", "sample_rate": rate(work, if other == "raw" { 24_000 } else { 44_100 })})
        }
    };
    let mut body = json!({
        "model_id": asked.upstream, "transcript": work.text, "voice": {"mode": "id", "id": voice}, "output_format": output,
    });
    put(&mut body, "language", work.common.text("language")?);
    put(&mut body, "generation_config", work.speed.map(|speed| json!({"speed": speed.clamp(0.6, 1.5)})));
    Ok(vec![Written::json("/tts/bytes", body).delivered(Delivery::Bytes, content_type(format))])
}

fn put(body: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let (Some(value), Some(body)) = (value, body.as_object_mut()) {
        body.insert(name.to_owned(), value.into());
    }
}

/// Of bytes that came whole, or came although events were asked for.
fn read_bytes(work: &Speech, raws: Vec<Raw>, _: &Reading<'_>) -> Result<Answered, Fault> {
    let raw = raws.into_iter().next().ok_or_else(malformed)?;
    let is_page = raw.content_type.starts_with("text/") || raw.content_type.contains("xml");
    if raw.content_type.contains("json") || is_page || raw.bytes.is_empty() {
        let fault = crate::family::fault::parse(&raw.bytes);
        return Err(Fault { message: format!("malformed {}", fault.message), ..fault });
    }
    let counted = raw.count("dg-char-count").or_else(|| raw.count("x-amzn-requestcharacters"));
    let told = Told::default().with(Meter::InputCharacters, counted);
    let own = content_type(work.format.as_deref().unwrap_or("mp3"));
    let stated = Some(raw.content_type).filter(|kind| kind.starts_with("audio/"));
    Ok(Answered {
        content_type: stated.unwrap_or_else(|| own.to_owned()),
        body: raw.bytes,
        told,
        ..Answered::default()
    })
}

/// `{audio_data: base64}`.
fn read_json(work: &Speech, raws: Vec<Raw>, _: &Reading<'_>) -> Result<Answered, Fault> {
    let value = json_of(&raws.first().ok_or_else(malformed)?.bytes)?;
    let text = value.get("audio_data").or_else(|| value.get("audio")).and_then(Value::as_str).ok_or_else(malformed)?;
    let body = STANDARD.decode(text).map_err(|_| malformed())?;
    let content_type = content_type(work.format.as_deref().unwrap_or("mp3")).to_owned();
    Ok(Answered { content_type, body, told: told(value.get("usage")), ..Answered::default() })
}

fn read_minimax(work: &Speech, raws: Vec<Raw>, _: &Reading<'_>) -> Result<Answered, Fault> {
    let value = json_of(&raws.first().ok_or_else(malformed)?.bytes)?;
    let body = value.pointer("/data/audio").and_then(Value::as_str).and_then(from_hex);
    let body = body.filter(|body| !body.is_empty()).ok_or_else(malformed)?;
    let characters = value.pointer("/extra_info/usage_characters").and_then(Value::as_u64);
    let content_type = content_type(work.format.as_deref().unwrap_or("mp3")).to_owned();
    Ok(Answered {
        content_type,
        body,
        told: Told::default().with(Meter::InputCharacters, characters),
        ..Answered::default()
    })
}

/// Reasons by which Google says that it will not make it.
const WITHHELD: &[&str] = &["SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION"];

fn read_google(work: &Speech, raws: Vec<Raw>, _: &Reading<'_>) -> Result<Answered, Fault> {
    let value = json_of(&raws.first().ok_or_else(malformed)?.bytes)?;
    let finish = value.pointer("/candidates/0/finishReason").and_then(Value::as_str).unwrap_or_default();
    if value.pointer("/promptFeedback/blockReason").is_some() || WITHHELD.contains(&finish) {
        return Err(withheld());
    }
    let parts = value.pointer("/candidates/0/content/parts").and_then(Value::as_array).ok_or_else(malformed)?;
    let sound: Vec<&Map<String, Value>> = parts.iter().filter_map(|part| part.get("inlineData")?.as_object()).collect();
    let mut samples = Vec::new();
    let mut rate = rate_of("");
    for one in sound {
        rate = rate_of(one.get("mimeType").and_then(Value::as_str).unwrap_or_default());
        let text = one.get("data").and_then(Value::as_str).ok_or_else(malformed)?;
        samples.extend(STANDARD.decode(text).map_err(|_| malformed())?);
    }
    if samples.is_empty() {
        return Err(malformed());
    }
    let of = |name: &str| value.pointer(name).and_then(Value::as_u64);
    let told = Told::default()
        .with(Meter::InputTokens, of("/usageMetadata/promptTokenCount"))
        .with(Meter::OutputAudioTokens, of("/usageMetadata/candidatesTokenCount"));
    let (content_type, body) = match work.format.as_deref() {
        Some("pcm") => ("audio/pcm", samples),
        _ => ("audio/wav", wav(&samples, rate)),
    };
    Ok(Answered { content_type: content_type.to_owned(), body, told, ..Answered::default() })
}

#[cfg(test)]
mod tests;
