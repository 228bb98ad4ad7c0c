//! The AI Stats Gateway: one OpenAI-compatible surface in front of every model provider.
//!
//! Everything that can be right or wrong is a pure function or a pure state machine and runs natively under
//! `cargo test`; `host` is a thin shell around it that exists on wasm32 alone. A module uses the layers above it in
//! this list, never one below.
//!
//! Invariants that hold everywhere: money is integer nano-dollars; an unknown price, usage or policy is a value of its
//! own and never zero; time and chance are arguments; input never reaches a panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented
    )
)]

// words
pub mod error;
pub mod id;
pub mod money;
pub mod ssrf;
pub mod time;
pub mod usage;
// formats
pub mod dialect;
pub mod family;
pub mod json;
pub mod sse;
pub mod text;
// facts
pub mod catalog;
// decisions
pub mod access;
pub mod activity;
pub mod analytics;
pub mod attempt;
pub mod auth;
pub mod discovery;
pub mod excerpt;
pub mod health;
pub mod job;
pub mod ledger;
pub mod limits;
pub mod media;
pub mod otel;
pub mod preset;
pub mod relay;
pub mod replay;
pub mod routing;
pub mod seal;
pub mod webhook;
pub mod workspace;
// the path
pub mod openapi;
pub mod serve;
// the shell
#[cfg(target_arch = "wasm32")]
mod host;
