//! What a workspace is told by webhooks: events, when they arise, how they are signed, and when a delivery is tried again.
//!
//! Follows Standard Webhooks (standardwebhooks.com): `webhook-id`, `webhook-timestamp`, `webhook-signature`, secrets
//! that begin with `whsec_`, and bodies of `type`, `timestamp` and `data`.

pub mod alert;
pub mod event;
pub mod hook;
pub mod outage;
pub mod retry;
pub mod sign;
