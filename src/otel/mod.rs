//! Traces for OpenTelemetry: what is sent where ([`export`]), and how a request looks as spans ([`span`]).
//!
//! Opt-in by Worker variables with the names that OpenTelemetry gives them. A span has what an activity row has: never a
//! prompt, a completion, a secret, or what a provider wrote in an error.

pub mod export;
pub mod span;
