//! The OpenAI Responses family.
//!
//! Wire: OpenAI API reference, `POST /v1/responses` and its streaming events. Calls are stateless: nothing is stored
//! there, and reasoning travels sealed with the conversation.

mod decode;
mod write;

pub use decode::Decoder;
pub use write::write;

#[cfg(test)]
mod tests;
