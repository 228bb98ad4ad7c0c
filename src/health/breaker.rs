//! A breaker: closed while traffic flows, open after failures, then one trial out of real traffic, then a ramp.
//!
//! ```text
//! closed ──5 failures in a row, or 6 of 10 lately──▶ open ──its time is over──▶ half-open ──sent──▶ (open for others)
//!   ▲                                                 ▲                             │
//!   └──2 s without two failures── ramping ◀──served──┼─────────────────────────────┤
//!                                     └──two failures─┴──────────failed─────────────┘
//! ```
//!
//! Each opening doubles the time of the next, 1 s up to 4 s (8 s where it was silent: such a trial costs more), until the breaker has stayed closed for a while. Until
//! then it is on probation: one failure opens it again, since what broke a moment ago breaks again more often than not. The times are stretched by up to a quarter, by isolate, so that not all of them try at once. Open never means refused:
//! the ranking puts the offer last, and one that serves as the last resort is believed.

use crate::health::sample::{mix, unit};
use crate::health::tally::Tally;
use crate::time::Millis;

/// Failures in a row that open the breaker of an offer.
pub const OPEN_AFTER: u32 = 5;
/// Failures in a row, of more than one offer, that open the breaker of a provider.
pub const OPEN_PROVIDER_AFTER: u32 = 10;
/// Failures of late that open it whatever succeeded in between, …
const RATE_FAILURES: f64 = 6.0;
/// … when they are at least this share of all attempts.
const RATE_SHARE: f64 = 0.6;
/// What "of late" means: counts halve in this time, in milliseconds.
const RATE_HALF_LIFE_MS: f64 = 10_000.0;
/// How long it stays open at first, in milliseconds.
pub const OPEN_MS: u64 = 1_000;
/// Longest time open, in milliseconds. Twice that where it said nothing.
pub const OPEN_MS_MAX: u64 = 4_000;
/// An unanswered trial blocks the next one for this long, in milliseconds.
const TRIAL_MS: u64 = 10_000;
/// How long traffic comes back, in milliseconds.
pub const RAMP_MS: u64 = 2_000;
/// Share of requests that may go to an offer at the start of its ramp.
const RAMP_SHARE: f64 = 0.1;
/// Failures in a row that end a ramp.
const RAMP_FAILURES: u32 = 2;
/// Closed for this long, the breaker forgets how often it opened, in milliseconds: its probation is over.
const FORGET_MS: u64 = 90_000;
/// Failures in a row that open the breaker of an offer on probation.
const OPEN_AGAIN_AFTER: u32 = 1;

/// What traffic may do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Phase {
    /// Flow.
    Closed,
    /// Come back: this share of requests.
    Ramping(f64),
    /// Send one trial.
    HalfOpen,
    /// Nothing but the last resort, until then.
    Open(Millis),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Closed,
    Open {
        until: Millis,
    },
    Trying {
        until: Millis,
    },
    Ramping {
        since: Millis,
    },
}

/// A change that somebody may want to know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// None.
    None,
    /// It opened.
    Opened,
    /// Traffic comes back.
    Recovered,
}

/// The breaker of an offer or a provider.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    state: State,
    streak: u32,
    /// The offer that failed first in the streak, and whether another one failed too.
    first: u64,
    is_mixed: bool,
    lately: Tally,
    openings: u32,
    is_silent: bool,
    closed_at: Millis,
}

impl Breaker {
    /// What traffic may do at `now`.
    pub fn phase(&self, now: Millis) -> Phase {
        match self.state {
            State::Closed => Phase::Closed,
            State::Open { until } | State::Trying { until } if now < until => Phase::Open(until),
            State::Open { .. } | State::Trying { .. } => Phase::HalfOpen,
            State::Ramping { since } if now.since(since) >= RAMP_MS => Phase::Closed,
            State::Ramping { since } => {
                #[allow(clippy::cast_precision_loss, reason = "a span of milliseconds fits a float")]
                let part = now.since(since) as f64 / RAMP_MS as f64;
                Phase::Ramping(RAMP_SHARE + (1.0 - RAMP_SHARE) * part * part)
            }
        }
    }

    /// How often it opened, as far as it remembers.
    pub fn openings(&self) -> u32 {
        self.openings
    }

    /// Whether it said nothing rather than failed when it opened: then a trial costs its request much time.
    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// The last failure was silence, or was not.
    pub fn was_silent(&mut self, is_silent: bool) {
        self.is_silent = is_silent;
    }

    /// A request was sent. In half-open this is the trial, and the others wait for its end.
    pub fn on_sent(&mut self, now: Millis) {
        if self.phase(now) == Phase::HalfOpen {
            self.state = State::Trying { until: now.plus(TRIAL_MS) };
        }
    }

    /// It served.
    pub fn on_served(&mut self, now: Millis) -> Change {
        self.streak = 0;
        self.is_mixed = false;
        self.lately.add(1.0, 0.0, RATE_HALF_LIFE_MS, now);
        match self.state {
            State::Open { .. } | State::Trying { .. } => {
                self.state = State::Ramping { since: now };
                self.lately = Tally { at: now, ..Tally::default() };
                Change::Recovered
            }
            State::Ramping { since } if now.since(since) >= RAMP_MS => {
                self.state = State::Closed;
                self.closed_at = now;
                Change::None
            }
            State::Closed if self.openings > 0 && now.since(self.closed_at) >= FORGET_MS => {
                self.openings = 0;
                Change::None
            }
            State::Closed | State::Ramping { .. } => Change::None,
        }
    }

    /// It failed, at the offer of that key. `after` is the streak that opens it; a provider's (`needs_mixed`) must be of
    /// several offers.
    pub fn on_failed(&mut self, offer: u64, after: u32, needs_mixed: bool, nonce: u64, now: Millis) -> Change {
        if self.streak == 0 {
            self.first = offer;
        }
        self.is_mixed |= self.first != offer;
        self.streak = self.streak.saturating_add(1);
        self.lately.add(0.0, 1.0, RATE_HALF_LIFE_MS, now);
        let is_rate = self.lately.bad >= RATE_FAILURES
            && self.lately.bad >= RATE_SHARE * (self.lately.good + self.lately.bad)
            && !needs_mixed;
        let opens = match self.phase(now) {
            Phase::Closed if self.openings > 0 && !needs_mixed => self.streak >= OPEN_AGAIN_AFTER,
            Phase::Closed => (self.streak >= after && (self.is_mixed || !needs_mixed)) || is_rate,
            Phase::Ramping(_) => self.streak >= RAMP_FAILURES,
            Phase::HalfOpen => true,
            // The trial itself reports here; a last resort that fails is no news.
            Phase::Open(_) => matches!(self.state, State::Trying { .. }),
        };
        if !opens {
            return Change::None;
        }
        self.openings = self.openings.saturating_add(1);
        let doublings = self.openings.saturating_sub(1).min(8);
        let open_ms = (OPEN_MS << doublings).min(self.open_ms_max());
        self.state = State::Open { until: now.plus(stretched(open_ms, nonce ^ u64::from(self.openings))) };
        Change::Opened
    }

    fn open_ms_max(&self) -> u64 {
        if self.is_silent { 2 * OPEN_MS_MAX } else { OPEN_MS_MAX }
    }

    /// Somebody else saw it open until then: be open too, a little longer by isolate.
    pub fn open_until(&mut self, until: Millis, nonce: u64, now: Millis) {
        let left_ms = until.since(now);
        if left_ms > 0 && matches!(self.state, State::Closed | State::Ramping { .. }) {
            self.openings = self.openings.max(1);
            self.state = State::Open { until: now.plus(stretched(left_ms.min(2 * OPEN_MS_MAX), nonce)) };
        }
    }

    /// Somebody else saw it recover: send a trial now.
    pub fn may_try(&mut self, now: Millis) {
        if let State::Open { until } = &mut self.state {
            *until = now.min(*until);
        }
    }
}

/// A span and up to a quarter more.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "spans under a minute"
)]
fn stretched(ms: u64, nonce: u64) -> u64 {
    ms.saturating_add((ms as f64 * 0.25 * unit(mix(nonce))) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &mut Breaker, times: u64, from: u64) -> Change {
        (0..times).fold(Change::None, |_, i| breaker.on_failed(1, OPEN_AFTER, false, 0, Millis(from + i)))
    }

    fn is_open(breaker: &Breaker, at: u64) -> bool {
        matches!(breaker.phase(Millis(at)), Phase::Open(_))
    }

    #[test]
    fn five_in_a_row_open_it_and_a_success_starts_the_count_again() {
        let mut breaker = Breaker::default();
        assert_eq!(fail(&mut breaker, 4, 0), Change::None);
        breaker.on_served(Millis(4));
        assert_eq!(fail(&mut breaker, 1, 5), Change::None);
        let mut breaker = Breaker::default();
        assert_eq!(fail(&mut breaker, 5, 0), Change::Opened);
        assert!(is_open(&breaker, 5));
    }

    #[test]
    fn six_of_ten_lately_open_it_too() {
        let mut breaker = Breaker::default();
        let opened = (0..40u64).any(|i| {
            if i % 3 == 0 {
                breaker.on_served(Millis(i * 100));
            }
            breaker.on_failed(1, OPEN_AFTER, false, 0, Millis(i * 100 + 50)) == Change::Opened
        });
        assert!(opened, "three of four fail and never five in a row");
        let mut breaker = Breaker::default();
        let opened = (0..200u64).any(|i| {
            breaker.on_served(Millis(i * 100));
            breaker.on_failed(1, OPEN_AFTER, false, 0, Millis(i * 100 + 50)) == Change::Opened
        });
        assert!(!opened, "half and half is for the score");
    }

    #[test]
    fn one_trial_at_a_time_then_longer_or_a_ramp() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 5, 0);
        let Phase::Open(until) = breaker.phase(Millis(5)) else { panic!("open") };
        assert!((OPEN_MS..=OPEN_MS * 5 / 4 + 5).contains(&until.0));
        assert_eq!(breaker.phase(until), Phase::HalfOpen);
        breaker.on_sent(until);
        assert!(is_open(&breaker, until.0), "the others wait");
        assert_eq!(breaker.phase(until.plus(TRIAL_MS)), Phase::HalfOpen, "a trial of which nothing is heard");
        assert_eq!(fail(&mut breaker, 1, until.0 + 100), Change::Opened);
        let Phase::Open(second) = breaker.phase(until.plus(100)) else { panic!("open") };
        assert!(second.since(until.plus(100)) >= 2 * OPEN_MS);
        assert_eq!(breaker.on_served(second.plus(1)), Change::Recovered);
        let Phase::Ramping(share) = breaker.phase(second.plus(1)) else { panic!("ramp") };
        assert!(share < 0.2);
        assert_eq!(breaker.phase(second.plus(1 + RAMP_MS)), Phase::Closed);
    }

    #[test]
    fn the_time_open_doubles_to_its_end_and_is_forgotten() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 5, 0);
        let mut at = Millis(10);
        for _ in 0..10 {
            let Phase::Open(until) = breaker.phase(at) else { panic!("open") };
            assert!(until.since(at) <= OPEN_MS_MAX * 5 / 4);
            at = until;
            breaker.on_failed(1, OPEN_AFTER, false, 0, at);
        }
        assert_eq!(breaker.openings(), 11);
        let mut at = at.plus(60_000);
        breaker.on_served(at);
        for _ in 0..20 {
            at = at.plus(20_000);
            breaker.on_served(at);
        }
        assert_eq!(breaker.openings(), 0);
    }

    #[test]
    fn on_probation_one_failure_opens_it_again_and_after_that_five() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 5, 0);
        let back = Millis(8_000);
        breaker.on_served(back);
        breaker.on_served(back.plus(RAMP_MS));
        assert_eq!(fail(&mut breaker, 1, 60_000), Change::Opened);
        breaker.on_served(Millis(70_000));
        breaker.on_served(Millis(70_000 + RAMP_MS));
        breaker.on_served(Millis(70_000 + RAMP_MS + FORGET_MS));
        assert_eq!(fail(&mut breaker, 4, 200_000), Change::None);
        assert_eq!(fail(&mut breaker, 1, 200_005), Change::Opened);
        // A provider's breaker needs failures of several offers also then.
        let mut provider = Breaker::default();
        (0..10u64).for_each(|i| {
            provider.on_failed(i % 2, OPEN_PROVIDER_AFTER, true, 0, Millis(i));
        });
        provider.on_served(Millis(8_000));
        provider.on_served(Millis(8_000 + RAMP_MS));
        assert_eq!(provider.on_failed(1, OPEN_PROVIDER_AFTER, true, 0, Millis(20_000)), Change::None);
    }

    #[test]
    fn two_failures_end_a_ramp_and_one_does_not() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 5, 0);
        breaker.on_served(Millis(8_000));
        assert_eq!(fail(&mut breaker, 1, 8_100), Change::None);
        assert_eq!(fail(&mut breaker, 1, 8_200), Change::Opened);
    }

    #[test]
    fn a_providers_breaker_needs_failures_of_several_offers() {
        let mut breaker = Breaker::default();
        let fails = |breaker: &mut Breaker, offer: u64, times: u64| {
            (0..times).fold(Change::None, |_, i| breaker.on_failed(offer, OPEN_PROVIDER_AFTER, true, 0, Millis(i)))
        };
        assert_eq!(fails(&mut breaker, 1, 20), Change::None, "twenty of one offer");
        assert_eq!(fails(&mut breaker, 2, 1), Change::Opened);
    }

    #[test]
    fn what_others_saw_opens_and_lets_try() {
        let mut breaker = Breaker::default();
        breaker.open_until(Millis(4_000), 1, Millis(1_000));
        assert!(is_open(&breaker, 3_999));
        breaker.may_try(Millis(2_000));
        assert_eq!(breaker.phase(Millis(2_000)), Phase::HalfOpen);
        let mut closed = Breaker::default();
        closed.open_until(Millis(900), 1, Millis(1_000));
        assert_eq!(closed.phase(Millis(1_000)), Phase::Closed, "old news");
    }
}
