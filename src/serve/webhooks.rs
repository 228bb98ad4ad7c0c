//! Webhooks of a workspace: D1 is the record, the workspace's courier delivers and keeps the deliveries.
//!
//! A change goes by what the row was read as, so that two at once both happen; the courier's own word that a receiver is
//! gone is such a change too.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Code, Failure};
use crate::id::{HookId, WorkspaceId};
use crate::serve::act::{Act, TRIES, Told};
use crate::serve::admin::{body, body_or_none, chance, known, label};
use crate::serve::ports::{Ports, Sql};
use crate::serve::reply::Reply;
use crate::serve::{etag, fault, query};
use crate::ssrf::{self, Loopback};
use crate::time::Millis;
use crate::webhook::event::{Event, Kind};
use crate::webhook::hook::{Hook, State};
use crate::webhook::sign;

/// Most webhooks of a workspace.
const HOOKS_MAX: i64 = 20;
/// How long an old secret signs where nothing else is said, and at most, in hours.
const OVERLAP_HOURS: u64 = 24;
const OVERLAP_HOURS_MAX: u64 = 24 * 14;
const LIMIT_DEFAULT: u64 = 50;
const LIMIT_MAX: u64 = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewHook {
    url: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    events: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedHook {
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    events: Option<Vec<String>>,
    #[serde(default)]
    enabled: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Renewal {
    #[serde(default)]
    overlap_hours: Option<u64>,
}

fn events(names: &[String]) -> Result<Vec<Kind>, Failure> {
    let mut kinds = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = known.ok_or_else(|| {
            let all = Kind::ALL.map(Kind::name).join(", ");
            Failure::invalid(format!("events[{at}]"), format!("must be one of {all}"))
        })?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Ok(kinds)
}

fn url<P: Ports>(ports: &P, text: &str) -> Result<String, Failure> {
    let loopback = if ports.settings().allows_loopback { Loopback::Allowed } else { Loopback::Refused };
    ssrf::check(text, loopback).map_err(|refusal| Failure::invalid("url", refusal.message()))?;
    Ok(text.to_owned())
}

pub(super) fn shown(hook: &Hook) -> Value {
    json!({
        "object": "webhook", "id": hook.id, "workspace": hook.workspace, "url": hook.url, "name": hook.name, "events": hook.events,
        "state": hook.state.name(), "created_at": hook.created_at.to_rfc3339(),
    })
}

fn with_secret(mut shown: Value, secret: &str) -> Value {
    if let Some(object) = shown.as_object_mut() {
        object.insert("secret".to_owned(), json!(secret));
    }
    shown
}

async fn all<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<Vec<Hook>, Failure> {
    let statement = format!("SELECT {} FROM webhooks WHERE workspace = ?1 ORDER BY id DESC", Hook::COLUMNS);
    let rows = ports.sql(&statement, &[Sql::from(workspace.as_str())]).await.map_err(|error| fault(ports, &error))?;
    Ok(rows.iter().filter_map(Hook::parse).collect())
}

async fn one<P: Ports>(ports: &P, workspace: &str, hook: &str) -> Result<Hook, Failure> {
    let workspace = known(ports, workspace).await?.settings.id;
    let unknown = || Failure::new(Code::NotFound, "there is no webhook of that id in this workspace");
    let id = HookId::parse(hook).ok_or_else(unknown)?;
    let statement = format!("SELECT {} FROM webhooks WHERE id = ?1 AND workspace = ?2", Hook::COLUMNS);
    let values = [Sql::from(id.as_str()), Sql::from(workspace.as_str())];
    let rows = ports.sql(&statement, &values).await.map_err(|error| fault(ports, &error))?;
    rows.first().and_then(Hook::parse).ok_or_else(unknown)
}

/// The values of a row, in the order of [`Hook::COLUMNS`].
fn values(hook: &Hook) -> Vec<Sql> {
    let list = |text: serde_json::Result<String>| Sql::Text(text.unwrap_or_default());
    vec![
        Sql::from(hook.id.as_str()),
        Sql::from(hook.workspace.as_str()),
        Sql::Text(hook.url.clone()),
        Sql::Text(hook.name.clone()),
        list(serde_json::to_string(&hook.events)),
        Sql::from(hook.state.name()),
        list(serde_json::to_string(&hook.secrets)),
        Sql::Int(i64::try_from(hook.created_at.0).unwrap_or(i64::MAX)),
    ]
}

/// What a webhook's tag is made of: all that can change of it.
fn stored(hook: &Hook) -> String {
    json!([hook.url, hook.name, hook.events, hook.state.name(), hook.secrets]).to_string()
}

/// Changes a webhook by what it is at that moment.
async fn update<P: Ports>(
    act: &Act<'_, P>,
    path: &str,
    hook: &str,
    mut change: impl FnMut(&mut Hook) -> Result<(), Failure>,
) -> Result<Hook, Failure> {
    for _ in 0..TRIES {
        let before = one(act.ports, path, hook).await?;
        act.expect(&stored(&before))?;
        let mut after = before.clone();
        change(&mut after)?;
        let mut all = values(&after);
        all.extend(values(&before).into_iter().skip(2).take(5));
        let statement = "UPDATE webhooks SET url = ?3, name = ?4, events = ?5, state = ?6, secrets = ?7 \
            WHERE id = ?1 AND workspace = ?2 AND created_at = ?8 \
            AND url = ?9 AND name = ?10 AND events = ?11 AND state = ?12 AND secrets = ?13";
        let (seen, shown) = (shown(&before), shown(&after));
        let (workspace, subject) = (Some(&after.workspace), after.id.as_str());
        let told = Told { workspace, subject, before: Some(&seen), after: Some(&shown) };
        if act.commit(told, (statement, all), Vec::new()).await? {
            return Ok(after);
        }
    }
    Err(act.contended())
}

/// Gives a webhook a new secret and returns it; those before sign until `until`.
fn renew<P: Ports>(ports: &P, hook: &mut Hook, until: Millis) -> Result<String, Failure> {
    let secret = sign::secret(ports.chance());
    let pepper = ports.secret("KEY_HASH_SECRET");
    let renewed = pepper.and_then(|pepper| hook.renew(&secret, pepper.as_bytes(), ports.chance(), until, ports.now()));
    renewed.ok_or_else(|| Failure::new(Code::Internal, "the secret KEY_HASH_SECRET is not set on this gateway"))?;
    Ok(secret)
}

/// `POST …/webhooks`: shows the signing secret, once.
pub async fn create<P: Ports>(act: &Act<'_, P>, path: &str) -> Result<Reply<P>, Failure> {
    let ports = act.ports;
    let workspace = known(ports, path).await?.settings.id;
    let new: NewHook = body(ports).await?;
    let mut hook = Hook {
        id: HookId::new(ports.now(), chance(ports)),
        workspace,
        url: url(ports, &new.url)?,
        name: new.name.map_or(Ok("webhook".to_owned()), |name| label("name", &name))?,
        events: events(&new.events)?,
        state: State::Enabled,
        secrets: Vec::new(),
        created_at: ports.now(),
    };
    let secret = renew(ports, &mut hook, Millis(0))?;
    // Counted by the statement that makes it: of two at once only one may be the last.
    let statement = format!(
        "INSERT INTO webhooks ({}) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 \
         WHERE (SELECT count(*) FROM webhooks WHERE workspace = ?2) < ?9",
        Hook::COLUMNS
    );
    let mut values = values(&hook);
    values.push(Sql::Int(HOOKS_MAX));
    let shown = shown(&hook);
    let told = Told { workspace: Some(&hook.workspace), subject: hook.id.as_str(), before: None, after: Some(&shown) };
    if !act.commit(told, (&statement, values), Vec::new()).await? {
        return Err(Failure::invalid("url", format!("the workspace has {HOOKS_MAX} webhooks already")));
    }
    Ok(Reply::json(201, &with_secret(shown, &secret)).with_header("etag", etag::of(&stored(&hook))))
}

/// `GET …/webhooks`.
pub async fn list<P: Ports>(ports: &P, path: &str, query: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    let limit = usize::try_from(query::limit(query, LIMIT_DEFAULT, LIMIT_MAX)?).unwrap_or(usize::MAX);
    let cursor = query::cursor(query, HookId::parse)?;
    // There are never many: the workspace's own limit is below that of a page.
    let hooks = all(ports, &workspace).await?;
    let mut left = hooks.iter().filter(|hook| cursor.as_ref().is_none_or(|cursor| hook.id.as_str() < cursor.as_str()));
    let page: Vec<&Hook> = left.by_ref().take(limit).collect();
    let next = page.last().filter(|_| left.next().is_some()).map(|hook| hook.id.as_str());
    let data: Vec<Value> = page.iter().map(|hook| shown(hook)).collect();
    Ok(Reply::json(200, &json!({"object": "list", "data": data, "next_cursor": next})))
}

/// `GET …/webhooks/{webhook}`.
pub async fn get<P: Ports>(act: &Act<'_, P>, path: &str, hook: &str) -> Result<Reply<P>, Failure> {
    let hook = one(act.ports, path, hook).await?;
    let tag = act.expect(&stored(&hook))?;
    Ok(Reply::json(200, &shown(&hook)).with_header("etag", tag))
}

/// `PATCH …/webhooks/{webhook}`.
pub async fn change<P: Ports>(act: &Act<'_, P>, path: &str, hook: &str) -> Result<Reply<P>, Failure> {
    let changed: ChangedHook = body(act.ports).await?;
    let hook = update(act, path, hook, |hook| {
        if let Some(text) = &changed.url {
            hook.url = url(act.ports, text)?;
        }
        if let Some(name) = &changed.name {
            hook.name = label("name", name)?;
        }
        if let Some(names) = &changed.events {
            hook.events = events(names)?;
        }
        match changed.enabled {
            Some(true) => hook.state = State::Enabled,
            Some(false) => hook.state = State::Disabled,
            None => {}
        }
        Ok(())
    })
    .await?;
    Ok(Reply::json(200, &shown(&hook)).with_header("etag", etag::of(&stored(&hook))))
}

/// `DELETE …/webhooks/{webhook}`. What waits for it is not delivered any more.
pub async fn delete<P: Ports>(act: &Act<'_, P>, path: &str, hook: &str) -> Result<Reply<P>, Failure> {
    let hook = one(act.ports, path, hook).await?;
    act.expect(&stored(&hook))?;
    let seen = shown(&hook);
    let told = Told { workspace: Some(&hook.workspace), subject: hook.id.as_str(), before: Some(&seen), after: None };
    let change = ("DELETE FROM webhooks WHERE id = ?1", vec![Sql::from(hook.id.as_str())]);
    // One that was deleted by another at the same moment is deleted.
    if !act.commit(told, change, Vec::new()).await? {
        act.nothing_to_do();
    }
    Ok(Reply::json(200, &json!({"object": "webhook", "id": hook.id, "deleted": true})))
}

/// `POST …/webhooks/{webhook}/secret`: a new secret, shown once; the old one signs beside it for `overlap_hours`.
pub async fn rotate<P: Ports>(act: &Act<'_, P>, path: &str, hook: &str) -> Result<Reply<P>, Failure> {
    let renewal: Renewal = body_or_none(act.ports).await?;
    let hours = renewal.overlap_hours.unwrap_or(OVERLAP_HOURS);
    if hours > OVERLAP_HOURS_MAX {
        return Err(Failure::invalid("overlap_hours", format!("is more than {OVERLAP_HOURS_MAX}")));
    }
    let until = act.ports.now().plus(hours.saturating_mul(3_600_000));
    let mut secret = String::new();
    let hook = update(act, path, hook, |hook| {
        secret = renew(act.ports, hook, until)?;
        Ok(())
    })
    .await?;
    let mut told = with_secret(shown(&hook), &secret);
    if let Some(object) = told.as_object_mut() {
        object.insert("old_secrets_sign_until".to_owned(), json!(until.to_rfc3339()));
    }
    Ok(Reply::json(200, &told).with_header("etag", etag::of(&stored(&hook))))
}

/// `POST …/webhooks/{webhook}/test`: sends an event `webhook.test`, as any other.
pub async fn test<P: Ports>(ports: &P, path: &str, hook: &str) -> Result<Reply<P>, Failure> {
    let hook = one(ports, path, hook).await?;
    if hook.state != State::Enabled {
        return Err(Failure::invalid("webhook", "is not enabled"));
    }
    let now = ports.now();
    let data = json!({"workspace": hook.workspace, "webhook": hook.id});
    let nonce: String = chance(ports).iter().map(|byte| format!("{byte:02x}")).collect();
    let event = Event::new(Kind::Test, &[hook.id.as_str(), &nonce], now, data);
    let told = json!({"workspace": hook.workspace, "events": [event], "only": hook.id});
    ports.courier(&hook.workspace, "tell", &told.to_string()).await.map_err(|error| fault(ports, &error))?;
    Ok(Reply::json(
        202,
        &json!({"object": "event", "id": event.id, "type": event.kind, "created_at": now.to_rfc3339()}),
    ))
}

/// `GET …/webhooks/{webhook}/deliveries`: newest first, those of the last three days.
pub async fn deliveries<P: Ports>(ports: &P, path: &str, hook: &str, query: &str) -> Result<Reply<P>, Failure> {
    let hook = one(ports, path, hook).await?;
    let limit = query::limit(query, LIMIT_DEFAULT, LIMIT_MAX)?;
    let before: Option<u64> = query::cursor(query, |text| text.parse().ok())?;
    let asked = json!({"webhook": hook.id, "before": before, "limit": limit});
    let text = ports.courier(&hook.workspace, "deliveries", &asked.to_string()).await;
    let list: Value = text
        .ok()
        .and_then(|text| crate::json::from_str(&text).ok())
        .ok_or_else(|| Failure::new(Code::Internal, "the deliveries cannot be read; the request can be tried again"))?;
    Ok(Reply::json(200, &list))
}
