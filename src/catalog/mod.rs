//! Facts about who serves what at which price, as data.
//!
//! A catalog is one or more folders of JSON files that people edit (`source` says how they look). [`compile`] reads
//! and checks them and makes a [`Snapshot`]: key-value pairs under a name that is the hash of their content, so a
//! published snapshot never changes. At run time one small value resolves a model: [`ModelEntry`], with everything a
//! request needs of its offers and their providers.
//!
//! Out of scope: choosing among offers (routing), adding prices up (ledger), moving bytes.
//! Invariants: no floats; a price that is not stated is absent and never zero; the same files give the same bytes.
#![deny(clippy::arithmetic_side_effects)]

mod card;
mod listing;
mod model;
mod naming;
mod offer;
mod plausible;
mod provider;
mod snapshot;
mod source;
mod standing;
mod traits;

pub use card::{Change, Effect, Effective, PriceCard, Rule, Situation, TimeWindow, When};
pub use listing::{PARAMETERS, Row, STATED, facet, list_key, rows_key, with_member};
pub use model::{Malformed, ModelEntry};
pub use naming::{ModelName, NAME_BYTES_MAX, NamingError, PRESET_BYTES_MAX, Suffix, is_id};
pub use offer::Offer;
pub use provider::{
    Alternative, Auth, DataPolicy, Provider, ReasoningStyle, Scheme, Training, Variable, ZeroRetention, is_in,
};
pub use snapshot::{Counts, Problem, Snapshot, Source, compile, doubts};
pub use standing::{Availability, Channel, Routing, Standing, Status, Support, has_ended};

/// The key of the pointer to the snapshot in use: `{"snapshot": id}`. Written last by whoever publishes.
pub const CURRENT_KEY: &str = "catalog/current";

/// The key of the list of published snapshots, newest first: `[{id, published_at, models, offers, providers}]`.
pub const SNAPSHOTS_KEY: &str = "catalog/snapshots";

/// The key of what `name` (a model id, an alias or a unique bare name) resolves to in `snapshot`: a [`ModelEntry`].
pub fn model_key(snapshot: &str, name: &str) -> String {
    format!("catalog/{snapshot}/model/{name}")
}

/// The key of the provider of that id in `snapshot`: a [`Provider`].
pub fn provider_key(snapshot: &str, id: &str) -> String {
    format!("catalog/{snapshot}/provider/{id}")
}

/// The key of the manifest of `snapshot`: `{id, models, offers, providers, as_of}`.
pub fn manifest_key(snapshot: &str) -> String {
    format!("catalog/{snapshot}/manifest")
}
