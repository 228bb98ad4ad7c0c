//! Activity rows: those in D1, and in front of them those the workspace has not flushed yet.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::activity::row::Row;
use crate::error::{Code, Failure};
use crate::id::{RequestId, WorkspaceId};
use crate::money::Nanos;
use crate::serve::fault;
use crate::serve::ports::{Ports, Sql};
use crate::serve::query;
use crate::serve::reply::Reply;

const LIMIT_DEFAULT: u64 = 20;
const LIMIT_MAX: u64 = 100;

/// `GET /v1/activity`: newest first; `cursor` is the id of the last row seen.
pub async fn list<P: Ports>(ports: &P, workspace: &WorkspaceId, query: &str) -> Result<Reply<P>, Failure> {
    let limit = query::limit(query, LIMIT_DEFAULT, LIMIT_MAX)?;
    let cursor = match query::value(query, "cursor") {
        None => None,
        Some(text) => {
            Some(RequestId::parse(&text).ok_or_else(|| Failure::invalid("cursor", "is not a cursor of this list"))?)
        }
    };
    let before = cursor.as_ref().map_or("gen_~", RequestId::as_str);
    // One more than asked for tells whether there is another page.
    let statement =
        "SELECT id, cost_nanos, row FROM activity WHERE workspace = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3";
    let wanted = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    let mut rows = unflushed(ports, workspace).await?;
    rows.retain(|id, _| id.as_str() < before);
    let values = [Sql::from(workspace.as_str()), Sql::from(before), Sql::Int(wanted)];
    let stored = ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    for (id, row) in stored.iter().filter_map(from_stored) {
        rows.entry(id).or_insert(row);
    }
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > page;
    let data: Vec<(String, Value)> = rows.into_iter().rev().take(page).collect();
    let next = data.last().filter(|_| more).map(|(id, _)| id.clone());
    let data: Vec<Value> = data.into_iter().map(|(_, row)| row).collect();
    Ok(Reply::json(200, &json!({"object": "list", "data": data, "next_cursor": next})))
}

/// `GET /v1/generation?id=`: one request's own row.
pub async fn one<P: Ports>(ports: &P, workspace: &WorkspaceId, query: &str) -> Result<Reply<P>, Failure> {
    let asked = query::value(query, "id").ok_or_else(|| Failure::invalid("id", "is missing"))?;
    let unknown = || Failure::new(Code::NotFound, "there is no generation of that id").about("id");
    let id = RequestId::parse(&asked).ok_or_else(unknown)?;
    if let Some(row) = unflushed(ports, workspace).await?.remove(id.as_str()) {
        return Ok(Reply::json(200, &row));
    }
    let statement = "SELECT id, cost_nanos, row FROM activity WHERE workspace = ?1 AND id = ?2";
    let values = [Sql::from(workspace.as_str()), Sql::from(id.as_str())];
    let stored = ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    let row = stored.first().and_then(from_stored).ok_or_else(unknown)?;
    Ok(Reply::json(200, &row.1))
}

async fn unflushed<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<BTreeMap<String, Value>, Failure> {
    ports.settled(workspace).await;
    let entries = ports.outbox(workspace).await.map_err(|error| fault(ports, &error))?;
    let rows = entries.into_iter().filter_map(|entry| {
        let row: Row = serde_json::from_str(entry.row?.get()).ok()?;
        Some((row.id.clone(), shown(&row, Nanos(entry.entry.nanos.0.saturating_neg()))))
    });
    Ok(rows.collect())
}

fn from_stored(stored: &Value) -> Option<(String, Value)> {
    let row: Row = serde_json::from_str(stored.get("row")?.as_str()?).ok()?;
    let cost = stored.get("cost_nanos")?.as_f64()?;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "D1 hands whole numbers over as floats; the ledger has the truth"
    )]
    let cost = Nanos(cost as i64);
    Some((row.id.clone(), shown(&row, cost)))
}

/// A row as the API shows it: what was stored, and what the ledger charged.
fn shown(row: &Row, cost: Nanos) -> Value {
    let mut value = serde_json::to_value(row).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        let usage = row.usage.as_ref();
        object.insert("object".to_owned(), json!("generation"));
        object.insert("created_at".to_owned(), json!(crate::time::Millis(row.at).to_rfc3339()));
        object.insert("prompt_tokens".to_owned(), json!(usage.map(crate::usage::Usage::prompt_tokens)));
        object.insert("completion_tokens".to_owned(), json!(usage.map(crate::usage::Usage::completion_tokens)));
        object.insert("cost_nanos".to_owned(), json!(cost));
        let number = serde_json::from_str::<Value>(&cost.to_dollars()).unwrap_or_default();
        object.insert("cost".to_owned(), number);
    }
    value
}
