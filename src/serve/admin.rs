//! The operator's endpoints: workspaces, credits, the catalog in use.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::policy::Limits;
use crate::catalog::{CURRENT_KEY, SNAPSHOTS_KEY, manifest_key};
use crate::error::{Code, Failure};
use crate::id::WorkspaceId;
use crate::json::{JsonError, parse_body};
use crate::limits::budget::{Budgets, Period};
use crate::money::{Nanos, plain};
use crate::serve::account::{credits_json, state};
use crate::serve::act::{Act, TRIES, Told};
use crate::serve::ports::{BodyError, Ports, Sql};
use crate::serve::reply::Reply;
use crate::serve::{etag, fault, ledger, query};
use crate::time::Millis;
use crate::workspace::{self, Command, Settings};

/// Largest body of an admin request, in bytes.
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// Longest name, reason or idempotency key, in bytes.
pub const LABEL_BYTES_MAX: usize = 256;
const LIMIT_DEFAULT: u64 = 50;
const LIMIT_MAX: u64 = 200;

/// Parses an admin body.
pub async fn body<P: Ports, T: for<'a> Deserialize<'a>>(ports: &P) -> Result<T, Failure> {
    parse(&read(ports).await?)
}

/// The same where all of it may be left out, so that there may be none at all.
pub async fn body_or_none<P: Ports, T: for<'a> Deserialize<'a>>(ports: &P) -> Result<T, Failure> {
    let bytes = read(ports).await?;
    parse(if bytes.is_empty() { b"{}" } else { &bytes })
}

async fn read<P: Ports>(ports: &P) -> Result<Vec<u8>, Failure> {
    ports.body(BODY_BYTES_MAX).await.map_err(|error| match error {
        BodyError::TooLarge => {
            Failure::new(Code::PayloadTooLarge, format!("the body is larger than {BODY_BYTES_MAX} bytes"))
        }
        BodyError::Broken => Failure::new(Code::InvalidInput, "the body ended early"),
    })
}

fn parse<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, Failure> {
    parse_body(bytes)
        .map_err(|JsonError { path, message }| Failure { param: path, ..Failure::new(Code::InvalidInput, message) })
}

/// A label that is neither empty nor too long.
pub fn label(param: &str, text: &str) -> Result<String, Failure> {
    let text = text.trim();
    match text.len() {
        0 => Err(Failure::invalid(param, "is empty")),
        1..=LABEL_BYTES_MAX => Ok(text.to_owned()),
        _ => Err(Failure::invalid(param, format!("is longer than {LABEL_BYTES_MAX} bytes"))),
    }
}

/// Ten bytes of chance for an id.
pub fn chance<P: Ports>(ports: &P) -> [u8; 10] {
    let mut out = [0; 10];
    out.iter_mut().zip(ports.chance()).for_each(|(to, from)| *to = from);
    out
}

/// Budgets as the API takes them: dollars, as decimal text or as a number.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct BudgetFields {
    day: Option<Value>,
    week: Option<Value>,
    month: Option<Value>,
    total: Option<Value>,
}

impl BudgetFields {
    /// The budgets, or which of them is none.
    pub fn read(&self) -> Result<Budgets, Failure> {
        let read = |period: Period, value: &Option<Value>| -> Result<Option<Nanos>, Failure> {
            let text = match value {
                None | Some(Value::Null) => return Ok(None),
                Some(Value::String(text)) => text.clone(),
                Some(other) => plain(&other.to_string()).into_owned(),
            };
            let param = format!("budget.{}", period.name());
            let nanos = Nanos::from_dollars(&text).map_err(|error| Failure::invalid(&*param, error.to_string()))?;
            if nanos < Nanos::ZERO {
                return Err(Failure::invalid(param, "is below zero"));
            }
            Ok(Some(nanos))
        };
        Ok(Budgets {
            day: read(Period::Day, &self.day)?,
            week: read(Period::Week, &self.week)?,
            month: read(Period::Month, &self.month)?,
            total: read(Period::Total, &self.total)?,
        })
    }
}

/// Budgets in dollars; what there is none of is null.
pub fn budget_json(budgets: &Budgets) -> Value {
    let of = |period: Period| (period.name().to_owned(), json!(budgets.of(period).map(Nanos::to_dollars)));
    Value::Object(Period::ALL.into_iter().map(of).collect())
}

/// A workspace of the system of record.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
    /// The same as they are stored; they change with everything else of the workspace.
    pub text: String,
    /// When it was made.
    pub created_at: Millis,
    /// When it was deleted.
    pub deleted_at: Option<Millis>,
    /// From when on it cannot be restored.
    pub erase_at: Option<Millis>,
}

impl Known {
    /// What an audit row says of a change of it.
    pub fn told<'v>(&'v self, before: Option<&'v Value>, after: &'v Value) -> Told<'v> {
        let id = &self.settings.id;
        Told { workspace: Some(id), subject: id.as_str(), before, after: Some(after) }
    }

    /// In JSON.
    pub fn json(&self) -> Value {
        json!({
            "object": "workspace", "budget": budget_json(&self.settings.budgets), "id": self.settings.id, "name": self.name, "limits": self.settings.limits,
            "suspended": self.settings.suspended, "created_at": self.created_at.to_rfc3339(),
            "deleted_at": self.deleted_at.map(Millis::to_rfc3339), "erase_at": self.erase_at.map(Millis::to_rfc3339),
        })
    }

    fn parse(row: &Value) -> Option<Known> {
        let text = row.get("settings")?.as_str()?.to_owned();
        Some(Known {
            name: row.get("name")?.as_str()?.to_owned(),
            settings: crate::json::from_str(&text).ok()?,
            text,
            created_at: Millis(row.get("created_at")?.as_f64().map(whole)?),
            deleted_at: row.get("deleted_at").and_then(Value::as_f64).map(|at| Millis(whole(at))),
            erase_at: row.get("erase_at").and_then(Value::as_f64).map(|at| Millis(whole(at))),
        })
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds since the epoch")]
fn whole(number: f64) -> u64 {
    number.max(0.0) as u64
}

const COLUMNS: &str = "SELECT name, settings, created_at, deleted_at, erase_at FROM workspaces";

/// The workspace of a path, or 404.
pub async fn known<P: Ports>(ports: &P, path: &str) -> Result<Known, Failure> {
    let unknown = || Failure::new(Code::NotFound, "there is no workspace of that id");
    let id = WorkspaceId::parse(path).ok_or_else(unknown)?;
    let statement = format!("{COLUMNS} WHERE id = ?1");
    let rows = ports.sql(&statement, &[Sql::from(id.as_str())]).await.map_err(|error| fault(ports, &error))?;
    rows.first().and_then(Known::parse).ok_or_else(unknown)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewWorkspace {
    name: String,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    budget: BudgetFields,
}

/// `POST /v1/admin/workspaces`.
pub async fn create_workspace<P: Ports>(act: &Act<'_, P>) -> Result<Reply<P>, Failure> {
    let ports = act.ports;
    let new: NewWorkspace = body(ports).await?;
    let now = ports.now();
    let id = WorkspaceId::new(now, chance(ports));
    let budgets = new.budget.read()?;
    let settings = Settings { id, limits: new.limits, budgets, suspended: false, version: 0, deleted: false };
    let text = serde_json::to_string(&settings).unwrap_or_default();
    let known =
        Known { name: label("name", &new.name)?, settings, text, created_at: now, deleted_at: None, erase_at: None };
    let statement = "INSERT INTO workspaces (id, name, settings, created_at) VALUES (?1, ?2, ?3, ?4)";
    let values = vec![
        Sql::from(known.settings.id.as_str()),
        Sql::Text(known.name.clone()),
        Sql::Text(known.text.clone()),
        Sql::Int(i64::try_from(now.0).unwrap_or(i64::MAX)),
    ];
    act.commit(known.told(None, &known.json()), (statement, values), Vec::new()).await?;
    tell(ports, &known.settings.id, &Command::SetWorkspace(known.settings.clone())).await?;
    // Read copies from the begin: a request need not ask D1 for what was never set.
    for (name, copy) in [("workspace", "{}"), ("byok", "[]")] {
        let key = format!("{name}/{}", known.settings.id);
        ports.kv_put(&key, copy).await.map_err(|error| fault(ports, &error))?;
    }
    Ok(Reply::json(201, &known.json()).with_header("etag", etag::of(&known.text)))
}

/// Tells a workspace something that has no answer.
pub async fn tell<P: Ports>(ports: &P, id: &WorkspaceId, command: &Command) -> Result<(), Failure> {
    match ports.ask(id, command).await {
        Ok(workspace::Reply::Done) => Ok(()),
        Ok(_) => Err(Failure::new(Code::Internal, "the workspace gave no answer")),
        Err(error) => Err(fault(ports, &error)),
    }
}

/// `GET /v1/admin/workspaces`.
pub async fn workspaces<P: Ports>(ports: &P, query: &str) -> Result<Reply<P>, Failure> {
    let limit = query::limit(query, LIMIT_DEFAULT, LIMIT_MAX)?;
    let before = query::cursor(query, WorkspaceId::parse)?;
    let before = before.map_or_else(|| "ws_~".to_owned(), |id| id.as_str().to_owned());
    let statement = format!("{COLUMNS} WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
    let values = [Sql::Text(before), Sql::Int(i64::try_from(limit).unwrap_or(i64::MAX))];
    let rows = ports.sql(&statement, &values).await.map_err(|error| fault(ports, &error))?;
    let known: Vec<Known> = rows.iter().filter_map(Known::parse).collect();
    let is_full = u64::try_from(known.len()).unwrap_or(u64::MAX) >= limit;
    let next = known.last().filter(|_| is_full).map(|last| last.settings.id.clone());
    let data: Vec<Value> = known.iter().map(Known::json).collect();
    Ok(Reply::json(200, &json!({"object": "list", "data": data, "next_cursor": next})))
}

/// `GET /v1/admin/workspaces/{id}`.
pub async fn workspace<P: Ports>(act: &Act<'_, P>, path: &str) -> Result<Reply<P>, Failure> {
    let known = known(act.ports, path).await?;
    let tag = act.expect(&known.text)?;
    Ok(Reply::json(200, &known.json()).with_header("etag", tag))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedWorkspace {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    limits: Option<Limits>,
    #[serde(default)]
    budget: Option<BudgetFields>,
    #[serde(default)]
    suspended: Option<bool>,
}

/// `PATCH /v1/admin/workspaces/{id}`.
pub async fn change_workspace<P: Ports>(act: &Act<'_, P>, path: &str) -> Result<Reply<P>, Failure> {
    let changed: ChangedWorkspace = body(act.ports).await?;
    // What the operator set to protect the gateway, or stopped, is not the tenant's to undo.
    act.operator_only("suspended", changed.suspended.is_some())?;
    act.operator_only("limits", changed.limits.is_some())?;
    for _ in 0..TRIES {
        let before = known(act.ports, path).await?;
        act.expect(&before.text)?;
        let mut settings = before.settings.clone();
        settings.version = settings.version.saturating_add(1);
        settings.limits = changed.limits.unwrap_or(settings.limits);
        if let Some(budget) = &changed.budget {
            settings.budgets = budget.read()?;
        }
        settings.suspended = changed.suspended.unwrap_or(settings.suspended);
        let name = changed.name.as_ref().map(|name| label("name", name)).transpose()?;
        let name = name.unwrap_or_else(|| before.name.clone());
        let text = serde_json::to_string(&settings).unwrap_or_default();
        let after = Known { name, settings, text, ..before.clone() };
        let statement = "UPDATE workspaces SET name = ?3, settings = ?4 WHERE id = ?1 AND settings = ?2";
        let values = vec![
            Sql::from(after.settings.id.as_str()),
            Sql::Text(before.text.clone()),
            Sql::Text(after.name.clone()),
            Sql::Text(after.text.clone()),
        ];
        let (seen, shown) = (before.json(), after.json());
        if act.commit(after.told(Some(&seen), &shown), (statement, values), Vec::new()).await? {
            tell(act.ports, &after.settings.id, &Command::SetWorkspace(after.settings.clone())).await?;
            return Ok(Reply::json(200, &shown).with_header("etag", etag::of(&after.text)));
        }
    }
    Err(act.contended())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewGrant {
    amount: String,
    reason: String,
    idempotency_key: String,
}

/// `POST /v1/admin/workspaces/{id}/credits`: prepaid money, in decimal dollars; below zero takes back.
pub async fn grant<P: Ports>(ports: &P, path: &str) -> Result<Reply<P>, Failure> {
    let known = known(ports, path).await?;
    let new: NewGrant = body(ports).await?;
    let id = &known.settings.id;
    let entry = ledger::booked(ports, id, None, &new.amount, &new.reason, &new.idempotency_key).await?;
    let credits = state(ports, id).await?;
    Ok(Reply::json(201, &json!({"object": "grant", "entry": entry, "credits": credits_json(&credits)})))
}

/// `GET /v1/admin/catalog`: published snapshots, and the one in use.
pub async fn snapshots<P: Ports>(ports: &P) -> Result<Reply<P>, Failure> {
    let read =
        |text: Option<String>| text.and_then(|text| crate::json::from_str::<Value>(&text).ok()).unwrap_or_default();
    let current = read(ports.kv_get(CURRENT_KEY).await.map_err(|error| fault(ports, &error))?);
    let snapshots = read(ports.kv_get(SNAPSHOTS_KEY).await.map_err(|error| fault(ports, &error))?);
    let current = current.get("snapshot").cloned().unwrap_or_default();
    Ok(Reply::json(200, &json!({"current": current, "snapshots": snapshots})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UseSnapshot {
    snapshot: String,
}

/// `POST /v1/admin/catalog`: moves the pointer to a published snapshot, forward or back.
pub async fn use_snapshot<P: Ports>(ports: &P) -> Result<Reply<P>, Failure> {
    let wanted: UseSnapshot = body(ports).await?;
    let is_id = wanted.snapshot.len() == 16 && wanted.snapshot.bytes().all(|b| b.is_ascii_hexdigit());
    let manifest = match is_id {
        true => ports.kv_get(&manifest_key(&wanted.snapshot)).await.map_err(|error| fault(ports, &error))?,
        false => None,
    };
    if manifest.is_none() {
        return Err(Failure::new(Code::NotFound, "there is no published snapshot of that id").about("snapshot"));
    }
    let pointer = json!({"snapshot": wanted.snapshot}).to_string();
    ports.kv_put(CURRENT_KEY, &pointer).await.map_err(|error| fault(ports, &error))?;
    ports.forget_snapshot();
    Ok(Reply::json(200, &json!({"current": wanted.snapshot})))
}
