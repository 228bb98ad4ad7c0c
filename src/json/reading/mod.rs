//! Tests of the package `json-text`: here `cargo test` finds them.

mod de;
mod scan;
mod view;
