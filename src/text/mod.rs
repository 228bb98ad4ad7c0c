//! The typed form of text. A request any dialect can be parsed into and any family written from, an answer any family
//! can be decoded into and any dialect encoded from: n + m translations instead of n × m.

pub mod citation;
pub mod custom;
pub mod demand;
pub mod event;
pub mod file;
pub mod ids;
pub mod issuer;
pub mod prompt;
pub mod reply;
pub mod request;
pub mod terms;
