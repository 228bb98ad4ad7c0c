//! What a run comes to.

use ai_stats_gateway::text::request::Mode;

use crate::engine::Run;

/// The first minute is for learning, and counts for nobody.
pub const WARM_UP_MS: u64 = 60_000;
/// Who waits longer than this for a first word has gone.
pub const PATIENCE_MS: u64 = 30_000;

#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Share of requests that were served.
    pub success: f64,
    /// Milliseconds to the first content.
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    /// Dollars per thousand served.
    pub cost: f64,
    /// Milliseconds per token, mean.
    pub pace: f64,
    /// Cost × latency^0.5 × pace^0.25, geometric mean.
    pub balance: f64,
    /// Failed attempts per hundred requests.
    pub wasted: f64,
}

impl Measure {
    pub fn of(run: &Run) -> Measure {
        let done: Vec<_> = run.done.iter().filter(|done| done.at_ms >= WARM_UP_MS).collect();
        let served: Vec<_> = done.iter().filter(|done| done.first_ms.is_some_and(|ms| ms <= PATIENCE_MS)).collect();
        let mut first: Vec<f64> = served.iter().filter_map(|done| done.first_ms).map(|ms| ms as f64).collect();
        first.sort_by(f64::total_cmp);
        let at = |share: f64| first[((first.len() - 1) as f64 * share) as usize];
        let mean = |of: &dyn Fn(&crate::engine::Done) -> f64| {
            served.iter().map(|done| of(done)).sum::<f64>() / served.len() as f64
        };
        let attempts: u64 = done.iter().map(|done| done.attempts).sum();
        Measure {
            success: served.len() as f64 / done.len() as f64,
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            cost: mean(&|done| done.cost) * 1000.0,
            pace: mean(&|done| done.pace_ms),
            balance: mean(&|done| {
                done.cost.ln()
                    + 0.5 * (done.first_ms.unwrap_or(0).max(1) as f64).ln()
                    + 0.25 * done.pace_ms.max(0.1).ln()
            })
            .exp(),
            wasted: (attempts as f64 - served.len() as f64) / done.len() as f64 * 100.0,
        }
    }

    /// What a mode promises to keep low.
    pub fn promise(&self, mode: Mode) -> f64 {
        match mode {
            Mode::Price => self.cost,
            Mode::Latency => self.p95,
            Mode::Throughput => self.pace,
            Mode::Balanced => self.balance,
        }
    }
}
