//! The Anthropic Messages family: at its maker's own API and through Vertex AI.
//!
//! Wire: Anthropic API reference, `POST /v1/messages`; Vertex AI, `rawPredict` for partner models.

mod cite;
mod decode;
mod write;

pub use decode::Decoder;
pub use write::{Host, Thinking, crowded_out, thinking, write};

#[cfg(test)]
mod tests;
