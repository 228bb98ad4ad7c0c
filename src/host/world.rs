//! The ports, answered by the platform.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Array, Promise, Reflect, Uint8Array};
use serde_json::Value;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::future_to_promise;
use web_sys::Response;

use super::alarm::Alarm;
use super::cache::{self, Known, str16};
use super::counters::{self, count};
use super::soon::soon;
use super::stream::{self, AbortOnDrop, Downstream, Upstream};
use super::{courier, glue, settings, settle};
use crate::access::policy::Policy;
use crate::attempt::classify::Breakage;
use crate::attempt::pool::Slots;
use crate::auth::token::Tokens;
use crate::catalog::{CURRENT_KEY, ModelEntry, manifest_key, model_key};
use crate::health::board::Board;
use crate::health::share::{SHARDS, Snapshot, snapshot_key};
use crate::id::{RequestId, WorkspaceId};
use crate::job::command as job;
use crate::limits::room::Room;
use crate::relay::{Amend, Relay, Stop};
use crate::replay;
use crate::routing::sticky::Affinity;
use crate::serve::keys::{POLICY_OF, policy_in, policy_key};
use crate::serve::ports::{
    BodyError, CATALOG_NOT_WHOLE, Call, Counters, Due, LedgerPage, PortError, Ports, Resolved, Settings, Sql, Waits,
};
use crate::time::Millis;
use crate::webhook::event::Event;
use crate::workspace::{Command, JournalEntry, Reply};

/// The name under which the snapshot in use is remembered.
const SNAPSHOT: &str = "current";

/// The clock of the platform. It stands still between I/O.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds since the epoch")]
pub fn now() -> Millis {
    Millis(js_sys::Date::now() as u64)
}

/// A line for the operator.
pub fn log(line: &str) {
    worker::console_error!("{}", line);
}

/// Everything one request may use.
pub struct World {
    env: JsValue,
    context: JsValue,
    request: web_sys::Request,
    length: Option<String>,
    left: Promise,
    alarm: Alarm,
    settings: Rc<Settings>,
    board: Rc<RefCell<Board>>,
    tokens: Rc<RefCell<Tokens>>,
    affinity: Rc<RefCell<Affinity>>,
}

fn port_error(error: &JsValue) -> PortError {
    PortError(glue::words(error))
}

impl World {
    /// For one request.
    pub fn new(env: JsValue, context: JsValue, request: web_sys::Request, length: Option<String>) -> World {
        let known = cache::with(|isolate| isolate.settings.clone());
        let settings = known.unwrap_or_else(|| {
            let (read, unclear) = settings::read_and_name(&env);
            for name in unclear {
                log(&format!("the variable {name} is no whole number: its default holds"));
            }
            let read = Rc::new(read);
            cache::with(|isolate| isolate.settings = Some(Rc::clone(&read)));
            // Chance is not to be had before the first request.
            let mut nonce = [0; 8];
            let _ = getrandom::fill(&mut nonce);
            cache::board().replace(Board::new(u64::from_le_bytes(nonce)));
            read
        });
        let left = glue::leaving(&request);
        World {
            env,
            context,
            request,
            length,
            left,
            alarm: Alarm::default(),
            settings,
            board: cache::board(),
            tokens: cache::tokens(),
            affinity: cache::affinity(),
        }
    }

    fn binding(&self, name: &str) -> JsValue {
        Reflect::get(&self.env, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED)
    }

    fn wait_until(&self, work: impl Future<Output = ()> + 'static) {
        let promise = future_to_promise(async move {
            work.await;
            Ok(JsValue::UNDEFINED)
        });
        glue::hold(&self.context, &promise);
    }

    async fn question(&self, workspace: &WorkspaceId, path: &str, body: &str) -> Result<String, PortError> {
        count(|c| c.object_calls = c.object_calls.saturating_add(1));
        let asked = glue::ask(&self.binding("WORKSPACE"), workspace.as_str(), path, body);
        let text = soon(asked).await.map_err(|error| port_error(&error))?;
        Ok(text.as_string().unwrap_or_default())
    }
}

/// Reads a key of KV.
pub async fn kv_get(namespace: JsValue, key: &str) -> Result<Option<String>, PortError> {
    count(|c| c.kv_reads = c.kv_reads.saturating_add(1));
    let get = Reflect::get(&namespace, &JsValue::from_str("get")).and_then(|get| get.dyn_into::<js_sys::Function>());
    let promise = get.and_then(|get| get.call1(&namespace, &JsValue::from_str(key))).map_err(|e| port_error(&e))?;
    let value = soon(Promise::resolve(&promise)).await.map_err(|error| port_error(&error))?;
    Ok(value.as_string())
}

fn method(object: &JsValue, name: &str) -> Result<js_sys::Function, JsValue> {
    Reflect::get(object, &JsValue::from_str(name)).and_then(|f| f.dyn_into::<js_sys::Function>())
}

/// A statement of D1 with its values.
fn prepared(database: &JsValue, statement: &str, values: &[Sql]) -> Result<JsValue, JsValue> {
    let prepared = method(database, "prepare")?.call1(database, &JsValue::from_str(statement))?;
    let values: Array = values
        .iter()
        .map(|value| match value {
            Sql::Text(text) => JsValue::from_str(text),
            #[allow(clippy::cast_precision_loss, reason = "D1 takes numbers as JavaScript does")]
            Sql::Int(number) => JsValue::from_f64(*number as f64),
            Sql::Null => JsValue::NULL,
        })
        .collect();
    method(&prepared, "bind")?.apply(&prepared, &values)
}

fn count_written(answer: &JsValue) {
    let meta = Reflect::get(answer, &JsValue::from_str("meta")).unwrap_or(JsValue::UNDEFINED);
    let written = Reflect::get(&meta, &JsValue::from_str("rows_written")).ok().and_then(|n| n.as_f64()).unwrap_or(0.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of rows")]
    count(|c| c.sql_rows_written = c.sql_rows_written.saturating_add(written as u64));
}

/// Runs a statement on D1 and counts what it wrote.
pub async fn d1(database: JsValue, statement: &str, values: &[Sql]) -> Result<Vec<Value>, PortError> {
    count(|c| c.d1_calls = c.d1_calls.saturating_add(1));
    let run = async {
        let bound = prepared(&database, statement, values)?;
        soon(Promise::from(method(&bound, "all")?.call0(&bound)?)).await
    };
    let answer = run.await.map_err(|error| port_error(&error))?;
    count_written(&answer);
    rows_of(&answer)
}

fn rows_of(answer: &JsValue) -> Result<Vec<Value>, PortError> {
    let results = Reflect::get(answer, &JsValue::from_str("results")).unwrap_or(JsValue::UNDEFINED);
    let text = js_sys::JSON::stringify(&results).map_err(|error| port_error(&error))?;
    let text = text.as_string().unwrap_or_else(|| "[]".to_owned());
    crate::json::from_str(&text).map_err(|_| PortError("D1 answered with no list".to_owned()))
}

/// Runs statements on D1 in one transaction.
pub async fn d1_batch(database: &JsValue, statements: &[(String, Vec<Sql>)]) -> Result<Vec<Vec<Value>>, PortError> {
    count(|c| c.d1_calls = c.d1_calls.saturating_add(1));
    let run = async {
        let bound: Result<Array, JsValue> =
            statements.iter().map(|(statement, values)| prepared(database, statement, values)).collect();
        soon(Promise::from(method(database, "batch")?.call1(database, &bound?.into())?)).await
    };
    let answers = run.await.map_err(|error| port_error(&error))?;
    Array::from(&answers)
        .iter()
        .map(|answer| {
            count_written(&answer);
            rows_of(&answer)
        })
        .collect()
}

async fn read_policy(env: JsValue, hash: String) -> Result<Option<Rc<Policy>>, PortError> {
    let binding = |name: &str| Reflect::get(&env, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED);
    let parse = |text: &str| crate::json::from_str::<Policy>(text).map(Rc::new).ok();
    // KV that does not answer is no reason to refuse a key: D1 is the record.
    let copy = kv_get(binding("KV"), &policy_key(&hash)).await.ok().flatten().as_deref().and_then(parse);
    let policy = match copy {
        Some(policy) => Some(policy),
        None => {
            let rows = d1(binding("DB"), POLICY_OF, &[Sql::Text(hash.clone())]).await?;
            rows.first().and_then(|row| policy_in(row, &hash)).map(Rc::new)
        }
    };
    cache::with(|isolate| isolate.policies.remember(&hash, policy.clone(), now()));
    Ok(policy)
}

async fn read_copy(
    env: JsValue,
    key: String,
    statement: String,
    values: Vec<Sql>,
) -> Result<Option<Rc<String>>, PortError> {
    let binding = |name: &str| Reflect::get(&env, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED);
    // What KV does not know (yet) may be in D1, which is the record; a fault of either is no permission.
    let copy = match kv_get(binding("KV"), &key).await? {
        Some(copy) => Some(copy),
        None => {
            let rows = d1(binding("DB"), &statement, &values).await?;
            rows.first().and_then(|row| row.get("copy")?.as_str().map(str::to_owned))
        }
    };
    let copy = copy.map(Rc::new);
    cache::with(|isolate| isolate.copies.remember(&key, copy.clone(), now()));
    Ok(copy)
}

async fn read_snapshot(env: JsValue) -> Result<Option<Rc<str>>, PortError> {
    let namespace = Reflect::get(&env, &JsValue::from_str("KV")).unwrap_or(JsValue::UNDEFINED);
    let text = kv_get(namespace, CURRENT_KEY).await?;
    let pointer = text.and_then(|text| crate::json::from_str::<Value>(&text).ok());
    let named: Option<Rc<str>> = pointer.and_then(|p| p.get("snapshot").and_then(Value::as_str).map(Rc::from));
    let last = cache::with(|isolate| isolate.last_snapshot.clone());
    // KV brings keys in no order: the pointer may be here before what it points to. The manifest is written when
    // everything else is there. A cold isolate has nothing else to serve and saves the read.
    let id = match (named, last) {
        (Some(named), Some(last)) if named != last => {
            let namespace = Reflect::get(&env, &JsValue::from_str("KV")).unwrap_or(JsValue::UNDEFINED);
            let is_whole = kv_get(namespace, &manifest_key(&named)).await?.is_some();
            Some(if is_whole { named } else { last })
        }
        (named, last) => named.or(last),
    };
    cache::with(|isolate| isolate.last_snapshot.clone_from(&id));
    let fact = id.clone().map(|id| Rc::new(str16::Id(id)));
    cache::with(|isolate| isolate.snapshot.remember(SNAPSHOT, fact, now()));
    Ok(id)
}

/// Reads what the health objects published.
async fn read_health(namespace: JsValue) {
    count(|c| c.kv_reads = c.kv_reads.saturating_add(SHARDS));
    let keys: Array = (0..SHARDS).map(|shard| JsValue::from_str(&snapshot_key(shard))).collect();
    // None of it is needed to serve.
    let Ok(found) = soon(glue::texts(&namespace, &keys)).await else { return };
    let texts = Array::from(&found);
    let board = cache::board();
    for (shard, text) in (0..SHARDS).zip(texts.iter()) {
        let Some(snapshot) = text.as_string().as_deref().and_then(Snapshot::parse) else { continue };
        let mut board = board.borrow_mut();
        board.on_switches(shard, snapshot.switches.clone());
        board.adopt(snapshot, now());
    }
}

/// Writes to a key of KV.
pub async fn kv_put(namespace: JsValue, key: &str, value: &str) -> Result<(), PortError> {
    let put = async {
        let put = Reflect::get(&namespace, &JsValue::from_str("put"))?.dyn_into::<js_sys::Function>()?;
        let promise = put.call2(&namespace, &JsValue::from_str(key), &JsValue::from_str(value))?;
        soon(Promise::resolve(&promise)).await
    };
    put.await.map(drop).map_err(|error| port_error(&error))
}

impl Ports for World {
    type Answer = Upstream;
    type Client = Downstream;
    type Readable = JsValue;

    fn now(&self) -> Millis {
        now()
    }

    fn chance(&self) -> [u8; 32] {
        let mut out = [0; 32];
        // The platform's source does not fail; were it to, an all-zero id would be refused as a duplicate.
        let _ = getrandom::fill(&mut out);
        out
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn secret(&self, name: &str) -> Option<String> {
        if let Some(known) = cache::with(|isolate| isolate.secrets.get(name).cloned()) {
            return known;
        }
        let secret = settings::secret(&self.env, name);
        cache::with(|isolate| isolate.secrets.insert(name.to_owned(), secret.clone()));
        secret
    }

    fn slots(&self, name: &str) -> Slots {
        if let Some(known) = cache::with(|isolate| isolate.slots.get(name).copied()) {
            return known;
        }
        let slots = Slots::of(name, |name| settings::secret(&self.env, name).is_some());
        cache::with(|isolate| isolate.slots.insert(name.to_owned(), slots));
        slots
    }

    fn body_length(&self) -> Option<u64> {
        self.length.as_deref()?.trim().parse().ok()
    }

    fn room(&self) -> Rc<RefCell<Room>> {
        cache::room(self.settings.body_room_bytes)
    }

    async fn body(&self, max: u64) -> Result<Vec<u8>, BodyError> {
        if let Some(size) = self.body_length().filter(|size| *size <= max).and_then(|size| usize::try_from(size).ok())
            && size > stream::LARGE_BYTES
        {
            return stream::large_body(&self.request, size).await.ok_or(BodyError::Broken);
        }
        let whole = glue::whole_body(self.request.as_ref(), glue::js_ms(max));
        let bytes = soon(whole).await.map_err(|_| BodyError::Broken)?;
        if bytes.is_null() { Err(BodyError::TooLarge) } else { Ok(stream::view(bytes).to_vec()) }
    }

    async fn policy(&self, hash: &str) -> Result<Option<Rc<Policy>>, PortError> {
        match cache::with(|isolate| isolate.policies.recall(hash, self.settings.key_refresh_ms, now())) {
            Known::Fresh(policy) => Ok(policy),
            Known::Stale(policy) => {
                let (env, hash) = (self.env.clone(), hash.to_owned());
                self.wait_until(async move { drop(read_policy(env, hash).await) });
                Ok(policy)
            }
            Known::Unknown => read_policy(self.env.clone(), hash.to_owned()).await,
        }
    }

    fn forget_policy(&self, hash: &str) {
        cache::with(|isolate| isolate.policies.forget(hash));
    }

    async fn read_copy(&self, key: &str, statement: &str, values: &[Sql]) -> Result<Option<Rc<String>>, PortError> {
        match cache::with(|isolate| isolate.copies.recall(key, self.settings.key_refresh_ms, now())) {
            Known::Fresh(copy) => Ok(copy),
            Known::Stale(copy) => {
                let (env, key) = (self.env.clone(), key.to_owned());
                let (statement, values) = (statement.to_owned(), values.to_vec());
                self.wait_until(async move { drop(read_copy(env, key, statement, values).await) });
                Ok(copy)
            }
            Known::Unknown => read_copy(self.env.clone(), key.to_owned(), statement.to_owned(), values.to_vec()).await,
        }
    }

    fn forget_copy(&self, key: &str) {
        cache::with(|isolate| isolate.copies.forget(key));
    }

    async fn model(&self, name: &str) -> Result<Option<Resolved>, PortError> {
        // Without a catalog nobody knows which models there are.
        let snapshot = self.snapshot().await?.ok_or_else(|| PortError(CATALOG_NOT_WHOLE.to_owned()))?;
        let key = model_key(&snapshot, name);
        // A snapshot never changes, so what was read of it never grows old.
        let entry = match cache::with(|isolate| isolate.models.recall(&key, u64::MAX, now())) {
            Known::Fresh(entry) | Known::Stale(entry) => entry,
            Known::Unknown => {
                let text = kv_get(self.binding("KV"), &key).await?;
                let entry = match text {
                    None if kv_get(self.binding("KV"), &manifest_key(&snapshot)).await?.is_none() => {
                        return Err(PortError(CATALOG_NOT_WHOLE.to_owned()));
                    }
                    None => None,
                    Some(text) => {
                        let parsed = ModelEntry::parse(text.as_bytes());
                        Some(Rc::new(
                            parsed.map_err(|_| PortError("a model entry of the catalog is malformed".to_owned()))?,
                        ))
                    }
                };
                cache::with(|isolate| isolate.models.remember(&key, entry.clone(), now()));
                entry
            }
        };
        let due = entry.as_ref().and_then(|entry| entry.in_force(now()));
        let entry = match due {
            None => entry,
            Some(due) => {
                let due = Some(Rc::new(due));
                cache::with(|isolate| isolate.models.remember(&key, due.clone(), now()));
                due
            }
        };
        Ok(entry.map(|entry| Resolved { snapshot, entry }))
    }

    async fn snapshot(&self) -> Result<Option<Rc<str>>, PortError> {
        let refresh_ms = self.settings.catalog_refresh_ms;
        match cache::with(|isolate| isolate.snapshot.recall(SNAPSHOT, refresh_ms, now())) {
            Known::Fresh(Some(id)) => Ok(Some(Rc::clone(&id.0))),
            Known::Stale(Some(id)) => {
                let env = self.env.clone();
                self.wait_until(async move { drop(read_snapshot(env).await) });
                Ok(Some(Rc::clone(&id.0)))
            }
            Known::Fresh(None) | Known::Stale(None) | Known::Unknown => read_snapshot(self.env.clone()).await,
        }
    }

    fn forget_snapshot(&self) {
        cache::with(|isolate| isolate.snapshot.forget(SNAPSHOT));
    }

    async fn ask(&self, workspace: &WorkspaceId, command: &Command) -> Result<Reply, PortError> {
        if matches!(command, Command::Admit(_)) {
            count(|c| c.object_admits = c.object_admits.saturating_add(1));
        }
        count(|c| c.object_calls = c.object_calls.saturating_add(1));
        let body = serde_json::to_string(command).unwrap_or_default();
        let asked = glue::command(&self.env, workspace.as_str(), &body);
        let text = soon(asked).await.map_err(|error| port_error(&error))?.as_string().unwrap_or_default();
        crate::json::from_str(&text).map_err(|_| PortError("the workspace's answer is malformed".to_owned()))
    }

    async fn replay(&self, name: &str, command: &replay::Command) -> Result<replay::Reply, PortError> {
        count(|c| c.object_calls = c.object_calls.saturating_add(1));
        let body = serde_json::to_string(command).unwrap_or_default();
        let asked = glue::ask(&self.binding("REPLAY"), name, "command", &body);
        let text = soon(asked).await.map_err(|error| port_error(&error))?.as_string().unwrap_or_default();
        crate::json::from_str(&text).map_err(|_| PortError("the answer of a replay object is malformed".to_owned()))
    }

    async fn job(&self, id: &RequestId, command: &job::Command) -> Result<job::Reply, PortError> {
        count(|c| c.object_calls = c.object_calls.saturating_add(1));
        let body = serde_json::to_string(command).unwrap_or_default();
        let asked = glue::ask(&self.binding("GENERATION"), id.as_str(), "command", &body);
        let text = soon(asked).await.map_err(|error| port_error(&error))?.as_string().unwrap_or_default();
        crate::json::from_str(&text).map_err(|_| PortError("the answer of a job is malformed".to_owned()))
    }

    async fn settle(&self, workspace: &WorkspaceId, due: Due) {
        settle::settle(&self.env, workspace, due).await;
    }

    fn is_settling(&self, workspace: &WorkspaceId) -> bool {
        settle::is_settling(workspace)
    }

    async fn settled(&self, workspace: &WorkspaceId) {
        settle::settled(workspace).await;
    }

    async fn outbox(&self, workspace: &WorkspaceId) -> Result<Vec<JournalEntry>, PortError> {
        let text = self.question(workspace, "outbox", "").await?;
        crate::json::from_str(&text).map_err(|_| PortError("the outbox is malformed".to_owned()))
    }

    async fn depth(&self, workspace: &WorkspaceId) -> Result<u64, PortError> {
        let text = self.question(workspace, "depth", "").await?;
        text.parse().map_err(|_| PortError("the depth of an outbox is malformed".to_owned()))
    }

    async fn ledger(&self, workspace: &WorkspaceId, before: Option<u64>, limit: u64) -> Result<LedgerPage, PortError> {
        let body = serde_json::json!({"before": before, "limit": limit}).to_string();
        let text = self.question(workspace, "ledger", &body).await?;
        crate::json::from_str(&text).map_err(|_| PortError("the ledger is malformed".to_owned()))
    }

    async fn send(&self, mut call: Call) -> Result<Upstream, Breakage> {
        // A large body is not copied as a whole.
        if call.body.len() > stream::LARGE_BYTES {
            let pieces = vec![bytes::Bytes::from(std::mem::take(&mut call.body))];
            return self.send_pieces(call, pieces).await;
        }
        let abort = AbortOnDrop::new().map_err(|_| Breakage::Connect)?;
        let headers = glue::flat(call.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let body = Uint8Array::from(call.body.as_slice());
        drop(call.body);
        let sent = glue::send(call.method, &call.url, &headers, &body, &abort.control().signal());
        let response = soon(sent).await.map_err(|_| Breakage::Connect)?;
        let response = response.dyn_into::<Response>().map_err(|_| Breakage::Connect)?;
        Ok(Upstream::new(response, abort))
    }

    fn body_of(&self, answer: Upstream) -> JsValue {
        answer.into_body()
    }

    async fn send_pieces(&self, call: Call, pieces: Vec<bytes::Bytes>) -> Result<Upstream, Breakage> {
        let abort = AbortOnDrop::new().map_err(|_| Breakage::Connect)?;
        let headers = glue::flat(call.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let size = pieces.iter().map(bytes::Bytes::len).sum::<usize>();
        let size = glue::js_ms(u64::try_from(size).unwrap_or(u64::MAX));
        let mut feed = stream::Feed::new(pieces);
        let next = Closure::<dyn FnMut() -> Option<Uint8Array>>::new(move || feed.next());
        let signal = abort.control().signal();
        let next_chunk = next.as_ref().unchecked_ref();
        let sent = glue::send_stream(call.method, &call.url, &headers, size, next_chunk, &signal);
        let response = soon(sent).await.map_err(|_| Breakage::Connect)?;
        let response = response.dyn_into::<Response>().map_err(|_| Breakage::Connect)?;
        Ok(Upstream::new(response, abort).fed_by(next))
    }

    async fn pipe(&self, answer: Upstream, client: &mut Downstream, waits: Waits) -> Stop {
        stream::pipe(answer, client, waits, &self.left).await
    }

    async fn sleep(&self, ms: u64) {
        self.alarm.wait(ms).await;
    }

    async fn left(&self) {
        let _ = soon(self.left.clone()).await;
    }

    fn open_stream(&self) -> (Downstream, JsValue) {
        stream::open(self.left.clone(), self.settings.idle_timeout_ms)
    }

    async fn pump(
        &self,
        answer: Upstream,
        client: &mut Downstream,
        relay: &Rc<RefCell<Relay>>,
        amend: Amend<'_>,
        waits: Waits,
    ) -> (Stop, bool) {
        stream::pump(answer, client, relay, amend, waits, &self.left).await
    }

    fn in_background(&self, work: impl Future<Output = ()> + 'static) {
        self.wait_until(work);
    }

    fn board(&self) -> &RefCell<Board> {
        &self.board
    }

    async fn health(&self, shard: u64, what: &str, body: &str) -> Result<String, PortError> {
        let path = format!("health/{shard}/{what}");
        let asked = glue::ask(&self.binding("HEALTH"), &shard.to_string(), &path, body);
        let text = soon(asked).await.map_err(|error| port_error(&error))?;
        Ok(text.as_string().unwrap_or_default())
    }

    fn has_archive(&self) -> bool {
        self.binding("ARCHIVE").is_truthy()
    }

    async fn archive(&self, name: &str, text: &str) -> Result<(), PortError> {
        let written = soon(glue::archive(&self.binding("ARCHIVE"), name, text)).await;
        written.map(drop).map_err(|error| port_error(&error))
    }

    async fn clear_archive(&self, prefix: &str) -> Result<(), PortError> {
        let cleared = soon(glue::clear_bucket(&self.binding("ARCHIVE"), prefix)).await;
        cleared.map(drop).map_err(|error| port_error(&error))
    }

    async fn tell(&self, workspace: &WorkspaceId, event: &Event) -> Result<(), PortError> {
        courier::tell(&self.env, workspace, std::slice::from_ref(event)).await
    }

    async fn courier(&self, workspace: &WorkspaceId, what: &str, body: &str) -> Result<String, PortError> {
        courier::ask(&self.env, workspace, what, body).await
    }

    async fn recall_health(&self) {
        let (last, now) = (cache::with(|isolate| isolate.health_at), now());
        if now.since(last) < self.settings.health_refresh_ms {
            return;
        }
        cache::with(|isolate| isolate.health_at = now);
        let read = read_health(self.binding("KV"));
        if last == Millis(0) {
            read.await;
        } else {
            self.wait_until(read);
        }
    }

    fn affinity(&self) -> &RefCell<Affinity> {
        &self.affinity
    }

    fn tokens(&self) -> &RefCell<Tokens> {
        &self.tokens
    }

    async fn sign_rs256(&self, key: &[u8], text: &str) -> Option<Vec<u8>> {
        let signature = soon(glue::sign_rs256(key, text)).await.ok()?;
        signature.dyn_into::<Uint8Array>().ok().map(|bytes| bytes.to_vec())
    }

    fn counters(&self) -> Counters {
        counters::read()
    }

    fn count_request(&self) {
        count(|c| c.requests = c.requests.saturating_add(1));
    }

    async fn kv_get(&self, key: &str) -> Result<Option<String>, PortError> {
        kv_get(self.binding("KV"), key).await
    }

    async fn list_text(&self, key: &str) -> Result<Option<Rc<str>>, PortError> {
        if let Some(list) = cache::with(|isolate| isolate.list(key)) {
            return Ok(Some(list));
        }
        let list: Option<Rc<str>> = kv_get(self.binding("KV"), key).await?.map(Rc::from);
        if let Some(list) = &list {
            cache::with(|isolate| isolate.remember_list(key, list));
        }
        Ok(list)
    }

    async fn kv_put(&self, key: &str, value: &str) -> Result<(), PortError> {
        kv_put(self.binding("KV"), key, value).await
    }

    async fn kv_clear(&self, prefix: &str) -> Result<(), PortError> {
        let cleared = soon(glue::clear(&self.binding("KV"), prefix)).await;
        cleared.map(drop).map_err(|error| port_error(&error))
    }

    async fn erase(&self, workspace: &WorkspaceId) -> Result<(), PortError> {
        match self.question(workspace, "erase", "").await?.as_str() {
            "erased" => Ok(()),
            _ => Err(PortError("the workspace's object is busy".to_owned())),
        }
    }

    async fn sql(&self, statement: &str, values: &[Sql]) -> Result<Vec<Value>, PortError> {
        d1(self.binding("DB"), statement, values).await
    }

    async fn sql_batch(&self, statements: Vec<(String, Vec<Sql>)>) -> Result<Vec<Vec<Value>>, PortError> {
        d1_batch(&self.binding("DB"), &statements).await
    }

    fn log(&self, line: &str) {
        log(line);
    }
}
