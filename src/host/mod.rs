//! The shell: the only place that knows the platform. It fetches facts, asks the pure code, and carries out the answer.

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

impl From<crate::json::de::Error> for worker::Error {
    /// Without its words: they may quote what was stored.
    fn from(_: crate::json::de::Error) -> worker::Error {
        worker::Error::RustError("a JSON text cannot be read".to_owned())
    }
}
