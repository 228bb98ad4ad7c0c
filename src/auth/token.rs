//! Access tokens that a provider's own endpoint hands out for a credential: how they are asked for, and until when one
//! may be used.

use std::collections::HashMap;

use crate::json::view::Node;
use crate::time::Millis;

/// A token is asked for anew this long before it ends, in milliseconds.
const MARGIN_MS: u64 = 60_000;
/// How long a token is believed to last where its issuer does not say, in milliseconds.
const UNSTATED_MS: u64 = 600_000;
/// How many tokens an isolate remembers.
const TOKENS_MAX: usize = 500;

/// A token, and until when to use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The token.
    pub value: String,
    /// Not from then on.
    pub until: Millis,
}

impl Token {
    /// Reads the answer of a token endpoint: `access_token`, and its end as `expires_in` seconds or as `expiration`
    /// (seconds since the epoch) or `expires_at` (the same, or milliseconds).
    pub fn read(answer: &str, now: Millis) -> Option<Token> {
        let node = Node::parse(answer)?;
        let value = node.text_at("access_token").filter(|token| !token.is_empty())?.into_owned();
        let in_seconds = node.u64_at("expires_in").map(|seconds| now.plus(seconds.saturating_mul(1000)));
        let at = node.u64_at("expires_at").or_else(|| node.u64_at("expiration")).map(|at| {
            // Beyond the year 5138 in seconds: it is in milliseconds.
            if at > 100_000_000_000 { Millis(at) } else { Millis(at.saturating_mul(1000)) }
        });
        let end = in_seconds.or(at).unwrap_or(now.plus(UNSTATED_MS));
        Some(Token { value, until: Millis(end.0.saturating_sub(MARGIN_MS)) })
    }
}

/// The tokens an isolate has, by what they were made of.
#[derive(Debug, Default)]
pub struct Tokens(HashMap<String, Token>);

impl Tokens {
    /// The token of that name, where it is still good.
    pub fn get(&self, name: &str, now: Millis) -> Option<String> {
        self.0.get(name).filter(|token| now < token.until).map(|token| token.value.clone())
    }

    /// Remembers one.
    pub fn put(&mut self, name: &str, token: Token) {
        if self.0.len() >= TOKENS_MAX {
            self.0.clear();
        }
        self.0.insert(name.to_owned(), token);
    }

    /// Forgets one, for instance because its provider refused it.
    pub fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }
}

/// A form body, every value encoded.
pub fn form(pairs: &[(&str, &str)]) -> Vec<u8> {
    let encode =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    pairs.join("&").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_a_minute_early_and_is_then_gone() {
        let now = Millis(1_000_000);
        let token = Token::read(r#"{"access_token":"t","expires_in":3599,"token_type":"Bearer"}"#, now).unwrap();
        assert_eq!(token, Token { value: "t".to_owned(), until: now.plus(3_539_000) });
        let by_epoch = Token::read(r#"{"access_token":"t","expiration":1795570634}"#, now).unwrap();
        assert_eq!(by_epoch.until, Millis(1_795_570_634_000 - MARGIN_MS));
        let in_ms = Token::read(r#"{"access_token":"t","expires_at":1795570634000}"#, now).unwrap();
        assert_eq!(in_ms.until, by_epoch.until);
        for bad in ["", "{}", r#"{"access_token":""}"#, r#"{"error":"invalid_grant"}"#] {
            assert_eq!(Token::read(bad, now), None, "{bad}");
        }
        let mut tokens = Tokens::default();
        tokens.put("a", token.clone());
        assert_eq!(
            (tokens.get("a", now), tokens.get("a", token.until), tokens.get("b", now)),
            (Some("t".into()), None, None)
        );
        tokens.forget("a");
        assert_eq!(tokens.get("a", now), None);
    }

    #[test]
    fn form_values_are_encoded() {
        assert_eq!(form(&[("grant_type", "urn:x"), ("a", "b&c=d")]), b"grant_type=urn%3Ax&a=b%26c%3Dd");
    }
}
