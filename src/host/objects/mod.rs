//! Durable Objects: storage ↔ command ↔ storage, nothing more.

mod health;
mod replay;
mod workspace;
