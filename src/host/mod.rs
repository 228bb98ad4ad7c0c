//! The shell: the only place that knows the platform. It fetches facts, asks the pure code, and carries out the answer.

mod alarm;
mod cache;
mod counters;
mod courier;
mod entry;
mod glue;
mod objects;
mod settings;
mod settle;
mod soon;
mod stream;
mod world;

/// Reads a JSON text. The error goes without its words: they may quote what was stored.
fn read<'a, T: serde::Deserialize<'a>>(text: &'a str) -> worker::Result<T> {
    crate::json::from_str(text).map_err(|_| worker::Error::RustError("a JSON text cannot be read".to_owned()))
}
