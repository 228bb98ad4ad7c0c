//! Sealing of what is kept for somebody: AES-256-GCM under a key that is made from a Worker secret.
//!
//! A sealed text is a nonce of twelve bytes, then the cipher text with its tag. What it belongs to (a workspace, a
//! provider, …) is associated data: moved elsewhere, it does not open.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;

const NONCE_BYTES: usize = 12;

/// A key for one purpose.
pub struct SealKey([u8; 32]);

impl SealKey {
    /// From a secret of any length. Two purposes have unrelated keys.
    pub fn derive(secret: &[u8], purpose: &str) -> SealKey {
        let mut key = [0; 32];
        // HMAC takes a key of any length, so this cannot fail.
        if let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(secret) {
            mac.update(purpose.as_bytes());
            key.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(to, from)| *to = from);
        }
        SealKey(key)
    }

    /// As it is.
    pub fn from_bytes(bytes: [u8; 32]) -> SealKey {
        SealKey(bytes)
    }

    /// Seals `plain` for `owner`. The nonce is random: with twelve bytes of chance a key is good for four billion texts.
    pub fn seal(&self, plain: &[u8], owner: &str, chance: [u8; 32]) -> Option<Vec<u8>> {
        let nonce = chance.get(..NONCE_BYTES)?;
        let payload = Payload { msg: plain, aad: owner.as_bytes() };
        let sealed = Aes256Gcm::new(&self.0.into()).encrypt(Nonce::from_slice(nonce), payload).ok()?;
        Some([nonce, &sealed].concat())
    }

    /// Opens what was sealed for `owner`; `None` where it was not, or not with this key.
    pub fn open(&self, sealed: &[u8], owner: &str) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES)?;
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        Aes256Gcm::new(&self.0.into()).decrypt(Nonce::from_slice(nonce), payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_and_the_owner_open_it() {
        let key = SealKey::derive(b"secret", "replay");
        let sealed = key.seal(b"plain", "ws_1", [7; 32]).unwrap();
        assert!(!sealed.windows(5).any(|bytes| bytes == b"plain"));
        assert_eq!(key.open(&sealed, "ws_1").as_deref(), Some(&b"plain"[..]));
        assert_eq!(key.open(&sealed, "ws_2"), None);
        assert_eq!(SealKey::derive(b"secret", "byok").open(&sealed, "ws_1"), None);
        assert_eq!(SealKey::derive(b"other", "replay").open(&sealed, "ws_1"), None);
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert_eq!(key.open(&bad, "ws_1"), None, "{at}");
        }
        assert_eq!(key.open(b"short", "ws_1"), None);
    }
}
