//! The OpenAI chat completions family from and to the typed form.

use crate::error::Failure;
use crate::family::quirk::Quirk;
use crate::family::target::{Target, Written, cannot};
use crate::text::event::Event;
use crate::text::prompt::Prompt;

/// Writes a request.
pub fn write(_prompt: &Prompt<'_>, _target: &Target<'_>) -> Result<Written, Failure> {
    Err(cannot("messages", "this request"))
}

/// Decodes answers.
#[derive(Debug, Default)]
pub struct Decoder {}

impl Decoder {
    /// For a provider's answer.
    pub fn new(_quirks: &[Quirk], _provider: &str) -> Decoder {
        Decoder::default()
    }

    /// One frame of a stream.
    pub fn frame(&mut self, _data: &str, out: &mut Vec<Event>) {
        out.push(Event::Malformed);
    }

    /// A whole answer.
    pub fn whole(&mut self, _text: &str, out: &mut Vec<Event>) {
        out.push(Event::Malformed);
    }

    /// The stream ended in good order.
    pub fn finish(&mut self, _out: &mut Vec<Event>) {}
}
