//! An offer: one model at one provider under one upstream name.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::card::PriceCard;
use super::standing::Standing;

/// One model at one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The provider's id.
    pub provider: String,
    /// The name to send upstream.
    pub upstream: String,
    /// `chat`, `embedding`, `image`, …
    pub kind: String,
    /// The family it is served by, where that is not the provider's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Another way to serve the same model: `free`, `fast`, `us`, `thinking`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The regions the prices hold for; empty is the default one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// Tokens of prompt and answer together, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    /// Tokens of answer at most, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// What it is known to be able to do: `tools`, `structured_output`, `reasoning`, `vision`, …
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub can: BTreeSet<String>,
    /// The precision it runs in (`fp8`, `bf16`, …), where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// The most inputs of one call, where the provider limits them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_max: Option<u64>,
    /// The voices there are, where they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voices: Vec<String>,
    /// Its prices.
    pub card: PriceCard,
    /// Whether it costs nothing, by the provider's word. A trial is not free.
    #[serde(default)]
    pub is_free: bool,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Standing::is_usual")]
    pub standing: Standing,
    /// The announced end, `2026-11-30`: from then on it is retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retires: Option<String>,
}
