use super::*;
use crate::dialect::chat::{GATEWAY_FIELDS, parse};

fn body(text: &str, quirks: &[Quirk], limit: Option<u64>) -> String {
    let parsed = parse(text.as_bytes().to_vec()).unwrap();
    let out = String::from_utf8(request(&parsed, "up", quirks, GATEWAY_FIELDS, limit).0).unwrap();
    serde_json::from_str::<Value>(&out).unwrap_or_else(|e| panic!("{out}: {e}"));
    out
}

#[test]
fn a_plain_request_changes_in_its_model_alone() {
    let text = r#"{ "messages": [ {"role":"user","content":"hi \u00fc"} ],  "model":"a/b", "new_field": {"x": 1.50} }"#;
    assert_eq!(body(text, &[], None), text.replace("a/b", "up"));
}

#[test]
fn gateway_fields_stay_here() {
    let text = r#"{"model":"m","provider":{"order":["x"]},"messages":[{"role":"user","content":"x"}],"models":["n"],"session_id":"s"}"#;
    assert_eq!(body(text, &[], None), r#"{"model":"up","messages":[{"role":"user","content":"x"}]}"#);
    let text = r#"{"models":["n"],"messages":[{"role":"user","content":"x"}]}"#;
    assert_eq!(body(text, &[], None), r#"{"messages":[{"role":"user","content":"x"}],"model":"up"}"#);
}

#[test]
fn usage_is_always_asked_for() {
    let with = |options: &str| {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"stream":true{options}}}"#)
    };
    for (options, expected) in [
        ("", r#","stream_options":{"include_usage":true}"#),
        (r#","stream_options":{"include_usage":true}"#, r#","stream_options":{"include_usage":true}"#),
        (r#","stream_options":{"include_usage":false,"x":1}"#, r#","stream_options":{"include_usage":true,"x":1}"#),
    ] {
        assert_eq!(body(&with(options), &[], None), with(expected).replace("\"m\"", "\"up\""));
    }
    assert_eq!(
        body(&with(r#","stream_options":{}"#), &[Quirk::NoStreamOptions], None),
        with("").replace("\"m\"", "\"up\"")
    );
}

#[test]
fn what_the_client_said_and_the_host_is_not_told_is_named() {
    let dropped = |fields: &str, quirks: &[Quirk]| {
        let text = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{fields}}}"#);
        request(&parse(text.into_bytes()).unwrap(), "up", quirks, GATEWAY_FIELDS, None).1
    };
    let drop = |fields: &[&str]| Quirk::Drop(fields.iter().map(|field| (*field).to_owned()).collect());
    let quirks = [drop(&["seed", "n", "store", "prediction"]), Quirk::NoMessageName];
    for (fields, named) in [
        ("", &[][..]),
        (r#","seed":null,"n":1,"store":true,"prediction":{}"#, &[]),
        (r#","seed":7,"top_p":0.5,"n":2"#, &["seed", "n"]),
        (r#","prediction":{"type":"content","content":"y"}"#, &["prediction"]),
    ] {
        assert_eq!(dropped(fields, &quirks), named, "{fields}");
        assert!(dropped(fields, &[]).is_empty(), "{fields}");
    }
    for (message, quirks, named) in [
        (r#"{"role":"user","name":"Ann","content":"x"}"#, &quirks[..], &["name"][..]),
        (r#"{"role":"user","name":null,"content":"x"}"#, &quirks, &[]),
        (r#"{"role":"tool","tool_call_id":"a","name":"f","content":"x"}"#, &quirks, &[]),
        (r#"{"role":"user","content":"\"name\""}"#, &quirks, &[]),
        (r#"{"role":"user","name":"Ann","content":"x"}"#, &[], &[]),
    ] {
        let text = format!(r#"{{"model":"m","messages":[{message}]}}"#);
        let (body, dropped) = request(&parse(text.into_bytes()).unwrap(), "up", quirks, GATEWAY_FIELDS, None);
        assert_eq!(dropped, named, "{message}");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["messages"][0].get("name").is_some(), quirks.is_empty(), "{message}");
    }
}

#[test]
fn a_limit_replaces_the_clients_or_is_added() {
    for (field, quirks, expected) in [
        ("", vec![], r#""max_completion_tokens":9"#),
        (r#","max_tokens":100"#, vec![], r#""max_tokens":9"#),
        (r#","max_completion_tokens":100"#, vec![], r#""max_completion_tokens":9"#),
        ("", vec![Quirk::Rename("max_completion_tokens".into(), "max_tokens".into())], r#""max_tokens":9"#),
        (
            r#","max_completion_tokens":100"#,
            vec![Quirk::Rename("max_completion_tokens".into(), "max_tokens".into())],
            r#""max_tokens":9"#,
        ),
    ] {
        let out =
            body(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{field}}}"#), &quirks, Some(9));
        assert!(out.contains(expected) && !out.contains("100"), "{out}");
        assert_eq!(out.matches("max_").count(), 1, "{out}");
    }
}

#[test]
fn quirks_change_what_they_name() {
    let text =
        r#"{"model":"m","messages":[{"role":"developer","name":"n","content":"developer"}],"store":true,"seed":1}"#;
    assert_eq!(
        body(
            text,
            &[
                Quirk::DeveloperAsSystem,
                Quirk::Drop(vec!["store".into()]),
                Quirk::Rename("seed".into(), "random_seed".into())
            ],
            None
        ),
        r#"{"model":"up","messages":[{"role":"system","name":"n","content":"developer"}],"random_seed":1}"#
    );
    assert!(!body(text, &[Quirk::NoMessageName], None).contains("\"name\""));
}

#[test]
fn usage_comes_in_disjoint_buckets() {
    use Meter::*;
    for (json, quirks, expected) in [
        (
            r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29}"#,
            vec![],
            vec![(InputTokens, 19), (OutputTokens, 10)],
        ),
        (
            r#"{"prompt_tokens":100,"completion_tokens":50,"prompt_tokens_details":{"cached_tokens":60,"audio_tokens":10,"cache_write_tokens":5},"completion_tokens_details":{"reasoning_tokens":20,"audio_tokens":7}}"#,
            vec![],
            vec![
                (InputTokens, 25),
                (CacheReadTokens, 60),
                (CacheWriteTokens, 5),
                (InputAudioTokens, 10),
                (OutputTokens, 23),
                (ReasoningTokens, 20),
                (OutputAudioTokens, 7),
            ],
        ),
        (
            r#"{"prompt_tokens":10,"completion_tokens":2,"prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":2}"#,
            vec![],
            vec![(InputTokens, 2), (CacheReadTokens, 8), (OutputTokens, 2)],
        ),
        (
            r#"{"prompt_tokens":10,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":30}}"#,
            vec![],
            vec![(InputTokens, 10), (CacheReadTokens, 30), (OutputTokens, 2)],
        ),
        (
            r#"{"prompt_tokens":1,"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":30}}"#,
            vec![Quirk::ReasoningOutsideOutput],
            vec![(InputTokens, 1), (OutputTokens, 2), (ReasoningTokens, 30)],
        ),
        (
            r#"{"prompt_tokens":1,"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":30}}"#,
            vec![Quirk::ReasoningSometimesOutsideOutput],
            vec![(InputTokens, 1), (OutputTokens, 2), (ReasoningTokens, 30)],
        ),
        (
            r#"{"prompt_tokens":1,"completion_tokens":40,"completion_tokens_details":{"reasoning_tokens":30}}"#,
            vec![Quirk::ReasoningSometimesOutsideOutput],
            vec![(InputTokens, 1), (OutputTokens, 10), (ReasoningTokens, 30)],
        ),
        (r#"{"prompt_tokens":7.0,"completion_tokens":0}"#, vec![], vec![(InputTokens, 7)]),
        (r#"{"prompt_tokens":7,"total_tokens":9}"#, vec![], vec![(InputTokens, 7), (OutputTokens, 2)]),
        (r#"{"completion_tokens":2,"total_tokens":9}"#, vec![], vec![(InputTokens, 7), (OutputTokens, 2)]),
    ] {
        assert_eq!(usage(json, &quirks).unwrap().iter().collect::<Vec<_>>(), expected, "{json}");
    }
    // What is not told is not zero: neither a count that is not there, nor one that is none.
    for json in [
        "{}",
        "null",
        r#"{"total_tokens":5}"#,
        r#"{"prompt_tokens":-1}"#,
        r#"{"prompt_tokens":"x"}"#,
        r#"{"prompt_tokens":7}"#,
        r#"{"prompt_tokens":7,"completion_tokens":null}"#,
        r#"{"prompt_tokens":7,"completion_tokens":1e18}"#,
        r#"{"completion_tokens":7}"#,
    ] {
        assert_eq!(usage(json, &[]), None, "{json}");
    }
}

#[test]
fn frames_tell_what_they_hold() {
    let told = |data: &str| frame(data, &[]);
    let role = told(
        r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}"#,
    );
    assert_eq!(role, Told::default());
    assert!(told(r#"{"choices":[{"delta":{"content":"Hel"}}]}"#).has_content);
    assert_eq!(told(r#"{"choices":[{"delta":{"content":"Hel"}}]}"#).output_bytes, 3);
    assert!(told(r#"{"choices":[{"delta":{"content":null,"reasoning_content":"hm"}}]}"#).has_content);
    assert!(told(r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a"}]}}]}"#).has_content);
    assert_eq!(told(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#).finish.as_deref(), Some("stop"));
    let usage = told(r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#);
    assert!(usage.is_usage_only && usage.usage.is_some() && !usage.has_content);
    let with_finish =
        told(r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#);
    assert!(!with_finish.is_usage_only && with_finish.usage.is_some());
    assert!(
        told(r#"{"choices":[{"delta":{}}],"x_groq":{"usage":{"prompt_tokens":1,"completion_tokens":2}}}"#)
            .usage
            .is_some()
    );
    assert!(told(r#"{"choices":[{"delta":{},"usage":{"prompt_tokens":1,"completion_tokens":2}}]}"#).usage.is_some());
    assert!(told("[DONE]").is_done);
    assert_eq!(told("{\"prompt_filter_results\":[],\"choices\":[]}"), Told::default());
}

#[test]
fn errors_inside_a_200_are_seen() {
    for data in [
        r#"{"error":{"message":"m","type":"server_error","code":null}}"#,
        r#"{"choices":[{"delta":{"content":""},"finish_reason":"error"}],"error":{"code":502,"message":"m"}}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"insufficient_system_resource"}]}"#,
        r#"{"x_groq":{"error":"m"}}"#,
        r#"{"code":"x","error":"m"}"#,
        r#"{"detail":"m"}"#,
        "<html>",
    ] {
        assert!(frame(data, &[]).fault.is_some(), "{data}");
        assert!(answer(data.as_bytes(), &[]).is_err(), "{data}");
    }
    let base = br#"{"base_resp":{"status_code":1008,"status_msg":"balance"},"choices":null}"#;
    assert_eq!(answer(base, &[Quirk::BaseResp]).unwrap_err().code, "1008");
    assert!(answer(b"", &[]).is_err() && answer(b"{}", &[]).is_err());
}

#[test]
fn an_answer_shows_where_its_usage_stands() {
    let text = r#"{"id":"x","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}], "usage": {"prompt_tokens":1,"completion_tokens":2} }"#;
    let got = answer(text.as_bytes(), &[]).unwrap();
    assert_eq!(&text[got.usage_span.unwrap()], r#"{"prompt_tokens":1,"completion_tokens":2}"#);
    assert_eq!((got.told.output_bytes, got.told.finish.as_deref()), (2, Some("stop")));
}

#[test]
fn an_unstreamed_answer_becomes_a_stream() {
    let text = br#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","tool_calls":[{"id":"t"}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#;
    let stream = String::from_utf8(as_stream(text).unwrap()).unwrap();
    assert!(stream.contains(r#""delta":{"#) && stream.contains(r#""index":0"#), "{stream}");
    assert!(stream.ends_with("data: [DONE]\n\n"));
    assert_eq!(stream.matches("data: ").count(), 3);
}

#[test]
fn finish_reasons_in_the_dialects_words() {
    for (word, expected) in [
        ("eos", "stop"),
        ("STOP", "stop"),
        ("model_length", "length"),
        ("function_call", "tool_calls"),
        ("sensitive", "content_filter"),
        ("unheard", "stop"),
    ] {
        assert_eq!(finish_reason(word), expected, "{word}");
    }
}

#[test]
fn an_error_beside_half_a_character_is_one() {
    let told = frame(r#"{"choices":[{"delta":{"content":"\ud83d"}}],"error":{"message":"overloaded"}}"#, &[]);
    assert_eq!(told.fault.map(|fault| fault.message).as_deref(), Some("overloaded"));
    let told =
        frame(r#"{"choices":[{"delta":{"content":"\ud83d"}}],"base_resp":{"status_code":0}}"#, &[Quirk::BaseResp]);
    assert_eq!((told.fault, told.has_content), (None, true));
}

#[test]
fn an_answer_tells_how_much_context_its_searches_brought() {
    let text = r#"{"id":"x","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"search_context_size":"high"}}"#;
    let told = answer(text.as_bytes(), &[]).unwrap().told;
    assert_eq!(told.terms.search_context_size.as_deref(), Some("high"));
}

#[test]
fn research_reasons_apart_from_its_answer() {
    use Meter::*;
    let json = r#"{"prompt_tokens":33,"completion_tokens":7163,"total_tokens":7196,"citation_tokens":20016,"num_search_queries":18,"reasoning_tokens":73997}"#;
    let usage = usage(json, &[Quirk::ReasoningOutsideOutput]).unwrap();
    let counts = [InputTokens, OutputTokens, ReasoningTokens, CitationTokens, WebSearches].map(|m| usage.quantity(m));
    assert_eq!(counts, [33, 7163, 73997, 20016, 18]);
}
