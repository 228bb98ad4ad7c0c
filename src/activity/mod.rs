//! The stored record of each request.

pub mod row;
