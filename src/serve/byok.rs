//! Customers' own credentials: the admin's endpoints, and what a request reads of them.

use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::byok::{About, Credential, OwnKey, Secrets, Use, hint};
use crate::error::{Code, Failure};
use crate::id::{CredentialId, WorkspaceId};
use crate::serve::admin::{LABEL_BYTES_MAX, body, chance, known, label};
use crate::serve::fault;
use crate::serve::ports::{Ports, Sql};
use crate::serve::reply::Reply;

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
    let keys = serde_json::from_str(&copy);
    keys.map(Rc::new).map_err(|_| Failure::new(Code::Internal, "the workspace's own credentials cannot be read"))
}

/// Its provider refused a credential: the owner is to see that.
pub async fn refused<P: Ports>(ports: &P, id: &CredentialId) {
    let now = Sql::Int(i64::try_from(ports.now().0).unwrap_or(i64::MAX));
    let values = [Sql::from(id.as_str()), now];
    if let Err(error) = ports.sql("UPDATE byok SET refused_at = ?2 WHERE id = ?1", &values).await {
        ports.log(&format!("fault: a refused credential was not marked: {}", error.0));
    }
}

async fn project<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<(), Failure> {
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

/// `POST …/byok/{provider}`: keeps a credential; it is never shown again.
pub async fn create<P: Ports>(ports: &P, path: &str, provider: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    // A credential for a name that nobody serves would never be used, and never be missed.
    let provider = crate::serve::health::known(ports, provider).await?;
    let provider = provider.as_str();
    let new: NewCredential = body(ports).await?;
    let trimmed = new.key.trim();
    if trimmed.is_empty() || trimmed.len() > KEY_BYTES_MAX {
        return Err(Failure::invalid("key", format!("must have 1 to {KEY_BYTES_MAX} bytes")));
    }
    if !trimmed.starts_with('{') && trimmed.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Failure::invalid("key", "holds a space or a control character"));
    }
    for (name, value) in &new.variables {
        if value.len() > LABEL_BYTES_MAX * 8
            || value.contains(['/', '?', '#', '@', '\\']) && name != "secret_access_key" && name != "secret_key"
        {
            return Err(Failure::invalid(format!("variables.{name}"), "is no part of a host or a path"));
        }
    }
    let count = of(ports, &workspace).await?.len();
    if count >= CREDENTIALS_MAX {
        return Err(Failure::invalid("key", format!("the workspace has {CREDENTIALS_MAX} credentials already")));
    }
    let id = CredentialId::new(ports.now(), chance(ports));
    let about = About {
        name: label("name", new.name.as_deref().unwrap_or(provider))?,
        usage: new.usage,
        models: new.models,
        keys: new.keys,
        hint: hint(trimmed),
        enabled: true,
    };
    let credential = Credential { key: trimmed.to_owned(), variables: new.variables };
    let text = serde_json::to_vec(&credential).unwrap_or_default();
    let sealed = secrets(ports)
        .seal(&text, &workspace, provider, ports.chance())
        .ok_or_else(|| Failure::new(Code::Internal, "no secret is set that seals credentials"))?;
    let position = new.position.map_or(i64::try_from(count).unwrap_or(0), i64::from);
    let statement = "INSERT INTO byok (id, workspace, provider, position, about, sealed, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let values = [
        Sql::from(id.as_str()),
        Sql::from(workspace.as_str()),
        Sql::from(provider),
        Sql::Int(position),
        Sql::Text(serde_json::to_string(&about).unwrap_or_default()),
        Sql::Text(sealed),
        Sql::Int(i64::try_from(ports.now().0).unwrap_or(i64::MAX)),
    ];
    ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    project(ports, &workspace).await?;
    let row = row_of(ports, &workspace, provider, id.as_str()).await?;
    Ok(Reply::json(201, &shown(&row)))
}

const ROW: &str = "SELECT id, provider, position, about, created_at, refused_at FROM byok";

async fn row_of<P: Ports>(ports: &P, workspace: &WorkspaceId, provider: &str, id: &str) -> Result<Value, Failure> {
    let statement = format!("{ROW} WHERE workspace = ?1 AND id = ?2 AND provider = ?3");
    let values = [Sql::from(workspace.as_str()), Sql::from(id), Sql::from(provider)];
    let rows = ports.sql(&statement, &values).await.map_err(|error| fault(ports, &error))?;
    rows.into_iter().next().ok_or_else(|| Failure::new(Code::NotFound, "there is no credential of that id"))
}

fn shown(row: &Value) -> Value {
    let about: Value =
        row.get("about").and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds since the epoch")]
    let moment = |name: &str| {
        row.get(name).and_then(Value::as_f64).map(|at| crate::time::Millis(at.max(0.0) as u64).to_rfc3339())
    };
    json!({
        "object": "credential", "id": row.get("id"), "provider": row.get("provider"), "position": row.get("position"),
        "name": about.get("name"), "use": about.get("use"), "models": about.get("models"), "keys": about.get("keys"),
        "hint": about.get("hint"), "enabled": about.get("enabled"),
        "state": if row.get("refused_at").is_some_and(Value::is_number) { "refused" } else { "unverified" },
        "created_at": moment("created_at"), "refused_at": moment("refused_at"),
    })
}

/// `GET …/byok` and `GET …/byok/{provider}`.
pub async fn list<P: Ports>(ports: &P, path: &str, provider: Option<&str>) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    let statement = format!("{ROW} WHERE workspace = ?1 ORDER BY position, id");
    let rows = ports.sql(&statement, &[Sql::from(workspace.as_str())]).await.map_err(|error| fault(ports, &error))?;
    let is_asked = |row: &&Value| provider.is_none_or(|id| row.get("provider").and_then(Value::as_str) == Some(id));
    let data: Vec<Value> = rows.iter().filter(is_asked).map(shown).collect();
    Ok(Reply::json(200, &json!({"object": "list", "data": data})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
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

/// `PATCH …/byok/{provider}/{credential}`.
pub async fn change<P: Ports>(ports: &P, path: &str, provider: &str, id: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    let row = row_of(ports, &workspace, provider, id).await?;
    let changed: Changed = body(ports).await?;
    let about = row.get("about").and_then(Value::as_str).and_then(|text| serde_json::from_str::<About>(text).ok());
    let mut about = about.ok_or_else(|| Failure::new(Code::Internal, "the credential cannot be read"))?;
    if let Some(name) = &changed.name {
        about.name = label("name", name)?;
    }
    about.enabled = changed.enabled.unwrap_or(about.enabled);
    about.usage = changed.usage.unwrap_or(about.usage);
    about.models = changed.models.unwrap_or(about.models);
    about.keys = changed.keys.unwrap_or(about.keys);
    let position = changed.position.map(i64::from).map_or(Sql::Null, Sql::Int);
    // What its provider refused stays marked, until the owner says that it is to be tried again.
    let statement = "UPDATE byok SET about = ?3, position = coalesce(?4, position), \
        refused_at = CASE WHEN ?5 THEN NULL ELSE refused_at END WHERE workspace = ?1 AND id = ?2";
    let text = serde_json::to_string(&about).unwrap_or_default();
    let is_retried = Sql::Int(i64::from(changed.enabled == Some(true)));
    let values = [Sql::from(workspace.as_str()), Sql::from(id), Sql::Text(text), position, is_retried];
    ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    project(ports, &workspace).await?;
    Ok(Reply::json(200, &shown(&row_of(ports, &workspace, provider, id).await?)))
}

/// `DELETE …/byok/{provider}/{credential}`.
pub async fn delete<P: Ports>(ports: &P, path: &str, provider: &str, id: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    row_of(ports, &workspace, provider, id).await?;
    let values = [Sql::from(workspace.as_str()), Sql::from(id)];
    ports
        .sql("DELETE FROM byok WHERE workspace = ?1 AND id = ?2", &values)
        .await
        .map_err(|error| fault(ports, &error))?;
    project(ports, &workspace).await?;
    Ok(Reply::json(200, &json!({"object": "credential", "id": id, "deleted": true})))
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
