//! One activity row: the generation as it is stored, in the workspace's journal first and in D1 later.
//!
//! Holds no prompt, no completion, no credential and nothing a provider wrote in an error.

use serde::{Deserialize, Serialize};

use crate::activity::origin::Origin;
use crate::json::Raw;
use crate::ledger::charge::{Fee, Line};
use crate::ledger::ending::Ending;
use crate::usage::Usage;

/// One upstream call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// The provider called.
    pub provider: String,
    /// The model's name there.
    pub upstream: String,
    /// `credits`, or `byok` where the workspace's own credential was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_by: Option<String>,
    /// The slot of the gateway's credential, where it is not the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u8>,
    /// Its HTTP status, where it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `request`, `credential`, `busy`, `fault`, or `cancelled` where an attempt beside it was faster; absent for the attempt that served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Our error code for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When it began, in milliseconds since the request arrived.
    pub start_ms: u64,
    /// How long it took until it failed, or until its first content, in milliseconds.
    pub ms: u64,
    /// The wait it asked for, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// What its prices hung on, besides its usage and its moment: with these a receipt can be made again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Basis {
    /// The place of the offer among those of the model in the snapshot.
    pub offer: usize,
    /// The service tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// How fast it was generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<String>,
    /// Where it was processed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// How much context its web searches brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_context_size: Option<String>,
    /// The quality of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// The size of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}

/// One request, whatever its ending. Its JSON form is stored, so it is a contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The request's id.
    pub id: String,
    /// When it arrived, in milliseconds since the epoch.
    pub at: u64,
    /// The key that called.
    pub key: String,
    /// The model as the client named it.
    pub model_asked: String,
    /// The canonical id of the model that served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Who served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The dialect the client spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// Whether the answer was streamed.
    #[serde(default)]
    pub stream: bool,
    /// The HTTP status the client got, or would have got.
    pub status: u16,
    /// The error code the client got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How it ended.
    pub ending: Ending,
    /// The finish reason in the words of the OpenAI dialect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// What was used; absent when nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Whether the usage is an estimate of ours.
    #[serde(default)]
    pub is_estimated: bool,
    /// The fee of a request that an own credential paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<Fee>,
    /// Quantities at their prices, as charged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Line>,
    /// Rules of the price card that applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<usize>,
    /// The catalog snapshot that priced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// What the prices hung on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// `credits` or `byok`.
    pub paid_by: String,
    /// What was set aside, in nano-dollars.
    #[serde(default)]
    pub held_nanos: i64,
    /// Every upstream call.
    #[serde(default)]
    pub attempts: Vec<AttemptRow>,
    /// Until the first content, in milliseconds since the request arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// The whole, in milliseconds.
    #[serde(default)]
    pub total_ms: u64,
    /// The gateway's own part before the first upstream call, in milliseconds.
    #[serde(default)]
    pub gateway_ms: u64,
    /// Why it went where it went, see [`crate::routing::explain`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Raw>,
    /// The client's conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The client's end user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The application, and the trace it is part of.
    #[serde(default, skip_serializing_if = "Origin::is_empty")]
    pub origin: Origin,
}

impl Row {
    /// The row of a request of which nothing was heard after its admission.
    pub fn expired(id: &str, key: &str, model: &str, at: u64, held_nanos: i64) -> Row {
        Row {
            id: id.to_owned(),
            at,
            key: key.to_owned(),
            model_asked: model.to_owned(),
            model: None,
            provider: None,
            dialect: None,
            stream: false,
            status: 504,
            code: Some(crate::error::Code::ProviderTimeout.name().to_owned()),
            ending: Ending::Expired,
            finish_reason: None,
            usage: None,
            is_estimated: false,
            fee: None,
            lines: Vec::new(),
            rules: Vec::new(),
            snapshot: None,
            basis: None,
            paid_by: "credits".to_owned(),
            held_nanos,
            attempts: Vec::new(),
            first_byte_ms: None,
            total_ms: 0,
            gateway_ms: 0,
            why: None,
            session: None,
            user: None,
            origin: Origin::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_format_is_unchanged() {
        let row = Row::expired("gen_1", "key_1", "a/b", 5, 7);
        let json = serde_json::to_string(&row).unwrap();
        assert_eq!(
            json,
            r#"{"id":"gen_1","at":5,"key":"key_1","model_asked":"a/b","stream":false,"status":504,"code":"provider_timeout","ending":"expired","is_estimated":false,"paid_by":"credits","held_nanos":7,"attempts":[],"total_ms":0,"gateway_ms":0}"#
        );
        assert_eq!(serde_json::from_str::<Row>(&json).unwrap(), row);
    }
}
