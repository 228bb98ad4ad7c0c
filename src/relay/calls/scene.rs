//! Answers with tool calls, generated; and JSON compared by value.

use std::fmt;

use proptest::prelude::*;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A tool call as somebody says or reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub id: String,
    pub name: String,
    pub arguments: String,
    /// Whether the arguments are free text.
    pub is_custom: bool,
}

/// An answer of a model, and how its provider chops it.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Text before the calls.
    pub before: String,
    /// Text among them.
    pub aside: String,
    pub calls: Vec<Call>,
    /// Characters of each piece of arguments, again and again.
    pub pieces: Vec<usize>,
    /// Whose turn it is where calls run side by side, again and again.
    pub turns: Vec<usize>,
    /// Whether each call comes in one piece.
    pub is_joined: bool,
    /// Whether the provider escapes everything that is not ASCII.
    pub is_ascii: bool,
}

/// What a provider says next.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    Start(usize),
    More(usize, &'a str),
    End(usize),
    Aside,
}

impl Scene {
    fn steps_of(&self, at: usize) -> Vec<Step<'_>> {
        let mut steps = vec![Step::Start(at)];
        let mut rest = self.calls[at].arguments.as_str();
        let mut sizes = self.pieces.iter().cycle();
        while !rest.is_empty() {
            let size = if self.is_joined { rest.len() } else { *sizes.next().unwrap() };
            let end = rest.char_indices().nth(size).map_or(rest.len(), |(end, _)| end);
            let (piece, after) = rest.split_at(end);
            steps.push(Step::More(at, piece));
            rest = after;
        }
        steps.push(Step::End(at));
        steps
    }

    /// One call after the other.
    pub fn in_order(&self) -> Vec<Step<'_>> {
        let mut steps = self.steps_of(0);
        if !self.aside.is_empty() {
            steps.push(Step::Aside);
        }
        (1..self.calls.len()).for_each(|at| steps.extend(self.steps_of(at)));
        steps
    }

    /// Calls begin in order and go on side by side.
    pub fn side_by_side(&self) -> Vec<Step<'_>> {
        let mut queues: Vec<std::collections::VecDeque<Step<'_>>> =
            (0..self.calls.len()).map(|at| self.steps_of(at).into()).collect();
        let total: usize = queues.iter().map(|queue| queue.len()).sum();
        let (mut steps, mut begun) = (Vec::new(), 0);
        for turn in self.turns.iter().cycle() {
            if steps.len() == total {
                break;
            }
            let open: Vec<usize> = (0..queues.len().min(begun + 1)).filter(|at| !queues[*at].is_empty()).collect();
            let at = open[turn % open.len()];
            begun = begun.max(at + 1);
            steps.extend(queues[at].pop_front());
        }
        if !self.aside.is_empty() {
            steps.insert(total / 2, Step::Aside);
        }
        steps
    }
}

/// A string of JSON, as this or that printer writes it.
pub fn quoted(text: &str, is_ascii: bool) -> String {
    if !is_ascii {
        return serde_json::to_string(text).unwrap();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            ' '..='~' => out.push(c),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}"))),
        }
    }
    out + "\""
}

/// A value, and whether its strings are escaped.
#[derive(Debug, Clone)]
enum Json {
    Word(String),
    Text(String, bool),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn print(&self, gap: &str, out: &mut String) {
        let mut all = |open: char, close: char, count: usize, one: &mut dyn FnMut(usize, &mut String)| {
            out.push(open);
            for at in 0..count {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(gap);
                one(at, out);
            }
            if count > 0 {
                out.push_str(gap);
            }
            out.push(close);
        };
        match self {
            Json::List(list) => all('[', ']', list.len(), &mut |at, out| list[at].print(gap, out)),
            Json::Object(members) => all('{', '}', members.len(), &mut |at, out| {
                let (name, value) = &members[at];
                out.push_str(&quoted(name, false));
                out.push(':');
                out.push_str(gap);
                value.print(gap, out);
            }),
            Json::Word(word) => out.push_str(word),
            Json::Text(text, is_ascii) => out.push_str(&quoted(text, *is_ascii)),
        }
    }
}

fn text(most: usize) -> impl Strategy<Value = String> {
    let odd =
        prop::sample::select(vec!['"', '\\', '/', '\n', '\t', '\r', '\u{0}', '\u{2028}', 'é', '漢', '🦀', '{', ']']);
    let c = prop_oneof![3 => prop::char::range(' ', '~'), 2 => odd, 1 => any::<char>()];
    prop::collection::vec(c, 0..most).prop_map(|chars| chars.into_iter().collect())
}

fn json() -> impl Strategy<Value = Json> {
    let odd = [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-0.0",
        "1.50",
        "1e400",
        "-1E-400",
        "1e+2",
        "12345678901234567890",
        "-98765432109876543210",
        "0.1000000000000000055511151231257827",
        "9007199254740993",
    ];
    let leaf = prop_oneof![
        3 => prop::sample::select(odd.to_vec()).prop_map(|word| Json::Word(word.to_owned())),
        1 => any::<i64>().prop_map(|number| Json::Word(number.to_string())),
        4 => (text(12), any::<bool>()).prop_map(|(text, is_ascii)| Json::Text(text, is_ascii)),
        1 => Just(Json::Object(Vec::new())),
        1 => Just(Json::List(Vec::new())),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::List),
            prop::collection::vec((text(6), inner), 0..4).prop_map(Json::Object),
        ]
    })
}

fn arguments() -> impl Strategy<Value = String> {
    let members = prop::collection::vec((text(8), json()), 0..4);
    (members, prop::sample::select(vec!["", " ", "\n\t", "\r\n  "])).prop_map(|(members, gap)| {
        let mut out = String::new();
        Json::Object(members).print(gap, &mut out);
        out
    })
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let arguments = prop_oneof![
        5 => arguments().prop_map(|text| (text, false)),
        1 => text(20).prop_map(|text| (text, true)),
    ];
    let call = ("[a-zA-Z0-9_.:-]{0,20}", "[a-zA-Z_][a-zA-Z0-9_.-]{0,20}", arguments);
    prop::collection::vec(call, 1..5).prop_map(|calls| {
        // One free text makes all free text: few pairs have them, and the others want a share of the cases.
        let has_custom = calls.iter().filter(|(.., (_, is_custom))| *is_custom).count() * 2 > calls.len();
        let call = |(at, (id, name, (arguments, is_custom))): (usize, (String, String, (String, bool)))| {
            let is_text = is_custom && !has_custom;
            Call {
                id: format!("{at}{id}"),
                // Tools of two kinds have two names.
                name: format!("{name}{at}"),
                arguments: if is_text { "{}".to_owned() } else { arguments },
                is_custom: is_custom && has_custom,
            }
        };
        calls.into_iter().enumerate().map(call).collect()
    })
}

pub fn scene() -> impl Strategy<Value = Scene> {
    let sizes = prop::collection::vec(1usize..30, 1..4);
    let turns = prop::collection::vec(0usize..12, 1..8);
    (text(8), text(4), calls(), sizes, turns, any::<bool>(), any::<bool>()).prop_map(
        |(before, aside, calls, pieces, turns, is_joined, is_ascii)| Scene {
            before,
            aside,
            calls,
            pieces,
            turns,
            is_joined,
            is_ascii,
        },
    )
}

/// JSON by value, with numbers as they are written and members in their order.
#[derive(Debug, PartialEq, Eq)]
pub enum Value {
    Word(String),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
}

struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = map.next_entry()? {
                    all.push(member);
                }
                Ok(Members(all))
            }
        }
        deserializer.deserialize_map(All)
    }
}

pub fn value(json: &str) -> Value {
    let json = json.trim();
    match json.as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
            Value::Object(members.into_iter().map(|(name, inner)| (name, value(inner.get()))).collect())
        }
        Some(b'[') => {
            let list: Vec<Box<RawValue>> = serde_json::from_str(json).unwrap();
            Value::List(list.iter().map(|inner| value(inner.get())).collect())
        }
        Some(b'"') => Value::Text(serde_json::from_str(json).unwrap()),
        _ => Value::Word(json.to_owned()),
    }
}
