//! `GET /v1/admin/workspaces/{id}/analytics`: requests, failures, tokens, cost and times by hour or day.

use serde_json::{Value, json};

use crate::analytics::rollup::{GROUPS, Span, read_statement};
use crate::analytics::sketch::{self, BUCKETS};
use crate::error::Failure;
use crate::id::WorkspaceId;
use crate::money::Nanos;
use crate::serve::ports::{Ports, Sql};
use crate::serve::reply::Reply;
use crate::serve::{fault, query};
use crate::time::Millis;

/// Most sums of one answer.
const SUMS_MAX: i64 = 10_000;
/// The range where none is asked for, in spans.
const SPANS_DEFAULT: u64 = 30;

/// What is asked.
struct Asked {
    span: Span,
    group: Option<&'static str>,
    since: Millis,
    until: Millis,
    filters: Vec<(&'static str, String)>,
}

fn parse(query: &str, now: Millis) -> Result<Asked, Failure> {
    let (mut span, mut group, mut since, mut until) = (Span::Day, None, None, None);
    let mut filters: Vec<(&'static str, String)> = Vec::new();
    for (name, value) in query::each(query) {
        let moment = || {
            let parsed = Millis::from_rfc3339(&value);
            parsed.ok_or_else(|| Failure::invalid(&*name, "must be a moment in RFC 3339"))
        };
        let column = || GROUPS.iter().copied().find(|group| *group == value);
        match name.as_str() {
            "interval" => {
                let found = Span::ALL.into_iter().find(|span| span.name() == value);
                span = found.ok_or_else(|| Failure::invalid("interval", "must be hour or day"))?;
            }
            "group_by" => {
                let unknown = || Failure::invalid("group_by", "must be model, provider, key or app");
                group = Some(column().ok_or_else(unknown)?);
            }
            "since" => since = Some(moment()?),
            "until" => until = Some(moment()?),
            other => match GROUPS.iter().copied().find(|group| *group == other) {
                Some(group) if filters.iter().all(|(known, _)| *known != group) => filters.push((group, value)),
                Some(_) => return Err(Failure::invalid(name, "is there twice")),
                None => return Err(Failure::invalid(name, "is not a parameter of analytics")),
            },
        }
    }
    // The span that holds the end is a whole one.
    let until = until.unwrap_or_else(|| now.plus(1));
    let since = since.unwrap_or_else(|| Millis(until.0.saturating_sub(span.ms().saturating_mul(SPANS_DEFAULT))));
    let since = span.start(since);
    if until.since(since) > span.range_ms_max() {
        let days = span.range_ms_max() / Span::Day.ms();
        return Err(Failure::invalid(
            "since",
            format!("is more than {days} days before the end, the most by {}", span.name()),
        ));
    }
    Ok(Asked { span, group, since, until, filters })
}

/// The answer.
pub async fn read<P: Ports>(ports: &P, workspace: &WorkspaceId, query: &str) -> Result<Reply<P>, Failure> {
    let asked = parse(query, ports.now())?;
    let columns: Vec<&str> = asked.filters.iter().map(|(column, _)| *column).collect();
    let whole = |at: Millis| Sql::Int(i64::try_from(at.0).unwrap_or(i64::MAX));
    let mut values = vec![
        Sql::from(workspace.as_str()),
        Sql::from(asked.span.name()),
        whole(asked.since),
        whole(asked.until),
        Sql::Int(SUMS_MAX.saturating_add(1)),
    ];
    values.extend(asked.filters.iter().map(|(_, value)| Sql::Text(value.clone())));
    let statement = read_statement(asked.group, &columns);
    let rows = ports.sql(&statement, &values).await.map_err(|error| fault(ports, &error))?;
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) > SUMS_MAX {
        return Err(Failure::invalid("since", format!("asks for more than {SUMS_MAX} sums: ask for a shorter range")));
    }
    let data: Vec<Value> = rows.iter().map(|row| told(row, asked.group)).collect();
    Ok(Reply::json(
        200,
        &json!({
            "object": "list", "interval": asked.span.name(), "group_by": asked.group,
            "since": asked.since.to_rfc3339(), "until": asked.until.to_rfc3339(), "data": data,
        }),
    ))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "D1 hands whole numbers over as floats")]
fn number(row: &Value, column: &str) -> u64 {
    row.get(column).and_then(Value::as_f64).unwrap_or(0.0).max(0.0) as u64
}

pub(super) fn told(row: &Value, group: Option<&str>) -> Value {
    let buckets: Vec<u64> = (0..BUCKETS).map(|bucket| number(row, &format!("h{bucket}"))).collect();
    let cost = Nanos(i64::try_from(number(row, "cost_nanos")).unwrap_or(i64::MAX));
    let mut told = json!({
        "start": Millis(number(row, "start")).to_rfc3339(),
        "requests": number(row, "requests"), "failures": number(row, "failures"),
        "prompt_tokens": number(row, "prompt_tokens"), "completion_tokens": number(row, "completion_tokens"),
        "cost": crate::json::from_str::<Value>(&cost.to_dollars()).unwrap_or_default(), "cost_nanos": cost,
        "latency_ms": {"p50": sketch::quantile(&buckets, 50), "p95": sketch::quantile(&buckets, 95)},
    });
    if let (Some(group), Some(object)) = (group, told.as_object_mut()) {
        let name = row.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        object.insert(group.to_owned(), json!(name));
    }
    told
}
