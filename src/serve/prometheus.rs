//! `GET /v1/admin/metrics`: what monitoring reads, out of what is kept anyway.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::analytics::prometheus::{CONTENT_TYPE, Text, seconds};
use crate::analytics::rollup::Span;
use crate::analytics::sketch::BUCKETS;
use crate::analytics::totals;
use crate::error::Failure;
use crate::health::share::SHARDS;
use crate::id::WorkspaceId;
use crate::money::Nanos;
use crate::serve::ports::{Ports, Sql};
use crate::serve::reply::Reply;
use crate::serve::{fault, health};

/// Most workspaces whose outboxes are looked at: each is a call of its object.
const WORKSPACES_MAX: usize = 200;
/// How long ago a workspace was active last, in days, for its outbox to be looked at.
const ACTIVE_DAYS: u64 = 2;

/// Workspaces that were active since `?1` (a day's start), or have webhooks.
const ACTIVE: &str = "SELECT id, EXISTS (SELECT 1 FROM webhooks h WHERE h.workspace = w.id) AS hooks FROM workspaces w WHERE \
    EXISTS (SELECT 1 FROM rollups r WHERE r.workspace = w.id AND r.span = 'day' AND r.start >= ?1) OR hooks ORDER BY id DESC LIMIT ?2";

/// The answer.
pub async fn read<P: Ports>(ports: &P) -> Result<Reply<P>, Failure> {
    let rows = ports.sql(totals::READ, &[]).await.map_err(|error| fault(ports, &error))?;
    let mut text = Text::default();
    counted(&mut text, &rows);
    offers(ports, &mut text).await?;
    outboxes(ports, &mut text).await?;
    Ok(Reply::text(200, CONTENT_TYPE, text.finish()))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "D1 hands whole numbers over as floats")]
fn number(row: &Value, column: &str) -> u64 {
    row.get(column).and_then(Value::as_f64).unwrap_or(0.0).max(0.0) as u64
}

fn name<'a>(row: &'a Value, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}

/// Sums of a provider over its codes.
#[derive(Default)]
struct Sums {
    requests: u64,
    prompt: u64,
    completion: u64,
    nanos: u64,
    ms: u64,
    buckets: Vec<u64>,
}

fn counted(text: &mut Text, rows: &[Value]) {
    let by_code = |text: &mut Text, column: &str| {
        for row in rows.iter().filter(|row| number(row, column) > 0) {
            let labels = [("provider", name(row, "provider")), ("code", name(row, "code"))];
            text.sample("", &labels, &number(row, column).to_string());
        }
    };
    text.family(
        "ai_gateway_requests_total",
        "counter",
        "Requests that ended, by who served or failed last; code is empty where none failed.",
    );
    by_code(text, "requests");
    text.family("ai_gateway_attempts_total", "counter", "Calls of providers; code is empty where the call served.");
    by_code(text, "attempts");
    let mut providers: BTreeMap<&str, Sums> = BTreeMap::new();
    for row in rows.iter().filter(|row| number(row, "requests") > 0) {
        let sums = providers.entry(name(row, "provider")).or_default();
        sums.buckets.resize(BUCKETS, 0);
        sums.requests = sums.requests.saturating_add(number(row, "requests"));
        sums.prompt = sums.prompt.saturating_add(number(row, "prompt_tokens"));
        sums.completion = sums.completion.saturating_add(number(row, "completion_tokens"));
        sums.nanos = sums.nanos.saturating_add(number(row, "cost_nanos"));
        sums.ms = sums.ms.saturating_add(number(row, "total_ms"));
        for (at, bucket) in sums.buckets.iter_mut().enumerate() {
            *bucket = bucket.saturating_add(number(row, &format!("h{at}")));
        }
    }
    text.family("ai_gateway_tokens_total", "counter", "Tokens used, by kind.");
    for (provider, sums) in &providers {
        text.sample("", &[("provider", provider), ("kind", "prompt")], &sums.prompt.to_string());
        text.sample("", &[("provider", provider), ("kind", "completion")], &sums.completion.to_string());
    }
    text.family("ai_gateway_cost_dollars_total", "counter", "What was charged, in US dollars.");
    for (provider, sums) in &providers {
        let nanos = Nanos(i64::try_from(sums.nanos).unwrap_or(i64::MAX));
        text.sample("", &[("provider", provider)], &nanos.to_dollars());
    }
    text.family(
        "ai_gateway_request_duration_seconds",
        "histogram",
        "Whole time of requests; one of exactly a bound counts above it.",
    );
    for (provider, sums) in &providers {
        duration(text, provider, sums);
    }
}

/// Every second bound of the sketch, which is a power of two in milliseconds; its last bucket has no end.
fn duration(text: &mut Text, provider: &str, sums: &Sums) {
    let mut below = 0u64;
    for (at, pair) in (1u32..).zip(sums.buckets.chunks(2)) {
        below = below.saturating_add(pair.iter().sum());
        if usize::try_from(at).is_ok_and(|at| at.saturating_mul(2) < BUCKETS) {
            let bound = seconds(1u64.checked_shl(at).unwrap_or(u64::MAX));
            text.sample("_bucket", &[("provider", provider), ("le", &bound)], &below.to_string());
        }
    }
    text.sample("_bucket", &[("provider", provider), ("le", "+Inf")], &sums.requests.to_string());
    text.sample("_sum", &[("provider", provider)], &seconds(sums.ms));
    text.sample("_count", &[("provider", provider)], &sums.requests.to_string());
}

async fn offers<P: Ports>(ports: &P, text: &mut Text) -> Result<(), Failure> {
    let all = futures::future::join_all((0..SHARDS).map(|shard| health::state(ports, shard))).await;
    text.family(
        "ai_gateway_offer_state",
        "gauge",
        "1 for the state of an offer that was asked of late: its breaker, or its cool-down.",
    );
    for state in all {
        for offer in state?.offers {
            let of = |field: &str| name(&offer, field);
            text.sample("", &[("provider", of("provider")), ("upstream", of("upstream")), ("state", of("state"))], "1");
        }
    }
    Ok(())
}

async fn outboxes<P: Ports>(ports: &P, text: &mut Text) -> Result<(), Failure> {
    let since =
        Span::Day.start(ports.now()).0.saturating_sub(Span::Day.ms().saturating_mul(ACTIVE_DAYS.saturating_sub(1)));
    let limit = i64::try_from(WORKSPACES_MAX).unwrap_or(i64::MAX).saturating_add(1);
    let values = [Sql::Int(i64::try_from(since).unwrap_or(i64::MAX)), Sql::Int(limit)];
    let rows = ports.sql(ACTIVE, &values).await.map_err(|error| fault(ports, &error))?;
    let known = |row: &Value| Some((WorkspaceId::parse(row.get("id")?.as_str()?)?, number(row, "hooks") > 0));
    let mut workspaces: Vec<(WorkspaceId, bool)> = rows.iter().filter_map(known).collect();
    let is_more = workspaces.len() > WORKSPACES_MAX;
    workspaces.truncate(WORKSPACES_MAX);
    let depths = workspaces.iter().map(|(id, _)| ports.depth(id));
    let depths = futures::future::join_all(depths).await;
    text.family("ai_gateway_outbox_rows", "gauge", "Activity rows of a workspace that are not in D1 yet.");
    let mut unknown = 0u64;
    for ((id, _), depth) in workspaces.iter().zip(depths) {
        match depth {
            Ok(depth) => text.sample("", &[("workspace", id.as_str())], &depth.to_string()),
            Err(_) => unknown = unknown.saturating_add(1),
        }
    }
    let hooks: Vec<&WorkspaceId> = workspaces.iter().filter(|(_, has)| *has).map(|(id, _)| id).collect();
    let waiting = futures::future::join_all(hooks.iter().map(|id| ports.courier(id, "depth", ""))).await;
    text.family(
        "ai_gateway_webhook_deliveries_waiting",
        "gauge",
        "Deliveries of a workspace's webhooks that have not arrived yet.",
    );
    for (id, waiting) in hooks.iter().zip(waiting) {
        match waiting.ok().and_then(|text| text.parse::<u64>().ok()) {
            Some(waiting) => text.sample("", &[("workspace", id.as_str())], &waiting.to_string()),
            None => unknown = unknown.saturating_add(1),
        }
    }
    text.family("ai_gateway_outboxes_unanswered", "gauge", "Outboxes that did not answer.");
    text.sample("", &[], &unknown.to_string());
    text.family("ai_gateway_outboxes_incomplete", "gauge", "1 where more workspaces are active than are looked at.");
    text.sample("", &[], if is_more { "1" } else { "0" });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sums_are_by_code_and_the_histogram_adds_up() {
        let mut ok = json!({"provider": "p", "code": "", "requests": 3, "attempts": 4, "prompt_tokens": 30, "completion_tokens": 9, "cost_nanos": 1_500, "total_ms": 2_005});
        ok["h2"] = json!(1); // 2 ms
        ok["h19"] = json!(1); // 1000 ms
        ok["h39"] = json!(1);
        let mut bad = json!({"provider": "p", "code": "provider_error", "requests": 1, "attempts": 2, "total_ms": 1});
        bad["h0"] = json!(1);
        let mut text = Text::default();
        counted(&mut text, &[ok, bad]);
        let text = text.finish();
        for line in [
            "ai_gateway_requests_total{provider=\"p\",code=\"\"} 3",
            "ai_gateway_requests_total{provider=\"p\",code=\"provider_error\"} 1",
            "ai_gateway_attempts_total{provider=\"p\",code=\"provider_error\"} 2",
            "ai_gateway_tokens_total{provider=\"p\",kind=\"prompt\"} 30",
            "ai_gateway_cost_dollars_total{provider=\"p\"} 0.0000015",
            "ai_gateway_request_duration_seconds_bucket{provider=\"p\",le=\"0.002\"} 1",
            "ai_gateway_request_duration_seconds_bucket{provider=\"p\",le=\"0.004\"} 2",
            "ai_gateway_request_duration_seconds_bucket{provider=\"p\",le=\"1.024\"} 3",
            "ai_gateway_request_duration_seconds_bucket{provider=\"p\",le=\"524.288\"} 3",
            "ai_gateway_request_duration_seconds_bucket{provider=\"p\",le=\"+Inf\"} 4",
            "ai_gateway_request_duration_seconds_sum{provider=\"p\"} 2.006",
            "ai_gateway_request_duration_seconds_count{provider=\"p\"} 4",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }
}
