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
