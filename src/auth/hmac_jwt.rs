//! A short-lived HS256 token that names an access key and is signed with its secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::json::write::Writer;
use crate::time::Millis;

const LIFETIME_S: u64 = 1800;
/// Clocks differ: the token counts from a little before now.
const SKEW_S: u64 = 5;

/// The token for the access key `key` at `now`.
pub fn token(key: &str, secret: &str, now: Millis) -> Option<String> {
    let mut claims = Writer::object();
    claims.text("iss", key).count("exp", now.seconds().saturating_add(LIFETIME_S));
    claims.count("nbf", now.seconds().saturating_sub(SKEW_S));
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.close()));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(signed.as_bytes());
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_that_of_an_independent_implementation() {
        // node: crypto.createHmac('sha256', 'sk').update(head + '.' + claims).digest('base64url')
        let expected = concat!(
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.",
            "eyJpc3MiOiJhayIsImV4cCI6MTc5NTU3MjQzNCwibmJmIjoxNzk1NTcwNjI5fQ.",
            "1htLSRSvHBmS4EiYtuOMXLpUh2m9tLdrnzgGVxyaFOc"
        );
        let token = token("ak", "sk", Millis(1_795_570_634_000)).unwrap();
        assert_eq!(token, expected);
    }
}
