//! A provider as a request needs it: where it is, how it is asked, and what is odd about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::family::quirk::Quirk;

/// Who serves models over one API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// The id in names, routing settings and receipts.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// Where the company sits, ISO 3166.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Where its API begins, without a trailing slash.
    pub base_url: String,
    /// The families it speaks, the preferred one first.
    pub families: Vec<String>,
    /// How a credential is sent.
    pub auth: Auth,
    /// The name of the secret that holds the gateway's own credential. None: the provider wants no credential, and no
    /// auth header is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    /// Where it processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// What it does with prompts; none where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_policy: Option<DataPolicy>,
    /// Its deviations from its family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quirks: Vec<Quirk>,
}

/// How a credential is sent: `{header}: {prefix}{credential}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The header's name.
    pub header: String,
    /// What stands before the credential, its space included.
    #[serde(default)]
    pub prefix: String,
    /// Further headers that go with every call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_headers: BTreeMap<String, String>,
}

impl Default for Auth {
    /// `Authorization: Bearer …`.
    fn default() -> Auth {
        Auth { header: "Authorization".into(), prefix: "Bearer ".into(), extra_headers: BTreeMap::new() }
    }
}

/// What a provider says it does with the prompts of API customers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataPolicy {
    /// Whether it trains on them.
    pub trains_on_api_data: Training,
    /// How long it keeps them; none where it does not say.
    #[serde(default)]
    pub retention_days: Option<u32>,
    /// Whether it can keep nothing at all.
    pub zero_retention: ZeroRetention,
}

/// Whether a provider trains on prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Training {
    /// It does not.
    No,
    /// It may, unless the customer switches that off.
    OptOut,
    /// It may.
    May,
    /// It does not say.
    Unknown,
}

/// Whether a provider can keep nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroRetention {
    /// It always keeps nothing.
    Default,
    /// For customers who ask.
    OnRequest,
    /// It cannot.
    None,
    /// It does not say.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_json_format_is_unchanged() {
        let json = concat!(
            r#"{"id":"acme","name":"Acme","base_url":"https://acme.example/v1","families":["openai-chat"],"#,
            r#""auth":{"header":"Authorization","prefix":"Bearer "},"key_env":"ACME_KEY","data_policy":"#,
            r#"{"trains_on_api_data":"opt_out","retention_days":null,"zero_retention":"on_request"},"#,
            r#""quirks":["developer_as_system",{"rename":["max_completion_tokens","max_tokens"]},{"drop":["store"]}]}"#,
        );
        let provider: Provider = serde_json::from_str(json).unwrap();
        assert_eq!(provider.auth, Auth::default());
        assert_eq!(provider.quirks[2], Quirk::Drop(vec!["store".into()]));
        assert_eq!(serde_json::to_string(&provider).unwrap(), json);
    }
}
