//! A histogram of times that can be added up: counts by bucket, each bucket √2 times as wide as the one before. A quantile
//! is off by at most a fifth.

/// Buckets. The last one takes whatever is longer than about nine minutes.
pub const BUCKETS: usize = 40;

/// The bucket of a time: bucket `b` holds times from √2ᵇ ms to below √2ᵇ⁺¹ ms, the first one also less than that.
pub fn bucket(ms: u64) -> usize {
    let ms = u128::from(ms.max(1));
    // floor(2·log2(ms)) = floor(log2(ms²))
    let log = ms.saturating_mul(ms).ilog2();
    usize::try_from(log).unwrap_or(BUCKETS).min(BUCKETS.saturating_sub(1))
}

/// The middle of a bucket (geometric), in milliseconds.
fn middle(bucket: usize) -> u64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "2^0.25 to 2^19.75"
    )]
    let ms = ((bucket as f64 + 0.5) / 2.0).exp2().round() as u64;
    ms
}

/// The time that `percent` of the answers took at most; `None` where there were none.
pub fn quantile(counts: &[u64], percent: u64) -> Option<u64> {
    let total: u64 = counts.iter().sum();
    let rank = total.saturating_mul(percent).div_ceil(100).max(1);
    let mut seen = 0u64;
    let found = counts.iter().position(|count| {
        seen = seen.saturating_add(*count);
        seen >= rank
    });
    found.filter(|_| total > 0).map(middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_bucket_that_holds_it() {
        for (ms, expected) in [(0, 0), (1, 0), (2, 2), (3, 3), (4, 4), (5, 4), (6, 5), (1000, 19), (u64::MAX, 39)] {
            assert_eq!(bucket(ms), expected, "{ms}");
        }
        for ms in 1..200_000u64 {
            assert!(bucket(ms) <= bucket(ms + 1));
        }
    }

    #[test]
    fn a_quantile_is_off_by_a_fifth_at_most() {
        let times: Vec<u64> = (1..=10_000).map(|n| 20 + n * n / 9_000).collect();
        let mut counts = vec![0; BUCKETS];
        times.iter().for_each(|ms| counts[bucket(*ms)] += 1);
        for percent in [1, 50, 95, 99, 100] {
            let exact = times[times.len() * usize::try_from(percent).unwrap() / 100 - 1];
            let told = quantile(&counts, percent).unwrap();
            assert!(told.abs_diff(exact) * 100 <= exact * 20, "p{percent}: {told} for {exact}");
        }
    }

    #[test]
    fn of_nothing_there_is_no_quantile() {
        assert_eq!(quantile(&[0; BUCKETS], 50), None);
        assert_eq!(quantile(&[], 50), None);
    }
}
