//! JSON texts: their syntax, values looked at in place, and values read into types.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented
    )
)]

pub mod de;
pub mod scan;
pub mod view;

pub use de::from_str;
