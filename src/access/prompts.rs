//! Whether requests and answers of a workspace are kept, sealed: the setting, and what it means for one request.
//!
//! Off unless the workspace switched it on. A request that zero retention was asked for, by whomever, is never kept.

use serde::{Deserialize, Deserializer, Serialize};

use crate::access::routing::Narrowing;

/// Days that are kept where none are named, and at most.
const DAYS: u64 = 7;
const DAYS_MAX: u64 = 90;
/// Bytes that are kept of a request and of an answer where none are named, at least, and at most.
const BYTES: u64 = 64 * 1024;
const BYTES_MIN: u64 = 256;
const BYTES_MAX: u64 = 256 * 1024;

/// The setting of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptLogging {
    /// Whether they are kept.
    #[serde(default)]
    pub enabled: bool,
    /// For how long.
    #[serde(default = "days", deserialize_with = "read_days")]
    pub retention_days: u64,
    /// How much of each.
    #[serde(default = "bytes", deserialize_with = "read_bytes")]
    pub bytes_max: u64,
}

const fn days() -> u64 {
    DAYS
}

const fn bytes() -> u64 {
    BYTES
}

impl Default for PromptLogging {
    fn default() -> PromptLogging {
        PromptLogging { enabled: false, retention_days: DAYS, bytes_max: BYTES }
    }
}

fn between<'de, D: Deserializer<'de>>(deserializer: D, usual: u64, least: u64, most: u64) -> Result<u64, D::Error> {
    match Option::<u64>::deserialize(deserializer)? {
        None => Ok(usual),
        Some(number) if (least..=most).contains(&number) => Ok(number),
        Some(_) => Err(serde::de::Error::custom(format!("must be between {least} and {most}"))),
    }
}

fn read_days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    between(deserializer, DAYS, 1, DAYS_MAX)
}

fn read_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    between(deserializer, BYTES, BYTES_MIN, BYTES_MAX)
}

impl PromptLogging {
    /// Whether nothing is set; for what is not written.
    pub fn is_default(&self) -> bool {
        *self == PromptLogging::default()
    }
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// The workspace keeps nothing.
    Off,
    /// The workspace keeps requests, and not this one: it asks for zero retention.
    Skipped,
    /// It is kept.
    On(PromptLogging),
}

impl Keeping {
    /// By the setting, by whether the request itself asks for zero retention, and by what workspace and preset say.
    pub fn of(setting: PromptLogging, asks_zero_retention: bool, narrowings: &[&Narrowing]) -> Keeping {
        let is_zero = asks_zero_retention || narrowings.iter().any(|narrowing| narrowing.is_zero_retention());
        match (setting.enabled, is_zero) {
            (false, _) => Keeping::Off,
            (true, true) => Keeping::Skipped,
            (true, false) => Keeping::On(setting),
        }
    }

    /// The word in an answer's header, where there is one.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Keeping::Off => None,
            Keeping::Skipped => Some("skipped"),
            Keeping::On(_) => Some("on"),
        }
    }

    /// How many bytes of each are kept; `None`: nothing is.
    pub fn bytes_max(self) -> Option<usize> {
        match self {
            Keeping::Off | Keeping::Skipped => None,
            Keeping::On(setting) => usize::try_from(setting.bytes_max).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PromptLogging, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_off_and_within_bounds() {
        assert_eq!(parse("{}"), Ok(PromptLogging::default()));
        assert!(!PromptLogging::default().enabled);
        let set = parse(r#"{"enabled":true,"retention_days":90,"bytes_max":256}"#).unwrap();
        assert_eq!(set, PromptLogging { enabled: true, retention_days: 90, bytes_max: 256 });
        assert_eq!(parse(&serde_json::to_string(&set).unwrap()), Ok(set));
        for bad in [
            r#"{"retention_days":0}"#,
            r#"{"retention_days":91}"#,
            r#"{"bytes_max":255}"#,
            r#"{"bytes_max":262145}"#,
            r#"{"enabled":"yes"}"#,
            r#"{"days":1}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn zero_retention_asked_for_by_anybody_is_zero_retention() {
        let on = PromptLogging { enabled: true, ..PromptLogging::default() };
        let zdr = Narrowing { zdr: true, ..Narrowing::default() };
        let no_days = Narrowing { retention_days_max: Some(0), ..Narrowing::default() };
        let a_day = Narrowing { retention_days_max: Some(1), ..Narrowing::default() };
        let open = Narrowing::default();
        let word = |asks, narrowings: &[&Narrowing]| Keeping::of(on, asks, narrowings).word();
        assert_eq!(word(false, &[&open, &a_day]), Some("on"));
        assert_eq!(word(true, &[]), Some("skipped"));
        assert_eq!(word(false, &[&open, &zdr]), Some("skipped"));
        assert_eq!(word(false, &[&no_days, &open]), Some("skipped"));
        assert_eq!(Keeping::of(PromptLogging::default(), false, &[]).word(), None);
        assert_eq!(Keeping::of(on, true, &[]).bytes_max(), None);
        assert_eq!(Keeping::of(on, false, &[]).bytes_max(), Some(65_536));
    }
}
