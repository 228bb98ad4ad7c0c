//! What the gateway saw of offers: for everybody, and for the operator.

use serde_json::{Value, json};

use crate::discovery::filter;
use crate::error::Failure;
use crate::health::board::Board;
use crate::health::score::{PRIOR_WEIGHT, Score};
use crate::health::share::SHARDS;
use crate::serve::discovery::{Asked, Texts};
use crate::serve::health;
use crate::serve::ports::Ports;
use crate::serve::reply::Reply;
use crate::time::Millis;

/// `GET /v1/metrics/models`: failure rate, latency and throughput of every offer that was asked of late.
pub fn models(asked: &Asked<'_>, texts: &Texts) -> Result<String, Failure> {
    let conditions = asked.conditions(texts, &[filter::OFFERS])?;
    let mut data: Vec<Value> = Vec::new();
    for row in crate::catalog::Row::all(&texts.rows).filter(|row| conditions.iter().all(|c| c.holds(row))) {
        let Some(score) = asked.score(&row) else { continue };
        let mut told = told(&score);
        if let Some(object) = told.as_object_mut() {
            let name = |facet: &str| json!(row.value(facet));
            object.insert("id".to_owned(), json!(row.id()));
            object.insert("object".to_owned(), json!("metrics"));
            object.insert("model".to_owned(), name("model"));
            object.insert("provider".to_owned(), name("provider"));
        }
        data.push(told);
    }
    Ok(json!({"object": "list", "data": data}).to_string())
}

/// `GET /v1/admin/health`: every offer with its breaker and cool-down, as this isolate knows it and as the health objects
/// do (`shared`), what the operator switched, and what this isolate did so far.
pub async fn health<P: Ports>(ports: &P) -> Result<Reply<P>, Failure> {
    // Before what this very answer reads.
    let counters = ports.counters();
    ports.recall_health().await;
    let all = futures::future::join_all((0..SHARDS).map(|shard| health::state(ports, shard))).await;
    let (mut shared, mut switches) = (Vec::new(), Vec::new());
    for state in all {
        let state = state?;
        shared.extend(state.offers);
        switches.extend(state.switches);
    }
    let offers = offers(&ports.board().borrow(), ports.now());
    let told = json!({"counters": counters, "offers": offers, "shared": shared, "switches": switches});
    Ok(Reply::json(200, &told))
}

/// Every offer of a board, for the operator.
pub fn offers(board: &Board, now: Millis) -> Vec<Value> {
    board
        .views(now)
        .iter()
        .map(|view| {
            let mut told = told(&view.score);
            if let Some(object) = told.as_object_mut() {
                object.insert("provider".to_owned(), json!(view.provider));
                object.insert("upstream".to_owned(), json!(view.upstream));
                object.insert("openings".to_owned(), json!(view.openings));
                object.insert("seen_at".to_owned(), json!(view.seen_at.to_rfc3339()));
                let until = view.score.standing.until().map(Millis::to_rfc3339);
                object.insert("until".to_owned(), json!(until));
            }
            told
        })
        .collect()
}

/// A score for people. Rates are of attempts of late, faded.
fn told(score: &Score) -> Value {
    let whole = |value: f64| value.round();
    let attempts = (score.weight - PRIOR_WEIGHT).max(0.0);
    json!({
        "attempts": (attempts * 10.0).round() / 10.0,
        "failure_rate": ((1.0 - score.reliability).max(0.0) * 10_000.0).round() / 10_000.0,
        "latency_ms": score.latency.map(|spread| json!({"p50": whole(spread.median()), "p95": whole(spread.p95())})),
        "tokens_per_second": score.pace.map(|spread| whole(1000.0 / spread.median().max(0.001))),
        "state": score.standing.name(),
    })
}
