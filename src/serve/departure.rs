//! The end of a workspace: deleted, it is let in nowhere and keeps everything for a while; within that time it can be
//! restored; after it the schedule erases it.
//!
//! Deleting tells the object, which has the last word at admission. Erasing goes in the order in which nothing can grow
//! back: the claim (from then on it cannot be restored), the object, the read copies, the rows, the archive, and last the
//! workspace itself. Whatever fails is tried again by the next run, which finds the workspace still there.

use crate::error::{Code, Failure};
use crate::id::{AuditId, RequestId, WorkspaceId};
use crate::job::command as job;
use crate::serve::act::{Act, Actor, TRIES};
use crate::serve::admin::{Known, chance, known, tell};
use crate::serve::ports::{PortError, Ports, Sql};
use crate::serve::reply::Reply;
use crate::serve::{etag, query, retention};
use crate::time::Millis;
use crate::workspace::Command;

/// Seconds in which a workspace can be restored, where none are named (30 days), and at most (a year).
const GRACE_SECONDS: u64 = 30 * 24 * 3600;
const GRACE_SECONDS_MAX: u64 = 365 * 24 * 3600;
/// Workspaces erased by one run.
const ERASED_MAX: i64 = 10;
/// Rows deleted by one statement, and statements of one table in one run.
const ROWS: i64 = 5_000;
const BATCHES: u32 = 40;
/// Jobs whose objects one run deletes.
const JOBS: i64 = 200;

/// Every table that has rows of workspaces, besides `workspaces`, and the column that pages them. The tests hold it
/// against the migrations.
pub const TABLES: &[(&str, &str)] = &[
    ("activity", "id"),
    ("rollups", "start"),
    ("presets", "slug"),
    ("preset_versions", "slug"),
    ("byok", "id"),
    ("webhooks", "id"),
    ("keys", "id"),
    ("management_keys", "id"),
    ("audit", "id"),
    ("jobs", "id"),
    ("ledger", "first"),
    ("prompts", "id"),
];
/// What the keys of a workspace's read copies begin with, before its id.
const COPIES: &[&str] = &["workspace/", "byok/", "preset/"];

fn at(moment: Millis) -> Sql {
    Sql::Int(i64::try_from(moment.0).unwrap_or(i64::MAX))
}

/// `DELETE /v1/admin/workspaces/{id}?grace_seconds=`.
pub async fn delete<P: Ports>(act: &Act<'_, P>, path: &str, query: &str) -> Result<Reply<P>, Failure> {
    let range = || Failure::invalid("grace_seconds", format!("must be a number between 0 and {GRACE_SECONDS_MAX}"));
    let grace = match query::value(query, "grace_seconds") {
        None => GRACE_SECONDS,
        Some(text) => text.parse().ok().filter(|grace| *grace <= GRACE_SECONDS_MAX).ok_or_else(range)?,
    };
    let now = act.ports.now();
    turn(act, path, Some((now, now.plus(grace.saturating_mul(1000))))).await
}

/// `POST /v1/admin/workspaces/{id}/restore`: everything is as it was.
pub async fn restore<P: Ports>(act: &Act<'_, P>, path: &str) -> Result<Reply<P>, Failure> {
    turn(act, path, None).await
}

async fn turn<P: Ports>(act: &Act<'_, P>, path: &str, deleted: Option<(Millis, Millis)>) -> Result<Reply<P>, Failure> {
    let now = act.ports.now();
    for _ in 0..TRIES {
        let before = known(act.ports, path).await?;
        act.expect(&before.text)?;
        if before.deleted_at.is_some() == deleted.is_some() {
            act.nothing_to_do();
            return Ok(Reply::json(200, &before.json()).with_header("etag", etag::of(&before.text)));
        }
        if before.erase_at.is_some_and(|erase_at| erase_at <= now) {
            return Err(Failure::new(Code::NotFound, "the workspace is being erased"));
        }
        let mut settings = before.settings.clone();
        settings.version = settings.version.saturating_add(1);
        settings.deleted = deleted.is_some();
        let text = serde_json::to_string(&settings).unwrap_or_default();
        let (deleted_at, erase_at) = (deleted.map(|(at, _)| at), deleted.map(|(_, at)| at));
        let after = Known { settings, text, deleted_at, erase_at, ..before.clone() };
        // Past its time a workspace is the schedule's.
        let statement = "UPDATE workspaces SET settings = ?3, deleted_at = ?4, erase_at = ?5 \
            WHERE id = ?1 AND settings = ?2 AND (erase_at IS NULL OR erase_at > ?6)";
        let values = vec![
            Sql::from(after.settings.id.as_str()),
            Sql::Text(before.text.clone()),
            Sql::Text(after.text.clone()),
            deleted_at.map_or(Sql::Null, at),
            erase_at.map_or(Sql::Null, at),
            at(now),
        ];
        let (seen, shown) = (before.json(), after.json());
        if act.commit(after.told(Some(&seen), &shown), (statement, values), Vec::new()).await? {
            tell(act.ports, &after.settings.id, &Command::SetWorkspace(after.settings.clone())).await?;
            return Ok(Reply::json(200, &shown).with_header("etag", etag::of(&after.text)));
        }
    }
    Err(act.contended())
}

/// One run of the schedule: erases what is past its time. What cannot be erased now is left to the next run.
pub async fn erase_due<P: Ports>(ports: &P) {
    let statement = "SELECT id FROM workspaces WHERE erase_at <= ?1 ORDER BY erase_at LIMIT ?2";
    let due = match ports.sql(statement, &[at(ports.now()), Sql::Int(ERASED_MAX)]).await {
        Ok(rows) => rows,
        Err(error) => return ports.log(&format!("fault: workspaces to erase cannot be read: {}", error.0)),
    };
    for row in due {
        let Some(id) = row.get("id").and_then(|id| WorkspaceId::parse(id.as_str()?)) else { continue };
        match erase(ports, &id).await {
            Ok(true) => {}
            Ok(false) => ports.log(&format!("{id} is erased in part; the next run goes on")),
            Err(error) => ports.log(&format!("fault: {id} was not erased, the next run tries again: {}", error.0)),
        }
    }
}

/// Erases one workspace; says whether nothing is left of it.
async fn erase<P: Ports>(ports: &P, id: &WorkspaceId) -> Result<bool, PortError> {
    let own = [Sql::from(id.as_str())];
    ports.sql("UPDATE workspaces SET erase_at = 0 WHERE id = ?1", &own).await?;
    ports.erase(id).await?;
    ports.courier(id, "erase", "").await?;
    for prefix in COPIES {
        ports.kv_clear(&format!("{prefix}{id}")).await?;
    }
    let hashes = "SELECT hash AS hash FROM keys WHERE workspace = ?1 UNION SELECT old_hash FROM keys \
        WHERE workspace = ?1 AND old_hash IS NOT NULL";
    for row in ports.sql(hashes, &own).await? {
        let Some(hash) = row.get("hash").and_then(|hash| hash.as_str()) else { continue };
        ports.kv_clear(&crate::serve::keys::policy_key(hash)).await?;
        ports.forget_policy(hash);
    }
    let has_jobs = !clear_jobs(ports, id).await?;
    let mut is_whole = !has_jobs;
    for (table, column) in TABLES.iter().filter(|(table, _)| !has_jobs || *table != "jobs") {
        is_whole &= clear(ports, id, table, column).await?;
    }
    // After the rows: what a sweep has put there since is the sweep's to take away.
    if is_whole && ports.has_archive() {
        ports.clear_archive(&retention::prefix(id)).await?;
    }
    if is_whole {
        let row = AuditId::new(ports.now(), chance(ports));
        let audit = "INSERT INTO audit (id, at, actor, action, subject, request) VALUES (?1, ?2, ?3, 'workspace.erase', ?4, ?5)";
        let request = RequestId::new(ports.now(), chance(ports));
        let values = vec![
            Sql::from(row.as_str()),
            at(ports.now()),
            Sql::Text(Actor::Schedule.name()),
            Sql::from(id.as_str()),
            Sql::from(request.as_str()),
        ];
        let delete = "DELETE FROM workspaces WHERE id = ?1".to_owned();
        ports.sql_batch(vec![(delete, own.to_vec()), (audit.to_owned(), values)]).await?;
    }
    Ok(is_whole)
}

/// Deletes the objects of a workspace's jobs, so many at a time; says whether that were all.
async fn clear_jobs<P: Ports>(ports: &P, id: &WorkspaceId) -> Result<bool, PortError> {
    let statement = "SELECT id FROM jobs WHERE workspace = ?1 ORDER BY id LIMIT ?2";
    let rows = ports.sql(statement, &[Sql::from(id.as_str()), Sql::Int(JOBS)]).await?;
    for row in &rows {
        let Some(of) = row.get("id").and_then(|id| id.as_str()).and_then(RequestId::parse) else { continue };
        ports.job(&of, &job::Command::Delete(id.clone())).await?;
    }
    Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX) < JOBS)
}

/// Deletes a workspace's rows of one table, so many at a time; says whether none is left.
async fn clear<P: Ports>(ports: &P, id: &WorkspaceId, table: &str, column: &str) -> Result<bool, PortError> {
    let delete = format!(
        "DELETE FROM {table} WHERE workspace = ?1 AND {column} IN \
        (SELECT {column} FROM {table} WHERE workspace = ?1 ORDER BY {column} LIMIT ?2)"
    );
    let left = format!("SELECT 1 FROM {table} WHERE workspace = ?1 LIMIT 1");
    for _ in 0..BATCHES {
        let own = Sql::from(id.as_str());
        let statements = vec![(delete.clone(), vec![own.clone(), Sql::Int(ROWS)]), (left.clone(), vec![own])];
        let rows = ports.sql_batch(statements).await?;
        if rows.get(1).is_some_and(Vec::is_empty) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_table_with_rows_of_workspaces_is_erased() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut found = BTreeSet::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for table in text.split("CREATE TABLE ").skip(1) {
                let name = table.split_whitespace().next().unwrap().to_owned();
                let columns = table.split("\n)").next().unwrap();
                if columns.lines().any(|line| line.trim_start().starts_with("workspace ")) {
                    found.insert(name);
                }
            }
        }
        let listed: BTreeSet<String> = TABLES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(found, listed, "what has rows of a workspace must go with it: add the table to TABLES");
    }
}
