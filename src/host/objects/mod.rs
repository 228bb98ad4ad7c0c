//! Durable Objects: storage ↔ command ↔ storage, nothing more.

mod courier;
mod health;
mod replay;
mod workspace;
