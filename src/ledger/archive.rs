//! Where entries go when the journal is compacted: pages of many, each one row of D1.
//!
//! A page is `[[seq, entry], …]`, oldest first, of whole journal rows; it goes by the first of their numbers. Storing a page
//! again replaces it, so a crash between storing it and taking its rows out of the journal does no harm.

use serde::{Deserialize, Serialize};

use crate::ledger::entry::Entry;

/// Journal rows that make a page worth its row.
pub const PAGE_ROWS_MIN: usize = 200;
/// Entries after which a page is full.
const PAGE_ENTRIES_MAX: usize = 2_000;

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The number of its first journal row.
    pub first: u64,
    /// That of its last one.
    pub last: u64,
    /// Entries with the number of their row, oldest first.
    pub entries: Vec<Numbered>,
}

/// An entry and the number of its journal row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered(pub u64, pub Entry);

/// The page to be made of the oldest journal rows, where there are enough of them. Rows follow one another.
pub fn page(rows: impl Iterator<Item = (u64, Vec<Entry>)>) -> Option<Page> {
    let mut page: Option<Page> = None;
    let mut count = 0usize;
    for (seq, entries) in rows {
        let page = page.get_or_insert(Page { first: seq, last: seq, entries: Vec::new() });
        if !page.entries.is_empty() && page.entries.len().saturating_add(entries.len()) > PAGE_ENTRIES_MAX {
            return Some(page.clone());
        }
        page.last = seq;
        page.entries.extend(entries.into_iter().map(|entry| Numbered(seq, entry)));
        count = count.saturating_add(1);
    }
    page.filter(|_| count >= PAGE_ROWS_MIN)
}

/// The entries of whole journal rows before a number, newest first, until there are `wanted`; and the number to go on
/// from, where the list is not at its end.
pub fn newest(entries: Vec<Numbered>, before: Option<u64>, wanted: usize) -> (Vec<Entry>, Option<u64>) {
    let mut found = Vec::new();
    let mut at = None;
    let mut rest = entries.into_iter().rev().filter(|Numbered(seq, _)| before.is_none_or(|before| *seq < before));
    for Numbered(seq, entry) in rest.by_ref() {
        if found.len() >= wanted && at != Some(seq) {
            return (found, at);
        }
        at = Some(seq);
        found.push(entry);
    }
    (found, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::entry::EntryKind;
    use crate::money::Nanos;
    use crate::time::Millis;

    fn entry(n: u64) -> Entry {
        Entry {
            id: format!("gen_{n}"),
            kind: EntryKind::Charge,
            nanos: Nanos(-1),
            balance: Nanos(0),
            at: Millis(n),
            lost: Nanos::ZERO,
            reason: None,
            request: None,
        }
    }

    #[test]
    fn a_page_is_made_of_whole_rows_when_there_are_enough() {
        let rows = |count: u64, each: u64| (1..=count).map(move |seq| (seq, (0..each).map(entry).collect()));
        assert_eq!(page(rows(199, 1)), None);
        assert_eq!(page(rows(0, 0)), None);
        let whole = page(rows(200, 2)).unwrap();
        assert_eq!((whole.first, whole.last, whole.entries.len()), (1, 200, 400));
        let full = page(rows(50, 150)).unwrap();
        assert_eq!((full.first, full.last, full.entries.len()), (1, 13, 1_950));
        let large = page(rows(2, 5_000)).unwrap();
        assert_eq!((large.last, large.entries.len()), (1, 5_000), "one row is never cut");
        let empty = page(rows(300, 0)).unwrap();
        assert_eq!((empty.last, empty.entries.len()), (300, 0));
    }

    #[test]
    fn pages_are_read_backwards_and_every_entry_is_seen_once() {
        let all: Vec<Numbered> =
            (1..=30u64).flat_map(|seq| (0..seq % 4).map(move |n| Numbered(seq, entry(seq * 10 + n)))).collect();
        for wanted in 1..12 {
            let (mut seen, mut before) = (Vec::new(), None);
            loop {
                let (entries, next) = newest(all.clone(), before, wanted);
                assert!(entries.len() >= wanted || next.is_none());
                seen.extend(entries);
                before = next;
                if before.is_none() {
                    break;
                }
            }
            let expected: Vec<Entry> = all.iter().rev().map(|Numbered(_, entry)| entry.clone()).collect();
            assert_eq!(seen, expected, "{wanted}");
        }
    }

    #[test]
    fn page_format_is_unchanged() {
        let text = serde_json::to_string(&[Numbered(7, entry(1))]).unwrap();
        assert_eq!(text, r#"[[7,{"id":"gen_1","kind":"charge","nanos":-1,"balance":0,"at":1}]]"#);
        assert_eq!(serde_json::from_str::<Vec<Numbered>>(&text).unwrap(), [Numbered(7, entry(1))]);
    }
}
