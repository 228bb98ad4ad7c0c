//! One request's attempts: what a failure means, how long to wait, when to stop.

pub mod classify;
