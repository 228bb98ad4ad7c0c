//! Counts that fade: every sum halves in a fixed time, so old news weighs less without anything being stored per event.

use crate::time::Millis;

/// What is left of a count after `age_ms`, 0 to 1.
fn share_left(age_ms: u64, half_life_ms: f64) -> f64 {
    if age_ms == 0 {
        return 1.0;
    }
    #[allow(clippy::cast_precision_loss, reason = "a span of milliseconds fits a float")]
    let age = age_ms as f64;
    (-age * std::f64::consts::LN_2 / half_life_ms).exp()
}

/// Successes and failures.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// Successes.
    pub good: f64,
    /// Failures.
    pub bad: f64,
    /// As of when.
    pub at: Millis,
}

impl Tally {
    /// The same at `now`.
    #[must_use]
    pub fn faded(self, half_life_ms: f64, now: Millis) -> Tally {
        let left = share_left(now.since(self.at), half_life_ms);
        Tally { good: self.good * left, bad: self.bad * left, at: self.at.max(now) }
    }

    /// Adds counts of `now`.
    pub fn add(&mut self, good: f64, bad: f64, half_life_ms: f64, now: Millis) {
        let faded = self.faded(half_life_ms, now);
        *self = Tally { good: faded.good + good, bad: faded.bad + bad, at: faded.at };
    }
}

/// A quantity by its logarithm: count, sum, and sum of squares. Times are spread evenly on a logarithmic scale.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moments {
    /// How many.
    pub n: f64,
    /// Sum of the logarithms.
    pub sum: f64,
    /// Sum of their squares.
    pub squares: f64,
    /// As of when.
    pub at: Millis,
}

/// Samples that the assumed spread weighs like.
const SPREAD_WEIGHT: f64 = 3.0;
/// Assumed standard deviation of a logarithm before there are samples.
pub const SPREAD: f64 = 0.45;

impl Moments {
    /// One logarithm.
    pub fn of(ln: f64) -> Moments {
        Moments { n: 1.0, sum: ln, squares: ln * ln, at: Millis(0) }
    }

    /// The same at `now`.
    #[must_use]
    pub fn faded(self, half_life_ms: f64, now: Millis) -> Moments {
        let left = share_left(now.since(self.at), half_life_ms);
        Moments { at: self.at.max(now), ..self.scaled(left) }
    }

    /// Adds those of `now`.
    pub fn add(&mut self, other: Moments, half_life_ms: f64, now: Millis) {
        let faded = self.faded(half_life_ms, now);
        *self = faded.plus(other);
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Moments) -> Moments {
        Moments { n: self.n + other.n, sum: self.sum + other.sum, squares: self.squares + other.squares, at: self.at }
    }

    /// The same at a share of its weight.
    #[must_use]
    pub fn scaled(self, share: f64) -> Moments {
        Moments { n: self.n * share, sum: self.sum * share, squares: self.squares * share, at: self.at }
    }

    /// Mean and standard deviation of the logarithm; `None` while next to nothing is left of the samples.
    pub fn spread(&self) -> Option<Spread> {
        if self.n < 0.05 {
            return None;
        }
        let mean = self.sum / self.n;
        let seen = (self.squares / self.n - mean * mean).max(0.0);
        let variance = (seen * self.n + SPREAD * SPREAD * SPREAD_WEIGHT) / (self.n + SPREAD_WEIGHT);
        Some(Spread { mean, deviation: variance.sqrt(), n: self.n })
    }
}

/// How a quantity is spread, by its logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
    /// Samples it rests on, faded.
    pub n: f64,
}

impl Spread {
    /// The median of the quantity.
    pub fn median(&self) -> f64 {
        self.mean.exp()
    }

    /// What 95 of 100 stay under.
    pub fn p95(&self) -> f64 {
        (self.mean + 1.645 * self.deviation).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_halve_in_their_time() {
        let mut tally = Tally::default();
        tally.add(4.0, 2.0, 1000.0, Millis(0));
        let later = tally.faded(1000.0, Millis(1000));
        assert!((later.good - 2.0).abs() < 1e-9 && (later.bad - 1.0).abs() < 1e-9);
        assert_eq!(tally.faded(1000.0, Millis(0)), tally);
    }

    #[test]
    fn a_spread_is_found_again() {
        let mut moments = Moments::default();
        for (i, ms) in [100.0f64, 200.0, 400.0].iter().cycle().take(300).enumerate() {
            moments.add(Moments::of(ms.ln()), 1e12, Millis(i as u64));
        }
        let spread = moments.spread().unwrap();
        assert!((spread.median() - 200.0).abs() < 1.0, "{spread:?}");
        assert!(spread.p95() > 400.0 && spread.p95() < 700.0, "{spread:?}");
        assert_eq!(Moments::default().spread(), None);
    }

    #[test]
    fn one_sample_leaves_room_for_others() {
        let spread = Moments::of(100.0f64.ln()).spread().unwrap();
        assert!(spread.deviation > 0.3 && spread.n == 1.0);
    }
}
