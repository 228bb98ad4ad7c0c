//! Which offers may serve a request, and in which order. Pure: facts, `now` and a seed in; a plan with reasons out.

pub mod change;
pub mod expect;
pub mod explain;
pub mod filter;
pub mod plan;
pub mod rank;
pub mod sticky;
