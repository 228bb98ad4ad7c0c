//! One row for each host family and kind of work: how it is written, followed and read, and what becomes of each parameter.
//!
//! The parameters' fates are not a description beside the code: [`acted_on`] does so before anything is written, and the
//! conformance table in the README is printed from them.

use bytes::Bytes;

use super::Work;
use super::common::{Common, OWN};
use super::meter::Told;
use super::stream::Fold;
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::family::target::cannot;

/// What becomes of a client's parameter at a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes as it is.
    Kept,
    /// It goes under that name, or the gateway does what it asks for.
    Mapped(&'static str),
    /// It goes as it is, but is left out beside that one, which a warning says.
    Unless(&'static str),
    /// It is left out, and a warning says so.
    Dropped,
    /// The host is not asked.
    Refused,
}

/// The fates of one host: what is not named is kept by hosts that take OpenAI's own shape, and dropped by others.
pub type Fates = &'static [(&'static str, Fate)];

/// A table of fates: `"name" Kept`, `"name" => "what it becomes"`, or `"name" unless "another"`.
macro_rules! fates {
    (@ $how:literal) => { $crate::media::shape::Fate::Mapped($how) };
    (@ unless $other:literal) => { $crate::media::shape::Fate::Unless($other) };
    (@ $fate:ident) => { $crate::media::shape::Fate::$fate };
    ($($name:literal $(=> $how:literal)? $($fate:ident $($other:literal)?)?),* $(,)?) => {
        &[$(($name, fates!(@ $($how)? $($fate $($other)?)?))),*]
    };
}
pub(crate) use fates;

/// A row.
pub struct Shape<W: 'static> {
    /// The families it is for, as catalog files name them.
    pub families: &'static [&'static str],
    /// What becomes of parameters.
    pub fates: Fates,
    /// Whether parameters that nobody here knows go on as they are.
    pub passes: bool,
    /// Writes the calls of a piece of work: one, or one for each batch.
    pub write: fn(&W, &Asked<'_>) -> Result<Vec<Written>, Failure>,
    /// What to ask next, where an answer is only the begin of one.
    pub follow: fn(&W, &Raw, &Asked<'_>) -> Result<Option<Again>, Fault>,
    /// Reads the last answer to each call.
    pub read: fn(&W, Vec<Raw>, &Reading<'_>) -> Result<Answered, Fault>,
}

/// Of a host that answers at once.
pub fn at_once<W>(_: &W, _: &Raw, _: &Asked<'_>) -> Result<Option<Again>, Fault> {
    Ok(None)
}

/// Whom a piece of work is written for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The model's name there.
    pub upstream: &'a str,
    /// The most inputs of one call, where the host has a limit.
    pub batch_max: Option<u64>,
    /// Whether tokens decide about the charge, and not what can be counted here.
    pub is_by_tokens: bool,
    /// What links of the request lead to, for hosts that take no links.
    pub fetched: &'a Links,
    /// The voices there are, where the catalog knows them.
    pub voices: &'a [String],
    /// The request's id.
    pub id: &'a str,
}

/// What a link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The link.
    pub url: String,
    /// Its content type.
    pub content_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What the request's links lead to, as far as anybody looked; and whether a writer missed one of them.
#[derive(Debug, Clone, Default)]
pub struct Links {
    /// What was fetched.
    pub fetched: Vec<Fetched>,
    /// Whether one was wanted that was not.
    pub missed: std::cell::Cell<bool>,
}

/// How the answer to a call comes.
#[derive(Clone, Copy, Default)]
pub enum Delivery {
    /// Whole.
    #[default]
    Whole,
    /// As bytes that go on to the client as they come.
    Bytes,
    /// As events, which that reads one by one.
    Events(fn(&Work) -> Box<dyn Fold>),
}

/// A call in a host's shape.
#[derive(Clone, Default)]
pub struct Written {
    /// The method.
    pub method: &'static str,
    /// The path below the base URL, or a URL that the host itself named.
    pub path: String,
    /// Headers beside content type and credential.
    pub headers: Vec<(String, String)>,
    /// The body's content type.
    pub content_type: String,
    /// The body, in pieces that may belong to the client's own.
    pub body: Vec<Bytes>,
    /// How the answer comes.
    pub delivery: Delivery,
    /// The content type of what the client gets, where that comes as it is made; empty: the host's own.
    pub answers: String,
}

impl Written {
    /// JSON.
    pub fn json(path: impl Into<String>, body: impl ToString) -> Written {
        Written::bytes(path, "application/json", vec![Bytes::from(body.to_string().into_bytes())])
    }

    /// A body of that type.
    pub fn bytes(path: impl Into<String>, content_type: impl Into<String>, body: Vec<Bytes>) -> Written {
        let (path, content_type) = (path.into(), content_type.into());
        Written { method: "POST", path, content_type, body, ..Written::default() }
    }

    /// A question without a body.
    pub fn get(path: impl Into<String>) -> Written {
        Written { method: "GET", path: path.into(), ..Written::default() }
    }

    /// The same with a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Written {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, answered in that way, for the client in that type.
    #[must_use]
    pub fn delivered(mut self, delivery: Delivery, answers: &str) -> Written {
        self.delivery = delivery;
        answers.clone_into(&mut self.answers);
        self
    }

    /// The whole body, for tests and short ones.
    pub fn whole_body(&self) -> Vec<u8> {
        self.body.concat()
    }
}

/// What to ask next.
#[derive(Clone)]
pub struct Again {
    /// How long to wait before, in milliseconds.
    pub after_ms: u64,
    /// The call; one without a method is the last one again.
    pub call: Written,
}

/// Headers in which hosts count.
pub const COUNTING: &[&str] =
    &["x-amzn-bedrock-input-token-count", "character-cost", "dg-char-count", "x-amzn-requestcharacters"];

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Raw {
    /// The status.
    pub status: u16,
    /// The content type.
    pub content_type: String,
    /// What it has of [`COUNTING`].
    pub counts: Vec<(&'static str, u64)>,
    /// The body.
    pub bytes: Vec<u8>,
}

impl Raw {
    /// What a header counts.
    pub fn count(&self, name: &str) -> Option<u64> {
        self.counts.iter().find(|(known, _)| *known == name).map(|(_, count)| *count)
    }
}

/// What an answer is read with.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The model's name at the host.
    pub upstream: &'a str,
    /// The model's canonical id.
    pub model: &'a str,
    /// The request's id.
    pub id: &'a str,
    /// Now, in seconds since the epoch.
    pub created: u64,
}

/// An answer in the front's shape, and what was used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answered {
    /// Its content type.
    pub content_type: String,
    /// The body; of JSON with a `usage` object, the cost is added to that.
    pub body: Vec<u8>,
    /// What the host counted, and what can be counted in the answer.
    pub told: Told,
    /// Links in the answer that the client wants the content of, by their place in `data`.
    pub links: Vec<(usize, String)>,
}

/// Parameters that concern the host's own bookkeeping: leaving them out is not worth a warning.
const QUIET: &[&str] = &["user", "safety_identifier", "store", "service_tier", "stream", "model"];

/// Acts on the fates of the client's parameters: refuses, or names what will be left out. `core` are those that the
/// writer itself takes from the request's typed form.
pub fn acted_on(common: &Common, fates: Fates, passes: bool, core: &[&str]) -> Result<Vec<String>, Failure> {
    let mut dropped = Vec::new();
    let has = |other: &str| common.body.get(other).is_some_and(|value| !value.is_null());
    for (name, value) in &common.body {
        let name = name.trim_end_matches("[]");
        if value.is_null() || OWN.contains(&name) || core.contains(&name) {
            continue;
        }
        let fate = fates.iter().find(|(known, _)| *known == name).map(|(_, fate)| *fate);
        match fate.unwrap_or(if passes { Fate::Kept } else { Fate::Dropped }) {
            Fate::Kept | Fate::Mapped(_) => {}
            Fate::Unless(other) if !has(other) => {}
            Fate::Refused => return Err(cannot(name, "the parameter")),
            Fate::Dropped if QUIET.contains(&name) => {}
            Fate::Dropped | Fate::Unless(_) => dropped.push(name.to_owned()),
        }
    }
    Ok(dropped)
}

/// The row for a family.
pub fn find<'a, W>(table: &'a [&'a Shape<W>], family: &str) -> Option<&'a Shape<W>> {
    table.iter().copied().find(|shape| shape.families.contains(&family))
}

/// The fault of an answer that is not what the family sends.
pub fn malformed() -> Fault {
    Fault { message: "malformed".to_owned(), ..Fault::default() }
}

/// JSON of an answer, or the fault that it is or tells of.
pub fn json_of(bytes: &[u8]) -> Result<serde_json::Value, Fault> {
    let value: serde_json::Value = crate::json::from_bytes(bytes).ok_or_else(malformed)?;
    match crate::family::fault::from_value(&value) {
        Some(fault) => Err(fault),
        None => Ok(value),
    }
}

/// The host made something and withheld it: a refusal, in the words that the table of failures knows.
pub fn withheld() -> Fault {
    let code = "content_policy_violation".to_owned();
    Fault { code, status: Some(400), message: "withheld".to_owned(), ..Fault::default() }
}

/// Whether a URL that a host named is on its own site: only there does its credential go.
pub fn is_same_site(base: &str, url: &str) -> bool {
    let parts = |url: &str| {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let is_name = !authority.contains('@') && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b));
        is_name.then(|| (scheme.to_ascii_lowercase(), host.to_ascii_lowercase(), authority.to_ascii_lowercase()))
    };
    let (Some((scheme, host, authority)), Some((other_scheme, other, other_authority))) = (parts(base), parts(url))
    else {
        return false;
    };
    if authority == other_authority && scheme == other_scheme {
        return true;
    }
    let site = |host: &str| {
        let labels: Vec<&str> = host.rsplit('.').take(2).collect();
        (labels.len() == 2 && !host.bytes().all(|b| b.is_ascii_digit() || b == b'.')).then(|| labels.join("."))
    };
    other_scheme == "https" && scheme == "https" && site(&host).is_some() && site(&host) == site(&other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_stays_on_its_site() {
        for (url, same) in [
            ("https://api.us1.bfl.ai/v1/get_result?id=1", true),
            ("https://api.bfl.ai/v1/x", true),
            ("http://api.bfl.ai/v1/x", false),
            ("https://bfl.ai.evil.example/x", false),
            ("https://evil.example/api.bfl.ai", false),
            ("https://api.bfl.ai@evil.example/", false),
            ("not a url", false),
        ] {
            assert_eq!(is_same_site("https://api.bfl.ai/v1", url), same, "{url}");
        }
        assert!(is_same_site("http://127.0.0.1:81/a", "http://127.0.0.1:81/b"));
        assert!(!is_same_site("http://127.0.0.1:81/a", "http://127.0.0.1:82/b"));
        assert!(!is_same_site("https://10.0.0.1/a", "https://11.0.0.1/b"));
    }

    #[test]
    fn each_parameter_meets_its_fate() {
        let body = r#"{"model":"m","input":"i","seed":1,"style":"x","user":"u","n":null,"odd":2,"provider":{}}"#;
        let common = Common::parse(body.as_bytes(), None).unwrap();
        let table: Fates = &[("seed", Fate::Kept), ("style", Fate::Dropped)];
        assert_eq!(acted_on(&common, table, false, &["input"]).unwrap(), ["odd", "style"]);
        assert_eq!(acted_on(&common, table, true, &["input"]).unwrap(), ["style"]);
        let failure = acted_on(&common, &[("seed", Fate::Refused)], true, &["input"]).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some("seed"));
    }
}
