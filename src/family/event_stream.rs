//! The AWS event stream: frames out of arbitrary byte chunks.
