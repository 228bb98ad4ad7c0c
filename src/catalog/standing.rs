//! Where an offer stands, on five axes that different people decide. It serves a request only where all of them agree.
//!
//! | axis | who decides | values |
//! |---|---|---|
//! | `status` | who made the model: its life | `current`, `preview`, `deprecated`, `retired` (also by the date in `retires`) |
//! | `availability` | the provider: whether it takes calls for it | `open`, `limited` (by arrangement with an account), `closed` |
//! | `support` | this project: whether it speaks what the offer needs | `supported`, `unsupported` |
//! | `channel` | this project: who gets to see it | `stable`, `beta`, `alpha` |
//! | `routing` | the operator of a gateway | `on`, `last` (only when nobody else is left), `off` |
//!
//! The first value of each is meant where nothing is stated.

use serde::{Deserialize, Serialize};

use crate::time::Millis;

macro_rules! axis {
    ($(#[$about:meta])* $axis:ident { $first:ident $first_name:literal, $($value:ident $name:literal),* $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[allow(missing_docs, reason = "the table above has the values")]
        pub enum $axis { #[default] $first, $($value),* }

        impl $axis {
            /// Every value's name.
            pub const NAMES: &'static [&'static str] = &[$first_name, $($name),*];

            /// The name in files and answers.
            pub const fn name(self) -> &'static str {
                match self { $axis::$first => $first_name, $($axis::$value => $name),* }
            }
        }
    };
}

axis! {
    /// Where a model is in its life, at this provider.
    Status { Current "current", Preview "preview", Deprecated "deprecated", Retired "retired" }
}
axis! {
    /// Whether the provider takes calls.
    Availability { Open "open", Limited "limited", Closed "closed" }
}
axis! {
    /// Whether this project can ask for it.
    Support { Supported "supported", Unsupported "unsupported" }
}
axis! {
    /// Who gets to see it. Ordered: whoever sees alpha sees beta and stable too.
    Channel { Stable "stable", Beta "beta", Alpha "alpha" }
}
axis! {
    /// Whether requests are sent its way.
    Routing { On "on", Last "last", Off "off" }
}

/// The five axes of one offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standing {
    /// Life cycle.
    #[serde(default, skip_serializing_if = "is_first")]
    pub status: Status,
    /// Upstream availability.
    #[serde(default, skip_serializing_if = "is_first")]
    pub availability: Availability,
    /// Our own support.
    #[serde(default, skip_serializing_if = "is_first")]
    pub support: Support,
    /// Audience.
    #[serde(default, skip_serializing_if = "is_first")]
    pub channel: Channel,
    /// Routing state.
    #[serde(default, skip_serializing_if = "is_first")]
    pub routing: Routing,
}

impl Channel {
    /// Whether it is the one that everybody sees.
    pub fn is_stable(&self) -> bool {
        *self == Channel::Stable
    }
}

impl Standing {
    /// Whether nothing unusual is stated.
    pub fn is_usual(&self) -> bool {
        *self == Standing::default()
    }
}

/// Whether the end of an offer, `2026-11-30`, has come; of `2026-11` or `2026` the last day is still served, since nobody
/// said which one it is.
pub fn has_ended(date: &str, now: Millis) -> bool {
    let end = match date.split('-').collect::<Vec<_>>().as_slice() {
        [year] => year.parse::<u32>().ok().map(|year| format!("{:04}-01-01", year.saturating_add(1))),
        [year, "12"] => year.parse::<u32>().ok().map(|year| format!("{:04}-01-01", year.saturating_add(1))),
        [year, month] => month.parse::<u32>().ok().map(|month| format!("{year}-{:02}-01", month.saturating_add(1))),
        _ => Some(date.to_owned()),
    };
    end.and_then(|end| Millis::from_rfc3339(&format!("{end}T00:00:00Z"))).is_some_and(|end| now >= end)
}

fn is_first<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_end_counts_from_its_last_day() {
        let ended = |date: &str, now: &str| has_ended(date, Millis::from_rfc3339(&format!("{now}T00:00:00Z")).unwrap());
        for (date, last, first) in [
            ("2026-11-30", "2026-11-29", "2026-11-30"),
            ("2026-11", "2026-11-30", "2026-12-01"),
            ("2026-12", "2026-12-31", "2027-01-01"),
            ("2026", "2026-12-31", "2027-01-01"),
        ] {
            assert!(!ended(date, last) && ended(date, first), "{date}");
        }
        assert!(!ended("soon", "2026-11-25"));
    }

    #[test]
    fn names_are_those_of_json_and_the_usual_standing_is_not_written() {
        let json = |value: serde_json::Value| value.as_str().map(str::to_owned);
        assert_eq!(json(serde_json::to_value(Status::Deprecated).unwrap()).as_deref(), Some(Status::Deprecated.name()));
        assert_eq!(json(serde_json::to_value(Routing::Last).unwrap()).as_deref(), Some(Routing::Last.name()));
        assert_eq!(serde_json::to_string(&Standing::default()).unwrap(), "{}");
        let stated = Standing { channel: Channel::Beta, availability: Availability::Limited, ..Standing::default() };
        let text = serde_json::to_string(&stated).unwrap();
        assert_eq!(text, r#"{"availability":"limited","channel":"beta"}"#);
        assert_eq!(serde_json::from_str::<Standing>(&text).unwrap(), stated);
        assert!(Channel::Stable < Channel::Beta && Channel::Beta < Channel::Alpha);
    }
}
