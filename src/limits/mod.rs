//! Requests and tokens per minute, requests in flight, and the bytes that an isolate holds of them.

pub mod budget;
pub mod gate;
pub mod room;
pub mod window;
