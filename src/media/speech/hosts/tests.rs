use super::*;
use crate::media::shape::{Links, find};

fn written(family: &str, upstream: &str, voices: &[&str], more: Value) -> Result<Written, Failure> {
    let mut body = json!({"model": "m", "input": "Hi", "voice": "alloy"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let work = Speech::parse(body.to_string().as_bytes()).unwrap();
    let links = Links::default();
    let voices: Vec<String> = voices.iter().map(|voice| (*voice).to_owned()).collect();
    let asked = Asked { upstream, batch_max: None, is_by_tokens: false, fetched: &links, voices: &voices, id: "r" };
    (find(TABLE, family).unwrap().write)(&work, &asked).map(|calls| calls.into_iter().next().unwrap())
}

fn body(written: &Written) -> Value {
    serde_json::from_slice(&written.whole_body()).unwrap()
}

#[test]
fn each_family_is_asked_in_its_own_words() {
    let more = json!({"speed": 2, "response_format": "wav"});
    for (family, upstream, path, sent) in [
        (
            "openai-chat",
            "up",
            "/audio/speech",
            json!({"model": "up", "input": "Hi", "voice": "alloy", "speed": 2, "response_format": "wav"}),
        ),
        (
            "groq-speech",
            "up",
            "/audio/speech",
            json!({"model": "up", "input": "Hi", "voice": "alloy", "speed": 2.0, "response_format": "wav"}),
        ),
        (
            "mistral",
            "up",
            "/audio/speech",
            json!({"model": "up", "input": "Hi", "voice_id": "alloy", "response_format": "wav", "stream": true}),
        ),
        (
            "elevenlabs",
            "up",
            "/text-to-speech/EXAVITQu4vr4xnSDxMaL/stream?output_format=wav_44100",
            json!({"text": "Hi", "model_id": "up", "voice_settings": {"speed": 1.2}}),
        ),
        (
            "deepgram",
            "aura-2",
            "/speak?model=aura%2D2%2Dasteria%2Den&encoding=linear16&container=wav&speed=1.5",
            json!({"text": "Hi"}),
        ),
        (
            "minimax-speech",
            "up",
            "/t2a_v2",
            json!({"model": "up", "text": "Hi", "stream": false, "output_format": "hex", "voice_setting": {"voice_id": "Calm_Woman", "speed": 2.0}, "audio_setting": {"format": "wav", "sample_rate": 32000, "channel": 1}}),
        ),
        (
            "cartesia",
            "up",
            "/tts/bytes",
            json!({"model_id": "up", "transcript": "Hi", "voice": {"mode": "id", "id": "alloy"}, "output_format": {"container": "wav", "encoding": "pcm_s16le", "sample_rate": 44100}, "generation_config": {"speed": 1.5}}),
        ),
    ] {
        let written = written(family, upstream, &[], more.clone()).unwrap();
        assert_eq!((written.path.as_str(), body(&written)), (path, sent), "{family}");
    }
    let gemini = written("gemini", "up", &[], json!({"instructions": "Whisper"})).unwrap();
    assert_eq!(gemini.path, "/models/up:generateContent");
    assert_eq!(body(&gemini)["contents"][0]["parts"][0]["text"], "Whisper:\nHi");
    assert_eq!(
        body(&gemini)["generationConfig"]["speechConfig"]["voiceConfig"]["prebuiltVoiceConfig"]["voiceName"],
        "Kore"
    );
}

#[test]
fn an_unknown_voice_or_format_is_answered_with_the_known_ones() {
    let failure = |family: &str, voices: &[&str], more: Value| written(family, "aura-2", voices, more).err().unwrap();
    let voice = failure("openai-chat", &["alloy", "echo"], json!({"voice": "frodo"}));
    assert_eq!((voice.param.as_deref(), voice.message.as_str()), (Some("voice"), "must be one of alloy, echo"));
    let voice = failure("gemini", &["Kore", "Puck"], json!({"voice": "frodo"}));
    assert!(voice.message.starts_with("must be one of Kore, Puck, alloy, ash"), "{}", voice.message);
    assert!(written("gemini", "up", &["Kore"], json!({"voice": "KORE"})).is_ok(), "names are names in any case");
    for (family, format, known) in [
        ("groq-speech", "aac", "mp3, opus, flac, wav"),
        ("elevenlabs", "flac", "mp3, opus, wav, pcm"),
        ("gemini", "mp3", "wav, pcm"),
        ("minimax-speech", "opus", "mp3, wav, pcm, flac"),
        ("cartesia", "flac", "mp3, wav, pcm"),
    ] {
        let failure = failure(family, &[], json!({"response_format": format}));
        assert_eq!(
            (failure.param.as_deref(), failure.message.as_str()),
            (Some("response_format"), format!("must be one of {known}").as_str())
        );
    }
    assert_eq!(failure("deepgram", &[], json!({"stream_format": "sse"})).param.as_deref(), Some("stream_format"));
    assert_eq!(failure("deepgram", &[], json!({"input": "x".repeat(2001)})).param.as_deref(), Some("input"));
}

#[test]
fn sound_in_json_is_taken_out() {
    let read = |family: &str, more: Value, answer: Value| {
        let mut ask = json!({"model": "m", "input": "Hi", "voice": "v"});
        ask.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let work = Speech::parse(ask.to_string().as_bytes()).unwrap();
        let raw =
            Raw { bytes: answer.to_string().into_bytes(), content_type: "application/json".into(), ..Raw::default() };
        let reading = Reading { upstream: "u", model: "org/m", id: "i", created: 0 };
        (find(TABLE, family).unwrap().read)(&work, vec![raw], &reading)
    };
    let hex = json!({"data": {"audio": "0102ff", "status": 2}, "extra_info": {"usage_characters": 2}, "base_resp": {"status_code": 0}});
    let sound = read("minimax-speech", json!({}), hex).unwrap();
    assert_eq!((sound.body, sound.told.get(Meter::InputCharacters)), (vec![1, 2, 255], Some(2)));
    let pcm = json!({"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "audio/L16;codec=pcm;rate=24000", "data": "AQIDBA=="}}]}}], "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 50}});
    let wav = read("gemini", json!({}), pcm.clone()).unwrap();
    assert_eq!((wav.content_type.as_str(), &wav.body[..4], wav.body.len()), ("audio/wav", &b"RIFF"[..], 48));
    assert_eq!((wav.told.get(Meter::InputTokens), wav.told.get(Meter::OutputAudioTokens)), (Some(3), Some(50)));
    assert_eq!(read("gemini", json!({"response_format": "pcm"}), pcm).unwrap().body, [1, 2, 3, 4]);
    let blocked = read("gemini", json!({}), json!({"promptFeedback": {"blockReason": "SAFETY"}})).unwrap_err();
    assert_eq!(blocked.code, "content_policy_violation");
    assert!(read("openai-chat", json!({}), json!({"error": {"message": "m", "code": "c"}})).is_err());
}
