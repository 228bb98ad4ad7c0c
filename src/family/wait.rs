//! How long a provider asks to be left alone, in any of its spellings.
//!
//! Order of precedence: `retry-after-ms`, `retry-after` in seconds (a fraction is allowed), `retry-after` as an HTTP
//! date, the body's own hint.

use crate::time::Millis;

/// A longer wait than this is not believed, in milliseconds.
pub const WAIT_MS_MAX: u64 = 24 * 3600 * 1000;

/// The wait that an answer's headers ask for, in milliseconds.
pub fn from_headers(retry_after_ms: Option<&str>, retry_after: Option<&str>, now: Millis) -> Option<u64> {
    let in_ms = retry_after_ms.and_then(|text| decimal_thousandths(text.trim())).map(|thousandths| thousandths / 1000);
    let wait = in_ms.or_else(|| {
        let text = retry_after?.trim();
        decimal_thousandths(text).or_else(|| duration_ms(text)).or_else(|| date_ms(text, now))
    });
    wait.map(|ms| ms.min(WAIT_MS_MAX))
}

fn date_ms(text: &str, now: Millis) -> Option<u64> {
    let at = httpdate::parse_http_date(text).ok()?;
    let since_epoch = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    let at = u64::try_from(since_epoch.as_millis()).ok()?;
    Some(Millis(at).since(now))
}

/// `1h2m3.5s`, `12ms`, `7.66s`, in milliseconds.
pub fn duration_ms(text: &str) -> Option<u64> {
    if let Some(ms) = text.strip_suffix("ms") {
        return decimal_thousandths(ms).map(|thousandths| thousandths / 1000);
    }
    let (mut rest, mut total, mut any) = (text, 0u64, false);
    for (unit, ms) in [('h', 3_600_000u64), ('m', 60_000), ('s', 1000)] {
        if let Some((number, after)) = rest.split_once(unit) {
            let thousandths = decimal_thousandths(number)?;
            total = total.saturating_add(thousandths.saturating_mul(ms) / 1000);
            rest = after;
            any = true;
        }
    }
    (any && rest.is_empty()).then_some(total)
}

/// A plain decimal number, in thousandths.
fn decimal_thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) {
        return None;
    }
    let part = format!("{:0<3}", part.get(..part.len().min(3))?);
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_wait() {
        let now = Millis(1_795_570_634_000);
        for (in_ms, plain, expected) in [
            (Some("1500"), Some("9"), Some(1500)),
            (Some("1500.7"), None, Some(1500)),
            (None, Some("2"), Some(2000)),
            (None, Some("2.25"), Some(2250)),
            (None, Some("Wed, 25 Nov 2026 01:37:24 GMT"), Some(10_000)),
            (None, Some("Wed, 25 Nov 2026 01:37:00 GMT"), Some(0)),
            (None, Some("6m0s"), Some(360_000)),
            (None, Some("99999999"), Some(WAIT_MS_MAX)),
            (None, Some("soon"), None),
            (None, Some("-1"), None),
            (None, None, None),
        ] {
            assert_eq!(from_headers(in_ms, plain, now), expected, "{in_ms:?} {plain:?}");
        }
    }

    #[test]
    fn durations() {
        for (text, ms) in [
            ("12ms", Some(12)),
            ("7.66s", Some(7660)),
            ("1m2.5s", Some(62_500)),
            ("1h", Some(3_600_000)),
            ("s", None),
            ("", None),
            ("5x", None),
        ] {
            assert_eq!(duration_ms(text), ms, "{text}");
        }
    }
}
