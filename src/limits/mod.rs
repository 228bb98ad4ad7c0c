//! Requests and tokens per minute, and requests in flight.

pub mod budget;
pub mod gate;
pub mod window;
