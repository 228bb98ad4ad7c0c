//! Entity tags of stored records (RFC 9110, sections 8.8.3 and 13.1.1): strong, of exactly what is stored.

use sha2::{Digest, Sha256};

use crate::access::key::hex;
use crate::error::{Code, Failure};

/// Bytes of the hash that are shown.
const SHOWN_BYTES: usize = 12;

/// The tag of a record's stored text.
pub fn of(stored: &str) -> String {
    let hash = Sha256::digest(stored.as_bytes());
    format!("\"{}\"", hex(hash.get(..SHOWN_BYTES).unwrap_or_default()))
}

/// Whether a list of tags (`If-Match`) holds `tag`. Weak tags match nothing: the comparison is the strong one.
pub fn holds(list: &str, tag: &str) -> bool {
    list.split(',').map(str::trim).any(|one| one == "*" || one == tag)
}

/// Refuses where the client has seen another version than the one that is there.
///
/// # Errors
/// 409 about `if-match`.
pub fn expect(if_match: Option<&str>, tag: &str) -> Result<(), Failure> {
    match if_match {
        Some(list) if !holds(list, tag) => {
            let why = "this was changed since it was read: read it again and repeat the change";
            Err(Failure::new(Code::IdempotencyConflict, why).about("if-match"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_changes_with_every_byte_and_only_strong_ones_match() {
        let tag = of("{}");
        assert_eq!(tag, "\"44136fa355b3678a1146ad16\"");
        assert_ne!(tag, of("{ }"));
        let cases = [
            (tag.clone(), true),
            ("*".to_owned(), true),
            (format!("\"other\", {tag}"), true),
            ("\"other\"".to_owned(), false),
            (format!("W/{tag}"), false),
            (String::new(), false),
        ];
        for (list, fits) in cases {
            assert_eq!(holds(&list, &tag), fits, "{list}");
            assert_eq!(expect(Some(&list), &tag).is_ok(), fits, "{list}");
        }
        assert_eq!(expect(None, &tag), Ok(()));
        assert_eq!(expect(Some("\"a\""), &tag).unwrap_err().param.as_deref(), Some("if-match"));
    }
}
