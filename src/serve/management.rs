//! Management keys: who administers, and the endpoints that make, show and revoke such keys. They are looked up in D1 with
//! every request, so a revoked one stops at once everywhere.

use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::key as secret;
use crate::access::management::{Access, ManagementKey, Scopes};
use crate::error::{Code, Failure};
use crate::id::{ManagementKeyId, WorkspaceId};
use crate::serve::act::{Act, Actor, Told};
use crate::serve::admin::{body, chance, known, label};
use crate::serve::keys::{expiry, pepper};
use crate::serve::ports::{Ports, Sql};
use crate::serve::reply::Reply;
use crate::serve::{Caller, Endpoint, fault, query, unauthenticated};
use crate::time::Millis;

/// Most keys of a workspace that are not revoked.
const KEYS_MAX: i64 = 100;
const LIMIT_DEFAULT: u64 = 50;
const LIMIT_MAX: u64 = 200;

const COLUMNS: &str = "SELECT m.record, m.revoked_at FROM management_keys m";

/// The management key of a secret, where it may do what the endpoint does to the workspace of its path.
pub async fn authenticate<P: Ports>(
    ports: &P,
    text: &str,
    endpoint: Endpoint,
    workspace: &str,
) -> Result<Actor, Failure> {
    let hash = secret::hash(text, pepper(ports)?.as_bytes());
    let statement = "SELECT m.record, m.revoked_at, w.deleted_at FROM management_keys m \
        JOIN workspaces w ON w.id = m.workspace WHERE m.hash = ?1";
    let rows = ports.sql(statement, &[Sql::Text(hash)]).await.map_err(|error| fault(ports, &error))?;
    let row = rows.first().ok_or_else(unauthenticated)?;
    let (own, is_revoked) = read(row).ok_or_else(unauthenticated)?;
    if is_revoked || own.expires_at.is_some_and(|at| ports.now() >= at) {
        return Err(unauthenticated());
    }
    let Caller::Manager(resource, access) = endpoint.caller else {
        return Err(Failure::new(Code::Forbidden, "this endpoint needs the operator's token"));
    };
    if !own.scopes.allow(resource, access) {
        let why = format!("the management key has no scope `{}: {}`", resource.name(), access.name());
        return Err(Failure::new(Code::Forbidden, why));
    }
    if own.workspace.as_str() != workspace {
        return Err(Failure::new(Code::NotFound, "there is no workspace of that id"));
    }
    if access == Access::Write && row.get("deleted_at").is_some_and(Value::is_number) {
        return Err(Failure::new(Code::Forbidden, "the workspace is deleted"));
    }
    Ok(Actor::Manager(Rc::new(own)))
}

/// A row's key, and whether it is revoked.
fn read(row: &Value) -> Option<(ManagementKey, bool)> {
    let own = crate::json::from_str(row.get("record")?.as_str()?).ok()?;
    Some((own, row.get("revoked_at").is_some_and(Value::is_number)))
}

fn shown(own: &ManagementKey, is_revoked: bool) -> Value {
    json!({
        "object": "management_key", "id": own.id, "workspace": own.workspace, "name": own.name, "hint": own.hint,
        "scopes": own.scopes, "revoked": is_revoked, "created_at": own.created_at.to_rfc3339(),
        "created_by": own.created_by, "expires_at": own.expires_at.map(Millis::to_rfc3339),
    })
}

/// A row as an export shows it.
pub(super) fn row_json(row: &Value) -> Option<Value> {
    read(row).map(|(own, is_revoked)| shown(&own, is_revoked))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    scopes: Scopes,
    #[serde(default)]
    expires_at: Option<String>,
}

/// `POST …/management-keys`: shows the secret, once. A management key makes none that may more, or lives longer, than itself.
pub async fn create<P: Ports>(act: &Act<'_, P>, path: &str) -> Result<Reply<P>, Failure> {
    let ports = act.ports;
    let workspace = known(ports, path).await?.settings.id;
    let new: New = body(ports).await?;
    let expires_at = expiry(new.expires_at.as_deref())?;
    if new.scopes.0.is_empty() {
        return Err(Failure::invalid("scopes", "names nothing that the key may do"));
    }
    if let Some(param) = act.actor.manager().and_then(|own| own.refuses(&new.scopes, expires_at)) {
        let why = "a management key makes none that may more, or lives longer, than itself";
        return Err(Failure::new(Code::Forbidden, why).about(param));
    }
    let text = secret::write_management(ports.chance());
    let own = ManagementKey {
        id: ManagementKeyId::new(ports.now(), chance(ports)),
        workspace,
        name: label("name", &new.name)?,
        hint: secret::hint(&text),
        scopes: new.scopes,
        expires_at,
        created_at: ports.now(),
        created_by: act.actor.name(),
    };
    let mut shown = shown(&own, false);
    let told = Told { workspace: Some(&own.workspace), subject: own.id.as_str(), before: None, after: Some(&shown) };
    let statement = "INSERT INTO management_keys (id, workspace, hash, created_by, record) SELECT ?1, ?2, ?3, ?4, ?5 \
        WHERE (SELECT count(*) FROM management_keys WHERE workspace = ?2 AND revoked_at IS NULL) < ?6";
    let values = vec![
        Sql::from(own.id.as_str()),
        Sql::from(own.workspace.as_str()),
        Sql::Text(secret::hash(&text, pepper(ports)?.as_bytes())),
        Sql::Text(own.created_by.clone()),
        Sql::Text(serde_json::to_string(&own).unwrap_or_default()),
        Sql::Int(KEYS_MAX),
    ];
    if !act.commit(told, (statement, values), Vec::new()).await? {
        return Err(Failure::invalid("name", format!("the workspace has {KEYS_MAX} management keys already")));
    }
    if let Some(object) = shown.as_object_mut() {
        object.insert("key".to_owned(), json!(text));
    }
    Ok(Reply::json(201, &shown))
}

/// `GET …/management-keys`: newest first.
pub async fn list<P: Ports>(ports: &P, path: &str, query: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    let limit = query::limit(query, LIMIT_DEFAULT, LIMIT_MAX)?;
    let before = query::cursor(query, ManagementKeyId::parse)?;
    let before = before.map_or_else(|| "mk_~".to_owned(), |id| id.as_str().to_owned());
    let statement = format!("{COLUMNS} WHERE m.workspace = ?1 AND m.id < ?2 ORDER BY m.id DESC LIMIT ?3");
    let values = [Sql::from(workspace.as_str()), Sql::Text(before), Sql::Int(i64::try_from(limit).unwrap_or(i64::MAX))];
    let rows = ports.sql(&statement, &values).await.map_err(|error| fault(ports, &error))?;
    let keys: Vec<(ManagementKey, bool)> = rows.iter().filter_map(read).collect();
    let is_full = u64::try_from(rows.len()).unwrap_or(u64::MAX) >= limit;
    let next = keys.last().filter(|_| is_full).map(|(own, _)| own.id.clone());
    let data: Vec<Value> = keys.iter().map(|(own, is_revoked)| shown(own, *is_revoked)).collect();
    Ok(Reply::json(200, &json!({"object": "list", "data": data, "next_cursor": next})))
}

async fn one_of<P: Ports>(ports: &P, workspace: &WorkspaceId, id: &str) -> Result<(ManagementKey, bool), Failure> {
    let statement = format!("{COLUMNS} WHERE m.id = ?1 AND m.workspace = ?2");
    let values = [Sql::from(id), Sql::from(workspace.as_str())];
    let rows = ports.sql(&statement, &values).await.map_err(|error| fault(ports, &error))?;
    let unknown = || Failure::new(Code::NotFound, "there is no management key of that id in this workspace");
    rows.first().and_then(read).ok_or_else(unknown)
}

/// `GET …/management-keys/{key}`.
pub async fn one<P: Ports>(ports: &P, path: &str, id: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    let (own, is_revoked) = one_of(ports, &workspace, id).await?;
    Ok(Reply::json(200, &shown(&own, is_revoked)))
}

/// `DELETE …/management-keys/{key}`: with those that it has made, and those that they have.
pub async fn revoke<P: Ports>(act: &Act<'_, P>, path: &str, id: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(act.ports, path).await?.settings.id;
    let (own, is_revoked) = one_of(act.ports, &workspace, id).await?;
    if let Some((resource, _)) = act.actor.manager().and_then(|actor| actor.scopes.lack(&own.scopes)) {
        let why = format!("the management key may more (`{}`) than the one that revokes it", resource.name());
        return Err(Failure::new(Code::Forbidden, why));
    }
    if !is_revoked {
        revoke_with_offspring(act, &own).await?;
    }
    Ok(Reply::json(200, &shown(&own, true)))
}

/// Revokes a key and whatever it has made.
pub(super) async fn revoke_with_offspring<P: Ports>(act: &Act<'_, P>, own: &ManagementKey) -> Result<(), Failure> {
    let now = Sql::Int(i64::try_from(act.ports.now().0).unwrap_or(i64::MAX));
    let (before, after) = (shown(own, false), shown(own, true));
    let id = own.id.as_str();
    let told = Told { workspace: Some(&own.workspace), subject: id, before: Some(&before), after: Some(&after) };
    let change = "UPDATE management_keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
    let offspring = "WITH RECURSIVE below (id) AS (SELECT ?1 \
        UNION SELECT m.id FROM management_keys m JOIN below b ON m.created_by = b.id) \
        UPDATE management_keys SET revoked_at = ?2 WHERE revoked_at IS NULL AND id IN (SELECT id FROM below) \
        AND EXISTS (SELECT 1 FROM audit WHERE id = ?3)";
    let values = vec![Sql::from(id), now];
    act.commit(told, (change, values.clone()), vec![(offspring, values)]).await.map(drop)
}

/// The management key of a leaked secret, where it still works.
pub(super) async fn of_secret<P: Ports>(ports: &P, text: &str) -> Result<Option<ManagementKey>, Failure> {
    let hash = secret::hash(text, pepper(ports)?.as_bytes());
    let statement = format!("{COLUMNS} WHERE m.hash = ?1 AND m.revoked_at IS NULL");
    let rows = ports.sql(&statement, &[Sql::Text(hash)]).await.map_err(|error| fault(ports, &error))?;
    Ok(rows.first().and_then(read).map(|(own, _)| own))
}
