//! Keys of a workspace: D1 is the record, the workspace object has the last word, KV the read copy. In that order.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::key as secret;
use crate::access::policy::{Limits, Policy};
use crate::error::{Code, Failure};
use crate::id::KeyId;
use crate::serve::account::key_json;
use crate::serve::admin::{BudgetFields, body, chance, known, label, tell};
use crate::serve::fault;
use crate::serve::ports::{Ports, Sql};
use crate::serve::reply::Reply;
use crate::time::Millis;
use crate::workspace::Command;

/// Most patterns in `allowed_models`.
const MODELS_MAX: usize = 200;
/// Most keys listed at once.
const KEYS_MAX: i64 = 500;

/// The KV key of a policy's read copy.
pub fn policy_key(hash: &str) -> String {
    format!("key/{hash}")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    name: String,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    budget: BudgetFields,
    #[serde(default)]
    allowed_models: Vec<String>,
    #[serde(default)]
    expires_at: Option<String>,
}

fn expiry(text: Option<&str>) -> Result<Option<Millis>, Failure> {
    let parse = |text: &str| {
        Millis::from_rfc3339(text).ok_or_else(|| Failure::invalid("expires_at", "must be a moment in RFC 3339"))
    };
    text.map(parse).transpose()
}

fn models(list: Vec<String>) -> Result<Vec<String>, Failure> {
    if list.len() > MODELS_MAX {
        return Err(Failure::invalid("allowed_models", format!("has more than {MODELS_MAX} entries")));
    }
    list.iter().enumerate().try_for_each(|(at, text)| label(&format!("allowed_models[{at}]"), text).map(drop))?;
    Ok(list)
}

/// `POST /v1/admin/workspaces/{id}/keys`: shows the secret, once.
pub async fn create<P: Ports>(ports: &P, path: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?;
    let new: NewKey = body(ports).await?;
    let pepper = ports
        .secret("KEY_HASH_SECRET")
        .ok_or_else(|| Failure::new(Code::Internal, "the secret KEY_HASH_SECRET is not set on this gateway"))?;
    let text = secret::write(ports.chance());
    let now = ports.now();
    let policy = Policy {
        key: KeyId::new(now, chance(ports)),
        workspace: workspace.settings.id,
        name: label("name", &new.name)?,
        hint: secret::hint(&text),
        expires_at: expiry(new.expires_at.as_deref())?,
        disabled: false,
        revoked: false,
        allowed_models: models(new.allowed_models)?,
        limits: new.limits,
        budgets: new.budget.read()?,
        created_at: now,
    };
    let hash = secret::hash(&text, pepper.as_bytes());
    let values = [
        Sql::from(policy.key.as_str()),
        Sql::from(policy.workspace.as_str()),
        Sql::Text(hash.clone()),
        Sql::Text(serde_json::to_string(&policy).unwrap_or_default()),
    ];
    let statement = "INSERT INTO keys (id, workspace, hash, policy) VALUES (?1, ?2, ?3, ?4)";
    ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    project(ports, &policy, &hash).await?;
    let mut shown = key_json(&policy);
    if let Some(object) = shown.as_object_mut() {
        object.insert("key".to_owned(), json!(text));
    }
    Ok(Reply::json(201, &shown))
}

/// Tells the workspace object, then renews the read copy.
async fn project<P: Ports>(ports: &P, policy: &Policy, hash: &str) -> Result<(), Failure> {
    tell(ports, &policy.workspace, &Command::SetKey(Box::new(policy.clone()))).await?;
    let copy = serde_json::to_string(policy).unwrap_or_default();
    ports.kv_put(&policy_key(hash), &copy).await.map_err(|error| fault(ports, &error))?;
    ports.forget_policy(hash);
    Ok(())
}

/// `GET /v1/admin/workspaces/{id}/keys`.
pub async fn list<P: Ports>(ports: &P, path: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?;
    let statement = "SELECT policy, hash FROM keys WHERE workspace = ?1 ORDER BY id DESC LIMIT ?2";
    let values = [Sql::from(workspace.settings.id.as_str()), Sql::Int(KEYS_MAX)];
    let rows = ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    let data: Vec<Value> = rows.iter().filter_map(stored).map(|(policy, _)| key_json(&policy)).collect();
    Ok(Reply::json(200, &json!({"object": "list", "data": data})))
}

fn stored(row: &Value) -> Option<(Policy, String)> {
    let policy = serde_json::from_str(row.get("policy")?.as_str()?).ok()?;
    Some((policy, row.get("hash")?.as_str()?.to_owned()))
}

async fn key_of<P: Ports>(ports: &P, workspace: &str, key: &str) -> Result<(Policy, String), Failure> {
    let workspace = known(ports, workspace).await?;
    let unknown = || Failure::new(Code::NotFound, "there is no key of that id in this workspace");
    let id = KeyId::parse(key).ok_or_else(unknown)?;
    let statement = "SELECT policy, hash FROM keys WHERE id = ?1 AND workspace = ?2";
    let values = [Sql::from(id.as_str()), Sql::from(workspace.settings.id.as_str())];
    let rows = ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    rows.first().and_then(stored).ok_or_else(unknown)
}

async fn store<P: Ports>(ports: &P, policy: &Policy, hash: &str) -> Result<(), Failure> {
    let values = [Sql::from(policy.key.as_str()), Sql::Text(serde_json::to_string(policy).unwrap_or_default())];
    ports.sql("UPDATE keys SET policy = ?2 WHERE id = ?1", &values).await.map_err(|error| fault(ports, &error))?;
    project(ports, policy, hash).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedKey {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    disabled: Option<bool>,
    #[serde(default)]
    limits: Option<Limits>,
    #[serde(default)]
    budget: Option<BudgetFields>,
    #[serde(default)]
    allowed_models: Option<Vec<String>>,
    /// `Some(None)` is an explicit null: no expiry any more.
    #[serde(default, deserialize_with = "present")]
    expires_at: Option<Option<String>>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

/// `PATCH /v1/admin/workspaces/{id}/keys/{key}`.
pub async fn change<P: Ports>(ports: &P, workspace: &str, key: &str) -> Result<Reply<P>, Failure> {
    let (mut policy, hash) = key_of(ports, workspace, key).await?;
    let changed: ChangedKey = body(ports).await?;
    if policy.revoked {
        return Err(Failure::new(Code::NotFound, "the key is revoked"));
    }
    if let Some(name) = &changed.name {
        policy.name = label("name", name)?;
    }
    policy.disabled = changed.disabled.unwrap_or(policy.disabled);
    policy.limits = changed.limits.unwrap_or(policy.limits);
    if let Some(budget) = changed.budget {
        policy.budgets = budget.read()?;
    }
    if let Some(list) = changed.allowed_models {
        policy.allowed_models = models(list)?;
    }
    if let Some(text) = changed.expires_at {
        policy.expires_at = expiry(text.as_deref())?;
    }
    store(ports, &policy, &hash).await?;
    Ok(Reply::json(200, &key_json(&policy)))
}

/// `DELETE /v1/admin/workspaces/{id}/keys/{key}`: for good, and at once.
pub async fn revoke<P: Ports>(ports: &P, workspace: &str, key: &str) -> Result<Reply<P>, Failure> {
    let (mut policy, hash) = key_of(ports, workspace, key).await?;
    policy.revoked = true;
    store(ports, &policy, &hash).await?;
    Ok(Reply::json(200, &key_json(&policy)))
}
