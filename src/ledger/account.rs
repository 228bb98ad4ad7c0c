//! The account of one workspace: balance, holds, and the durable ceiling over them.
//!
//! Holds live in memory. What is durable is the balance and a *ceiling* on the sum of outstanding holds, raised in
//! coarse steps. After a crash the account opens with the ceiling as a *ghost*: credits that somebody may still settle
//! against, unavailable until those holds would have expired. So a crash can delay credits and never create them. Each
//! crash leaves a ghost of its own, which ends at its own time: several crashes delay what was held before each, and no
//! more.
//!
//! Invariants, asserted after every step in tests: balance ≥ 0; held + ghosts ≤ balance; held + ghosts ≤ ceiling once a
//! step's effects are durable. A settled or expired hold is final: a second word about it changes nothing.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::money::Nanos;
use crate::time::Millis;

/// How long a settlement is remembered at least, so that a second one is recognised, in milliseconds. It is also never
/// forgotten before its hold would have expired: after that, nothing is charged any more.
const SETTLED_MEMORY_MS: u64 = 10 * 60_000;

/// The same where holds last for `hold_ms`: so far back the journal is read when an account opens.
pub fn settled_memory_ms(hold_ms: u64) -> u64 {
    SETTLED_MEMORY_MS.max(hold_ms.saturating_add(SETTLED_MARGIN_MS))
}

/// Beyond the end of its hold, in milliseconds.
const SETTLED_MARGIN_MS: u64 = 10_000;
/// The ceiling never falls below this share of the balance: 1 / 16.
const CEILING_SHARE: i64 = 16;
/// Nor below this, in nano-dollars (25 cents), balance permitting.
const CEILING_LEAST: i64 = 250_000_000;

/// Credits set aside for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// How much.
    pub nanos: Nanos,
    /// When it becomes nobody's.
    pub expires: Millis,
}

/// Credits that holds from before one crash may still be settled against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ghost {
    /// How much.
    pub nanos: Nanos,
    /// When they have expired.
    pub until: Millis,
}

/// Ghosts kept apart; older ones become one.
const GHOSTS_MAX: usize = 8;

/// Credits set aside, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// This much is held. `raised` says that the ceiling was raised and must become durable before the answer leaves.
    Held {
        /// How much.
        nanos: Nanos,
        /// Whether the ceiling changed.
        raised: bool,
    },
    /// Not even the least is available.
    Short {
        /// What is.
        available: Nanos,
    },
}

/// What a settlement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The hold ended with this charge; what the balance could not cover is the gateway's loss.
    Charged {
        /// Taken from the balance.
        charged: Nanos,
        /// Not covered.
        lost: Nanos,
    },
    /// Settled before: nothing changes.
    Again,
    /// The hold had expired, or never was: the charge is the gateway's loss, in an entry of its own, once.
    Late {
        /// What it would have been.
        lost: Nanos,
    },
}

/// A word that was the last one about a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Settled,
    Expired,
}

/// The account.
#[derive(Debug)]
pub struct Account<Id> {
    balance: Nanos,
    held: Nanos,
    /// Over `held` alone; the durable one is over the ghosts too.
    ceiling: Nanos,
    /// The highest sum of holds since the last time the ceiling was set.
    peak: Nanos,
    holds: HashMap<Id, Hold>,
    /// In the order of their ends.
    ghosts: Vec<Ghost>,
    opened: Millis,
    hold_ms: u64,
    settled: HashMap<Id, Last>,
    settled_order: VecDeque<(Millis, Id)>,
}

impl<Id: Clone + Eq + std::hash::Hash> Account<Id> {
    /// Opens the account with what was durable. What the ceiling is above the ghosts that were in it becomes another one,
    /// until holds made before `now` have expired.
    pub fn open(balance: Nanos, ceiling: Nanos, ghosts: &[Ghost], now: Millis, hold_ms: u64) -> Account<Id> {
        let own = ghosts.iter().fold(ceiling.0, |own, ghost| own.saturating_sub(ghost.nanos.0.max(0)));
        let last = Ghost { nanos: Nanos(own), until: now.plus(hold_ms) };
        let mut left = balance.0.max(0);
        let mut kept: Vec<Ghost> = Vec::new();
        for ghost in ghosts.iter().copied().filter(|ghost| now < ghost.until).chain([last]) {
            let nanos = Nanos(ghost.nanos.0.min(left).max(0));
            left = left.saturating_sub(nanos.0);
            if nanos.0 > 0 {
                kept.push(Ghost { nanos, ..ghost });
            }
        }
        kept.sort_by_key(|ghost| ghost.until);
        while kept.len() > GHOSTS_MAX {
            let oldest = kept.remove(0);
            if let Some(next) = kept.first_mut() {
                next.nanos = Nanos(next.nanos.0.saturating_add(oldest.nanos.0));
            }
        }
        Account {
            balance,
            held: Nanos::ZERO,
            ceiling: Nanos::ZERO,
            peak: Nanos::ZERO,
            holds: HashMap::new(),
            ghosts: kept,
            opened: now,
            hold_ms,
            settled: HashMap::new(),
            settled_order: VecDeque::new(),
        }
    }

    /// Takes up a hold that was stored by itself, out of what the crash left as a ghost. `false` where it has ended.
    pub fn restore(&mut self, id: Id, nanos: Nanos, expires: Millis) -> bool {
        // What the ceiling did not cover was never held.
        if self.settled.contains_key(&id) || self.holds.contains_key(&id) || nanos > self.ghost_nanos() {
            return false;
        }
        let mut left = nanos.0.max(0);
        for ghost in self.ghosts.iter_mut().rev() {
            let taken = left.min(ghost.nanos.0);
            ghost.nanos = Nanos(ghost.nanos.0.saturating_sub(taken));
            left = left.saturating_sub(taken);
        }
        self.ghosts.retain(|ghost| ghost.nanos.0 > 0);
        self.held = Nanos(self.held.0.saturating_add(nanos.0));
        self.ceiling = self.ceiling.max(self.held);
        self.holds.insert(id, Hold { nanos, expires });
        true
    }

    /// Lets a hold last until then, at least. `false` where there is none.
    pub fn prolong(&mut self, id: &Id, until: Millis) -> bool {
        match self.holds.get_mut(id) {
            Some(hold) => {
                hold.expires = hold.expires.max(until);
                true
            }
            None => false,
        }
    }

    /// Remembers that `id` was settled at `at` (from the journal, when opening).
    pub fn remember(&mut self, id: Id, at: Millis) {
        self.note(id, Last::Settled, at);
    }

    fn note(&mut self, id: Id, last: Last, at: Millis) {
        if self.settled.insert(id.clone(), last).is_none() {
            self.settled_order.push_back((at, id));
        }
    }

    /// Prepaid money left, holds included.
    pub fn balance(&self) -> Nanos {
        self.balance
    }

    /// Credits set aside, those of a crash included.
    pub fn held(&self) -> Nanos {
        Nanos(self.held.0.saturating_add(self.ghost_nanos().0))
    }

    /// The ceiling that must be durable.
    pub fn ceiling(&self) -> Nanos {
        Nanos(self.ceiling.0.saturating_add(self.ghost_nanos().0))
    }

    /// What of it crashes have left.
    pub fn ghosts(&self) -> &[Ghost] {
        &self.ghosts
    }

    /// What a new hold can take.
    pub fn available(&self) -> Nanos {
        Nanos(self.balance.0.saturating_sub(self.held().0).max(0))
    }

    /// Whether any hold is outstanding.
    pub fn is_idle(&self) -> bool {
        self.holds.is_empty() && self.ghosts.is_empty()
    }

    fn ghost_nanos(&self) -> Nanos {
        Nanos(self.ghosts.iter().fold(0i64, |sum, ghost| sum.saturating_add(ghost.nanos.0)))
    }

    /// Sets credits aside: `wanted` where that is available, else what is, but not less than `least`.
    pub fn admit(&mut self, id: Id, wanted: Nanos, least: Nanos, now: Millis, hold_ms: u64) -> Admission {
        let available = self.available();
        let wanted = Nanos(wanted.0.max(0));
        if available < least || self.holds.contains_key(&id) || self.settled.contains_key(&id) {
            return Admission::Short { available };
        }
        let nanos = wanted.min(available);
        self.held = Nanos(self.held.0.saturating_add(nanos.0));
        self.holds.insert(id, Hold { nanos, expires: now.plus(hold_ms) });
        self.peak = self.peak.max(self.held);
        let raised = self.held > self.ceiling;
        if raised {
            self.ceiling = self.ceiling_wanted();
        }
        Admission::Held { nanos, raised }
    }

    /// Twice what was needed at most, a share of the balance at least, and never more than is there besides the ghosts.
    fn ceiling_wanted(&self) -> Nanos {
        let peak = self.peak.0.max(self.held.0);
        let room = self.balance.0.saturating_sub(self.ghost_nanos().0);
        let share = self.balance.0.checked_div(CEILING_SHARE).unwrap_or(0).max(CEILING_LEAST);
        Nanos(peak.saturating_mul(2).max(share).min(room).max(0))
    }

    /// Sets the ceiling for what is to come, to be written together with something else that is written anyway.
    pub fn set_ceiling(&mut self) {
        let wanted = self.ceiling_wanted();
        // Lower it only far: a ceiling that is a little high costs nothing.
        let is_over = self.ceiling() > self.balance;
        if wanted > self.ceiling || wanted.0 < self.ceiling.0.checked_div(4).unwrap_or(0) || is_over {
            self.ceiling = wanted;
        }
        self.peak = self.held;
    }

    /// Sets the ceiling to exactly what is held, for a time in which nobody is let in: were the object to lose its memory
    /// now (as an idle object does), no credit beyond these holds would be out of reach. Says whether that changed it.
    pub fn tighten_ceiling(&mut self) -> bool {
        let changes = self.ceiling != self.held;
        self.ceiling = self.held;
        self.peak = self.held;
        changes
    }

    /// Ends a hold with `cost`. `claimed` is what the sender was granted and `admitted` when: they count only for a hold
    /// that a crash made the account forget, and no longer than that would have lasted.
    pub fn settle(&mut self, id: &Id, cost: Nanos, claimed: Nanos, admitted: Millis, now: Millis) -> Settled {
        let cost = Nanos(cost.0.max(0));
        match self.settled.get(id) {
            Some(Last::Settled) => return Settled::Again,
            Some(Last::Expired) => {
                self.remember(id.clone(), now);
                return Settled::Late { lost: cost };
            }
            None => {}
        }
        if let Some(hold) = self.holds.remove(id) {
            self.held = Nanos(self.held.0.saturating_sub(hold.nanos.0));
        } else if admitted < self.opened && now.since(admitted) < self.hold_ms {
            // It is in the ghost of the first crash that came after it.
            let hold_ms = self.hold_ms;
            let is_it = |ghost: &&mut Ghost| admitted.plus(hold_ms) <= ghost.until;
            if let Some(ghost) = self.ghosts.iter_mut().find(is_it) {
                ghost.nanos = Nanos(ghost.nanos.0.saturating_sub(claimed.0.max(0)).max(0));
            }
            self.ghosts.retain(|ghost| ghost.nanos.0 > 0);
        } else {
            self.remember(id.clone(), now);
            return Settled::Late { lost: cost };
        }
        // The ended hold is part of what is available now; the holds of others are not touched.
        let charged = cost.min(self.available());
        self.balance = Nanos(self.balance.0.saturating_sub(charged.0));
        self.remember(id.clone(), now);
        Settled::Charged { charged, lost: Nanos(cost.0.saturating_sub(charged.0)) }
    }

    /// Adds (or, below zero, takes back) credits; never below what is held. Returns what was really added.
    pub fn grant(&mut self, nanos: Nanos) -> Option<Nanos> {
        let floor = Nanos(self.available().0.saturating_neg());
        let added = nanos.max(floor);
        self.balance = self.balance.plus(added).ok()?;
        Some(added)
    }

    /// Ends what nobody spoke of in time. Each of the returned requests is final and costs nothing.
    pub fn expire(&mut self, now: Millis) -> Vec<Id> {
        let expired: Vec<Id> =
            self.holds.iter().filter(|(_, hold)| now >= hold.expires).map(|(id, _)| id.clone()).collect();
        for id in &expired {
            if let Some(hold) = self.holds.remove(id) {
                self.held = Nanos(self.held.0.saturating_sub(hold.nanos.0));
            }
            self.note(id.clone(), Last::Expired, now);
        }
        self.ghosts.retain(|ghost| now < ghost.until);
        while let Some((at, _)) = self.settled_order.front()
            && now.since(*at) > settled_memory_ms(self.hold_ms)
        {
            if let Some((_, id)) = self.settled_order.pop_front() {
                self.settled.remove(&id);
            }
        }
        expired
    }

    /// When the next hold or the ghost expires.
    pub fn next_expiry(&self) -> Option<Millis> {
        let holds = self.holds.values().map(|hold| hold.expires);
        holds.chain(self.ghosts.iter().map(|ghost| ghost.until)).min()
    }
}

#[cfg(test)]
mod tests;
