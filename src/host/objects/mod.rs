//! Durable Objects: storage ↔ command ↔ storage, nothing more.

mod replay;
mod workspace;
