//! Work that is not text: embeddings, rerank, moderation, images, speech, transcription.
//!
//! Each kind of work parses its request once, writes it in the shape of the host that is asked, and reads the answer back
//! into the front's shape together with what was used. All of it is pure; `serve::media` moves the bytes.

pub mod embeddings;
pub mod images;
pub mod moderation;
pub mod multipart;
pub mod rerank;
pub mod speech;
pub mod transcription;

use std::collections::BTreeMap;

use crate::catalog::{Offer, PriceCard, Provider};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::ledger::bound::Bound;
use crate::money::{Price, Unrounded};
use crate::time::Millis;
use crate::usage::{Meter, Usage};

/// How a host is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As OpenAI has it.
    OpenAi,
    /// Cohere v2.
    Cohere,
    /// Gemini.
    Gemini,
    /// Voyage.
    Voyage,
    /// Jina.
    Jina,
    /// ElevenLabs.
    ElevenLabs,
    /// Deepgram.
    Deepgram,
}

const SHAPES: &[(&str, Shape)] = &[
    ("openai-chat", Shape::OpenAi),
    ("openai-responses", Shape::OpenAi),
    ("openai-embeddings", Shape::OpenAi),
    ("azure-openai", Shape::OpenAi),
    ("mistral", Shape::OpenAi),
    ("cohere-v2", Shape::Cohere),
    ("gemini", Shape::Gemini),
    ("voyage", Shape::Voyage),
    ("jina", Shape::Jina),
    ("elevenlabs", Shape::ElevenLabs),
    ("deepgram", Shape::Deepgram),
];

/// The shape of a family of that name.
pub fn shape_of(family: &str) -> Option<Shape> {
    SHAPES.iter().find(|(name, _)| *name == family).map(|(_, shape)| *shape)
}

/// A request in a host's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The path below the base URL.
    pub path: String,
    /// The body's content type.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Written {
    /// JSON.
    pub fn json(path: &str, body: impl Into<Vec<u8>>) -> Written {
        Written { path: path.to_owned(), content_type: "application/json".to_owned(), body: body.into() }
    }
}

/// An answer in the front's shape, and what was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Its content type.
    pub content_type: String,
    /// The body; of JSON with a `usage` object, the cost is added to that.
    pub body: Vec<u8>,
    /// What the host reported, and what can be counted in the answer.
    pub usage: Usage,
}

/// What an answer is read with.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// How the host was asked.
    pub shape: Shape,
    /// The answer's content type.
    pub content_type: &'a str,
    /// The model's canonical id.
    pub model: &'a str,
    /// The request's id.
    pub id: &'a str,
    /// Now, in seconds since the epoch.
    pub created: u64,
}

/// Work of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Vectors of texts.
    Embeddings(embeddings::Embeddings),
    /// Documents by relevance.
    Rerank(rerank::Rerank),
    /// What is wrong with a text.
    Moderation(moderation::Moderation),
    /// Pictures.
    Images(images::Images),
    /// Speech.
    Speech(speech::Speech),
    /// What was said.
    Transcription(transcription::Transcription),
    /// A film, or a picture that takes its time.
    Job(Box<crate::job::order::Order>),
}

/// Ways to measure a request, the one to prefer first: each a set of meters with the most that can be used.
pub type Measures = Vec<Vec<(Meter, u64)>>;

impl Work {
    /// The kind of offer that serves it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Work::Embeddings(_) => "embedding",
            Work::Rerank(_) => "rerank",
            Work::Moderation(_) => "moderation",
            Work::Images(_) => "image",
            Work::Speech(_) => "speech",
            Work::Transcription(_) => "transcription",
            Work::Job(_) => "video",
        }
    }

    /// Whether an offer can be asked for it; `Err` names what of it the offer cannot do.
    pub fn is_served(&self, offer: &Offer, provider: &Provider) -> Result<bool, String> {
        match self {
            Work::Job(order) => match order.terms(offer, provider) {
                None => Ok(false),
                Some(Ok(_)) => Ok(true),
                Some(Err(failure)) => Err(format!("{} {}", failure.param.unwrap_or_default(), failure.message)),
            },
            _ => Ok(offer.kind == self.kind() && self.shape(offer, provider).is_some()),
        }
    }

    /// The shapes it can be written in.
    const fn shapes(&self) -> &'static [Shape] {
        match self {
            Work::Embeddings(_) => &[Shape::OpenAi, Shape::Cohere, Shape::Gemini, Shape::Voyage, Shape::Jina],
            Work::Rerank(_) => &[Shape::OpenAi, Shape::Cohere, Shape::Voyage, Shape::Jina],
            Work::Moderation(_) => &[Shape::OpenAi],
            Work::Images(work) => work.shapes(),
            Work::Speech(_) => &[Shape::OpenAi, Shape::ElevenLabs, Shape::Deepgram],
            Work::Transcription(work) => work.shapes(),
            Work::Job(_) => &[],
        }
    }

    /// The family in which an offer is asked for it, and its shape; `None`: this build does not speak it.
    pub fn shape<'a>(&self, offer: &'a Offer, provider: &'a Provider) -> Option<(&'a str, Shape)> {
        let own = offer.family.as_deref().into_iter();
        let families = own.chain(provider.families.iter().map(String::as_str));
        let mut spoken = families.filter_map(|name| shape_of(name).map(|shape| (name, shape)));
        spoken.find(|(_, shape)| self.shapes().contains(shape))
    }

    /// Ways to measure it.
    pub fn measures(&self) -> Measures {
        match self {
            Work::Embeddings(work) => work.measures(),
            Work::Rerank(work) => work.measures(),
            Work::Moderation(work) => work.measures(),
            Work::Images(work) => work.measures(),
            Work::Speech(work) => work.measures(),
            Work::Transcription(work) => work.measures(),
            Work::Job(_) => crate::job::charge::measures(),
        }
    }

    /// Writes it for a model of that name at the host. `by` are the meters that it will be charged by.
    pub fn write(&self, shape: Shape, upstream: &str, by: &[Meter]) -> Result<Written, Failure> {
        match self {
            Work::Embeddings(work) => work.write(shape, upstream),
            Work::Rerank(work) => work.write(shape, upstream),
            Work::Moderation(work) => work.write(upstream),
            Work::Images(work) => work.write(shape, upstream),
            Work::Speech(work) => work.write(shape, upstream),
            Work::Transcription(work) => work.write(shape, upstream, by),
            Work::Job(_) => Err(Failure::new(crate::error::Code::NotFound, "a job is not asked for like this")),
        }
    }

    /// Reads an answer.
    pub fn read(&self, bytes: Vec<u8>, reading: &Reading<'_>) -> Result<Answered, Fault> {
        match self {
            Work::Embeddings(work) => work.read(&bytes, reading),
            Work::Rerank(work) => work.read(&bytes, reading),
            Work::Moderation(work) => work.read(bytes),
            Work::Images(work) => work.read(bytes, reading),
            Work::Speech(work) => work.read(bytes, reading),
            Work::Transcription(work) => work.read(bytes, reading),
            Work::Job(_) => Err(Fault::default()),
        }
    }

    /// Of the ways to measure it, the first that the card has prices for.
    pub fn priced_by(&self, card: &PriceCard) -> Option<Vec<(Meter, u64)>> {
        self.measures().into_iter().find(|measure| measure.iter().all(|(meter, _)| card.prices.contains_key(meter)))
    }

    /// The worst case at an offer; `None` where the card does not price anything that can be measured.
    pub fn bound(&self, offer: &Offer, provider: &Provider, now: Millis) -> Option<Bound> {
        if let Work::Job(order) = self {
            let terms = order.terms(offer, provider)?.ok()?;
            return crate::job::charge::bound(order, &terms, offer, now).map(fixed);
        }
        let measure = self.priced_by(&offer.card)?;
        let tokens = measure.iter().filter(|(meter, _)| meter.per() > 1).map(|(_, quantity)| *quantity).sum();
        let prices = offer.card.dearest(tokens);
        let sum = measure.iter().try_fold(Unrounded::default(), |sum, (meter, quantity)| {
            sum.with(*quantity, prices.get(meter).copied().unwrap_or(Price(i64::MAX)))
        });
        sum.and_then(Unrounded::round_up).ok().map(fixed)
    }

    /// What is charged: by the meters of the measure, what the answer says, else what the request says.
    pub fn charged(&self, measure: &[(Meter, u64)], answered: &Usage) -> (Usage, bool) {
        let mut usage = Usage::default();
        let mut is_estimated = false;
        let known: BTreeMap<Meter, u64> = self.counted().into_iter().collect();
        for (meter, most) in measure {
            let said = Some(answered.quantity(*meter)).filter(|quantity| *quantity > 0);
            let quantity = said.or_else(|| known.get(meter).copied()).unwrap_or_else(|| {
                is_estimated = true;
                // A token of text is about four bytes, and the bound is one for each.
                if meter.per() > 1 { most.div_ceil(4) } else { *most }
            });
            usage.set(*meter, quantity);
        }
        (usage, is_estimated)
    }

    /// What the request itself counts exactly.
    fn counted(&self) -> Vec<(Meter, u64)> {
        match self {
            Work::Embeddings(_) | Work::Moderation(_) | Work::Transcription(_) | Work::Job(_) => Vec::new(),
            Work::Rerank(work) => vec![(Meter::SearchUnits, work.search_units()), (Meter::Requests, 1)],
            Work::Images(work) => work.counted(),
            Work::Speech(work) => vec![(Meter::InputCharacters, work.characters()), (Meter::Requests, 1)],
        }
    }

    /// The names of models, in order.
    pub fn models(&self) -> &[String] {
        match self {
            Work::Embeddings(work) => &work.common.models,
            Work::Rerank(work) => &work.common.models,
            Work::Moderation(work) => &work.common.models,
            Work::Images(work) => &work.common.models,
            Work::Speech(work) => &work.common.models,
            Work::Transcription(work) => &work.common.models,
            Work::Job(order) => &order.models,
        }
    }

    /// What all kinds of work have.
    pub fn common(&self) -> &Common {
        match self {
            Work::Embeddings(work) => &work.common,
            Work::Rerank(work) => &work.common,
            Work::Moderation(work) => &work.common,
            Work::Images(work) => &work.common,
            Work::Speech(work) => &work.common,
            Work::Transcription(work) => &work.common,
            // Nothing of a job's body is passed on.
            Work::Job(_) => &NOTHING,
        }
    }
}

static NOTHING: std::sync::LazyLock<Common> = std::sync::LazyLock::new(Common::default);

/// The bound of work whose length is known beforehand.
fn fixed(most: crate::money::Nanos) -> Bound {
    Bound {
        prompt_nanos: most,
        output_price: Price(0),
        output_tokens: 0,
        choices: 1,
        must_send_limit: false,
        is_stated: true,
    }
}

/// What all kinds of work have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Common {
    /// Names of models in order, at least one.
    pub models: Vec<String>,
    /// The client's fields, by name, for what is passed on as it is.
    pub body: serde_json::Map<String, serde_json::Value>,
}

/// Fields of ours that no host is sent.
const OWN: &[&str] = &["models", "provider", "preset", "session_id", "metadata"];

impl Common {
    /// From a JSON body.
    pub fn parse(bytes: &[u8], fallback: Option<&str>) -> Result<Common, Failure> {
        let body: serde_json::Map<String, serde_json::Value> = crate::json::parse_body(bytes).map_err(|error| {
            Failure { param: error.path, ..Failure::new(crate::error::Code::InvalidInput, error.message) }
        })?;
        Common::of(body, fallback)
    }

    /// From fields.
    pub fn of(body: serde_json::Map<String, serde_json::Value>, fallback: Option<&str>) -> Result<Common, Failure> {
        let mut models: Vec<String> = Vec::new();
        match body.get("model") {
            Some(serde_json::Value::String(name)) => models.push(name.clone()),
            None | Some(serde_json::Value::Null) => {}
            Some(_) => return Err(Failure::invalid("model", "must be a string")),
        }
        match body.get("models") {
            None | Some(serde_json::Value::Null) => {}
            Some(serde_json::Value::Array(list)) => {
                for name in list {
                    let name = name.as_str().ok_or_else(|| Failure::invalid("models", "must be a list of strings"))?;
                    models.push(name.to_owned());
                }
            }
            Some(_) => return Err(Failure::invalid("models", "must be a list of strings")),
        }
        if models.is_empty() {
            models.extend(fallback.map(str::to_owned));
        }
        if models.is_empty() {
            return Err(Failure::invalid("model", "is missing"));
        }
        Ok(Common { models, body })
    }

    /// The body for a host of the same shape: the client's own, with the model's name there and without our fields.
    pub fn passed(&self, upstream: &str, without: &[&str]) -> serde_json::Map<String, serde_json::Value> {
        let mut body = self.body.clone();
        OWN.iter().chain(without).for_each(|name| drop(body.remove(*name)));
        body.insert("model".to_owned(), upstream.into());
        body
    }

    /// A string field.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        match self.body.get(name) {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(serde_json::Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Failure::invalid(name, "must be a string")),
        }
    }

    /// A whole number between two.
    pub fn count(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Failure> {
        match self.body.get(name) {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(value) => match value.as_u64().filter(|value| (least..=most).contains(value)) {
                Some(value) => Ok(Some(value)),
                None => Err(Failure::invalid(name, format!("must be a whole number from {least} to {most}"))),
            },
        }
    }

    /// A string field that must be one of those.
    pub fn word(&self, name: &str, known: &[&str]) -> Result<Option<String>, Failure> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) if known.contains(&text) => Ok(Some(text.to_owned())),
            Some(_) => Err(Failure::invalid(name, format!("must be one of {}", known.join(", ")))),
        }
    }
}

/// JSON of an answer, or the fault that it is or tells of.
pub fn json_of(bytes: &[u8]) -> Result<serde_json::Value, Fault> {
    let malformed = || Fault { message: "malformed".to_owned(), ..Fault::default() };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| malformed())?;
    match crate::family::fault::from_value(&value) {
        Some(fault) => Err(fault),
        None => Ok(value),
    }
}
