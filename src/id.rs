//! Identifiers: one newtype per kind. Nothing else makes one from a string.
//!
//! An id is a prefix and a ULID (48 bits of time, 80 of chance, Crockford base 32): sortable by creation, and unique
//! without coordination.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Millis;

macro_rules! ids {
    ($($name:ident $prefix:literal $doc:literal;)*) => {$(
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The prefix of this kind of id.
            pub const PREFIX: &'static str = $prefix;

            /// A new id from the moment of creation and 80 bits of chance.
            pub fn new(now: Millis, chance: [u8; 10]) -> $name {
                $name(format!(concat!($prefix, "{}"), ulid_text(now, chance)))
            }

            /// Parses an id; `None` when the form is not this kind's.
            pub fn parse(text: &str) -> Option<$name> {
                let body = text.strip_prefix($prefix)?;
                let fits = body.len() == 26 && body.bytes().all(is_ulid_digit);
                fits.then(|| $name(text.to_owned()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str { &self.0 }

            /// The moment this id was made.
            pub fn created(&self) -> Millis {
                let body = self.0.get($prefix.len()..).unwrap_or_default();
                Millis(ulid::Ulid::from_string(body).map(|id| id.timestamp_ms()).unwrap_or(0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                $name::parse(&text).ok_or_else(|| serde::de::Error::custom(concat!("not an id of the form ", $prefix, "…")))
            }
        }
    )*};
}

ids! {
    RequestId "gen_" "One request, and the generation that records it.";
    WorkspaceId "ws_" "A paying tenant.";
    KeyId "key_" "An API key of a workspace (not its secret).";
    CredentialId "byok_" "A customer's own credential (not its secret).";
    AuditId "aud_" "A change by an administrator.";
    ManagementKeyId "mk_" "A key that administers one workspace (not its secret).";
    HookId "wh_" "A webhook (not its secret).";
    EntryId "le_" "A ledger entry that no request made: a grant, an adjustment.";
}

fn ulid_text(now: Millis, chance: [u8; 10]) -> String {
    let mut wide = [0u8; 16];
    for (to, from) in wide.iter_mut().skip(6).zip(chance) {
        *to = from;
    }
    ulid::Ulid::from_parts(now.0, u128::from_be_bytes(wide)).to_string()
}

fn is_ulid_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'H' | b'J' | b'K' | b'M' | b'N' | b'P'..=b'T' | b'V'..=b'Z')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_its_kind_and_its_moment() {
        let id = RequestId::new(Millis(1_795_570_634_123), [7; 10]);
        assert_eq!(RequestId::parse(id.as_str()), Some(id.clone()));
        assert_eq!(id.created(), Millis(1_795_570_634_123));
        assert_eq!(WorkspaceId::parse(id.as_str()), None);
        assert_eq!(RequestId::parse("gen_short"), None);
        assert_eq!(RequestId::parse("gen_01KAXKQ5DB0W3GE1R70W3GE1RI"), None, "I is no digit");
    }

    #[test]
    fn ids_sort_by_creation() {
        assert!(KeyId::new(Millis(1), [255; 10]) < KeyId::new(Millis(2), [0; 10]));
    }
}
