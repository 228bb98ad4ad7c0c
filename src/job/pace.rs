//! How often a host is asked how far it is.

use serde::{Deserialize, Serialize};

use crate::time::Millis;

/// How long after its end a job may be settled, in milliseconds: everything may have been switched off meanwhile.
const SETTLE_MS: u64 = 6 * 3_600_000;

/// Times of a job, from Worker variables, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// After the first answer.
    pub first_ms: u64,
    /// At most between two questions.
    pub most_ms: u64,
    /// While somebody waits for the end.
    pub watched_ms: u64,
    /// How long a job may take.
    pub life_ms: u64,
    /// How long its record is kept after its end.
    pub keep_ms: u64,
}

impl Pace {
    /// The wait before question number `asked` (from 0): half as much again each time. `floor` is what the host asks
    /// for at least, in tenths of the first wait.
    pub fn wait_ms(&self, asked: u32, is_watched: bool, floor: u64) -> u64 {
        let grown = (0..asked.min(32)).fold(self.first_ms, |ms, _| ms.saturating_add(ms / 2).min(self.most_ms));
        let wanted = if is_watched { grown.min(self.watched_ms) } else { grown };
        wanted.max(self.first_ms.saturating_mul(floor) / 10).max(1)
    }

    /// The same where the host did not answer: twice as long, or as long as it asks for.
    pub fn after_miss_ms(&self, misses: u32, asked_ms: Option<u64>) -> u64 {
        let grown =
            (0..misses.min(16)).fold(self.first_ms, |ms, _| ms.saturating_mul(2).min(self.most_ms.saturating_mul(3)));
        asked_ms.map_or(grown, |asked| asked.max(self.first_ms)).max(1)
    }

    /// How long a job's hold lasts: as long as the job, and as long as it may take to say that it is over.
    pub fn hold_ms(&self) -> u64 {
        self.life_ms.saturating_add(SETTLE_MS)
    }

    /// When the job must be over.
    pub fn deadline(&self, now: Millis) -> Millis {
        now.plus(self.life_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { first_ms: 2_000, most_ms: 10_000, watched_ms: 700, life_ms: 1, keep_ms: 1 };

    #[test]
    fn waits_grow_and_a_watched_job_is_asked_often() {
        let waits: Vec<u64> = (0..7).map(|asked| PACE.wait_ms(asked, false, 0)).collect();
        assert_eq!(waits, [2_000, 3_000, 4_500, 6_750, 10_000, 10_000, 10_000]);
        assert_eq!(PACE.wait_ms(6, true, 0), 700);
        assert_eq!(PACE.wait_ms(0, true, 25), 5_000, "what the host asks for at least");
        assert_eq!((PACE.wait_ms(0, false, 25), PACE.wait_ms(6, false, 25)), (5_000, 10_000));
    }

    #[test]
    fn a_host_that_does_not_answer_is_asked_less_and_less() {
        assert_eq!([1, 2, 3, 9].map(|misses| PACE.after_miss_ms(misses, None)), [4_000, 8_000, 16_000, 30_000]);
        assert_eq!((PACE.after_miss_ms(1, Some(60_000)), PACE.after_miss_ms(1, Some(1))), (60_000, 2_000));
    }
}
