//! Tools that take free text, over families whose tools take JSON alone: each becomes a function with one string member,
//! and what the model gives that function becomes free text again, piece by piece.

use std::borrow::Cow;

use crate::json::view::Node;
use crate::json::write::Writer;
use crate::text::event::Event;
use crate::text::prompt::{Part, Prompt, Text, ToolKind};

/// The member that holds the text.
const MEMBER: &str = "input";
/// What the function takes.
const SCHEMA: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#;
/// What a warning names where a tool's grammar cannot be enforced.
const GRAMMAR: &str = "tools.format";

/// The names of the tools that take free text.
pub fn names(prompt: &Prompt<'_>) -> Vec<String> {
    let customs = prompt.tools.iter().filter(|tool| tool.kind == ToolKind::Custom);
    customs.map(|tool| tool.name.clone().into_owned()).collect()
}

/// Whether a prompt has such tools, or calls of them.
pub fn is_needed(prompt: &Prompt<'_>) -> bool {
    let is_call = |part: &Part<'_>| matches!(part, Part::Call(call) if call.kind == ToolKind::Custom);
    prompt.tools.iter().any(|tool| tool.kind == ToolKind::Custom)
        || prompt.messages.iter().any(|message| message.parts.iter().any(is_call))
}

/// The same prompt with functions in their place, and what of it is lost: a function enforces no grammar, so that is only
/// described to the model, and a warning says so.
pub fn as_functions<'a>(prompt: &Prompt<'a>) -> (Prompt<'a>, Vec<String>) {
    let mut prompt = prompt.clone();
    let mut lost = Vec::new();
    for tool in prompt.tools.iter_mut().filter(|tool| tool.kind == ToolKind::Custom) {
        if let Some(grammar) = tool.schema.and_then(grammar) {
            let before = tool.description.as_deref().map(|text| format!("{text}\n\n")).unwrap_or_default();
            tool.description = Some(Cow::Owned(format!("{before}{grammar}")));
            lost = vec![GRAMMAR.to_owned()];
        }
        (tool.kind, tool.schema) = (ToolKind::Function, Some(SCHEMA));
    }
    for part in prompt.messages.iter_mut().flat_map(|message| &mut message.parts) {
        if let Part::Call(call) = part
            && call.kind == ToolKind::Custom
        {
            call.kind = ToolKind::Function;
            call.arguments = Cow::Owned(Writer::object().text(MEMBER, &call.arguments).clone().close());
        }
    }
    (prompt, lost)
}

/// A `format` that is a grammar, in words. The two dialects that have it differ in one level of nesting.
fn grammar(format: &str) -> Option<String> {
    let node = Node::of(format);
    let inner = node.get("grammar").unwrap_or(node);
    let definition = inner.text_at("definition")?;
    let syntax = inner.text_at("syntax").unwrap_or(Text::Borrowed("lark"));
    Some(format!("The input must follow this {syntax} grammar:\n{definition}"))
}

/// Turns calls of such functions back, event by event.
#[derive(Debug, Default)]
pub struct Customs {
    names: Vec<String>,
    open: Vec<Open>,
}

/// One call under way.
#[derive(Debug)]
struct Open {
    choice: u32,
    call: u32,
    state: State,
    /// What has come and is not told.
    held: String,
}

/// How far its arguments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the text.
    Head,
    /// In it.
    Text,
    /// Behind it: whatever else the object holds was not asked for.
    Tail,
    /// Of another form: told as a whole at the end.
    Odd,
}

impl Customs {
    /// For an answer to a request with these tools.
    pub fn new(names: Vec<String>) -> Customs {
        Customs { names, open: Vec::new() }
    }

    /// Turns events back where they stand.
    pub fn turn(&mut self, events: &mut Vec<Event>) {
        if self.names.is_empty() {
            return;
        }
        for event in std::mem::take(events) {
            self.one(event, events);
        }
    }

    fn one(&mut self, event: Event, out: &mut Vec<Event>) {
        match event {
            Event::CallStart { choice, call, id, name, kind: ToolKind::Function, signature }
                if self.names.contains(&name) =>
            {
                self.open.push(Open { choice, call, state: State::Head, held: String::new() });
                out.push(Event::CallStart { choice, call, id, name, kind: ToolKind::Custom, signature });
            }
            Event::CallDelta { choice, call, arguments } => match self.at(choice, call) {
                Some(at) => {
                    let text = self.open.get_mut(at).map(|open| open.push(&arguments)).unwrap_or_default();
                    if !text.is_empty() {
                        out.push(Event::CallDelta { choice, call, arguments: text });
                    }
                }
                None => out.push(Event::CallDelta { choice, call, arguments }),
            },
            Event::CallEnd { choice, call } => {
                if let Some(at) = self.at(choice, call) {
                    let text = self.open.swap_remove(at).rest();
                    if !text.is_empty() {
                        out.push(Event::CallDelta { choice, call, arguments: text });
                    }
                }
                out.push(Event::CallEnd { choice, call });
            }
            other => out.push(other),
        }
    }

    fn at(&self, choice: u32, call: u32) -> Option<usize> {
        self.open.iter().position(|open| open.choice == choice && open.call == call)
    }
}

impl Open {
    /// The text that a piece of arguments completes.
    fn push(&mut self, piece: &str) -> String {
        if self.state == State::Tail {
            return String::new();
        }
        self.held.push_str(piece);
        if self.state == State::Head {
            match head(&self.held) {
                Head::Unknown => return String::new(),
                Head::Other => self.state = State::Odd,
                Head::At(end) => {
                    self.held.drain(..end);
                    self.state = State::Text;
                }
            }
        }
        if self.state != State::Text {
            return String::new();
        }
        let (end, is_over) = text_end(self.held.as_bytes());
        let quoted = format!("\"{}\"", self.held.get(..end).unwrap_or_default());
        self.held.drain(..end.min(self.held.len()));
        if is_over {
            self.state = State::Tail;
            self.held.clear();
        }
        Node::of(&quoted).text().map(Cow::into_owned).unwrap_or_default()
    }

    /// What is left to tell when the call ends.
    fn rest(self) -> String {
        match self.state {
            State::Tail => String::new(),
            // Cut inside an escape: there is no letter to tell.
            State::Text => String::new(),
            State::Head | State::Odd => odd(&self.held),
        }
    }
}

/// Arguments that do not begin with the member: it may stand later, or they may be something else altogether.
fn odd(arguments: &str) -> String {
    let Some(node) = Node::parse(arguments).filter(|node| node.is_object()) else { return arguments.to_owned() };
    match node.get(MEMBER) {
        Some(value) => value.text().map_or_else(|| value.raw().to_owned(), Cow::into_owned),
        None if node.members().next().is_none() => String::new(),
        None => arguments.to_owned(),
    }
}

enum Head {
    /// Too little has come.
    Unknown,
    /// The text begins there.
    At(usize),
    /// It is something else.
    Other,
}

/// Reads `{"input":"`, white space wherever it may stand.
fn head(text: &str) -> Head {
    let mut rest = text;
    for token in ["{", "\"input\"", ":", "\""] {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        match rest.strip_prefix(token) {
            Some(after) => rest = after,
            None if token.starts_with(rest) => return Head::Unknown,
            None => return Head::Other,
        }
    }
    Head::At(text.len().saturating_sub(rest.len()))
}

/// How much of a JSON string (behind its first quote) can be read now, and whether its end is there. An escape is read
/// whole, and half of a pair only with the other.
fn text_end(bytes: &[u8]) -> (usize, bool) {
    let mut at = 0usize;
    loop {
        match bytes.get(at) {
            None => return (at, false),
            Some(b'"') => return (at, true),
            Some(b'\\') => {
                let Some(length) = escape(bytes.get(at..).unwrap_or_default()) else { return (at, false) };
                at = at.saturating_add(length);
            }
            Some(_) => at = at.saturating_add(1),
        }
    }
}

/// The bytes of the escape at the beginning; `None` while it is not all there.
fn escape(bytes: &[u8]) -> Option<usize> {
    const UNIT: usize = 6;
    let unit = |bytes: &[u8]| {
        let digits = std::str::from_utf8(bytes.get(2..UNIT)?).ok()?;
        Some(u16::from_str_radix(digits, 16).unwrap_or(0))
    };
    if *bytes.get(1)? != b'u' {
        return Some(2);
    }
    if !(0xD800..0xDC00).contains(&unit(bytes)?) {
        return Some(UNIT);
    }
    let second = bytes.get(UNIT..).unwrap_or_default();
    match second {
        [] | [b'\\'] => None,
        [b'\\', b'u', ..] => unit(second).map(|_| UNIT.saturating_mul(2)),
        _ => Some(UNIT),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(pieces: &[&str]) -> String {
        let mut customs = Customs::new(vec!["f".into()]);
        let mut events = vec![Event::CallStart {
            choice: 0,
            call: 0,
            id: "c".into(),
            name: "f".into(),
            kind: ToolKind::Function,
            signature: None,
        }];
        let delta = |text: &&str| Event::CallDelta { choice: 0, call: 0, arguments: (*text).to_owned() };
        events.extend(pieces.iter().map(delta));
        events.push(Event::CallEnd { choice: 0, call: 0 });
        customs.turn(&mut events);
        assert!(matches!(&events[0], Event::CallStart { kind: ToolKind::Custom, .. }));
        assert_eq!(events.last(), Some(&Event::CallEnd { choice: 0, call: 0 }));
        let text = |event: &Event| match event {
            Event::CallDelta { arguments, .. } => arguments.clone(),
            _ => String::new(),
        };
        events.iter().map(text).collect()
    }

    #[test]
    fn arguments_of_another_form_are_told_as_they_are() {
        for (arguments, text) in [
            (r#"{"input":"a"}"#, "a"),
            (r#" { "input" : "a\nb" , "more": 1 }"#, "a\nb"),
            (r#"{"more":1,"input":"a"}"#, "a"),
            (r#"{"input":{"x":1}}"#, r#"{"x":1}"#),
            ("{}", ""),
            ("", ""),
            (r#"{"text":"a"}"#, r#"{"text":"a"}"#),
            ("SELECT 1", "SELECT 1"),
            (r#"{"input":"cut sh"#, "cut sh"),
        ] {
            assert_eq!(told(&[arguments]), text, "{arguments}");
        }
    }

    #[test]
    fn other_calls_are_left_alone() {
        let mut customs = Customs::new(vec!["g".into()]);
        let all = vec![Event::CallDelta { choice: 0, call: 0, arguments: r#"{"input":"a"}"#.into() }];
        let mut events = all.clone();
        customs.turn(&mut events);
        assert_eq!(events, all);
    }

    proptest! {
        #[test]
        fn any_text_comes_back_however_it_is_cut(text in any::<String>(), is_ascii: bool, sizes in prop::collection::vec(1usize..9, 1..5)) {
            let mut quoted = serde_json::to_string(&text).unwrap();
            if is_ascii {
                let escaped = |c: char| match c.is_ascii() {
                    true => c.to_string(),
                    false => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
                };
                quoted = quoted.chars().map(escaped).collect();
            }
            let arguments: Vec<char> = format!("{{\"input\": {quoted}}}").chars().collect();
            let mut pieces = Vec::new();
            let (mut rest, mut sizes) = (arguments.as_slice(), sizes.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                pieces.push(piece.iter().collect::<String>());
                rest = after;
            }
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(told(&pieces), text);
        }
    }
}
