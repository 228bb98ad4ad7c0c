//! What recent attempts say about offers. Passive: only real traffic is observed, no probe costs money.
//!
//! An isolate counts on its own [`board::Board`] and reacts at once; what it counted goes in batches to the `Health`
//! object of the provider's shard ([`share`]), which merges all isolates on a board of its own and publishes a snapshot.
//! What an isolate saw itself always wins over what it was told.

pub mod board;
pub mod breaker;
pub mod sample;
pub mod score;
pub mod share;
pub mod tally;
