//! How hosts are asked for a job, and what they answer: one file for each family, pure functions over JSON.
//!
//! Wire forms: part 11 of the wire formats; DashScope as in Alibaba's API reference for video synthesis.

mod ark;
mod bfl;
mod dashscope;
mod fal;
mod kling;
mod luma;
mod minimax;
mod openai;
mod replicate;
mod runway;
mod veo;
mod xai;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::order::{Kind, Order};
use super::reach::{Own, To};
use super::terms::Terms;
use crate::catalog::{Offer, Provider};
use crate::error::Code;
use crate::family::fault::Fault;
use crate::usage::{Meter, Usage};

/// A family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is its file")]
pub enum Family {
    OpenAi,
    Veo,
    VertexVeo,
    Replicate,
    Fal,
    MiniMax,
    Luma,
    Runway,
    Kling,
    Ark,
    Xai,
    DashScope,
    Bfl,
}

/// Families by the names in the catalog.
const FAMILIES: &[(&str, Family)] = &[
    ("openai-videos", Family::OpenAi),
    ("gemini", Family::Veo),
    ("vertex-gemini", Family::VertexVeo),
    ("replicate", Family::Replicate),
    ("fal-queue", Family::Fal),
    ("minimax-video", Family::MiniMax),
    ("luma", Family::Luma),
    ("runway", Family::Runway),
    ("kling", Family::Kling),
    ("ark-video", Family::Ark),
    ("xai-video", Family::Xai),
    ("dashscope-video", Family::DashScope),
    ("bfl", Family::Bfl),
];

/// What a host of a family can be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// What it makes.
    pub kinds: &'static [Kind],
    /// Lengths in seconds.
    pub seconds: &'static [u64],
    /// Its length where nobody says one.
    pub usual_seconds: u64,
    /// Resolutions; empty: whatever is said goes.
    pub resolutions: &'static [&'static str],
    /// Its resolution where nobody says one.
    pub resolution: &'static str,
    /// Ratios; empty: any.
    pub ratios: &'static [(u32, u32)],
    /// Its ratio where nobody says one.
    pub ratio: (u32, u32),
    /// Sizes; empty: any.
    pub sizes: &'static [(u32, u32)],
    /// Most reference images.
    pub references: usize,
    /// Whether images must be in the call.
    pub inlines: bool,
    /// Whether one call makes as many as wanted.
    pub counts: bool,
    /// Least wait between questions, in tenths of the first.
    pub floor: u64,
    /// Which hosts of its answers are its own.
    pub own: Own,
}

const VIDEO: &[Kind] = &[Kind::Video];
const BOTH: &[Kind] = &[Kind::Video, Kind::Image];
const ANY: &[u64] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const WIDE: (u32, u32) = (16, 9);
const TALL: (u32, u32) = (9, 16);
const USUAL: &[(u32, u32)] = &[WIDE, TALL, (1, 1), (4, 3), (3, 4), (21, 9), (9, 21), (3, 2), (2, 3)];

const BASE: Manner = Manner {
    kinds: VIDEO,
    seconds: ANY,
    usual_seconds: 5,
    resolutions: &[],
    resolution: "720p",
    ratios: USUAL,
    ratio: WIDE,
    sizes: &[],
    references: 4,
    inlines: false,
    counts: false,
    floor: 0,
    own: Own::Host,
};
const OPENAI: Manner = Manner {
    seconds: &[4, 8, 12],
    usual_seconds: 4,
    ratios: &[WIDE, TALL],
    ratio: TALL,
    sizes: &[(720, 1280), (1280, 720), (1024, 1792), (1792, 1024)],
    references: 1,
    ..BASE
};
const VEO: Manner = Manner {
    seconds: &[4, 5, 6, 7, 8],
    usual_seconds: 8,
    resolutions: &["720p", "1080p", "4k"],
    ratios: &[WIDE, TALL],
    inlines: true,
    counts: true,
    ..BASE
};
const KLING: Manner =
    Manner { seconds: &[5, 10], resolutions: &["720p", "1080p"], ratios: &[WIDE, TALL, (1, 1)], references: 2, ..BASE };
const LUMA: Manner =
    Manner { kinds: BOTH, seconds: &[5, 9], resolutions: &["540p", "720p", "1080p", "4k"], ratios: USUAL, ..BASE };
const MINIMAX: Manner = Manner {
    usual_seconds: 6,
    resolutions: &["480p", "512p", "768p", "1080p", "2k", "4k"],
    resolution: "768p",
    ..BASE
};
const DASHSCOPE: Manner = Manner { resolutions: &["480p", "720p", "1080p"], references: 9, ..BASE };

impl Manner {
    /// The length where nobody says one; a model keeps its own whoever hosts it.
    pub fn default_seconds(&self, upstream: &str) -> u64 {
        if upstream.contains("veo") { VEO.usual_seconds } else { self.usual_seconds }
    }
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method.
    pub method: &'static str,
    /// Where to.
    pub to: To,
    /// Headers beside those of the credential.
    pub headers: Vec<(&'static str, String)>,
    /// The body's content type.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Call {
    fn bare(method: &'static str, to: To) -> Call {
        Call { method, to, headers: Vec::new(), content_type: "application/json".to_owned(), body: Vec::new() }
    }

    /// A question.
    pub fn get(to: To) -> Call {
        Call::bare("GET", to)
    }

    fn post(path: impl Into<String>, body: &Value) -> Call {
        Call { body: body.to_string().into_bytes(), ..Call::bare("POST", To::Path(path.into())) }
    }
}

/// What a job is written from.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What the client wants.
    pub order: &'a Order,
    /// What the host is asked for.
    pub terms: &'a Terms,
    /// The model's name there.
    pub upstream: &'a str,
    /// Our id of the job.
    pub id: &'a str,
}

/// A job at a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Handle {
    /// Its name there.
    pub id: String,
    /// Where its state is, where the host said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<To>,
    /// Where its result is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<To>,
    /// Where it is cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<To>,
}

/// Where an output is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// At an address that anybody can read.
    Link(String),
    /// At the host, for its credential.
    Own(To),
    /// In base64 in the answer about the job, at this place.
    Inside(usize),
}

/// An output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub source: Source,
}

impl Media {
    fn links(kind: Kind, value: Option<&Value>) -> Vec<Media> {
        let link = |url: &str| Media { kind, source: Source::Link(url.to_owned()) };
        match value {
            Some(Value::String(url)) => vec![link(url)],
            Some(Value::Array(list)) => list.iter().flat_map(|one| Media::links(kind, Some(one))).collect(),
            Some(Value::Object(object)) => Media::links(kind, object.get("url")),
            _ => Vec::new(),
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Not at its end.
    Waiting {
        /// Whether it has begun.
        is_running: bool,
        /// How much is done, of a hundred.
        percent: Option<u64>,
    },
    /// At its end, and the result is elsewhere.
    Then(To),
    /// Done, with what the host says it used.
    Made(Vec<Media>, Usage),
    /// Failed.
    Failed(Code),
}

impl Progress {
    fn waiting(is_running: bool) -> Progress {
        Progress::Waiting { is_running, percent: None }
    }

    /// Made, where there is anything.
    fn made(media: Vec<Media>, usage: Usage) -> Progress {
        if media.is_empty() { Progress::Failed(Code::ProviderError) } else { Progress::Made(media, usage) }
    }

    /// Failed, and whether for what was asked.
    fn failed(words: &str) -> Progress {
        Progress::Failed(blame(words))
    }
}

/// Words of a refusal for what was asked or made.
const REFUSALS: &[&str] =
    &["moderat", "safety", "sensitive", "policy", "nsfw", "inspection", "prohibited", "content_filter", "risk"];

/// Whose fault it is, by the host's words.
fn blame(words: &str) -> Code {
    let words = words.to_ascii_lowercase();
    if REFUSALS.iter().any(|word| words.contains(word)) { Code::InvalidInput } else { Code::ProviderError }
}

/// A text below a pointer.
fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A whole number below a pointer: from a number, rounded up, or its text.
fn number(value: &Value, pointer: &str) -> Option<u64> {
    rounded(value.pointer(pointer)?, f64::ceil)
}

fn rounded(value: &Value, round: fn(f64) -> f64) -> Option<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds and counts")]
    let whole = |number: f64| (0.0..1e9).contains(&number).then(|| round(number) as u64);
    match value {
        Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.trim_end_matches('s').parse().ok().and_then(whole),
        _ => None,
    }
}

/// The length of a film in seconds: hosts sell whole ones, and tell of one of five that it has 5.1.
fn length(value: &Value, pointer: &str) -> Option<u64> {
    rounded(value.pointer(pointer)?, f64::round)
}

/// What a host reports of a film's length.
fn seconds(value: &Value, pointer: &str) -> Usage {
    Usage::default().with(Meter::OutputVideoSeconds, length(value, pointer).unwrap_or(0))
}

/// An id that can stand in a path.
fn id_of(value: &Value, pointer: &str) -> Option<String> {
    let id = match value.pointer(pointer)? {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return None,
    };
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~:".contains(&byte);
    (1..=512).contains(&id.len()).then_some(id).filter(|id| id.bytes().all(is_safe) && !id.contains(".."))
}

fn malformed() -> Fault {
    Fault { message: "malformed".to_owned(), ..Fault::default() }
}

/// The family in which an offer is asked for a job.
pub fn family_of<'a>(offer: &'a Offer, provider: &'a Provider) -> Option<(&'a str, Family)> {
    let kind = Kind::of(&offer.kind)?;
    let own = offer.family.as_deref().into_iter();
    let names = own.chain(provider.families.iter().map(String::as_str).filter(|_| offer.family.is_none()));
    let mut known = names.filter_map(|name| FAMILIES.iter().find(|(known, _)| *known == name).map(|(_, f)| (name, *f)));
    known.find(|(_, family)| family.manner().kinds.contains(&kind))
}

impl Family {
    /// What its hosts can be asked for.
    pub const fn manner(self) -> &'static Manner {
        match self {
            Family::OpenAi => &OPENAI,
            Family::Veo | Family::VertexVeo => &VEO,
            Family::Replicate => &Manner { kinds: BOTH, ratios: &[], ..BASE },
            Family::Fal => &Manner { kinds: BOTH, references: 9, ..BASE },
            Family::MiniMax => &MINIMAX,
            Family::Luma => &LUMA,
            Family::Runway => &Manner { kinds: BOTH, floor: 25, ..BASE },
            Family::Kling => &KLING,
            Family::Ark => &Manner { seconds: ANY, references: 9, ..BASE },
            Family::Xai => &Manner { usual_seconds: 6, resolutions: &["480p", "720p", "1080p"], references: 1, ..BASE },
            Family::DashScope => &DASHSCOPE,
            Family::Bfl => &Manner { kinds: &[Kind::Image], own: Own::Siblings, ..BASE },
        }
    }

    /// The call that starts a job.
    pub fn submit(self, ask: &Ask<'_>) -> Call {
        match self {
            Family::OpenAi => openai::submit(ask),
            Family::Veo => veo::submit(ask, veo::AI_STUDIO),
            Family::VertexVeo => veo::submit(ask, veo::VERTEX),
            Family::Replicate => replicate::submit(ask),
            Family::Fal => fal::submit(ask),
            Family::MiniMax => minimax::submit(ask),
            Family::Luma => luma::submit(ask),
            Family::Runway => runway::submit(ask),
            Family::Kling => kling::submit(ask),
            Family::Ark => ark::submit(ask),
            Family::Xai => xai::submit(ask),
            Family::DashScope => dashscope::submit(ask),
            Family::Bfl => bfl::submit(ask),
        }
    }

    /// The job that an answer to that tells of.
    pub fn started(self, value: &Value, ask: &Ask<'_>) -> Result<Handle, Fault> {
        let found = match self {
            Family::OpenAi | Family::Ark | Family::Runway | Family::Luma => plain(value, "/id"),
            Family::Veo | Family::VertexVeo => veo::started(value),
            Family::Replicate => replicate::started(value),
            Family::Fal => fal::started(value),
            Family::MiniMax => minimax::started(value, ask.upstream),
            Family::Kling => kling::started(value, ask),
            Family::Xai => plain(value, "/request_id"),
            Family::DashScope => plain(value, "/output/task_id"),
            Family::Bfl => bfl::started(value),
        };
        found.ok_or_else(|| self.fault(value).unwrap_or_else(malformed))
    }

    /// What an answer tells of a failure.
    pub fn fault(self, value: &Value) -> Option<Fault> {
        match self {
            Family::Kling => kling::fault(value),
            _ => crate::family::fault::from_value(value),
        }
    }

    /// The question how far it is.
    pub fn poll(self, handle: &Handle, upstream: &str) -> Call {
        let below = |prefix: &str| Call::get(To::Path(format!("{prefix}{}", handle.id)));
        if let Some(to) = &handle.state {
            return Call::get(to.clone());
        }
        match self {
            Family::OpenAi | Family::Xai => below("/videos/"),
            Family::Veo => below("/"),
            Family::VertexVeo => veo::fetch(handle, upstream),
            Family::Replicate => below("/predictions/"),
            Family::Fal | Family::MiniMax | Family::Kling | Family::Bfl => below("/"),
            Family::Luma => below("/generations/"),
            Family::Runway | Family::DashScope => below("/tasks/"),
            Family::Ark => below("/contents/generations/tasks/"),
        }
    }

    /// What an answer to that says.
    pub fn progress(self, value: &Value, handle: &Handle, kind: Kind) -> Result<Progress, Fault> {
        let found = match self {
            Family::OpenAi => openai::progress(value, handle),
            Family::Veo => veo::progress(value),
            Family::VertexVeo => veo::progress_of_vertex(value),
            Family::Replicate => replicate::progress(value, kind),
            Family::Fal => fal::progress(value, handle),
            Family::MiniMax => minimax::progress(value),
            Family::Luma => luma::progress(value),
            Family::Runway => runway::progress(value, kind),
            Family::Kling => kling::progress(value),
            Family::Ark => ark::progress(value),
            Family::Xai => xai::progress(value),
            Family::DashScope => dashscope::progress(value),
            Family::Bfl => bfl::progress(value),
        };
        found.ok_or_else(|| self.fault(value).unwrap_or_else(malformed))
    }

    /// What a result says that is elsewhere. `status` is that of the answer.
    pub fn result(self, status: u16, value: &Value) -> Result<Progress, Fault> {
        let found = match self {
            Family::Fal => fal::result(status, value),
            Family::MiniMax => minimax::result(value),
            _ => None,
        };
        found.ok_or_else(|| self.fault(value).unwrap_or_else(malformed))
    }

    /// The call that cancels it, where the host knows one.
    pub fn cancel(self, handle: &Handle) -> Option<Call> {
        let below = |method: &'static str, prefix: &str, suffix: &str| {
            let path = format!("{prefix}{}{suffix}", handle.id);
            Some(Call::bare(method, To::Path(path)))
        };
        let said = |method: &'static str| handle.cancel.clone().map(|to| Call::bare(method, to));
        match self {
            Family::OpenAi => below("DELETE", "/videos/", ""),
            Family::Replicate => said("POST").or_else(|| below("POST", "/predictions/", "/cancel")),
            Family::Fal => said("PUT"),
            Family::Luma => below("DELETE", "/generations/", ""),
            Family::Runway => below("DELETE", "/tasks/", ""),
            Family::Ark => below("DELETE", "/contents/generations/tasks/", ""),
            Family::DashScope => below("POST", "/tasks/", "/cancel"),
            Family::Veo | Family::VertexVeo | Family::MiniMax | Family::Kling | Family::Xai | Family::Bfl => None,
        }
    }

    /// An output that is inside of an answer about the job.
    pub fn inside(self, value: &Value, place: usize) -> Option<(Vec<u8>, String)> {
        match self {
            Family::VertexVeo => veo::inside(value, place),
            _ => None,
        }
    }
}

fn plain(value: &Value, pointer: &str) -> Option<Handle> {
    Some(Handle { id: id_of(value, pointer)?, ..Handle::default() })
}

#[cfg(test)]
mod tests;
