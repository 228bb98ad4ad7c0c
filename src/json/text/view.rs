//! A JSON value looked at in its own text: nothing is copied, numbers and the order of members stay as they were written.
//!
//! What is only passed on (tool arguments, schemas, numbers) goes out byte for byte through [`Node::raw`]. A node is made
//! of text whose syntax has been checked once, by [`Node::parse`] or as a member of a checked body; the walks below rely
//! on that and find nothing, rather than failing, where it does not hold.

use std::borrow::Cow;

use crate::scan;

/// One JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node<'a>(&'a str);

impl<'a> Node<'a> {
    /// Checks the syntax of the whole text; `None` where it is no JSON value.
    pub fn parse(text: &'a str) -> Option<Node<'a>> {
        let end = scan::value_end(text.as_bytes(), 0)?;
        let is_all = text.get(end..)?.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        is_all.then(|| Node::of(text))
    }

    /// A value whose syntax is known to be right.
    pub fn of(checked: &'a str) -> Node<'a> {
        Node(checked.trim_matches([' ', '\t', '\n', '\r']))
    }

    /// The text of the value.
    pub const fn raw(self) -> &'a str {
        self.0
    }

    fn first(self) -> u8 {
        self.0.as_bytes().first().copied().unwrap_or(0)
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.first() == b'n'
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.first() == b'{'
    }

    /// Whether it is an array.
    pub fn is_array(self) -> bool {
        self.first() == b'['
    }

    /// Whether it is a string.
    pub fn is_string(self) -> bool {
        self.first() == b'"'
    }

    /// Whether it is a number.
    pub fn is_number(self) -> bool {
        self.first() == b'-' || self.first().is_ascii_digit()
    }

    /// The member of that name; `None` where it is absent or null. Of two, the first.
    pub fn get(self, key: &str) -> Option<Node<'a>> {
        self.members().find(|(name, _)| name == key).map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// The value at the end of a path of names.
    pub fn at(self, path: &[&str]) -> Option<Node<'a>> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The members of an object in their order; none for anything else.
    pub fn members(self) -> Members<'a> {
        Members { rest: if self.is_object() { self.0.get(1..).unwrap_or_default() } else { "" } }
    }

    /// The elements of an array; none for anything else.
    pub fn items(self) -> Items<'a> {
        Items { rest: if self.is_array() { self.0.get(1..).unwrap_or_default() } else { "" } }
    }

    /// A string without its escapes. Half of a surrogate pair becomes the replacement character.
    pub fn text(self) -> Option<Cow<'a, str>> {
        unescaped(self.0)
    }

    /// The string at a member.
    pub fn text_at(self, key: &str) -> Option<Cow<'a, str>> {
        self.get(key)?.text()
    }

    /// The string at a member, owned; empty where there is none.
    pub fn string_at(self, key: &str) -> String {
        self.text_at(key).map(Cow::into_owned).unwrap_or_default()
    }

    /// A whole number from zero up; hosts that write `12.0` mean 12.
    pub fn u64(self) -> Option<u64> {
        let (whole, rest) = self.0.split_once('.').unwrap_or((self.0, ""));
        if rest.bytes().all(|digit| digit == b'0') { whole.parse().ok() } else { None }
    }

    /// The count at a member.
    pub fn u64_at(self, key: &str) -> Option<u64> {
        self.get(key)?.u64()
    }

    /// True or false.
    pub fn bool(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The bool at a member.
    pub fn bool_at(self, key: &str) -> Option<bool> {
        self.get(key)?.bool()
    }
}

/// The members of an object.
#[derive(Debug, Clone)]
pub struct Members<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Node<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = take(self.rest)?;
        let (value, rest) = take(rest)?;
        self.rest = rest;
        Some((unescaped(name)?, Node(value)))
    }
}

/// The elements of an array.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Items<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        let (value, rest) = take(self.rest)?;
        self.rest = rest;
        Some(Node(value))
    }
}

/// The first value of a text, behind white space, commas and colons, and what follows it. `None` at a closing bracket.
fn take(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', ',', ':']);
    let end = value_end(text.as_bytes())?;
    Some((text.get(..end)?, text.get(end..)?))
}

fn value_end(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        b'"' => string_end(bytes, 0),
        b'{' | b'[' => {
            let (mut at, mut depth) = (0usize, 0usize);
            loop {
                match bytes.get(at)? {
                    b'"' => at = string_end(bytes, at)?,
                    b'{' | b'[' => {
                        depth = depth.saturating_add(1);
                        at = at.saturating_add(1);
                    }
                    b'}' | b']' => {
                        depth = depth.saturating_sub(1);
                        at = at.saturating_add(1);
                        if depth == 0 {
                            return Some(at);
                        }
                    }
                    _ => at = at.saturating_add(1),
                }
            }
        }
        b'}' | b']' => None,
        _ => {
            let ends = |b: &u8| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
            Some(bytes.iter().position(ends).unwrap_or(bytes.len()))
        }
    }
}

/// The index behind the string that opens at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at.checked_add(1)?;
    loop {
        at = scan::special(bytes, at)?;
        match bytes.get(at)? {
            b'"' => return at.checked_add(1),
            b'\\' => at = at.checked_add(2)?,
            _ => at = at.checked_add(1)?,
        }
    }
}

/// The content of a quoted string.
fn unescaped(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    match crate::de::from_str::<String>(quoted) {
        Ok(text) => Some(Cow::Owned(text)),
        Err(_) => Some(Cow::Owned(without_lone_surrogates(quoted))),
    }
}

/// serde_json refuses half a surrogate pair. A provider that cut an emoji in two must not break a stream for it.
fn without_lone_surrogates(quoted: &str) -> String {
    let mut out = String::with_capacity(quoted.len());
    let mut units: Vec<u16> = Vec::new();
    let mut chars = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().chars();
    let flush = |units: &mut Vec<u16>, out: &mut String| {
        out.push_str(&String::from_utf16_lossy(units));
        units.clear();
    };
    while let Some(c) = chars.next() {
        if c != '\\' {
            flush(&mut units, &mut out);
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                units.push(u16::from_str_radix(&digits, 16).unwrap_or(0xFFFD));
            }
            other => {
                flush(&mut units, &mut out);
                out.push(match other {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some('b') => '\u{8}',
                    Some('f') => '\u{c}',
                    Some(other) => other,
                    None => break,
                });
            }
        }
    }
    flush(&mut units, &mut out);
    out
}

#[cfg(test)]
mod tests;
