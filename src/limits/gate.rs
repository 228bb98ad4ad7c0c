//! The limits of one key or one workspace: checked together, counted only when everything lets the request pass.
#![deny(clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};

use crate::access::policy::Limits;
use crate::limits::window::Window;
use crate::time::Millis;

/// How long a request that finds too many in flight is told to wait, in milliseconds.
const PARALLEL_WAIT_MS: u64 = 1000;

/// What a limit says to the client: limit, what is left of it, and when it is whole again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// The limit per minute.
    pub limit: u64,
    /// What is left now.
    pub remaining: u64,
    /// Milliseconds until all of it is back.
    pub reset_ms: u64,
}

/// Which limit refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Requests per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
    /// Requests in flight.
    Parallel,
    /// Requests per minute that go to a free offer.
    Free,
}

/// A refusal and its wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The limit.
    pub limit: Limit,
    /// Milliseconds to wait.
    pub wait_ms: u64,
}

/// Counters of one key or one workspace.
#[derive(Debug, Default)]
pub struct Gate {
    requests: Window,
    tokens: Window,
    in_flight: u64,
}

impl Gate {
    /// Whether one more request of about `tokens` may pass. Counts nothing.
    pub fn check(&mut self, limits: &Limits, tokens: u64, now: Millis) -> Result<(), Refusal> {
        if limits.parallel_requests.is_some_and(|limit| self.in_flight >= limit) {
            return Err(Refusal { limit: Limit::Parallel, wait_ms: PARALLEL_WAIT_MS });
        }
        let waits = [
            (Limit::Requests, limits.requests_per_minute.map(|limit| self.requests.wait_ms(1, limit, now))),
            (Limit::Tokens, limits.tokens_per_minute.map(|limit| self.tokens.wait_ms(tokens.max(1), limit, now))),
        ];
        let longest = waits.into_iter().filter_map(|(limit, wait)| wait.map(|wait_ms| Refusal { limit, wait_ms }));
        match longest.filter(|refusal| refusal.wait_ms > 0).max_by_key(|refusal| refusal.wait_ms) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// Counts a request that passed.
    pub fn enter(&mut self, tokens: u64, now: Millis) {
        self.requests.add(1, now);
        self.tokens.add(tokens, now);
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// A request ended: its estimate is replaced by what it used.
    pub fn leave(&mut self, estimated: u64, used: u64, entered: Millis, now: Millis) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.tokens.correct(estimated, used, entered, now);
    }

    /// What is left, for the headers.
    pub fn allowances(&mut self, limits: &Limits, now: Millis) -> (Option<Allowance>, Option<Allowance>) {
        let read = |window: &mut Window, limit: u64| Allowance {
            limit,
            remaining: limit.saturating_sub(window.used(now)),
            reset_ms: window.reset_ms(now),
        };
        let requests = limits.requests_per_minute.map(|limit| read(&mut self.requests, limit));
        (requests, limits.tokens_per_minute.map(|limit| read(&mut self.tokens, limit)))
    }
}

/// The tighter of two allowances.
pub fn tighter(a: Option<Allowance>, b: Option<Allowance>) -> Option<Allowance> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.remaining < a.remaining { b } else { a }),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(requests: Option<u64>, tokens: Option<u64>, parallel: Option<u64>) -> Limits {
        Limits { requests_per_minute: requests, tokens_per_minute: tokens, parallel_requests: parallel }
    }

    #[test]
    fn exactly_the_limit_passes() {
        let (mut gate, limits) = (Gate::default(), limits(Some(3), None, None));
        let passed = (0..10u64).filter(|i| {
            let now = Millis(i.saturating_mul(10));
            gate.check(&limits, 1, now).inspect(|()| gate.enter(1, now)).is_ok()
        });
        assert_eq!(passed.count(), 3);
        assert_eq!(gate.check(&limits, 1, Millis(100)), Err(Refusal { limit: Limit::Requests, wait_ms: 59_900 }));
        assert_eq!(gate.check(&limits, 1, Millis(60_000)), Ok(()));
    }

    #[test]
    fn tokens_are_estimated_and_then_corrected() {
        let (mut gate, limits) = (Gate::default(), limits(None, Some(100), None));
        gate.enter(90, Millis(0));
        assert_eq!(gate.check(&limits, 20, Millis(1)).unwrap_err().limit, Limit::Tokens);
        gate.leave(90, 10, Millis(0), Millis(500));
        assert_eq!(gate.check(&limits, 20, Millis(501)), Ok(()));
        assert_eq!(
            gate.allowances(&limits, Millis(501)).1,
            Some(Allowance { limit: 100, remaining: 90, reset_ms: 59_499 })
        );
    }

    #[test]
    fn one_more_in_flight_waits() {
        let (mut gate, limits) = (Gate::default(), limits(None, None, Some(1)));
        gate.enter(0, Millis(0));
        assert_eq!(gate.check(&limits, 0, Millis(1)).unwrap_err().limit, Limit::Parallel);
        gate.leave(0, 0, Millis(0), Millis(2));
        assert_eq!(gate.check(&limits, 0, Millis(3)), Ok(()));
    }
}
