//! The Converse family of Amazon Bedrock: `/model/{id}/converse`, and `/converse-stream` with its AWS event stream.
//!
//! Wire: Amazon Bedrock API reference, `Converse` and `ConverseStream`. A frame of the stream reaches the decoder as one
//! JSON object, `{"messageStop": {…}}`; an exception in it with a mark before its name, `{"!throttlingException": {…}}`.

mod decode;
mod write;

pub use decode::Decoder;
pub use write::{path_of, write};

#[cfg(test)]
mod tests;
