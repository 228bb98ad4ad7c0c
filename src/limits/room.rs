//! How many bytes of large bodies one isolate holds at the same time. It has 128 MB for all its requests together, and ten
//! uploads of 25 MB are more than that: who finds no room waits for it in the order of arrival, with the upload unread.
//!
//! A request whose context the platform ends says nothing any more. So a place in the queue lasts only as long as somebody
//! asks for it, and what was taken only for its time.

use std::collections::VecDeque;

use crate::time::Millis;

/// A place in the queue that nobody asked for this long is given up, in milliseconds.
const FORGOTTEN_MS: u64 = 2_000;

/// A place, first in the queue, then in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u64);

#[derive(Debug)]
struct Waiting {
    place: Place,
    bytes: u64,
    asked: Millis,
}

#[derive(Debug)]
struct Taken {
    place: Place,
    bytes: u64,
    until: Millis,
}

/// The room of one isolate.
#[derive(Debug)]
pub struct Room {
    bytes: u64,
    next: u64,
    queue: VecDeque<Waiting>,
    taken: Vec<Taken>,
}

impl Room {
    /// Room for that many bytes.
    pub fn new(bytes: u64) -> Room {
        Room { bytes, next: 0, queue: VecDeque::new(), taken: Vec::new() }
    }

    /// A place of its own.
    pub fn place(&mut self) -> Place {
        let place = Place(self.next);
        self.next = self.next.wrapping_add(1);
        place
    }

    /// Whether there is room for a place's bytes and its turn has come: then they are taken, until the place is left, or for
    /// `life_ms` at most. Else it is in the queue, from its first asking on. Whoever needs more than the room has gets all
    /// of it.
    pub fn take(&mut self, place: Place, bytes: u64, now: Millis, life_ms: u64) -> bool {
        match self.queue.iter_mut().find(|waiting| waiting.place == place) {
            Some(waiting) => waiting.asked = now,
            None => self.queue.push_back(Waiting { place, bytes: bytes.min(self.bytes), asked: now }),
        }
        self.taken.retain(|taken| now < taken.until);
        self.queue.retain(|waiting| now.since(waiting.asked) < FORGOTTEN_MS);
        let is_first = self.queue.front().filter(|first| first.place == place && first.bytes <= self.free());
        let Some(bytes) = is_first.map(|first| first.bytes) else { return false };
        self.queue.pop_front();
        self.taken.push(Taken { place, bytes, until: now.plus(life_ms) });
        true
    }

    /// It turned out to need less.
    pub fn lessen(&mut self, place: Place, bytes: u64) {
        if let Some(taken) = self.taken.iter_mut().find(|taken| taken.place == place) {
            taken.bytes = taken.bytes.min(bytes);
        }
    }

    /// Gives up a place, waiting or taken.
    pub fn leave(&mut self, place: Place) {
        self.queue.retain(|waiting| waiting.place != place);
        self.taken.retain(|taken| taken.place != place);
    }

    /// Bytes that nobody holds.
    pub fn free(&self) -> u64 {
        self.bytes.saturating_sub(self.taken.iter().map(|taken| taken.bytes).sum())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFE_MS: u64 = 60_000;

    struct Hall(Room, Millis);

    impl Hall {
        fn take(&mut self, place: Place, bytes: u64) -> bool {
            self.0.take(place, bytes, self.1, LIFE_MS)
        }
    }

    fn hall(bytes: u64) -> (Hall, [Place; 4]) {
        let mut room = Room::new(bytes);
        let places = [(); 4].map(|()| room.place());
        (Hall(room, Millis(1_000)), places)
    }

    #[test]
    fn who_finds_no_room_waits_for_his_turn() {
        let (mut hall, [a, b, c, d]) = hall(60);
        assert!(hall.take(a, 25) && hall.take(b, 25));
        assert!(!hall.take(c, 25) && !hall.take(d, 5), "a small one does not overtake");
        hall.0.lessen(a, 10);
        assert!(!hall.take(d, 5) && hall.take(c, 25) && !hall.take(d, 5));
        hall.0.leave(b);
        assert!(hall.take(d, 5));
        assert_eq!(hall.0.free(), 20);
    }

    #[test]
    fn more_than_the_room_has_is_all_of_it() {
        let (mut hall, [small, large, ..]) = hall(60);
        assert!(hall.take(small, 1) && !hall.take(large, 1_000));
        hall.0.leave(small);
        assert!(hall.take(large, 1_000));
        assert_eq!(hall.0.free(), 0);
    }

    #[test]
    fn who_is_not_heard_of_any_more_is_in_nobodys_way() {
        let (mut hall, [first, gone, waits, next]) = hall(10);
        assert!(hall.take(first, 10) && !hall.take(gone, 10) && !hall.take(waits, 10));
        hall.0.leave(first);
        hall.1 = hall.1.plus(FORGOTTEN_MS - 1);
        assert!(!hall.take(waits, 10));
        hall.1 = hall.1.plus(1);
        assert!(hall.take(waits, 10), "the first of the queue has not asked");
        hall.1 = hall.1.plus(LIFE_MS - 1);
        assert!(!hall.take(next, 10));
        hall.1 = hall.1.plus(1);
        assert!(hall.take(next, 10), "what was taken was not given back in time");
    }

    proptest! {
        #[test]
        fn never_more_is_taken_than_there_is(steps in prop::collection::vec((0..4u8, 1..50u64), 1..80)) {
            let (mut room, now) = (Room::new(60), Millis(0));
            let (mut waiting, mut inside) = (VecDeque::new(), Vec::<(Place, u64)>::new());
            for (step, bytes) in steps {
                match step {
                    0 => waiting.push_back((room.place(), bytes)),
                    1 => if let Some((place, _)) = inside.pop() { room.leave(place) },
                    _ => if let Some((place, bytes)) = waiting.front().copied() && room.take(place, bytes, now, LIFE_MS) {
                        waiting.pop_front();
                        inside.push((place, bytes));
                    },
                }
                let held: u64 = inside.iter().map(|(_, bytes)| bytes).sum();
                prop_assert_eq!(room.free(), 60 - held);
            }
        }
    }
}
