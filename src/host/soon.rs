//! Waiting for a promise of JavaScript. The bindings' own future makes two closures for each wait and registers both
//! with the garbage collector, which a request pays for a dozen times. Here JavaScript calls one function for all waits,
//! with the number of the wait.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use js_sys::Promise;
use wasm_bindgen::JsValue;
use wasm_bindgen::closure::Closure;

use super::alarm::Bell;
use super::glue;
use crate::time::Millis;

/// What a promise came to: its value, or what it was rejected with.
type Settled = Result<JsValue, JsValue>;

enum Place {
    Waiting(Option<Waker>),
    Come(Settled),
    Timer(Rc<Bell>, Millis),
}

#[derive(Default)]
struct Waits {
    places: HashMap<u32, Place>,
    last: u32,
}

impl Waits {
    fn take_number(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if !self.places.contains_key(&self.last) {
                return self.last;
            }
        }
    }
}

thread_local! {
    static WAITS: RefCell<Waits> = RefCell::default();
}

/// Tells JavaScript whom to call. Once per instance of the module, before anything waits.
pub fn listen() {
    let called = Closure::<dyn Fn(u32, JsValue, bool)>::new(|number, value, is_good: bool| {
        come(number, if is_good { Ok(value) } else { Err(value) });
    });
    glue::listen(called.as_ref());
    called.forget();
}

fn come(number: u32, settled: Settled) {
    let before = WAITS.with(|waits| {
        let places = &mut waits.borrow_mut().places;
        match places.get_mut(&number) {
            Some(Place::Timer(..)) => places.remove(&number),
            Some(place) => Some(std::mem::replace(place, Place::Come(settled))),
            // Nobody waits any more.
            None => None,
        }
    });
    match before {
        Some(Place::Waiting(Some(waker))) => waker.wake(),
        Some(Place::Timer(bell, due)) => bell.ring(due),
        _ => {}
    }
}

/// Sets a timer of the platform: after `ms` it rings for `due`. The number is for [`forget`].
pub fn after(bell: &Rc<Bell>, due: Millis, ms: u64) -> u32 {
    let number = place(Place::Timer(Rc::clone(bell), due));
    glue::after(glue::js_ms(ms), number);
    number
}

/// Nobody is to hear of that number any more.
pub fn forget(number: u32) {
    // Dropped when the table is free again: it may own other waits.
    let gone = WAITS.with(|waits| waits.borrow_mut().places.remove(&number));
    drop(gone);
}

fn place(place: Place) -> u32 {
    WAITS.with(|waits| {
        let mut waits = waits.borrow_mut();
        let number = waits.take_number();
        waits.places.insert(number, place);
        number
    })
}

/// A wait for a promise. Dropped, it is forgotten; what the promise stands for goes on.
pub struct Soon(u32);

/// Waits for a promise.
pub fn soon(promise: Promise) -> Soon {
    let number = place(Place::Waiting(None));
    glue::watch(&promise, number);
    Soon(number)
}

impl Future for Soon {
    type Output = Settled;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Settled> {
        let waker = context.waker().clone();
        // The waker of the wait before is dropped when the table is free again: it may own other waits.
        let (poll, _before) = WAITS.with(|waits| {
            let places = &mut waits.borrow_mut().places;
            match places.get_mut(&self.0) {
                Some(Place::Waiting(known)) => (Poll::Pending, known.replace(waker)),
                Some(Place::Come(_)) => match places.remove(&self.0) {
                    Some(Place::Come(settled)) => (Poll::Ready(settled), None),
                    _ => (Poll::Pending, None),
                },
                Some(Place::Timer(..)) | None => (Poll::Pending, None),
            }
        });
        poll
    }
}

impl Drop for Soon {
    fn drop(&mut self) {
        forget(self.0);
    }
}
