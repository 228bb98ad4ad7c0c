//! One request's attempts: what a failure means, when to go on, when to stop.

pub mod classify;
pub mod machine;
pub mod pool;
pub mod timeouts;
