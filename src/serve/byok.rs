//! Customers' own credentials: the admin's endpoints, and what a request reads of them.

use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::byok::{About, Credential, OwnKey, Secrets, Use, hint};
use crate::access::variables;
use crate::catalog::{Provider, provider_key};
use crate::error::{Code, Failure};
use crate::id::{CredentialId, WorkspaceId};
use crate::serve::act::{Act, TRIES, Told};
use crate::serve::admin::{body, chance, known, label};
use crate::serve::ports::{Ports, Sql};
use crate::serve::query::path_value;
use crate::serve::reply::Reply;
use crate::serve::verify::{self, Outcome};
use crate::serve::{etag, fault, query};

/// Longest key, in bytes: a service account's file fits.
const KEY_BYTES_MAX: usize = 16 * 1024;
/// Most credentials of a workspace.
const CREDENTIALS_MAX: usize = 100;
/// Credentials sealed anew by one call.
const ROTATED_MAX: i64 = 500;

const COPY: &str = "SELECT json_group_array(json_object('id', id, 'provider', provider, 'about', json(about), 'sealed', sealed)) \
    AS copy FROM (SELECT * FROM byok WHERE workspace = ?1 ORDER BY position, id)";

fn copy_key(workspace: &WorkspaceId) -> String {
    format!("byok/{workspace}")
}

/// The secrets that seal.
pub fn secrets<P: Ports>(ports: &P) -> Secrets {
    Secrets::read(ports.secret("BYOK_SECRETS").as_deref(), ports.secret("KEY_HASH_SECRET").as_deref())
}

/// A workspace's credentials, in their order.
pub async fn of<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<Rc<Vec<OwnKey>>, Failure> {
    let values = [Sql::from(workspace.as_str())];
    let copy = ports.read_copy(&copy_key(workspace), COPY, &values).await.map_err(|error| fault(ports, &error))?;
    let Some(copy) = copy.filter(|copy| copy.as_str() != "[]") else { return Ok(Rc::default()) };
    let keys = crate::json::from_str(&copy);
    keys.map(Rc::new).map_err(|_| Failure::new(Code::Internal, "the workspace's own credentials cannot be read"))
}

/// Its provider refused a credential in use: the owner is to see that, and why.
pub async fn refused<P: Ports>(ports: &P, workspace: &WorkspaceId, id: &CredentialId, status: Option<u16>) {
    let values =
        [Sql::from(workspace.as_str()), Sql::from(id.as_str()), moment(ports), Sql::Text(verify::reason(status))];
    let statement = "UPDATE byok SET refused_at = ?3, reason = ?4 WHERE workspace = ?1 AND id = ?2";
    if let Err(error) = ports.sql(statement, &values).await {
        ports.log(&format!("fault: a refused credential was not marked: {}", error.0));
    }
}

fn moment<P: Ports>(ports: &P) -> Sql {
    Sql::Int(i64::try_from(ports.now().0).unwrap_or(i64::MAX))
}

pub(super) async fn project<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<(), Failure> {
    let rows = ports.sql(COPY, &[Sql::from(workspace.as_str())]).await.map_err(|error| fault(ports, &error))?;
    let copy = rows.first().and_then(|row| row.get("copy")?.as_str()).unwrap_or("[]");
    let key = copy_key(workspace);
    ports.kv_put(&key, copy).await.map_err(|error| fault(ports, &error))?;
    ports.forget_copy(&key);
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCredential {
    key: String,
    #[serde(default)]
    variables: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default, rename = "use")]
    usage: Use,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    position: Option<u32>,
}

/// The key as it is sent.
fn key_of(text: &str) -> Result<String, Failure> {
    let key = text.trim();
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Failure::invalid("key", format!("must have 1 to {KEY_BYTES_MAX} bytes")));
    }
    if !key.starts_with('{') && key.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Failure::invalid("key", "holds a space or a control character"));
    }
    if !key.starts_with('{') && !key.is_ascii() {
        return Err(Failure::invalid("key", "holds a character outside of ASCII, which no header can carry"));
    }
    Ok(key.to_owned())
}

/// A credential that is fit to be kept: sealed, and what its provider says of it.
struct Kept {
    sealed: String,
    verified_at: Sql,
    reason: Sql,
}

/// Checks a credential, asks its provider about it where that costs nothing, and seals it. One that the provider refuses
/// is not kept; one that nobody could ask about is.
async fn keep<P: Ports>(
    ports: &P,
    workspace: &WorkspaceId,
    provider: &Provider,
    id: &CredentialId,
    credential: &Credential,
) -> Result<Kept, Failure> {
    let secrets = secrets(ports);
    if !secrets.can_seal() {
        let message = "the secret BYOK_SECRETS is not set on this gateway, so it keeps no credentials";
        return Err(Failure::new(Code::Internal, message));
    }
    variables::check(provider, &credential.variables)
        .map_err(|wrong| Failure::invalid(format!("variables.{}", wrong.name), wrong.message))?;
    // Never a name under which a token is kept for requests.
    let name = format!("{id} {:?}", chance(ports));
    let (verified_at, reason) = match verify::verify(ports, provider, credential, &name).await {
        Outcome::Accepted => (moment(ports), Sql::Null),
        Outcome::Unknown(why) => (Sql::Null, Sql::Text(why)),
        Outcome::Refused(why) => {
            return Err(Failure::invalid("key", format!("is refused by its provider ({why})")));
        }
    };
    let text = serde_json::to_vec(credential).unwrap_or_default();
    let sealed = secrets
        .seal(&text, workspace, &provider.id, ports.chance())
        .ok_or_else(|| Failure::new(Code::Internal, "the credential cannot be sealed"))?;
    Ok(Kept { sealed, verified_at, reason })
}

/// The provider of a path, as the catalog in use has it: a credential for a name that nobody serves would never be used,
/// and never be missed.
async fn provider_of<P: Ports>(ports: &P, id: &str) -> Result<Provider, Failure> {
    let id = path_value(id);
    let unknown = || Failure::new(Code::NotFound, "there is no such provider in the catalog");
    let snapshot = ports.snapshot().await.map_err(|error| fault(ports, &error))?.ok_or_else(unknown)?;
    let text = ports.kv_get(&provider_key(&snapshot, &id)).await.map_err(|error| fault(ports, &error))?;
    let text = text.ok_or_else(unknown)?;
    crate::json::from_str(&text).map_err(|_| Failure::new(Code::Internal, "the provider's entry cannot be read"))
}

/// `POST …/byok/{provider}`: keeps a credential; it is never shown again.
pub async fn create<P: Ports>(act: &Act<'_, P>, path: &str, provider: &str) -> Result<Reply<P>, Failure> {
    let ports = act.ports;
    let workspace = known(ports, path).await?.settings.id;
    let provider = provider_of(ports, provider).await?;
    let new: NewCredential = body(ports).await?;
    let credential = Credential { key: key_of(&new.key)?, variables: new.variables };
    let name = label("name", new.name.as_deref().unwrap_or(&provider.id))?;
    let count = of(ports, &workspace).await?.len();
    if count >= CREDENTIALS_MAX {
        return Err(Failure::invalid("key", format!("the workspace has {CREDENTIALS_MAX} credentials already")));
    }
    let id = CredentialId::new(ports.now(), chance(ports));
    let kept = keep(ports, &workspace, &provider, &id, &credential).await?;
    let about = About {
        name,
        usage: new.usage,
        models: new.models,
        keys: new.keys,
        hint: hint(&credential.key),
        enabled: true,
    };
    let position = new.position.map_or(i64::try_from(count).unwrap_or(0), i64::from);
    let statement = "INSERT INTO byok (id, workspace, provider, position, about, sealed, created_at, verified_at, reason) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let after = json!({
        "object": "credential", "id": id, "provider": provider.id, "position": position, "name": about.name,
        "use": about.usage, "models": about.models, "keys": about.keys, "hint": about.hint, "enabled": about.enabled,
    });
    let values = vec![
        Sql::from(id.as_str()),
        Sql::from(workspace.as_str()),
        Sql::from(provider.id.as_str()),
        Sql::Int(position),
        Sql::Text(serde_json::to_string(&about).unwrap_or_default()),
        Sql::Text(kept.sealed),
        moment(ports),
        kept.verified_at,
        kept.reason,
    ];
    let told = Told { workspace: Some(&workspace), subject: id.as_str(), before: None, after: Some(&after) };
    act.commit(told, (statement, values), Vec::new()).await?;
    project(ports, &workspace).await?;
    let row = row_of(ports, &workspace, &provider.id, id.as_str()).await?;
    Ok(Reply::json(201, &shown(&row)).with_header("etag", tag_of(&row)))
}

const ROW: &str = "SELECT id, provider, position, about, sealed, created_at, refused_at, verified_at, reason FROM byok";

async fn row_of<P: Ports>(ports: &P, workspace: &WorkspaceId, provider: &str, id: &str) -> Result<Value, Failure> {
    let statement = format!("{ROW} WHERE workspace = ?1 AND id = ?2 AND provider = ?3");
    let values = [Sql::from(workspace.as_str()), Sql::from(id), Sql::from(provider)];
    let rows = ports.sql(&statement, &values).await.map_err(|error| fault(ports, &error))?;
    rows.into_iter().next().ok_or_else(|| Failure::new(Code::NotFound, "there is no credential of that id"))
}

/// What a credential's tag is of: all that its owner changes, and not what its provider says of it.
fn text_of(row: &Value) -> String {
    let of = |name: &str| row.get(name).cloned().unwrap_or_default();
    json!([of("id"), of("position"), of("about"), of("sealed")]).to_string()
}

fn tag_of(row: &Value) -> String {
    etag::of(&text_of(row))
}

/// A row as the API shows it.
pub(super) fn shown(row: &Value) -> Value {
    let about: Value =
        row.get("about").and_then(Value::as_str).and_then(|text| crate::json::from_str(text).ok()).unwrap_or_default();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds since the epoch")]
    let moment = |name: &str| {
        row.get(name).and_then(Value::as_f64).map(|at| crate::time::Millis(at.max(0.0) as u64).to_rfc3339())
    };
    let state = match (moment("refused_at"), moment("verified_at")) {
        (Some(_), _) => "refused",
        (None, Some(_)) => "verified",
        (None, None) => "unverified",
    };
    json!({
        "object": "credential", "id": row.get("id"), "provider": row.get("provider"), "position": row.get("position"),
        "name": about.get("name"), "use": about.get("use"), "models": about.get("models"), "keys": about.get("keys"),
        "hint": about.get("hint"), "enabled": about.get("enabled"),
        "state": state, "reason": row.get("reason"),
        "created_at": moment("created_at"), "verified_at": moment("verified_at"), "refused_at": moment("refused_at"),
    })
}

/// `GET …/byok` and `GET …/byok/{provider}`.
pub async fn list<P: Ports>(ports: &P, path: &str, provider: Option<&str>, query: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    let most = u64::try_from(CREDENTIALS_MAX).unwrap_or(u64::MAX);
    let limit = usize::try_from(query::limit(query, most, most)?).unwrap_or(CREDENTIALS_MAX);
    let cursor = query::value(query, "cursor");
    let statement = format!("{ROW} WHERE workspace = ?1 ORDER BY position, id");
    let rows = ports.sql(&statement, &[Sql::from(workspace.as_str())]).await.map_err(|error| fault(ports, &error))?;
    let is_asked = |row: &&Value| provider.is_none_or(|id| row.get("provider").and_then(Value::as_str) == Some(id));
    let id = |row: &Value| row.get("id").and_then(Value::as_str).map(str::to_owned);
    // A workspace has few: they are read whole, and a page begins behind the one that the cursor names.
    let mut asked: Vec<&Value> = rows.iter().filter(is_asked).collect();
    if let Some(cursor) = cursor {
        let place = asked.iter().position(|row| id(row).as_deref() == Some(cursor.as_str()));
        let place = place.ok_or_else(|| Failure::invalid("cursor", "is not a cursor of this list"))?;
        asked.drain(..=place);
    }
    let is_cut = asked.len() > limit;
    asked.truncate(limit);
    let next = asked.last().filter(|_| is_cut).and_then(|row| id(row));
    let data: Vec<Value> = asked.into_iter().map(shown).collect();
    Ok(Reply::json(200, &json!({"object": "list", "data": data, "next_cursor": next})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    variables: Option<std::collections::BTreeMap<String, String>>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default, rename = "use")]
    usage: Option<Use>,
    #[serde(default)]
    models: Option<Vec<String>>,
    #[serde(default)]
    keys: Option<Vec<String>>,
    #[serde(default)]
    position: Option<u32>,
}

/// `PATCH …/byok/{provider}/{credential}`: what is named is replaced as a whole. A new key or new variables are checked
/// like a new credential.
pub async fn change<P: Ports>(act: &Act<'_, P>, path: &str, provider: &str, id: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(act.ports, path).await?.settings.id;
    row_of(act.ports, &workspace, provider, id).await?;
    let changed: Changed = body(act.ports).await?;
    for _ in 0..TRIES {
        if let Some(reply) = changed_once(act, &workspace, provider, id, &changed).await? {
            return Ok(reply);
        }
    }
    Err(act.contended())
}

/// Changes it by what it is at that moment; none where it was changed meanwhile.
async fn changed_once<P: Ports>(
    act: &Act<'_, P>,
    workspace: &WorkspaceId,
    provider: &str,
    id: &str,
    changed: &Changed,
) -> Result<Option<Reply<P>>, Failure> {
    let ports = act.ports;
    let row = row_of(ports, workspace, provider, id).await?;
    act.expect(&text_of(&row))?;
    let unreadable = || Failure::new(Code::Internal, "the credential cannot be read");
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    let about = text("about").and_then(|text| crate::json::from_str::<About>(text).ok());
    let mut about = about.ok_or_else(unreadable)?;
    if let Some(name) = &changed.name {
        about.name = label("name", name)?;
    }
    about.enabled = changed.enabled.unwrap_or(about.enabled);
    about.usage = changed.usage.unwrap_or(about.usage);
    about.models = changed.models.clone().unwrap_or(about.models);
    about.keys = changed.keys.clone().unwrap_or(about.keys);
    let before = text("sealed").unwrap_or_default();
    let kept = match (&changed.key, &changed.variables) {
        (None, None) => None,
        (key, parts) => {
            let provider = provider_of(ports, provider).await?;
            let id = CredentialId::parse(id).ok_or_else(unreadable)?;
            let credential = match (key, parts) {
                (Some(key), Some(parts)) => Credential { key: key_of(key)?, variables: parts.clone() },
                _ => {
                    let plain = secrets(ports).open(before, workspace, &provider.id).ok_or_else(unreadable)?;
                    let old: Credential = crate::json::from_bytes(&plain).ok_or_else(unreadable)?;
                    Credential {
                        key: key.as_deref().map(key_of).transpose()?.unwrap_or(old.key),
                        variables: parts.clone().unwrap_or(old.variables),
                    }
                }
            };
            about.hint = hint(&credential.key);
            Some(keep(ports, workspace, &provider, &id, &credential).await?)
        }
    };
    let position = changed.position.map(i64::from).map_or(Sql::Null, Sql::Int);
    // What its provider refused stays marked, until it is replaced or the owner says that it is to be tried again. Only
    // over what was read: a rotation meanwhile must not be undone.
    let is_retried = Sql::Int(i64::from(changed.enabled == Some(true) || kept.is_some()));
    let about_text = serde_json::to_string(&about).unwrap_or_default();
    #[allow(clippy::cast_possible_truncation, reason = "a place in a list")]
    let old_position = row.get("position").and_then(Value::as_f64).unwrap_or(0.0) as i64;
    let is_kept = Sql::Int(i64::from(kept.is_some()));
    let (sealed, verified_at, reason) =
        kept.map_or((Sql::Null, Sql::Null, Sql::Null), |kept| (Sql::Text(kept.sealed), kept.verified_at, kept.reason));
    let statement = "UPDATE byok SET about = ?3, position = coalesce(?4, position), sealed = coalesce(?6, sealed), \
        refused_at = CASE WHEN ?5 THEN NULL ELSE refused_at END, \
        verified_at = CASE WHEN ?9 THEN ?7 WHEN ?5 AND refused_at IS NOT NULL THEN NULL ELSE verified_at END, \
        reason = CASE WHEN ?9 THEN ?8 WHEN ?5 THEN NULL ELSE reason END \
        WHERE workspace = ?1 AND id = ?2 AND sealed = ?10 AND about = ?11 AND position = ?12";
    let values = vec![
        Sql::from(workspace.as_str()),
        Sql::from(id),
        Sql::Text(about_text),
        position,
        is_retried,
        sealed,
        verified_at,
        reason,
        is_kept,
        Sql::from(before),
        Sql::from(text("about").unwrap_or_default()),
        Sql::Int(old_position),
    ];
    let seen = shown(&row);
    let mut after = seen.clone();
    if let (Some(after), Ok(Value::Object(about))) = (after.as_object_mut(), serde_json::to_value(&about)) {
        after.extend(about);
        after.insert("position".to_owned(), json!(changed.position.map_or(old_position, i64::from)));
        after.insert("is_replaced".to_owned(), json!(changed.key.is_some() || changed.variables.is_some()));
    }
    let told = Told { workspace: Some(workspace), subject: id, before: Some(&seen), after: Some(&after) };
    if !act.commit(told, (statement, values), Vec::new()).await? {
        return Ok(None);
    }
    project(ports, workspace).await?;
    let row = row_of(ports, workspace, provider, id).await?;
    Ok(Some(Reply::json(200, &shown(&row)).with_header("etag", tag_of(&row))))
}

/// `DELETE …/byok/{provider}/{credential}`.
pub async fn delete<P: Ports>(act: &Act<'_, P>, path: &str, provider: &str, id: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(act.ports, path).await?.settings.id;
    for _ in 0..TRIES {
        let row = row_of(act.ports, &workspace, provider, id).await?;
        act.expect(&text_of(&row))?;
        let of = |name: &str| Sql::from(row.get(name).and_then(Value::as_str).unwrap_or_default());
        let values = vec![Sql::from(workspace.as_str()), Sql::from(id), of("about"), of("sealed")];
        let statement = "DELETE FROM byok WHERE workspace = ?1 AND id = ?2 AND about = ?3 AND sealed = ?4";
        let seen = shown(&row);
        let told = Told { workspace: Some(&workspace), subject: id, before: Some(&seen), after: None };
        if act.commit(told, (statement, values), Vec::new()).await? {
            project(act.ports, &workspace).await?;
            return Ok(Reply::json(200, &json!({"object": "credential", "id": id, "deleted": true})));
        }
    }
    Err(act.contended())
}

/// `GET …/byok/{provider}/{credential}`.
pub async fn one<P: Ports>(act: &Act<'_, P>, path: &str, provider: &str, id: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(act.ports, path).await?.settings.id;
    let row = row_of(act.ports, &workspace, provider, id).await?;
    let tag = act.expect(&text_of(&row))?;
    Ok(Reply::json(200, &shown(&row)).with_header("etag", tag))
}

/// `POST /v1/admin/byok/rotate?cursor=`: seals anew what is sealed under an older secret, so many at a time; an older
/// secret may be taken out when `next_cursor` is null and nothing was unreadable.
pub async fn rotate<P: Ports>(ports: &P, query: &str) -> Result<Reply<P>, Failure> {
    let secrets = secrets(ports);
    let after = crate::serve::query::value(query, "cursor").unwrap_or_default();
    let statement = "SELECT id, workspace, provider, sealed FROM byok WHERE id > ?2 ORDER BY id LIMIT ?1";
    let rows =
        ports.sql(statement, &[Sql::Int(ROTATED_MAX), Sql::Text(after)]).await.map_err(|error| fault(ports, &error))?;
    let (mut rotated, mut current, mut lost) = (0u64, 0u64, 0u64);
    let mut touched: Vec<WorkspaceId> = Vec::new();
    for row in &rows {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let (id, provider, sealed) = (text("id"), text("provider"), text("sealed"));
        let Some(workspace) = WorkspaceId::parse(text("workspace")) else {
            lost += 1;
            continue;
        };
        if secrets.is_current(sealed) {
            current += 1;
            continue;
        }
        let plain = secrets.open(sealed, &workspace, provider);
        let renewed = plain.and_then(|plain| secrets.seal(&plain, &workspace, provider, ports.chance()));
        let Some(renewed) = renewed else {
            lost += 1;
            continue;
        };
        // Only over what was read: a credential that was replaced meanwhile stays.
        let values = [Sql::from(id), Sql::Text(renewed), Sql::from(sealed)];
        ports
            .sql("UPDATE byok SET sealed = ?2 WHERE id = ?1 AND sealed = ?3", &values)
            .await
            .map_err(|error| fault(ports, &error))?;
        rotated += 1;
        if !touched.contains(&workspace) {
            touched.push(workspace);
        }
    }
    for workspace in &touched {
        project(ports, workspace).await?;
    }
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count >= ROTATED_MAX);
    let next = rows.last().filter(|_| is_full).and_then(|row| row.get("id")).cloned();
    let counts =
        json!({"object": "rotation", "rotated": rotated, "current": current, "unreadable": lost, "next_cursor": next});
    Ok(Reply::json(200, &counts))
}
