//! Activity rows: those in D1, and in front of them those the workspace has not flushed yet.
//!
//! What is not flushed is read first and D1 after it, so a row that moves meanwhile is in one of the two, or in both and
//! shown once.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

use crate::activity::export::Format;
use crate::activity::question::{Operand, Question, SCAN_ROWS, Unclear};
use crate::activity::row::Row;
use crate::error::{Code, Failure};
use crate::id::{RequestId, WorkspaceId};
use crate::money::Nanos;
use crate::serve::ports::{Client, Ports, Sql};
use crate::serve::reply::{Body, Reply};
use crate::serve::{Head, fault, query};

const LIMIT_DEFAULT: u64 = 20;
const LIMIT_MAX: u64 = 100;
/// Rows of an export read at once; no more are held in memory.
const EXPORT_ROWS: u64 = 500;

/// Rows, newest first, and the id to go on from.
pub(super) struct Page {
    pub(super) rows: Vec<Value>,
    pub(super) next: Option<String>,
}

/// `GET /v1/activity` and `GET /v1/admin/workspaces/{id}/activity`: a page, or with another format all that fit.
pub async fn list<P: Ports>(ports: &Rc<P>, workspace: &WorkspaceId, head: &Head) -> Result<Reply<P>, Failure> {
    let query = head.query.as_str();
    let question = Question::parse(&query::each(query)).map_err(|Unclear(name, why)| Failure::invalid(name, why))?;
    let format = query::value(query, "format");
    let format =
        Format::asked(format.as_deref(), head.accept.as_deref()).map_err(|why| Failure::invalid("format", why))?;
    let Some(format) = format else {
        let limit = query::limit(query, LIMIT_DEFAULT, LIMIT_MAX)?;
        let page = page(ports.as_ref(), workspace, &question, limit).await?;
        return Ok(Reply::json(200, &json!({"object": "list", "data": page.rows, "next_cursor": page.next})));
    };
    // The first page comes before the status: what fails at once is an answer of its own.
    let first = page(ports.as_ref(), workspace, &question, EXPORT_ROWS).await?;
    let (client, readable) = ports.open_stream();
    ports.in_background(export(Rc::clone(ports), workspace.clone(), question, format, first, client));
    let reply = Reply {
        status: 200,
        headers: vec![("content-type", format.media_type().to_owned())],
        body: Body::Stream(readable),
    };
    Ok(reply)
}

/// Writes page after page. One that cannot be read ends the export with a line that says so.
async fn export<P: Ports>(
    ports: Rc<P>,
    workspace: WorkspaceId,
    question: Question,
    format: Format,
    first: Page,
    mut client: P::Client,
) {
    let mut text = format.head();
    let mut current = first;
    loop {
        current.rows.iter().for_each(|row| format.line(row, &mut text));
        if client.write(text.as_bytes()).await.is_err() {
            return;
        }
        text.clear();
        let Some(next) = &current.next else { break };
        match page(ports.as_ref(), &workspace, &question.after(next), EXPORT_ROWS).await {
            Ok(page) => current = page,
            Err(failure) => {
                let error = json!({"error": {"code": failure.code.name(), "message": failure.message, "cursor": next}});
                let _ = client.write(format!("{error}\n").as_bytes()).await;
                break;
            }
        }
    }
    client.close().await;
}

pub(super) async fn page<P: Ports>(
    ports: &P,
    workspace: &WorkspaceId,
    question: &Question,
    limit: u64,
) -> Result<Page, Failure> {
    let mut rows = unflushed(ports, workspace).await?;
    rows.retain(|id, row| question.holds(id, row));
    let (statement, operands) = question.statement();
    let (from, before) = question.range();
    // One more than asked for tells whether there is another page.
    let wanted = Sql::Int(i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX));
    let mut values = vec![Sql::from(workspace.as_str()), Sql::from(from), Sql::from(before), wanted];
    values.extend(operands.into_iter().map(|operand| match operand {
        Operand::Text(text) => Sql::Text(text),
        Operand::Number(number) => Sql::Int(number),
    }));
    let stored = ports.sql(&statement, &values).await.map_err(|error| fault(ports, &error))?;
    let is_full = u64::try_from(stored.len()).unwrap_or(u64::MAX) > limit;
    let end = match is_full || question.is_plain() {
        true => None,
        false => scan_end(ports, workspace, question).await?,
    };
    for (id, row) in stored.iter().filter_map(from_stored) {
        rows.entry(id).or_insert(row);
    }
    if let Some(end) = &end {
        rows.retain(|id, _| id >= end);
    }
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_cut = rows.len() > most;
    let chosen: Vec<(String, Value)> = rows.into_iter().rev().take(most).collect();
    // Where the scan ended early the next page goes on from there, however few rows this one has.
    let next = if is_cut { chosen.last().map(|(id, _)| id.clone()) } else { end };
    Ok(Page { rows: chosen.into_iter().map(|(_, row)| presented(row)).collect(), next })
}

/// The last row that the scan of a page looked at, where there are more after it.
async fn scan_end<P: Ports>(
    ports: &P,
    workspace: &WorkspaceId,
    question: &Question,
) -> Result<Option<String>, Failure> {
    let (from, before) = question.range();
    let statement =
        "SELECT id FROM activity WHERE workspace = ?1 AND id >= ?2 AND id < ?3 ORDER BY id DESC LIMIT 1 OFFSET ?4";
    let skipped = Sql::Int(i64::try_from(SCAN_ROWS.saturating_sub(1)).unwrap_or(i64::MAX));
    let values = [Sql::from(workspace.as_str()), Sql::from(from), Sql::from(before), skipped];
    let rows = ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    Ok(rows.first().and_then(|row| row.get("id")?.as_str().map(str::to_owned)))
}

/// `GET /v1/generation?id=`: one request's own row.
pub async fn one<P: Ports>(ports: &P, workspace: &WorkspaceId, query: &str) -> Result<Reply<P>, Failure> {
    let asked = query::value(query, "id").ok_or_else(|| Failure::invalid("id", "is missing"))?;
    let unknown = || Failure::new(Code::NotFound, "there is no generation of that id").about("id");
    let id = RequestId::parse(&asked).ok_or_else(unknown)?;
    if let Some(row) = unflushed(ports, workspace).await?.remove(id.as_str()) {
        return Ok(Reply::json(200, &presented(row)));
    }
    let statement = "SELECT id, cost_nanos, row FROM activity WHERE workspace = ?1 AND id = ?2";
    let values = [Sql::from(workspace.as_str()), Sql::from(id.as_str())];
    let stored = ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    let row = stored.first().and_then(from_stored).ok_or_else(unknown)?;
    Ok(Reply::json(200, &presented(row.1)))
}

async fn unflushed<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<BTreeMap<String, Value>, Failure> {
    ports.settled(workspace).await;
    let entries = ports.outbox(workspace).await.map_err(|error| fault(ports, &error))?;
    let rows = entries.into_iter().filter_map(|entry| {
        let row: Row = crate::json::from_str(entry.row?.get()).ok()?;
        Some((row.id.clone(), shown(&row, Nanos(entry.entry.nanos.0.saturating_neg()))))
    });
    Ok(rows.collect())
}

fn from_stored(stored: &Value) -> Option<(String, Value)> {
    let row: Row = crate::json::from_str(stored.get("row")?.as_str()?).ok()?;
    let cost = stored.get("cost_nanos")?.as_f64()?;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "D1 hands whole numbers over as floats; the ledger has the truth"
    )]
    let cost = Nanos(cost as i64);
    Some((row.id.clone(), shown(&row, cost)))
}

/// A row as it was stored, and what the ledger charged: what filters look at.
fn shown(row: &Row, cost: Nanos) -> Value {
    let mut value = serde_json::to_value(row).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        let usage = row.usage.as_ref();
        object.insert("object".to_owned(), json!("generation"));
        object.insert("created_at".to_owned(), json!(crate::time::Millis(row.at).to_rfc3339()));
        object.insert("prompt_tokens".to_owned(), json!(usage.map(crate::usage::Usage::prompt_tokens)));
        object.insert("completion_tokens".to_owned(), json!(usage.map(crate::usage::Usage::completion_tokens)));
        object.insert("cost_nanos".to_owned(), json!(cost));
        let number = crate::json::from_str::<Value>(&cost.to_dollars()).unwrap_or_default();
        object.insert("cost".to_owned(), number);
    }
    value
}

/// The same as the API shows it: where it came from stands beside the rest.
fn presented(mut row: Value) -> Value {
    if let Some(object) = row.as_object_mut()
        && let Some(origin) = object.remove("origin")
    {
        for (name, pointer) in
            [("app", "/app"), ("referer", "/referer"), ("trace_id", "/trace/id"), ("parent_span_id", "/trace/parent")]
        {
            if let Some(value) = origin.pointer(pointer) {
                object.insert(name.to_owned(), value.clone());
            }
        }
    }
    row
}
