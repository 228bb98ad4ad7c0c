//! The formula that orders candidates.
//!
//! ```text
//! score = reliability^r × (cheapest / price)^p × (soonest / latency)^l × (quickest / pace)^t × chance
//! ```
//!
//! | mode | r | p | l | t |
//! |---|---|---|---|---|
//! | balanced | 12 | 1 | 0.5 | 0.25 |
//! | price | 6 | 8 | 0.1 | 0.05 |
//! | latency | 12 | 0.05 | 4 | 0.1 |
//! | throughput | 12 | 0.05 | 0.1 | 4 |
//!
//! A failed attempt costs time and no money, so `price` bears more of them.
//!
//! - *reliability*: share of attempts that served, faded, with a prior of four attempts at 99 %.
//! - *price*: expected price of this very request, with the part of its prompt that the offer has in its cache.
//! - *latency*: milliseconds to the first content, as the mean of the logarithm plus one deviation (what five of six
//!   stay under), for the part of the prompt that is not cached. A plain answer comes as a whole, so pace takes its place.
//! - *pace*: milliseconds per token of output, likewise.
//! - What is unknown counts as the median of the others (as nothing where nobody is known), and what is known is drawn from its own uncertainty: an offer
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
use crate::health::tally::{SPREAD, Spread};
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
    /// The provider asked to be left alone, or is silent, or comes back and had its share.
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

/// Weight of chance.
const CHANCE: f64 = 0.04;
/// Samples that the median of the others weighs like.
const UNKNOWN_WEIGHT: f64 = 0.5;
/// Deviations above the mean of latency and pace.
const DEVIATIONS: f64 = 1.0;
/// Lowest reliability that is told apart.
const RELIABILITY_MIN: f64 = 0.01;

/// How much each factor weighs.
struct Weights {
    reliability: f64,
    price: f64,
    latency: f64,
    pace: f64,
}

const fn weights(mode: Mode) -> Weights {
    match mode {
        Mode::Balanced => Weights { reliability: 12.0, price: 1.0, latency: 0.5, pace: 0.25 },
        Mode::Price => Weights { reliability: 6.0, price: 8.0, latency: 0.1, pace: 0.05 },
        Mode::Latency => Weights { reliability: 12.0, price: 0.05, latency: 4.0, pace: 0.1 },
        Mode::Throughput => Weights { reliability: 12.0, price: 0.05, latency: 0.1, pace: 4.0 },
    }
}

/// The candidates, best first.
pub fn rank(facts: &[Facts], ask: &Ask) -> Vec<Ranked> {
    let mut by = weights(ask.mode);
    if !ask.is_stream {
        by = Weights { latency: 0.0, pace: by.latency + by.pace, ..by };
    }
    let draws: Vec<Draws> = facts.iter().map(|facts| Draws::new(ask.seed, facts.key)).collect();
    let of = |spread: fn(&Score) -> Option<Spread>, draw: fn(&Draws) -> f64| {
        estimates(&facts.iter().zip(&draws).map(|(f, d)| (spread(&f.score), draw(d))).collect::<Vec<_>>())
    };
    let mut latencies = of(|score| score.latency, |draws| draws.latency);
    for (latency, f) in latencies.iter_mut().zip(facts) {
        *latency += prompt_factor(f.prompt_tokens.saturating_sub(f.cached_tokens)).ln();
    }
    let paces = of(|score| score.pace, |draws| draws.pace);
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
                reliability: by.reliability * drawn_reliability(&f.score, draws.reliability).ln(),
                price: by.price * (cheapest - price),
                latency: by.latency * (soonest - latency),
                pace: by.pace * (quickest - pace),
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
        Standing::Flowing => Tier::First,
        Standing::Ramping(share) | Standing::Trial(share) if draws.ramp < share => Tier::First,
        Standing::Ramping(_) | Standing::Silent | Standing::Cooling(_) => Tier::Cooling,
        Standing::Trial(_) | Standing::Broken(_) => Tier::Broken,
    }
}

/// Each value as mean plus deviations, drawn from its uncertainty. What is unknown is the median of the others, and what
/// is hardly known is close to it.
fn estimates(values: &[(Option<Spread>, f64)]) -> Vec<f64> {
    let of = |spread: &Spread| spread.mean + DEVIATIONS * spread.deviation;
    let mut known: Vec<f64> = values.iter().filter_map(|(spread, _)| spread.as_ref().map(of)).collect();
    // Where nobody is known there is nothing to compare: a draw would only hide the price.
    if known.is_empty() {
        return vec![0.0; values.len()];
    }
    known.sort_by(f64::total_cmp);
    let median = known.get(known.len() / 2).copied().unwrap_or(0.0);
    let estimate = |(spread, draw): &(Option<Spread>, f64)| {
        let spread = spread.unwrap_or(Spread { mean: median, deviation: SPREAD, n: 0.0 });
        let blended = (of(&spread) * spread.n + median * UNKNOWN_WEIGHT) / (spread.n + UNKNOWN_WEIGHT);
        blended + spread.deviation * draw / (spread.n + 1.0).sqrt()
    };
    values.iter().map(estimate).collect()
}

fn drawn_reliability(score: &Score, draw: f64) -> f64 {
    let r = score.reliability;
    let deviation = (r * (1.0 - r) / (score.weight + 1.0)).max(0.0).sqrt();
    (r + draw * deviation).clamp(RELIABILITY_MIN, 1.0)
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
