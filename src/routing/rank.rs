//! The formula that orders candidates.
//!
//! ```text
//! score = reliability^8 × (cheapest / price)^p × (soonest / latency)^l × (quickest / pace)^t × chance
//! ```
//!
//! | mode | p | l | t |
//! |---|---|---|---|
//! | balanced | 1 | 0.5 | 0.25 |
//! | price | 8 | 0.1 | 0.05 |
//! | latency | 0.05 | 4 | 0.1 |
//! | throughput | 0.05 | 0.1 | 4 |
//!
//! - *reliability*: share of attempts that served, faded, with a prior of four attempts at 99 %.
//! - *price*: expected price of this very request, with the part of its prompt that the offer has in its cache.
//! - *latency*: milliseconds to the first content, as the mean of the logarithm plus one deviation (what five of six
//!   stay under), for the part of the prompt that is not cached. A plain answer comes as a whole, so pace takes its place.
//! - *pace*: milliseconds per token of output, likewise.
//! - What is unknown counts as the median of the others, and what is known is drawn from its own uncertainty: an offer
//!   with few or old samples is sometimes better than it looked, and is tried. That is the exploration, and it ends by
//!   itself where there is nothing to learn: a known price is never drawn.
//! - *chance*: a Gumbel variate to the power of 0.04. The chance to go first is proportional to score^25, so equals
//!   share the load and 10 % worse gets a tenth of it.
//!
//! All draws come from the seed and the candidate's key, so a decision can be replayed, and a candidate more or less does
//! not shuffle the others. Before the score come, in this order: candidates that go last (broken after cooling), the
//! place of the model among the request's models, `provider.order`, and the wishes (`preferred_*`) that a candidate misses.

use crate::health::sample::{mix, unit};
use crate::health::score::{Score, Standing, prompt_factor};
use crate::health::tally::Spread;
use crate::text::request::Mode;

/// One candidate's facts.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// What tells it from the others, for its draws.
    pub key: u64,
    /// Expected price of this request, in nano-dollars.
    pub price_nanos: i64,
    /// Likely length of the prompt, in tokens.
    pub prompt_tokens: u64,
    /// Of these, what it probably has in its cache.
    pub cached_tokens: u64,
    /// Health.
    pub score: Score,
    /// Place in the request's `provider.order`.
    pub order: Option<usize>,
    /// Place of its model among the request's models.
    pub model: usize,
    /// Whether it misses a wish of the request.
    pub is_behind: bool,
}

/// What the ranking knows of the request.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// What to optimise.
    pub mode: Mode,
    /// Whether the answer comes as a stream.
    pub is_stream: bool,
    /// Where chance comes from.
    pub seed: u64,
}

/// Why a candidate stands where it stands: logarithms of the factors of its score.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Factors {
    /// Of reliability.
    pub reliability: f64,
    /// Of price.
    pub price: f64,
    /// Of latency.
    pub latency: f64,
    /// Of pace.
    pub pace: f64,
    /// Of chance.
    pub chance: f64,
}

impl Factors {
    /// The score, 0 to a little over 1.
    pub fn score(&self) -> f64 {
        self.sum().exp()
    }

    fn sum(&self) -> f64 {
        self.reliability + self.price + self.latency + self.pace + self.chance
    }
}

/// Whether a candidate goes before or after the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// By its score.
    First,
    /// The provider asked to be left alone.
    Cooling,
    /// Its breaker is open, or it refuses the credential.
    Broken,
}

impl Tier {
    /// Its name in explanations.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::First => "first",
            Tier::Cooling => "cooling",
            Tier::Broken => "last_resort",
        }
    }
}

/// A candidate in its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Its index in the facts.
    pub index: usize,
    /// Before or after the rest.
    pub tier: Tier,
    /// Why.
    pub factors: Factors,
}

/// Weight of reliability in every mode.
const RELIABILITY: f64 = 8.0;
/// Weight of chance.
const CHANCE: f64 = 0.04;
/// Deviations above the mean of latency and pace.
const DEVIATIONS: f64 = 1.0;
/// Lowest reliability that is told apart.
const RELIABILITY_MIN: f64 = 0.01;

/// Weights of price, latency and pace.
const fn weights(mode: Mode) -> (f64, f64, f64) {
    match mode {
        Mode::Balanced => (1.0, 0.5, 0.25),
        Mode::Price => (8.0, 0.1, 0.05),
        Mode::Latency => (0.05, 4.0, 0.1),
        Mode::Throughput => (0.05, 0.1, 4.0),
    }
}

/// The candidates, best first.
pub fn rank(facts: &[Facts], ask: &Ask) -> Vec<Ranked> {
    let (by_price, by_latency, by_pace) = match (ask.is_stream, weights(ask.mode)) {
        (true, weights) => weights,
        (false, (price, latency, pace)) => (price, 0.0, latency + pace),
    };
    let draws: Vec<Draws> = facts.iter().map(|facts| Draws::new(ask.seed, facts.key)).collect();
    let latency = |f: &Facts, draws: &Draws| {
        let uncached = prompt_factor(f.prompt_tokens.saturating_sub(f.cached_tokens)).ln();
        f.score.latency.map(|spread| drawn(&spread, draws.latency) + uncached)
    };
    let pace = |f: &Facts, draws: &Draws| f.score.pace.map(|spread| drawn(&spread, draws.pace));
    let latencies = filled(facts.iter().zip(&draws).map(|(f, d)| latency(f, d)).collect());
    let paces = filled(facts.iter().zip(&draws).map(|(f, d)| pace(f, d)).collect());
    let prices: Vec<f64> = facts.iter().map(|f| ln_price(f.price_nanos)).collect();
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let (cheapest, soonest, quickest) = (least(&prices), least(&latencies), least(&paces));
    let mut ranked: Vec<Ranked> = facts
        .iter()
        .zip(&draws)
        .zip(prices.iter().zip(latencies.iter().zip(&paces)))
        .enumerate()
        .map(|(index, ((f, draws), (price, (latency, pace))))| {
            let factors = Factors {
                reliability: RELIABILITY * drawn_reliability(&f.score, draws.reliability).ln(),
                price: by_price * (cheapest - price),
                latency: by_latency * (soonest - latency),
                pace: by_pace * (quickest - pace),
                chance: CHANCE * draws.chance,
            };
            Ranked { index, tier: tier(&f.score, draws), factors }
        })
        .collect();
    ranked.sort_by(|a, b| {
        let place = |r: &Ranked| {
            let f = facts.get(r.index)?;
            Some((r.tier, f.model, f.order.is_none(), f.order, f.is_behind))
        };
        place(a).cmp(&place(b)).then(b.factors.sum().total_cmp(&a.factors.sum())).then(a.index.cmp(&b.index))
    });
    ranked
}

fn tier(score: &Score, draws: &Draws) -> Tier {
    match score.standing {
        Standing::Flowing | Standing::Trial => Tier::First,
        Standing::Ramping(share) if draws.ramp < share => Tier::First,
        Standing::Ramping(_) | Standing::Cooling(_) => Tier::Cooling,
        Standing::Broken(_) => Tier::Broken,
    }
}

/// Mean plus deviations, moved within the uncertainty of the mean.
fn drawn(spread: &Spread, draw: f64) -> f64 {
    spread.mean + spread.deviation * (DEVIATIONS + draw / (spread.n + 1.0).sqrt())
}

fn drawn_reliability(score: &Score, draw: f64) -> f64 {
    let r = score.reliability;
    let deviation = (r * (1.0 - r) / (score.weight + 1.0)).max(0.0).sqrt();
    (r + draw * deviation).clamp(RELIABILITY_MIN, 1.0)
}

/// Unknown values become the median of the known ones; all alike where none is known.
fn filled(values: Vec<Option<f64>>) -> Vec<f64> {
    let mut known: Vec<f64> = values.iter().filter_map(|value| *value).collect();
    known.sort_by(f64::total_cmp);
    let median = known.get(known.len() / 2).copied().unwrap_or(0.0);
    values.into_iter().map(|value| value.unwrap_or(median)).collect()
}

/// A free offer counts as a nano-dollar, so that ratios stay finite.
#[allow(clippy::cast_precision_loss, reason = "an order does not need the last digit")]
fn ln_price(nanos: i64) -> f64 {
    (nanos.max(1) as f64).ln()
}

/// The draws of one candidate.
struct Draws {
    reliability: f64,
    latency: f64,
    pace: f64,
    chance: f64,
    ramp: f64,
}

impl Draws {
    fn new(seed: u64, key: u64) -> Draws {
        let mut bits = mix(seed ^ key);
        let mut next = || {
            bits = mix(bits);
            bits
        };
        Draws {
            reliability: normal(next()),
            latency: normal(next()),
            pace: normal(next()),
            chance: -(-unit(next()).max(1e-9).ln()).ln(),
            ramp: unit(next()),
        }
    }
}

/// Close to a normal variate: four uniform ones, summed.
fn normal(bits: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "16 bits")]
    let part = |shift: u32| (bits >> shift & 0xffff) as f64 / 65_536.0;
    (part(0) + part(16) + part(32) + part(48) - 2.0) * 1.732
}

#[cfg(test)]
mod tests;
