//! Jobs: videos, and images of hosts that take their time. A job outlives its request.
//!
//! [`order`] is what a client wants, [`family`] how a host is asked for it and what it answers, [`state`] the life of a
//! job from its admission to its settlement, [`charge`] what it costs, All of it is pure:
//! an object holds the record, `serve::jobs` moves the bytes.

pub mod charge;
pub mod command;
pub mod family;
pub mod form;
pub mod order;
pub mod pace;
pub mod reach;
pub mod state;
pub mod terms;
