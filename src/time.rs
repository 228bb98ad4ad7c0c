//! Moments and spans in milliseconds. Contains no clock: every deciding function is given `now`.

use serde::{Deserialize, Serialize};

/// A moment: milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// This moment plus `ms`, at most the end of time.
    #[must_use]
    pub fn plus(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`, zero when that lies ahead.
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// RFC 3339 in UTC with milliseconds: `2026-11-25T01:37:14.000Z`. Empty where the moment is out of the calendar.
    pub fn to_rfc3339(self) -> String {
        i64::try_from(self.0)
            .ok()
            .and_then(chrono::DateTime::from_timestamp_millis)
            .map(|moment| moment.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
            .unwrap_or_default()
    }

    /// Parses an RFC 3339 moment.
    pub fn from_rfc3339(text: &str) -> Option<Millis> {
        let moment = chrono::DateTime::parse_from_rfc3339(text).ok()?;
        u64::try_from(moment.timestamp_millis()).ok().map(Millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_print_and_parse() {
        let moment = Millis(1_795_570_634_000);
        assert_eq!(moment.to_rfc3339(), "2026-11-25T01:37:14.000Z");
        assert_eq!(Millis::from_rfc3339("2026-11-25T01:37:14Z"), Some(moment));
        assert_eq!(Millis::from_rfc3339("2026-11-25T02:37:14+01:00"), Some(moment));
        assert_eq!(Millis::from_rfc3339("yesterday"), None);
        assert_eq!(Millis(5).since(Millis(7)), 0);
    }
}
