//! The operator's view of an account: its ledger, adjustments, and whether the books agree.
//!
//! Entries are in the workspace's journal first and, when that is compacted, in pages of D1. A row is stored in D1 before
//! it leaves the journal, so whoever reads the journal first and D1 after it misses none.

use std::collections::HashMap;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::activity::export::Format;
use crate::error::{Code, Failure};
use crate::id::{EntryId, RequestId, WorkspaceId};
use crate::ledger::archive::{Numbered, newest};
use crate::ledger::reconcile::{Books, Report, What, compare};
use crate::money::Nanos;
use crate::serve::account::{credits_json, state};
use crate::serve::admin::{body, chance, known, label};
use crate::serve::ports::{Client, Ports, Sql};
use crate::serve::reply::{Body, Reply};
use crate::serve::{Head, fault, query};
use crate::time::Millis;
use crate::workspace::{self, Adjusts, Command, Entry, Grant};

const LIMIT_DEFAULT: u64 = 50;
const LIMIT_MAX: u64 = 200;
/// Entries read at once for an export or a reconciliation.
const READ_ENTRIES: u64 = 1_000;
/// Most entries that one reconciliation looks at.
const RECONCILED_MAX: usize = 200_000;
/// Activity rows read at once.
const READ_ROWS: i64 = 5_000;
/// How long after its arrival a request may be settled at most, in milliseconds.
const DAY_MS: u64 = 24 * 3600 * 1000;

/// Columns of an export as comma-separated values.
const COLUMNS: &[(&str, &str)] = &[
    ("id", "/id"),
    ("created_at", "/created_at"),
    ("kind", "/kind"),
    ("nanos", "/nanos"),
    ("balance", "/balance"),
    ("lost", "/lost"),
    ("reason", "/reason"),
    ("request", "/request"),
];

/// Entries, newest first, and the number to go on from.
pub struct Page {
    /// Whole journal rows: a page may be a little longer than asked for.
    pub entries: Vec<Entry>,
    /// Where there are more.
    pub next: Option<u64>,
}

/// Entries before a number, from the journal and from the pages in D1.
pub async fn page<P: Ports>(ports: &P, id: &WorkspaceId, before: Option<u64>, limit: u64) -> Result<Page, Failure> {
    let (mut entries, next, floor) = ports.ledger(id, before, limit).await.map_err(|error| fault(ports, &error))?;
    if next.is_some() {
        return Ok(Page { entries, next });
    }
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut before = before.unwrap_or(u64::MAX >> 12).min(floor.unwrap_or(u64::MAX >> 12));
    loop {
        let values = [Sql::from(id.as_str()), Sql::Int(i64::try_from(before).unwrap_or(i64::MAX))];
        let statement =
            "SELECT first, entries FROM ledger WHERE workspace = ?1 AND first < ?2 ORDER BY first DESC LIMIT 1";
        let rows = ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
        let Some(row) = rows.first() else { return Ok(Page { entries, next: None }) };
        if entries.len() >= wanted {
            return Ok(Page { entries, next: Some(before) });
        }
        let unreadable = || Failure::new(Code::Internal, "a page of the ledger cannot be read");
        let text = row.get("entries").and_then(Value::as_str).ok_or_else(unreadable)?;
        let all: Vec<Numbered> = crate::json::from_str(text).map_err(|_| unreadable())?;
        let (found, next) = newest(all, Some(before), wanted.saturating_sub(entries.len()));
        entries.extend(found);
        if next.is_some() {
            return Ok(Page { entries, next });
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a row number")]
        let first = row.get("first").and_then(Value::as_f64).ok_or_else(unreadable)?.max(0.0) as u64;
        before = first;
    }
}

/// An entry as the API shows it.
fn shown(entry: &Entry) -> Value {
    let mut value = json!(entry);
    if let Some(object) = value.as_object_mut() {
        object.insert("created_at".to_owned(), json!(entry.at.to_rfc3339()));
    }
    value
}

/// `GET …/credits`: the account and its ledger, newest first; with another format all of it as a file.
pub async fn list<P: Ports>(ports: &Rc<P>, path: &str, head: &Head) -> Result<Reply<P>, Failure> {
    let id = known(ports.as_ref(), path).await?.settings.id;
    let query = head.query.as_str();
    let format = query::value(query, "format");
    let format =
        Format::asked(format.as_deref(), head.accept.as_deref()).map_err(|why| Failure::invalid("format", why))?;
    let limit = query::limit(query, LIMIT_DEFAULT, LIMIT_MAX)?;
    let before = query::cursor(query, |text| text.parse().ok())?;
    let credits = state(ports.as_ref(), &id).await?;
    let Some(format) = format else {
        let page = page(ports.as_ref(), &id, before, limit).await?;
        let entries: Vec<Value> = page.entries.iter().map(shown).collect();
        let next = page.next.map(|seq| seq.to_string());
        return Ok(Reply::json(
            200,
            &json!({"credits": credits_json(&credits), "object": "list", "data": entries, "next_cursor": next}),
        ));
    };
    // The first page comes before the status: what fails at once is an answer of its own.
    let first = page(ports.as_ref(), &id, before, READ_ENTRIES).await?;
    let (client, readable) = ports.open_stream();
    ports.in_background(export(Rc::clone(ports), id, format, first, client));
    let headers = vec![("content-type", format.media_type().to_owned())];
    Ok(Reply { status: 200, headers, body: Body::Stream(readable) })
}

/// Writes page after page. One that cannot be read ends the export with a line that says so.
async fn export<P: Ports>(ports: Rc<P>, id: WorkspaceId, format: Format, first: Page, mut client: P::Client) {
    let mut text = format.head_of(COLUMNS);
    let mut current = first;
    loop {
        current.entries.iter().for_each(|entry| format.line_of(COLUMNS, &shown(entry), &mut text));
        if client.write(text.as_bytes()).await.is_err() {
            return;
        }
        text.clear();
        let Some(next) = current.next else { break };
        match page(ports.as_ref(), &id, Some(next), READ_ENTRIES).await {
            Ok(page) => current = page,
            Err(failure) => {
                let error = json!({"error": {"code": failure.code.name(), "message": failure.message, "cursor": next.to_string()}});
                let _ = client.write(format!("{error}\n").as_bytes()).await;
                break;
            }
        }
    }
    client.close().await;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAdjustment {
    amount: String,
    reason: String,
    idempotency_key: String,
    #[serde(default)]
    request_id: Option<String>,
}

/// `POST …/credits/adjustments`: puts something right, in decimal dollars, up or down; once for each idempotency key.
pub async fn adjust<P: Ports>(ports: &P, path: &str) -> Result<Reply<P>, Failure> {
    let id = known(ports, path).await?.settings.id;
    let new: NewAdjustment = body(ports).await?;
    let adjusts = match new.request_id {
        None => Adjusts::Account,
        Some(text) => Adjusts::Request(
            RequestId::parse(&text).ok_or_else(|| Failure::invalid("request_id", "is not the id of a request"))?,
        ),
    };
    let entry = booked(ports, &id, Some(adjusts), &new.amount, &new.reason, &new.idempotency_key).await?;
    let credits = credits_json(&state(ports, &id).await?);
    Ok(Reply::json(201, &json!({"object": "adjustment", "entry": shown(&entry), "credits": credits})))
}

/// Books a grant or an adjustment.
pub async fn booked<P: Ports>(
    ports: &P,
    id: &WorkspaceId,
    adjusts: Option<Adjusts>,
    amount: &str,
    reason: &str,
    idempotency_key: &str,
) -> Result<Entry, Failure> {
    let nanos = Nanos::from_dollars(amount).map_err(|error| Failure::invalid("amount", error.to_string()))?;
    if nanos == Nanos::ZERO {
        return Err(Failure::invalid("amount", "is zero"));
    }
    let grant = Grant {
        adjusts,
        entry: EntryId::new(ports.now(), chance(ports)),
        nanos,
        reason: label("reason", reason)?,
        idempotency_key: label("idempotency_key", idempotency_key)?,
    };
    match ports.ask(id, &Command::Grant(grant)).await {
        Ok(workspace::Reply::Granted(entry)) => Ok(entry),
        Ok(workspace::Reply::Refused(refused)) => {
            let code = Code::from_name(&refused.code).unwrap_or(Code::Internal);
            let param = if code == Code::IdempotencyConflict { "idempotency_key" } else { "amount" };
            Err(Failure::new(code, refused.message).about(param))
        }
        Ok(_) => Err(Failure::new(Code::Internal, "the workspace gave no answer")),
        Err(error) => Err(fault(ports, &error)),
    }
}

/// `POST …/reconcile`: compares ledger, activity and balance, and names each difference by its request.
///
/// The ledger is read first and the rows after it, so a row without an entry may be one that was settled meanwhile: then
/// its entry is among those that have come since.
pub async fn reconcile<P: Ports>(ports: &P, path: &str) -> Result<Reply<P>, Failure> {
    let id = known(ports, path).await?.settings.id;
    let now = ports.now();
    let credits = state(ports, &id).await?;
    let mut entries = Vec::new();
    let mut before = None;
    let is_whole = loop {
        let page = page(ports, &id, before, READ_ENTRIES).await?;
        entries.extend(page.entries);
        match page.next {
            None => break true,
            Some(_) if entries.len() >= RECONCILED_MAX => break false,
            next => before = next,
        }
    };
    // The account as it was when the ledger was read: what came between is not compared.
    let newer = entries.iter().position(|entry| entry.balance == credits.balance && entry.at <= now).unwrap_or(0);
    entries.drain(..newer);
    let since = if is_whole { Millis(0) } else { entries.last().map_or(now, |entry| entry.at) };
    let mut rows = HashMap::new();
    for entry in ports.outbox(&id).await.map_err(|error| fault(ports, &error))? {
        rows.insert(entry.entry.id, Nanos(entry.entry.nanos.0.saturating_neg()));
    }
    let stored = stored_rows(ports, &id, Millis(since.0.saturating_sub(DAY_MS))).await?;
    let oldest = stored.first().and_then(|(id, _)| RequestId::parse(id)).map(|id| id.created());
    rows.extend(stored);
    let seen: Vec<Entry> = page(ports, &id, None, READ_ENTRIES).await?.entries;
    for late in seen.iter().take_while(|entry| entries.first().is_none_or(|newest| newest.id != entry.id)) {
        rows.remove(&late.id);
    }
    let books = Books {
        entries: &entries,
        is_whole,
        balance: credits.balance,
        totals: credits.totals,
        rows: &rows,
        oldest_row: Some(Millis(oldest.unwrap_or(now).0.min(now.0.saturating_sub(DAY_MS)))),
        since,
    };
    let report = compare(&books, |id| RequestId::parse(id).map(|id| id.created()));
    Ok(Reply::json(200, &told(&id, &report, credits.balance, is_whole)))
}

fn told(id: &WorkspaceId, report: &Report, balance: Nanos, is_whole: bool) -> Value {
    let is_about_sums = |what: What| matches!(what, What::Balance | What::Totals | What::RunningBalance);
    json!({
        "object": "reconciliation", "workspace": id, "agrees": report.count == 0, "is_whole": is_whole,
        "balance_nanos": balance, "ledger_nanos": report.ledger_nanos, "activity_nanos": report.activity_nanos,
        "entries": report.entries, "rows": report.rows, "swept": report.swept,
        "sums_agree": !report.differences.iter().any(|one| is_about_sums(one.what)),
        "difference_count": report.count, "differences": report.differences,
    })
}

/// What the rows in D1 say was charged, from a moment on, oldest first.
async fn stored_rows<P: Ports>(ports: &P, id: &WorkspaceId, since: Millis) -> Result<Vec<(String, Nanos)>, Failure> {
    let statement = "SELECT id, cost_nanos FROM activity WHERE workspace = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
    let mut found: Vec<(String, Nanos)> = Vec::new();
    let mut after = RequestId::new(since, [0; 10]).as_str().to_owned();
    loop {
        let values = [Sql::from(id.as_str()), Sql::Text(after), Sql::Int(READ_ROWS)];
        let rows = ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
        let of = |row: &Value| {
            #[allow(clippy::cast_possible_truncation, reason = "D1 hands whole numbers over as floats")]
            let nanos = Nanos(row.get("cost_nanos")?.as_f64()? as i64);
            Some((row.get("id")?.as_str()?.to_owned(), nanos))
        };
        found.extend(rows.iter().filter_map(of));
        if i64::try_from(rows.len()).is_ok_and(|count| count < READ_ROWS) {
            return Ok(found);
        }
        after = found.last().map(|(id, _)| id.clone()).unwrap_or_default();
    }
}
