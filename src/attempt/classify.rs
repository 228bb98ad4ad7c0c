//! What a failed attempt means: one table of status × provider error code.
//!
//! The class says whom to blame and what comes next; the code is what the client sees when this attempt decides.

use crate::error::Code;
use crate::family::fault::Fault;

/// Whose failure an attempt was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request cannot be served as it stands; never counts against a provider.
    Request,
    /// The gateway's (or the workspace's) own key is refused there.
    Credential,
    /// The provider asks to slow down: cool down.
    Busy,
    /// The provider is broken, unreachable or too slow.
    Fault,
}

impl Class {
    /// The name in activity rows.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Request => "request",
            Class::Credential => "credential",
            Class::Busy => "busy",
            Class::Fault => "fault",
        }
    }
}

/// What to do about a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whose failure.
    pub class: Class,
    /// What the client sees when this attempt decides.
    pub code: Code,
    /// Whether the next candidate may be tried.
    pub next: bool,
    /// What the client is told, where the code alone says too little.
    pub says: Option<&'static str>,
}

const fn verdict(class: Class, code: Code, next: bool) -> Verdict {
    Verdict { class, code, next, says: None }
}

/// How an attempt failed without an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakage {
    /// Name, TCP or TLS failed.
    Connect,
    /// No headers, first byte or content in time.
    Timeout,
    /// The answer ended before its first content.
    Cut,
    /// The answer is not what the family sends.
    Malformed,
}

/// The verdict on a breakage.
pub fn breakage(how: Breakage) -> Verdict {
    match how {
        Breakage::Connect => verdict(Class::Fault, Code::ProviderUnavailable, true),
        Breakage::Timeout => verdict(Class::Fault, Code::ProviderTimeout, true),
        Breakage::Cut | Breakage::Malformed => verdict(Class::Fault, Code::ProviderError, true),
    }
}

/// Provider error codes and types that mean the same whatever the status. First match wins.
const BY_WORD: &[(&str, Verdict)] = &[
    ("context_length_exceeded", TOO_LONG),
    ("string_above_max_length", TOO_LONG),
    ("insufficient_quota", CREDENTIAL),
    ("exceeded_current_quota_error", CREDENTIAL),
    ("invalid_api_key", CREDENTIAL),
    ("billing", CREDENTIAL),
    ("arrearage", CREDENTIAL),
    ("overdue", CREDENTIAL),
    ("authentication_error", CREDENTIAL),
    ("unauthenticated", CREDENTIAL),
    ("api_key_invalid", CREDENTIAL),
    // Google: billing, where it is not the caller's region.
    ("failed_precondition", CREDENTIAL),
    ("spend_limit_reached", CREDENTIAL),
    ("permission_error", CREDENTIAL),
    ("permission_denied", CREDENTIAL),
    ("model_not_found", MODEL_GONE),
    // Azure: the deployment is of another kind.
    ("operationnotsupported", MODEL_GONE),
    ("content_policy_violation", REFUSED),
    ("content_moderation", REFUSED),
    ("moderation_blocked", REFUSED),
    ("voice_not_found", NO_SUCH_VOICE),
    ("content_filter", REFUSED),
    ("data_inspection_failed", REFUSED),
    ("rate_limit", BUSY),
    ("throttling", BUSY),
    ("requestlimitexceeded", BUSY),
    ("request_limit_exceeded", BUSY),
    ("ratelimitexceeded", BUSY),
    ("resource_exhausted", BUSY),
    ("servicequotaexceeded", BUSY),
    ("overloaded", OVERLOADED),
    ("queue_exceeded", OVERLOADED),
    ("unsupported_parameter", UNSUPPORTED),
    ("unsupported_value", UNSUPPORTED),
    // MiniMax base_resp, Z.AI and Zhipu: numbers as codes.
    ("1002", BUSY),
    ("1302", BUSY),
    ("1303", BUSY),
    ("1305", BUSY),
    ("1004", CREDENTIAL),
    ("1008", CREDENTIAL),
    ("1113", CREDENTIAL),
    ("1013", REFUSED),
    ("1026", REFUSED),
    ("1027", REFUSED),
    ("1041", BUSY),
    ("1042", INVALID),
    ("2049", CREDENTIAL),
    ("1301", REFUSED),
    ("1039", TOO_LONG),
    ("2013", INVALID),
    ("3036", BUSY),
    ("3040", OVERLOADED),
    ("5007", MODEL_GONE),
];

/// Phrases by which providers say that a prompt is too long.
const TOO_LONG_TEXTS: &[&str] = &[
    "maximum context length",
    "prompt is too long",
    "context window",
    "exceeds the maximum number of tokens",
    "input is too long",
    "too many tokens",
    "context_length_exceeded",
];

/// Phrases by which a provider says that the account behind its key is out of money, with the status of a bad request.
const NO_MONEY_TEXTS: &[&str] =
    &["credit balance is too low", "insufficient credit", "insufficient balance", "exhausted balance"];

/// Codes and phrases by which a provider says that it does not serve the place that it is called from.
const REGION_TEXTS: &[&str] = &[
    "unsupported_country",
    "country, region, or territory",
    "unsupported countries, regions",
    "user location is not supported",
    "not available in your country",
    "not available in your region",
];

/// Phrases by which a provider says that the model is not served under that name.
const GONE_TEXTS: &[&str] = &["with on-demand throughput"];

const INVALID: Verdict = verdict(Class::Request, Code::InvalidInput, false);
const REFUSED: Verdict = Verdict {
    says: Some("the provider's content filter refused the request"),
    ..verdict(Class::Request, Code::InvalidInput, false)
};
/// Another offer may have a longer context.
const TOO_LONG: Verdict = verdict(Class::Request, Code::ContextLengthExceeded, true);
/// Another offer may take the parameter.
const UNSUPPORTED: Verdict = verdict(Class::Request, Code::UnsupportedParameter, true);
/// Another host may have the voice.
const NO_SUCH_VOICE: Verdict = verdict(Class::Request, Code::InvalidInput, true);
/// Only this offer cannot do it; the model exists, or the plan would not have named it.
const MODEL_GONE: Verdict = verdict(Class::Fault, Code::ProviderUnavailable, true);
const CREDENTIAL: Verdict = verdict(Class::Credential, Code::ProviderUnavailable, true);
/// The provider serves nobody from where this isolate runs: neither the request's fault nor the credential's.
const ELSEWHERE: Verdict = Verdict {
    says: Some("the provider does not serve the region that it was called from"),
    ..verdict(Class::Fault, Code::RegionUnavailable, true)
};
const BUSY: Verdict = verdict(Class::Busy, Code::ProviderBusy, true);
const OVERLOADED: Verdict = verdict(Class::Fault, Code::ProviderUnavailable, true);
const BROKEN: Verdict = verdict(Class::Fault, Code::ProviderError, true);
const SLOW: Verdict = verdict(Class::Fault, Code::ProviderTimeout, true);

/// The verdict on an HTTP answer, or on an error inside a 200 or a stream (then `status` is 200 or the body's own).
pub fn answer(status: u16, fault: &Fault) -> Verdict {
    let status = if status < 400 { fault.status.unwrap_or(status) } else { status };
    let message = fault.message.to_lowercase();
    let client_status = matches!(status, 200..=299 | 400 | 413 | 422 | 429);
    // A 5xx is the provider's failure whatever its words say.
    let by_word = BY_WORD.iter().filter(|_| status < 500).find(|(word, _)| {
        let numeric = word.bytes().all(|b| b.is_ascii_digit());
        if numeric { fault.code == *word } else { fault.code.contains(word) || fault.kind.contains(word) }
    });
    // "Too many tokens" is also what a throttle says, of a minute.
    let is_throttled = status == 429 || by_word.is_some_and(|(_, verdict)| verdict.class == Class::Busy);
    if client_status && !is_throttled && TOO_LONG_TEXTS.iter().any(|text| message.contains(text)) {
        return TOO_LONG;
    }
    let says = |text: &&str| message.contains(*text) || fault.code.contains(*text);
    if status == 451 || matches!(status, 400 | 403) && REGION_TEXTS.iter().any(says) {
        return ELSEWHERE;
    }
    if let Some((_, verdict)) = by_word {
        return *verdict;
    }
    match status {
        400 | 422 if message.contains("api key") || NO_MONEY_TEXTS.iter().any(|text| message.contains(text)) => {
            CREDENTIAL
        }
        400 if GONE_TEXTS.iter().any(|text| message.contains(text)) => MODEL_GONE,
        413 => verdict(Class::Request, Code::PayloadTooLarge, false),
        400 | 422 => INVALID,
        // Cohere's word for a bad key, Groq's for a busy tier.
        498 if message.contains("token") => CREDENTIAL,
        401..=403 => CREDENTIAL,
        404 | 405 | 410 => MODEL_GONE,
        408 | 504 | 524 => SLOW,
        429 | 498 => BUSY,
        503 => OVERLOADED,
        529 => verdict(Class::Busy, Code::ProviderUnavailable, true),
        // Any other status; a redirect or a stray 1xx is no answer, an error inside a 200 without a known word neither.
        _ => BROKEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: &str, kind: &str, message: &str) -> Fault {
        Fault { code: code.to_owned(), kind: kind.to_owned(), message: message.to_owned(), ..Fault::default() }
    }

    #[test]
    fn the_table_of_failures() {
        use Class::*;
        for (status, code, kind, message, class, shown, next) in [
            (400, "", "invalid_request_error", "bad", Request, Code::InvalidInput, false),
            (400, "context_length_exceeded", "", "", Request, Code::ContextLengthExceeded, true),
            (400, "", "", "This model's maximum context length is 8192", Request, Code::ContextLengthExceeded, true),
            (400, "unsupported_parameter", "", "", Request, Code::UnsupportedParameter, true),
            (400, "content_policy_violation", "", "", Request, Code::InvalidInput, false),
            (400, "", "", "Incorrect API key provided", Credential, Code::ProviderUnavailable, true),
            (400, "", "", "Insufficient credits", Credential, Code::ProviderUnavailable, true),
            (400, "arrearage", "", "", Credential, Code::ProviderUnavailable, true),
            (
                400,
                "",
                "",
                "Your credit balance is too low to access the API.",
                Credential,
                Code::ProviderUnavailable,
                true,
            ),
            (
                400,
                "",
                "failed_precondition",
                "User location is not supported for the API use.",
                Fault,
                Code::RegionUnavailable,
                true,
            ),
            (400, "", "failed_precondition", "Billing is not enabled", Credential, Code::ProviderUnavailable, true),
            (
                403,
                "unsupported_country_region_territory",
                "request_forbidden",
                "",
                Fault,
                Code::RegionUnavailable,
                true,
            ),
            (451, "", "", "", Fault, Code::RegionUnavailable, true),
            (500, "", "", "not available in your region", Fault, Code::ProviderError, true),
            (400, "api_key_invalid", "invalid_argument", "", Credential, Code::ProviderUnavailable, true),
            (400, "servicequotaexceededexception", "", "", Busy, Code::ProviderBusy, true),
            (
                400,
                "",
                "",
                "Invocation of model ID m with on-demand throughput isn't supported",
                Fault,
                Code::ProviderUnavailable,
                true,
            ),
            (400, "operationnotsupported", "", "", Fault, Code::ProviderUnavailable, true),
            (403, "content_filter", "", "", Request, Code::InvalidInput, false),
            (409, "", "conflict_error", "", Fault, Code::ProviderError, true),
            (429, "enforced_spend_limit_reached", "rate_limit_error", "", Credential, Code::ProviderUnavailable, true),
            (498, "", "", "invalid token", Credential, Code::ProviderUnavailable, true),
            (401, "invalid_api_key", "", "", Credential, Code::ProviderUnavailable, true),
            (401, "", "", "", Credential, Code::ProviderUnavailable, true),
            (402, "", "", "", Credential, Code::ProviderUnavailable, true),
            (403, "", "", "", Credential, Code::ProviderUnavailable, true),
            (404, "model_not_found", "", "", Fault, Code::ProviderUnavailable, true),
            (404, "", "", "", Fault, Code::ProviderUnavailable, true),
            (408, "", "", "", Fault, Code::ProviderTimeout, true),
            (413, "", "", "", Request, Code::PayloadTooLarge, false),
            (413, "rate_limit_exceeded", "", "", Busy, Code::ProviderBusy, true),
            (422, "", "", "", Request, Code::InvalidInput, false),
            (429, "", "", "", Busy, Code::ProviderBusy, true),
            (429, "insufficient_quota", "insufficient_quota", "", Credential, Code::ProviderUnavailable, true),
            (429, "rate_limit_exceeded", "tokens", "too many tokens per minute", Busy, Code::ProviderBusy, true),
            (498, "", "", "", Busy, Code::ProviderBusy, true),
            (500, "", "", "", Fault, Code::ProviderError, true),
            (500, "rate_limit_exceeded", "", "", Fault, Code::ProviderError, true),
            (502, "", "", "", Fault, Code::ProviderError, true),
            (503, "", "", "", Fault, Code::ProviderUnavailable, true),
            (504, "", "", "", Fault, Code::ProviderTimeout, true),
            (524, "", "", "", Fault, Code::ProviderTimeout, true),
            (529, "", "overloaded_error", "", Busy, Code::ProviderUnavailable, true),
            (302, "", "", "", Fault, Code::ProviderError, true),
            (200, "server_error", "", "", Fault, Code::ProviderError, true),
            (200, "1002", "", "", Busy, Code::ProviderBusy, true),
            (200, "throttlingexception", "", "Too many tokens, please wait", Busy, Code::ProviderBusy, true),
            (200, "overloaded", "", "", Fault, Code::ProviderUnavailable, true),
            (200, "moderation_blocked", "", "", Request, Code::InvalidInput, false),
            (200, "1026", "", "", Request, Code::InvalidInput, false),
            (200, "2049", "", "", Credential, Code::ProviderUnavailable, true),
            (403, "content_moderation", "", "", Request, Code::InvalidInput, false),
            (404, "voice_not_found", "", "", Request, Code::InvalidInput, true),
        ] {
            let got = answer(status, &fault(code, kind, message));
            let is_content = code.starts_with("content_") || ["moderation_blocked", "1026"].contains(&code);
            assert_eq!(
                got.says.is_some(),
                is_content || shown == Code::RegionUnavailable,
                "{status} {code} {kind} {message}"
            );
            assert_eq!(Verdict { says: None, ..got }, verdict(class, shown, next), "{status} {code} {kind} {message}");
        }
    }

    #[test]
    fn a_status_inside_a_200_counts() {
        let inside = crate::family::fault::parse(br#"{"error":{"code":429,"message":"slow down"}}"#);
        assert_eq!(answer(200, &inside).class, Class::Busy);
    }

    #[test]
    fn breakages_always_go_on() {
        for how in [Breakage::Connect, Breakage::Timeout, Breakage::Cut, Breakage::Malformed] {
            assert!(breakage(how).next && breakage(how).class == Class::Fault, "{how:?}");
        }
    }
}
