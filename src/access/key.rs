//! The secret of an API key: `aisg_`, 43 base-62 digits that hold 256 random bits, six digits of CRC-32.
//!
//! The prefix and the checksum let secret scanners find leaks, and let a stranger's request end before anything of it
//! is parsed or looked up. Only a keyed hash (HMAC-SHA-256 under a Worker secret) is ever stored.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// What every key begins with.
pub const PREFIX: &str = "aisg_";
/// What every management key begins with.
pub const MANAGEMENT_PREFIX: &str = "aisgm_";
const BODY_DIGITS: usize = 43;
const CHECK_DIGITS: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Makes a secret from 256 random bits.
pub fn write(random: [u8; 32]) -> String {
    written(PREFIX, random)
}

/// The same for a management key.
pub fn write_management(random: [u8; 32]) -> String {
    written(MANAGEMENT_PREFIX, random)
}

fn written(prefix: &str, random: [u8; 32]) -> String {
    let body = base62(&random, BODY_DIGITS);
    let check = checksum(&body);
    format!("{prefix}{body}{check}")
}

/// Whether a text has the form and the checksum of a key. Says nothing about its being known.
pub fn is_well_formed(text: &str) -> bool {
    fits(PREFIX, text)
}

/// The same for a management key.
pub fn is_management(text: &str) -> bool {
    fits(MANAGEMENT_PREFIX, text)
}

fn fits(prefix: &str, text: &str) -> bool {
    let Some(rest) = text.strip_prefix(prefix) else { return false };
    if rest.len() != BODY_DIGITS + CHECK_DIGITS || !rest.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return false;
    }
    let (Some(body), Some(check)) = (rest.get(..BODY_DIGITS), rest.get(BODY_DIGITS..)) else { return false };
    checksum(body) == check
}

/// The keys, of both kinds, that stand anywhere in a text, each once.
pub fn found_in(text: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for prefix in [PREFIX, MANAGEMENT_PREFIX] {
        for (at, _) in text.match_indices(prefix) {
            let whole = text.get(at..at.saturating_add(prefix.len() + BODY_DIGITS + CHECK_DIGITS));
            if let Some(key) = whole.filter(|key| fits(prefix, key) && !found.contains(key)) {
                found.push(key);
            }
        }
    }
    found
}

/// The stored form of a secret: HMAC-SHA-256 under `pepper`, in hex.
pub fn hash(secret: &str, pepper: &[u8]) -> String {
    hash_of(&[secret.as_bytes()], pepper)
}

/// The same of bytes in pieces.
pub fn hash_of(pieces: &[&[u8]], pepper: &[u8]) -> String {
    // HMAC takes a key of any length, so this cannot fail; an empty answer matches no stored hash.
    let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(pepper) else { return String::new() };
    pieces.iter().for_each(|piece| mac.update(piece));
    hex(&mac.finalize().into_bytes())
}

/// Compares two secrets without telling by time where they differ.
pub fn is_same_secret(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut out, byte| {
        out.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        out.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        out
    })
}

/// The last four characters, to recognise a key in a list.
pub fn hint(secret: &str) -> String {
    secret.get(secret.len().saturating_sub(4)..).unwrap_or_default().to_owned()
}

fn base62(bytes: &[u8], digits: usize) -> String {
    let mut number: Vec<u8> = bytes.to_vec();
    let mut out = vec![b'0'; digits];
    for digit in out.iter_mut().rev() {
        let mut rest = 0u32;
        for byte in &mut number {
            let value = (rest << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(0);
            rest = value % 62;
        }
        *digit = usize::try_from(rest).ok().and_then(|i| DIGITS.get(i)).copied().unwrap_or(b'0');
    }
    out.into_iter().map(char::from).collect()
}

fn checksum(body: &str) -> String {
    let crc = crc32fast::hash(body.as_bytes());
    base62(&crc.to_be_bytes(), CHECK_DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_key_is_well_formed_and_no_other_is() {
        let key = write([9; 32]);
        assert_eq!(key.len(), PREFIX.len() + BODY_DIGITS + CHECK_DIGITS);
        assert!(is_well_formed(&key), "{key}");
        assert!(is_well_formed(&write([0; 32])) && is_well_formed(&write([255; 32])));
        for (at, _) in key.char_indices() {
            let mut other: Vec<char> = key.chars().collect();
            other[at] = if other[at] == 'x' { 'y' } else { 'x' };
            assert!(!is_well_formed(&other.into_iter().collect::<String>()), "changed at {at}");
        }
        for text in ["", "aisg_", "sk-123", &format!("{key}a"), &key[..key.len() - 1], "aisg_ü"] {
            assert!(!is_well_formed(text), "{text}");
        }
    }

    #[test]
    fn keys_are_found_wherever_they_stand() {
        let (a, b) = (write([1; 32]), write([2; 32]));
        let text = format!(r#"[{{"token":"{a}"}}] Bearer {b}, again {a}; aisg_ aisg_{}"#, &a[6..]);
        assert_eq!(found_in(&text), [a.as_str(), b.as_str()]);
        let managing = write_management([3; 32]);
        assert_eq!(found_in(&format!("{managing} {a}")), [a.as_str(), managing.as_str()]);
        assert!(is_management(&managing) && !is_management(&a) && !is_well_formed(&managing));
        assert!(found_in("aisg_üaisg_").is_empty());
    }

    #[test]
    fn all_256_bits_are_kept() {
        assert_ne!(
            write([0; 32]),
            write({
                let mut r = [0; 32];
                r[31] = 1;
                r
            })
        );
        assert_ne!(
            write([0; 32]),
            write({
                let mut r = [0; 32];
                r[0] = 128;
                r
            })
        );
    }

    #[test]
    fn the_hash_depends_on_secret_and_pepper() {
        assert_eq!(hash("key", b"pepper").len(), 64);
        assert_ne!(hash("key", b"pepper"), hash("key", b"other"));
        assert_ne!(hash("key", b"pepper"), hash("kez", b"pepper"));
        assert!(is_same_secret("a", "a") && !is_same_secret("a", "b") && !is_same_secret("a", "ab"));
    }
}
