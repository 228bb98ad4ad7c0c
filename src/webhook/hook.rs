//! One webhook as it is stored.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{HookId, WorkspaceId};
use crate::seal::SealKey;
use crate::time::Millis;
use crate::webhook::event::Kind;

/// Most secrets that sign at once.
const SECRETS_MAX: usize = 3;
const PURPOSE: &str = "webhook";

/// Whether anything is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Yes.
    Enabled,
    /// Its owner switched it off.
    Disabled,
    /// Its receiver said that it is gone (410).
    Gone,
}

impl State {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            State::Enabled => "enabled",
            State::Disabled => "disabled",
            State::Gone => "gone",
        }
    }
}

/// A secret, sealed, and until when it signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// base64.
    pub sealed: String,
    /// `None`: until it is replaced.
    pub until: Option<Millis>,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Its id.
    pub id: HookId,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// Where deliveries go.
    pub url: String,
    /// Its name, for its owner.
    pub name: String,
    /// What it is told of; empty: everything.
    pub events: Vec<Kind>,
    /// Whether anything is sent.
    pub state: State,
    /// Newest first.
    pub secrets: Vec<Secret>,
    /// When it was made.
    pub created_at: Millis,
}

impl Hook {
    /// Columns of a row, in the order of the statements that read it.
    pub const COLUMNS: &'static str = "id, workspace, url, name, events, state, secrets, created_at";

    /// From a row of D1.
    pub fn parse(row: &Value) -> Option<Hook> {
        let text = |name: &str| row.get(name)?.as_str();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds since the epoch")]
        let created = row.get("created_at")?.as_f64()?.max(0.0) as u64;
        Some(Hook {
            id: HookId::parse(text("id")?)?,
            workspace: WorkspaceId::parse(text("workspace")?)?,
            url: text("url")?.to_owned(),
            name: text("name")?.to_owned(),
            events: crate::json::from_str(text("events")?).ok()?,
            state: crate::json::from_str(&row.get("state")?.to_string()).ok()?,
            secrets: crate::json::from_str(text("secrets")?).ok()?,
            created_at: Millis(created),
        })
    }

    /// Whether it is told of such events.
    pub fn hears(&self, kind: Kind) -> bool {
        kind == Kind::Test || self.events.is_empty() || self.events.contains(&kind)
    }

    fn owner(&self) -> String {
        format!("{}/{}", self.workspace, self.id)
    }

    /// Puts a new secret first; those before it sign until `until` at the latest. `None` where it cannot be sealed.
    pub fn renew(&mut self, secret: &str, pepper: &[u8], chance: [u8; 32], until: Millis, now: Millis) -> Option<()> {
        let sealed = SealKey::derive(pepper, PURPOSE).seal(secret.as_bytes(), &self.owner(), chance)?;
        self.secrets.iter_mut().for_each(|old| old.until = Some(old.until.map_or(until, |own| own.min(until))));
        self.secrets.retain(|old| old.until.is_none_or(|until| until > now));
        self.secrets.insert(0, Secret { sealed: STANDARD.encode(sealed), until: None });
        self.secrets.truncate(SECRETS_MAX);
        Some(())
    }

    /// The secrets that sign at `now`.
    pub fn open(&self, pepper: &[u8], now: Millis) -> Vec<String> {
        let key = SealKey::derive(pepper, PURPOSE);
        let valid = self.secrets.iter().filter(|secret| secret.until.is_none_or(|until| until > now));
        let open = |secret: &Secret| {
            let plain = key.open(&STANDARD.decode(&secret.sealed).ok()?, &self.owner())?;
            String::from_utf8(plain).ok()
        };
        valid.filter_map(open).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hook() -> Hook {
        let row = json!({"id": "wh_01KAXKQ5DB0W3GE1R70W3GE1R7", "workspace": "ws_01KAXKQ5DB0W3GE1R70W3GE1R7",
            "url": "https://a.dev/x", "name": "ours", "events": "[\"key.revoked\"]", "state": "enabled", "secrets": "[]", "created_at": 5.0});
        Hook::parse(&row).unwrap()
    }

    #[test]
    fn it_hears_what_it_asked_for() {
        let mut hook = hook();
        assert!(hook.hears(Kind::KeyRevoked) && hook.hears(Kind::Test) && !hook.hears(Kind::BalanceLow));
        hook.events.clear();
        assert!(Kind::ALL.into_iter().all(|kind| hook.hears(kind)));
    }

    #[test]
    fn an_old_secret_signs_until_its_overlap_is_over() {
        let mut hook = hook();
        hook.renew("whsec_1", b"pepper", [1; 32], Millis(0), Millis(0)).unwrap();
        assert_eq!(hook.open(b"pepper", Millis(1)), ["whsec_1"]);
        hook.renew("whsec_2", b"pepper", [2; 32], Millis(100), Millis(50)).unwrap();
        assert_eq!(hook.open(b"pepper", Millis(99)), ["whsec_2", "whsec_1"]);
        assert_eq!(hook.open(b"pepper", Millis(100)), ["whsec_2"]);
        assert!(hook.open(b"other", Millis(99)).is_empty());
        for n in 3..9u8 {
            hook.renew(&format!("whsec_{n}"), b"pepper", [n; 32], Millis(1_000), Millis(60)).unwrap();
        }
        assert_eq!(hook.open(b"pepper", Millis(99)), ["whsec_8", "whsec_7", "whsec_6"]);
        let other = Hook { id: HookId::new(Millis(9), [0; 10]), ..hook };
        assert!(other.open(b"pepper", Millis(99)).is_empty(), "sealed for one webhook");
    }
}
