//! Counts of what this isolate did.

use std::cell::Cell;

use crate::serve::ports::Counters;

thread_local! {
    static COUNTERS: Cell<Counters> = Cell::new(Counters::default());
}

/// The counts so far.
pub fn read() -> Counters {
    let pages = u64::try_from(core::arch::wasm32::memory_size::<0>()).unwrap_or(u64::MAX);
    Counters { wasm_bytes: pages.saturating_mul(65_536), ..COUNTERS.with(Cell::get) }
}

/// Changes the counts.
pub fn count(change: impl Fn(&mut Counters)) {
    COUNTERS.with(|cell| {
        let mut counters = cell.get();
        change(&mut counters);
        cell.set(counters);
    });
}
