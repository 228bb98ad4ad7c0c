//! The syntax of a JSON text (RFC 8259), checked without making anything of it. Prompts are mostly long strings: these are
//! looked at eight bytes at a time.

use std::ops::Range;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Where, from `at` on, something stands that a string does not simply hold: a quote, a backslash, a control character.
#[inline(always)]
pub fn special(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*word);
        let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
        // In each of the three, the lowest byte that is marked is marked rightly.
        let quote = is_zero(word ^ (ONES.wrapping_mul(0x22)));
        let backslash = is_zero(word ^ (ONES.wrapping_mul(0x5c)));
        let control = word.wrapping_sub(ONES.wrapping_mul(0x20)) & !word;
        let marks = (quote | backslash | control) & HIGHS;
        if marks != 0 {
            return at.checked_add(usize::try_from(marks.trailing_zeros() >> 3).ok()?);
        }
        at = at.wrapping_add(8);
    }
    let rest = bytes.get(at..)?;
    at.checked_add(rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?)
}

/// The index behind the string whose first quote is before `at`.
pub fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = special(bytes, at)?;
        // Escapes stand close to each other in code: each is one look at two bytes.
        at = match bytes.get(at..)? {
            [b'"', ..] => return at.checked_add(1),
            [b'\\', b'n' | b'"' | b'\\' | b'/' | b'b' | b'f' | b'r' | b't', ..] => at.wrapping_add(2),
            [b'\\', b'u', a, b, c, d, ..] => {
                [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit).then_some(())?;
                at.wrapping_add(6)
            }
            _ => return None,
        };
    }
}

fn space_end(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
        at = at.wrapping_add(1);
    }
    at
}

fn digits_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at = at.wrapping_add(1);
    }
    (at > from).then_some(at)
}

/// The index behind the number that begins at `at`.
pub fn number_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    if bytes.get(at) == Some(&b'-') {
        at = at.checked_add(1)?;
    }
    at = match bytes.get(at)? {
        b'0' => at.checked_add(1)?,
        _ => digits_end(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits_end(bytes, at.checked_add(1)?)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at = at.checked_add(1)?;
        if matches!(bytes.get(at), Some(b'+' | b'-')) {
            at = at.checked_add(1)?;
        }
        at = digits_end(bytes, at)?;
    }
    Some(at)
}

/// Where a name stands between its quotes, and the index behind its colon.
fn name(bytes: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    (bytes.get(at) == Some(&b'"')).then_some(())?;
    let begin = at.checked_add(1)?;
    let end = string_end(bytes, begin)?;
    let colon = space_end(bytes, end);
    (bytes.get(colon) == Some(&b':')).then_some(())?;
    Some((begin..end.checked_sub(1)?, colon.checked_add(1)?))
}

/// The index behind the value that begins at `at` or behind the white space there; `None` where there is no JSON value.
/// `bytes` is UTF-8.
pub fn value_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    // What closes the lists and objects that are open: nothing is called again for a deeper one.
    let mut open: Vec<u8> = Vec::new();
    loop {
        at = space_end(bytes, at);
        let literal = |word: &[u8]| bytes.get(at..)?.starts_with(word).then(|| at.wrapping_add(word.len()));
        at = match *bytes.get(at)? {
            b'"' => string_end(bytes, at.checked_add(1)?)?,
            bracket @ (b'{' | b'[') => {
                let closing = if bracket == b'{' { b'}' } else { b']' };
                let next = space_end(bytes, at.checked_add(1)?);
                if bytes.get(next) == Some(&closing) {
                    next.checked_add(1)?
                } else {
                    open.push(closing);
                    at = if closing == b'}' { name(bytes, next)?.1 } else { next };
                    continue;
                }
            }
            b't' => literal(b"true")?,
            b'f' => literal(b"false")?,
            b'n' => literal(b"null")?,
            _ => number_end(bytes, at)?,
        };
        loop {
            let Some(closing) = open.last().copied() else { return Some(at) };
            at = space_end(bytes, at);
            let byte = *bytes.get(at)?;
            at = at.checked_add(1)?;
            if byte == closing {
                open.pop();
                continue;
            }
            (byte == b',').then_some(())?;
            if closing == b'}' {
                at = name(bytes, space_end(bytes, at))?.1;
            }
            break;
        }
    }
}

/// A member of an object by its place: where its name's quote stands, its name between the quotes, its value.
pub type Place = (usize, Range<usize>, Range<usize>);

/// Members of the objects in a list.
pub type Entries = Vec<Vec<Place>>;

/// The members of the object at `at`, and the index behind it. `end_of` finds the end of a member's value.
fn object(
    bytes: &[u8],
    at: usize,
    mut end_of: impl FnMut(&Range<usize>, usize) -> Option<usize>,
) -> Option<(Vec<Place>, usize)> {
    let mut found = Vec::with_capacity(8);
    let mut at = at;
    (bytes.get(at) == Some(&b'{')).then_some(())?;
    at = space_end(bytes, at.checked_add(1)?);
    if bytes.get(at) == Some(&b'}') {
        return Some((found, at.checked_add(1)?));
    }
    loop {
        let (name, after) = name(bytes, at)?;
        let begin = space_end(bytes, after);
        let end = end_of(&name, begin)?;
        found.push((at, name, begin..end));
        at = space_end(bytes, end);
        match bytes.get(at)? {
            b',' => at = space_end(bytes, at.checked_add(1)?),
            b'}' => return Some((found, at.checked_add(1)?)),
            _ => return None,
        }
    }
}

/// The members of each object of the list at `at`, and the index behind it; `None` where something else is in it.
fn objects(bytes: &[u8], at: usize) -> Option<(Entries, usize)> {
    let mut found = Vec::new();
    (bytes.get(at) == Some(&b'[')).then_some(())?;
    let mut at = space_end(bytes, at.checked_add(1)?);
    loop {
        let (members, end) = object(bytes, at, |_, begin| value_end(bytes, begin))?;
        found.push(members);
        at = space_end(bytes, end);
        match bytes.get(at)? {
            b',' => at = space_end(bytes, at.checked_add(1)?),
            b']' => return Some((found, at.checked_add(1)?)),
            _ => return None,
        }
    }
}

/// The members of the object that is the whole text, and those of the objects in its list `listed`, where there is one:
/// a prompt is nearly all of a request, and one look at it is enough. `None` where the text is no object.
pub fn members(bytes: &[u8], listed: &str) -> Option<(Vec<Place>, Option<Entries>)> {
    let mut entries = None;
    let (found, end) = object(bytes, space_end(bytes, 0), |name, begin| {
        if bytes.get(name.clone()) == Some(listed.as_bytes())
            && let Some((list, end)) = objects(bytes, begin)
        {
            entries = Some(list);
            return Some(end);
        }
        value_end(bytes, begin)
    })?;
    (space_end(bytes, end) == bytes.len()).then_some((found, entries))
}

#[cfg(test)]
mod tests {
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
        let shapes =
            ["", " ", "{}", "[ ]", "[1,]", "[,1]", "{\"a\":1,}", "{\"a\" : [ { } , null ] }", "{a:1}", "{\"a\"}"];
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
            prop::sample::select(vec![
                "a",
                "ü",
                "\\n",
                "\\u00e4",
                "\\\"",
                " ",
                "]",
                "{",
                ",",
                "a long run of plain text",
            ]),
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
}
