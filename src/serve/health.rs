//! What isolates and health objects tell each other, and the operator's switch of a provider.
//!
//! The switch is the health object's: it keeps it, and publishes it with its snapshot, which every isolate reads again
//! within `HEALTH_REFRESH_MS`. So it acts everywhere within a minute, and at once where it was made.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::catalog::{Routing, rows_key};
use crate::error::{Code, Failure};
use crate::health::share::{shard, write_report};
use crate::serve::ports::Ports;
use crate::serve::query::path_value;
use crate::serve::reply::Reply;
use crate::serve::{admin, fault};

/// Reports what this isolate saw, where that is due. What does not arrive is lost; nobody waits for it.
pub async fn report<P: Ports>(ports: &P) {
    let due = ports.board().borrow_mut().take_report(ports.now());
    for (shard, entries) in due {
        if let Err(error) = ports.health(shard, "report", &write_report(&entries)).await {
            ports.log(&format!("a report of health is lost: {}", error.0));
        }
    }
}

/// What a health object answers.
#[derive(Debug, Default, Deserialize)]
pub struct State {
    /// Its offers, for people.
    #[serde(default)]
    pub offers: Vec<Value>,
    /// Its switches: `{provider, routing, reason, at}`.
    #[serde(default)]
    pub switches: Vec<Value>,
}

/// What the health object of a shard knows.
pub async fn state<P: Ports>(ports: &P, shard: u64) -> Result<State, Failure> {
    ask(ports, shard, "state", "").await
}

async fn ask<P: Ports>(ports: &P, shard: u64, what: &str, body: &str) -> Result<State, Failure> {
    let text = ports.health(shard, what, body).await.map_err(|error| fault(ports, &error))?;
    crate::json::from_str(&text).map_err(|_| Failure::new(Code::Internal, "the health object's answer is malformed"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    routing: Routing,
    #[serde(default)]
    reason: Option<String>,
}

/// `GET /v1/admin/providers/{id}`: how it is switched, and how its offers fare.
pub async fn provider<P: Ports>(ports: &P, id: &str) -> Result<Reply<P>, Failure> {
    let id = known(ports, id).await?;
    let state = state(ports, shard(&id)).await?;
    Ok(Reply::json(200, &shown(&id, state)))
}

/// `PATCH /v1/admin/providers/{id}` with `{"routing": "on" | "last" | "off", "reason"?}`: enable, derank or disable it.
pub async fn switch<P: Ports>(ports: &P, id: &str) -> Result<Reply<P>, Failure> {
    let id = known(ports, id).await?;
    let change: Change = admin::body(ports).await?;
    let reason = change.reason.map(|text| admin::label("reason", &text)).transpose()?;
    let switch = json!({
        "provider": id, "routing": change.routing, "reason": reason, "at": ports.now().to_rfc3339(),
    });
    let shard = shard(&id);
    let state = ask(ports, shard, "switch", &switch.to_string()).await?;
    let of = |switch: &Value| {
        let routing = crate::json::from_str(&switch.get("routing")?.to_string()).ok()?;
        Some((switch.get("provider")?.as_str()?.to_owned(), routing))
    };
    ports.board().borrow_mut().on_switches(shard, state.switches.iter().filter_map(of).collect());
    Ok(Reply::json(200, &shown(&id, state)))
}

fn shown(id: &str, state: State) -> Value {
    let is_own = |value: &Value| value.get("provider").and_then(Value::as_str) == Some(id);
    let switch = state.switches.into_iter().find(is_own);
    let of = |field: &str| switch.as_ref().and_then(|switch| switch.get(field)).cloned();
    let offers: Vec<Value> = state.offers.into_iter().filter(is_own).collect();
    json!({
        "object": "provider", "id": id, "routing": of("routing").unwrap_or_else(|| json!(Routing::On)),
        "reason": of("reason"), "switched_at": of("at"), "offers": offers,
    })
}

/// The id, where the catalog in use has a provider of that name: a slip of the pen must not look like a switch.
pub async fn known<P: Ports>(ports: &P, id: &str) -> Result<String, Failure> {
    let id = path_value(id);
    let unknown = || Failure::new(Code::NotFound, "there is no such provider in the catalog");
    let snapshot = ports.snapshot().await.map_err(|error| fault(ports, &error))?.ok_or_else(unknown)?;
    let rows = ports.kv_get(&rows_key(&snapshot, "provider", &id)).await.map_err(|error| fault(ports, &error))?;
    match rows {
        Some(_) => Ok(id),
        None => Err(unknown()),
    }
}
