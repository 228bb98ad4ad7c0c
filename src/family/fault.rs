//! What a provider says when it fails, read out of any of the shapes in use.
//!
//! Shapes: `{"error":{message,type,param,code}}` (OpenAI and most hosts), `{"error":"text","code":"…"}` (xAI),
//! `{"object":"error","message",…}` (vLLM), `{"detail":…}` (FastAPI hosts), `{"errors":[{code,message}]}` (Cloudflare),
//! `{"error_code","message"}` (Databricks), `{"code","reason","message"}` (Novita), `{"base_resp":{…}}` (MiniMax),
//! `{"message"}` alone (Cohere, Bedrock), and Google's, which has its word in `status` and a finer one in `details`.
//! The text is used to classify the failure and is never shown to a client or stored.

use serde_json::Value;

/// A provider's own words about a failure. Private to the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fault {
    /// Its machine-readable code, lower-cased.
    pub code: String,
    /// Its error type, lower-cased.
    pub kind: String,
    /// The field it blames.
    pub param: Option<String>,
    /// Its message.
    pub message: String,
    /// A status inside the body, for errors in a 200.
    pub status: Option<u16>,
    /// A wait that the body asks for, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

/// Longest error body that is looked at, in bytes.
pub const FAULT_BYTES_MAX: usize = 64 * 1024;

/// Reads a failure out of an error body. A body that is no JSON becomes a fault without a code.
pub fn parse(bytes: &[u8]) -> Fault {
    let bytes = bytes.get(..FAULT_BYTES_MAX.min(bytes.len())).unwrap_or_default();
    match crate::json::from_bytes::<Value>(bytes) {
        // The status has said that it is an error: whatever message there is tells of it.
        Some(value) => {
            from_value(&value).unwrap_or_else(|| of_message(text(Some(value.get("message").unwrap_or(&value)))))
        }
        None => Fault { message: String::from_utf8_lossy(bytes).into_owned(), ..Fault::default() },
    }
}

/// The failure that a JSON value tells of; `None` when it is no error.
pub fn from_value(value: &Value) -> Option<Fault> {
    let value = match value {
        // Some gateways wrap the error object in a list.
        Value::Array(list) => list.first()?,
        other => other,
    };
    if let Some(base) = value.get("base_resp") {
        let status = base.get("status_code").and_then(Value::as_i64).unwrap_or(0);
        if status != 0 {
            return Some(Fault { code: status.to_string(), message: text(base.get("status_msg")), ..Fault::default() });
        }
    }
    let fault = match value.get("error") {
        // Some hosts write the member into every answer; an empty one tells of nothing, and to OpenAI's SDKs neither.
        Some(Value::Object(error)) if !error.is_empty() => Fault {
            code: code_of(error).to_lowercase(),
            kind: text(error.get("type").or_else(|| error.get("status").filter(|status| status.is_string())))
                .to_lowercase(),
            param: error.get("param").and_then(Value::as_str).map(str::to_owned),
            message: text(error.get("message")),
            status: status_of(value.get("status_code")).or_else(|| status_of(error.get("code"))),
            retry_after_ms: error.get("details").and_then(retry_info),
        },
        Some(Value::String(message)) if !message.is_empty() => {
            Fault { code: text(value.get("code")).to_lowercase(), message: message.clone(), ..Fault::default() }
        }
        _ => flat(value)?,
    };
    Some(Fault { retry_after_ms: fault.retry_after_ms.or_else(|| wait_in_text(&fault.message)), ..fault })
}

fn of_message(message: String) -> Fault {
    let retry_after_ms = wait_in_text(&message);
    Fault { message, retry_after_ms, ..Fault::default() }
}

/// The finest word that an error object has: numbers are but statuses, and some say in a member of their own what is
/// meant.
fn code_of(error: &serde_json::Map<String, Value>) -> String {
    let details = error.get("details");
    let reasons = details.and_then(Value::as_array).into_iter().flatten();
    let finer = reasons
        .filter_map(|detail| detail.get("reason"))
        .chain(details.and_then(|details| details.get("error_code")))
        .find_map(Value::as_str);
    let is_moderated = error.get("metadata").is_some_and(|metadata| metadata.get("flagged_input").is_some());
    match (error.get("code"), finer) {
        (Some(Value::Number(_)) | None, _) if is_moderated => "content_filter".to_owned(),
        (Some(Value::Number(_)) | None | Some(Value::Null), Some(finer)) => finer.to_owned(),
        (code, _) => text(code),
    }
}

fn flat(value: &Value) -> Option<Fault> {
    if let Some(detail) = value.get("detail") {
        let inner = detail.get("error").unwrap_or(detail);
        // `{status, message}` of ElevenLabs, a list of `{type, msg}` of FastAPI; else a text.
        let one = inner.as_array().and_then(|list| list.first()).unwrap_or(inner);
        let of = |name: &str| one.get(name).filter(|value| value.is_string());
        return Some(Fault {
            code: text(of("status").or_else(|| of("code"))).to_lowercase(),
            kind: text(of("type")).to_lowercase(),
            message: text(of("message").or_else(|| of("msg")).or(Some(inner))),
            ..Fault::default()
        });
    }
    if let Some(first) = value.get("errors").and_then(Value::as_array).and_then(|list| list.first()) {
        // Stability names the error beside a list of texts.
        let code = if first.is_string() { value.get("name") } else { first.get("code") };
        return Some(Fault {
            code: text(code).to_lowercase(),
            message: text(if first.is_string() { Some(first) } else { first.get("message") }),
            ..Fault::default()
        });
    }
    let is_error = value.get("object").and_then(Value::as_str) == Some("error")
        || value.get("error_code").is_some()
        || (value.get("message").is_some() && value.get("choices").is_none() && value.get("code").is_some());
    is_error.then(|| Fault {
        code: text(value.get("error_code").or_else(|| value.get("reason")).or_else(|| value.get("code")))
            .to_lowercase(),
        kind: text(value.get("type")).to_lowercase(),
        param: value.get("param").and_then(Value::as_str).map(str::to_owned),
        message: text(value.get("message")),
        status: status_of(value.get("code")),
        ..Fault::default()
    })
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn status_of(value: Option<&Value>) -> Option<u16> {
    let number = match value? {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    u16::try_from(number).ok().filter(|status| (400..600).contains(status))
}

/// Google's `RetryInfo`: `details: [{retryDelay: "12.5s"}]`.
fn retry_info(details: &Value) -> Option<u64> {
    let delay = details.as_array()?.iter().find_map(|entry| entry.get("retryDelay")?.as_str())?;
    crate::family::wait::duration_ms(delay)
}

/// "Please try again in 7.66s", "available in 20 seconds".
fn wait_in_text(message: &str) -> Option<u64> {
    let rest =
        message.split_once(" in ").filter(|(before, _)| before.ends_with("again") || before.ends_with("available"))?.1;
    let word = rest.split_whitespace().next()?.trim_end_matches(['.', ',']);
    crate::family::wait::duration_ms(word).or_else(|| {
        let seconds: u64 = word.parse().ok()?;
        rest.split_whitespace().nth(1).filter(|unit| unit.starts_with("second")).map(|_| seconds.saturating_mul(1000))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read() {
        for (body, code, kind, status) in [
            (r#"{"error":{"message":"m","type":"T","param":"p","code":"C"}}"#, "c", "t", None),
            (r#"{"error":{"code":429,"message":"m"}}"#, "429", "", Some(429)),
            (r#"{"code":"Some","error":"m"}"#, "some", "", None),
            (r#"{"object":"error","message":"m","type":"T","code":400}"#, "400", "t", Some(400)),
            (r#"{"detail":"m"}"#, "", "", None),
            (r#"{"detail":{"error":"m"}}"#, "", "", None),
            (r#"{"detail":{"status":"Voice_not_found","message":"m"}}"#, "voice_not_found", "", None),
            (r#"{"detail":[{"loc":["body"],"msg":"m","type":"T"}]}"#, "", "t", None),
            (r#"{"id":"x","name":"content_moderation","errors":["m"]}"#, "content_moderation", "", None),
            (r#"{"success":false,"errors":[{"code":3036,"message":"m"}]}"#, "3036", "", None),
            (r#"{"error_code":"LIMIT","message":"m"}"#, "limit", "", None),
            (r#"{"code":429,"reason":"RATE_LIMIT_EXCEEDED","message":"m"}"#, "rate_limit_exceeded", "", Some(429)),
            (r#"{"base_resp":{"status_code":1002,"status_msg":"m"}}"#, "1002", "", None),
            (r#"[{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}]"#, "503", "unavailable", Some(503)),
            (
                r#"{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT","details":[{"@type":"x"},{"reason":"API_KEY_INVALID"}]}}"#,
                "api_key_invalid",
                "invalid_argument",
                Some(400),
            ),
            (
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"ramp_limit_exceeded"}}}"#,
                "ramp_limit_exceeded",
                "rate_limit_error",
                None,
            ),
            (
                r#"{"error":{"code":403,"message":"m","metadata":{"reasons":["violence"],"flagged_input":"x"}}}"#,
                "content_filter",
                "",
                Some(403),
            ),
            (r#"{"message":"m"}"#, "", "", None),
            (r#"{"message":"m","id":"x"}"#, "", "", None),
            (r#""m""#, "", "", None),
            ("m", "", "", None),
        ] {
            let fault = parse(body.as_bytes());
            assert_eq!((fault.code.as_str(), fault.kind.as_str(), fault.status), (code, kind, status), "{body}");
            assert_eq!(fault.message, "m", "{body}");
        }
    }

    #[test]
    fn an_empty_error_is_none() {
        for body in [r#"{"error":null}"#, r#"{"error":""}"#, r#"{"error":{}}"#, r#"{"error":false,"choices":[]}"#] {
            assert_eq!(from_value(&serde_json::from_str(body).unwrap()), None, "{body}");
        }
    }

    #[test]
    fn an_answer_is_no_fault() {
        for body in [
            r#"{"choices":[],"usage":{}}"#,
            r#"{"base_resp":{"status_code":0},"choices":[]}"#,
            r#"{"error":null,"choices":[]}"#,
        ] {
            assert_eq!(from_value(&serde_json::from_str(body).unwrap()), None, "{body}");
        }
    }

    #[test]
    fn waits_in_bodies_are_found() {
        for (body, ms) in [
            (r#"{"error":{"message":"Please try again in 7.66s."}}"#, Some(7660)),
            (r#"{"error":{"message":"Please try again in 20s"}}"#, Some(20_000)),
            (r#"{"error":{"message":"Expected available in 3 seconds"}}"#, Some(3000)),
            (r#"{"error":{"message":"try","details":[{"retryDelay":"1.5s"}]}}"#, Some(1500)),
            (r#"{"error":{"message":"put it in 7s"}}"#, None),
        ] {
            assert_eq!(parse(body.as_bytes()).retry_after_ms, ms, "{body}");
        }
    }
}
