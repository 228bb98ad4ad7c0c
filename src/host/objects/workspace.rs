//! The object of one workspace. Loads the machine from its storage, applies commands to it, stores the effects in the
//! same turn (the platform makes writes without an await between them one transaction, and holds the answer back until
//! they are durable), and flushes activity rows to D1 by alarm.

use std::cell::{Cell, RefCell};

use js_sys::Promise;
use serde::Deserialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen_futures::future_to_promise;
use worker::worker_sys::{DurableObjectState, DurableObjectStorage};
use worker::{Env, Result as Fallible, SqlStorage, State};

use super::super::counters::count;
use super::super::soon::soon;
use super::super::world::{d1_batch, log, now};
use super::super::{courier, glue, settings};
use crate::activity::row::Row;
use crate::analytics::batch::{self, Batch};
use crate::analytics::{rollup, totals};
use crate::ledger::archive;
use crate::money::Nanos;
use crate::otel::export::Export;
use crate::otel::span;
use crate::serve::ports::Sql;
use crate::webhook::event::Event;
use crate::workspace::{
    Command, Effect, Entry, JournalEntry, JournalRow, Stored, Totals, Workspace as Machine, settled_memory_ms,
};

/// What addresses of commands begin with.
const ADDRESS: &str = "https://workspace/";
/// Most journal rows in one flush.
const FLUSH_ROWS: u64 = 500;
/// Most statements of one alarm.
const FLUSH_BATCHES: u32 = 100;
/// Most bytes of rows in one statement; D1 takes up to two megabytes as a parameter.
const FLUSH_BYTES: usize = 500_000;
/// Most journal rows looked at for one page of the ledger.
const LEDGER_ROWS: u64 = 1_000;

/// How long a collector of traces may take, in milliseconds.
const EXPORT_MS: f64 = 5_000.0;
/// Most events handed over at once.
const EVENTS_AT_ONCE: i32 = 100;

thread_local! {
    // Ten kilobytes each, the same every time.
    static COUNT_BY_SPAN: String = rollup::count_statement();
    static COUNT_IN_TOTAL: String = totals::count_statement();
}

/// The object.
#[wasm_bindgen]
pub struct Workspace {
    state: State,
    storage: DurableObjectStorage,
    env: Env,
    machine: RefCell<Option<Machine>>,
    /// Rows are on their way to D1.
    is_flushing: Cell<bool>,
}

#[derive(Deserialize)]
struct Stored1 {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct StoredRow {
    seq: f64,
    body: String,
}

#[derive(Deserialize)]
struct StoredEvent {
    id: String,
    body: String,
}

#[derive(Deserialize)]
struct Seq {
    seq: Option<f64>,
}

/// A journal row; one that cannot be read must not look like an empty one.
fn parsed(row: &StoredRow) -> Fallible<JournalRow> {
    crate::json::from_str(&row.body).map_err(|_| worker::Error::RustError("the journal is malformed".to_owned()))
}

#[derive(Deserialize)]
struct Page {
    before: Option<u64>,
    limit: u64,
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a row number")]
fn number(value: f64) -> u64 {
    value.max(0.0) as u64
}

/// Without the crate's wrappers of requests and answers: this call is on the way of every request, and they cross into
/// JavaScript more often than all the rest of it.
#[wasm_bindgen]
impl Workspace {
    /// The object, as the platform makes it.
    #[wasm_bindgen(constructor)]
    pub fn new(state: DurableObjectState, env: Env) -> Result<Workspace, JsValue> {
        let storage = state.storage()?;
        let state = State::from(state);
        Ok(Workspace { state, storage, env, machine: RefCell::new(None), is_flushing: Cell::new(false) })
    }

    /// A command. Its answer is text, or a promise of it where an alarm is to be set with it: nothing else is waited for,
    /// and a call that waits for nothing costs a third of one that does.
    pub fn command(&self, body: &str) -> Result<JsValue, JsValue> {
        let command: Command = crate::host::read(body)?;
        let (reply, effects) = self.with(|machine| machine.apply(command, now()))?;
        let alarm = self.store(effects)?;
        let text = serde_json::to_string(&reply).map_err(worker::Error::from)?;
        let Some(alarm) = alarm else { return Ok(JsValue::from_str(&text)) };
        let told = future_to_promise(async move { soon(alarm).await.map(|_| JsValue::from_str(&text)) });
        Ok(told.into())
    }

    /// A question, or what is seldom asked for.
    pub async fn fetch(&self, request: web_sys::Request) -> Result<web_sys::Response, JsValue> {
        let url = request.url();
        let body = soon(request.text()?).await?.as_string().unwrap_or_default();
        let text = match url.strip_prefix(ADDRESS).unwrap_or_default() {
            // Isolates of a version before ask like this while a new one is rolled out.
            "command" => soon(Promise::resolve(&self.command(&body)?)).await?.as_string().unwrap_or_default(),
            "outbox" => self.outbox()?,
            "ledger" => self.ledger(&body)?,
            "erase" => self.erase().await?,
            "depth" => self.depth()?,
            _ => return Err(JsValue::from_str("there is no such command")),
        };
        web_sys::Response::new_with_opt_str(Some(&text))
    }

    /// What was put off.
    pub async fn alarm(&self) -> Result<(), JsValue> {
        let effects = self.with(|machine| machine.wake(now()))?;
        self.stored(effects).await?;
        self.is_flushing.set(true);
        let flushed = async {
            self.flush_all().await?;
            self.compact().await
        };
        let flushed = flushed.await;
        self.is_flushing.set(false);
        flushed?;
        self.tell().await?;
        Ok(())
    }
}

/// Sends spans; says whether they were taken.
async fn send_spans(export: Option<&Export>, spans: &[serde_json::Value]) -> bool {
    let Some(export) = export else { return true };
    let own = [("content-type", "application/json")];
    let theirs = export.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let headers = glue::flat(own.into_iter().chain(theirs));
    let sent = glue::deliver(&export.url, &headers, &span::body(spans), EXPORT_MS);
    let status = soon(sent).await.ok().and_then(|status| status.as_f64()).unwrap_or(0.0);
    (200.0..300.0).contains(&status)
}

impl Workspace {
    async fn flush_all(&self) -> Fallible<()> {
        let mut batches = 0;
        let mut export = settings::export(self.env.as_ref());
        while batches < FLUSH_BATCHES && self.flush(&mut export).await? {
            batches += 1;
        }
        Ok(())
    }

    fn sql(&self) -> SqlStorage {
        self.state.storage().sql()
    }

    /// Runs `f` on the machine, loading it first where this is the object's first turn. SQL is synchronous here, so
    /// nothing can come between.
    fn with<T>(&self, f: impl FnOnce(&mut Machine) -> T) -> Fallible<T> {
        let mut machine = self.machine.borrow_mut();
        if machine.is_none() {
            *machine = Some(self.load()?);
        }
        match machine.as_mut() {
            Some(machine) => Ok(f(machine)),
            None => Err(worker::Error::RustError("the workspace could not be opened".to_owned())),
        }
    }

    fn load(&self) -> Fallible<Machine> {
        let sql = self.sql();
        sql.exec(
            "CREATE TABLE IF NOT EXISTS journal (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, body TEXT NOT NULL)",
            None,
        )?;
        sql.exec("CREATE TABLE IF NOT EXISTS named (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID", None)?;
        sql.exec("CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID", None)?;
        let values: Vec<Stored1> = sql.exec("SELECT name, value FROM named", None)?.to_array()?;
        let settings = settings::read(self.env.as_ref());
        let last: Vec<StoredRow> =
            sql.exec("SELECT seq, body FROM journal ORDER BY seq DESC LIMIT 1", None)?.to_array()?;
        // A journal that cannot be read must not become an empty one: the object refuses to open.
        let last = last.first().map(|row| parsed(row).map(|last| (number(row.seq), last))).transpose()?;
        let totals = match last.as_ref().is_some_and(|(_, row)| row.totals.is_none()) {
            true => self.totals()?,
            false => Totals::default(),
        };
        let since = now().0.saturating_sub(settled_memory_ms(settings.hold_ms));
        #[allow(clippy::cast_precision_loss, reason = "SQL of the platform counts in floats")]
        let rows: Vec<StoredRow> = sql
            .exec("SELECT seq, body FROM journal WHERE seq > (SELECT coalesce(max(seq), 0) FROM journal) - 100000 AND at >= ? ORDER BY seq", vec![(since as f64).into()])?
            .to_array()?;
        let recent = rows.iter().filter_map(|row| parsed(row).ok()).collect();
        let values = values.into_iter().map(|row| (row.name, row.value)).collect();
        Ok(Machine::open(Stored { values, last, recent, totals }, settings.default_limits, settings.hold_ms, now()))
    }

    /// The sums of all entries, for a journal of a time before it kept them: nothing was taken out of that.
    fn totals(&self) -> Fallible<Totals> {
        let mut totals = Totals::default();
        let mut after = -1.0;
        loop {
            #[allow(clippy::cast_precision_loss, reason = "SQL of the platform counts in floats")]
            let values = vec![after.into(), (LEDGER_ROWS as f64).into()];
            let statement = "SELECT seq, body FROM journal WHERE seq > ? ORDER BY seq LIMIT ?";
            let rows: Vec<StoredRow> = self.sql().exec(statement, values)?.to_array()?;
            for row in &rows {
                totals = parsed(row)?.entries.iter().fold(totals, |sums, entry| sums.with(&entry.entry));
            }
            match rows.last() {
                Some(last) => after = last.seq,
                None => return Ok(totals),
            }
        }
    }

    /// Forgets everything. Not while rows are on their way to D1: they would arrive after the others were deleted there.
    async fn erase(&self) -> Fallible<String> {
        if self.is_flushing.get() {
            return Ok("busy".to_owned());
        }
        self.machine.replace(None);
        let storage = self.state.storage();
        storage.delete_alarm().await?;
        storage.delete_all().await?;
        // What came between the two loaded an empty machine on tables that are gone.
        self.machine.replace(None);
        Ok("erased".to_owned())
    }

    /// Stores what an answer promises, all in this turn; what it gives is the setting of the alarm, to be waited for.
    fn store(&self, effects: Vec<Effect>) -> Fallible<Option<Promise>> {
        let sql = self.sql();
        let mut wake = None;
        for effect in effects {
            let cursor = match effect {
                #[allow(clippy::cast_precision_loss, reason = "SQL of the platform counts in floats")]
                Effect::Journal { seq, body } => {
                    let values = vec![(seq as f64).into(), (now().0 as f64).into(), body.into()];
                    sql.exec("INSERT INTO journal (seq, at, body) VALUES (?, ?, ?)", values)?
                }
                Effect::Put { name, value } => sql.exec(
                    "INSERT OR REPLACE INTO named (name, value) VALUES (?, ?)",
                    vec![name.into(), value.into()],
                )?,
                Effect::Tell(event) => {
                    let values = vec![event.id.clone().into(), serde_json::to_string(&event)?.into()];
                    sql.exec("INSERT OR IGNORE INTO events (id, body) VALUES (?, ?)", values)?
                }
                Effect::Drop { name } => sql.exec("DELETE FROM named WHERE name = ?", vec![name.into()])?,
                Effect::Wake(at) => {
                    wake = Some(at);
                    continue;
                }
            };
            let written = u64::try_from(cursor.rows_written()).unwrap_or(0);
            count(|c| c.sql_rows_written = c.sql_rows_written.saturating_add(written));
        }
        let Some(at) = wake else { return Ok(None) };
        count(|c| c.sql_rows_written = c.sql_rows_written.saturating_add(1));
        #[allow(clippy::cast_precision_loss, reason = "milliseconds since the epoch")]
        let at = js_sys::Date::new(&JsValue::from_f64(at.0 as f64));
        Ok(Some(self.storage.set_alarm(at, js_sys::Object::new())?))
    }

    /// The same outside of a command.
    async fn stored(&self, effects: Vec<Effect>) -> Fallible<()> {
        if let Some(alarm) = self.store(effects)? {
            soon(alarm).await?;
        }
        Ok(())
    }

    fn unflushed(&self) -> Fallible<Vec<(u64, JournalRow)>> {
        let flushed = self.with(|machine| machine.flushed())?;
        #[allow(clippy::cast_precision_loss, reason = "SQL of the platform counts in floats")]
        let values = vec![(flushed as f64).into(), (FLUSH_ROWS as f64).into()];
        let rows: Vec<StoredRow> =
            self.sql().exec("SELECT seq, body FROM journal WHERE seq > ? ORDER BY seq LIMIT ?", values)?.to_array()?;
        Ok(rows.iter().filter_map(|row| Some((number(row.seq), crate::json::from_str(&row.body).ok()?))).collect())
    }

    fn outbox(&self) -> Fallible<String> {
        let rows = self.unflushed()?;
        let entries: Vec<&JournalEntry> =
            rows.iter().flat_map(|(_, row)| &row.entries).filter(|entry| entry.row.is_some()).collect();
        Ok(serde_json::to_string(&entries)?)
    }

    /// How many rows are not in D1 yet.
    fn depth(&self) -> Fallible<String> {
        let flushed = self.with(|machine| machine.flushed())?;
        let statement = "SELECT coalesce(sum(json_array_length(body, '$.entries')), 0) AS seq, '' AS body FROM journal WHERE seq > ?";
        #[allow(clippy::cast_precision_loss, reason = "SQL of the platform counts in floats")]
        let rows: Vec<StoredRow> = self.sql().exec(statement, vec![(flushed as f64).into()])?.to_array()?;
        Ok(rows.first().map_or(0, |row| number(row.seq)).to_string())
    }

    fn ledger(&self, body: &str) -> Fallible<String> {
        self.with(|_| ())?;
        let page: Page = crate::host::read(body)?;
        #[allow(clippy::cast_precision_loss, reason = "SQL of the platform counts in floats")]
        let values = vec![(page.before.unwrap_or(1 << 52) as f64).into(), (LEDGER_ROWS as f64).into()];
        let rows: Vec<StoredRow> = self
            .sql()
            .exec("SELECT seq, body FROM journal WHERE seq < ? ORDER BY seq DESC LIMIT ?", values)?
            .to_array()?;
        let wanted = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let looked_at_all = u64::try_from(rows.len()).unwrap_or(0) < LEDGER_ROWS;
        let mut entries: Vec<Entry> = Vec::new();
        let mut next = None;
        for row in &rows {
            // Whole journal rows: a page may be a little longer than asked for, and a cursor is a row number.
            if entries.len() >= wanted {
                break;
            }
            next = Some(number(row.seq));
            entries.extend(parsed(row)?.entries.into_iter().rev().map(|entry| entry.entry));
        }
        let is_last = looked_at_all && next == rows.last().map(|row| number(row.seq));
        let floor: Vec<Seq> = self.sql().exec("SELECT min(seq) AS seq FROM journal", None)?.to_array()?;
        let floor = floor.first().and_then(|row| row.seq).map(number);
        Ok(serde_json::to_string(&(entries, next.filter(|_| !is_last), floor))?)
    }

    /// Moves the entries of old journal rows to a page in D1, and takes the rows out. Their activity rows are there
    /// already, and the newest row keeps the sums. D1 is written first: a crash in between leaves a page that the next
    /// one replaces.
    async fn compact(&self) -> Fallible<()> {
        let flushed = self.with(|machine| machine.flushed().min(machine.seq().saturating_sub(1)))?;
        let Some(workspace) = self.with(|machine| machine.id().cloned())? else { return Ok(()) };
        let until = now().0.saturating_sub(settings::read(self.env.as_ref()).journal_keep_ms);
        #[allow(clippy::cast_precision_loss, reason = "SQL of the platform counts in floats")]
        let values = vec![(flushed as f64).into(), (until as f64).into(), (LEDGER_ROWS as f64).into()];
        let statement = "SELECT seq, body FROM journal WHERE seq <= ? AND at < ? ORDER BY seq LIMIT ?";
        let rows: Vec<StoredRow> = self.sql().exec(statement, values)?.to_array()?;
        let rows: Fallible<Vec<(u64, Vec<Entry>)>> = rows
            .iter()
            .map(|row| Ok((number(row.seq), parsed(row)?.entries.into_iter().map(|entry| entry.entry).collect())))
            .collect();
        let Some(page) = archive::page(rows?.into_iter()) else { return Ok(()) };
        let int = |value: u64| Sql::Int(i64::try_from(value).unwrap_or(i64::MAX));
        let values = vec![
            Sql::from(workspace.as_str()),
            int(page.first),
            int(page.last),
            Sql::Text(serde_json::to_string(&page.entries)?),
        ];
        let statement = "INSERT OR REPLACE INTO ledger (workspace, first, last, entries) VALUES (?1, ?2, ?3, ?4)";
        let database = js_sys::Reflect::get(self.env.as_ref(), &"DB".into()).unwrap_or_default();
        if let Err(error) = d1_batch(&database, &[(statement.to_owned(), values)]).await {
            log(&format!("a page of the ledger not taken by D1, will be sent again: {}", error.0));
            return Ok(());
        }
        #[allow(clippy::cast_precision_loss, reason = "SQL of the platform counts in floats")]
        let through = vec![(page.last as f64).into()];
        let gone = self.sql().exec("DELETE FROM journal WHERE seq <= ?", through)?;
        let written = u64::try_from(gone.rows_written()).unwrap_or(0);
        count(|c| c.sql_rows_written = c.sql_rows_written.saturating_add(written));
        Ok(())
    }

    /// Hands events over to the courier. What it did not take stays, and the next alarm tries again.
    async fn tell(&self) -> Fallible<()> {
        let rows: Vec<StoredEvent> =
            self.sql().exec("SELECT id, body FROM events LIMIT ?", vec![EVENTS_AT_ONCE.into()])?.to_array()?;
        let Some(workspace) = self.with(|machine| machine.id().cloned())? else { return Ok(()) };
        if rows.is_empty() {
            return Ok(());
        }
        let events: Vec<Event> = rows.iter().filter_map(|row| crate::json::from_str(&row.body).ok()).collect();
        let is_taken = match courier::tell(self.env.as_ref(), &workspace, &events).await {
            Ok(()) => true,
            Err(error) => {
                log(&format!("events not taken by the courier, will be sent again: {}", error.0));
                false
            }
        };
        if is_taken {
            for row in &rows {
                self.sql().exec("DELETE FROM events WHERE id = ?", vec![row.id.clone().into()])?;
            }
        }
        if !is_taken || i32::try_from(rows.len()).unwrap_or(i32::MAX) >= EVENTS_AT_ONCE {
            let effects = self.with(|machine| machine.call_again(now()))?;
            self.stored(effects).await?;
        }
        Ok(())
    }

    /// Moves one batch of rows to D1; says whether there may be more. What D1 did not take stays, and the next alarm
    /// tries again; D1 ignores what it has.
    async fn flush(&self, export: &mut Option<Export>) -> Fallible<bool> {
        let rows = self.unflushed()?;
        let Some(workspace) = self.with(|machine| machine.id().cloned())? else { return Ok(false) };
        let mut through = 0;
        let mut batch = Batch::default();
        let mut spans: Vec<serde_json::Value> = Vec::new();
        for (seq, row) in &rows {
            for entry in &row.entries {
                let Some(raw) = &entry.row else { continue };
                let cost_nanos = entry.entry.nanos.0.saturating_neg();
                batch.push(raw, cost_nanos);
                // Only a collector wants all of a row.
                if let Some(export) = export.as_ref()
                    && let Ok(row) = crate::json::from_str::<Row>(raw.get())
                    && export.takes(&span::trace_id(&row))
                {
                    spans.extend(span::spans(&row, workspace.as_str(), Nanos(cost_nanos)));
                }
            }
            through = *seq;
            if batch.bytes() >= FLUSH_BYTES {
                break;
            }
        }
        if through == 0 {
            // Nothing waits: the machine need not be woken again for it.
            self.with(|machine| machine.flushed_through(0))?;
            return Ok(false);
        }
        let bytes = batch.bytes();
        if !batch.is_empty() {
            let database = js_sys::Reflect::get(self.env.as_ref(), &"DB".into()).unwrap_or_default();
            let id = || Sql::from(workspace.as_str());
            let (sums, rows) = batch.into_lists();
            // One transaction, and the sums first: they count the rows that are not there yet.
            let statements = [
                (COUNT_BY_SPAN.with(String::clone), vec![id(), Sql::Text(sums.clone())]),
                (COUNT_IN_TOTAL.with(String::clone), vec![id(), Sql::Text(sums)]),
                (batch::INSERT.to_owned(), vec![id(), Sql::Text(rows)]),
            ];
            if let Err(error) = d1_batch(&database, &statements).await {
                // The alarm set before this stands: it tries again.
                log(&format!("activity rows not taken by D1, will be sent again: {}", error.0));
                return Ok(false);
            }
        }
        let effects = self.with(|machine| machine.flushed_through(through))?;
        self.stored(effects).await?;
        // Rows are safe by now: traces may be lost. A collector that does not answer is not asked again by this alarm.
        if !spans.is_empty() && !send_spans(export.as_ref(), &spans).await {
            log(&format!("{} spans were not taken by the collector and are lost", spans.len()));
            *export = None;
        }
        let read = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        Ok(bytes >= FLUSH_BYTES || read >= FLUSH_ROWS)
    }
}
