//! How long the parts of a request may take.
//!
//! Four spans, each with its own limit: until a provider's headers (`connect`), until the first content (`first_byte`),
//! between two chunks (`idle`), and all attempts with the delivery (`total`). The operator's variables are the most; a
//! request lowers them with `X-Gateway-Timeout-Ms`, as one number (the total) or as `first_byte=2000, total=30000`.
//! Times are the same for every modality that streams; what comes whole has its whole time until `first_byte`.

use crate::relay::Stop;

/// The limits of one request, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the headers of one attempt.
    pub connect_ms: u64,
    /// Until the first content of one attempt; of an answer that comes whole, until its end.
    pub first_byte_ms: u64,
    /// Between two chunks.
    pub idle_ms: u64,
    /// All attempts and the delivery together.
    pub total_ms: u64,
}

/// Shortest time a client may ask for, in milliseconds.
pub const TIMEOUT_MS_MIN: u64 = 100;

/// While others could still answer, a stream's first content is waited for this many times the p95 of the soonest of
/// them, …
const P95_TIMES: u64 = 8;
/// … but at least this long, in milliseconds: thinking is not hanging.
const FIRST_BYTE_MS_MIN: u64 = 5_000;
/// The same for a trial, where silence is likely: …
const TRIAL_P95_TIMES: u64 = 3;
/// … at least this long, …
const TRIAL_MS_MIN: u64 = 1_500;
/// … and at most this long, in milliseconds; also where nothing is known.
const TRIAL_MS_MAX: u64 = 5_000;
/// An attempt that takes this many times the p95 is later than the offer ever is, …
const LATE_P95_TIMES: u64 = 2;
/// … but not before, in milliseconds.
const LATE_MS_MIN: u64 = 1_000;
/// The soonest that a second attempt may join, in milliseconds.
const HEDGE_MS_MIN: u64 = 50;

/// The longest useful wait for a first content while others could answer: by what the soonest of them usually takes, and
/// for a trial by what the offer itself took.
pub fn first_byte_max_ms(soonest_p95_ms: Option<u64>, trial: Option<Option<u64>>) -> Option<u64> {
    match trial {
        Some(None) => Some(TRIAL_MS_MAX),
        Some(Some(p95)) => Some(p95.saturating_mul(TRIAL_P95_TIMES).clamp(TRIAL_MS_MIN, TRIAL_MS_MAX)),
        None => soonest_p95_ms.map(|p95| p95.saturating_mul(P95_TIMES).max(FIRST_BYTE_MS_MIN)),
    }
}

/// When a second attempt may join, where the request opted in: later than the offer itself usually is.
pub fn hedge_ms(p95_ms: Option<u64>) -> Option<u64> {
    p95_ms.map(|p95| p95.max(HEDGE_MS_MIN))
}

/// From when on an attempt waits longer than the offer ever takes.
pub fn late_ms(p95_ms: Option<u64>) -> Option<u64> {
    p95_ms.map(|p95| p95.saturating_mul(LATE_P95_TIMES).max(LATE_MS_MIN))
}

impl Timeouts {
    /// These, lowered by what the header says; never raised. An error is what is wrong with the header.
    pub fn lowered_by(self, header: &str) -> Result<Timeouts, String> {
        let mut lowered = self;
        for part in header.split(',') {
            let (name, value) = part.split_once('=').map_or(("total", part), |(name, value)| (name.trim(), value));
            let span = match name {
                "connect" => &mut lowered.connect_ms,
                "first_byte" => &mut lowered.first_byte_ms,
                "idle" => &mut lowered.idle_ms,
                "total" => &mut lowered.total_ms,
                _ => return Err(format!("knows `connect`, `first_byte`, `idle` and `total`, not `{}`", short(name))),
            };
            match value.trim().parse::<u64>() {
                Ok(ms) if ms >= TIMEOUT_MS_MIN => *span = ms.min(*span),
                _ => return Err(format!("must be a whole number of milliseconds, at least {TIMEOUT_MS_MIN}")),
            }
        }
        lowered.first_byte_ms = lowered.first_byte_ms.min(lowered.total_ms);
        lowered.connect_ms = lowered.connect_ms.min(lowered.first_byte_ms);
        Ok(lowered)
    }

    /// Whether a stream stopped because the request wanted less time than it could have had (`most`). That is the
    /// client's doing, as if it had left, and says nothing about the provider.
    pub fn is_own(&self, most: &Timeouts, stop: Stop) -> bool {
        match stop {
            Stop::Idle => self.idle_ms < most.idle_ms,
            Stop::Deadline => self.total_ms < most.total_ms,
            Stop::Eof | Stop::Broken | Stop::Left | Stop::Stalled => false,
        }
    }
}

/// What a client wrote, in a length fit for an error.
fn short(text: &str) -> &str {
    text.get(..24).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Timeouts = Timeouts { connect_ms: 10_000, first_byte_ms: 30_000, idle_ms: 60_000, total_ms: 600_000 };

    #[test]
    fn a_request_lowers_each_span_and_raises_none() {
        let lowered = |header| MOST.lowered_by(header);
        assert_eq!(lowered("20000"), Ok(Timeouts { first_byte_ms: 20_000, total_ms: 20_000, ..MOST }));
        assert_eq!(lowered("900000"), Ok(MOST));
        let all = Timeouts { connect_ms: 500, first_byte_ms: 2_000, idle_ms: 1_000, total_ms: 30_000 };
        assert_eq!(lowered("first_byte=2000, idle=1000, connect = 500 ,total=30000"), Ok(all));
        assert_eq!(lowered("first_byte=2000").map(|t| t.connect_ms), Ok(2_000));
        for wrong in ["", "abc", "99", "-5", "1.5", "first=200", "idle=", "first_byte=2000,"] {
            assert!(lowered(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_span_that_was_lowered_is_the_requests_own() {
        let lowered = MOST.lowered_by("idle=500").unwrap();
        assert!(lowered.is_own(&MOST, Stop::Idle));
        assert!(!lowered.is_own(&MOST, Stop::Deadline));
        assert!(MOST.lowered_by("2000").unwrap().is_own(&MOST, Stop::Deadline));
        assert!(!MOST.is_own(&MOST, Stop::Idle) && !lowered.is_own(&MOST, Stop::Broken));
    }

    #[test]
    fn waits_follow_what_an_offer_usually_takes() {
        assert_eq!(first_byte_max_ms(None, None), None);
        assert_eq!(first_byte_max_ms(Some(400), None), Some(5_000));
        assert_eq!(first_byte_max_ms(Some(3_000), None), Some(24_000));
        assert_eq!(first_byte_max_ms(Some(3_000), Some(None)), Some(5_000));
        assert_eq!(first_byte_max_ms(None, Some(Some(200))), Some(1_500));
        assert_eq!(first_byte_max_ms(None, Some(Some(900))), Some(2_700));
        assert_eq!(hedge_ms(Some(10)), Some(50));
        assert_eq!((late_ms(None), late_ms(Some(100)), late_ms(Some(900))), (None, Some(1_000), Some(1_800)));
    }
}
