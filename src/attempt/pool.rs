//! The gateway's credentials for one provider: the secrets `NAME`, `NAME_2` … `NAME_9`, each in a slot of its own.
//!
//! A request begins at a slot drawn from its seed, so that requests are spread over all of them, and goes on to the next
//! where that one is busy or refused. Limits are per credential: one that cools down is left out while another does not.
//! A further part of a credential (an account, a secret key) is that of its slot where there is one, else the first's.

use std::borrow::Cow;

pub use crate::health::sample::label;
use crate::health::sample::{SLOTS_MAX, mix};
use crate::time::Millis;

/// Which slots hold a credential: bit n for slot n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots(u16);

impl Default for Slots {
    /// The first alone.
    fn default() -> Slots {
        Slots(1 << 1)
    }
}

impl Slots {
    /// The slots of the secret of that name that are set. The first counts as set: whether it is, is asked elsewhere.
    pub fn of(name: &str, is_set: impl Fn(&str) -> bool) -> Slots {
        let further = (2..=SLOTS_MAX).filter(|slot| is_set(&secret_name(name, *slot)));
        Slots(further.fold(Slots::default().0, |bits, slot| bits | 1 << slot))
    }

    fn iter(self) -> impl Iterator<Item = u8> {
        (1..=SLOTS_MAX).filter(move |slot| self.0 & 1 << slot != 0)
    }
}

/// The name of a secret in a slot.
pub fn secret_name(name: &str, slot: u8) -> Cow<'_, str> {
    if slot <= 1 { Cow::Borrowed(name) } else { Cow::Owned(format!("{name}_{slot}")) }
}

/// The part `name` of the credential in a slot. `base` is the secret that the slots are of; `others` are the provider's
/// further secrets of that rank, which belong to the first slot alone.
pub fn part(
    slot: u8,
    base: &str,
    others: &[&str],
    name: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Option<String> {
    if slot <= 1 {
        return lookup(name);
    }
    let own = || lookup(&secret_name(name, slot));
    match name {
        name if name == base => own(),
        name if others.contains(&name) => None,
        name => own().or_else(|| lookup(name)),
    }
}

/// The slots a request may use at one offer, in its order, and the one that is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    order: [u8; SLOTS_MAX as usize],
    len: u8,
    at: u8,
}

impl Default for Pool {
    /// The first slot alone.
    fn default() -> Pool {
        let mut order = [0; SLOTS_MAX as usize];
        order[0] = 1;
        Pool { order, len: 1, at: 0 }
    }
}

impl Pool {
    /// The slots that do not cool down, from one drawn by `seed` on, round; where all do, the one that is ready first.
    pub fn new(slots: Slots, seed: u64, cools_until: impl Fn(u8) -> Option<Millis>) -> Pool {
        if slots == Slots::default() {
            return Pool::default();
        }
        let ready: Vec<u8> = slots.iter().filter(|slot| cools_until(*slot).is_none()).collect();
        let usable = match ready.is_empty() {
            true => slots.iter().min_by_key(|slot| cools_until(*slot)).into_iter().collect(),
            false => ready,
        };
        let count = u64::try_from(usable.len()).unwrap_or(1).max(1);
        let start = usize::try_from(mix(seed) % count).unwrap_or(0);
        let mut pool = Pool { len: 0, ..Pool::default() };
        for (place, slot) in pool.order.iter_mut().zip(usable.iter().cycle().skip(start).take(usable.len())) {
            *place = *slot;
            pool.len = pool.len.saturating_add(1);
        }
        pool
    }

    /// The slot to ask with.
    pub fn slot(&self) -> u8 {
        self.order.get(usize::from(self.at)).copied().unwrap_or(1)
    }

    /// The slots after that one, in their order.
    pub fn others(&self) -> Vec<u8> {
        let from = usize::from(self.at).saturating_add(1);
        self.order.get(from..usize::from(self.len)).unwrap_or_default().to_vec()
    }

    /// Goes on to the next slot; false where there is none left.
    pub fn rotate(&mut self) -> bool {
        let has_next = self.at.saturating_add(1) < self.len;
        self.at = self.at.saturating_add(u8::from(has_next));
        has_next
    }

    /// Goes back to a slot that was asked before.
    pub fn back_to(&mut self, slot: u8) {
        let place = self.order.iter().take(usize::from(self.len)).position(|own| *own == slot);
        self.at = place.and_then(|place| u8::try_from(place).ok()).unwrap_or(self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(set: &[&str]) -> Slots {
        Slots::of("KEY", |name| set.contains(&name))
    }

    fn all(mut pool: Pool) -> Vec<u8> {
        let mut found = vec![pool.slot()];
        while pool.rotate() {
            found.push(pool.slot());
        }
        found
    }

    #[test]
    fn slots_are_those_whose_secret_is_set() {
        assert_eq!(slots(&["KEY"]), Slots::default());
        assert_eq!(slots(&["KEY", "KEY_2", "KEY_9", "KEY_10", "KEY_1"]).iter().collect::<Vec<_>>(), [1, 2, 9]);
        assert_eq!((secret_name("KEY", 1), secret_name("KEY", 2)), ("KEY".into(), "KEY_2".into()));
        assert_eq!((label(1), label(2), label(9), label(10)), (None, Some("2"), Some("9"), None));
    }

    #[test]
    fn each_request_begins_somewhere_and_goes_round_once() {
        let three = slots(&["KEY_2", "KEY_3"]);
        let mut begins = [0usize; 4];
        for seed in 0..3_000 {
            let order = all(Pool::new(three, seed, |_| None));
            begins[usize::from(order[0])] += 1;
            let at = order[0];
            assert_eq!(order, [at, at % 3 + 1, (at + 1) % 3 + 1]);
        }
        assert!(begins[1..].iter().all(|count| (900..1_100).contains(count)), "{begins:?}");
        assert_eq!(all(Pool::new(slots(&[]), 7, |_| None)), [1]);
    }

    #[test]
    fn one_that_cools_down_is_left_out_while_another_does_not() {
        let three = slots(&["KEY_2", "KEY_3"]);
        for seed in 0..50 {
            let order = all(Pool::new(three, seed, |slot| (slot == 2).then_some(Millis(9))));
            assert!(order == [1, 3] || order == [3, 1], "{order:?}");
            let order = all(Pool::new(three, seed, |slot| Some(Millis(100 - u64::from(slot)))));
            assert_eq!(order, [3], "all of them: the one that is ready first, and no other");
        }
    }

    #[test]
    fn one_that_was_asked_can_be_asked_again() {
        let mut pool = Pool::new(slots(&["KEY_2"]), 0, |_| None);
        let first = pool.slot();
        assert!(pool.rotate() && !pool.rotate());
        pool.back_to(first);
        assert_eq!(pool.slot(), first);
        pool.back_to(7);
        assert_eq!(pool.slot(), first);
    }

    #[test]
    fn parts_are_those_of_the_slot_and_the_rest_is_shared() {
        let lookup = |name: &str| match name {
            "KEY" | "KEY_2" | "SECRET" | "SECRET_2" | "REGION" | "TOKEN" => Some(name.to_lowercase()),
            _ => None,
        };
        let part = |slot, name| part(slot, "KEY", &["TOKEN"], name, &lookup);
        for (slot, name, expected) in [
            (1, "KEY", Some("key")),
            (2, "KEY", Some("key_2")),
            (3, "KEY", None),
            (2, "SECRET", Some("secret_2")),
            (2, "REGION", Some("region")),
            (1, "TOKEN", Some("token")),
            (2, "TOKEN", None),
        ] {
            assert_eq!(part(slot, name).as_deref(), expected, "{slot} {name}");
        }
    }
}
