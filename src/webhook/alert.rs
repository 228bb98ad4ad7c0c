//! When a balance or a budget is worth telling of. Pure: what was told before comes in, what is told now goes out with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::limits::budget::{Budgets, Period, Spend};
use crate::money::Nanos;
use crate::time::Millis;

/// Percentages where the settings name none.
const PERCENTS: [u8; 3] = [50, 80, 100];
/// Most percentages.
const PERCENTS_MAX: usize = 10;

/// What of a workspace is told, and from where on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// A balance at or below it is low; `None`: none is.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "dollars", deserialize_with = "amount")]
    pub balance_low: Option<Nanos>,
    /// Parts of a budget that are told when they are spent, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "percents")]
    pub budget_percents: Option<Vec<u8>>,
}

fn dollars<S: Serializer>(nanos: &Option<Nanos>, serializer: S) -> Result<S::Ok, S::Error> {
    nanos.map(Nanos::to_dollars).serialize(serializer)
}

fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Nanos>, D::Error> {
    let text = match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(other) => crate::money::plain(&other.to_string()).into_owned(),
    };
    let nanos = Nanos::from_dollars(&text).map_err(serde::de::Error::custom)?;
    if nanos < Nanos::ZERO { Err(serde::de::Error::custom("may not be negative")) } else { Ok(Some(nanos)) }
}

fn percents<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let list = Option::<Vec<u8>>::deserialize(deserializer)?;
    let is_wrong =
        |list: &Vec<u8>| list.len() > PERCENTS_MAX || list.iter().any(|percent| !(1..=100).contains(percent));
    match list {
        Some(list) if is_wrong(&list) => {
            Err(serde::de::Error::custom(format!("must be at most {PERCENTS_MAX} numbers between 1 and 100")))
        }
        other => Ok(other),
    }
}

impl Alerts {
    /// Whether nothing is set; for what is not written.
    pub fn is_default(&self) -> bool {
        *self == Alerts::default()
    }

    /// The percentages that are told.
    pub fn percents(&self) -> &[u8] {
        self.budget_percents.as_deref().unwrap_or(&PERCENTS)
    }
}

/// The last mark that a budget reached: in which period, of how much, at how many percent.
type Mark = (u64, Nanos, u8);

/// What was told of one key, or of the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Told {
    /// The balance is known to be low.
    #[serde(default)]
    pub is_low: bool,
    /// By period.
    #[serde(default)]
    pub marks: BTreeMap<String, Mark>,
}

/// A budget has reached a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Of which period.
    pub period: Period,
    /// Which of them: a number that tells one day from the next.
    pub number: u64,
    /// How many percent.
    pub percent: u8,
    /// The budget.
    pub budget: Nanos,
    /// What is spent of it.
    pub spent: Nanos,
}

impl Told {
    /// Whether a balance has just become low.
    pub fn balance(&mut self, alerts: &Alerts, balance: Nanos) -> bool {
        let is_low = alerts.balance_low.is_some_and(|threshold| balance <= threshold);
        let is_news = is_low && !self.is_low;
        self.is_low = is_low;
        is_news
    }

    /// Marks that budgets have reached since they were looked at last; of several in one budget the highest. A budget
    /// that does not cover a request that needs `needed` is used up, whatever is left of it.
    pub fn budgets(
        &mut self,
        budgets: &Budgets,
        spend: &Spend,
        held: Nanos,
        needed: Nanos,
        percents: &[u8],
        now: Millis,
    ) -> Vec<Reached> {
        let mut news = Vec::new();
        for period in Period::ALL {
            let Some(budget) = budgets.of(period) else { continue };
            let (spent, number) = (spend.in_period(period, now), period.number(now));
            let left = budget.0.saturating_sub(spent.0).saturating_sub(held.0);
            let is_full = needed > Nanos::ZERO && left < needed.0;
            let is_at = |percent: u8| {
                i128::from(spent.0) * 100 >= i128::from(budget.0) * i128::from(percent) && spent > Nanos::ZERO
            };
            let reached =
                percents.iter().copied().filter(|percent| is_at(*percent) || (is_full && *percent == 100)).max();
            let Some(percent) = reached else { continue };
            let before = self.marks.get(period.name()).filter(|mark| (mark.0, mark.1) == (number, budget));
            if before.is_some_and(|mark| mark.2 >= percent) {
                continue;
            }
            self.marks.insert(period.name().to_owned(), (number, budget, percent));
            news.push(Reached { period, number, percent, budget, spent });
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_795_570_634_000);
    const TOMORROW: Millis = Millis(1_795_570_634_000 + 86_400_000);

    fn reached(told: &mut Told, budget: i64, spent: i64, needed: i64, now: Millis) -> Vec<(&'static str, u8)> {
        let budgets = Budgets { day: Some(Nanos(budget)), ..Budgets::default() };
        let mut spend = Spend::default();
        spend.add(Nanos(spent), now);
        let news = told.budgets(&budgets, &spend, Nanos(0), Nanos(needed), Alerts::default().percents(), now);
        news.iter().map(|one| (one.period.name(), one.percent)).collect()
    }

    #[test]
    fn each_mark_of_a_budget_is_told_once_in_a_period() {
        let mut told = Told::default();
        assert!(reached(&mut told, 100, 49, 0, NOW).is_empty());
        assert_eq!(reached(&mut told, 100, 50, 0, NOW), [("day", 50)]);
        assert!(reached(&mut told, 100, 79, 0, NOW).is_empty());
        assert_eq!(reached(&mut told, 100, 81, 0, NOW), [("day", 80)]);
        assert!(reached(&mut told, 100, 90, 10, NOW).is_empty(), "ten are left, ten are needed");
        assert_eq!(reached(&mut told, 100, 90, 11, NOW), [("day", 100)]);
        assert!(reached(&mut told, 100, 90, 11, NOW).is_empty() && reached(&mut told, 100, 95, 0, NOW).is_empty());
        assert_eq!(reached(&mut told, 200, 110, 0, NOW), [("day", 50)], "another budget");
        assert_eq!(reached(&mut told, 200, 170, 0, TOMORROW), [("day", 80)], "another day");
    }

    #[test]
    fn nothing_spent_is_no_part_of_a_budget() {
        assert!(reached(&mut Told::default(), 0, 0, 0, NOW).is_empty());
        assert_eq!(reached(&mut Told::default(), 0, 0, 1, NOW), [("day", 100)]);
    }

    #[test]
    fn a_balance_is_low_once_until_it_was_not() {
        let alerts = Alerts { balance_low: Some(Nanos(10)), ..Alerts::default() };
        let mut told = Told::default();
        let mut is_news = |balance| told.balance(&alerts, Nanos(balance));
        assert!(!is_news(11) && is_news(10) && !is_news(9) && !is_news(0) && !is_news(12) && is_news(3));
        assert!(!Told::default().balance(&Alerts::default(), Nanos(0)), "nobody asked");
    }

    #[test]
    fn settings_are_in_dollars_and_name_what_is_wrong() {
        let text = r#"{"balance_low":"2.5","budget_percents":[10,100]}"#;
        let alerts: Alerts = serde_json::from_str(text).unwrap();
        assert_eq!(alerts.balance_low, Some(Nanos(2_500_000_000)));
        assert_eq!(serde_json::to_string(&alerts).unwrap(), text);
        for wrong in [r#"{"balance_low":"-1"}"#, r#"{"balance_low":"x"}"#, r#"{"budget_percents":[101]}"#, r#"{"a":1}"#]
        {
            assert!(serde_json::from_str::<Alerts>(wrong).is_err(), "{wrong}");
        }
    }
}
