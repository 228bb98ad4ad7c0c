//! JSON objects whose unknown fields survive, and errors that name the field by path.
//!
//! A body is parsed without building a tree: [`members`] finds the spans of its top-level values, and [`splice`]
//! replaces spans in the bytes. What nobody edits is never printed again. The syntax, and how texts become types, is in
//! the package `json-text`.

pub mod progress;
pub mod skeleton;
pub mod write;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use de::place::{self, Step};

pub use json_text::scan::Entries;
pub use json_text::{de, from_str, scan, view};

/// One top-level member of an object, by its place in the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name, unescaped.
    pub key: String,
    /// Where the name begins, its quote included.
    pub start: usize,
    /// Where the value stands.
    pub value: Range<usize>,
}

/// Why a text is no usable JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// The field at fault; `None` where the text as a whole is malformed.
    pub path: Option<String>,
    /// What is wrong, for a person.
    pub message: String,
}

/// A JSON value that is kept in its own text: nobody reads it, it is only passed on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Raw(Box<RawValue>);

impl Raw {
    /// What a value is written as; `null` where it cannot be.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Raw {
        Raw(serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

impl PartialEq for Raw {
    fn eq(&self, other: &Raw) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Raw {}

struct Top<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A string that is borrowed where it has no escapes. (`Cow` itself always deserializes into an owned one.)
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Top<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Top<'a>, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Top<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top<'de>, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(16);
                while let Some(Name(key)) = map.next_key::<Name<'de>>()? {
                    if members.iter().any(|(known, _)| *known == key) {
                        return Err(serde::de::Error::custom(format!("the field `{key}` stands twice")));
                    }
                    members.push((key, map.next_value()?));
                }
                Ok(Top(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// The top-level members of the object in `bytes`. Checks the syntax of the whole text.
pub fn members(bytes: &[u8]) -> Result<Vec<Member>, JsonError> {
    let text = utf8(bytes)?;
    if let Some((found, _)) = quickly(text, "") {
        return Ok(found);
    }
    slowly(bytes, text)
}

/// The same, with the members of the objects in the list `listed`; `None` where that is not a list of objects alone.
pub fn members_and(bytes: &[u8], listed: &str) -> Result<(Vec<Member>, Option<Entries>), JsonError> {
    let text = utf8(bytes)?;
    match quickly(text, listed) {
        Some(found) => Ok(found),
        None => Ok((slowly(bytes, text)?, None)),
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, JsonError> {
    std::str::from_utf8(bytes).map_err(|error| JsonError {
        path: None,
        message: format!("the body is not UTF-8 at byte {}", error.valid_up_to()),
    })
}

fn slowly(bytes: &[u8], text: &str) -> Result<Vec<Member>, JsonError> {
    // What is wrong is told in the library's words; names with escapes it reads.
    let Top(found) = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    let mut members = Vec::with_capacity(found.len());
    let mut previous_end = 0;
    for (key, value) in found {
        let start = (value.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let end = start.saturating_add(value.get().len());
        // Between two values stand only white space, a comma, the name and a colon: the first quote opens the name.
        let gap = bytes.get(previous_end..start).unwrap_or_default();
        let quote = memchr::memchr(b'"', gap).unwrap_or(0).saturating_add(previous_end);
        members.push(Member { key: key.into_owned(), start: quote, value: start..end });
        previous_end = end;
    }
    Ok(members)
}

/// The members, where nothing is odd about them: no escape in a name, no name twice.
fn quickly(text: &str, listed: &str) -> Option<(Vec<Member>, Option<Entries>)> {
    let (found, entries) = scan::members(text.as_bytes(), listed)?;
    let mut members: Vec<Member> = Vec::with_capacity(found.len());
    for (start, name, value) in found {
        let key = text.get(name)?;
        if key.contains('\\') || members.iter().any(|known| known.key == key) {
            return None;
        }
        members.push(Member { key: key.to_owned(), start, value });
    }
    Some((members, entries))
}

/// Parses a text that is still bytes, where nobody needs to hear what is wrong with it.
pub fn from_bytes<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    from_str(std::str::from_utf8(bytes).ok()?).ok()
}

/// Parses one value and names the field that is wrong below `root`.
pub fn parse_at<'a, T: Deserialize<'a>>(text: &'a str, root: &str) -> Result<T, JsonError> {
    from_str(text).map_err(|error| told(root, &steps_to(text, &error), error))
}

/// Parses one value that has no parts of its own to blame.
pub fn parse_flat<'a, T: Deserialize<'a>>(text: &'a str, root: &str) -> Result<T, JsonError> {
    from_str(text).map_err(|error| told(root, &[], error))
}

/// Parses an object of ours, without arrays worth a path. A field that is missing is named too.
pub fn parse_object<T: for<'a> Deserialize<'a>>(text: &str, root: &str) -> Result<T, JsonError> {
    from_str(text).map_err(|error| told(root, &steps_of_object(text, &error), error))
}

/// Parses a whole body into a type, naming the field that is wrong.
pub fn parse_body<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, JsonError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| JsonError { path: None, message: "the body is not UTF-8".to_owned() })?;
    members(bytes)?;
    parse_object(text, "")
}

fn told(root: &str, steps: &[Step], error: de::Error) -> JsonError {
    let path = place::write(root, steps);
    JsonError { path: (!path.is_empty()).then_some(path), message: error.into_message() }
}

/// The way to what is wrong. A field that is there twice is a fault of its object.
pub fn steps_to(text: &str, error: &de::Error) -> Vec<Step> {
    let mut steps = place::of(text, error.at());
    if error.message().starts_with("duplicate field ") {
        steps.pop();
    }
    steps
}

/// The way to what is wrong as far as it goes through objects, with the field that serde names.
fn steps_of_object(text: &str, error: &de::Error) -> Vec<Step> {
    let mut steps = place::of(text, error.at());
    let whole = steps.len();
    steps.truncate(steps.iter().take_while(|step| matches!(step, Step::Name(_))).count());
    let Some(named) = field_named(error.message()) else { return steps };
    // What is unknown or there twice is the last step already, what is missing is none yet.
    if steps.len() < whole || !error.message().starts_with("missing ") {
        steps.pop();
    }
    steps.push(Step::Name(named));
    steps
}

/// serde names a missing or unknown field in back quotes.
fn field_named(message: &str) -> Option<String> {
    let (_, rest) = message.split_once(" field `")?;
    rest.split_once('`').map(|(name, _)| name.to_owned())
}

fn malformed(error: &serde_json::Error) -> JsonError {
    JsonError { path: None, message: format!("the body is not a JSON object: {error}") }
}

/// One replacement in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What goes; empty to insert.
    pub range: Range<usize>,
    /// What comes.
    pub with: Vec<u8>,
}

/// `bytes` with all `edits` carried out. Edits that overlap an earlier one are left out.
pub fn splice(bytes: &[u8], mut edits: Vec<Edit>) -> Vec<u8> {
    edits.sort_by_key(|edit| edit.range.start);
    let added: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut out = Vec::with_capacity(bytes.len().saturating_add(added));
    let mut at = 0;
    for edit in edits {
        if edit.range.start < at {
            continue;
        }
        out.extend_from_slice(bytes.get(at..edit.range.start).unwrap_or_default());
        out.extend_from_slice(&edit.with);
        at = edit.range.end;
    }
    out.extend_from_slice(bytes.get(at..).unwrap_or_default());
    out
}

/// Edits that set or remove top-level members of one object.
#[derive(Debug)]
pub struct ObjectEdits<'a> {
    bytes: &'a [u8],
    members: &'a [Member],
    edits: Vec<Edit>,
    removed: Vec<bool>,
    added: Vec<u8>,
}

impl<'a> ObjectEdits<'a> {
    /// No edits yet.
    pub fn new(bytes: &'a [u8], members: &'a [Member]) -> ObjectEdits<'a> {
        ObjectEdits { bytes, members, edits: Vec::new(), removed: vec![false; members.len()], added: Vec::new() }
    }

    /// Sets a member to a JSON text, in place where it exists, else at the end.
    pub fn set(&mut self, key: &str, json: &str) {
        match self.members.iter().find(|member| member.key == key) {
            Some(member) => self.edits.push(Edit { range: member.value.clone(), with: json.as_bytes().to_vec() }),
            None => {
                let name = serde_json::to_string(key).unwrap_or_default();
                self.added.extend_from_slice(format!(",{name}:{json}").as_bytes());
            }
        }
    }

    /// Removes a member, if it is there.
    pub fn remove(&mut self, key: &str) {
        if let Some(index) = self.members.iter().position(|member| member.key == key)
            && let Some(flag) = self.removed.get_mut(index)
        {
            *flag = true;
        }
    }

    /// Gives a member another name, if it is there and the new name is not.
    pub fn rename(&mut self, from: &str, to: &str) {
        if self.members.iter().any(|member| member.key == to) {
            return;
        }
        if let Some(member) = self.members.iter().find(|member| member.key == from) {
            let name_end = self.bytes.get(member.start..member.value.start).and_then(|gap| memchr::memrchr(b':', gap));
            if let Some(colon) = name_end {
                let name = serde_json::to_string(to).unwrap_or_default();
                let range = member.start..member.start.saturating_add(colon);
                self.edits.push(Edit { range, with: name.into_bytes() });
            }
        }
    }

    /// Any further replacement.
    pub fn edit(&mut self, edit: Edit) {
        self.edits.push(edit);
    }

    /// The object with all edits carried out.
    pub fn finish(mut self) -> Vec<u8> {
        let Some(last) = self.members.last() else {
            let mut out = b"{".to_vec();
            out.extend_from_slice(self.added.get(1..).unwrap_or_default());
            out.push(b'}');
            return out;
        };
        // A member goes with the comma before it, or, while no kept one stands before it, with the comma behind it.
        let mut edits = Vec::new();
        let mut kept_before = false;
        let mut previous_end = None;
        for (index, (member, removed)) in self.members.iter().zip(&self.removed).enumerate() {
            if *removed {
                let next = self.members.get(index.saturating_add(1)).map(|next| next.start);
                let range = match (kept_before, previous_end, next) {
                    (true, Some(end), _) => end..member.value.end,
                    (_, _, Some(next)) => member.start..next,
                    _ => member.start..member.value.end,
                };
                edits.push(Edit { range, with: Vec::new() });
            } else {
                kept_before = true;
            }
            previous_end = Some(member.value.end);
        }
        if !self.added.is_empty() {
            let with = if kept_before { self.added } else { self.added.split_off(1) };
            edits.push(Edit { range: last.value.end..last.value.end, with });
        }
        let gone: Vec<Range<usize>> = edits.iter().map(|edit| edit.range.clone()).filter(|r| !r.is_empty()).collect();
        edits.extend(self.edits.into_iter().filter(|edit| !gone.iter().any(|r| r.contains(&edit.range.start))));
        splice(self.bytes, edits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, change: impl Fn(&mut ObjectEdits<'_>)) -> String {
        let found = members(text.as_bytes()).unwrap();
        let mut edits = ObjectEdits::new(text.as_bytes(), &found);
        change(&mut edits);
        let out = String::from_utf8(edits.finish()).unwrap();
        serde_json::from_str::<serde_json::Value>(&out).unwrap_or_else(|e| panic!("{out}: {e}"));
        out
    }

    #[test]
    fn members_are_found_where_they_stand() {
        let text = "{ \"a\" : 1 ,\"b\\u0022\":[\"x\",{}] }";
        let found = members(text.as_bytes()).unwrap();
        assert_eq!(found.iter().map(|m| m.key.as_str()).collect::<Vec<_>>(), ["a", "b\""]);
        assert_eq!(&text[found[0].value.clone()], "1");
        assert_eq!(&text[found[1].value.clone()], "[\"x\",{}]");
        assert!(text[found[1].start..].starts_with("\"b"));
    }

    #[test]
    fn only_what_is_edited_changes() {
        let text = "{ \"model\": \"m\", \"x\" : 1.00000000000000000001,\n\"stream\":true }";
        assert_eq!(edited(text, |_| ()), text);
        let set = edited("{\"model\": \"m\", \"x\" : 1}", |e| {
            e.set("model", "\"up\"");
            e.set("y", "2");
        });
        assert_eq!(set, "{\"model\": \"up\", \"x\" : 1,\"y\":2}");
    }

    #[test]
    fn any_subset_of_members_can_go() {
        let text = "{\"a\":1,\"b\":2,\"c\":3}";
        for (gone, expected) in [
            (vec!["a"], "{\"b\":2,\"c\":3}"),
            (vec!["b"], "{\"a\":1,\"c\":3}"),
            (vec!["c"], "{\"a\":1,\"b\":2}"),
            (vec!["a", "b"], "{\"c\":3}"),
            (vec!["a", "c"], "{\"b\":2}"),
            (vec!["b", "c"], "{\"a\":1}"),
            (vec!["a", "b", "c"], "{}"),
        ] {
            assert_eq!(edited(text, |e| gone.iter().for_each(|k| e.remove(k))), expected, "{gone:?}");
        }
        assert_eq!(
            edited(text, |e| {
                ["a", "b", "c"].iter().for_each(|k| e.remove(k));
                e.set("d", "4");
            }),
            "{\"d\":4}"
        );
        assert_eq!(edited("{}", |e| e.set("d", "4")), "{\"d\":4}");
    }

    #[test]
    fn a_member_can_get_another_name() {
        assert_eq!(edited("{\"a\" : 1}", |e| e.rename("a", "b")), "{\"b\": 1}");
        assert_eq!(edited("{\"a\":1,\"b\":2}", |e| e.rename("a", "b")), "{\"a\":1,\"b\":2}");
    }

    #[test]
    fn errors_say_where() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code)]
        struct Inner {
            n: u64,
        }
        let error = parse_at::<Vec<Inner>>("[{\"n\":1},{\"n\":\"x\"}]", "list").unwrap_err();
        assert_eq!(error.path.as_deref(), Some("list[1].n"));
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code)]
        struct Outer {
            name: String,
            #[serde(default)]
            inner: Option<Inner>,
            #[serde(default)]
            last: Option<bool>,
        }
        for (text, path) in [
            (r#"{"name":5}"#, Some("name")),
            (r#"{"name":"x","inner":{"n":"x"}}"#, Some("inner.n")),
            (r#"{"name":"x","inner":{"n":-1},"last":true}"#, Some("inner.n")),
            ("{\n \"name\":\"x\",\n \"last\" : 5 }", Some("last")),
            (r#"{"inner":{"n":1}}"#, Some("name")),
            (r#"{"name":"x","other":1}"#, Some("other")),
            (r#"{"name":"x","inner":{"n":1,"other":1}}"#, Some("inner.other")),
            (r#"{"name":"x","inner":{}}"#, Some("inner.n")),
            (r#"{"name":"x","inner":[]}"#, Some("inner")),
            (r#"{"name":[]}"#, Some("name")),
            (r#"{"name":"x""#, None),
            ("[]", None),
        ] {
            assert_eq!(parse_body::<Outer>(text.as_bytes()).unwrap_err().path.as_deref(), path, "{text}");
        }
        assert!(members(b"[1]").unwrap_err().message.contains("not a JSON object"));
        assert!(members(b"{\"a\":1,\"a\":2}").unwrap_err().message.contains("twice"));
        assert!(members(b"{\"a\":1} x").is_err());
        assert!(members(b"\xff").unwrap_err().message.contains("UTF-8"));
    }
}
