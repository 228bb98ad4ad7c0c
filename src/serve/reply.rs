//! An answer on its way out: status, headers, body.

use serde_json::Value;

use crate::dialect::Dialect;
use crate::error::{Code, Failure};
use crate::limits::gate::Allowance;
use crate::serve::ports::Ports;

/// A body.
pub enum Body<P: Ports> {
    /// None.
    Empty,
    /// Bytes.
    Bytes(Vec<u8>),
    /// A stream.
    Stream(P::Readable),
}

/// An answer.
pub struct Reply<P: Ports> {
    /// HTTP status.
    pub status: u16,
    /// Header names (lower-case) and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Body<P>,
}

/// Headers that a browser may read of an answer.
const EXPOSED: &str = "x-request-id, request-id, x-gateway-provider, x-gateway-model, x-gateway-attempts, x-gateway-paid-by, \
    x-gateway-cost, x-gateway-max-tokens, x-gateway-warning, x-gateway-explanation, x-gateway-idempotent-replay, \
    x-gateway-prompt-logging, server-timing, retry-after, etag, \
    x-ratelimit-limit-requests, \
    x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, \
    x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens";
/// How long a browser may keep a preflight's answer, in seconds.
const PREFLIGHT_SECONDS: &str = "86400";

impl<P: Ports> Reply<P> {
    /// A JSON answer.
    pub fn json(status: u16, value: &Value) -> Reply<P> {
        Reply::text(status, "application/json", value.to_string())
    }

    /// An answer of text.
    pub fn text(status: u16, content_type: &str, text: String) -> Reply<P> {
        let headers = vec![("content-type", content_type.to_owned())];
        Reply { status, headers, body: Body::Bytes(text.into_bytes()) }
    }

    /// The envelope of a failure.
    pub fn failure(failure: &Failure, request_id: &str) -> Reply<P> {
        Reply::failure_in(Dialect::Chat, failure, request_id)
    }

    /// The envelope of a failure as a dialect has it.
    pub fn failure_in(dialect: Dialect, failure: &Failure, request_id: &str) -> Reply<P> {
        let mut reply = Reply::text(failure.code.status(), "application/json", dialect.failure(failure, request_id));
        if let Some(seconds) = failure.retry_after_seconds() {
            reply.headers.push(("retry-after", seconds.to_string()));
        }
        if let Some(allow) = &failure.allow {
            reply.headers.push(("allow", allow.clone()));
        }
        if failure.code == Code::Unauthenticated {
            reply.headers.push(("www-authenticate", "Bearer".to_owned()));
        }
        reply
    }

    /// The answer to a browser's preflight.
    pub fn preflight(allow: Option<String>) -> Reply<P> {
        let allow = allow.unwrap_or_default();
        let headers = vec![
            ("access-control-allow-methods", allow.clone()),
            ("access-control-allow-headers", "*, authorization".to_owned()),
            ("access-control-max-age", PREFLIGHT_SECONDS.to_owned()),
            ("allow", allow),
        ];
        Reply { status: 204, headers, body: Body::Empty }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Reply<P> {
        self.headers.push((name, value.into()));
        self
    }

    /// The same with the rate-limit headers.
    #[must_use]
    pub fn with_allowances(mut self, requests: Option<Allowance>, tokens: Option<Allowance>) -> Reply<P> {
        let names = [
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
        ];
        for (names, allowance) in names.into_iter().zip([requests, tokens]) {
            let Some(allowance) = allowance else { continue };
            let values = [allowance.limit.to_string(), allowance.remaining.to_string(), duration(allowance.reset_ms)];
            self.headers.extend(names.into_iter().zip(values));
        }
        self
    }

    /// What every answer carries.
    #[must_use]
    pub fn with_common_headers(mut self, request_id: &str) -> Reply<P> {
        self.headers.push(("x-request-id", request_id.to_owned()));
        self.headers.push(("access-control-allow-origin", "*".to_owned()));
        self.headers.push(("access-control-expose-headers", EXPOSED.to_owned()));
        if !self.headers.iter().any(|(name, _)| *name == "cache-control") {
            self.headers.push(("cache-control", "no-store".to_owned()));
        }
        self
    }
}

/// Most characters of a client's name in a header, and most of them together.
const NAME_MAX: usize = 64;
const WARNING_MAX: usize = 1_000;

/// What `X-Gateway-Warning` says of parameters that were left out. Their names are the client's: what cannot stand in a
/// header, or would make it too long for whoever reads it, is not repeated.
pub fn warning(dropped: &[String]) -> String {
    let plain = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    let mut told = String::from("dropped: ");
    for (place, name) in dropped.iter().enumerate() {
        if told.len() > WARNING_MAX {
            told.push_str(&format!(" and {} more", dropped.len().saturating_sub(place)));
            break;
        }
        if place > 0 {
            told.push_str(", ");
        }
        told.extend(name.chars().take(NAME_MAX).map(plain));
    }
    told
}

/// Milliseconds in the form that OpenAI uses: `0s`, `12ms`, `59.995s`.
fn duration(ms: u64) -> String {
    match ms {
        0 => "0s".to_owned(),
        1..1000 => format!("{ms}ms"),
        _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        _ => format!("{}.{:03}s", ms / 1000, ms % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_a_header_whatever_the_client_calls_its_fields() {
        let of = |names: &[&str]| warning(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["seed", "top_k"]), "dropped: seed, top_k");
        assert_eq!(of(&["a\r\nx-evil: 1", "b\0c\u{7f}", "\u{fc}"]), "dropped: a??x-evil: 1, b?c?, ?");
        let long = "x".repeat(9_000);
        assert_eq!(of(&[&long]).len(), "dropped: ".len() + NAME_MAX);
        let many = warning(&vec!["name".to_owned(); 5_000]);
        assert!(many.len() < 1_100 && many.ends_with(" more"), "{many}");
    }

    #[test]
    fn durations_read_like_openais() {
        for (ms, text) in [(0, "0s"), (12, "12ms"), (1000, "1s"), (59_995, "59.995s")] {
            assert_eq!(duration(ms), text);
            assert_eq!(crate::family::wait::duration_ms(text), Some(ms));
        }
    }
}
