//! The object of one shard of providers: takes the reports of isolates, and publishes what they come to when it has
//! changed enough. Scores are in memory and begin with what was published last; the operator's switches are on disk.

use std::cell::{Cell, RefCell};

use serde::{Deserialize, Serialize};
use serde_json::json;
use worker::{DurableObject, Env, Request, Response, Result, State, durable_object};

use super::super::courier;
use super::super::world::{d1, kv_get, kv_put, log, now};
use crate::catalog::Routing;
use crate::health::board::Board;
use crate::health::share::{Entry, Snapshot, parse_report, snapshot_key};
use crate::id::WorkspaceId;
use crate::serve::metrics;
use crate::webhook::event::Event;
use crate::webhook::outage;

/// Reports of so long make one snapshot, in milliseconds. KV takes about one write a second of a key.
const PUBLISH_MS: i64 = 5_000;

/// News of outages that are not told yet, and what is known of outages.
const EVENTS: &str = "CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID; \
    CREATE TABLE IF NOT EXISTS named (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID";
/// Workspaces with a webhook that hears of outages, at most.
const LISTENERS: &str = "SELECT DISTINCT workspace FROM webhooks WHERE state = 'enabled' \
    AND (events = '[]' OR events LIKE '%\"provider.outage\"%') LIMIT 900";

/// The object.
#[durable_object(alarm)]
pub struct Health {
    state: State,
    env: Env,
    board: RefCell<Board>,
    published: RefCell<Snapshot>,
    shard: Cell<Option<u64>>,
    is_open: Cell<bool>,
    is_due: Cell<bool>,
}

/// What the operator said about a provider.
#[derive(Serialize, Deserialize)]
struct Switch {
    provider: String,
    routing: Routing,
    reason: Option<String>,
    at: String,
}

#[derive(Deserialize)]
struct Stored {
    body: String,
}

impl DurableObject for Health {
    fn new(state: State, env: Env) -> Health {
        Health {
            state,
            env,
            board: RefCell::new(Board::default()),
            published: RefCell::new(Snapshot::default()),
            shard: Cell::new(None),
            is_open: Cell::new(false),
            is_due: Cell::new(false),
        }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let path = request.path();
        let body = request.text().await?;
        // health/{shard}/{what}
        let mut parts = path.trim_start_matches('/').split('/').skip(1);
        let (shard, what) = (parts.next().and_then(|text| text.parse().ok()), parts.next());
        let Some(shard) = shard else { return Response::error("not found", 404) };
        self.shard.set(Some(shard));
        self.open(shard).await?;
        match what {
            Some("report") => {
                if let Some(report) = parse_report(&body, now()) {
                    self.board.borrow_mut().merge(&report, now());
                    self.note_outages(&report)?;
                    self.publish_soon().await?;
                }
            }
            Some("switch") => {
                self.switch(crate::host::read(&body)?)?;
                self.publish().await;
                // Where KV did not take it, it is tried again.
                self.publish_soon().await?;
            }
            _ => {}
        }
        let told = json!({"offers": metrics::offers(&self.board.borrow(), now()), "switches": self.switches()?});
        Response::ok(told.to_string())
    }

    async fn alarm(&self) -> Result<Response> {
        self.is_due.set(false);
        self.publish().await;
        self.tell().await?;
        Response::ok("")
    }
}

impl Health {
    /// Begins with what was published last.
    async fn open(&self, shard: u64) -> Result<()> {
        if self.is_open.replace(true) {
            return Ok(());
        }
        const TABLE: &str = "CREATE TABLE IF NOT EXISTS switches (provider TEXT PRIMARY KEY, body TEXT NOT NULL)";
        self.state.storage().sql().exec(TABLE, None)?;
        self.state.storage().sql().exec(EVENTS, None)?;
        let text = kv_get(self.namespace(), &snapshot_key(shard)).await.ok().flatten();
        if let Some(snapshot) = text.as_deref().and_then(Snapshot::parse) {
            self.board.borrow_mut().restore(&snapshot, now());
            self.published.replace(snapshot);
        }
        Ok(())
    }

    fn namespace(&self) -> wasm_bindgen::JsValue {
        js_sys::Reflect::get(self.env.as_ref(), &"KV".into()).unwrap_or_default()
    }

    /// Keeps what of the offers of a report is news: told with the next alarm.
    fn note_outages(&self, report: &[Entry]) -> Result<()> {
        let open = self.board.borrow().open(report, now());
        if open.is_empty() {
            return Ok(());
        }
        let sql = self.state.storage().sql();
        let rows: Vec<Stored> = sql.exec("SELECT value AS body FROM named WHERE name = 'outages'", None)?.to_array()?;
        let mut known = rows.first().and_then(|row| crate::json::from_str(&row.body).ok()).unwrap_or_default();
        let events = outage::note(&mut known, &open, now());
        let values = vec![serde_json::to_string(&known)?.into()];
        sql.exec("INSERT OR REPLACE INTO named (name, value) VALUES ('outages', ?)", values)?;
        for event in events {
            let values = vec![event.id.clone().into(), serde_json::to_string(&event)?.into()];
            sql.exec("INSERT OR IGNORE INTO events (id, body) VALUES (?, ?)", values)?;
        }
        Ok(())
    }

    /// Tells every workspace that wants to hear of outages. What was not told to all is told again with the next alarm.
    async fn tell(&self) -> Result<()> {
        let sql = self.state.storage().sql();
        sql.exec(EVENTS, None)?;
        let rows: Vec<Stored> = sql.exec("SELECT body FROM events ORDER BY id LIMIT 100", None)?.to_array()?;
        let events: Vec<Event> = rows.iter().filter_map(|row| crate::json::from_str(&row.body).ok()).collect();
        if events.is_empty() {
            return Ok(());
        }
        let database = js_sys::Reflect::get(self.env.as_ref(), &"DB".into()).unwrap_or_default();
        let listeners = match d1(database, LISTENERS, &[]).await {
            Ok(listeners) => listeners,
            Err(error) => {
                log(&format!("an outage is not told, will be tried again: {}", error.0));
                return self.publish_soon().await;
            }
        };
        let ids = listeners.iter().filter_map(|row| WorkspaceId::parse(row.get("workspace")?.as_str()?));
        let mut is_told = true;
        for workspace in ids {
            if let Err(error) = courier::tell(self.env.as_ref(), &workspace, &events).await {
                log(&format!("an outage is not told to a workspace, will be tried again: {}", error.0));
                is_told = false;
            }
        }
        if !is_told {
            return self.publish_soon().await;
        }
        for event in &events {
            sql.exec("DELETE FROM events WHERE id = ?", vec![event.id.clone().into()])?;
        }
        Ok(())
    }

    async fn publish_soon(&self) -> Result<()> {
        if self.is_due.replace(true) {
            return Ok(());
        }
        self.state.storage().set_alarm(PUBLISH_MS).await
    }

    /// Writes a snapshot that says something new. One that KV did not take is said again with the next.
    async fn publish(&self) {
        // An object that starts with its alarm has heard nothing yet.
        let Some(shard) = self.shard.get() else { return };
        let switches = match self.switches() {
            Ok(switches) => switches,
            Err(error) => return log(&format!("switches of providers cannot be read: {error}")),
        };
        let switches = switches.into_iter().map(|switch| (switch.provider, switch.routing)).collect();
        let snapshot = Snapshot { switches, ..self.board.borrow().snapshot(now()) };
        if !snapshot.is_news_after(&self.published.borrow()) {
            return;
        }
        match kv_put(self.namespace(), &snapshot_key(shard), &snapshot.write()).await {
            Ok(()) => drop(self.published.replace(snapshot)),
            Err(error) => log(&format!("a health snapshot is not published: {}", error.0)),
        }
    }

    fn switches(&self) -> Result<Vec<Switch>> {
        let rows: Vec<Stored> =
            self.state.storage().sql().exec("SELECT body FROM switches ORDER BY provider", None)?.to_array()?;
        Ok(rows.iter().filter_map(|row| crate::json::from_str(&row.body).ok()).collect())
    }

    fn switch(&self, switch: Switch) -> Result<()> {
        let sql = self.state.storage().sql();
        let provider = switch.provider.clone();
        match switch.routing {
            Routing::On => sql.exec("DELETE FROM switches WHERE provider = ?", vec![provider.into()])?,
            Routing::Last | Routing::Off => sql.exec(
                "INSERT OR REPLACE INTO switches (provider, body) VALUES (?, ?)",
                vec![provider.into(), serde_json::to_string(&switch)?.into()],
            )?,
        };
        Ok(())
    }
}
