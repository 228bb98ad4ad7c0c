//! Counts of what this isolate did.

use std::cell::Cell;

use crate::serve::ports::Counters;

thread_local! {
    static COUNTERS: Cell<Counters> = Cell::new(Counters::default());
}

/// The counts so far.
pub fn read() -> Counters {
    COUNTERS.with(Cell::get)
}

/// Changes the counts.
pub fn count(change: impl Fn(&mut Counters)) {
    COUNTERS.with(|cell| {
        let mut counters = cell.get();
        change(&mut counters);
        cell.set(counters);
    });
}
