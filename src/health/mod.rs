//! What recent attempts say about offers.

pub mod board;
