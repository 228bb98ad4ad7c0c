//! The formula that orders candidates.
//!
//! score = reliability^4 × (cheapest / price)^p × (fastest / latency)^l × jitter
//!
//! where price is the expected price of this very request, latency the average time to the first content (an offer
//! without samples counts as the median of the others), and the exponents depend on the mode:
//!
//! | mode | p | l |
//! |---|---|---|
//! | balanced | 0.6 | 0.4 |
//! | price | 4 | 0.05 |
//! | latency | 0.05 | 3 |
//! | throughput | 0.05 | 2 |
//!
//! jitter is between 0.95 and 1, drawn from the request's seed, so that near-equals share the load. Candidates in a
//! cool-down or with an open breaker come after all others. The request's `provider.order` comes before any score.

use crate::health::board::Score;
use crate::text::request::Mode;

/// One candidate's facts.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Expected price of this request, in nano-dollars.
    pub price_nanos: i64,
    /// Health.
    pub score: Score,
    /// Place in the request's `provider.order`.
    pub order: Option<usize>,
    /// Place of its model among the request's models.
    pub model: usize,
}

/// Weight of reliability.
const RELIABILITY: f64 = 4.0;
/// Share of the score that chance decides.
const JITTER: f64 = 0.05;

const fn weights(mode: Mode) -> (f64, f64) {
    match mode {
        Mode::Balanced => (0.6, 0.4),
        Mode::Price => (4.0, 0.05),
        Mode::Latency => (0.05, 3.0),
        Mode::Throughput => (0.05, 2.0),
    }
}

/// The order of candidates: indexes into `facts`, best first, with their scores.
pub fn rank(facts: &[Facts], mode: Mode, seed: u64) -> Vec<(usize, f64)> {
    let (by_price, by_latency) = weights(mode);
    let prices = facts.iter().map(|f| dollars(f.price_nanos));
    let cheapest = prices.fold(f64::INFINITY, f64::min);
    let mut latencies: Vec<f64> = facts.iter().filter_map(|f| f.score.latency_ms).map(|ms| ms.max(1.0)).collect();
    latencies.sort_by(f64::total_cmp);
    let fastest = latencies.first().copied().unwrap_or(1.0);
    let median = latencies.get(latencies.len() / 2).copied().unwrap_or(fastest);
    let mut random = Random(seed);
    let mut ranked: Vec<(usize, f64)> = facts
        .iter()
        .enumerate()
        .map(|(index, f)| {
            let latency = f.score.latency_ms.map_or(median, |ms| ms.max(1.0));
            let score = f.score.reliability.powf(RELIABILITY)
                * (cheapest / dollars(f.price_nanos)).powf(by_price)
                * (fastest / latency).powf(by_latency)
                * (1.0 - JITTER * random.next());
            (index, score)
        })
        .collect();
    ranked.sort_by(|(a, score_a), (b, score_b)| {
        let place =
            |index: &usize| facts.get(*index).map(|f| (f.model, f.score.is_last_resort, f.order.is_none(), f.order));
        place(a).cmp(&place(b)).then(score_b.total_cmp(score_a)).then(a.cmp(b))
    });
    ranked
}

/// A price for the formula; a free offer counts as a nano-dollar so that ratios stay finite.
#[allow(clippy::cast_precision_loss, reason = "an order does not need the last digit")]
fn dollars(nanos: i64) -> f64 {
    nanos.max(1) as f64
}

/// SplitMix64: small, seeded, good enough to spread load.
struct Random(u64);

impl Random {
    /// Between 0 and 1.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit a float exactly")]
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(price_nanos: i64, latency_ms: Option<f64>, reliability: f64) -> Facts {
        Facts { price_nanos, score: Score { reliability, latency_ms, is_last_resort: false }, order: None, model: 0 }
    }

    fn first(facts: &[Facts], mode: Mode) -> usize {
        rank(facts, mode, 7)[0].0
    }

    #[test]
    fn modes_prefer_what_they_say() {
        let cheap_slow = facts(100, Some(2000.0), 0.99);
        let dear_fast = facts(400, Some(100.0), 0.99);
        let list = [dear_fast, cheap_slow];
        assert_eq!((first(&list, Mode::Price), first(&list, Mode::Latency)), (1, 0));
    }

    #[test]
    fn an_unreliable_offer_loses_even_when_cheap() {
        let list = [facts(50, None, 0.4), facts(100, None, 0.99)];
        assert_eq!(first(&list, Mode::Balanced), 1);
    }

    #[test]
    fn the_requests_order_comes_first_and_a_last_resort_last() {
        let mut list = [facts(1, None, 0.99), facts(9, None, 0.99), facts(5, None, 0.99)];
        list[1].order = Some(0);
        list[0].score.is_last_resort = true;
        let order: Vec<usize> = rank(&list, Mode::Price, 1).into_iter().map(|(index, _)| index).collect();
        assert_eq!(order, [1, 2, 0]);
    }

    #[test]
    fn near_equals_share_the_load_and_a_seed_can_be_replayed() {
        let list = [facts(100, None, 0.99), facts(101, None, 0.99)];
        let firsts: std::collections::BTreeSet<usize> =
            (0..64).map(|seed| rank(&list, Mode::Balanced, seed)[0].0).collect();
        assert_eq!(firsts.len(), 2);
        assert_eq!(rank(&list, Mode::Balanced, 5), rank(&list, Mode::Balanced, 5));
    }

    #[test]
    fn free_offers_and_no_candidates_do_no_harm() {
        assert!(rank(&[], Mode::Price, 1).is_empty());
        assert!(rank(&[facts(0, Some(0.0), 0.0)], Mode::Price, 1)[0].1.is_finite());
    }
}
