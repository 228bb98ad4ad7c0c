//! Providers as they really are: what they cost, how they behave over time, and what one attempt at them comes to.

use crate::chance::Chance;

/// Length of the window of a rate limit.
pub const WINDOW_MS: u64 = 10_000;

/// Something that happens to a provider for a while.
#[derive(Clone, Copy)]
pub enum What {
    /// Connections are refused.
    Refuses,
    /// This share of attempts ends in a 500.
    Errs(f64),
    /// This share of attempts never answers.
    Hangs(f64),
    /// Answers at once, with something that is no answer.
    Garbage,
    /// Latency grows by this factor until the end of the episode; past 20 times, attempts never answer.
    Dies(f64),
    /// Latency is this many times the usual.
    Slow(f64),
    /// Down for this share of each period.
    Flaps { period_ms: u64, down: f64 },
}

#[derive(Clone, Copy)]
pub struct Episode {
    pub from_s: u64,
    pub to_s: u64,
    pub what: What,
}

/// A provider and its one offer of the model.
#[derive(Clone)]
pub struct Provider {
    pub name: &'static str,
    /// Dollars per million tokens, in and out.
    pub price: (f64, f64),
    /// Time to the first content for an empty prompt: median, and the deviation of its logarithm.
    pub first_ms: (f64, f64),
    /// Milliseconds per token of output.
    pub pace_ms: f64,
    /// Requests a second before it answers 429.
    pub limit: Option<f64>,
    /// Requests a second at which latency has doubled.
    pub capacity: Option<f64>,
    /// Share of attempts that fail on a good day.
    pub error: f64,
    pub episodes: Vec<Episode>,
}

/// What the oracle knows of a provider at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    /// Share of attempts that fail, and how the failure looks.
    pub error: f64,
    pub failure: Failure,
    /// Factor on latency, load included.
    pub slow: f64,
    pub is_full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Refused,
    Status(u16),
    Silence,
    Garbage,
}

/// What one attempt comes to.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    Served {
        first_ms: u64,
        rest_ms: u64,
    },
    /// After this long; silence lasts until somebody loses patience.
    Failed {
        after_ms: u64,
        failure: Failure,
    },
    Busy {
        after_ms: u64,
        wait_ms: u64,
    },
}

/// What was sent to a provider lately.
#[derive(Clone, Default)]
pub struct Load {
    window: u64,
    in_window: f64,
    /// Requests a second, smoothed over two seconds.
    rate: f64,
    at_ms: u64,
}

impl Load {
    fn decayed(&self, now_ms: u64) -> f64 {
        self.rate * (-((now_ms - self.at_ms) as f64) / 2_000.0).exp()
    }

    fn sent_in_window(&self, now_ms: u64) -> f64 {
        if self.window == now_ms / WINDOW_MS { self.in_window } else { 0.0 }
    }

    fn send(&mut self, now_ms: u64, is_counted: bool) {
        self.rate = self.decayed(now_ms) + 0.5;
        self.at_ms = now_ms;
        if is_counted {
            self.in_window = self.sent_in_window(now_ms) + 1.0;
            self.window = now_ms / WINDOW_MS;
        }
    }
}

impl Provider {
    pub fn truth(&self, load: &Load, now_ms: u64) -> Truth {
        let mut truth = Truth { error: self.error, failure: Failure::Status(500), slow: 1.0, is_full: false };
        for episode in &self.episodes {
            let (from, to) = (episode.from_s * 1000, episode.to_s * 1000);
            if !(from..to).contains(&now_ms) {
                continue;
            }
            match episode.what {
                What::Refuses => (truth.error, truth.failure) = (1.0, Failure::Refused),
                What::Errs(share) => truth.error = share,
                What::Hangs(share) => (truth.error, truth.failure) = (share, Failure::Silence),
                What::Garbage => (truth.error, truth.failure) = (1.0, Failure::Garbage),
                What::Dies(factor) => {
                    truth.slow = factor.powf((now_ms - from) as f64 / (to - from) as f64);
                    if truth.slow > 20.0 {
                        (truth.error, truth.failure) = (1.0, Failure::Silence);
                    }
                }
                What::Slow(factor) => truth.slow = factor,
                What::Flaps { period_ms, down } => {
                    if ((now_ms - from) % period_ms) as f64 / (period_ms as f64) < down {
                        (truth.error, truth.failure) = (1.0, Failure::Status(503));
                    }
                }
            }
        }
        if let Some(capacity) = self.capacity {
            truth.slow *= 1.0 + (load.decayed(now_ms) / capacity).powi(3);
        }
        if let Some(limit) = self.limit {
            truth.is_full = load.sent_in_window(now_ms) >= limit * WINDOW_MS as f64 / 1000.0;
        }
        truth
    }

    /// The outcome of one attempt, given its luck.
    pub fn attempt(&self, load: &mut Load, prompt: u64, output: u64, mut luck: Chance, now_ms: u64) -> Outcome {
        let truth = self.truth(load, now_ms);
        load.send(now_ms, !truth.is_full);
        let (fails, tail, jitter) = (luck.unit(), luck.normal(), luck.unit());
        if fails < truth.error {
            let after_ms = match truth.failure {
                Failure::Refused => 2,
                Failure::Garbage => 15,
                Failure::Status(_) => 40 + (120.0 * jitter) as u64,
                Failure::Silence => u64::MAX,
            };
            return Outcome::Failed { after_ms, failure: truth.failure };
        }
        if truth.is_full {
            return Outcome::Busy { after_ms: 20 + (30.0 * jitter) as u64, wait_ms: WINDOW_MS - now_ms % WINDOW_MS };
        }
        let first = self.first_ms.0 * (self.first_ms.1 * tail).exp() * truth.slow * (1.0 + prompt as f64 / 4000.0);
        Outcome::Served {
            first_ms: first.max(1.0) as u64,
            rest_ms: (self.pace_ms * output as f64 * (0.9 + 0.2 * jitter)) as u64,
        }
    }

    pub fn cost(&self, prompt: u64, output: u64) -> f64 {
        (self.price.0 * prompt as f64 + self.price.1 * output as f64) / 1e6
    }
}
