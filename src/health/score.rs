//! What a ranking reads of one offer.

use crate::health::tally::Spread;
use crate::time::Millis;

/// The prior: an offer nobody has tried counts as this many attempts, …
pub const PRIOR_WEIGHT: f64 = 4.0;
/// … of which this share served. New offers earn traffic, and one failure does not ruin them.
pub const PRIOR_RELIABILITY: f64 = 0.99;
/// Prompt tokens that double the time to the first content.
pub const PROMPT_TOKENS_DOUBLE: f64 = 4_000.0;

/// The health of an offer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Share of attempts that served, prior included, 0 to 1.
    pub reliability: f64,
    /// Attempts that rests on, prior included, faded.
    pub weight: f64,
    /// Milliseconds to the first content of a stream, for an empty prompt; `None` before the first sample.
    pub latency: Option<Spread>,
    /// Milliseconds per token of output; `None` before the first sample.
    pub pace: Option<Spread>,
    /// What traffic may do.
    pub standing: Standing,
}

impl Score {
    /// An offer of which nothing is known.
    pub const UNKNOWN: Score = Score {
        reliability: PRIOR_RELIABILITY,
        weight: PRIOR_WEIGHT,
        latency: None,
        pace: None,
        standing: Standing::Flowing,
    };

    /// What 95 of 100 first contents take at most, for a prompt of that length, in milliseconds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive span, saturating")]
    pub fn first_byte_p95_ms(&self, prompt_tokens: u64) -> Option<u64> {
        self.latency.map(|spread| (spread.p95() * prompt_factor(prompt_tokens)) as u64)
    }
}

/// What traffic may do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing {
    /// Flow.
    Flowing,
    /// Come back: this share of requests.
    Ramping(f64),
    /// Send one trial, as if the offer were new: out of this share of requests, so that where there are few not each of
    /// them is one.
    Trial(f64),
    /// Go last: requests to it are waiting for longer than it ever takes, and nothing has come since.
    Silent,
    /// Go last until then: the provider asked for it.
    Cooling(Millis),
    /// Go last until then: its breaker is open, or it refuses the credential.
    Broken(Millis),
}

impl Standing {
    /// Its name in explanations.
    pub const fn name(self) -> &'static str {
        match self {
            Standing::Flowing => "closed",
            Standing::Ramping(_) => "ramping",
            Standing::Trial(_) => "half_open",
            Standing::Silent => "silent",
            Standing::Cooling(_) => "cooling",
            Standing::Broken(_) => "open",
        }
    }

    /// Until when, where it ends by itself.
    pub const fn until(self) -> Option<Millis> {
        match self {
            Standing::Cooling(until) | Standing::Broken(until) => Some(until),
            Standing::Flowing | Standing::Ramping(_) | Standing::Trial(_) | Standing::Silent => None,
        }
    }
}

/// How much longer the first content of a prompt takes than that of an empty one.
#[allow(clippy::cast_precision_loss, reason = "a prompt has fewer than 2^53 tokens")]
pub fn prompt_factor(prompt_tokens: u64) -> f64 {
    1.0 + prompt_tokens as f64 / PROMPT_TOKENS_DOUBLE
}
