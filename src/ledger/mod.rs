//! Money of a workspace: what a request may cost at most, what it did cost, how an ending is charged, and the account
//! that holds and settles.

pub mod account;
pub mod archive;
pub mod bound;
pub mod charge;
pub mod ending;
pub mod entry;
pub mod reconcile;
