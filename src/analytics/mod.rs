//! Sums over activity rows: by hour or day, and by model, provider, key or application.
//!
//! The sums are kept beside the rows (`migrations/0030_analytics.sql`), by the batch that brings the rows to D1: a row
//! that is sent again is there already, and counts nothing. Reading them never looks at rows.

pub mod batch;
pub mod prometheus;
pub mod rollup;
pub mod sketch;
pub mod totals;
