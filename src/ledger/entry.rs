//! Entries of the ledger, and their sums. The ledger is append-only: what was wrong is put right by a further entry.
#![deny(clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};

use crate::money::Nanos;
use crate::time::Millis;

/// A kind of ledger entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Credits added or taken back.
    Grant,
    /// The operator puts something right.
    Adjustment,
    /// A request's charge.
    Charge,
    /// The fee of a request that an own credential paid.
    Fee,
    /// A charge that came after the hold had expired, or that the balance did not cover: borne by the gateway.
    Loss,
}

impl EntryKind {
    /// Whether an activity row goes with it.
    pub const fn has_row(self) -> bool {
        matches!(self, EntryKind::Charge | EntryKind::Fee)
    }
}

/// One ledger entry. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The request's id, or the entry's own.
    pub id: String,
    /// What it is.
    pub kind: EntryKind,
    /// Change of the balance.
    pub nanos: Nanos,
    /// The balance after it.
    pub balance: Nanos,
    /// When.
    pub at: Millis,
    /// What the gateway bears.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: Nanos,
    /// Why, for a grant or an adjustment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The request that an adjustment is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

fn is_zero(nanos: &Nanos) -> bool {
    *nanos == Nanos::ZERO
}

/// The sums of all entries there ever were, also of those that the journal no longer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Credits added, less those taken back.
    pub granted: Nanos,
    /// Put right by the operator, up or down.
    pub adjusted: Nanos,
    /// Charged for requests.
    pub charged: Nanos,
    /// Fees of requests that own credentials paid.
    pub fees: Nanos,
    /// Borne by the gateway.
    pub lost: Nanos,
    /// Entries.
    pub entries: u64,
}

impl Totals {
    /// With one more entry.
    #[must_use]
    pub fn with(self, entry: &Entry) -> Totals {
        let plus = |sum: Nanos, nanos: Nanos| Nanos(sum.0.saturating_add(nanos.0));
        let minus = |sum: Nanos, nanos: Nanos| Nanos(sum.0.saturating_sub(nanos.0));
        let mut sums = Totals { lost: plus(self.lost, entry.lost), entries: self.entries.saturating_add(1), ..self };
        match entry.kind {
            EntryKind::Grant => sums.granted = plus(self.granted, entry.nanos),
            EntryKind::Adjustment => sums.adjusted = plus(self.adjusted, entry.nanos),
            EntryKind::Charge => sums.charged = minus(self.charged, entry.nanos),
            EntryKind::Fee => sums.fees = minus(self.fees, entry.nanos),
            EntryKind::Loss => {}
        }
        sums
    }

    /// What requests were charged, fees included.
    pub fn settled(&self) -> Nanos {
        Nanos(self.charged.0.saturating_add(self.fees.0))
    }

    /// The balance that follows from them.
    pub fn balance(&self) -> Nanos {
        Nanos(self.granted.0.saturating_add(self.adjusted.0).saturating_sub(self.settled().0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_give_the_balance() {
        let entry = |kind, nanos, lost| Entry {
            id: "x".to_owned(),
            kind,
            nanos: Nanos(nanos),
            balance: Nanos(0),
            at: Millis(1),
            lost: Nanos(lost),
            reason: None,
            request: None,
        };
        let entries = [
            entry(EntryKind::Grant, 100, 0),
            entry(EntryKind::Grant, -10, 0),
            entry(EntryKind::Charge, -30, 0),
            entry(EntryKind::Fee, -2, 0),
            entry(EntryKind::Loss, 0, 7),
            entry(EntryKind::Adjustment, 5, 0),
        ];
        let totals = entries.iter().fold(Totals::default(), Totals::with);
        assert_eq!(
            (totals.granted, totals.adjusted, totals.charged, totals.fees),
            (Nanos(90), Nanos(5), Nanos(30), Nanos(2))
        );
        assert_eq!(
            (totals.lost, totals.entries, totals.settled(), totals.balance()),
            (Nanos(7), 6, Nanos(32), Nanos(63))
        );
        assert_eq!(totals.balance().0, entries.iter().map(|entry| entry.nanos.0).sum::<i64>());
    }

    #[test]
    fn entry_json_format_is_unchanged() {
        let json = r#"{"id":"le_1","kind":"adjustment","nanos":5,"balance":6,"at":7,"reason":"r","request":"gen_1"}"#;
        let entry: Entry = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&entry).unwrap(), json);
        let before: Entry =
            serde_json::from_str(r#"{"id":"gen_1","kind":"charge","nanos":-5,"balance":6,"at":7}"#).unwrap();
        assert_eq!((before.lost, before.reason, before.request), (Nanos::ZERO, None, None));
    }
}
