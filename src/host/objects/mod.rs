//! Durable Objects: storage ↔ command ↔ storage, nothing more.

mod workspace;
