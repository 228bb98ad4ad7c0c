//! Moving a stream by hand, to its end whether or not its client still listens: for an answer that is to be kept.

use std::cell::RefCell;

use futures::future::{Either, select};
use futures::pin_mut;

use crate::relay::{Amend, Relay, Stop};
use crate::replay::ANSWER_BYTES_MAX;
use crate::serve::ports::{Answer, Client, Ports, Waits};
use crate::sse::KEEP_ALIVE;

/// Moves the rest of an answer to the client and into `capture`; says how it stopped, whether bytes passed as they are, and
/// whether the client has not taken all of them.
pub async fn drain<P: Ports>(
    ports: &P,
    mut answer: P::Answer,
    client: &mut P::Client,
    relay: &RefCell<Relay>,
    amend: Amend<'_>,
    waits: Waits,
    capture: &mut Vec<u8>,
) -> (Stop, bool, bool) {
    let native = relay.borrow().can_be_native();
    let mut is_gone = false;
    let deadline = ports.now().plus(waits.total_ms);
    while !relay.borrow().is_over() {
        if ports.now() >= deadline {
            return (Stop::Deadline, native, is_gone);
        }
        let next = answer.chunk();
        pin_mut!(next);
        let mut silent_ms = 0;
        let chunk = loop {
            let tick = ports.sleep(waits.keep_alive_ms);
            pin_mut!(tick);
            match select(&mut next, tick).await {
                Either::Left((chunk, _)) => break chunk,
                Either::Right(_) => {}
            }
            silent_ms += waits.keep_alive_ms;
            if ports.now() >= deadline {
                return (Stop::Deadline, native, is_gone);
            }
            if silent_ms >= waits.idle_ms {
                return (Stop::Idle, native, is_gone);
            }
            if !is_gone && relay.borrow().is_at_border() {
                is_gone = client.write(KEEP_ALIVE).await.is_err();
            }
        };
        let bytes = match chunk {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return (Stop::Eof, native, is_gone),
            Err(_) => return (Stop::Broken, native, is_gone),
        };
        let mut out = Vec::new();
        if native {
            relay.borrow_mut().push(&bytes, None, amend);
            out = bytes;
        } else {
            relay.borrow_mut().push(&bytes, Some(&mut out), amend);
        }
        // What is longer than may be kept is not kept, and only its length matters.
        if capture.len() <= ANSWER_BYTES_MAX {
            capture.extend_from_slice(&out);
        }
        if !is_gone && !out.is_empty() {
            is_gone = client.write(&out).await.is_err();
        }
    }
    (Stop::Eof, native, is_gone)
}
