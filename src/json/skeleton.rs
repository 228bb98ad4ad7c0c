//! JSON that comes in chunks and has a few strings of many megabytes in it. Those are handed on as they come; what is left
//! is the skeleton, in which they are empty, and that is small enough to be kept and parsed.
//!
//! The long strings are told by where they stand. The result is the same however the text was cut.

use memchr::memchr2;

/// Deepest nesting.
const DEPTH_MAX: usize = 64;
/// Longest skeleton, in bytes.
const SKELETON_BYTES_MAX: usize = 1024 * 1024;
/// In a path: any place of a list.
pub const ANY: &str = "*";

/// Where a string stands: the names and, for lists, [`ANY`].
pub type Path = &'static [&'static str];

/// Part of a long string, its quotes not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// It begins.
    Begin,
    /// Some of it, escapes as they are.
    Part(&'a [u8]),
    /// It is over.
    End,
}

/// It is no JSON, too deep, or has too much beside its long strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

#[derive(Debug)]
enum Level {
    Object { key: Vec<u8>, is_key_next: bool },
    Array,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Between,
    Key,
    Text,
    Long,
}

/// What reads it.
#[derive(Debug)]
pub struct Skeleton {
    paths: &'static [Path],
    levels: Vec<Level>,
    at: At,
    is_escaped: bool,
    kept: Vec<u8>,
}

impl Skeleton {
    /// With the long strings at those places.
    pub fn new(paths: &'static [Path]) -> Skeleton {
        Skeleton { paths, levels: Vec::new(), at: At::Between, is_escaped: false, kept: Vec::new() }
    }

    /// Takes a chunk.
    pub fn push(&mut self, mut bytes: &[u8], mut on: impl FnMut(&Skeleton, Piece<'_>)) -> Result<(), Unreadable> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.at == At::Long && !self.is_escaped {
                let length = memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
                let (part, rest) = bytes.split_at_checked(length).ok_or(Unreadable)?;
                if !part.is_empty() {
                    on(self, Piece::Part(part));
                    bytes = rest;
                    continue;
                }
            }
            bytes = rest;
            match self.at {
                At::Between => self.between(byte, &mut on)?,
                At::Key | At::Text | At::Long => {
                    let is_end = byte == b'"' && !self.is_escaped;
                    let was = self.at;
                    self.at = if is_end { At::Between } else { was };
                    match was {
                        At::Long if is_end => on(self, Piece::End),
                        At::Long => on(self, Piece::Part(&[byte])),
                        _ => self.kept.push(byte),
                    }
                    if let (At::Key, false, Some(Level::Object { key, .. })) = (was, is_end, self.levels.last_mut()) {
                        key.push(byte);
                    }
                    self.is_escaped = byte == b'\\' && !self.is_escaped;
                }
            }
            if self.kept.len() > SKELETON_BYTES_MAX {
                return Err(Unreadable);
            }
        }
        Ok(())
    }

    fn between(&mut self, byte: u8, on: &mut impl FnMut(&Skeleton, Piece<'_>)) -> Result<(), Unreadable> {
        self.kept.push(byte);
        match byte {
            b'{' => self.levels.push(Level::Object { key: Vec::new(), is_key_next: true }),
            b'[' => self.levels.push(Level::Array),
            b'}' | b']' => drop(self.levels.pop().ok_or(Unreadable)?),
            b',' | b':' => {
                if let Some(Level::Object { is_key_next, .. }) = self.levels.last_mut() {
                    *is_key_next = byte == b',';
                }
            }
            b'"' => {
                if let Some(Level::Object { key, is_key_next: true }) = self.levels.last_mut() {
                    key.clear();
                    self.at = At::Key;
                } else if self.is_long() {
                    self.kept.push(b'"');
                    self.at = At::Long;
                    on(self, Piece::Begin);
                } else {
                    self.at = At::Text;
                }
            }
            _ => {}
        }
        if self.levels.len() > DEPTH_MAX { Err(Unreadable) } else { Ok(()) }
    }

    fn is_long(&self) -> bool {
        let is_step = |(level, step): (&Level, &&str)| match level {
            Level::Object { key, .. } => key == step.as_bytes(),
            Level::Array => *step == ANY,
        };
        let is_here = |path: &Path| path.len() == self.levels.len() && self.levels.iter().zip(*path).all(is_step);
        self.paths.iter().any(is_here)
    }

    /// What there is of it so far, while a long string is being read: whole JSON, its open lists and objects closed.
    pub fn so_far(&self) -> Option<serde_json::Value> {
        let closing = |level: &Level| if matches!(level, Level::Array) { b']' } else { b'}' };
        let whole: Vec<u8> = self.kept.iter().copied().chain(self.levels.iter().rev().map(closing)).collect();
        crate::json::from_bytes(&whole)
    }

    /// The skeleton of a text that is whole.
    pub fn finish(self) -> Result<Vec<u8>, Unreadable> {
        let is_whole =
            self.at == At::Between && self.levels.is_empty() && self.kept.iter().any(|b| !b.is_ascii_whitespace());
        if is_whole { Ok(self.kept) } else { Err(Unreadable) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const PATHS: &[Path] = &[&["data", ANY, "b64"], &["image"]];

    fn read(text: &str, size: usize) -> Result<(String, Vec<String>), Unreadable> {
        let (mut skeleton, mut long) = (Skeleton::new(PATHS), Vec::<Vec<u8>>::new());
        for chunk in text.as_bytes().chunks(size) {
            skeleton.push(chunk, |_, piece| match piece {
                Piece::Begin => long.push(Vec::new()),
                Piece::Part(part) => long.last_mut().unwrap().extend_from_slice(part),
                Piece::End => {}
            })?;
        }
        let kept = skeleton.finish()?;
        Ok((String::from_utf8(kept).unwrap(), long.into_iter().map(|one| String::from_utf8(one).unwrap()).collect()))
    }

    #[test]
    fn long_strings_are_taken_out_where_they_stand_and_nowhere_else() {
        let text = r#"{"created":1,"data":[{"b64":"AA\/\"A","x":"b64"},{"y":{"b64":"kept"},"b64":""}],"b64":"kept \" too","image":"BB"} "#;
        let kept = r#"{"created":1,"data":[{"b64":"","x":"b64"},{"y":{"b64":"kept"},"b64":""}],"b64":"kept \" too","image":""} "#;
        for size in [1, 2, 3, 7, text.len()] {
            let (skeleton, long) = read(text, size).unwrap();
            assert_eq!(skeleton, kept);
            assert_eq!(long, [r#"AA\/\"A"#, "", "BB"]);
        }
    }

    #[test]
    fn what_there_is_so_far_can_be_read() {
        let mut skeleton = Skeleton::new(PATHS);
        let mut seen = Vec::new();
        let text = r#"{"a":{"b":1},"data":[{"c":"d","b64":"AAAA"},{"b64":"B"#;
        skeleton
            .push(text.as_bytes(), |skeleton, piece| {
                if piece == Piece::Begin {
                    seen.push(skeleton.so_far());
                }
            })
            .unwrap();
        let first = json!({"a": {"b": 1}, "data": [{"c": "d", "b64": ""}]});
        let second = json!({"a": {"b": 1}, "data": [{"c": "d", "b64": ""}, {"b64": ""}]});
        assert_eq!(seen, [Some(first), Some(second)]);
    }

    #[test]
    fn what_is_not_whole_or_too_much_is_refused() {
        let deep = "[".repeat(DEPTH_MAX + 1);
        let wide = format!("\"{}\"", "x".repeat(SKELETON_BYTES_MAX));
        for text in ["", " ", "{", r#"{"image":"AA"#, r#"{"a":"b"#, "}", deep.as_str(), wide.as_str()] {
            assert_eq!(read(text, 1000), Err(Unreadable), "{}", text.get(..9.min(text.len())).unwrap());
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let text = r#"[a-zA-Z0-9 "\\/{}\[\],:é]{0,12}"#;
        let leaf = prop_oneof![Just(Value::Null), any::<i32>().prop_map(Value::from), text.prop_map(Value::from)];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("data|b64|image|x", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn emptied(value: &Value) -> Value {
        let mut out = value.clone();
        for place in ["/image"] {
            if let Some(one) = out.pointer_mut(place).filter(|one| one.is_string()) {
                *one = "".into();
            }
        }
        if let Some(Value::Array(list)) = out.get_mut("data") {
            for one in list.iter_mut().filter_map(|one| one.get_mut("b64")).filter(|one| one.is_string()) {
                *one = "".into();
            }
        }
        out
    }

    proptest! {
        #[test]
        fn any_text_keeps_its_skeleton_however_it_is_cut(value in any_json(), size in 1..40usize) {
            let (skeleton, _) = read(&value.to_string(), size).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&skeleton).unwrap(), emptied(&value));
        }
    }
}
