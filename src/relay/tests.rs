use super::*;
use crate::error::Code;
use crate::text::terms::Terms;
use crate::usage::Meter;

const ROLE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n";
const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grüße 🦀\"}}]}\n\n";
const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n";
const END: &str = "data: [DONE]\n\n";

fn no_price(_: &Usage, _: &Terms, _: Ending) -> Option<String> {
    None
}

fn price(_: &Usage, _: &Terms, ending: Ending) -> Option<String> {
    Some(format!("\"cost\":{}", if ending == Ending::Empty { "0" } else { "1.5" }))
}

/// Runs a stream in the given chunks; what the client gets, and how it ended.
fn run(chunks: &[&[u8]], view: UsageView, stop: Stop) -> (String, End) {
    let mut relay = Relay::new(Vec::new(), view);
    let mut out = Vec::new();
    chunks.iter().for_each(|chunk| relay.push(chunk, Some(&mut out), &price));
    let end = relay.finish(stop, false, "gen_1", &mut out, &price);
    (String::from_utf8(out).unwrap(), end)
}

fn whole(parts: &[&str], view: UsageView, stop: Stop) -> (String, End) {
    run(&[parts.concat().as_bytes()], view, stop)
}

#[test]
fn a_stream_that_needs_nothing_passes_byte_for_byte() {
    let parts = [": hi\r\n", ROLE, TEXT, FINISH, USAGE, END];
    let (out, end) = whole(&parts, UsageView::Shown, Stop::Eof);
    assert_eq!(out, parts.concat());
    assert_eq!(end.ending, Ending::Finished);
    assert_eq!(end.seen.usage, Some(Usage::default().with(Meter::InputTokens, 3).with(Meter::OutputTokens, 2)));
}

#[test]
fn the_usage_chunk_is_for_who_asked() {
    let (out, end) = whole(&[ROLE, TEXT, FINISH, USAGE, END], UsageView::Hidden, Stop::Eof);
    assert_eq!(out, [ROLE, TEXT, FINISH, END].concat());
    assert!(end.seen.usage.is_some());
    let (out, _) = whole(&[TEXT, FINISH, USAGE, END], UsageView::Priced, Stop::Eof);
    assert!(out.contains(r#""usage":{"prompt_tokens":3,"completion_tokens":2,"cost":1.5}}"#), "{out}");
}

#[test]
fn what_costs_nothing_is_not_priced() {
    const REFUSED: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"content_filter\"}]}\n\n";
    for (parts, cost, ending) in [
        (vec![ROLE, REFUSED, USAGE, END], "0", Ending::Empty),
        (vec![ROLE, USAGE, END], "0", Ending::Empty),
        (vec![ROLE, TEXT, REFUSED, USAGE, END], "1.5", Ending::Finished),
        (vec![ROLE, FINISH, USAGE, END], "1.5", Ending::Finished),
    ] {
        let (out, end) = whole(&parts, UsageView::Priced, Stop::Eof);
        assert_eq!(end.ending, ending, "{parts:?}");
        assert!(out.contains(&format!("\"completion_tokens\":2,\"cost\":{cost}}}")), "{out}");
    }
}

#[test]
fn a_forgotten_end_mark_is_written() {
    let (out, end) = whole(&[TEXT, FINISH], UsageView::Shown, Stop::Eof);
    assert_eq!(out, [TEXT, FINISH, END].concat());
    assert_eq!(end.ending, Ending::Finished);
}

#[test]
fn a_last_event_without_a_blank_line_counts() {
    let (out, end) = whole(&[TEXT, FINISH, "data: [DONE]"], UsageView::Shown, Stop::Eof);
    assert_eq!(out, [TEXT, FINISH, END].concat());
    assert_eq!(end.ending, Ending::Finished);
}

#[test]
fn a_cut_stream_ends_with_one_error_event_and_never_with_a_normal_finish() {
    for (parts, stop, code) in [
        (vec![ROLE, TEXT], Stop::Eof, Code::ProviderError),
        (vec![ROLE, TEXT], Stop::Broken, Code::ProviderError),
        (vec![ROLE, TEXT], Stop::Idle, Code::ProviderTimeout),
        (vec![ROLE, TEXT, END], Stop::Eof, Code::ProviderError),
        (
            vec![TEXT, "data: {\"error\":{\"message\":\"secret\",\"type\":\"overloaded_error\"}}\n\n", TEXT],
            Stop::Eof,
            Code::ProviderUnavailable,
        ),
        (vec![TEXT, "data: {\"choi"], Stop::Broken, Code::ProviderError),
    ] {
        let (out, end) = whole(&parts, UsageView::Shown, stop);
        assert_eq!(end.ending, Ending::UpstreamFailed, "{parts:?}");
        assert!(out.contains(&format!("data: {{\"error\":{{\"code\":\"{}\"", code.name())), "{out}");
        assert_eq!(out.matches("\"error\"").count(), 1);
        assert!(!out.contains("[DONE]") && !out.contains("secret"), "{out}");
    }
}

#[test]
fn the_client_leaving_is_its_own_ending() {
    assert_eq!(whole(&[ROLE, TEXT, "data: {\"choi"], UsageView::Shown, Stop::Left).1.ending, Ending::ClientLeft);
    assert_eq!(whole(&[ROLE, TEXT], UsageView::Shown, Stop::Left).1.ending, Ending::ClientLeft);
    assert_eq!(whole(&[TEXT, FINISH, USAGE, END], UsageView::Shown, Stop::Left).1.ending, Ending::Finished);
}

#[test]
fn nothing_at_all_is_empty_and_a_refusal_before_text_costs_nothing() {
    assert_eq!(whole(&[ROLE, END], UsageView::Shown, Stop::Eof).1.ending, Ending::Empty);
    let refused = FINISH.replace("stop", "content_filter");
    assert_eq!(whole(&[ROLE, &refused, END], UsageView::Shown, Stop::Eof).1.ending, Ending::Empty);
    assert_eq!(whole(&[ROLE, FINISH, USAGE, END], UsageView::Shown, Stop::Eof).1.ending, Ending::Finished);
}

#[test]
fn native_use_sees_the_same_and_writes_only_the_rest() {
    for (parts, stop, rest, ending) in [
        (vec![TEXT, FINISH, USAGE, END], Stop::Eof, "", Ending::Finished),
        (vec![TEXT, FINISH], Stop::Eof, END, Ending::Finished),
        (vec![TEXT, FINISH, "data: [DONE]"], Stop::Eof, "\n\n", Ending::Finished),
    ] {
        let mut relay = Relay::new(Vec::new(), UsageView::Shown);
        relay.push(parts.concat().as_bytes(), None, &no_price);
        let mut out = Vec::new();
        let end = relay.finish(stop, true, "gen_1", &mut out, &no_price);
        assert_eq!((std::str::from_utf8(&out).unwrap(), end.ending), (rest, ending), "{parts:?}");
    }
    let mut relay = Relay::new(Vec::new(), UsageView::Shown);
    relay.push(TEXT.as_bytes(), None, &no_price);
    let mut out = Vec::new();
    relay.finish(Stop::Broken, true, "gen_1", &mut out, &no_price);
    assert!(String::from_utf8(out).unwrap().starts_with("data: {\"error\""));
}

#[test]
fn an_error_that_no_sdk_takes_for_one_gets_ours_behind_it() {
    for (error, is_plain) in [
        (r#"{"error":{"message":"m"}}"#, true),
        (r#"{"error":"m"}"#, true),
        (r#"{"object":"error","message":"m","code":5}"#, false),
        (r#"{"detail":"m"}"#, false),
        (r#"{"errors":[{"message":"m"}]}"#, false),
        (r#"{"choices":[{"delta":{}}],"x_groq":{"error":"m"}}"#, false),
        (r#"{"choices":[{"delta":{},"finish_reason":"insufficient_system_resource"}]}"#, false),
        ("{\"choices\":[{\"del", false),
    ] {
        let mut relay = Relay::new(Vec::new(), UsageView::Shown);
        relay.push(format!("{TEXT}data: {error}\n\n").as_bytes(), None, &no_price);
        let mut out = Vec::new();
        let end = relay.finish(Stop::Eof, true, "gen_1", &mut out, &no_price);
        assert_eq!((out.is_empty(), end.ending), (is_plain, Ending::UpstreamFailed), "{error}");
    }
    let parts = [TEXT, &TEXT.replace("\"choices\"", "\"error\":\"\",\"choices\""), FINISH, END];
    assert_eq!(whole(&parts, UsageView::Shown, Stop::Eof).1.ending, Ending::Finished, "an empty error is none");
}

#[test]
fn the_same_at_every_byte_border_and_every_truncation() {
    let text = [": c\n\n", ROLE, TEXT, &FINISH.replace('\n', "\r\n"), USAGE, END].concat();
    let expected = whole(&[&text], UsageView::Hidden, Stop::Eof);
    for cut in 0..text.len() {
        let (a, b) = text.as_bytes().split_at(cut);
        assert_eq!(run(&[a, b], UsageView::Hidden, Stop::Eof), expected, "cut at {cut}");
        let (out, end) = run(&[a], UsageView::Hidden, Stop::Broken);
        assert!(end.ending != Ending::Finished || a.len() >= text.find("[DONE]").unwrap(), "truncated at {cut}: {out}");
    }
    let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert_eq!(run(&bytes, UsageView::Hidden, Stop::Eof), expected);
}

#[test]
fn what_is_noted_is_what_the_client_gets_however_the_bytes_move() {
    let stream = [": hi\n\n", ROLE, TEXT, FINISH, USAGE, END].concat();
    let (first, rest) = stream.as_bytes().split_at(20);
    for view in [UsageView::Shown, UsageView::Hidden, UsageView::Priced] {
        let mut relay = Relay::new(Vec::new(), view);
        let is_native = relay.can_be_native();
        let mut out = Vec::new();
        relay.push(first, Some(&mut out), &price);
        // In native use even an unfinished frame has gone out.
        let begin = if is_native { first } else { &out };
        relay.record(Excerpt::of(begin, 10_000));
        let mut got = begin.to_vec();
        for chunk in rest.chunks(7) {
            let mut out = Vec::new();
            relay.push(chunk, (!is_native).then_some(&mut out), &price);
            got.extend_from_slice(if is_native { chunk } else { &out });
        }
        let mut record = relay.take_record().unwrap();
        let mut out = Vec::new();
        relay.finish(Stop::Eof, is_native, "gen_1", &mut out, &price);
        record.push(&out);
        got.extend_from_slice(&out);
        assert_eq!(record, Excerpt::of(&got, 10_000), "{view:?}");
        assert!(got.ends_with(END.as_bytes()), "{view:?}");
    }
}

#[test]
fn calls_of_a_host_without_numbers_get_them_on_their_way() {
    let call = |id: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"id\":\"{id}\",\"function\":{{\"name\":\"f\",\"arguments\":\"{{}}\"}}}}]}}}}]}}\n\n"
        )
    };
    let stream = [ROLE, &call("a"), &call("b"), FINISH, USAGE, END].concat();
    let mut relay = Relay::new(vec![Quirk::UnnumberedCalls], UsageView::Shown);
    assert!(!relay.can_be_native());
    let mut out = Vec::new();
    stream.as_bytes().chunks(7).for_each(|chunk| relay.push(chunk, Some(&mut out), &no_price));
    relay.finish(Stop::Eof, false, "gen_1", &mut out, &no_price);
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains(r#""index":0}"#) && out.contains(r#""index":1}"#), "{out}");
    assert!(out.starts_with(ROLE) && out.ends_with(&[FINISH, USAGE, END].concat()));
    let plain = Relay::new(Vec::new(), UsageView::Shown);
    assert!(plain.can_be_native());
}
