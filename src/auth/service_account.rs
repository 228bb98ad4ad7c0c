//! The signed request for an access token of a Google service account.
//!
//! Source: Google Cloud, "Using OAuth 2.0 for server to server applications": a JWT signed with RS256, exchanged at the
//! token endpoint by the grant `urn:ietf:params:oauth:grant-type:jwt-bearer`.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::json::view::Node;
use crate::json::write::Writer;
use crate::time::Millis;

/// Where tokens are handed out.
pub const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const LIFETIME_S: u64 = 3600;

/// A service account's key, as the console writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    /// The private key, PKCS#8 in DER.
    pub key: Vec<u8>,
    /// Where its file says that tokens are handed out.
    pub token_url: String,
}

impl ServiceAccount {
    /// Reads the JSON of a key file; `None` where something is missing.
    pub fn parse(json: &str) -> Option<ServiceAccount> {
        let node = Node::parse(json)?;
        let text = |name: &str| node.text_at(name).filter(|text| !text.is_empty()).map(|text| text.into_owned());
        let pem = text("private_key")?;
        let body: String = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        Some(ServiceAccount {
            email: text("client_email")?,
            key_id: text("private_key_id"),
            key: STANDARD.decode(body).ok().filter(|key| !key.is_empty())?,
            token_url: text("token_uri").unwrap_or_else(|| TOKEN_URL.to_owned()),
        })
    }

    /// What has to be signed at `now` for tokens of `audience`.
    pub fn to_sign(&self, audience: &str, now: Millis) -> String {
        let mut head = Writer::object();
        head.text("alg", "RS256").text("typ", "JWT").text_if("kid", self.key_id.as_deref());
        let mut claims = Writer::object();
        claims.text("iss", &self.email).text("scope", SCOPE).text("aud", audience);
        claims.count("iat", now.seconds()).count("exp", now.seconds().saturating_add(LIFETIME_S));
        format!("{}.{}", URL_SAFE_NO_PAD.encode(head.close()), URL_SAFE_NO_PAD.encode(claims.close()))
    }

    /// The body that asks for a token.
    pub fn exchange(signed: &str, signature: &[u8]) -> Vec<u8> {
        let assertion = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        super::token::form(&[("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_read_and_its_claims_are_what_google_wants() {
        let file = r#"{"type":"service_account","client_email":"a@b.example","private_key_id":"k1",
            "private_key":"-----BEGIN PRIVATE KEY-----\nAAEC\nAwQF\n-----END PRIVATE KEY-----\n"}"#;
        let account = ServiceAccount::parse(file).unwrap();
        assert_eq!((account.key.as_slice(), account.token_url.as_str()), (&[0, 1, 2, 3, 4, 5][..], TOKEN_URL));
        let text = account.to_sign(TOKEN_URL, Millis(1_795_570_634_000));
        let part =
            |at: usize| String::from_utf8(URL_SAFE_NO_PAD.decode(text.split('.').nth(at).unwrap()).unwrap()).unwrap();
        assert_eq!(part(0), r#"{"alg":"RS256","typ":"JWT","kid":"k1"}"#);
        assert_eq!(
            part(1),
            r#"{"iss":"a@b.example","scope":"https://www.googleapis.com/auth/cloud-platform","aud":"https://oauth2.googleapis.com/token","iat":1795570634,"exp":1795574234}"#
        );
        let body = String::from_utf8(ServiceAccount::exchange("a.b", &[255, 255])).unwrap();
        assert_eq!(
            body,
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant%2Dtype%3Ajwt%2Dbearer&assertion=a%2Eb%2E%5F%5F8"
        );
        for bad in ["", "{}", r#"{"client_email":"a"}"#, r#"{"client_email":"a","private_key":"%%%"}"#] {
            assert_eq!(ServiceAccount::parse(bad), None, "{bad}");
        }
    }
}
