//! Whether ledger, activity and balance say the same, and where they do not.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::HashMap;

use serde::Serialize;

use crate::ledger::entry::{Entry, Totals};
use crate::money::Nanos;
use crate::time::Millis;

/// Differences that are listed; all are counted.
pub const DIFFERENCES_MAX: usize = 1_000;

/// What does not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A charge whose activity row is nowhere.
    NoRow,
    /// An activity row that was never charged.
    NoEntry,
    /// Row and charge name different amounts.
    Amount,
    /// One request is charged more than once.
    ChargedTwice,
    /// The running balance does not follow from the entry before.
    RunningBalance,
    /// The newest entry's balance is not the account's.
    Balance,
    /// The sums that are kept give another balance.
    Totals,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The request, or the entry; none where it is about the whole.
    pub id: Option<String>,
    /// What it is.
    pub what: What,
    /// What the ledger says.
    pub ledger_nanos: Option<Nanos>,
    /// What the other side says.
    pub other_nanos: Option<Nanos>,
}

/// What was compared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Entries looked at.
    pub entries: u64,
    /// Activity rows looked at.
    pub rows: u64,
    /// The sum of the entries.
    pub ledger_nanos: Nanos,
    /// What the rows say was charged.
    pub activity_nanos: Nanos,
    /// Charges older than the oldest row that is kept: their rows were swept.
    pub swept: u64,
    /// All differences.
    pub count: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// One side of the comparison and the other.
#[derive(Debug, Clone, Copy)]
pub struct Books<'a> {
    /// Entries, newest first.
    pub entries: &'a [Entry],
    /// Whether these are all there ever were.
    pub is_whole: bool,
    /// The account.
    pub balance: Nanos,
    /// The sums that are kept.
    pub totals: Totals,
    /// What each activity row says was charged, by request.
    pub rows: &'a HashMap<String, Nanos>,
    /// When the request of the oldest activity row came; rows before were swept.
    pub oldest_row: Option<Millis>,
    /// When the oldest request came that must have an entry among these.
    pub since: Millis,
}

/// Compares. `created` says when a request came, by its id.
pub fn compare(books: &Books<'_>, created: impl Fn(&str) -> Option<Millis>) -> Report {
    let mut report = Report { rows: u64::try_from(books.rows.len()).unwrap_or(u64::MAX), ..Report::default() };
    let mut differ = |id: Option<&str>, what: What, ledger: Option<Nanos>, other: Option<Nanos>| {
        report.count = report.count.saturating_add(1);
        if report.differences.len() < DIFFERENCES_MAX {
            let id = id.map(str::to_owned);
            report.differences.push(Difference { id, what, ledger_nanos: ledger, other_nanos: other });
        }
    };
    let plus = |sum: Nanos, nanos: Nanos| Nanos(sum.0.saturating_add(nanos.0));
    let newest = books.entries.first().map_or(Nanos::ZERO, |entry| entry.balance);
    if newest != books.balance {
        differ(None, What::Balance, Some(newest), Some(books.balance));
    }
    if books.totals.balance() != books.balance {
        differ(None, What::Totals, Some(books.totals.balance()), Some(books.balance));
    }
    let mut charges: HashMap<&str, Nanos> = HashMap::new();
    let (mut sum, mut swept) = (Nanos::ZERO, 0u64);
    for (at, entry) in books.entries.iter().enumerate() {
        sum = plus(sum, entry.nanos);
        let before = books.entries.get(at.saturating_add(1)).map(|entry| entry.balance);
        if let Some(before) = before.or(books.is_whole.then_some(Nanos::ZERO))
            && plus(before, entry.nanos) != entry.balance
        {
            differ(Some(&entry.id), What::RunningBalance, Some(entry.balance), Some(plus(before, entry.nanos)));
        }
        if !entry.kind.has_row() {
            continue;
        }
        let charged = Nanos(entry.nanos.0.saturating_neg());
        if let Some(other) = charges.insert(&entry.id, charged) {
            differ(Some(&entry.id), What::ChargedTwice, Some(plus(charged, other)), Some(charged));
        }
        match books.rows.get(&entry.id) {
            Some(row) if *row == charged => {}
            Some(row) => differ(Some(&entry.id), What::Amount, Some(charged), Some(*row)),
            None if created(&entry.id).is_some_and(|at| books.oldest_row.is_some_and(|oldest| at < oldest)) => {
                swept = swept.saturating_add(1);
            }
            None => differ(Some(&entry.id), What::NoRow, Some(charged), None),
        }
    }
    let mut lonely: Vec<(&String, &Nanos)> = books
        .rows
        .iter()
        .filter(|(id, _)| !charges.contains_key(id.as_str()) && created(id).is_none_or(|at| at >= books.since))
        .collect();
    lonely.sort();
    for (id, row) in lonely {
        differ(Some(id), What::NoEntry, None, Some(*row));
    }
    let activity = books.rows.values().fold(Nanos::ZERO, |sum, row| plus(sum, *row));
    Report {
        entries: u64::try_from(books.entries.len()).unwrap_or(u64::MAX),
        ledger_nanos: sum,
        activity_nanos: activity,
        swept,
        ..report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::entry::EntryKind;

    fn books(entries: &[(&str, EntryKind, i64, i64)]) -> Vec<Entry> {
        let entry = |(id, kind, nanos, balance): &(&str, EntryKind, i64, i64)| Entry {
            id: (*id).to_owned(),
            kind: *kind,
            nanos: Nanos(*nanos),
            balance: Nanos(*balance),
            at: Millis(9),
            lost: Nanos::ZERO,
            reason: None,
            request: None,
        };
        entries.iter().rev().map(entry).collect()
    }

    /// `gen_7` came at 7.
    fn created(id: &str) -> Option<Millis> {
        id.strip_prefix("gen_")?.parse().ok().map(Millis)
    }

    fn check(
        entries: &[(&str, EntryKind, i64, i64)],
        rows: &[(&str, i64)],
        balance: i64,
        oldest: u64,
    ) -> Vec<(Option<String>, What)> {
        let entries = books(entries);
        let rows: HashMap<String, Nanos> = rows.iter().map(|(id, nanos)| ((*id).to_owned(), Nanos(*nanos))).collect();
        let totals = entries.iter().fold(Totals::default(), Totals::with);
        let books = Books {
            entries: &entries,
            is_whole: true,
            balance: Nanos(balance),
            totals,
            rows: &rows,
            oldest_row: Some(Millis(oldest)),
            since: Millis(0),
        };
        let report = compare(&books, created);
        assert_eq!(report.count, u64::try_from(report.differences.len()).unwrap());
        report.differences.into_iter().map(|one| (one.id, one.what)).collect()
    }

    #[test]
    fn each_difference_is_named_by_its_request() {
        use EntryKind::*;
        let good =
            [("le_1", Grant, 100, 100), ("gen_5", Charge, -30, 70), ("gen_6", Fee, -1, 69), ("gen_7", Loss, 0, 69)];
        let rows = [("gen_5", 30), ("gen_6", 1)];
        let id = |text: &str| Some(text.to_owned());
        assert_eq!(check(&good, &rows, 69, 5), []);
        assert_eq!(check(&good, &rows[..1], 69, 5), [(id("gen_6"), What::NoRow)]);
        assert_eq!(check(&good, &rows[1..], 69, 6), [], "its row was swept");
        assert_eq!(check(&good, &[("gen_5", 29), ("gen_6", 1)], 69, 5), [(id("gen_5"), What::Amount)]);
        assert_eq!(check(&good, &[("gen_5", 30), ("gen_6", 1), ("gen_8", 0)], 69, 5), [(id("gen_8"), What::NoEntry)]);
        assert_eq!(check(&good, &rows, 68, 5), [(None, What::Balance), (None, What::Totals)]);
        let twice = [good[0], good[1], ("gen_5", Charge, -30, 40)];
        assert_eq!(check(&twice, &rows[..1], 40, 5), [(id("gen_5"), What::ChargedTwice)]);
        let jump = [good[0], ("gen_5", Charge, -30, 71)];
        let expected = [(None, What::Totals), (id("gen_5"), What::RunningBalance)];
        assert_eq!(check(&jump, &rows[..1], 71, 5), expected);
    }
}
