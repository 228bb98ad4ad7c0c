//! What providers speak: one file per wire family, the shapes of their errors, and the quirks a provider may declare.

pub mod fault;
pub mod openai_chat;
pub mod quirk;
pub mod wait;

/// The families this build can speak; an offer of a provider that names none of them is not supported.
pub const SUPPORTED: &[&str] = &[openai_chat::NAME];
