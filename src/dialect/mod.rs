//! What clients speak: one file per dialect.

pub mod chat;
