use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

fn is_json(text: &str) -> bool {
    value_end(text.as_bytes(), 0).is_some_and(|end| space_end(text.as_bytes(), end) == text.len())
}

#[test]
fn the_syntax_is_that_of_the_library() {
    let escapes = [r#""\u00fc\n\"\\\/\b\f\r\t""#, r#""\ud800""#, r#""\u12g4""#, r#""\x""#, r#""\"#, r#""\u123""#];
    let numbers = ["0", "-0", "01", "-", "1.", ".5", "1.5e+3", "1e", "1E-", "-1.0E9", "1e999", "+1", "1 2"];
    let shapes = ["", " ", "{}", "[ ]", "[1,]", "[,1]", "{\"a\":1,}", "{\"a\" : [ { } , null ] }", "{a:1}", "{\"a\"}"];
    let rest = [
        "[1}",
        "{\"a\":1]",
        "]",
        "[",
        "{\"a\":",
        "nul",
        "truefalse",
        "[true false]",
        "\"a",
        "\"\u{1}\"",
        "\"ü\u{7f}\"",
    ];
    for text in escapes.iter().chain(&numbers).chain(&shapes).chain(&rest) {
        assert_eq!(is_json(text), serde_json::from_str::<IgnoredAny>(text).is_ok(), "{text:?}");
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(is_json(&deep) && !is_json(deep.get(1..).unwrap()));
}

#[test]
fn every_place_in_a_word_is_seen() {
    for before in 0..24 {
        for byte in [b'"', b'\\', 0, 0x1f, b'\n'] {
            let mut bytes = "aü\u{7f} ~!#".repeat(5).into_bytes();
            bytes.insert(before, byte);
            assert_eq!(special(&bytes, 0), Some(before), "{before} {byte}");
            assert_eq!(special(&bytes, before.saturating_add(1)), None);
        }
    }
}

#[test]
fn the_objects_of_a_list_are_found_on_the_way() {
    let text = r#" {"a":[1], "list" : [ {"x": "}\"]", "y":{}} , {} ],"b":[{}] } "#;
    let (found, entries) = members(text.as_bytes(), "list").unwrap();
    let of = |(_, name, value): &Place| (text.get(name.clone()).unwrap(), text.get(value.clone()).unwrap());
    let entries: Vec<Vec<_>> = entries.unwrap().iter().map(|entry| entry.iter().map(of).collect()).collect();
    assert_eq!(entries, [vec![("x", r#""}\"]""#), ("y", "{}")], vec![]]);
    assert_eq!(found.iter().map(of).map(|(name, _)| name).collect::<Vec<_>>(), ["a", "list", "b"]);
    for (odd, is_object) in
        [(r#"{"list":[1]}"#, true), (r#"{"list":[]}"#, true), (r#"{"list":[{]}"#, false), ("[]", false)]
    {
        assert_eq!(members(odd.as_bytes(), "list").map(|(_, entries)| entries), is_object.then_some(None), "{odd}");
    }
}

fn json() -> impl Strategy<Value = String> {
    let text = prop::collection::vec(
        prop::sample::select(vec!["a", "ü", "\\n", "\\u00e4", "\\\"", " ", "]", "{", ",", "a long run of plain text"]),
        0..6,
    );
    let leaf = prop_oneof![
        text.prop_map(|parts| format!("\"{}\"", parts.concat())),
        prop::sample::select(vec!["1", "-2.5e3", "true", "null", "[]", "{ }"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|list| format!("[ {} ]", list.join(" ,"))),
            prop::collection::vec(inner, 0..4).prop_map(|list| {
                let members = list.iter().enumerate().map(|(at, value)| format!("\"k{at}\" : {value}"));
                format!("{{{}}}", members.collect::<Vec<_>>().join(",\n"))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_json_passes_and_what_was_spoilt_is_seen_as_the_library_sees_it(
        text in json(), at in 0usize..200, with in prop::sample::select(vec!["", "\"", "\\", "}", "]", ",", ":", "0", "\u{2}", "e"]),
    ) {
        prop_assert!(is_json(&text), "{text}");
        let mut spoilt: Vec<char> = text.chars().collect();
        let at = at % spoilt.len().max(1);
        spoilt.splice(at..at.saturating_add(1).min(spoilt.len()), with.chars());
        let spoilt: String = spoilt.into_iter().collect();
        prop_assert_eq!(is_json(&spoilt), serde_json::from_str::<IgnoredAny>(&spoilt).is_ok(), "{}", spoilt);
    }
}
