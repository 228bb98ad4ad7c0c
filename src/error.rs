//! Every way to say no, once: [`Code`] is the contract of `error.code`, its table gives status, OpenAI `type` and blame.

use serde::Serialize;
use serde_json::Value;

/// Whose mistake a failure is. Client mistakes never count against a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The request cannot be served as it stands.
    Client,
    /// A provider failed.
    Provider,
    /// The gateway failed.
    Gateway,
}

macro_rules! codes {
    ($($variant:ident $name:literal $status:literal $kind:literal $blame:ident;)*) => {
        /// The machine-readable reason in `error.code`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each variant is its own name; the table and the README say what it means")]
        pub enum Code { $($variant,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];
            /// The name in `error.code`.
            pub const fn name(self) -> &'static str { match self { $(Code::$variant => $name,)* } }
            /// The HTTP status that carries it.
            pub const fn status(self) -> u16 { match self { $(Code::$variant => $status,)* } }
            /// The OpenAI `error.type`.
            pub const fn kind(self) -> &'static str { match self { $(Code::$variant => $kind,)* } }
            /// Whose mistake it is.
            pub const fn blame(self) -> Blame { match self { $(Code::$variant => Blame::$blame,)* } }
            /// The code of that name.
            pub fn from_name(name: &str) -> Option<Code> { match name { $($name => Some(Code::$variant),)* _ => None } }
        }
    };
}

codes! {
    InvalidInput "invalid_input" 400 "invalid_request_error" Client;
    ContextLengthExceeded "context_length_exceeded" 400 "invalid_request_error" Client;
    UnsupportedParameter "unsupported_parameter" 400 "invalid_request_error" Client;
    Unauthenticated "unauthenticated" 401 "authentication_error" Client;
    InsufficientCredits "insufficient_credits" 402 "insufficient_quota" Client;
    Forbidden "forbidden" 403 "permission_error" Client;
    ModelNotAllowed "model_not_allowed" 403 "permission_error" Client;
    RegionUnavailable "region_unavailable" 403 "permission_error" Client;
    NotFound "not_found" 404 "not_found_error" Client;
    ModelNotFound "model_not_found" 404 "not_found_error" Client;
    NoEligibleProvider "no_eligible_provider" 404 "not_found_error" Client;
    MethodNotAllowed "method_not_allowed" 405 "invalid_request_error" Client;
    IdempotencyConflict "idempotency_conflict" 409 "invalid_request_error" Client;
    PayloadTooLarge "payload_too_large" 413 "invalid_request_error" Client;
    UnsupportedMediaType "unsupported_media_type" 415 "invalid_request_error" Client;
    RateLimited "rate_limited" 429 "rate_limit_error" Client;
    BudgetExceeded "budget_exceeded" 429 "rate_limit_error" Client;
    ProviderBusy "provider_busy" 429 "rate_limit_error" Provider;
    Internal "internal" 500 "server_error" Gateway;
    ProviderError "provider_error" 502 "server_error" Provider;
    Overloaded "overloaded" 503 "server_error" Gateway;
    ProviderUnavailable "provider_unavailable" 503 "server_error" Provider;
    ProviderTimeout "provider_timeout" 504 "server_error" Provider;
}

/// One refusal or fault on its way to the client. Holds nothing secret: no upstream body, stack or credential.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The contract.
    pub code: Code,
    /// One sentence for a person.
    pub message: String,
    /// The field at fault, as a path (`messages[0].role`).
    pub param: Option<String>,
    /// Attempts or removed candidates.
    pub details: Option<Box<Value>>,
    /// How long to wait before another try, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Methods the path knows, for 405.
    pub allow: Option<String>,
}

/// What a client is told to wait where a wait is due and nobody knows how long, in milliseconds.
const UNKNOWN_WAIT_MS: u64 = 5_000;

impl Failure {
    /// A failure with a message.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), param: None, details: None, retry_after_ms: None, allow: None }
    }

    /// `invalid_input` about one field.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure::new(Code::InvalidInput, message).about(param)
    }

    /// The same, naming a field.
    #[must_use]
    pub fn about(mut self, param: impl Into<String>) -> Failure {
        self.param = Some(param.into());
        self
    }

    /// The same, with details.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Failure {
        self.details = Some(Box::new(details));
        self
    }

    /// The same, with a wait.
    #[must_use]
    pub fn retry_after(mut self, ms: Option<u64>) -> Failure {
        self.retry_after_ms = ms;
        self
    }

    /// `Retry-After` in whole seconds, rounded up, at least one. Every 429 and 503 has one, also where nobody knows.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let unknown = matches!(self.code.status(), 429 | 503).then_some(UNKNOWN_WAIT_MS);
        self.retry_after_ms.or(unknown).map(|ms| ms.div_ceil(1000).max(1))
    }

    /// The one error envelope, for every modality and every endpoint.
    pub fn envelope(&self, request_id: &str) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'a str,
            message: &'a str,
            param: Option<&'a str>,
            #[serde(rename = "type")]
            kind: &'a str,
            request_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            details: Option<&'a Value>,
        }
        #[derive(Serialize)]
        struct Envelope<'a> {
            error: Body<'a>,
        }
        let envelope = Envelope {
            error: Body {
                code: self.code.name(),
                message: &self.message,
                param: self.param.as_deref(),
                kind: self.code.kind(),
                request_id,
                details: self.details.as_deref(),
            },
        };
        serde_json::to_string(&envelope).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_codes() {
        let table: Vec<String> =
            Code::ALL.iter().map(|c| format!("{} {} {} {:?}", c.status(), c.name(), c.kind(), c.blame())).collect();
        assert!(table.contains(&"402 insufficient_credits insufficient_quota Client".to_owned()), "{table:#?}");
        for code in Code::ALL {
            assert_eq!(Code::from_name(code.name()), Some(*code));
            let family = code.status() / 100;
            assert_eq!(family == 5, code.blame() != Blame::Client && *code != Code::ProviderBusy, "{code:?}");
        }
    }

    #[test]
    fn envelope_format_is_unchanged() {
        let failure = Failure::invalid("messages[0].role", "is missing");
        assert_eq!(
            failure.envelope("gen_1"),
            r#"{"error":{"code":"invalid_input","message":"is missing","param":"messages[0].role","type":"invalid_request_error","request_id":"gen_1"}}"#
        );
    }

    #[test]
    fn waits_are_whole_seconds_rounded_up() {
        let wait = |ms| Failure::new(Code::RateLimited, "").retry_after(Some(ms)).retry_after_seconds();
        assert_eq!((wait(0), wait(1), wait(1000), wait(1001)), (Some(1), Some(1), Some(1), Some(2)));
        for code in Code::ALL {
            let has_wait = Failure::new(*code, "").retry_after_seconds().is_some();
            assert_eq!(has_wait, [429, 503].contains(&code.status()), "{}", code.name());
        }
    }
}
