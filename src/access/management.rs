//! Management keys: what a workspace's own administrators may do. Each key is of one workspace and may read, or read and
//! write, the resources that it names; the operator's token may do everything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{ManagementKeyId, WorkspaceId};
use crate::time::Millis;

macro_rules! resources {
    ($($variant:ident $name:literal;)*) => {
        /// What of a workspace a management key may be allowed to read or write.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[allow(missing_docs, reason = "each is its own name")]
        pub enum Resource { $(#[serde(rename = $name)] $variant,)* }

        impl Resource {
            /// All of them.
            pub const ALL: &'static [Resource] = &[$(Resource::$variant,)*];
            /// The name in scopes and audit rows.
            pub const fn name(self) -> &'static str { match self { $(Resource::$variant => $name,)* } }
        }
    };
}

resources! {
    Workspace "workspace";
    Keys "keys";
    ManagementKeys "management-keys";
    Credits "credits";
    Presets "presets";
    Settings "settings";
    Byok "byok";
    Activity "activity";
    Analytics "analytics";
    Prompts "prompts";
    Retention "retention";
    Webhooks "webhooks";
    Audit "audit";
}

/// How far an allowance goes; who may write may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Look.
    Read,
    /// Look and change.
    Write,
}

impl Access {
    /// The name in scopes.
    pub const fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
        }
    }
}

/// What a management key may do, by resource; what is not named it may not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(pub BTreeMap<Resource, Access>);

impl Scopes {
    /// Whether this is allowed.
    pub fn allow(&self, resource: Resource, access: Access) -> bool {
        self.0.get(&resource).is_some_and(|allowed| *allowed >= access)
    }

    /// The first thing that `other` allows and this does not.
    pub fn lack(&self, other: &Scopes) -> Option<(Resource, Access)> {
        other.0.iter().map(|(resource, access)| (*resource, *access)).find(|(r, a)| !self.allow(*r, *a))
    }
}

/// A management key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagementKey {
    /// Its id.
    pub id: ManagementKeyId,
    /// The one workspace it is for.
    pub workspace: WorkspaceId,
    /// Its name, for its owner.
    pub name: String,
    /// The last characters of its secret.
    pub hint: String,
    /// What it may do.
    pub scopes: Scopes,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
    /// When it was made.
    pub created_at: Millis,
    /// By whom: the operator, or another management key.
    pub created_by: String,
}

impl ManagementKey {
    /// Why a key like `other` cannot be made by this one: the field at fault.
    pub fn refuses(&self, scopes: &Scopes, expires_at: Option<Millis>) -> Option<String> {
        if let Some((resource, _)) = self.scopes.lack(scopes) {
            return Some(format!("scopes.{}", resource.name()));
        }
        let outlives = self.expires_at.is_some_and(|own| expires_at.is_none_or(|other| other > own));
        outlives.then(|| "expires_at".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scopes(value: serde_json::Value) -> Scopes {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn writing_includes_reading_and_nothing_else() {
        let some = scopes(json!({"keys": "write", "credits": "read"}));
        for resource in Resource::ALL {
            let is = |access| some.allow(*resource, access);
            let expected = match resource {
                Resource::Keys => (true, true),
                Resource::Credits => (true, false),
                _ => (false, false),
            };
            assert_eq!((is(Access::Read), is(Access::Write)), expected, "{}", resource.name());
            assert_eq!(json!(resource), json!(resource.name()));
        }
        assert!(serde_json::from_value::<Scopes>(json!({"everything": "write"})).is_err());
        assert!(serde_json::from_value::<Scopes>(json!({"keys": "own"})).is_err());
    }

    #[test]
    fn no_key_makes_a_wider_or_longer_one() {
        let own = ManagementKey {
            id: ManagementKeyId::new(Millis(1), [1; 10]),
            workspace: WorkspaceId::new(Millis(1), [2; 10]),
            name: String::new(),
            hint: String::new(),
            scopes: scopes(json!({"keys": "write", "credits": "read"})),
            expires_at: Some(Millis(100)),
            created_at: Millis(1),
            created_by: "operator".to_owned(),
        };
        let of = |value, at| own.refuses(&scopes(value), at).unwrap_or_default();
        let soon = Some(Millis(100));
        assert_eq!(of(json!({"keys": "write", "credits": "read"}), soon), "");
        assert_eq!(of(json!({"keys": "read"}), soon), "");
        assert_eq!(of(json!({"credits": "write"}), soon), "scopes.credits");
        assert_eq!(of(json!({"keys": "read", "presets": "read"}), soon), "scopes.presets");
        assert_eq!((of(json!({}), None), of(json!({}), Some(Millis(101)))), ("expires_at".into(), "expires_at".into()));
    }
}
