//! Headers of requests and answers, as the document lists them.

use serde_json::{Map, Value, json};

use crate::serve::{Caller, Cost, Endpoint};

/// Where a header is read or given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Every endpoint.
    Any,
    /// Endpoints that a workspace's key may call.
    Key,
    /// Endpoints of the messages dialect.
    Messages,
    /// Endpoints that cost money.
    Paid,
    /// Changes by an administrator.
    Change,
    /// Reads and changes by an administrator.
    Admin,
    /// Reads by anyone.
    Public,
}

/// A name, where it is read, its schema's type, what it says.
struct Header(&'static str, Of, &'static str, &'static str);

/// What a request may carry.
const ASKED: &[Header] = &[
    Header(
        "Idempotency-Key",
        Of::Paid,
        "string",
        "The same key with the same body is dispatched and charged once, for a day.",
    ),
    Header("X-Gateway-Timeout-Ms", Of::Paid, "integer", "Less time than the gateway would take."),
    Header("X-Gateway-Explain", Of::Paid, "string", "`1`: the answer says why it came from where it came from."),
    Header("X-Session-Id", Of::Paid, "string", "The conversation, where the body names none."),
    Header("X-Title", Of::Paid, "string", "The name of the calling application."),
    Header("HTTP-Referer", Of::Paid, "string", "Where the application lives."),
    Header("traceparent", Of::Paid, "string", "W3C trace context."),
    Header("anthropic-beta", Of::Paid, "string", "Of the messages dialect: goes to hosts that speak it."),
    Header(
        "If-Match",
        Of::Change,
        "string",
        "The `ETag` that was read: the change is refused where it is another by now.",
    ),
    Header("If-None-Match", Of::Public, "string", "The `ETag` that is known."),
];

/// What an answer that serves may carry; the first with every answer.
const GIVEN: &[Header] = &[
    Header("X-Request-Id", Of::Any, "string", "The request's id."),
    Header("Request-Id", Of::Messages, "string", "The same, where the SDKs of the messages dialect look for it."),
    Header(
        "X-Gateway-Prompt-Logging",
        Of::Key,
        "string",
        "The workspace keeps prompts: `on`, or `skipped` where this one is not kept.",
    ),
    Header("X-Gateway-Provider", Of::Paid, "string", "Who served."),
    Header("X-Gateway-Model", Of::Paid, "string", "The canonical id of what served."),
    Header("X-Gateway-Attempts", Of::Paid, "string", "How many calls it took."),
    Header("X-Gateway-Paid-By", Of::Paid, "string", "`credits` or `byok`."),
    Header("X-Gateway-Cost", Of::Paid, "string", "Dollars, where known before the body."),
    Header("X-Gateway-Max-Tokens", Of::Paid, "string", "The limit that the balance lowered the output to."),
    Header("X-Gateway-Warning", Of::Paid, "string", "Parameters that were left out."),
    Header("X-Gateway-Explanation", Of::Paid, "string", "Candidates and their factors as JSON, where asked for."),
    Header("X-Gateway-Idempotent-Replay", Of::Paid, "string", "`true`: a kept answer."),
    Header("Server-Timing", Of::Paid, "string", "The gateway's own time, and the provider's."),
    Header("X-RateLimit-Limit-Requests", Of::Paid, "string", "A minute's requests."),
    Header("X-RateLimit-Remaining-Requests", Of::Paid, "string", "What is left of them."),
    Header("X-RateLimit-Reset-Requests", Of::Paid, "string", "Until there are all again, such as `59.5s`."),
    Header("X-RateLimit-Limit-Tokens", Of::Paid, "string", "A minute's tokens."),
    Header("X-RateLimit-Remaining-Tokens", Of::Paid, "string", "What is left of them."),
    Header("X-RateLimit-Reset-Tokens", Of::Paid, "string", "Until there are all again."),
    Header("ETag", Of::Admin, "string", "Of the record as it is stored, for `If-Match`."),
    Header("ETag", Of::Public, "string", "Of the answer."),
];

fn is_of(of: Of, row: &Endpoint) -> bool {
    let is_read = row.method == "GET";
    match (of, row.caller) {
        (Of::Any, _) | (Of::Key, Caller::Key) => true,
        (Of::Messages, _) => row.path.starts_with("/v1/messages"),
        (Of::Paid, _) => row.cost == Cost::Paid,
        (Of::Change, Caller::Manager(..)) => !is_read && row.method != "POST",
        (Of::Admin, Caller::Manager(..)) => true,
        (Of::Public, Caller::Anyone) => is_read,
        _ => false,
    }
}

/// Parameters of an operation that are headers.
pub fn asked(row: &Endpoint) -> impl Iterator<Item = Value> {
    let listed = ASKED.iter().filter(|header| is_of(header.1, row));
    listed.map(|Header(name, _, kind, says)| {
        json!({"name": name, "in": "header", "required": false, "description": says, "schema": {"type": kind}})
    })
}

/// Headers of an answer with that status.
pub fn given(row: &Endpoint, status: u16) -> Value {
    let is_served = status < 400;
    let mut headers: Map<String, Value> = Map::new();
    for Header(name, of, kind, says) in GIVEN {
        let is_always = matches!(of, Of::Any | Of::Key | Of::Messages);
        if is_of(*of, row) && (is_served || is_always) {
            let header = json!({"description": says, "required": matches!(of, Of::Any | Of::Messages), "schema": {"type": kind}});
            headers.insert((*name).to_owned(), header);
        }
    }
    if status == 429 || status == 503 {
        let says = "Seconds to wait.";
        headers.insert("Retry-After".to_owned(), json!({"description": says, "schema": {"type": "integer"}}));
    }
    Value::Object(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::find;

    #[test]
    fn headers_stand_where_they_are_read_and_given() {
        let row = |method, path| find(method, path).unwrap().0;
        let names = |row: &Endpoint| -> Vec<String> {
            asked(row).map(|one| one["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&row("POST", "/v1/chat/completions")).len(), 8);
        assert_eq!(names(&row("PATCH", "/v1/admin/workspaces/w/settings")), ["If-Match"]);
        assert_eq!(names(&row("GET", "/v1/models")), ["If-None-Match"]);
        assert!(names(&row("GET", "/v1/key")).is_empty());
        let chat = row("POST", "/v1/chat/completions");
        assert_eq!(given(&chat, 200).as_object().unwrap().len(), 18);
        let of = |status| given(&chat, status).as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(of(400), ["X-Gateway-Prompt-Logging", "X-Request-Id"]);
        assert_eq!(of(429), ["Retry-After", "X-Gateway-Prompt-Logging", "X-Request-Id"]);
        let counted = given(&row("POST", "/v1/messages/count_tokens"), 401);
        assert_eq!(counted["Request-Id"]["required"], true);
        assert_eq!(given(&row("GET", "/v1/admin/workspaces/w/settings"), 200).as_object().unwrap().len(), 2);
    }
}
