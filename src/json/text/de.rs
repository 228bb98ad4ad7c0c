//! Reads a JSON text (RFC 8259) into any type of serde's.
//!
//! What depends on the type is compiled for every type anew, so it is kept as small as can be: the reader is one type,
//! its steps are functions that all types share, and a struct or an enum is told the *number* of a field or variant
//! instead of its name (serde's derive understands both, and compares no strings then). Where an error happened is not
//! followed on the way: the text and the place at which the reader stopped say it afterwards ([`place`]).
//!
//! It takes and refuses what `serde_json::from_str` does, in the same words, but for this: a struct is an object, never
//! a list; names in maps are strings, whole numbers or unit variants; who visits a list or a struct reads it to its end;
//! a float is the nearest. A field or variant has one name: `serde(alias)` would shift the numbers.

pub mod place;
mod reader;

use std::fmt;

use serde::Deserialize;
use serde::de::{Expected, IgnoredAny, Unexpected};

use reader::Reader;

/// Why a text could not be read.
#[derive(Debug)]
pub struct Error(Box<Told>);

#[derive(Debug)]
struct Told {
    /// Empty while the syntax is at fault and nobody has asked how.
    message: String,
    at: usize,
}

impl Error {
    /// The text is no JSON here.
    #[cold]
    #[inline(never)]
    fn syntax() -> Error {
        Error(Box::new(Told { message: String::new(), at: 0 }))
    }

    #[cold]
    #[inline(never)]
    fn said(message: fmt::Arguments<'_>) -> Error {
        Error(Box::new(Told { message: message.to_string(), at: 0 }))
    }

    /// How many bytes of the text had been read.
    pub fn at(&self) -> usize {
        self.0.at
    }

    /// What is wrong, for a person.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The same, kept.
    pub fn into_message(self) -> String {
        self.0.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

/// What was found, in JSON's words.
struct Found<'a>(Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Unit => f.write_str("null"),
            Unexpected::Float(float) => match serde_json::Number::from_f64(float) {
                Some(number) => write!(f, "floating point `{number}`"),
                None => f.write_str("floating point"),
            },
            other => other.fmt(f),
        }
    }
}

impl serde::de::Error for Error {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error::said(format_args!("{message}"))
    }

    #[cold]
    #[inline(never)]
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Error {
        Error::said(format_args!("invalid type: {}, expected {expected}", Found(found)))
    }

    #[cold]
    #[inline(never)]
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Error {
        Error::said(format_args!("invalid value: {}, expected {expected}", Found(found)))
    }

    #[cold]
    #[inline(never)]
    fn missing_field(field: &'static str) -> Error {
        Error::said(format_args!("missing field `{field}`"))
    }

    #[cold]
    #[inline(never)]
    fn duplicate_field(field: &'static str) -> Error {
        Error::said(format_args!("duplicate field `{field}`"))
    }
}

/// Reads the one value that `text` is.
pub fn from_str<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Error> {
    let mut reader = Reader::new(text);
    match T::deserialize(&mut reader) {
        Ok(value) if reader.is_done() => Ok(value),
        other => Err(explained(text, reader.at(), other.err())),
    }
}

/// The error with its place, and with words where the syntax is at fault.
#[cold]
#[inline(never)]
fn explained(text: &str, at: usize, error: Option<Error>) -> Error {
    let mut error = error.unwrap_or_else(Error::syntax);
    error.0.at = at;
    if error.0.message.is_empty() {
        error.0.message = match serde_json::from_str::<IgnoredAny>(text) {
            Err(wrong) => wrong.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
            Ok(_) => "expected value".to_owned(),
        };
    }
    error
}

#[cfg(test)]
mod tests;
