//! One text request, parsed. Past this type no field is looked at as JSON again, and the body's bytes travel along
//! unchanged: a family that speaks the client's dialect edits them in place.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::json::{Entries, Member};
use crate::text::demand::Demand;
use crate::text::terms::Terms;

/// Something an offer must be able to do to serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// Function tools.
    Tools,
    /// Images in the prompt.
    Vision,
    /// Audio in the prompt.
    AudioInput,
    /// Files in the prompt.
    FileInput,
    /// Audio as output.
    AudioOutput,
    /// `response_format` with a JSON schema.
    StructuredOutput,
}

impl Need {
    /// The capability's name in the catalog.
    pub const fn capability(self) -> &'static str {
        match self {
            Need::Tools => "tools",
            Need::Vision => "vision",
            Need::AudioInput => "audio_input",
            Need::FileInput => "pdf_input",
            Need::AudioOutput => "audio_output",
            Need::StructuredOutput => "structured_output",
        }
    }
}

/// What the order of candidates optimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A bit of everything.
    #[default]
    Balanced,
    /// Cheapest for this request.
    Price,
    /// Soonest first byte.
    Latency,
    /// Most tokens per second.
    Throughput,
}

/// Whether providers that may keep or train on prompts are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataCollection {
    /// Any provider.
    Allow,
    /// Only providers known not to train on prompts.
    Deny,
}

/// Highest acceptable prices, decimal dollars: per million tokens, per request, per image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MaxPrice {
    /// Per million prompt tokens.
    pub prompt: Option<crate::money::Price>,
    /// Per million completion tokens.
    pub completion: Option<crate::money::Price>,
    /// Per request.
    pub request: Option<crate::money::Price>,
    /// Per picture, or megapixel of one.
    pub image: Option<crate::money::Price>,
    /// Per second of sound.
    pub audio: Option<crate::money::Price>,
}

/// The request's `provider` object. Lists are hard: when they leave nobody, the answer says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProviderPreferences {
    /// These first, in this order.
    pub order: Vec<String>,
    /// No other than these; empty is all.
    pub only: Vec<String>,
    /// None of these.
    pub ignore: Vec<String>,
    /// Whether providers outside `order` may serve.
    pub allow_fallbacks: Option<bool>,
    /// Only offers known to take every parameter of the request.
    pub require_parameters: bool,
    /// `deny` excludes providers that may train on prompts, and those of which it is not known.
    pub data_collection: Option<DataCollection>,
    /// Only providers known to keep nothing.
    pub zdr: bool,
    /// Only providers with one of these regions; empty is all.
    pub regions: Vec<String>,
    /// Routing mode of this request.
    pub sort: Option<Mode>,
    /// Price ceiling.
    pub max_price: MaxPrice,
    /// Only offers that are known to run in one of these; empty is any.
    pub quantizations: Vec<String>,
    /// Whether a second attempt may join one that is late.
    pub hedge: bool,
    /// Offers that usually take longer to their first content go behind the others, in milliseconds.
    pub preferred_max_latency_ms: Option<u64>,
    /// Offers that usually give fewer tokens go behind the others, in tokens per thousand seconds.
    pub preferred_min_millitokens: Option<u64>,
    /// Members that mean nothing here: the client is told, for a wish that was misspelt is not kept.
    pub unknown: Vec<String>,
}

/// The client's bytes and the places of their top-level members.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// As received.
    pub bytes: Vec<u8>,
    /// Top-level members.
    pub members: Vec<Member>,
    /// The members of each of `messages`, where reading the body has come past them.
    pub messages: Option<Entries>,
}

impl Body {
    /// Whether the request has a top-level field of that name.
    pub fn has(&self, key: &str) -> bool {
        self.members.iter().any(|member| member.key == key)
    }

    /// The JSON text of a top-level field.
    pub fn value(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes_of(key)?).ok()
    }

    /// The same as bytes, where nobody reads them.
    pub fn bytes_of(&self, key: &str) -> Option<&[u8]> {
        let member = self.members.iter().find(|member| member.key == key)?;
        self.bytes.get(member.value.clone())
    }
}

/// A parsed text request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Names of models in order: `model`, then `models`. At least one.
    pub models: Vec<String>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether the client asked for a usage chunk.
    pub wants_usage: bool,
    /// Whether the client asked for the cost inside the stream's usage (`usage: {include: true}`).
    pub wants_cost: bool,
    /// The quality of pictures, where prices depend on it.
    pub quality: Option<String>,
    /// Their size.
    pub size: Option<String>,
    /// What an offer must be able to do.
    pub needs: BTreeSet<Need>,
    /// Size and limits.
    pub demand: Demand,
    /// The `provider` object.
    pub provider: ProviderPreferences,
    /// The client's end user.
    pub user: Option<String>,
    /// Conversation, for stickiness and the log.
    pub session: Option<String>,
    /// What its price hangs on, as asked for.
    pub terms: Terms,
    /// Byte ranges of `"developer"` role values inside the body.
    pub developer_roles: Vec<std::ops::Range<usize>>,
    /// The bytes.
    pub body: Body,
}
