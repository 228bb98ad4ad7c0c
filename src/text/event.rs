//! The typed form of an answer: what happened, in order. Plain answers are the same events, all at once.

use crate::family::fault::Fault;
use crate::text::prompt::ToolKind;
use crate::text::terms::Term;
use crate::usage::Usage;

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model was done, or a stop sequence came.
    Stop,
    /// A limit of tokens.
    Length,
    /// Tools are to be called.
    ToolCalls,
    /// The provider's filter, or the model refused.
    ContentFilter,
}

impl Finish {
    /// The word of the chat dialect.
    pub const fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::ToolCalls => "tool_calls",
            Finish::ContentFilter => "content_filter",
        }
    }
}

/// One thing that happened. `choice` counts from 0; `call` counts the tool calls of a choice from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The answer begins. Ids and models are the provider's own words.
    Start {
        /// The answer's id there.
        id: Option<String>,
        /// The model's name there.
        model: Option<String>,
    },
    /// More text.
    Text {
        /// The choice.
        choice: u32,
        /// The text.
        text: String,
        /// `logprobs` in the chat dialect's form, as JSON.
        logprobs: Option<String>,
    },
    /// More of a refusal.
    Refusal {
        /// The choice.
        choice: u32,
        /// The text.
        text: String,
        /// Whether the model wrote it, and not the provider in its place.
        is_generated: bool,
    },
    /// More reasoning that may be shown.
    Reasoning {
        /// The choice.
        choice: u32,
        /// The text.
        text: String,
    },
    /// A block of reasoning is over: what must come back with it. Also stands alone, for reasoning that is all sealed.
    ReasoningEnd {
        /// The choice.
        choice: u32,
        /// Proof that the text is the issuer's.
        signature: Option<String>,
        /// Reasoning that only the issuer can read.
        sealed: Option<String>,
        /// Its id there.
        id: Option<String>,
        /// Whose it is, see [`crate::text::issuer`].
        issuer: Option<String>,
    },
    /// A tool call begins. Each call has one, with an id and a name.
    CallStart {
        /// The choice.
        choice: u32,
        /// Which call.
        call: u32,
        /// Its id.
        id: String,
        /// The tool.
        name: String,
        /// What kind of tool.
        kind: ToolKind,
        /// Whose signature over the call there is, and the signature.
        signature: Option<(String, String)>,
    },
    /// More of its arguments.
    CallDelta {
        /// The choice.
        choice: u32,
        /// Which call.
        call: u32,
        /// A piece of JSON text.
        arguments: String,
    },
    /// The call is complete. Decoders send it for every call, at the latest before `Finish`.
    CallEnd {
        /// The choice.
        choice: u32,
        /// Which call.
        call: u32,
    },
    /// A citation, as an annotation of the chat dialect (`{"type":"url_citation","url_citation":{…}}`).
    Annotation {
        /// The choice.
        choice: u32,
        /// The annotation.
        json: String,
    },
    /// More audio, as an `audio` object of a chat delta.
    Audio {
        /// The choice.
        choice: u32,
        /// The object.
        json: String,
    },
    /// A whole image, as a data URL or a link.
    Image {
        /// The choice.
        choice: u32,
        /// The URL.
        url: String,
    },
    /// A choice is complete.
    Finish {
        /// The choice.
        choice: u32,
        /// Why.
        reason: Finish,
        /// The stop sequence that was met.
        stop_sequence: Option<String>,
    },
    /// A usage report. The last one counts; it may come before, with or after `Finish`.
    Usage(Usage),
    /// The tier that serves.
    ServiceTier(String),
    /// Another term of the call.
    Term(Term, String),
    /// The provider tells of an error.
    Fault(Fault),
    /// Something that makes no sense in this family.
    Malformed,
    /// The stream's own end mark.
    Done,
}

impl Event {
    /// Bytes of generated content in it.
    pub fn content_bytes(&self) -> u64 {
        let len = match self {
            Event::Refusal { is_generated: false, .. } => 0,
            Event::Text { text, .. } | Event::Refusal { text, .. } | Event::Reasoning { text, .. } => text.len(),
            Event::ReasoningEnd { sealed, .. } => sealed.as_ref().map_or(0, String::len),
            Event::CallStart { name, .. } => name.len(),
            Event::CallDelta { arguments, .. } => arguments.len(),
            Event::Audio { json, .. } => json.len(),
            Event::Image { url, .. } => url.len(),
            _ => 0,
        };
        u64::try_from(len).unwrap_or(u64::MAX)
    }

    /// The choice it belongs to.
    pub fn choice(&self) -> Option<u32> {
        match self {
            Event::Text { choice, .. }
            | Event::Refusal { choice, .. }
            | Event::Reasoning { choice, .. }
            | Event::ReasoningEnd { choice, .. }
            | Event::CallStart { choice, .. }
            | Event::CallDelta { choice, .. }
            | Event::CallEnd { choice, .. }
            | Event::Annotation { choice, .. }
            | Event::Audio { choice, .. }
            | Event::Image { choice, .. }
            | Event::Finish { choice, .. } => Some(*choice),
            Event::Start { .. }
            | Event::Usage(_)
            | Event::ServiceTier(_)
            | Event::Term(..)
            | Event::Fault(_)
            | Event::Malformed
            | Event::Done => None,
        }
    }

    /// Whether it commits the answer to the client: content, or the regular end.
    pub fn is_content(&self) -> bool {
        self.content_bytes() > 0 || matches!(self, Event::Finish { .. })
    }
}
