//! How long activity rows are kept: the setting of a workspace, and the sweep that the schedule calls.
//!
//! Rows go to the archive (a bucket, where one is bound) before they are deleted, and only those that were written are
//! deleted. Sums (`rollups`, `totals`) stay. What is erased of a workspace is erased there too.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::error::Failure;
use crate::id::{RequestId, WorkspaceId};
use crate::serve::act::{Act, TRIES, Told};
use crate::serve::admin::{body, known};
use crate::serve::ports::{PortError, Ports, Sql};
use crate::serve::reply::Reply;
use crate::serve::{etag, fault};
use crate::time::Millis;

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Most days.
const DAYS_MAX: u64 = 3_650;
/// Rows of one batch.
const BATCH_ROWS: i64 = 500;
/// Batches of one sweep.
const BATCHES_MAX: usize = 250;
/// How long a sweep may take, in milliseconds.
const SWEEP_MS: u64 = 600_000;

/// Workspaces whose oldest row is over its time at `?1`, by days `?2` where they have none of their own.
const DUE: &str = "SELECT id, days FROM (SELECT w.id, coalesce(w.retention_days, ?2) AS days, \
    (SELECT a.at FROM activity a WHERE a.workspace = w.id ORDER BY a.id LIMIT 1) AS oldest FROM workspaces w \
    WHERE w.erase_at IS NULL OR w.erase_at > 0) \
    WHERE days > 0 AND oldest < ?1 - days * 86400000 ORDER BY oldest LIMIT 250";
/// Whether a workspace is there and not about to be erased.
const STAYS: &str = "SELECT 1 AS stays FROM workspaces WHERE id = ?1 AND (erase_at IS NULL OR erase_at > 0)";
const OLD: &str = "SELECT id, cost_nanos, row FROM activity WHERE workspace = ?1 AND id < ?2 ORDER BY id LIMIT ?3";
const DELETE: &str = "DELETE FROM activity WHERE workspace = ?1 AND id IN (SELECT value FROM json_each(?2))";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Null is a wish; nothing is none.
    #[serde(deserialize_with = "Option::deserialize")]
    days: Option<u64>,
}

fn whole(number: u64) -> Sql {
    Sql::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// The days that a workspace has set; `None`: none.
async fn own<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<Option<u64>, Failure> {
    let statement = "SELECT retention_days AS days FROM workspaces WHERE id = ?1";
    let rows = ports.sql(statement, &[Sql::from(workspace.as_str())]).await.map_err(|error| fault(ports, &error))?;
    let own = rows.first().and_then(|row| row.get("days")?.as_f64());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "D1 hands whole numbers over as floats")]
    Ok(own.map(|days| days.max(0.0) as u64))
}

fn shown<P: Ports>(ports: &P, workspace: &WorkspaceId, own: Option<u64>) -> Value {
    let default = ports.settings().retention_days;
    json!({
        "object": "retention", "workspace": workspace, "days": own.unwrap_or(default), "default_days": default,
        "is_default": own.is_none(), "is_archived": ports.has_archive(),
    })
}

/// The setting as an export shows it.
pub(super) async fn shown_of<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<Value, Failure> {
    Ok(shown(ports, workspace, own(ports, workspace).await?))
}

/// `GET …/retention`.
pub async fn get<P: Ports>(act: &Act<'_, P>, path: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(act.ports, path).await?.settings.id;
    let own = own(act.ports, &workspace).await?;
    let tag = act.expect(&json!(own).to_string())?;
    Ok(Reply::json(200, &shown(act.ports, &workspace, own)).with_header("etag", tag))
}

/// `PUT …/retention` with `{"days": n}`: 0 keeps rows for good, null is the gateway's own setting.
pub async fn put<P: Ports>(act: &Act<'_, P>, path: &str) -> Result<Reply<P>, Failure> {
    let ports = act.ports;
    let workspace = known(ports, path).await?.settings.id;
    let wanted: Wanted = body(ports).await?;
    if wanted.days.is_some_and(|days| days > DAYS_MAX) {
        return Err(Failure::invalid("days", format!("must be between 0 and {DAYS_MAX}")));
    }
    let number = |days: Option<u64>| days.map_or(Sql::Null, whole);
    for _ in 0..TRIES {
        let before = own(ports, &workspace).await?;
        act.expect(&json!(before).to_string())?;
        let values = vec![Sql::from(workspace.as_str()), number(wanted.days), number(before)];
        let statement = "UPDATE workspaces SET retention_days = ?2 WHERE id = ?1 AND retention_days IS ?3";
        let (seen, after) = (shown(ports, &workspace, before), shown(ports, &workspace, wanted.days));
        let subject = workspace.as_str();
        let told = Told { workspace: Some(&workspace), subject, before: Some(&seen), after: Some(&after) };
        if act.commit(told, (statement, values), Vec::new()).await? {
            return Ok(Reply::json(200, &after).with_header("etag", etag::of(&json!(wanted.days).to_string())));
        }
    }
    Err(act.contended())
}

/// Deletes what is over its time, oldest first, as far as one run goes.
pub async fn sweep<P: Ports>(ports: &P) {
    let began = ports.now();
    let values = [whole(began.0), whole(ports.settings().retention_days)];
    let due = match ports.sql(DUE, &values).await {
        Ok(due) => due,
        Err(error) => return ports.log(&format!("old activity rows cannot be looked for: {}", error.0)),
    };
    let share = BATCHES_MAX.checked_div(due.len()).unwrap_or(0).max(1);
    for (workspace, days) in due.iter().filter_map(parse) {
        // Ids begin with their moment, so that those before a moment are a range of the primary key.
        let before = RequestId::new(Millis(began.0.saturating_sub(days.saturating_mul(DAY_MS))), [0; 10]);
        for _ in 0..share {
            if ports.now().since(began) > SWEEP_MS {
                return;
            }
            match batch(ports, &workspace, &before).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    ports.log(&format!("old activity rows are not swept, will be tried again: {}", error.0));
                    break;
                }
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "D1 hands whole numbers over as floats")]
fn parse(row: &Value) -> Option<(WorkspaceId, u64)> {
    Some((WorkspaceId::parse(row.get("id")?.as_str()?)?, row.get("days")?.as_f64()?.max(0.0) as u64))
}

/// One batch; says whether there may be more.
async fn batch<P: Ports>(ports: &P, workspace: &WorkspaceId, before: &RequestId) -> Result<bool, PortError> {
    let values = [Sql::from(workspace.as_str()), Sql::from(before.as_str()), Sql::Int(BATCH_ROWS)];
    let rows = ports.sql(OLD, &values).await?;
    let id = |row: &Value| row.get("id").and_then(Value::as_str).map(str::to_owned);
    let ids: Vec<String> = rows.iter().filter_map(id).collect();
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(false) };
    let name = format!("{}{first}-{last}.jsonl.gz", prefix(workspace));
    if ports.has_archive() {
        let lines: String = rows.iter().map(|row| line(workspace, row)).collect();
        ports.archive(&name, &lines).await?;
    }
    let list = serde_json::to_string(&ids).unwrap_or_default();
    let own = Sql::from(workspace.as_str());
    let statements = vec![(DELETE.to_owned(), vec![own.clone(), Sql::Text(list)]), (STAYS.to_owned(), vec![own])];
    let stays = ports.sql_batch(statements).await?.pop().is_some_and(|rows| !rows.is_empty());
    // It was erased meanwhile: nothing may be left behind, nor come after the archive was cleared.
    if !stays && ports.has_archive() {
        ports.clear_archive(&name).await?;
    }
    Ok(i64::try_from(ids.len()).unwrap_or(i64::MAX) >= BATCH_ROWS)
}

/// What the names of a workspace's objects in the archive begin with.
pub(super) fn prefix(workspace: &WorkspaceId) -> String {
    format!("activity/{workspace}/")
}

/// A row as a line of the archive: all that the table holds of it. What is no JSON is kept as it is.
fn line(workspace: &WorkspaceId, row: &Value) -> String {
    let text = row.get("row").and_then(Value::as_str).unwrap_or_default();
    // Its own bytes: numbers that are read and written again may differ in the last digit.
    let whole = match crate::json::from_str::<&RawValue>(text) {
        Ok(raw) => raw.get().to_owned(),
        Err(_) => json!(text).to_string(),
    };
    #[allow(clippy::cast_possible_truncation, reason = "D1 hands whole numbers over as floats")]
    let cost = row.get("cost_nanos").and_then(Value::as_f64).map(|nanos| nanos as i64);
    let (id, cost) = (json!(row.get("id")), json!(cost));
    format!("{{\"workspace\":\"{workspace}\",\"id\":{id},\"cost_nanos\":{cost},\"row\":{whole}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_all_of_a_row() {
        let workspace = WorkspaceId::new(Millis(1), [2; 10]);
        let row = json!({"id": "gen_1", "cost_nanos": 5.0, "row": "{\"at\":3.1189999999999998}"});
        let expected = r#","id":"gen_1","cost_nanos":5,"row":{"at":3.1189999999999998}}"#;
        assert_eq!(line(&workspace, &row), format!("{{\"workspace\":\"{workspace}\"{expected}\n"));
        assert!(line(&workspace, &json!({"id": "gen_2", "row": "{broken"})).contains(r#""row":"{broken""#));
    }
}
