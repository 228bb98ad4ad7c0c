//! Events: what happened, once. Each has an id that is the same however often it is told, so that nobody counts it twice.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::time::Millis;

/// Bytes of a digest that make an id.
const ID_BYTES: usize = 16;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The balance is at or below the threshold of the workspace's settings.
    #[serde(rename = "balance.low")]
    BalanceLow,
    /// So many percent of a budget are spent, or what is left of it did not cover a request (100).
    #[serde(rename = "budget.reached")]
    BudgetReached,
    /// A key was revoked.
    #[serde(rename = "key.revoked")]
    KeyRevoked,
    /// Offers of a provider fail: their breakers opened.
    #[serde(rename = "provider.outage")]
    ProviderOutage,
    /// A generation that outlives its request has ended.
    #[serde(rename = "generation.finished")]
    GenerationFinished,
    /// Somebody asked for a test delivery.
    #[serde(rename = "webhook.test")]
    Test,
}

impl Kind {
    /// Those that can be subscribed to.
    pub const ALL: [Kind; 5] =
        [Kind::BalanceLow, Kind::BudgetReached, Kind::KeyRevoked, Kind::ProviderOutage, Kind::GenerationFinished];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::BalanceLow => "balance.low",
            Kind::BudgetReached => "budget.reached",
            Kind::KeyRevoked => "key.revoked",
            Kind::ProviderOutage => "provider.outage",
            Kind::GenerationFinished => "generation.finished",
            Kind::Test => "webhook.test",
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its id, `evt_…`.
    pub id: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// When.
    pub at: Millis,
    /// To whom and how much. Never a prompt, a completion or a secret.
    pub data: Value,
}

impl Event {
    /// An event. `subject` says of what it is: the same kind and subject make the same id.
    pub fn new(kind: Kind, subject: &[&str], at: Millis, data: Value) -> Event {
        let mut digest = Sha256::new();
        for part in [kind.name()].iter().chain(subject) {
            digest.update(part.as_bytes());
            digest.update([0]);
        }
        let hex: String = digest.finalize().iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect();
        Event { id: format!("evt_{hex}"), kind, at, data }
    }

    /// The body of its delivery.
    pub fn body(&self) -> String {
        json!({"type": self.kind.name(), "timestamp": self.at.to_rfc3339(), "data": self.data}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_once_has_one_id() {
        let event = |subject: &[&str], at| Event::new(Kind::KeyRevoked, subject, Millis(at), json!({}));
        assert_eq!(event(&["ws_1", "key_1"], 1).id, event(&["ws_1", "key_1"], 2).id);
        assert_ne!(event(&["ws_1", "key_1"], 1).id, event(&["ws_1key_", "1"], 1).id);
        assert_eq!(event(&["a"], 1).id.len(), 36);
    }

    #[test]
    fn stored_form_and_body_are_unchanged() {
        let event = Event { id: "evt_1".to_owned(), ..Event::new(Kind::BalanceLow, &[], Millis(5), json!({"a": 1})) };
        let stored = r#"{"id":"evt_1","type":"balance.low","at":5,"data":{"a":1}}"#;
        assert_eq!(serde_json::to_string(&event).unwrap(), stored);
        assert_eq!(serde_json::from_str::<Event>(stored).unwrap(), event);
        let body: Value = serde_json::from_str(&event.body()).unwrap();
        assert_eq!(body, json!({"type": "balance.low", "timestamp": "1970-01-01T00:00:00.005Z", "data": {"a": 1}}));
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), json!(kind.name()));
        }
    }
}
