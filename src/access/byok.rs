//! Customers' own credentials: what is kept of them, and how they are sealed.
//!
//! A credential is sealed with AES-256-GCM under a key derived from a Worker secret of its own. `BYOK_SECRETS` holds one
//! or more of them, newest first, each as `id:secret`; without it nothing is kept. What was sealed before that was so opens
//! under `KEY_HASH_SECRET`, by the id `0`, until it is sealed anew. The sealed text begins with the id, so that a secret can be rotated: everything is sealed anew under the first one, and then the
//! old one is taken out. Workspace and provider are associated data: moved elsewhere, a credential does not open.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::access::policy::matches;
use crate::catalog::Provider;
use crate::id::{CredentialId, WorkspaceId};
use crate::seal::SealKey;

/// When a credential is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Before the gateway's own.
    #[default]
    First,
    /// After the gateway's own have failed.
    Fallback,
}

/// The credential itself: never shown, never logged, only sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The key, or the key file's JSON.
    pub key: String,
    /// Further parts by the names that the provider's file gives its variables.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
}

impl Credential {
    /// The value of a secret or variable of `provider` by its name in the environment. What the customer did not give has
    /// no value: the gateway's own parts do not go with it.
    pub fn value(&self, provider: &Provider, env: &str) -> Option<String> {
        if provider.key_env.as_deref() == Some(env) {
            return Some(self.key.clone());
        }
        let (name, _) = provider.variables.iter().find(|(_, variable)| variable.env == env)?;
        self.variables.get(name).cloned()
    }
}

/// What is known of a credential besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its name, for its owner.
    pub name: String,
    /// When it is used.
    #[serde(default, rename = "use")]
    pub usage: Use,
    /// Only for these models; a trailing `*` matches any rest.
    #[serde(default)]
    pub models: Vec<String>,
    /// Only for these keys of the workspace.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Its last characters.
    #[serde(default)]
    pub hint: String,
    /// Switched on.
    pub enabled: bool,
}

/// A credential as a request finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnKey {
    /// Its id.
    pub id: CredentialId,
    /// Whose host it is for.
    pub provider: String,
    /// What is known of it.
    pub about: About,
    /// The credential, sealed.
    pub sealed: String,
}

impl OwnKey {
    /// Whether it may be used by that key for that model at that provider.
    pub fn serves(&self, provider: &str, model: &str, key: &str) -> bool {
        let is_in = |list: &[String], name: &str| list.is_empty() || list.iter().any(|pattern| matches(pattern, name));
        self.about.enabled
            && self.provider == provider
            && is_in(&self.about.models, model)
            && is_in(&self.about.keys, key)
    }

    /// Opens it.
    pub fn open(&self, secrets: &Secrets, workspace: &WorkspaceId) -> Option<Credential> {
        let bytes = secrets.open(&self.sealed, workspace, &self.provider)?;
        crate::json::from_bytes(&bytes)
    }
}

/// The Worker secrets that seal, newest first.
pub struct Secrets {
    own: Vec<(String, String)>,
    /// Opens what was sealed before `BYOK_SECRETS` was needed; seals nothing.
    former: Option<(String, String)>,
}

impl Secrets {
    /// From the values of `BYOK_SECRETS` and `KEY_HASH_SECRET`.
    pub fn read(own: Option<&str>, former: Option<&str>) -> Secrets {
        let listed = own.into_iter().flat_map(|text| text.split(',')).filter_map(|one| one.trim().split_once(':'));
        let own = listed.map(|(id, secret)| (id.to_owned(), secret.to_owned()));
        let own = own.filter(|(id, secret)| !id.is_empty() && !secret.is_empty()).collect();
        Secrets { own, former: former.map(|secret| ("0".to_owned(), secret.to_owned())) }
    }

    /// Whether there is a secret to seal under.
    pub fn can_seal(&self) -> bool {
        !self.own.is_empty()
    }

    fn owner(workspace: &WorkspaceId, provider: &str) -> String {
        format!("{workspace}/{provider}")
    }

    /// Seals a credential under the newest secret; `None` where there is none.
    pub fn seal(&self, credential: &[u8], workspace: &WorkspaceId, provider: &str, chance: [u8; 32]) -> Option<String> {
        let (id, secret) = self.own.first()?;
        let key = SealKey::derive(secret.as_bytes(), "byok");
        let sealed = key.seal(credential, &Secrets::owner(workspace, provider), chance)?;
        Some(format!("{id}:{}", STANDARD.encode(sealed)))
    }

    /// Opens a sealed credential.
    pub fn open(&self, sealed: &str, workspace: &WorkspaceId, provider: &str) -> Option<Vec<u8>> {
        let (id, text) = sealed.split_once(':')?;
        let (_, secret) = self.own.iter().chain(&self.former).find(|(known, _)| known == id)?;
        let bytes = STANDARD.decode(text).ok()?;
        SealKey::derive(secret.as_bytes(), "byok").open(&bytes, &Secrets::owner(workspace, provider))
    }

    /// Whether it is sealed under the newest secret.
    pub fn is_current(&self, sealed: &str) -> bool {
        let newest = self.own.first().map(|(id, _)| id.as_str());
        sealed.split_once(':').map(|(id, _)| id) == newest
    }
}

/// The last four characters of a key that is long enough to show some.
pub fn hint(key: &str) -> String {
    let chars: Vec<char> = key.trim().chars().collect();
    if chars.len() < 16 { String::new() } else { chars.iter().rev().take(4).rev().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;

    #[test]
    fn a_secret_can_be_rotated_and_nothing_opens_elsewhere() {
        let (one, two) = (WorkspaceId::new(Millis(1), [1; 10]), WorkspaceId::new(Millis(1), [2; 10]));
        let old = Secrets::read(Some("a:first"), None);
        let sealed = old.seal(b"sk-1", &one, "p", [3; 32]).unwrap();
        assert!(sealed.starts_with("a:") && !sealed.contains("sk-1"));
        let both = Secrets::read(Some("b:second, a:first"), None);
        assert_eq!(both.open(&sealed, &one, "p").as_deref(), Some(&b"sk-1"[..]));
        assert!(!both.is_current(&sealed) && old.is_current(&sealed));
        let renewed = both.seal(&both.open(&sealed, &one, "p").unwrap(), &one, "p", [4; 32]).unwrap();
        let new = Secrets::read(Some("b:second"), None);
        assert_eq!((new.open(&renewed, &one, "p").is_some(), new.open(&sealed, &one, "p")), (true, None));
        assert_eq!((new.open(&renewed, &two, "p"), new.open(&renewed, &one, "q")), (None, None));
        assert_eq!(Secrets::read(None, None).seal(b"x", &one, "p", [0; 32]), None);
        let former = Secrets::read(Some("0:pepper"), None).seal(b"x", &one, "p", [0; 32]).unwrap();
        let without = Secrets::read(None, Some("pepper"));
        assert_eq!(without.seal(b"x", &one, "p", [0; 32]), None, "the pepper of the keys seals nothing");
        assert_eq!(without.open(&former, &one, "p").as_deref(), Some(&b"x"[..]), "and opens what it had sealed");
        assert!(!Secrets::read(Some("a:first"), Some("pepper")).is_current(&former));
        assert_eq!(Secrets::read(Some("a:, :b,"), None).seal(b"x", &one, "p", [0; 32]), None);
    }

    #[test]
    fn limits_narrow_who_may_use_it() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let own = |models: &[&str], keys: &[&str], enabled| OwnKey {
            id: CredentialId::new(Millis(0), [0; 10]),
            provider: "p".to_owned(),
            about: About {
                name: "n".into(),
                usage: Use::First,
                models: list(models),
                keys: list(keys),
                hint: String::new(),
                enabled,
            },
            sealed: String::new(),
        };
        assert!(own(&[], &[], true).serves("p", "a/b", "key_1"));
        assert!(own(&["a/*"], &["key_1"], true).serves("p", "a/b", "key_1"));
        for (key, model, by) in [("q", "a/b", "key_1"), ("p", "b/b", "key_1"), ("p", "a/b", "key_2")] {
            assert!(!own(&["a/*"], &["key_1"], true).serves(key, model, by));
        }
        assert!(!own(&[], &[], false).serves("p", "a/b", "key_1"));
        assert_eq!((hint("sk-0123456789abcdef"), hint("short")), ("cdef".to_owned(), String::new()));
    }
}
