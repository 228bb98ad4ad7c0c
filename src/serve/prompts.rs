//! Requests and answers that a workspace keeps: sealed, cut at a size, gone after a time. Off unless it was switched on.
//!
//! Nothing of it is on the path of a request: the answer is noted while it passes, and both are written after the
//! settlement. A crash in between loses them, and never a charge. Whether the workspace still wants them is asked by the
//! statement that writes them, so that what an isolate remembers of the settings keeps nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::access::prompts::Keeping;
use crate::error::{Code, Failure};
use crate::excerpt::Excerpt;
use crate::id::{RequestId, WorkspaceId};
use crate::seal::SealKey;
use crate::serve::act::{Act, Told};
use crate::serve::admin::known;
use crate::serve::infer::Generation;
use crate::serve::keys::pepper;
use crate::serve::ports::{PortError, Ports, Sql};
use crate::serve::reply::{Body, Reply};
use crate::serve::{fault, settings};
use crate::time::Millis;

/// What every answer of a workspace that keeps requests says: `on`, or `skipped` where this one is not kept.
pub const HEADER: &str = "x-gateway-prompt-logging";
const PURPOSE: &str = "prompts";
/// Rows deleted by one statement, and statements of one run.
const ROWS: i64 = 2_000;
const BATCHES: u32 = 100;

/// Writes nothing where the workspace, by the record, keeps nothing (any more), or is being erased.
const INSERT: &str = "INSERT OR REPLACE INTO prompts (workspace, id, at, until, sealed) SELECT ?1, ?2, ?3, \
    ?3 + 86400000 * min(?4, coalesce(routing ->> '$.prompt_logging.retention_days', ?4)), ?5 FROM workspaces \
    WHERE id = ?1 AND (erase_at IS NULL OR erase_at > 0) AND routing ->> '$.prompt_logging.enabled' = 1 \
    AND coalesce(routing ->> '$.narrowing.zdr', 0) = 0 AND coalesce(routing ->> '$.narrowing.retention_days_max', 1) > 0";
const DELETE: &str = "DELETE FROM prompts WHERE rowid IN (SELECT rowid FROM prompts WHERE until <= ?1 ORDER BY until \
    LIMIT ?2) RETURNING 1 AS gone";
/// What is kept already is not kept longer than the workspace now says.
pub(super) const SHORTEN: &str = "UPDATE prompts SET until = at + 86400000 * ?2 WHERE workspace = ?1 \
    AND until > at + 86400000 * ?2 AND EXISTS (SELECT 1 FROM audit WHERE id = ?3)";

/// An answer as its client got it.
#[derive(Debug)]
pub struct Heard {
    status: u16,
    content_type: String,
    body: Excerpt,
}

/// A request and its answer on their way.
pub struct Record {
    workspace: WorkspaceId,
    id: RequestId,
    at: Millis,
    days: u64,
    request: Excerpt,
    answer: Option<Heard>,
}

impl Record {
    /// Of a request that came as `body`.
    pub fn new(workspace: &WorkspaceId, id: &RequestId, at: Millis, keeping: Keeping, body: &[u8]) -> Option<Record> {
        let (Keeping::On(setting), Some(most)) = (keeping, keeping.bytes_max()) else { return None };
        let request = Excerpt::of(body, most);
        let (workspace, id) = (workspace.clone(), id.clone());
        Some(Record { workspace, id, at, days: setting.retention_days, request, answer: None })
    }

    /// The same with its answer.
    #[must_use]
    pub fn answered<P: Ports>(self, reply: &Reply<P>, keeping: Keeping) -> Record {
        Record { answer: heard(reply, keeping), ..self }
    }

    fn json(&self) -> Value {
        let mut answer = self.answer.as_ref().map(|answer| answer.body.json());
        if let (Some(Value::Object(members)), Some(heard)) = (&mut answer, &self.answer) {
            members.insert("status".to_owned(), json!(heard.status));
            members.insert("content_type".to_owned(), json!(heard.content_type));
        }
        json!({"request": self.request.json(), "answer": answer})
    }
}

fn owner(workspace: &WorkspaceId, id: &RequestId) -> String {
    format!("{workspace}/{id}")
}

fn is_text(content_type: &str) -> bool {
    content_type.starts_with("text/") || content_type.contains("json")
}

fn heard<P: Ports>(reply: &Reply<P>, keeping: Keeping) -> Option<Heard> {
    let most = keeping.bytes_max()?;
    let named = reply.headers.iter().find(|(name, _)| *name == "content-type");
    let content_type = named.map(|(_, value)| value.clone()).unwrap_or_default();
    // Of sound and pictures as such only their size is noted.
    let most = if is_text(&content_type) { most } else { 0 };
    let body = match &reply.body {
        Body::Bytes(bytes) => Excerpt::of(bytes, most),
        Body::Empty | Body::Stream(_) => Excerpt::new(most),
    };
    Some(Heard { status: reply.status, content_type, body })
}

/// Notes an answer. Of one that streams the rest comes by [`hear_stream`].
pub fn hear<P: Ports>(generation: &Generation, reply: &Reply<P>) {
    if generation.keeping.bytes_max().is_some() {
        generation.heard.replace(heard(reply, generation.keeping));
    }
}

/// Notes what a stream said.
pub fn hear_stream(generation: &Generation, body: Excerpt) {
    if generation.keeping.bytes_max().is_some() {
        let heard = Heard { status: 200, content_type: "text/event-stream".to_owned(), body };
        generation.heard.replace(Some(heard));
    }
}

/// Notes a stream that is over with its first words.
pub fn hear_last_words(generation: &Generation, bytes: &[u8]) {
    if let Some(most) = generation.keeping.bytes_max() {
        hear_stream(generation, Excerpt::of(bytes, most));
    }
}

/// What is to be kept of a request that has ended; the request as it was understood, with its preset in it.
pub fn record(generation: &Generation) -> Option<Record> {
    let (policy, body) = (&generation.policy, &generation.request.body.bytes);
    let record = Record::new(&policy.workspace, &generation.id, generation.arrived, generation.keeping, body)?;
    Some(Record { answer: generation.heard.take(), ..record })
}

/// The reply, saying whether it is kept.
#[must_use]
pub fn told<P: Ports>(reply: Reply<P>, keeping: Keeping) -> Reply<P> {
    match keeping.word() {
        Some(word) if !reply.headers.iter().any(|(name, _)| *name == HEADER) => reply.with_header(HEADER, word),
        _ => reply,
    }
}

/// The same for an answer that nobody decided about: of a refusal, and of what is asked with a key and costs nothing.
pub async fn told_of<P: Ports>(ports: &P, workspace: &WorkspaceId, reply: Reply<P>) -> Reply<P> {
    match settings::routing(ports, workspace).await {
        Ok(routing) => told(reply, Keeping::of(routing.prompt_logging, false, &[&routing.narrowing])),
        Err(_) => reply,
    }
}

/// Writes a record, where there is one.
pub async fn keep<P: Ports>(ports: &P, record: Option<Record>) {
    let Some(record) = record else { return };
    let Ok(pepper) = pepper(ports) else { return };
    let key = SealKey::derive(pepper.as_bytes(), PURPOSE);
    let plain = record.json().to_string();
    let Some(sealed) = key.seal(plain.as_bytes(), &owner(&record.workspace, &record.id), ports.chance()) else {
        return ports.log("fault: a prompt could not be sealed and is not kept");
    };
    let values = [
        Sql::from(record.workspace.as_str()),
        Sql::from(record.id.as_str()),
        whole(record.at.0),
        whole(record.days),
        Sql::Text(STANDARD.encode(sealed)),
    ];
    if let Err(error) = ports.sql(INSERT, &values).await {
        ports.log(&format!("a prompt is not kept: {}", error.0));
    }
}

fn whole(number: u64) -> Sql {
    Sql::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn unknown() -> Failure {
    Failure::new(Code::NotFound, "no prompt of that request is kept")
}

/// `GET …/prompts/{request}`: one request with its answer. Whoever reads it leaves a row in the audit.
pub async fn read<P: Ports>(act: &Act<'_, P>, path: &str, request: &str) -> Result<Reply<P>, Failure> {
    let ports = act.ports;
    let workspace = known(ports, path).await?.settings.id;
    let id = RequestId::parse(request).ok_or_else(unknown)?;
    let values = vec![Sql::from(workspace.as_str()), Sql::from(id.as_str()), whole(ports.now().0)];
    let told = Told { workspace: Some(&workspace), subject: id.as_str(), before: None, after: None };
    let change = "UPDATE prompts SET read_at = ?3 WHERE workspace = ?1 AND id = ?2 AND until > ?3";
    if !act.commit(told, (change, values.clone()), Vec::new()).await? {
        return Err(unknown());
    }
    let statement = "SELECT at, until, sealed FROM prompts WHERE workspace = ?1 AND id = ?2 AND until > ?3";
    let rows = ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    let row = rows.first().ok_or_else(unknown)?;
    let open = || {
        let sealed = STANDARD.decode(row.get("sealed")?.as_str()?).ok()?;
        let key = SealKey::derive(pepper(ports).ok()?.as_bytes(), PURPOSE);
        crate::json::from_bytes::<Value>(&key.open(&sealed, &owner(&workspace, &id))?)
    };
    let Some(kept) = open() else {
        ports.log("fault: a kept prompt does not open");
        return Err(Failure::new(Code::Internal, "the kept prompt cannot be read"));
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds since the epoch")]
    let moment = |name: &str| row.get(name).and_then(Value::as_f64).map(|at| Millis(at.max(0.0) as u64).to_rfc3339());
    Ok(Reply::json(
        200,
        &json!({
            "object": "prompt", "id": id, "workspace": workspace, "created_at": moment("at"),
            "expires_at": moment("until"), "request": kept.get("request"), "answer": kept.get("answer"),
        }),
    ))
}

/// `DELETE …/prompts/{request}`: before its time.
pub async fn delete<P: Ports>(act: &Act<'_, P>, path: &str, request: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(act.ports, path).await?.settings.id;
    let id = RequestId::parse(request).ok_or_else(unknown)?;
    let values = vec![Sql::from(workspace.as_str()), Sql::from(id.as_str())];
    let told = Told { workspace: Some(&workspace), subject: id.as_str(), before: None, after: None };
    match act.commit(told, ("DELETE FROM prompts WHERE workspace = ?1 AND id = ?2", values), Vec::new()).await? {
        true => Ok(Reply::json(200, &json!({"object": "prompt", "id": id, "deleted": true}))),
        false => Err(unknown()),
    }
}

/// Deletes what is over its time.
pub async fn sweep<P: Ports>(ports: &P) {
    if let Err(error) = swept(ports).await {
        ports.log(&format!("old prompts are not deleted, will be tried again: {}", error.0));
    }
}

async fn swept<P: Ports>(ports: &P) -> Result<(), PortError> {
    for _ in 0..BATCHES {
        let gone = ports.sql(DELETE, &[whole(ports.now().0), Sql::Int(ROWS)]).await?;
        if i64::try_from(gone.len()).unwrap_or(0) < ROWS {
            break;
        }
    }
    Ok(())
}
