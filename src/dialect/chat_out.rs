//! The OpenAI chat completions dialect: answers, whole and streamed.

use crate::dialect::{Amend, Voice};
use crate::text::event::Event;
use crate::text::reply::Reply;
use crate::usage::Usage;

/// A whole answer.
pub fn write(_reply: &Reply, _voice: &Voice, _price: Option<&str>) -> Vec<u8> {
    Vec::new()
}

/// Writes a stream.
#[derive(Debug)]
pub struct Encoder {
    #[allow(dead_code)]
    voice: Voice,
}

impl Encoder {
    /// For one answer.
    pub fn new(voice: Voice) -> Encoder {
        Encoder { voice }
    }

    /// One event.
    pub fn push(&mut self, _event: &Event, _out: &mut Vec<u8>) {}

    /// The regular end.
    pub fn finish(&mut self, _usage: Option<&Usage>, _amend: Amend<'_>, _out: &mut Vec<u8>) {}
}
