//! The one value that resolves a model name at run time: the model, its offers, and their providers.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{offer::Offer, provider::Provider};
use crate::time::Millis;

/// A model with everything a request needs to reach it. Complete in itself: every offer's provider is among
/// `providers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelEntry {
    /// The canonical id, `organisation/name`; also where the entry was found under an alias.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// Who trained it.
    pub organisation: String,
    /// `chat`, `embedding`, `image`, …
    pub kind: String,
    /// What it takes: `text`, `image`, `audio`, `video`, `pdf`.
    pub input: Vec<String>,
    /// What it gives.
    pub output: Vec<String>,
    /// Tokens of prompt and answer together, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    /// Tokens of answer at most, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// Its release in Unix seconds; 0 is unknown.
    pub created: u64,
    /// What it can do; a missing key is not known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities: BTreeMap<String, bool>,
    /// How its reasoning is steered: `effort` values, `toggle`, `budget_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_controls: Option<serde_json::Value>,
    /// The providers of the offers, by id.
    pub providers: BTreeMap<String, Provider>,
    /// Its offers, by provider, then in the order of the file.
    pub offers: Vec<Offer>,
}

/// A stored entry that cannot be read: what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed model entry: {}", self.0)
    }
}

impl ModelEntry {
    /// Parses a stored entry. One whose offers name a provider it does not hold is malformed.
    pub fn parse(bytes: &[u8]) -> Result<ModelEntry, Malformed> {
        let text = std::str::from_utf8(bytes).map_err(|error| Malformed(error.to_string()))?;
        let entry: ModelEntry = crate::json::from_str(text).map_err(|error| Malformed(error.to_string()))?;
        match entry.offers.iter().find(|offer| !entry.providers.contains_key(&offer.provider)) {
            Some(offer) => Err(Malformed(format!("no provider {}", offer.provider))),
            None => Ok(entry),
        }
    }

    /// The entry with every announced price in force whose moment has come; `None` where there is none.
    pub fn in_force(&self, now: Millis) -> Option<ModelEntry> {
        let is_due = |offer: &Offer| offer.card.changes.first().is_some_and(|change| change.from <= now);
        self.offers.iter().any(is_due).then(|| {
            let mut entry = self.clone();
            for offer in &mut entry.offers {
                offer.card.put_in_force(now);
            }
            entry
        })
    }

    /// The provider of `offer`.
    pub fn provider_of(&self, offer: &Offer) -> Option<&Provider> {
        self.providers.get(&offer.provider)
    }

    /// The family that `offer` is served by: its own, or its provider's first.
    pub fn family_of<'a>(&'a self, offer: &'a Offer) -> Option<&'a str> {
        offer.family.as_deref().or_else(|| self.provider_of(offer)?.families.first().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = r#"{"id":"acme/one","name":"One","organisation":"acme","kind":"chat","input":["text"],"output":["text"],"context":8192,"created":1750000000,"capabilities":{"tools":true},"providers":{"p":{"id":"p","name":"p","base_url":"http://127.0.0.1:9","families":["openai-chat"],"auth":{"header":"Authorization","prefix":"Bearer "}}},"offers":[{"provider":"p","upstream":"one","kind":"chat","can":["tools"],"card":{"as_of":"","prices":{"input_tokens":5,"output_tokens":7}},"is_free":false}]}"#;

    #[test]
    fn model_entry_json_format_is_unchanged() {
        let entry = ModelEntry::parse(ENTRY.as_bytes()).unwrap();
        assert_eq!(entry.provider_of(&entry.offers[0]).unwrap().id, "p");
        assert_eq!(serde_json::to_string(&entry).unwrap(), ENTRY);
    }

    #[test]
    fn an_entry_that_is_not_complete_is_malformed() {
        assert!(ModelEntry::parse(b"{}").is_err());
        let orphan = ENTRY.replace(r#""provider":"p""#, r#""provider":"q""#);
        assert_eq!(ModelEntry::parse(orphan.as_bytes()), Err(Malformed("no provider q".into())));
    }
}
