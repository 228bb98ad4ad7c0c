//! The Gemini family: at the Gemini API and through Vertex AI.
//!
//! Wire: Gemini API reference, `models.generateContent` and `models.streamGenerateContent` (with `alt=sse`).

mod decode;
mod ground;
mod write;

pub use decode::Decoder;
pub use write::{Host, write};

#[cfg(test)]
mod tests;
