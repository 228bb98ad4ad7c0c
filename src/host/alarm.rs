//! The waits of one request on one timer of the platform. Nearly all of them are given up before their time: a request
//! that is served waits for no deadline. So a timer is set only where none rings early enough, and none is taken back.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::soon;
use super::world::now;
use crate::time::Millis;

/// The timers of a request. Its context ends with it, and with the context what has not rung.
#[derive(Default)]
pub struct Alarm(Rc<Bell>);

/// Who waits, and what will ring.
#[derive(Default)]
pub struct Bell {
    /// Until when everything has rung.
    rung: Cell<Millis>,
    /// The timers that are set, each with the number that it rings under.
    set: RefCell<Vec<(Millis, u32)>>,
    waiting: RefCell<Vec<(u32, Waker)>>,
    last: Cell<u32>,
}

impl Alarm {
    /// Resolves after `ms` milliseconds.
    pub fn wait(&self, ms: u64) -> Wait {
        Wait { bell: Rc::clone(&self.0), due: now().plus(ms), key: None }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        for (_, number) in self.0.set.take() {
            soon::forget(number);
        }
    }
}

impl Bell {
    /// The timer that was set for `due` has come.
    pub fn ring(&self, due: Millis) {
        self.set.borrow_mut().retain(|(at, _)| *at != due);
        self.rung.set(self.rung.get().max(due));
        // Whoever is not due yet waits again, and sees to it that something rings.
        for (_, waker) in self.waiting.take() {
            waker.wake();
        }
    }

    fn has_earlier(&self, due: Millis) -> bool {
        self.set.borrow().iter().any(|(at, _)| *at <= due)
    }
}

/// A wait that can be given up.
pub struct Wait {
    bell: Rc<Bell>,
    due: Millis,
    key: Option<u32>,
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.bell.rung.get() >= self.due {
            return Poll::Ready(());
        }
        let bell = Rc::clone(&self.bell);
        let key = *self.key.get_or_insert_with(|| {
            bell.last.set(bell.last.get().wrapping_add(1));
            bell.last.get()
        });
        let waker = context.waker().clone();
        // The waker of the poll before is dropped when the list is free again: it may own other waits.
        let _before = {
            let mut waiting = bell.waiting.borrow_mut();
            match waiting.iter_mut().find(|(of, _)| *of == key) {
                Some((_, known)) => Some(std::mem::replace(known, waker)),
                None => {
                    waiting.push((key, waker));
                    None
                }
            }
        };
        if !bell.has_earlier(self.due) {
            let number = soon::after(&bell, self.due, self.due.since(now()));
            bell.set.borrow_mut().push((self.due, number));
        }
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let _gone = {
            let mut waiting = self.bell.waiting.borrow_mut();
            waiting.iter().position(|(of, _)| *of == key).map(|at| waiting.swap_remove(at))
        };
    }
}
