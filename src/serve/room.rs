//! Reading a request's body: a small one at once, a large one when the isolate has room for it (see [`crate::limits::room`]).

use std::cell::RefCell;
use std::rc::Rc;

use futures::channel::oneshot;

use crate::error::{Code, Failure};
use crate::limits::room::{Place, Room};
use crate::serve::ports::{BodyError, Ports};

/// From this size on a body is large, in bytes.
const LARGE_BYTES: u64 = 256 * 1024;
/// How often one that waits asks for its turn, in milliseconds. It must be its own timer that wakes it: the platform
/// forbids one request to do what belongs to another.
const STEP_MS: u64 = 20;
/// What a request is told to wait that found no room in time, in milliseconds.
const RETRY_AFTER_MS: u64 = 5_000;

/// How often what a body says is in memory while a call is written of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// A form: its parts are where they came.
    One = 1,
    /// JSON that goes on as it is: once more for the host.
    Two = 2,
    /// JSON that is taken apart and written anew.
    Three = 3,
}

/// Bytes of room that a request holds; dropping it gives them back.
#[derive(Debug)]
pub struct Stay {
    room: Rc<RefCell<Room>>,
    place: Place,
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.room.borrow_mut().leave(self.place);
    }
}

/// A body, and its room where it is large.
#[derive(Debug)]
pub struct Taken {
    /// The body.
    pub bytes: Vec<u8>,
    /// Its room.
    pub stay: Option<Stay>,
}

/// Reads the body.
pub async fn read_body<P: Ports>(ports: &Rc<P>, copies: Copies) -> Result<Taken, Failure> {
    let max = ports.settings().body_bytes_max;
    let length = ports.body_length();
    // One that is too large is refused without being held.
    if length.is_some_and(|length| length <= LARGE_BYTES || length > max) {
        return ports.body(max).await.map(|bytes| Taken { bytes, stay: None }).map_err(|error| refused(error, max));
    }
    let copies = copies as u64;
    let stay = enter(ports.as_ref(), length.unwrap_or(max).saturating_mul(copies)).await?;
    // In the background: else a client that leaves meanwhile would leave what it sent so far behind.
    let (tell, told) = oneshot::channel();
    let reader = Rc::clone(ports);
    ports.in_background(async move {
        let taken = reader.body(max).await.map(|bytes| {
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            stay.room.borrow_mut().lessen(stay.place, size.saturating_mul(copies));
            Taken { stay: Some(stay).filter(|_| size > LARGE_BYTES), bytes }
        });
        drop(tell.send(taken));
    });
    told.await.unwrap_or(Err(BodyError::Broken)).map_err(|error| refused(error, max))
}

fn refused(error: BodyError, max: u64) -> Failure {
    match error {
        BodyError::TooLarge => Failure::new(Code::PayloadTooLarge, format!("the body is larger than {max} bytes")),
        BodyError::Broken => Failure::new(Code::InvalidInput, "the body ended early"),
    }
}

/// Waits for room; the upload waits in the network meanwhile.
async fn enter<P: Ports>(ports: &P, bytes: u64) -> Result<Stay, Failure> {
    let room = ports.room();
    let place = room.borrow_mut().place();
    let stay = Stay { room, place };
    let settings = ports.settings();
    let end = ports.now().plus(settings.body_wait_ms);
    loop {
        if stay.room.borrow_mut().take(place, bytes, ports.now(), settings.hold_ms) {
            return Ok(stay);
        }
        if ports.now() >= end {
            let failure = Failure::new(Code::Overloaded, "the gateway is busy with other large bodies");
            return Err(failure.retry_after(Some(RETRY_AFTER_MS)));
        }
        ports.sleep(STEP_MS).await;
    }
}
