//! When a delivery is tried again, and when not any more.

use crate::time::Millis;

/// Waits after each failed try, in units of the first: 5 s, 5 min, half an hour, 2 h, 5 h, 8 h, 8 h. Together about a day.
const WAITS: [u64; 7] = [1, 60, 360, 1_440, 3_600, 5_760, 5_760];
/// The unit where nothing else is set, in milliseconds.
pub const UNIT_MS: u64 = 5_000;
/// A wait is shorter by up to this part, so that not all that failed together comes back together.
const SPREAD_PARTS: u64 = 10;

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered with a status.
    Status(u16),
    /// It did not answer in time.
    TimedOut,
    /// It could not be reached.
    Unreachable,
}

impl Outcome {
    /// In words, for the owner.
    pub fn words(self) -> String {
        match self {
            Outcome::Status(status @ 300..400) => format!("answered {status}; redirects are not followed"),
            Outcome::Status(status) => format!("answered {status}"),
            Outcome::TimedOut => "did not answer in time".to_owned(),
            Outcome::Unreachable => "could not be reached".to_owned(),
        }
    }
}

/// What comes after a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It arrived.
    Delivered,
    /// Another try, then.
    Again(Millis),
    /// No further try.
    Dead,
    /// No further try, and none of anything else: the receiver said that it is gone (410).
    Gone,
}

/// What comes after the `tries`-th try (counted from 1) that ended at `now`. `chance` is any number.
pub fn after(tries: u32, outcome: Outcome, unit_ms: u64, chance: u64, now: Millis) -> Next {
    match outcome {
        Outcome::Status(200..300) => return Next::Delivered,
        Outcome::Status(410) => return Next::Gone,
        Outcome::Status(_) | Outcome::TimedOut | Outcome::Unreachable => {}
    }
    let place = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(units) = WAITS.get(place) else { return Next::Dead };
    let wait = units.saturating_mul(unit_ms);
    let less = chance.checked_rem((wait / SPREAD_PARTS).max(1)).unwrap_or(0);
    Next::Again(now.plus(wait.saturating_sub(less)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_reach_over_a_day_and_end() {
        let mut now = Millis(0);
        let mut tries = 0;
        loop {
            tries += 1;
            match after(tries, Outcome::Status(500), UNIT_MS, 0, now) {
                Next::Again(at) => now = at,
                next => break assert_eq!(next, Next::Dead),
            }
        }
        assert_eq!(tries, 8);
        assert!((23 * 3_600_000..25 * 3_600_000).contains(&now.0), "{now:?}");
    }

    #[test]
    fn only_what_arrived_arrived() {
        let next = |outcome| after(1, outcome, 1_000, 0, Millis(5));
        assert_eq!(next(Outcome::Status(204)), Next::Delivered);
        assert_eq!(next(Outcome::Status(410)), Next::Gone);
        for outcome in [Outcome::Status(302), Outcome::Status(404), Outcome::TimedOut, Outcome::Unreachable] {
            assert_eq!(next(outcome), Next::Again(Millis(1_005)), "{outcome:?}");
        }
        for chance in [0, 1, 99, 100, u64::MAX] {
            let Next::Again(at) = after(1, Outcome::TimedOut, 1_000, chance, Millis(0)) else { panic!("no retry") };
            assert!((900..=1_000).contains(&at.0), "{at:?}");
        }
    }
}
