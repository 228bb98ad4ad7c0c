//! What clients speak: one file per dialect. This file is the table; it knows no wire.

pub mod chat;
pub mod chat_out;
pub mod chat_prompt;
pub mod common;
pub mod foreign;
pub mod messages;
pub mod responses;
mod seal;

use crate::error::Failure;
use crate::text::event::Event;
use crate::text::prompt::Prompt;
use crate::text::reply::Reply;
use crate::text::request::{Body, Request};
use crate::usage::Usage;

/// A wire format for text at the gateway's front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// OpenAI chat completions.
    #[default]
    Chat,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
}

/// Says what members a usage object gains (its price), as JSON without braces; `None` to add nothing.
pub type Amend<'a> = &'a dyn Fn(&Usage) -> Option<String>;

/// What an encoder says about the answer as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Voice {
    /// The request's id; the answer's own id is made of it.
    pub request_id: String,
    /// The model's canonical id.
    pub model: String,
    /// When the answer began, in Unix seconds.
    pub created: u64,
    /// Whether the client of a chat stream asked for usage.
    pub wants_usage: bool,
    /// Members of the request that the answer repeats, in JSON, without braces, where the dialect does so.
    pub echo: Option<String>,
}

impl Dialect {
    /// The name in activity rows.
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::Chat => "chat",
            Dialect::Responses => "responses",
            Dialect::Messages => "messages",
        }
    }

    /// Parses a body. Errors are `invalid_input` with the field's path in `param`.
    pub fn parse(self, bytes: Vec<u8>) -> Result<Request, Failure> {
        self.parse_body(common::read(bytes)?)
    }

    /// The same of a body whose members are known.
    pub fn parse_body(self, body: Body) -> Result<Request, Failure> {
        match self {
            Dialect::Chat => chat::parse_body(body),
            Dialect::Responses => responses::parse_body(body),
            Dialect::Messages => messages::parse_body(body),
        }
    }

    /// The typed form of a parsed request, for a family that does not speak the dialect.
    pub fn prompt(self, request: &Request) -> Result<Prompt<'_>, Failure> {
        match self {
            Dialect::Chat => chat_prompt::prompt(request),
            Dialect::Responses => responses::prompt(request),
            Dialect::Messages => messages::prompt(request),
        }
    }

    /// What an answer to the request repeats of it.
    pub fn echo(self, request: &Request) -> Option<String> {
        match self {
            Dialect::Responses => Some(responses::echo(request)),
            Dialect::Chat | Dialect::Messages => None,
        }
    }

    /// Fields that are for the gateway alone and never sent to a provider.
    pub const fn gateway_fields(self) -> &'static [&'static str] {
        match self {
            Dialect::Chat => chat::GATEWAY_FIELDS,
            Dialect::Responses => responses::GATEWAY_FIELDS,
            Dialect::Messages => messages::GATEWAY_FIELDS,
        }
    }

    /// A whole answer. `price` are members that its usage object gains.
    pub fn write(self, reply: &Reply, voice: &Voice, price: Option<&str>) -> Vec<u8> {
        match self {
            Dialect::Chat => chat_out::write(reply, voice, price),
            Dialect::Responses => responses::write(reply, voice, price),
            Dialect::Messages => messages::write(reply, voice, price),
        }
    }

    /// The envelope of a failure.
    pub fn failure(self, failure: &Failure, request_id: &str) -> String {
        match self {
            Dialect::Chat | Dialect::Responses => failure.envelope(request_id),
            Dialect::Messages => messages::failure(failure, request_id),
        }
    }

    /// The last event of a stream that failed, where no encoder has state of it (a passed-through stream, or none yet).
    pub fn failure_event(self, failure: &Failure, request_id: &str, out: &mut Vec<u8>) {
        match self {
            Dialect::Chat => crate::sse::write_data(&failure.envelope(request_id), out),
            Dialect::Responses => responses::failure_event(failure, request_id, out),
            Dialect::Messages => messages::failure_event(failure, request_id, out),
        }
    }

    /// What ends a passed-through stream whose provider forgot to.
    pub fn end_mark(self, out: &mut Vec<u8>) {
        match self {
            Dialect::Chat => crate::sse::write_data("[DONE]", out),
            Dialect::Responses => {}
            Dialect::Messages => messages::end_mark(out),
        }
    }
}

/// Writes a stream in the client's dialect, event by event.
#[derive(Debug)]
pub enum Encoder {
    /// OpenAI chat completions.
    Chat(Box<chat_out::Encoder>),
    /// OpenAI Responses.
    Responses(Box<responses::Encoder>),
    /// Anthropic Messages.
    Messages(Box<messages::Encoder>),
}

impl Encoder {
    /// For one answer.
    pub fn new(dialect: Dialect, voice: Voice) -> Encoder {
        match dialect {
            Dialect::Chat => Encoder::Chat(Box::new(chat_out::Encoder::new(voice))),
            Dialect::Responses => Encoder::Responses(Box::new(responses::Encoder::new(voice))),
            Dialect::Messages => Encoder::Messages(Box::new(messages::Encoder::new(voice))),
        }
    }

    /// One event. Faults are not for encoders: the relay ends the stream with [`Encoder::fail`].
    pub fn push(&mut self, event: &Event, out: &mut Vec<u8>) {
        match self {
            Encoder::Chat(encoder) => encoder.push(event, out),
            Encoder::Responses(encoder) => encoder.push(event, out),
            Encoder::Messages(encoder) => encoder.push(event, out),
        }
    }

    /// The regular end: finish, usage with its price (as the dialect shows it), end mark. Once.
    pub fn finish(&mut self, usage: Option<&Usage>, amend: Amend<'_>, out: &mut Vec<u8>) {
        match self {
            Encoder::Chat(encoder) => encoder.finish(usage, amend, out),
            Encoder::Responses(encoder) => encoder.finish(usage, amend, out),
            Encoder::Messages(encoder) => encoder.finish(usage, amend, out),
        }
    }

    /// The end of a stream that was cut or failed: one error event in the dialect's form, never a normal finish.
    pub fn fail(&mut self, failure: &Failure, request_id: &str, out: &mut Vec<u8>) {
        match self {
            Encoder::Chat(_) => Dialect::Chat.failure_event(failure, request_id, out),
            Encoder::Responses(encoder) => encoder.fail(failure, request_id, out),
            Encoder::Messages(_) => Dialect::Messages.failure_event(failure, request_id, out),
        }
    }
}
