//! A sliding minute: how much was counted in the last sixty seconds, in buckets of one second.
//!
//! Exact to the second: no sixty seconds hold more than the limit, and a limit is usable again as soon as the second
//! that used it is a minute old.
#![deny(clippy::arithmetic_side_effects)]

use crate::time::Millis;

/// Seconds in a window.
pub const WINDOW_SECONDS: u64 = 60;
const BUCKETS: usize = 60;

/// Counts of the last sixty seconds.
#[derive(Debug, Clone)]
pub struct Window {
    buckets: Box<[u64; BUCKETS]>,
    /// The second of the newest bucket.
    newest: u64,
    sum: u64,
}

impl Default for Window {
    fn default() -> Window {
        Window { buckets: Box::new([0; BUCKETS]), newest: 0, sum: 0 }
    }
}

impl Window {
    fn bucket(&mut self, second: u64) -> Option<&mut u64> {
        let index = usize::try_from(second.checked_rem(WINDOW_SECONDS)?).ok()?;
        self.buckets.get_mut(index)
    }

    /// Moves on to `now`: seconds older than a minute are forgotten.
    fn advance(&mut self, now: Millis) {
        let second = now.seconds();
        if second <= self.newest {
            return;
        }
        let steps = second.saturating_sub(self.newest).min(WINDOW_SECONDS);
        for back in 0..steps {
            let old = self.bucket(second.saturating_sub(back)).map_or(0, std::mem::take);
            self.sum = self.sum.saturating_sub(old);
        }
        self.newest = second;
    }

    /// What was counted in the last sixty seconds.
    pub fn used(&mut self, now: Millis) -> u64 {
        self.advance(now);
        self.sum
    }

    /// Counts `amount` now.
    pub fn add(&mut self, amount: u64, now: Millis) {
        self.advance(now);
        let second = self.newest;
        if let Some(bucket) = self.bucket(second) {
            *bucket = bucket.saturating_add(amount);
            self.sum = self.sum.saturating_add(amount);
        }
    }

    /// Replaces `before`, counted at `at`, by `after`; nothing where that second is already forgotten.
    pub fn correct(&mut self, before: u64, after: u64, at: Millis, now: Millis) {
        self.advance(now);
        if self.newest.saturating_sub(at.seconds()) >= WINDOW_SECONDS || at.seconds() > self.newest {
            return;
        }
        if let Some(bucket) = self.bucket(at.seconds()) {
            let old = *bucket;
            *bucket = old.saturating_sub(before).saturating_add(after);
            let new = *bucket;
            self.sum = self.sum.saturating_sub(old).saturating_add(new);
        }
    }

    /// Milliseconds until `amount` more fit under `limit`; zero when they fit now. An amount over the whole limit waits
    /// for an empty window; under a limit of zero nothing ever fits.
    pub fn wait_ms(&mut self, amount: u64, limit: u64, now: Millis) -> u64 {
        let mut over = self.used(now).saturating_add(amount.min(limit.max(1))).saturating_sub(limit);
        if over == 0 {
            return 0;
        }
        for age in (0..WINDOW_SECONDS).rev() {
            let second = self.newest.saturating_sub(age);
            let count = self.bucket(second).map_or(0, |bucket| *bucket);
            over = over.saturating_sub(count);
            if over == 0 {
                let free_at = Millis(second.saturating_add(WINDOW_SECONDS).saturating_mul(1000));
                return free_at.since(now).max(1);
            }
        }
        WINDOW_SECONDS.saturating_mul(1000)
    }

    /// Milliseconds until the window is empty, when nothing more comes.
    pub fn reset_ms(&mut self, now: Millis) -> u64 {
        self.advance(now);
        for age in 0..WINDOW_SECONDS {
            let second = self.newest.saturating_sub(age);
            if self.bucket(second).is_some_and(|bucket| *bucket > 0) {
                return Millis(second.saturating_add(WINDOW_SECONDS).saturating_mul(1000)).since(now);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_slides() {
        let mut w = Window::default();
        w.add(3, Millis(1_000));
        w.add(2, Millis(30_500));
        assert_eq!((w.used(Millis(60_999)), w.used(Millis(61_000)), w.used(Millis(91_000))), (5, 2, 0));
    }

    #[test]
    fn the_wait_is_until_enough_has_aged() {
        let mut w = Window::default();
        w.add(3, Millis(1_000));
        w.add(2, Millis(30_500));
        assert_eq!(w.wait_ms(1, 6, Millis(40_000)), 0);
        assert_eq!(w.wait_ms(2, 6, Millis(40_000)), 21_000, "one of the three must go");
        assert_eq!(w.wait_ms(5, 6, Millis(40_000)), 50_000, "all must go");
        assert_eq!(w.wait_ms(99, 6, Millis(40_000)), 50_000, "more than the limit waits for an empty window");
        assert_eq!(Window::default().wait_ms(1, 0, Millis(40_000)), 60_000, "a limit of zero lets nothing pass");
        assert_eq!(w.reset_ms(Millis(40_000)), 50_000);
    }

    #[test]
    fn an_estimate_is_corrected_where_it_was_counted() {
        let mut w = Window::default();
        w.add(100, Millis(1_000));
        w.correct(100, 30, Millis(1_000), Millis(5_000));
        assert_eq!(w.used(Millis(5_000)), 30);
        w.correct(30, 90, Millis(1_000), Millis(70_000));
        assert_eq!(w.used(Millis(70_000)), 0);
    }

    #[test]
    fn a_long_silence_empties_it() {
        let mut w = Window::default();
        w.add(9, Millis(1_000));
        assert_eq!(w.used(Millis(10_000_000)), 0);
        w.add(1, Millis(10_000_000));
        assert_eq!(w.used(Millis(10_000_500)), 1);
    }
}
