//! Keys of a workspace: D1 is the record, the workspace object has the last word, KV the read copy. In that order.
//!
//! A key that was rotated has two secrets for a while. Both lead to the same key; the object counts the secrets and knows
//! until when the one before the newest works.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::key as secret;
use crate::access::policy::{Limits, Policy};
use crate::error::{Code, Failure};
use crate::id::{KeyId, WorkspaceId};
use crate::limits::budget::Spend;
use crate::serve::account::{key_json, used_json};
use crate::serve::act::{Act, TRIES, Told};
use crate::serve::admin::{BudgetFields, body, body_or_none, chance, known, label, tell};
use crate::serve::ports::{Ports, Sql};
use crate::serve::reply::Reply;
use crate::serve::{etag, fault, query};
use crate::time::Millis;
use crate::workspace::{self, Command};

/// Most patterns in `allowed_models`.
const MODELS_MAX: usize = 200;
/// Keys of a page.
const LIMIT_DEFAULT: u64 = 50;
const LIMIT_MAX: u64 = 200;
/// Longest time that two secrets of a key work side by side, in seconds (a week).
const OVERLAP_SECONDS_MAX: u64 = 7 * 24 * 3600;
/// How often a read copy is written again where the record changed meanwhile.
const COPIES_MAX: u32 = 4;

/// What leads from a secret's hash to its key.
pub const POLICY_OF: &str = "SELECT policy, hash FROM keys WHERE hash = ?1 \
    UNION ALL SELECT policy, hash FROM keys WHERE old_hash = ?1 LIMIT 1";
const COLUMNS: &str = "SELECT policy, hash, old_hash FROM keys";

/// The KV key of a policy's read copy.
pub fn policy_key(hash: &str) -> String {
    format!("key/{hash}")
}

/// The policy of a row of [`POLICY_OF`], for the secret with that hash.
pub fn policy_in(row: &Value, hash: &str) -> Option<Policy> {
    let policy: Policy = crate::json::from_str(row.get("policy")?.as_str()?).ok()?;
    Some(if row.get("hash")?.as_str()? == hash { policy } else { policy.of_old_secret() })
}

/// A key as it is stored.
pub struct Stored {
    /// What it may do.
    pub policy: Policy,
    /// Its text, to see whether it was changed meanwhile.
    text: String,
    hash: String,
    old_hash: Option<String>,
}

impl Stored {
    fn read(row: &Value) -> Option<Stored> {
        let text = row.get("policy")?.as_str()?.to_owned();
        let policy = crate::json::from_str(&text).ok()?;
        let hash = row.get("hash")?.as_str()?.to_owned();
        let old_hash = row.get("old_hash").and_then(Value::as_str).map(str::to_owned);
        Some(Stored { policy, text, hash, old_hash })
    }
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

pub(super) fn expiry(text: Option<&str>) -> Result<Option<Millis>, Failure> {
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

pub(super) fn pepper<P: Ports>(ports: &P) -> Result<String, Failure> {
    let missing = || Failure::new(Code::Internal, "the secret KEY_HASH_SECRET is not set on this gateway");
    ports.secret("KEY_HASH_SECRET").ok_or_else(missing)
}

/// A key in JSON, with its secret: the one time that it is shown.
fn with_secret(policy: &Policy, text: &str) -> Value {
    let mut shown = key_json(policy);
    if let Some(object) = shown.as_object_mut() {
        object.insert("key".to_owned(), json!(text));
    }
    shown
}

/// `POST /v1/admin/workspaces/{id}/keys`: shows the secret, once.
pub async fn create<P: Ports>(act: &Act<'_, P>, path: &str) -> Result<Reply<P>, Failure> {
    let ports = act.ports;
    let workspace = known(ports, path).await?.settings.id;
    let new: NewKey = body(ports).await?;
    let pepper = pepper(ports)?;
    let text = secret::write(ports.chance());
    let now = ports.now();
    let policy = Policy {
        key: KeyId::new(now, chance(ports)),
        workspace,
        name: label("name", &new.name)?,
        hint: secret::hint(&text),
        expires_at: expiry(new.expires_at.as_deref())?,
        allowed_models: models(new.allowed_models)?,
        limits: new.limits,
        budgets: new.budget.read()?,
        created_at: now,
        ..Policy::default()
    };
    let hash = secret::hash(&text, pepper.as_bytes());
    let stored = serde_json::to_string(&policy).unwrap_or_default();
    let values = vec![
        Sql::from(policy.key.as_str()),
        Sql::from(policy.workspace.as_str()),
        Sql::Text(hash),
        Sql::Text(stored.clone()),
    ];
    let statement = "INSERT INTO keys (id, workspace, hash, policy) VALUES (?1, ?2, ?3, ?4)";
    let shown = key_json(&policy);
    let told =
        Told { workspace: Some(&policy.workspace), subject: policy.key.as_str(), before: None, after: Some(&shown) };
    act.commit(told, (statement, values), Vec::new()).await?;
    project(ports, &policy.workspace, &policy.key).await?;
    Ok(Reply::json(201, &with_secret(&policy, &text)).with_header("etag", etag::of(&stored)))
}

/// Tells the workspace object what the record says, then renews the read copies of the key's secrets. A copy that was
/// written while the record changed is written again: copies of two changes may arrive in the wrong order.
pub(super) async fn project<P: Ports>(ports: &P, workspace: &WorkspaceId, key: &KeyId) -> Result<(), Failure> {
    let mut last = String::new();
    for _ in 0..COPIES_MAX {
        let stored = read(ports, workspace, key).await?;
        if stored.text == last {
            break;
        }
        tell(ports, workspace, &Command::SetKey(Box::new(stored.policy.clone()))).await?;
        put_copy(ports, &stored.hash, &stored.policy).await?;
        if let Some(old) = &stored.old_hash {
            put_copy(ports, old, &stored.policy.of_old_secret()).await?;
        }
        last = stored.text;
    }
    Ok(())
}

async fn put_copy<P: Ports>(ports: &P, hash: &str, policy: &Policy) -> Result<(), Failure> {
    let copy = serde_json::to_string(policy).unwrap_or_default();
    ports.kv_put(&policy_key(hash), &copy).await.map_err(|error| fault(ports, &error))?;
    ports.forget_policy(hash);
    Ok(())
}

/// `GET /v1/admin/workspaces/{id}/keys`: with what each has spent.
pub async fn list<P: Ports>(ports: &P, path: &str, query: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    let limit = query::limit(query, LIMIT_DEFAULT, LIMIT_MAX)?;
    let before = query::cursor(query, KeyId::parse)?;
    let before = before.map_or_else(|| "key_~".to_owned(), |id| id.as_str().to_owned());
    let statement = format!("{COLUMNS} WHERE workspace = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3");
    let values = [Sql::from(workspace.as_str()), Sql::Text(before), Sql::Int(i64::try_from(limit).unwrap_or(i64::MAX))];
    let rows = ports.sql(&statement, &values).await.map_err(|error| fault(ports, &error))?;
    let keys: Vec<Policy> = rows.iter().filter_map(Stored::read).map(|stored| stored.policy).collect();
    let spends = spends(ports, &workspace, keys.iter().map(|policy| policy.key.clone()).collect()).await?;
    let now = ports.now();
    let data: Vec<Value> = keys.iter().zip(&spends).map(|(policy, spend)| used_json(policy, spend, now)).collect();
    let is_full = u64::try_from(rows.len()).unwrap_or(u64::MAX) >= limit;
    let next = keys.last().filter(|_| is_full).map(|policy| policy.key.clone());
    Ok(Reply::json(200, &json!({"object": "list", "data": data, "next_cursor": next})))
}

async fn spends<P: Ports>(ports: &P, workspace: &WorkspaceId, keys: Vec<KeyId>) -> Result<Vec<Spend>, Failure> {
    ports.settled(workspace).await;
    match ports.ask(workspace, &Command::Spends(keys)).await.map_err(|error| fault(ports, &error))? {
        workspace::Reply::Spends(spends) => Ok(spends),
        _ => Err(Failure::new(Code::Internal, "the workspace gave no answer")),
    }
}

async fn read<P: Ports>(ports: &P, workspace: &WorkspaceId, key: &KeyId) -> Result<Stored, Failure> {
    let statement = format!("{COLUMNS} WHERE id = ?1 AND workspace = ?2");
    let values = [Sql::from(key.as_str()), Sql::from(workspace.as_str())];
    let rows = ports.sql(&statement, &values).await.map_err(|error| fault(ports, &error))?;
    rows.first().and_then(Stored::read).ok_or_else(unknown)
}

fn unknown() -> Failure {
    Failure::new(Code::NotFound, "there is no key of that id in this workspace")
}

/// `GET /v1/admin/workspaces/{id}/keys/{key}`.
pub async fn one<P: Ports>(act: &Act<'_, P>, path: &str, key: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(act.ports, path).await?.settings.id;
    let stored = read(act.ports, &workspace, &KeyId::parse(key).ok_or_else(unknown)?).await?;
    let tag = act.expect(&stored.text)?;
    let spends = spends(act.ports, &workspace, vec![stored.policy.key.clone()]).await?;
    let shown = used_json(&stored.policy, &spends.first().copied().unwrap_or_default(), act.ports.now());
    Ok(Reply::json(200, &shown).with_header("etag", tag))
}

/// What a change makes of a key: its policy, and with a rotation the hash of its new secret.
type Changed = (Policy, Option<String>);

/// Changes a key by what it is at that moment, and tells everybody. Gives the policy as it is then, and its tag.
async fn update<P: Ports>(
    act: &Act<'_, P>,
    path: &str,
    key: &str,
    change: impl Fn(&Stored) -> Result<Changed, Failure>,
) -> Result<(Policy, String), Failure> {
    let workspace = known(act.ports, path).await?.settings.id;
    let key = KeyId::parse(key).ok_or_else(unknown)?;
    update_key(act, &workspace, &key, change).await
}

/// The same for a key whose workspace is known.
pub(super) async fn update_key<P: Ports>(
    act: &Act<'_, P>,
    workspace: &WorkspaceId,
    key: &KeyId,
    change: impl Fn(&Stored) -> Result<Changed, Failure>,
) -> Result<(Policy, String), Failure> {
    for _ in 0..TRIES {
        let stored = read(act.ports, workspace, key).await?;
        act.expect(&stored.text)?;
        let (mut policy, new_hash) = change(&stored)?;
        policy.version = stored.policy.version.saturating_add(1);
        let text = serde_json::to_string(&policy).unwrap_or_default();
        let replaced = new_hash.is_some().then(|| stored.old_hash.clone()).flatten();
        let (hash, old) = match new_hash {
            Some(new) => (new, Some(stored.hash.clone())),
            None => (stored.hash.clone(), stored.old_hash.clone()),
        };
        let values = vec![
            Sql::from(key.as_str()),
            Sql::Text(stored.text),
            Sql::Text(text.clone()),
            Sql::Text(hash),
            old.map_or(Sql::Null, Sql::Text),
        ];
        let statement = "UPDATE keys SET policy = ?3, hash = ?4, old_hash = ?5 WHERE id = ?1 AND policy = ?2";
        let (before, after) = (key_json(&stored.policy), key_json(&policy));
        let told =
            Told { workspace: Some(workspace), subject: key.as_str(), before: Some(&before), after: Some(&after) };
        if act.commit(told, (statement, values), Vec::new()).await? {
            project(act.ports, workspace, key).await?;
            if let Some(gone) = replaced {
                put_copy(act.ports, &gone, &Policy { revoked: true, secret: 0, ..policy.clone() }).await?;
            }
            return Ok((policy, etag::of(&text)));
        }
    }
    Err(act.contended())
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
pub async fn change<P: Ports>(act: &Act<'_, P>, workspace: &str, key: &str) -> Result<Reply<P>, Failure> {
    let changed: ChangedKey = body(act.ports).await?;
    let (policy, tag) = update(act, workspace, key, |stored| {
        let mut policy = alive(stored)?;
        if let Some(name) = &changed.name {
            policy.name = label("name", name)?;
        }
        policy.disabled = changed.disabled.unwrap_or(policy.disabled);
        policy.limits = changed.limits.unwrap_or(policy.limits);
        if let Some(budget) = &changed.budget {
            policy.budgets = budget.read()?;
        }
        if let Some(list) = &changed.allowed_models {
            policy.allowed_models = models(list.clone())?;
        }
        if let Some(text) = &changed.expires_at {
            policy.expires_at = expiry(text.as_deref())?;
        }
        Ok((policy, None))
    })
    .await?;
    Ok(Reply::json(200, &key_json(&policy)).with_header("etag", tag))
}

fn alive(stored: &Stored) -> Result<Policy, Failure> {
    match stored.policy.revoked {
        true => Err(Failure::new(Code::NotFound, "the key is revoked")),
        false => Ok(stored.policy.clone()),
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Rotation {
    #[serde(default)]
    overlap_seconds: Option<u64>,
}

/// `POST /v1/admin/workspaces/{id}/keys/{key}/rotate`: a new secret, shown once; the one it had works for
/// `overlap_seconds` more (0 where none are named), and one before that no longer.
pub async fn rotate<P: Ports>(act: &Act<'_, P>, workspace: &str, key: &str) -> Result<Reply<P>, Failure> {
    let ports = act.ports;
    let asked: Rotation = body_or_none(ports).await?;
    let overlap = asked.overlap_seconds.unwrap_or(0);
    if overlap > OVERLAP_SECONDS_MAX {
        return Err(Failure::invalid("overlap_seconds", format!("is more than {OVERLAP_SECONDS_MAX}")));
    }
    let pepper = pepper(ports)?;
    let text = secret::write(ports.chance());
    let hash = secret::hash(&text, pepper.as_bytes());
    let (policy, tag) = update(act, workspace, key, |stored| {
        let policy = alive(stored)?;
        let until = ports.now().plus(overlap.saturating_mul(1000));
        let (hint, secret) = (secret::hint(&text), policy.secret.saturating_add(1));
        Ok((Policy { hint, secret, old_until: Some(until), ..policy }, Some(hash.clone())))
    })
    .await?;
    Ok(Reply::json(200, &with_secret(&policy, &text)).with_header("etag", tag))
}

/// `DELETE /v1/admin/workspaces/{id}/keys/{key}`: for good, and at once.
pub async fn revoke<P: Ports>(act: &Act<'_, P>, workspace: &str, key: &str) -> Result<Reply<P>, Failure> {
    let revoked = |stored: &Stored| Ok((Policy { revoked: true, ..stored.policy.clone() }, None));
    let (policy, tag) = update(act, workspace, key, revoked).await?;
    Ok(Reply::json(200, &key_json(&policy)).with_header("etag", tag))
}
