//! The object that delivers a workspace's events to its webhooks: takes them in, spreads each over the webhooks that hear
//! it, and sends until they arrive or a day is over. Webhooks are read from D1 with every alarm; nothing waits for it.

use serde::Deserialize;
use serde_json::{Value, json};
use worker::{DurableObject, Env, Request, Response, Result, SqlStorage, SqlStorageValue, State, durable_object};

use super::super::soon::soon;
use super::super::world::{d1, log, now};
use super::super::{glue, settings};
use crate::id::WorkspaceId;
use crate::serve::ports::Sql;
use crate::ssrf::{self, Loopback};
use crate::time::Millis;
use crate::webhook::event::Event;
use crate::webhook::hook::{Hook, State as HookState};
use crate::webhook::retry::{self, Next, Outcome};
use crate::webhook::sign;

/// Deliveries under way at once.
const AT_ONCE: usize = 12;
/// Most rounds of one alarm.
const ROUNDS: u32 = 20;
/// Most deliveries that wait; further events are shown as dead.
const WAITING_MAX: u64 = 10_000;
/// How long ended deliveries are shown, in milliseconds.
const SHOWN_MS: u64 = 3 * 24 * 3_600_000;
/// Wait after D1 did not answer, in milliseconds.
const AGAIN_MS: u64 = 10_000;

const TABLES: &str = "CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, body TEXT NOT NULL, only_to TEXT, \
        at INTEGER NOT NULL, is_spread INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID; \
    CREATE TABLE IF NOT EXISTS deliveries (seq INTEGER PRIMARY KEY AUTOINCREMENT, webhook TEXT NOT NULL, event TEXT NOT NULL, \
        kind TEXT NOT NULL, state TEXT NOT NULL, tries INTEGER NOT NULL, due_at INTEGER, reason TEXT, status INTEGER, \
        created_at INTEGER NOT NULL, ended_at INTEGER, UNIQUE (webhook, event)); \
    CREATE INDEX IF NOT EXISTS due ON deliveries (due_at) WHERE state = 'waiting'; \
    CREATE TABLE IF NOT EXISTS named (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID";

/// The object.
#[durable_object(alarm)]
pub struct Courier {
    state: State,
    env: Env,
}

#[derive(Deserialize)]
struct Told {
    workspace: WorkspaceId,
    events: Vec<Event>,
    #[serde(default)]
    only: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    webhook: String,
    before: Option<u64>,
    limit: u64,
}

#[derive(Deserialize)]
struct Text {
    value: String,
}

#[derive(Deserialize)]
struct Number {
    n: Option<f64>,
}

#[derive(Deserialize)]
struct Waiting {
    seq: f64,
    webhook: String,
    body: String,
    tries: f64,
}

#[derive(Deserialize)]
struct Unspread {
    id: String,
    body: String,
    only_to: Option<String>,
}

#[derive(Deserialize)]
struct Delivery {
    seq: f64,
    event: String,
    kind: String,
    state: String,
    tries: f64,
    due_at: Option<f64>,
    reason: Option<String>,
    status: Option<f64>,
    created_at: f64,
    ended_at: Option<f64>,
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of the platform's SQL")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

#[allow(clippy::cast_precision_loss, reason = "SQL of the platform counts in floats")]
fn float(value: u64) -> SqlStorageValue {
    (value as f64).into()
}

fn optional(text: Option<String>) -> SqlStorageValue {
    text.map_or(SqlStorageValue::Null, Into::into)
}

impl DurableObject for Courier {
    fn new(state: State, env: Env) -> Courier {
        Courier { state, env }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let path = request.path();
        let body = request.text().await?;
        self.sql().exec(TABLES, None)?;
        let text = match path.as_str() {
            "/tell" => {
                self.take(&crate::host::read(&body)?)?;
                self.state.storage().set_alarm(0).await?;
                String::new()
            }
            "/deliveries" => self.deliveries(&crate::host::read(&body)?)?.to_string(),
            "/erase" => {
                self.state.storage().delete_alarm().await?;
                self.state.storage().delete_all().await?;
                String::new()
            }
            "/depth" => self.count("SELECT count(*) AS n FROM deliveries WHERE state = 'waiting'")?.to_string(),
            _ => return Response::error("not found", 404),
        };
        Response::ok(text)
    }

    async fn alarm(&self) -> Result<Response> {
        self.sql().exec(TABLES, None)?;
        let Some(hooks) = self.hooks().await? else {
            self.state.storage().set_alarm(i64::try_from(AGAIN_MS).unwrap_or(i64::MAX)).await?;
            return Response::ok("");
        };
        self.spread(&hooks)?;
        for _ in 0..ROUNDS {
            let due = self.due()?;
            if due.is_empty() {
                break;
            }
            let sent = futures::future::join_all(due.iter().map(|one| self.send(one, &hooks))).await;
            for result in sent {
                result?;
            }
        }
        self.sweep()?;
        if let Some(at) = self.next()? {
            let in_ms = i64::try_from(at.since(now())).unwrap_or(0);
            self.state.storage().set_alarm(in_ms).await?;
        }
        Response::ok("")
    }
}

impl Courier {
    fn sql(&self) -> SqlStorage {
        self.state.storage().sql()
    }

    fn count(&self, statement: &str) -> Result<u64> {
        let rows: Vec<Number> = self.sql().exec(statement, None)?.to_array()?;
        Ok(rows.first().and_then(|row| row.n).map_or(0, whole))
    }

    fn take(&self, told: &Told) -> Result<()> {
        let workspace = told.workspace.as_str().to_owned();
        self.sql()
            .exec("INSERT OR REPLACE INTO named (name, value) VALUES ('workspace', ?)", vec![workspace.into()])?;
        for event in &told.events {
            let values = vec![
                event.id.clone().into(),
                serde_json::to_string(event)?.into(),
                optional(told.only.clone()),
                float(now().0),
            ];
            self.sql().exec("INSERT OR IGNORE INTO events (id, body, only_to, at) VALUES (?, ?, ?, ?)", values)?;
        }
        Ok(())
    }

    /// The workspace's webhooks; `None` where D1 does not answer.
    async fn hooks(&self) -> Result<Option<Vec<Hook>>> {
        let rows: Vec<Text> = self.sql().exec("SELECT value FROM named WHERE name = 'workspace'", None)?.to_array()?;
        let Some(workspace) = rows.into_iter().next() else { return Ok(Some(Vec::new())) };
        let database = js_sys::Reflect::get(self.env.as_ref(), &"DB".into()).unwrap_or_default();
        let statement = format!("SELECT {} FROM webhooks WHERE workspace = ?1", Hook::COLUMNS);
        match d1(database, &statement, &[Sql::Text(workspace.value)]).await {
            Ok(rows) => Ok(Some(rows.iter().filter_map(Hook::parse).collect())),
            Err(error) => {
                log(&format!("webhooks cannot be read, will be tried again: {}", error.0));
                Ok(None)
            }
        }
    }

    /// Makes a delivery for each webhook that hears an event.
    fn spread(&self, hooks: &[Hook]) -> Result<()> {
        let events: Vec<Unspread> =
            self.sql().exec("SELECT id, body, only_to FROM events WHERE is_spread = 0 LIMIT 1000", None)?.to_array()?;
        let mut waiting = self.count("SELECT count(*) AS n FROM deliveries WHERE state = 'waiting'")?;
        for unspread in events {
            let Ok(event) = crate::json::from_str::<Event>(&unspread.body) else { continue };
            for hook in hooks {
                let is_meant = unspread.only_to.as_deref().is_none_or(|id| id == hook.id.as_str());
                if !is_meant || hook.state != HookState::Enabled || !hook.hears(event.kind) {
                    continue;
                }
                let is_full = waiting >= WAITING_MAX;
                waiting = waiting.saturating_add(1);
                let moment = now().0;
                let values = vec![
                    hook.id.as_str().into(),
                    event.id.clone().into(),
                    event.kind.name().into(),
                    if is_full { "dead" } else { "waiting" }.into(),
                    float(moment),
                    optional(is_full.then(|| "too many deliveries are waiting".to_owned())),
                    float(moment),
                    if is_full { float(moment) } else { SqlStorageValue::Null },
                ];
                let statement = "INSERT OR IGNORE INTO deliveries (webhook, event, kind, state, tries, due_at, reason, created_at, ended_at) \
                    VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?)";
                self.sql().exec(statement, values)?;
            }
            self.sql().exec("UPDATE events SET is_spread = 1 WHERE id = ?", vec![unspread.id.into()])?;
        }
        Ok(())
    }

    fn due(&self) -> Result<Vec<Waiting>> {
        let statement = "SELECT d.seq, d.webhook, e.body, d.tries FROM deliveries d JOIN events e ON e.id = d.event \
            WHERE d.state = 'waiting' AND d.due_at <= ? ORDER BY d.due_at, d.seq LIMIT ?";
        let at_once = u64::try_from(AT_ONCE).unwrap_or(1);
        self.sql().exec(statement, vec![float(now().0), float(at_once)])?.to_array()
    }

    async fn send(&self, one: &Waiting, hooks: &[Hook]) -> Result<()> {
        let settings = settings::read(self.env.as_ref());
        let hook = hooks.iter().find(|hook| hook.id.as_str() == one.webhook);
        let Some(hook) = hook.filter(|hook| hook.state == HookState::Enabled) else {
            return self.refuse(one, "the webhook is gone or switched off");
        };
        let loopback = if settings.allows_loopback { Loopback::Allowed } else { Loopback::Refused };
        if ssrf::check(&hook.url, loopback).is_err() {
            return self.refuse(one, "the address may not be called");
        }
        let Ok(event) = crate::json::from_str::<Event>(&one.body) else {
            return self.refuse(one, "the event cannot be read");
        };
        let pepper = settings::secret(self.env.as_ref(), "KEY_HASH_SECRET").unwrap_or_default();
        let secrets = hook.open(pepper.as_bytes(), now());
        if secrets.is_empty() {
            return self.refuse(one, "its secret cannot be opened: rotate it");
        }
        let (body, seconds) = (event.body(), now().seconds());
        let signature = sign::header(&secrets, &event.id, seconds, &body);
        let timestamp = seconds.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("user-agent", "AI-Stats-Gateway-Webhooks"),
            ("webhook-id", event.id.as_str()),
            ("webhook-timestamp", timestamp.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        let sent =
            glue::deliver(&hook.url, &glue::flat(headers.into_iter()), &body, glue::js_ms(settings.webhook_timeout_ms));
        let status = soon(sent).await.ok().and_then(|status| status.as_f64()).unwrap_or(-2.0);
        let outcome = match u16::try_from(whole(status)).unwrap_or(0) {
            0 if status <= -2.0 => Outcome::Unreachable,
            0 => Outcome::TimedOut,
            status => Outcome::Status(status),
        };
        self.on_outcome(one, hook, outcome, &settings).await
    }

    async fn on_outcome(
        &self,
        one: &Waiting,
        hook: &Hook,
        outcome: Outcome,
        settings: &crate::serve::ports::Settings,
    ) -> Result<()> {
        let tries = u32::try_from(whole(one.tries)).unwrap_or(u32::MAX).saturating_add(1);
        let mut chance = [0; 8];
        let _ = getrandom::fill(&mut chance);
        let words = outcome.words();
        let status = if let Outcome::Status(status) = outcome { Some(status) } else { None };
        match retry::after(tries, outcome, settings.webhook_retry_ms, u64::from_le_bytes(chance), now()) {
            Next::Delivered => self.end(one, "delivered", tries, None, status),
            Next::Dead => self.end(one, "dead", tries, Some(&words), status),
            Next::Gone => {
                self.end(one, "dead", tries, Some(&words), status)?;
                let database = js_sys::Reflect::get(self.env.as_ref(), &"DB".into()).unwrap_or_default();
                let statement = "UPDATE webhooks SET state = 'gone' WHERE id = ?1 AND state = 'enabled'";
                if let Err(error) = d1(database, statement, &[Sql::from(hook.id.as_str())]).await {
                    log(&format!("a webhook that is gone was not marked: {}", error.0));
                }
                Ok(())
            }
            Next::Again(at) => {
                let status = status.map_or(SqlStorageValue::Null, |status| float(u64::from(status)));
                let values = vec![float(u64::from(tries)), float(at.0), words.into(), status, one.seq.into()];
                let statement = "UPDATE deliveries SET tries = ?, due_at = ?, reason = ?, status = ? WHERE seq = ?";
                self.sql().exec(statement, values).map(drop)
            }
        }
    }

    /// Ends what is not even tried.
    fn refuse(&self, one: &Waiting, reason: &str) -> Result<()> {
        self.end(one, "dead", u32::try_from(whole(one.tries)).unwrap_or(u32::MAX), Some(reason), None)
    }

    fn end(&self, one: &Waiting, state: &str, tries: u32, reason: Option<&str>, status: Option<u16>) -> Result<()> {
        let values = vec![
            state.into(),
            float(u64::from(tries)),
            optional(reason.map(str::to_owned)),
            status.map_or(SqlStorageValue::Null, |status| float(u64::from(status))),
            float(now().0),
            one.seq.into(),
        ];
        let statement = "UPDATE deliveries SET state = ?, tries = ?, reason = ?, status = ?, ended_at = ?, due_at = NULL WHERE seq = ?";
        self.sql().exec(statement, values).map(drop)
    }

    /// Forgets what ended long ago. An event is remembered as long, so that it is not told twice.
    fn sweep(&self) -> Result<()> {
        let before = now().0.saturating_sub(SHOWN_MS);
        self.sql().exec("DELETE FROM deliveries WHERE ended_at < ?", vec![float(before)])?;
        let statement =
            "DELETE FROM events WHERE is_spread = 1 AND at < ? AND id NOT IN (SELECT event FROM deliveries)";
        self.sql().exec(statement, vec![float(before)]).map(drop)
    }

    /// When there is something to do: at once, when the next delivery is due, or when something can be forgotten.
    fn next(&self) -> Result<Option<Millis>> {
        if self.count("SELECT count(*) AS n FROM events WHERE is_spread = 0")? > 0 {
            return Ok(Some(now()));
        }
        let moment = |statement: &str| -> Result<Option<u64>> {
            let rows: Vec<Number> = self.sql().exec(statement, None)?.to_array()?;
            Ok(rows.first().and_then(|row| row.n).map(whole))
        };
        let due = moment("SELECT min(due_at) AS n FROM deliveries WHERE state = 'waiting'")?;
        let old = moment("SELECT min(at) AS n FROM events")?.map(|at| at.max(now().0.saturating_sub(SHOWN_MS)));
        let old = old.map(|at| at.saturating_add(SHOWN_MS).saturating_add(3_600_000));
        Ok(due.into_iter().chain(old).min().map(Millis))
    }

    fn deliveries(&self, page: &Page) -> Result<Value> {
        let statement = "SELECT seq, event, kind, state, tries, due_at, reason, status, created_at, ended_at FROM deliveries \
            WHERE webhook = ? AND seq < ? ORDER BY seq DESC LIMIT ?";
        let values = vec![page.webhook.clone().into(), float(page.before.unwrap_or(1 << 52)), float(page.limit)];
        let rows: Vec<Delivery> = self.sql().exec(statement, values)?.to_array()?;
        let time = |at: Option<f64>| at.map(|at| Millis(whole(at)).to_rfc3339());
        let is_full = u64::try_from(rows.len()).unwrap_or(u64::MAX) >= page.limit;
        let next = rows.last().filter(|_| is_full).map(|row| whole(row.seq).to_string());
        let data: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "object": "delivery", "event": row.event, "type": row.kind, "state": row.state, "tries": whole(row.tries),
                    "next_try_at": time(row.due_at.filter(|_| row.state == "waiting")), "status": row.status.map(whole), "reason": row.reason,
                    "created_at": time(Some(row.created_at)), "ended_at": time(row.ended_at),
                })
            })
            .collect();
        Ok(json!({"object": "list", "data": data, "next_cursor": next}))
    }
}
