//! Requests and tokens per minute, and requests in flight.

pub mod gate;
pub mod window;
