//! A request as spans: one for it, and one for each call of a provider below it. OTLP in JSON, with the GenAI semantic
//! conventions of OpenTelemetry (1.37).

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::activity::row::{AttemptRow, Row};
use crate::money::Nanos;

/// Kinds of spans and states, by their numbers in OTLP.
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
const ERROR: u8 = 2;

/// Operations by dialect or modality; a word of our own where the conventions have none.
const OPERATIONS: &[(&str, &str)] = &[
    ("chat", "chat"),
    ("responses", "chat"),
    ("messages", "chat"),
    ("embedding", "embeddings"),
    ("image", "generate_content"),
    ("speech", "generate_content"),
    ("video", "generate_content"),
];

fn hex(text: &str, bytes: usize) -> String {
    Sha256::digest(text.as_bytes()).iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

/// The trace a request belongs to: its client's, or one of its own.
pub fn trace_id(row: &Row) -> String {
    row.origin.trace.as_ref().map_or_else(|| hex(&row.id, 16), |trace| trace.id.clone())
}

/// Times are text in nanoseconds: a number would not fit JavaScript's.
fn nanos(ms: u64) -> String {
    u128::from(ms).saturating_mul(1_000_000).to_string()
}

#[derive(Default)]
struct Attributes(Vec<Value>);

impl Attributes {
    fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.0.push(json!({"key": key, "value": {"stringValue": value}}));
        }
    }

    fn number(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.0.push(json!({"key": key, "value": {"intValue": value.to_string()}}));
        }
    }
}

/// The spans of a request of `workspace` that was charged `cost`.
pub fn spans(row: &Row, workspace: &str, cost: Nanos) -> Vec<Value> {
    let trace = trace_id(row);
    let root = hex(&format!("{}/root", row.id), 8);
    let dialect = row.dialect.as_deref().unwrap_or_default();
    let operation = OPERATIONS.iter().find(|(name, _)| *name == dialect).map_or(dialect, |(_, operation)| operation);
    let operation = if operation.is_empty() { "chat" } else { operation };
    let end = row.at.saturating_add(row.total_ms);
    let mut own = Attributes::default();
    own.text("gen_ai.operation.name", Some(operation));
    own.text("gen_ai.request.model", Some(&row.model_asked));
    own.text("gen_ai.response.model", row.model.as_deref());
    own.text("gen_ai.provider.name", row.provider.as_deref());
    own.text("gen_ai.response.id", Some(&row.id));
    own.text("gen_ai.conversation.id", row.session.as_deref());
    own.number("gen_ai.usage.input_tokens", row.usage.as_ref().map(crate::usage::Usage::prompt_tokens));
    own.number("gen_ai.usage.output_tokens", row.usage.as_ref().map(crate::usage::Usage::completion_tokens));
    if let Some(reason) = &row.finish_reason {
        let list = json!([{"stringValue": reason}]);
        own.0.push(json!({"key": "gen_ai.response.finish_reasons", "value": {"arrayValue": {"values": list}}}));
    }
    own.number("http.response.status_code", Some(u64::from(row.status)));
    own.text("error.type", row.code.as_deref());
    own.text("gateway.workspace", Some(workspace));
    own.text("gateway.key", Some(&row.key));
    own.text("gateway.app", row.origin.app.as_deref());
    own.text("gateway.dialect", Some(dialect));
    own.text("gateway.ending", Some(row.ending.name()));
    own.text("gateway.paid_by", Some(&row.paid_by));
    own.text("gateway.cost_usd", Some(&cost.to_dollars()));
    own.number("gateway.first_byte_ms", row.first_byte_ms);
    own.0.push(json!({"key": "gateway.stream", "value": {"boolValue": row.stream}}));
    let mut span = json!({
        "traceId": trace, "spanId": root, "name": format!("{operation} {}", row.model_asked), "kind": SERVER,
        "startTimeUnixNano": nanos(row.at), "endTimeUnixNano": nanos(end), "attributes": own.0,
        "status": status(row.code.as_deref()),
    });
    if let (Some(trace), Some(object)) = (&row.origin.trace, span.as_object_mut()) {
        object.insert("parentSpanId".to_owned(), json!(trace.parent));
    }
    let mut all = vec![span];
    let calls = row.attempts.iter().zip(0u32..);
    all.extend(calls.map(|(attempt, at)| call(row, attempt, at, (&trace, &root, operation), end)));
    all
}

fn call(row: &Row, attempt: &AttemptRow, at: u32, (trace, root, operation): (&str, &str, &str), end: u64) -> Value {
    let start = row.at.saturating_add(attempt.start_ms);
    // The one that served goes on behind its first content, to the end.
    let until = if attempt.code.is_none() && attempt.class.is_none() { end } else { start.saturating_add(attempt.ms) };
    let mut own = Attributes::default();
    own.text("gen_ai.operation.name", Some(operation));
    own.text("gen_ai.provider.name", Some(&attempt.provider));
    own.text("gen_ai.request.model", Some(&attempt.upstream));
    own.number("http.response.status_code", attempt.status.map(u64::from));
    own.number("http.request.resend_count", Some(u64::from(at)).filter(|at| *at > 0));
    own.text("error.type", attempt.code.as_deref().or(attempt.class.as_deref()));
    own.number("gateway.first_content_ms", Some(attempt.ms).filter(|_| attempt.code.is_none()));
    json!({
        "traceId": trace, "spanId": hex(&format!("{}/{at}", row.id), 8), "parentSpanId": root,
        "name": format!("{operation} {}", attempt.upstream), "kind": CLIENT, "startTimeUnixNano": nanos(start),
        "endTimeUnixNano": nanos(until.max(start)), "attributes": own.0,
        "status": status(attempt.code.as_deref().or(attempt.class.as_deref())),
    })
}

fn status(error: Option<&str>) -> Value {
    if error.is_some() { json!({"code": ERROR}) } else { json!({}) }
}

/// The body of one export.
pub fn body(spans: &[Value]) -> String {
    let name = env!("CARGO_PKG_NAME");
    let mut resource = Attributes::default();
    resource.text("service.name", Some(name));
    resource.text("service.version", Some(env!("CARGO_PKG_VERSION")));
    json!({"resourceSpans": [{
        "resource": {"attributes": resource.0},
        "scopeSpans": [{"scope": {"name": name, "version": env!("CARGO_PKG_VERSION")}, "spans": spans}],
    }]})
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::origin::Trace;

    fn row() -> Row {
        let mut row = Row::expired("gen_1", "key_1", "a/b", 1_000, 7);
        row.total_ms = 500;
        let attempt = |provider: &str, code: Option<&str>, start_ms: u64, ms: u64| AttemptRow {
            provider: provider.to_owned(),
            upstream: "up".to_owned(),
            slot: None,
            paid_by: None,
            status: Some(if code.is_some() { 500 } else { 200 }),
            class: code.map(|_| "fault".to_owned()),
            code: code.map(str::to_owned),
            start_ms,
            ms,
            retry_after_ms: None,
        };
        row.attempts = vec![attempt("p1", Some("provider_error"), 5, 20), attempt("p2", None, 30, 100)];
        row
    }

    #[test]
    fn a_request_is_a_span_and_its_calls_are_below_it() {
        let spans = spans(&row(), "ws_1", Nanos(1_500));
        let times = |span: &Value| (span["startTimeUnixNano"].clone(), span["endTimeUnixNano"].clone());
        assert_eq!(
            spans.iter().map(times).collect::<Vec<_>>(),
            [
                (json!("1000000000"), json!("1500000000")),
                (json!("1005000000"), json!("1025000000")),
                (json!("1030000000"), json!("1500000000")),
            ]
        );
        assert!(spans[0].get("parentSpanId").is_none());
        assert!(
            spans[1..]
                .iter()
                .all(|span| span["parentSpanId"] == spans[0]["spanId"] && span["traceId"] == spans[0]["traceId"])
        );
        assert_eq!((&spans[1]["status"]["code"], &spans[2]["status"]), (&json!(2), &json!({})));
        let ids: std::collections::BTreeSet<String> = spans.iter().map(|span| span["spanId"].to_string()).collect();
        assert_eq!(
            (ids.len(), spans[0]["traceId"].as_str().unwrap().len(), spans[0]["spanId"].as_str().unwrap().len()),
            (3, 32, 16)
        );
    }

    #[test]
    fn the_clients_trace_is_kept() {
        let mut row = row();
        let trace = Trace {
            id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
            parent: "b7ad6b7169203331".to_owned(),
            is_sampled: true,
        };
        row.origin.trace = Some(trace);
        let spans = spans(&row, "ws_1", Nanos(0));
        assert_eq!(
            (&spans[0]["parentSpanId"], &spans[2]["traceId"]),
            (&json!("b7ad6b7169203331"), &json!("0af7651916cd43dd8448eb211c80319c"))
        );
    }
}
