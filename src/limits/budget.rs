//! Budgets in money, per day, week, month and in total. Periods are those of UTC; a week begins on Monday.
//!
//! What is held counts like what is spent, so requests that run side by side cannot pass a budget together.

use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};

use crate::money::Nanos;
use crate::time::Millis;

const DAY_MS: u64 = 24 * 3600 * 1000;
/// What a client is told to wait where no new period will help, in milliseconds.
const NO_PERIOD_WAIT_MS: u64 = DAY_MS;

/// Most to spend; `None` is no budget of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// In a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<Nanos>,
    /// In a week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub week: Option<Nanos>,
    /// In a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<Nanos>,
    /// Ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Nanos>,
}

/// A kind of budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// A UTC day.
    Day,
    /// From Monday.
    Week,
    /// A calendar month.
    Month,
    /// All time.
    Total,
}

impl Period {
    /// All of them, shortest first.
    pub const ALL: [Period; 4] = [Period::Day, Period::Week, Period::Month, Period::Total];

    /// The name in budgets.
    pub const fn name(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
            Period::Total => "total",
        }
    }

    /// The number of the period that `now` is in.
    pub fn number(self, now: Millis) -> u64 {
        let days = now.0 / DAY_MS;
        match self {
            Period::Day => days,
            // The epoch was a Thursday: three days after a Monday.
            Period::Week => days.saturating_add(3) / 7,
            Period::Month => month(now),
            Period::Total => 0,
        }
    }

    /// When the next one begins.
    pub fn next(self, now: Millis) -> Option<Millis> {
        let number = self.number(now).saturating_add(1);
        match self {
            Period::Day => Some(Millis(number.saturating_mul(DAY_MS))),
            Period::Week => Some(Millis(number.saturating_mul(7).saturating_sub(3).saturating_mul(DAY_MS))),
            Period::Month => {
                let (year, month) = (i32::try_from(number / 12).ok()?, u32::try_from(number % 12).ok()?);
                let first = chrono::NaiveDate::from_ymd_opt(year, month.checked_add(1)?, 1)?.and_hms_opt(0, 0, 0)?;
                u64::try_from(first.and_utc().timestamp_millis()).ok().map(Millis)
            }
            Period::Total => None,
        }
    }
}

fn month(now: Millis) -> u64 {
    let moment = i64::try_from(now.0).ok().and_then(DateTime::<Utc>::from_timestamp_millis);
    moment.map_or(0, |moment| {
        let year = u64::try_from(moment.year()).unwrap_or(0);
        year.saturating_mul(12).saturating_add(u64::from(moment.month0()))
    })
}

impl Budgets {
    /// The budget of a kind.
    pub fn of(&self, period: Period) -> Option<Nanos> {
        match period {
            Period::Day => self.day,
            Period::Week => self.week,
            Period::Month => self.month,
            Period::Total => self.total,
        }
    }

    /// Whether there is any.
    pub fn is_any(&self) -> bool {
        *self != Budgets::default()
    }

    /// Whether there is none; for what is not written.
    pub fn is_none(&self) -> bool {
        !self.is_any()
    }

    /// What may still be held where `spend` is spent and `held` held, and the budget that says so; `None`: no budget does.
    pub fn left(&self, spend: &Spend, held: Nanos, now: Millis) -> Option<(Nanos, Period)> {
        Period::ALL
            .into_iter()
            .filter_map(|period| {
                let used = spend.in_period(period, now).0.saturating_add(held.0);
                Some((Nanos(self.of(period)?.0.saturating_sub(used).max(0)), period))
            })
            .min_by_key(|(left, _)| *left)
    }
}

/// How long to wait for a budget, in milliseconds.
pub fn wait_ms(period: Period, now: Millis) -> u64 {
    period.next(now).map_or(NO_PERIOD_WAIT_MS, |next| next.since(now))
}

/// What was spent, in the periods of the last charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spend {
    /// When the last charge was.
    #[serde(default)]
    pub at: Millis,
    /// In that day.
    #[serde(default)]
    pub day: Nanos,
    /// In that week.
    #[serde(default)]
    pub week: Nanos,
    /// In that month.
    #[serde(default)]
    pub month: Nanos,
    /// Ever.
    #[serde(default)]
    pub total: Nanos,
    /// Requests that ended, charged or not.
    #[serde(default)]
    pub requests: u64,
}

impl Spend {
    /// Adds a request that was charged `nanos` at `now`.
    pub fn add(&mut self, nanos: Nanos, now: Millis) {
        let plus = |spent: Nanos| Nanos(spent.0.saturating_add(nanos.0.max(0)));
        let [day, week, month, total] = Period::ALL.map(|period| plus(self.in_period(period, now)));
        *self = Spend { at: now.max(self.at), day, week, month, total, requests: self.requests.saturating_add(1) };
    }

    /// What was spent in the period that `now` is in.
    pub fn in_period(&self, period: Period, now: Millis) -> Nanos {
        if period.number(self.at) != period.number(now) {
            return Nanos::ZERO;
        }
        match period {
            Period::Day => self.day,
            Period::Week => self.week,
            Period::Month => self.month,
            Period::Total => self.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Millis {
        Millis::from_rfc3339(text).unwrap()
    }

    #[test]
    fn periods_are_those_of_utc_and_weeks_begin_on_monday() {
        let now = at("2026-11-25T13:00:00Z"); // a Wednesday
        for (period, next) in [
            (Period::Day, Some("2026-11-26T00:00:00Z")),
            (Period::Week, Some("2026-11-30T00:00:00Z")),
            (Period::Month, Some("2026-12-01T00:00:00Z")),
            (Period::Total, None),
        ] {
            assert_eq!(period.next(now), next.map(at), "{period:?}");
        }
        assert_eq!(Period::Month.next(at("2026-12-31T23:59:59Z")), Some(at("2027-01-01T00:00:00Z")));
        assert_eq!(Period::Week.next(at("2026-11-30T00:00:00Z")), Some(at("2026-12-07T00:00:00Z")));
        assert_eq!(wait_ms(Period::Day, at("2026-11-25T23:59:59Z")), 1000);
    }

    #[test]
    fn spending_starts_anew_with_each_period() {
        let mut spend = Spend::default();
        spend.add(Nanos(5), at("2026-11-25T13:00:00Z"));
        spend.add(Nanos(7), at("2026-11-26T13:00:00Z"));
        let of = |now: &str| Period::ALL.map(|period| spend.in_period(period, at(now)).0);
        assert_eq!(of("2026-11-26T23:00:00Z"), [7, 12, 12, 12]);
        assert_eq!(of("2026-11-27T00:00:00Z"), [0, 12, 12, 12]);
        assert_eq!(of("2026-11-30T00:00:00Z"), [0, 0, 12, 12]);
        assert_eq!(of("2026-12-01T00:00:00Z"), [0, 0, 0, 12]);
        assert_eq!(spend.requests, 2);
    }

    #[test]
    fn the_tightest_budget_counts_and_what_is_held_is_spent() {
        let now = at("2026-11-25T13:00:00Z");
        let mut spend = Spend::default();
        spend.add(Nanos(40), now);
        let budgets = Budgets { day: Some(Nanos(100)), total: Some(Nanos(70)), ..Budgets::default() };
        assert_eq!(budgets.left(&spend, Nanos(0), now), Some((Nanos(30), Period::Total)));
        assert_eq!(budgets.left(&spend, Nanos(50), now), Some((Nanos(0), Period::Total)));
        assert_eq!(Budgets::default().left(&spend, Nanos(50), now), None);
        assert_eq!(budgets.left(&Spend::default(), Nanos(10), now), Some((Nanos(60), Period::Total)));
    }
}
