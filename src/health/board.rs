//! The health of offers as one isolate has seen it: decayed counts of success and failure, latency to the first
//! content, cool-downs and breakers. Passive: only real traffic is observed.
//!
//! Client errors and clients that leave are no samples. A cool-down or an open breaker puts an offer last, not out: a
//! sole provider is still tried.

use std::collections::HashMap;

use crate::time::Millis;

/// Counts halve in this time, in milliseconds.
const HALF_LIFE_MS: f64 = 120_000.0;
/// The prior: one success and this share of a failure, so that a new offer earns traffic.
const PRIOR_GOOD: f64 = 2.0;
const PRIOR_BAD: f64 = 0.1;
/// Failures in a row that open the breaker.
const OPEN_AFTER: u32 = 5;
/// How long the breaker stays open at first, in milliseconds; doubles with every failed trial.
const OPEN_MS: u64 = 5_000;
/// Longest time open, in milliseconds.
const OPEN_MS_MAX: u64 = 60_000;
/// Cool-down of an offer that says 429 without saying for how long, in milliseconds.
pub const COOL_MS: u64 = 5_000;
/// How much one latency sample moves the average.
const LATENCY_SHARE: f64 = 0.2;
/// Offers remembered at once; the least recently seen goes first.
const OFFERS_MAX: usize = 4096;

/// One observed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// It served, with its first content after this many milliseconds.
    Served {
        /// Milliseconds to the first content.
        first_byte_ms: u64,
    },
    /// It is broken, unreachable or too slow, before or after the first content.
    Failed,
    /// It asked to be left alone for this long, in milliseconds.
    Busy {
        /// The wait.
        wait_ms: u64,
    },
    /// It refused the gateway's credential.
    Refused,
}

/// What a ranking reads of one offer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Share of attempts that served, with a prior, 0 to 1.
    pub reliability: f64,
    /// Average milliseconds to the first content; `None` before the first sample.
    pub latency_ms: Option<f64>,
    /// Whether it goes last: cooling down, or its breaker is open.
    pub is_last_resort: bool,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    good: f64,
    bad: f64,
    at: Millis,
    latency_ms: Option<f64>,
    failures_in_row: u32,
    cool_until: Millis,
    open_until: Millis,
}

impl Seen {
    fn decay(&mut self, now: Millis) {
        #[allow(clippy::cast_precision_loss, reason = "a span of milliseconds fits a float")]
        let age = now.since(self.at) as f64;
        let share = (-age * std::f64::consts::LN_2 / HALF_LIFE_MS).exp();
        self.good *= share;
        self.bad *= share;
        self.at = now;
    }
}

/// All offers seen by this isolate.
#[derive(Debug, Default)]
pub struct Board {
    seen: HashMap<String, Seen>,
}

impl Board {
    /// The name an offer is remembered by.
    pub fn key(provider: &str, upstream: &str) -> String {
        format!("{provider}\n{upstream}")
    }

    /// Takes in one attempt.
    pub fn on_sample(&mut self, key: &str, sample: Sample, now: Millis) {
        if self.seen.len() >= OFFERS_MAX && !self.seen.contains_key(key) {
            let oldest = self.seen.iter().min_by_key(|(_, seen)| seen.at).map(|(key, _)| key.clone());
            oldest.map(|key| self.seen.remove(&key));
        }
        let seen = self.seen.entry(key.to_owned()).or_default();
        seen.decay(now);
        match sample {
            Sample::Served { first_byte_ms } => {
                seen.good += 1.0;
                seen.failures_in_row = 0;
                seen.open_until = Millis(0);
                seen.cool_until = Millis(0);
                #[allow(clippy::cast_precision_loss, reason = "a span of milliseconds fits a float")]
                let sample = first_byte_ms as f64;
                seen.latency_ms = Some(seen.latency_ms.map_or(sample, |old| old + (sample - old) * LATENCY_SHARE));
            }
            Sample::Failed => {
                seen.bad += 1.0;
                seen.failures_in_row = seen.failures_in_row.saturating_add(1);
                if seen.failures_in_row >= OPEN_AFTER {
                    let doublings = seen.failures_in_row.saturating_sub(OPEN_AFTER).min(8);
                    seen.open_until = now.plus((OPEN_MS << doublings).min(OPEN_MS_MAX));
                }
            }
            Sample::Busy { wait_ms } => seen.cool_until = seen.cool_until.max(now.plus(wait_ms)),
            Sample::Refused => {
                seen.bad += 1.0;
                seen.cool_until = seen.cool_until.max(now.plus(OPEN_MS_MAX));
            }
        }
    }

    /// What is known of an offer at `now`.
    pub fn score(&self, key: &str, now: Millis) -> Score {
        let Some(seen) = self.seen.get(key) else {
            return Score {
                reliability: PRIOR_GOOD / (PRIOR_GOOD + PRIOR_BAD),
                latency_ms: None,
                is_last_resort: false,
            };
        };
        let mut seen = seen.clone();
        seen.decay(now);
        let (good, bad) = (seen.good + PRIOR_GOOD, seen.bad + PRIOR_BAD);
        Score {
            reliability: good / (good + bad),
            latency_ms: seen.latency_ms,
            is_last_resort: now < seen.cool_until || now < seen.open_until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_offer_is_trusted_and_failures_count() {
        let mut board = Board::default();
        assert!(board.score("a", Millis(0)).reliability > 0.9);
        board.on_sample("a", Sample::Failed, Millis(0));
        let failed = board.score("a", Millis(0)).reliability;
        assert!(failed < 0.7, "{failed}");
        assert!(board.score("a", Millis(1_200_000)).reliability > 0.9, "old failures fade");
    }

    #[test]
    fn five_failures_in_a_row_open_the_breaker_for_that_offer_alone() {
        let mut board = Board::default();
        (0..4).for_each(|i| board.on_sample("a", Sample::Failed, Millis(i)));
        assert!(!board.score("a", Millis(5)).is_last_resort);
        board.on_sample("a", Sample::Failed, Millis(5));
        assert!(board.score("a", Millis(6)).is_last_resort && !board.score("b", Millis(6)).is_last_resort);
        assert!(!board.score("a", Millis(5 + OPEN_MS)).is_last_resort, "half-open: one trial");
        board.on_sample("a", Sample::Failed, Millis(5 + OPEN_MS));
        assert!(board.score("a", Millis(5 + OPEN_MS + OPEN_MS + 1)).is_last_resort, "longer after a failed trial");
        board.on_sample("a", Sample::Served { first_byte_ms: 10 }, Millis(30_000));
        assert!(!board.score("a", Millis(30_001)).is_last_resort);
    }

    #[test]
    fn a_busy_offer_cools_down_as_long_as_it_said() {
        let mut board = Board::default();
        board.on_sample("a", Sample::Busy { wait_ms: 700 }, Millis(0));
        assert!(board.score("a", Millis(699)).is_last_resort && !board.score("a", Millis(700)).is_last_resort);
        assert!(board.score("a", Millis(0)).reliability > 0.9, "busy is not broken");
    }
}
