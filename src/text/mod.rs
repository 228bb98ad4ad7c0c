//! The typed form of text: what any dialect's request comes to.

pub mod demand;
pub mod request;
