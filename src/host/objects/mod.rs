//! Durable Objects: storage ↔ command ↔ storage, nothing more.

mod courier;
mod generation;
mod health;
mod replay;
mod workspace;
