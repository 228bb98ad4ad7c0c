//! What a workspace tells of itself: a low balance, budgets that are used up, revoked keys.
//!
//! An event is stored in the same turn as what it tells of, with the mark that keeps it from being told again, and leaves
//! the object with the next flush.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Effect, FLUSH_MS, Policy, Workspace, put};
use crate::id::KeyId;
use crate::limits::budget::Budgets;
use crate::money::Nanos;
use crate::time::Millis;
use crate::webhook::alert::{Alerts, Reached, Told};
use crate::webhook::event::{Event, Kind};

impl Workspace {
    pub(super) fn set_alerts(&mut self, alerts: Alerts, now: Millis, effects: &mut Vec<Effect>) {
        effects.push(put("alerts", &alerts));
        self.alerts = alerts;
        self.watch_balance(now, effects);
    }

    pub(super) fn load_told(&mut self, name: &str, value: &str) {
        if name == "alerts" {
            self.alerts = crate::json::from_str(value).unwrap_or_default();
        } else if name == "told" {
            self.told_own = crate::json::from_str(value).unwrap_or_default();
        } else if let Some(key) = name.strip_prefix("told/").and_then(KeyId::parse) {
            self.told.insert(key, crate::json::from_str(value).unwrap_or_default());
        }
    }

    /// Looks at the balance: after everything that changes it.
    pub(super) fn watch_balance(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        let (before, balance) = (self.told_own.is_low, self.account.balance());
        let is_news = self.told_own.balance(&self.alerts, balance);
        if self.told_own.is_low != before {
            effects.push(put("told", &self.told_own));
        }
        let Some(threshold) = self.alerts.balance_low.filter(|_| is_news) else { return };
        let data = json!({
            "workspace": self.id(), "balance": balance.to_dollars(), "balance_nanos": balance, "threshold": threshold.to_dollars(),
        });
        self.tell(Kind::BalanceLow, &[&self.seq.to_string()], data, now, effects);
    }

    /// Looks at the budgets of these keys and of the workspace: after a settlement, and where a request that needs
    /// `needed` was refused.
    pub(super) fn watch_budgets(
        &mut self,
        keys: BTreeSet<KeyId>,
        needed: Nanos,
        now: Millis,
        effects: &mut Vec<Effect>,
    ) {
        for key in keys {
            let budgets = self.keys.get(&key).map_or(Budgets::default(), |policy| policy.budgets);
            let spending = self.spends.get(&key).copied().unwrap_or_default();
            let told = self.told.entry(key.clone()).or_default();
            let news = told.budgets(&budgets, &spending.spend, spending.held, needed, self.alerts.percents(), now);
            self.tell_budgets(Some(&key), &news, now, effects);
        }
        let budgets = self.settings.as_ref().map_or(Budgets::default(), |settings| settings.budgets);
        let (spend, held) = (self.spend.spend, self.spend.held);
        let news = self.told_own.budgets(&budgets, &spend, held, needed, self.alerts.percents(), now);
        self.tell_budgets(None, &news, now, effects);
    }

    fn tell_budgets(&mut self, key: Option<&KeyId>, news: &[Reached], now: Millis, effects: &mut Vec<Effect>) {
        if news.is_empty() {
            return;
        }
        effects.push(match key {
            Some(key) => put(&format!("told/{key}"), self.told.get(key).unwrap_or(&Told::default())),
            None => put("told", &self.told_own),
        });
        for one in news {
            let data = json!({
                "workspace": self.id(), "key": key, "period": one.period.name(), "percent": one.percent,
                "budget": one.budget.to_dollars(), "spent": one.spent.to_dollars(),
            });
            let of = key.map_or("", KeyId::as_str);
            let (number, budget, percent) = (one.number.to_string(), one.budget.0.to_string(), one.percent.to_string());
            self.tell(Kind::BudgetReached, &[of, one.period.name(), &number, &budget, &percent], data, now, effects);
        }
    }

    /// Before a key's record is replaced by `policy`.
    pub(super) fn watch_key(&mut self, policy: &Policy, now: Millis, effects: &mut Vec<Effect>) {
        let was_revoked = self.keys.get(&policy.key).is_some_and(|known| known.revoked);
        if policy.revoked && !was_revoked {
            let data = json!({"workspace": self.id(), "key": policy.key, "name": policy.name, "hint": policy.hint});
            self.tell(Kind::KeyRevoked, &[policy.key.as_str()], data, now, effects);
        }
    }

    fn tell(&mut self, kind: Kind, subject: &[&str], data: serde_json::Value, now: Millis, effects: &mut Vec<Effect>) {
        let workspace = self.id().map(|id| id.as_str().to_owned()).unwrap_or_default();
        let subject: Vec<&str> = std::iter::once(workspace.as_str()).chain(subject.iter().copied()).collect();
        effects.push(Effect::Tell(Box::new(Event::new(kind, &subject, now, data))));
        self.wake_at(now.plus(FLUSH_MS), effects);
    }

    /// An alarm, once more: what was to be told has not been taken.
    pub fn call_again(&mut self, now: Millis) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.wake_at(now.plus(FLUSH_MS), &mut effects);
        effects
    }
}
