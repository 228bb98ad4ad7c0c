//! What a key may do: the projection of a key and its workspace that a request needs.

use serde::{Deserialize, Serialize};

use crate::id::{KeyId, WorkspaceId};
use crate::limits::budget::Budgets;
use crate::time::Millis;

/// Limits per minute and in parallel. `None` is no limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests admitted in any sixty seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Prompt and completion tokens in any sixty seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Requests in flight at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_requests: Option<u64>,
}

/// The read copy of one key. Stored in KV under the hash of its secret, so its JSON form is a contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The key.
    pub key: KeyId,
    /// The tenant that pays.
    pub workspace: WorkspaceId,
    /// The key's name, for its owner.
    pub name: String,
    /// The last characters of the secret.
    pub hint: String,
    /// From when on the key is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
    /// Switched off, can be switched on again.
    #[serde(default)]
    pub disabled: bool,
    /// Gone for good.
    #[serde(default)]
    pub revoked: bool,
    /// Models the key may call; empty is all. A trailing `*` matches any rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_models: Vec<String>,
    /// The key's own limits.
    #[serde(default)]
    pub limits: Limits,
    /// What it may spend.
    #[serde(default, skip_serializing_if = "Budgets::is_none")]
    pub budgets: Budgets,
    /// When the key was made.
    pub created_at: Millis,
    /// How often it was changed: of two copies the higher one is the newer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub version: u64,
    /// Which of the key's secrets this is for, counted from 0; in the record the newest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub secret: u64,
    /// Until when the secret before that works too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_until: Option<Millis>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Default for Policy {
    /// A key of nobody, for tests and as a start.
    fn default() -> Policy {
        Policy {
            key: KeyId::new(Millis(0), [0; 10]),
            workspace: WorkspaceId::new(Millis(0), [0; 10]),
            name: String::new(),
            hint: String::new(),
            expires_at: None,
            disabled: false,
            revoked: false,
            allowed_models: Vec::new(),
            limits: Limits::default(),
            budgets: Budgets::default(),
            created_at: Millis(0),
            version: 0,
            secret: 0,
            old_until: None,
        }
    }
}

/// Why a key is refused. The client is told only that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// May be used.
    Active,
    /// Past its expiry.
    Expired,
    /// Switched off.
    Disabled,
    /// Revoked.
    Revoked,
}

impl Policy {
    /// The state of the key at `now`.
    pub fn state(&self, now: Millis) -> KeyState {
        if self.revoked {
            KeyState::Revoked
        } else if self.disabled {
            KeyState::Disabled
        } else if self.expires_at.is_some_and(|at| now >= at) {
            KeyState::Expired
        } else {
            KeyState::Active
        }
    }

    /// The state of one of its secrets: the newest, the one before while that still works, and no other.
    pub fn state_of(&self, secret: u64, now: Millis) -> KeyState {
        let is_old = secret.checked_add(1) == Some(self.secret) && self.old_until.is_some_and(|until| now < until);
        match self.state(now) {
            KeyState::Active if secret != self.secret && !is_old => KeyState::Revoked,
            state => state,
        }
    }

    /// The copy for the secret before the newest: it expires when that stops.
    #[must_use]
    pub fn of_old_secret(&self) -> Policy {
        let until = self.old_until.unwrap_or(Millis(0));
        Policy {
            secret: self.secret.saturating_sub(1),
            expires_at: Some(self.expires_at.map_or(until, |at| at.min(until))),
            old_until: None,
            ..self.clone()
        }
    }

    /// Whether the key may call the model of that canonical id.
    pub fn may_call(&self, model: &str) -> bool {
        self.allowed_models.is_empty() || self.allowed_models.iter().any(|pattern| matches(pattern, model))
    }
}

/// `pattern` is a name, or a prefix followed by `*`.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            key: KeyId::new(Millis(1), [1; 10]),
            workspace: WorkspaceId::new(Millis(1), [2; 10]),
            name: "first".to_owned(),
            hint: "abcd".to_owned(),
            expires_at: Some(Millis(100)),
            disabled: false,
            revoked: false,
            allowed_models: vec!["openai/*".to_owned(), "a/b".to_owned()],
            limits: Limits { requests_per_minute: Some(5), ..Limits::default() },
            created_at: Millis(1),
            ..Policy::default()
        }
    }

    #[test]
    fn policy_format_is_unchanged() {
        let json = serde_json::to_string(&policy()).unwrap();
        assert_eq!(
            json,
            r#"{"key":"key_0000000001040G2081040G2081","workspace":"ws_0000000001081040G2081040G2","name":"first","hint":"abcd","expires_at":100,"disabled":false,"revoked":false,"allowed_models":["openai/*","a/b"],"limits":{"requests_per_minute":5},"created_at":1}"#
        );
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy());
    }

    #[test]
    fn states_in_order_of_finality() {
        let mut p = policy();
        assert_eq!((p.state(Millis(99)), p.state(Millis(100))), (KeyState::Active, KeyState::Expired));
        p.disabled = true;
        assert_eq!(p.state(Millis(1)), KeyState::Disabled);
        p.revoked = true;
        assert_eq!(p.state(Millis(1)), KeyState::Revoked);
    }

    #[test]
    fn the_old_secret_works_until_its_moment_and_no_longer() {
        let rotated = Policy { secret: 2, old_until: Some(Millis(50)), ..policy() };
        let of = |secret, now| rotated.state_of(secret, Millis(now));
        assert_eq!([of(2, 49), of(1, 49), of(0, 49)], [KeyState::Active, KeyState::Active, KeyState::Revoked]);
        assert_eq!([of(2, 50), of(1, 50), of(3, 49)], [KeyState::Active, KeyState::Revoked, KeyState::Revoked]);
        assert_eq!(of(2, 100), KeyState::Expired);
        let old = rotated.of_old_secret();
        assert_eq!(
            (old.secret, old.state(Millis(49)), old.state(Millis(50))),
            (1, KeyState::Active, KeyState::Expired)
        );
        assert_eq!(policy().of_old_secret().state(Millis(0)), KeyState::Expired, "never rotated: there is no old one");
    }

    #[test]
    fn allowed_models_match_by_name_or_prefix() {
        let p = policy();
        assert!(p.may_call("openai/gpt-4o") && p.may_call("a/b"));
        assert!(!p.may_call("a/bc") && !p.may_call("anthropic/x"));
    }
}
