use bytes::Bytes;

use super::*;
use crate::media::shape::{Links, acted_on, find};
use crate::media::transcription::Front;
use crate::usage::Meter;

fn work(front: Front, fields: &[(&str, &str)]) -> Transcription {
    let file = Part {
        filename: Some("a.mp3".into()),
        content_type: Some("audio/mpeg".into()),
        bytes: Bytes::from_static(b"SOUND"),
        ..Part::text("file", "")
    };
    let fields = fields.iter().map(|(name, value)| Part::text(name, value));
    Transcription::parse(front, [Part::text("model", "m"), file].into_iter().chain(fields).collect()).unwrap()
}

fn written(family: &str, upstream: &str, front: Front, fields: &[(&str, &str)]) -> Result<Written, Failure> {
    let links = Links::default();
    let asked = Asked { upstream, batch_max: None, is_by_tokens: false, fetched: &links, voices: &[], id: "r" };
    (find(TABLE, family).unwrap().write)(&work(front, fields), &asked).map(|calls| calls.into_iter().next().unwrap())
}

fn fields(written: &Written) -> Vec<(String, String)> {
    let boundary = multipart::boundary(&written.content_type).unwrap();
    let parts = multipart::parse(&Bytes::from(written.whole_body()), &boundary).unwrap();
    parts.into_iter().map(|part| (part.name, String::from_utf8_lossy(&part.bytes).into_owned())).collect()
}

#[test]
fn each_family_is_asked_in_its_own_words() {
    let ask =
        [("language", "de"), ("temperature", "0.5"), ("keywords[]", "Grüße"), ("timestamp_granularities[]", "word")];
    let sent = |family: &str, upstream: &str| written(family, upstream, Front::Transcriptions, &ask).unwrap();
    let has =
        |written: &Written, name: &str, value: &str| fields(written).contains(&(name.to_owned(), value.to_owned()));
    let openai = sent("openai-chat", "whisper-1");
    assert_eq!(openai.path, "/audio/transcriptions");
    for (name, value) in [
        ("model", "whisper-1"),
        ("language", "de"),
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "word"),
        ("file", "SOUND"),
    ] {
        assert!(has(&openai, name, value), "{name}: {:?}", fields(&openai));
    }
    assert!(has(&sent("openai-chat", "gpt-4o-transcribe"), "response_format", "json"));
    let mistral = sent("mistral", "voxtral");
    assert!(
        has(&mistral, "context_bias", "Grüße")
            && has(&mistral, "language", "de")
            && !has(&mistral, "timestamp_granularities", "word")
    );
    let left_out = |fields: &[(&str, &str)]| {
        let fates = find(TABLE, "mistral").unwrap().fates;
        acted_on(&work(Front::Transcriptions, fields).common, fates, false, CORE).unwrap()
    };
    assert_eq!(left_out(&ask), ["timestamp_granularities"], "what the host does not take beside the language is named");
    assert_eq!(left_out(&ask[1..]), Vec::<String>::new());
    let eleven = sent("elevenlabs", "scribe_v2");
    assert!(
        has(&eleven, "model_id", "scribe_v2")
            && has(&eleven, "language_code", "de")
            && has(&eleven, "keyterms", "Grüße")
    );
    let deepgram = sent("deepgram", "nova-3");
    assert_eq!(deepgram.path, "/listen?model=nova%2D3&smart_format=true&language=de&keyterm=Gr%C3%BC%C3%9Fe");
    assert_eq!((deepgram.content_type.as_str(), deepgram.whole_body().as_slice()), ("audio/mpeg", &b"SOUND"[..]));
    assert_eq!(sent("assemblyai", "best").path, "/upload");
}

#[test]
fn what_a_host_cannot_do_is_refused() {
    for family in ["mistral", "deepgram", "elevenlabs", "assemblyai"] {
        assert!(written(family, "up", Front::Translations, &[]).is_err(), "{family} does not translate");
    }
    assert_eq!(written("openai-chat", "whisper-1", Front::Translations, &[]).unwrap().path, "/audio/translations");
    let times = written("openai-chat", "gpt-4o-transcribe", Front::Transcriptions, &[("response_format", "srt")]);
    assert_eq!(times.err().unwrap().param.as_deref(), Some("response_format"));
    let stream =
        |family: &str, upstream: &str| written(family, upstream, Front::Transcriptions, &[("stream", "true")]).unwrap();
    assert!(matches!(stream("openai-chat", "gpt-4o-transcribe").delivery, Delivery::Events(_)));
    assert!(matches!(stream("mistral", "up").delivery, Delivery::Events(_)));
    assert!(matches!(stream("deepgram", "up").delivery, Delivery::Whole), "one delta, made here");
}

#[test]
fn an_order_is_followed_to_its_end() {
    let links = Links::default();
    let asked = Asked { upstream: "best", batch_max: None, is_by_tokens: false, fetched: &links, voices: &[], id: "r" };
    let one = work(Front::Transcriptions, &[("diarize", "true")]);
    let follow = |answer: Value| {
        follow_assemblyai(&one, &Raw { bytes: answer.to_string().into_bytes(), ..Raw::default() }, &asked)
    };
    let order = follow(json!({"upload_url": "https://cdn.assemblyai.com/u/1"})).unwrap().unwrap().call;
    assert_eq!(order.path, "/transcript");
    assert_eq!(
        serde_json::from_slice::<Value>(&order.whole_body()).unwrap(),
        json!({"audio_url": "https://cdn.assemblyai.com/u/1", "speech_model": "best", "language_detection": true, "speaker_labels": true})
    );
    let poll = follow(json!({"id": "t/1", "status": "queued"})).unwrap().unwrap();
    assert_eq!((poll.call.method, poll.call.path.as_str(), poll.after_ms), ("GET", "/transcript/t%2F1", POLL_MS));
    assert!(follow(json!({"id": "t", "status": "completed", "text": "x"})).unwrap().is_none());
    assert!(follow(json!({"id": "t", "status": "error", "error": "bad file"})).is_err());
}

#[test]
fn what_was_heard_is_read_from_each() {
    let read = |family: &str, answer: Value| {
        let raw =
            Raw { bytes: answer.to_string().into_bytes(), content_type: "application/json".into(), ..Raw::default() };
        let reading = Reading { upstream: "u", model: "org/m", id: "i", created: 0 };
        let one = work(Front::Transcriptions, &[("response_format", "verbose_json")]);
        let answered = (find(TABLE, family).unwrap().read)(&one, vec![raw], &reading).unwrap();
        let body: Value = serde_json::from_slice(&answered.body).unwrap();
        (
            body["text"].as_str().unwrap().to_owned(),
            body["words"][0]["word"].as_str().map(str::to_owned),
            answered.told.get(Meter::InputAudioSeconds),
        )
    };
    let expected = ("Hi there.".to_owned(), Some("Hi".to_owned()), Some(3));
    let deepgram = json!({"metadata": {"duration": 2.4}, "results": {"channels": [{"alternatives": [{"transcript": "Hi there.", "words": [{"word": "hi", "punctuated_word": "Hi", "start": 0, "end": 1}]}]}]}});
    assert_eq!(read("deepgram", deepgram), expected);
    let eleven = json!({"text": "Hi there.", "words": [{"text": "Hi", "type": "word", "start": 0, "end": 1}, {"text": " ", "type": "spacing"}], "audio_duration_secs": 2.4});
    assert_eq!(read("elevenlabs", eleven), expected);
    let assembly = json!({"status": "completed", "text": "Hi there.", "audio_duration": 2.4, "words": [{"text": "Hi", "start": 0, "end": 1000}]});
    assert_eq!(read("assemblyai", assembly), expected);
    let mistral = json!({"text": "Hi there.", "segments": [{"text": "Hi there.", "start": 0, "end": 2.4}], "usage": {"prompt_audio_seconds": 3}});
    assert_eq!(read("mistral", mistral), ("Hi there.".to_owned(), None, Some(3)));
}
