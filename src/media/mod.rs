//! Work that is not text: embeddings, rerank, moderation, images, speech, transcription.
//!
//! Each kind of work parses its request once, writes it in the shape of the host that is asked, and reads the answer back
//! into the front's shape together with what was used. All of it is pure; `serve::media` moves the bytes. A host's shape is
//! one row of its kind's table ([`shape`]); to add one is to add a row.

pub mod base64;
pub mod common;
pub mod conformance;
pub mod embeddings;
pub mod images;
pub mod meter;
pub mod moderation;
pub mod multipart;
pub mod picture;
pub mod rerank;
pub mod shape;
pub mod speech;
pub mod stream;
pub mod transcription;

use crate::catalog::{Offer, PriceCard, Provider, Situation};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::ledger::bound::Bound;
use crate::time::Millis;
use crate::usage::{Meter, Usage};
pub use common::Common;
use meter::{Basis, Told};
use shape::{Again, Answered, Asked, Raw, Reading, Written};

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

/// Ways to count a piece of work.
pub type Measures = Vec<Basis>;

static NOTHING: std::sync::LazyLock<Common> = std::sync::LazyLock::new(Common::default);

/// The same words for each kind: its work, its table, and what its writers take from the typed form.
macro_rules! each {
    ($work:expr, |$one:ident, $table:ident, $core:ident| $body:expr, $order:pat => $job:expr) => {
        match $work {
            Work::Embeddings($one) => {
                let ($table, $core) = (embeddings::hosts::TABLE, embeddings::hosts::CORE);
                $body
            }
            Work::Rerank($one) => {
                let ($table, $core) = (rerank::TABLE, rerank::CORE);
                $body
            }
            Work::Moderation($one) => {
                let ($table, $core) = (moderation::TABLE, moderation::CORE);
                $body
            }
            Work::Images($one) => {
                let ($table, $core) = (images::hosts::TABLE, images::hosts::CORE);
                $body
            }
            Work::Speech($one) => {
                let ($table, $core) = (speech::hosts::TABLE, speech::hosts::CORE);
                $body
            }
            Work::Transcription($one) => {
                let ($table, $core) = (transcription::hosts::TABLE, transcription::hosts::CORE);
                $body
            }
            Work::Job($order) => $job,
        }
    };
}

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

    /// The family in which an offer is asked for it: its own, else the first of its provider's that this build speaks.
    pub fn family<'a>(&self, offer: &'a Offer, provider: &'a Provider) -> Option<&'a str> {
        let is_spoken = |name: &&str| each!(self, |_one, table, _core| shape::find(table, name).is_some(), _ => false);
        match offer.family.as_deref() {
            Some(own) => Some(own).filter(is_spoken),
            None => provider.families.iter().map(String::as_str).find(is_spoken),
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
            _ => Ok(offer.kind == self.kind() && self.family(offer, provider).is_some()),
        }
    }

    /// The calls for a host of that family, and the parameters that are left out.
    pub fn write(&self, family: &str, asked: &Asked<'_>) -> Result<(Vec<Written>, Vec<String>), Failure> {
        each!(self, |one, table, core| {
            let row = shape::find(table, family).ok_or_else(|| crate::family::target::cannot("model", "this work"))?;
            let dropped = shape::acted_on(&one.common, row.fates, row.passes, core)?;
            Ok(((row.write)(one, asked)?, dropped))
        }, _ => Err(crate::family::target::cannot("model", "this work")))
    }

    /// What to ask next, where an answer is only the begin of one.
    pub fn follow(&self, family: &str, raw: &Raw, asked: &Asked<'_>) -> Result<Option<Again>, Fault> {
        each!(self, |one, table, _core| {
            shape::find(table, family).map_or(Ok(None), |row| (row.follow)(one, raw, asked))
        }, _ => Ok(None))
    }

    /// Reads the answers to the calls.
    pub fn read(&self, family: &str, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
        each!(self, |one, table, _core| {
            let row = shape::find(table, family).ok_or_else(shape::malformed)?;
            (row.read)(one, raws, reading)
        }, _ => Err(shape::malformed()))
    }

    /// The answer with what its links led to, in the form that the client wants.
    pub fn finish(&self, answered: Answered, fetched: &[(usize, Vec<u8>)]) -> Result<Answered, Fault> {
        let Work::Images(images) = self else { return Ok(answered) };
        let answered = images::answer::fill(answered, fetched)?;
        match images.is_stream() {
            false => Ok(answered),
            true => {
                let body = images::answer::as_events(images, &answered.body)?;
                Ok(Answered { content_type: images::answer::STREAM.to_owned(), body, ..answered })
            }
        }
    }

    /// Whether the client wants it as events, while it is made.
    pub fn is_stream(&self) -> bool {
        match self {
            Work::Images(work) => work.is_stream(),
            Work::Speech(work) => work.is_stream(),
            Work::Transcription(work) => work.is_stream(),
            Work::Embeddings(_) | Work::Rerank(_) | Work::Moderation(_) | Work::Job(_) => false,
        }
    }

    /// The links of the request, for hosts that take none.
    pub fn links(&self) -> Vec<String> {
        match self {
            Work::Embeddings(work) => work.links(),
            Work::Images(work) => work.links(),
            _ => Vec::new(),
        }
    }

    fn bases(&self) -> Vec<Basis> {
        each!(self, |one, _table, _core| one.bases(), _ => crate::job::charge::measures())
    }

    /// The ways of counting it that a card prices.
    pub fn priced_by(&self, card: &PriceCard) -> Vec<Basis> {
        meter::priced_by(self.bases(), card)
    }

    /// Whether tokens decide about the charge at an offer, which only the host can count.
    pub fn is_by_tokens(&self, card: &PriceCard) -> bool {
        let is_tokens = |basis: &Basis| basis.iter().any(|(meter, _)| *meter == Meter::InputTokens);
        self.priced_by(card).first().is_some_and(is_tokens)
    }

    /// The worst case at an offer; `None` where the card does not price anything that can be counted.
    pub fn bound(&self, offer: &Offer, provider: &Provider, now: Millis) -> Option<Bound> {
        if let Work::Job(order) = self {
            let terms = order.terms(offer, provider)?.ok()?;
            return crate::job::charge::bound(order, &terms, offer, now).map(meter::fixed);
        }
        meter::bound(&self.priced_by(&offer.card), offer)
    }

    /// What it will probably cost, for the order of candidates.
    pub fn likely_nanos(&self, card: &PriceCard, situation: &Situation<'_>) -> i64 {
        let counted = each!(self, |one, _table, _core| one.counted(), _ => Told::default());
        meter::likely_nanos(&self.priced_by(card), &counted, &self.guessed(&Told::default()), card, situation)
    }

    /// What is charged, and whether that is an estimate.
    pub fn charged(&self, told: &Told, card: &PriceCard) -> (Usage, bool) {
        let counted = each!(self, |one, _table, _core| one.counted(), _ => Told::default());
        meter::charged(&self.priced_by(card), told, &counted, &self.guessed(told), card)
    }

    /// What it will probably come to, where nobody counts it.
    fn guessed(&self, told: &Told) -> Told {
        match self {
            Work::Images(work) => work.guessed(told),
            Work::Speech(work) => work.guessed(),
            Work::Transcription(work) => work.guessed(),
            Work::Embeddings(_) | Work::Rerank(_) | Work::Moderation(_) | Work::Job(_) => Told::default(),
        }
    }

    /// What a host was sent of it, as far as that can be said without the host.
    pub fn sent(&self, card: &PriceCard) -> Usage {
        let counted = each!(self, |one, _table, _core| one.counted(), _ => Told::default());
        meter::sent(&self.priced_by(card), &counted, &self.guessed(&Told::default()))
    }

    /// The names of models, in order.
    pub fn models(&self) -> &[String] {
        match self {
            Work::Job(order) => &order.models,
            _ => &self.common().models,
        }
    }

    /// What all kinds of work have.
    pub fn common(&self) -> &Common {
        each!(self, |one, _table, _core| &one.common, _ => &NOTHING)
    }
}
