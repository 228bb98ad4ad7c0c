//! The messages dialect (in the making).

use crate::dialect::{Amend, Voice};
use crate::error::Failure;
use crate::text::event::Event;
use crate::text::prompt::Prompt;
use crate::text::reply::Reply;
use crate::text::request::Request;
use crate::usage::Usage;

/// Fields that are for the gateway alone and never sent to a provider.
pub const GATEWAY_FIELDS: &[&str] = &["provider", "models", "preset", "session_id", "usage"];

/// Parses a body.
pub fn parse(_bytes: Vec<u8>) -> Result<Request, Failure> {
    Err(Failure::invalid("model", "is missing"))
}

/// Parses the body of a count, which needs no limit.
pub fn parse_to_count(bytes: Vec<u8>) -> Result<Request, Failure> {
    parse(bytes)
}

/// The typed form.
pub fn prompt(_request: &Request) -> Result<Prompt<'_>, Failure> {
    Ok(Prompt::default())
}

/// A whole answer.
pub fn write(_reply: &Reply, _voice: &Voice, _price: Option<&str>) -> Vec<u8> {
    Vec::new()
}

/// The last event of a stream that failed.
pub fn failure_event(failure: &Failure, request_id: &str, out: &mut Vec<u8>) {
    crate::sse::write_data(&failure.envelope(request_id), out);
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

/// The envelope of a failure.
pub fn failure(failure: &Failure, request_id: &str) -> String {
    failure.envelope(request_id)
}

/// What ends a stream.
pub fn end_mark(_out: &mut Vec<u8>) {}
