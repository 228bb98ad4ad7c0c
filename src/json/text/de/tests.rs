use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use serde::de::IgnoredAny;

use super::{from_str, place};

/// Both read it alike, or refuse it in the same words.
fn check<'a, T: Deserialize<'a> + Debug>(text: &'a str) {
    // The library's float is now and then not the nearest to a number of many digits.
    let numbers = text.split(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E')));
    let is_long = numbers.into_iter().any(|number| number.len() > 15 && number.parse::<u64>().is_err());
    let (ours, theirs) = match (from_str::<T>(text), serde_json::from_str::<T>(text)) {
        (Ok(ours), Ok(theirs)) => {
            return assert!(
                is_long || format!("{ours:?}") == format!("{theirs:?}"),
                "{text:?}: {ours:?}, serde_json: {theirs:?}"
            );
        }
        (Err(ours), Err(theirs)) => (ours, without_position(&theirs)),
        (ours, theirs) => panic!("{text:?}: {ours:?}, serde_json: {theirs:?}"),
    };
    // Of a text that is no JSON, either the syntax may be told or the type. A name that is no number is told in one way,
    // not five.
    let is_broken = serde_json::from_str::<IgnoredAny>(text).is_err();
    let is_number = [ours.message(), &theirs].iter().any(|said| said.ends_with("key to be a number in quotes"));
    assert!(is_broken || is_number || is_long || ours.message() == theirs, "{text:?}: {ours}, serde_json: {theirs}");
}

fn without_position(error: &serde_json::Error) -> String {
    let said = error.to_string();
    said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said).to_owned()
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Clone, Copy, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
enum Word {
    Red,
    DarkGreen,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Clone)]
enum Shape {
    Point,
    Circle(f64),
    Line(i64, i64),
    Square {
        side: u8,
        #[serde(default)]
        fill: Option<Word>,
    },
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Clone)]
#[serde(rename_all = "snake_case")]
enum Open {
    Known,
    #[serde(other)]
    Other,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Clone)]
#[serde(untagged)]
enum Either {
    Number(i32),
    Text(String),
    Words(Vec<Word>),
    Object { a: u8 },
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Clone)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Tagged {
    Add { nanos: i64 },
    Stop,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Clone)]
struct Id(String);

#[derive(Debug, Serialize, Deserialize, PartialEq, Clone, Default)]
struct Small {
    #[serde(default)]
    a: u8,
    b: Option<i16>,
    #[serde(skip)]
    hidden: u8,
    #[serde(default)]
    c: Vec<f64>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Clone)]
#[serde(deny_unknown_fields)]
struct Strict {
    a: u64,
    #[serde(default)]
    small: Option<Small>,
    #[serde(rename = "kind", default)]
    shape: Option<Shape>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Clone)]
struct Flat {
    a: u8,
    #[serde(flatten)]
    small: Rest,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Clone)]
struct Rest {
    b: Option<String>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Borrowed<'a> {
    #[serde(borrow)]
    a: Cow<'a, str>,
    #[serde(borrow, default)]
    b: Option<&'a RawValue>,
    #[serde(default)]
    c: Option<Box<RawValue>>,
    #[serde(default)]
    d: IgnoredAny,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Clone)]
struct Whole {
    id: Id,
    strict: Option<Strict>,
    shapes: Vec<Shape>,
    either: Vec<Either>,
    tagged: Vec<Tagged>,
    open: Vec<Open>,
    by_word: BTreeMap<Word, u32>,
    by_number: BTreeMap<i32, bool>,
    pair: (u8, Option<String>),
    unit: (),
    letter: char,
    twice: Option<Option<u8>>,
    flat: Flat,
    small: f32,
}

/// Every kind of type there is.
fn check_all(text: &str) {
    check::<Value>(text);
    check::<Map<String, Value>>(text);
    check::<&RawValue>(text);
    check::<Box<RawValue>>(text);
    check::<Vec<Box<RawValue>>>(text);
    check::<HashMap<Id, Value>>(text.get(..0).unwrap_or_default());
    check::<Option<u8>>(text);
    check::<Vec<Option<bool>>>(text);
    check::<BTreeMap<Word, Value>>(text);
    check::<BTreeMap<u8, Value>>(text);
    check::<(i64, f64)>(text);
    check::<[u16; 2]>(text);
    check::<String>(text);
    check::<Vec<Cow<'_, str>>>(text);
    check::<Word>(text);
    check::<Open>(text);
    check::<Either>(text);
    check::<Vec<Tagged>>(text);
    check::<()>(text);
    check::<IgnoredAny>(text);
    // A struct that is a list is refused here alone.
    if !(text.contains('[') && text.contains("Square")) {
        check::<Vec<Shape>>(text);
        check::<Shape>(text);
    }
    if !text.contains('[') {
        check::<Strict>(text);
        check::<Small>(text);
        check::<BTreeMap<String, Shape>>(text);
        check::<Flat>(text);
        check::<Borrowed<'_>>(text);
        check::<Whole>(text);
    }
}

impl std::hash::Hash for Id {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Eq for Id {}

#[test]
fn odd_texts_are_read_as_the_library_does() {
    let deep = |open: &str, middle: &str, close: &str, times: usize| {
        format!("{}{middle}{}", open.repeat(times), close.repeat(times))
    };
    let mut texts: Vec<String> = [127, 128, 129, 500]
        .into_iter()
        .flat_map(|times| [deep("[", "", "]", times), deep("{\"a\":", "1", "}", times), deep("[", "", "", times)])
        .collect();
    texts.extend(
        [
            "",
            " ",
            "\u{feff}{}",
            "{}",
            " { } ",
            "[]",
            "[ ]",
            "[1,]",
            "[,1]",
            "{,}",
            "[1 2]",
            "[1]]",
            "{} x",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "{\"a\" 1}",
            "{\"a\":1 \"b\":2}",
            "nul",
            "nulll",
            "null",
            "true",
            "tru",
            "falsey",
            "false",
            "[true,false,null]",
            "0",
            "-0",
            "-",
            "00",
            "01",
            "1.",
            ".5",
            "1.5",
            "1e5",
            "1E+5",
            "1e",
            "1e+",
            "1e400",
            "-1e400",
            "1e-400",
            "0e999",
            "+1",
            "255",
            "256",
            "-1",
            "-128",
            "65536",
            "4294967296",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775808",
            "-9223372036854775809",
            "123456789012345678901234567890",
            "[1,2]",
            "[1,2,3]",
            "[1]",
            "[1,2.5]",
            "[-0, -0.0]",
            "[1,2",
            "[65536,1]",
            r#""a""#,
            r#""a"#,
            r#"""#,
            r#""\n\t\r\b\f\/\\\"""#,
            r#""\x""#,
            r#""\"#,
            r#""\u00e9é""#,
            r#""\u12""#,
            r#""\u12g4""#,
            r#""\ud83d\ude00""#,
            r#""\ud83d""#,
            r#""\ud83dx""#,
            r#""\ud83d\n""#,
            r#""\ud83d\u0041""#,
            r#""\ude00""#,
            r#""\ud83d\ud83d""#,
            r#""\ud83d\u12""#,
            "\"\u{1}\"",
            "\"a\nb\"",
            "\"\u{7f}\"",
            r#""red""#,
            r#""dark_green""#,
            r#""blue""#,
            r#""Point""#,
            r#""Circle""#,
            r#""Line""#,
            r#""Square""#,
            r#""\u0050oint""#,
            r#"{"Point":null}"#,
            r#"{"Point":1}"#,
            r#"{"Circle":1}"#,
            r#"{"Circle":1.5}"#,
            r#"{"Circle":1,"x":2}"#,
            r#"{"Circle":}"#,
            r#"{"Circle"}"#,
            r#"{"Line":[1,-2]}"#,
            r#"{"Line":[1]}"#,
            r#"{"Line":[1,2,3]}"#,
            r#"{"Line":{}}"#,
            r#"{"Square":{"side":3}}"#,
            r#"{"Square":{"side":3,"fill":"red"}}"#,
            r#"{"Square":{"side":300}}"#,
            r#"{"Square":{}}"#,
            r#"{"Square":7}"#,
            r#"{"Oval":1}"#,
            r#"{"other":1}"#,
            r#""known""#,
            r#""what""#,
            r#"{"a":1,"small":{"b":-3},"kind":"Point"}"#,
            r#"{"a":1,"small":null}"#,
            r#"{"small":{}}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"x":2}"#,
            r#"{"x":[1,{"y":"\ud800"}],"a":1}"#,
            r#"{"\u0061":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":1.0}"#,
            r#"{"a":-1}"#,
            r#"{"a":1,"kind":{"Circle":"x"}}"#,
            r#"{"a":1,"kind":5}"#,
            r#"{"a":1,"kind":null}"#,
            r#"{"a":1,"small":{"b":"x"}}"#,
            r#"{"a":1,"small":{"a":256}}"#,
            r#"{"hidden":5}"#,
            r#"{"a":3,"b":"x","c":{"d":[1]}}"#,
            r#"{"a":3,"b":null}"#,
            r#"{"a":3,"b":4}"#,
            r#"{"a":"x\n","b":{"c" : 1e999},"c":[1 , 2],"d":{}}"#,
            r#"{"a":"x","b":null}"#,
            r#"{"a":"x","b":nul}"#,
            r#"{"a":"x","b": 5 }"#,
            r#"{"red":1,"dark_green":2}"#,
            r#"{"red":1,"red":2}"#,
            r#"{"blue":1}"#,
            r#"{"1":2,"255":3}"#,
            r#"{"256":1}"#,
            r#"{"-1":1}"#,
            r#"{"$serde_json::private::RawValue":"[1]"}"#,
            r#"[{"type":"stop"},{"nanos":-5,"type":"add"}]"#,
            r#"[{"type":"go"}]"#,
            r#"[{"nanos":1}]"#,
            r#"[{"type":"add","nanos":"x"}]"#,
            r#"["red",5,["red"],{"a":1},{"a":-1}]"#,
        ]
        .map(str::to_owned),
    );
    for text in &texts {
        check_all(text);
        check_all(&format!("{{\"a\":1,\"kind\":{text}}}"));
        check_all(&format!(" {{ \"a\" : {text} , \"small\" : {{ }} }} "));
        check_all(&format!("[{text}]"));
        check_all(&format!("{{\"Circle\":{text}}}"));
        check_all(&format!("{{{text}:1}}"));
    }
}

#[test]
fn a_struct_is_an_object() {
    let error = from_str::<Vec<Small>>("[[1,2,[]]]").unwrap_err();
    assert_eq!((error.message(), error.at()), ("invalid type: sequence, expected struct Small", 1));
}

#[test]
fn what_has_no_escapes_is_not_copied() {
    let text = r#"{"a":"plain","b":[1, 2]}"#;
    let read: Borrowed<'_> = from_str(text).unwrap();
    assert!(matches!(read.a, Cow::Borrowed("plain")));
    assert_eq!(read.b.unwrap().get(), "[1, 2]");
    assert!(matches!(from_str::<Borrowed<'_>>(r#"{"a":"\n"}"#).unwrap().a, Cow::Owned(_)));
}

#[test]
fn an_error_says_where() {
    for (text, path) in [
        (r#"{"strict":{"a":"x"}}"#, "strict.a"),
        (r#"{"strict":{"a":1,"small":{"c":[1, 2 , "x"]}}}"#, "strict.small.c[2]"),
        (r#"{"strict":{"small":{}}}"#, "strict"),
        (r#"{"strict":{"a":1,"x":[]}}"#, "strict.x"),
        (r#"{"strict":{"a":1,"kind":{"Square":{"side":256}}}}"#, "strict.kind.Square.side"),
        (r#"{"strict":{"a":1,"kind":"Oval"}}"#, "strict.kind"),
        (r#"{"shapes":["Point",{"Line":[1,"]"]}]}"#, "shapes[1].Line[1]"),
        (r#"{"shapes":["Point" "Point"]}"#, "shapes[0]"),
        (r#"{"either":[1,{"a":"x"}]}"#, "either[1]"),
        (r#"{"by_word":{"red":1,"dark_green":-1}}"#, "by_word.dark_green"),
        (r#"{"pair":[1]}"#, "pair"),
        (r#"{"a\n\"b":1,"id":{}}"#, "id"),
        (r#"{"unit":{"a":1}, "id":1}"#, "unit"),
        (r#"{}"#, ""),
        (r#"7"#, ""),
    ] {
        let error = from_str::<Whole>(text).unwrap_err();
        assert_eq!(place::write("", &place::of(text, error.at())), path, "{text}: {error}");
    }
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        (0..70_000i64).prop_map(|n| (n - 300).to_string()),
        // The library rounds longer ones now and then to the float beside the nearest.
        (-999_999i64..999_999, 0..4usize).prop_map(|(n, digits)| format!("{:.digits$}", n as f64 / 1000.0)),
        (1..99i64, -20..20i32).prop_map(|(n, e)| format!("{n}e{e}")),
    ]
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap().trim_matches('"').to_owned()),
        r"\\u[0-9a-f]{4}",
        r"\\ud83[0-9a-f]\\ude[0-9a-f]{2}",
        "[a-z]{0,9}",
        Just(r"\n".to_owned()),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn name() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "a",
        "b",
        "c",
        "d",
        "small",
        "kind",
        "side",
        "fill",
        "type",
        "nanos",
        "id",
        "strict",
        "shapes",
        "either",
        "tagged",
        "open",
        "by_word",
        "by_number",
        "pair",
        "unit",
        "letter",
        "twice",
        "flat",
        "red",
        "dark_green",
        "Point",
        "Circle",
        "Line",
        "Square",
        "add",
        "stop",
        "1",
        "-7",
    ];
    prop_oneof![9 => prop::sample::select(NAMES).prop_map(|name| format!("\"{name}\"")), 1 => text()]
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\n\t\r ")]
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        number(),
        text(),
        name(),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let item = (space(), inner.clone(), space()).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        let member = (space(), name(), space(), inner, space())
            .prop_map(|(a, name, b, value, c)| format!("{a}{name}{b}:{value}{c}"));
        prop_oneof![
            prop::collection::vec(item, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

fn whole() -> impl Strategy<Value = Whole> {
    let word = || prop_oneof![Just(Word::Red), Just(Word::DarkGreen)];
    let float = || (-1_000_000i32..1_000_000).prop_map(|n| f64::from(n) / 64.0);
    let small = (any::<u8>(), any::<Option<i16>>(), prop::collection::vec(float(), 0..3)).prop_map(|(a, b, c)| Small {
        a,
        b,
        hidden: 0,
        c,
    });
    let shape = move || {
        prop_oneof![
            Just(Shape::Point),
            float().prop_map(Shape::Circle),
            any::<(i64, i64)>().prop_map(|(a, b)| Shape::Line(a, b)),
            (any::<u8>(), prop::option::of(word())).prop_map(|(side, fill)| Shape::Square { side, fill }),
        ]
    };
    let strict = (any::<u64>(), prop::option::of(small), prop::option::of(shape()))
        .prop_map(|(a, small, shape)| Strict { a, small, shape });
    let either = prop_oneof![
        any::<i32>().prop_map(Either::Number),
        any::<String>().prop_map(Either::Text),
        prop::collection::vec(word(), 0..3).prop_map(Either::Words),
        any::<u8>().prop_map(|a| Either::Object { a }),
    ];
    let lists = (
        prop::collection::vec(shape(), 0..4),
        prop::collection::vec(either, 0..4),
        prop::collection::vec(any::<i64>().prop_map(|nanos| Tagged::Add { nanos }), 0..2),
        prop::collection::btree_map(word(), any::<u32>(), 0..2),
        prop::collection::btree_map(any::<i32>(), any::<bool>(), 0..3),
    );
    let flat = (any::<u8>(), any::<Option<String>>(), any::<i32>()).prop_map(|(a, b, other)| Flat {
        a,
        small: Rest { b },
        others: [("other".to_owned(), other.into())].into(),
    });
    (any::<String>(), prop::option::of(strict), lists, any::<(u8, Option<String>, char)>(), flat).prop_map(
        |(id, strict, (shapes, either, tagged, by_word, by_number), (number, text, letter), flat)| Whole {
            id: Id(id),
            strict,
            shapes,
            either,
            tagged,
            open: vec![Open::Known],
            by_word,
            by_number,
            pair: (number, text),
            unit: (),
            letter,
            twice: Some(Some(number)),
            flat,
            small: f32::from(number) / 4.0,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_read_as_the_library_does(text in json()) {
        check_all(&text);
    }

    #[test]
    fn so_is_a_broken_one(text in json(), at in any::<prop::sample::Index>(), length in 0..3usize, with in "[\\[\\]{},:\"0-9a-z\\\\ ]{0,2}") {
        let at = (0..=at.index(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let end = (at.saturating_add(length)..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
        check_all(&format!("{}{with}{}", &text[..at], &text[end..]));
        check_all(&text[..at]);
    }

    #[test]
    fn what_was_written_is_read(whole in whole(), at in any::<prop::sample::Index>()) {
        for written in [serde_json::to_string(&whole).unwrap(), serde_json::to_string_pretty(&whole).unwrap()] {
            prop_assert_eq!(from_str::<Whole>(&written).unwrap(), whole.clone());
            let at = (0..=at.index(written.len())).rev().find(|at| written.is_char_boundary(*at)).unwrap_or(0);
            check::<Whole>(&written[..at]);
        }
    }

    #[test]
    fn floats_are_the_nearest(float in any::<f64>()) {
        prop_assume!(float.is_finite());
        prop_assert_eq!(from_str::<f64>(&serde_json::to_string(&float).unwrap()).unwrap().to_bits(), float.to_bits());
    }
}
