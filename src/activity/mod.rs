//! The stored record of each request.

pub mod export;
pub mod origin;
pub mod question;
pub mod receipt;
pub mod row;
