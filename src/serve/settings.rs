//! How a workspace's requests are routed, and its presets: the admin's endpoints, and what a request reads of them.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::access::routing::RoutingSettings;
use crate::dialect::Dialect;
use crate::dialect::common::read;
use crate::error::{Code, Failure};
use crate::id::WorkspaceId;
use crate::media::multipart::Part;
use crate::money::Nanos;
use crate::preset::fields::{self, Layout};
use crate::preset::{Named, Preset, apply, named, named_in};
use crate::serve::act::{Act, TRIES, Told};
use crate::serve::admin::{body, known, tell};
use crate::serve::ports::{Ports, Sql};
use crate::serve::reply::Reply;
use crate::serve::{etag, fault, prompts, query};
use crate::text::request::Body;
use crate::workspace::Command;

/// Presets, or versions of one, in a page.
const LIMIT_DEFAULT: u64 = 50;
const LIMIT_MAX: u64 = 200;
/// How often a read copy is written again where the record changed meanwhile.
const COPIES_MAX: u32 = 4;
/// Most presets of a workspace, and versions of one.
const PRESETS_MAX: i64 = 500;
const VERSIONS_MAX: i64 = 1_000;

fn routing_key(workspace: &WorkspaceId) -> String {
    format!("workspace/{workspace}")
}

fn preset_key(workspace: &WorkspaceId, slug: &str) -> String {
    format!("preset/{workspace}/{slug}")
}

const ROUTING: &str = "SELECT routing AS copy FROM workspaces WHERE id = ?1";
const IN_USE: &str = "SELECT v.preset AS copy FROM presets p JOIN preset_versions v \
    ON v.workspace = p.workspace AND v.slug = p.slug AND v.version = p.version WHERE p.workspace = ?1 AND p.slug = ?2";

/// The routing settings of a workspace. Settings that cannot be read are no permission.
pub async fn routing<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<RoutingSettings, Failure> {
    let values = [Sql::from(workspace.as_str())];
    let copy =
        ports.read_copy(&routing_key(workspace), ROUTING, &values).await.map_err(|error| fault(ports, &error))?;
    let Some(copy) = copy else { return Ok(RoutingSettings::default()) };
    crate::json::from_str(&copy).map_err(|_| Failure::new(Code::Internal, "the workspace's settings cannot be read"))
}

/// The body with the preset it names in it, and that preset.
pub async fn with_preset<P: Ports>(
    ports: &P,
    workspace: &WorkspaceId,
    dialect: Dialect,
    body: Body,
) -> Result<(Body, Option<Preset>), Failure> {
    let Some(named) = named(&body)? else { return Ok((body, None)) };
    let preset = found(ports, workspace, &named).await?;
    let bytes = apply(dialect, &body, &named, &preset).ok_or_else(|| Failure::invalid("messages", "is not a list"))?;
    Ok((read(bytes)?, Some(preset)))
}

/// A request that is not text.
pub enum Source {
    /// JSON, and where its parameters stand.
    Json(Bytes, Layout),
    /// A form, and the field that names its model.
    Form(Vec<Part>, &'static str),
}

/// The same for a request that is not text.
pub async fn with_preset_in<P: Ports>(
    ports: &P,
    workspace: &WorkspaceId,
    source: Source,
) -> Result<(Source, Option<Preset>), Failure> {
    let named = match &source {
        Source::Json(bytes, layout) => fields::named_in(bytes, *layout)?,
        Source::Form(parts, model) => fields::named_in_parts(parts, model)?,
    };
    let Some(named) = named else { return Ok((source, None)) };
    let preset = found(ports, workspace, &named).await?;
    if named.model.is_none() && preset.model.is_none() {
        return Err(Failure::invalid(named.param, "is missing: the preset names none either"));
    }
    let source = match source {
        Source::Json(bytes, layout) => {
            let bytes = fields::apply_to(&bytes, &named, &preset, layout);
            Source::Json(bytes.ok_or_else(|| Failure::invalid("input", "must be an object"))?.into(), layout)
        }
        Source::Form(parts, model) => Source::Form(fields::apply_to_parts(parts, &named, &preset, model), model),
    };
    Ok((source, Some(preset)))
}

/// The preset that a list of models of such work names in its first: its lists and its mode count
/// there, and its model where the request has none of its own.
pub async fn preset_of_work<P: Ports>(
    ports: &P,
    workspace: &WorkspaceId,
    models: &mut [String],
    fields: &mut Map<String, Value>,
) -> Result<Option<Preset>, Failure> {
    let field = match fields.remove("preset") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => return Err(Failure::invalid("preset", "must be a string")),
    };
    let first = models.first_mut();
    let Some(named) = named_in(first.as_ref().map(|model| model.as_str()), field.as_deref(), "models")? else {
        return Ok(None);
    };
    let preset = found(ports, workspace, &named).await?;
    let unnamed = || Failure::invalid("model", "is missing: the preset names none either");
    if let Some(first) = first {
        *first = named.model.or_else(|| preset.model.clone()).ok_or_else(unnamed)?;
    }
    Ok(Some(preset))
}

async fn found<P: Ports>(ports: &P, workspace: &WorkspaceId, named: &Named) -> Result<Preset, Failure> {
    let unknown = || Failure::new(Code::NotFound, format!("there is no preset `{}`", named.slug)).about(named.param);
    if !is_slug(&named.slug) {
        return Err(unknown());
    }
    let values = [Sql::from(workspace.as_str()), Sql::from(named.slug.as_str())];
    let key = preset_key(workspace, &named.slug);
    let copy = ports.read_copy(&key, IN_USE, &values).await.map_err(|error| fault(ports, &error))?;
    let text = copy.filter(|copy| copy.as_str() != "null").ok_or_else(unknown)?;
    crate::json::from_str(&text).map_err(|_| Failure::new(Code::Internal, "the preset cannot be read"))
}

/// `GET …/settings`.
pub async fn get<P: Ports>(act: &Act<'_, P>, path: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(act.ports, path).await?.settings.id;
    let (text, settings) = stored(act.ports, &workspace).await?;
    let tag = act.expect(&text)?;
    Ok(Reply::json(200, &shown(&settings)).with_header("etag", tag))
}

/// `PATCH …/settings`: members that are there replace those of the same name.
pub async fn change<P: Ports>(act: &Act<'_, P>, path: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(act.ports, path).await?.settings.id;
    let changed: Value = body(act.ports).await?;
    for _ in 0..TRIES {
        let (before, old) = stored(act.ports, &workspace).await?;
        act.expect(&before)?;
        let settings = merged(&old, &changed)?;
        let text = serde_json::to_string(&settings).unwrap_or_default();
        let values = vec![Sql::from(workspace.as_str()), Sql::Text(before), Sql::Text(text.clone())];
        let statement = "UPDATE workspaces SET routing = ?3 WHERE id = ?1 AND routing = ?2";
        let (seen, told) = (shown(&old), shown(&settings));
        let about =
            Told { workspace: Some(&workspace), subject: workspace.as_str(), before: Some(&seen), after: Some(&told) };
        let more = match changed.get("prompt_logging") {
            None => Vec::new(),
            Some(_) => {
                let days = whole(settings.prompt_logging.retention_days);
                vec![(prompts::SHORTEN, vec![Sql::from(workspace.as_str()), days])]
            }
        };
        if act.commit(about, (statement, values), more).await? {
            if changed.get("alerts").is_some() {
                tell(act.ports, &workspace, &Command::SetAlerts(settings.alerts.clone())).await?;
            }
            project_routing(act.ports, &workspace).await?;
            return Ok(Reply::json(200, &told).with_header("etag", etag::of(&text)));
        }
    }
    Err(act.contended())
}

/// The settings with the members of a body in them; null takes one out.
fn merged(settings: &RoutingSettings, changed: &Value) -> Result<RoutingSettings, Failure> {
    let mut settings = serde_json::to_value(settings).unwrap_or_default();
    let (Some(to), Some(from)) = (settings.as_object_mut(), changed.as_object()) else {
        return Err(Failure::new(Code::InvalidInput, "the body must be an object"));
    };
    for (name, value) in from {
        match (name.as_str(), value) {
            (_, Value::Null) => drop(to.remove(name)),
            ("narrowing" | "alerts" | "prompt_logging", Value::Object(lists)) => {
                let narrowing = to.entry(name.clone()).or_insert_with(|| json!({}));
                if let Some(narrowing) = narrowing.as_object_mut() {
                    narrowing.extend(lists.clone());
                }
            }
            _ => drop(to.insert(name.clone(), value.clone())),
        }
    }
    let text = settings.to_string();
    crate::json::parse_body(text.as_bytes())
        .map_err(|error| Failure { param: error.path, ..Failure::new(Code::InvalidInput, error.message) })
}

/// Renews the read copy; again where the record changed while it was written.
pub(super) async fn project_routing<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<(), Failure> {
    let key = routing_key(workspace);
    let mut last = String::new();
    for _ in 0..COPIES_MAX {
        let (text, _) = stored(ports, workspace).await?;
        if text == last {
            break;
        }
        ports.kv_put(&key, &text).await.map_err(|error| fault(ports, &error))?;
        ports.forget_copy(&key);
        last = text;
    }
    Ok(())
}

/// The settings as an export shows them.
pub(super) async fn shown_of<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<Value, Failure> {
    Ok(shown(&stored(ports, workspace).await?.1))
}

fn shown(settings: &RoutingSettings) -> Value {
    let narrowing = &settings.narrowing;
    json!({
        "object": "settings", "mode": settings.mode.unwrap_or_default(), "channel": settings.channel,
        "fallback_to_credits": settings.fallback_to_credits,
        "alerts": {
            "balance_low": settings.alerts.balance_low.map(Nanos::to_dollars), "budget_percents": settings.alerts.percents(),
        },
        "narrowing": {
            "allow_providers": narrowing.allow_providers, "ignore_providers": narrowing.ignore_providers,
            "allow_models": narrowing.allow_models, "ignore_models": narrowing.ignore_models,
            "regions": narrowing.regions, "no_training": narrowing.no_training, "zdr": narrowing.zdr,
            "retention_days_max": narrowing.retention_days_max,
        },
        "prompt_logging": settings.prompt_logging,
    })
}

/// From the record, not from a copy: what is changed must not be old.
async fn stored<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<(String, RoutingSettings), Failure> {
    let rows = ports.sql(ROUTING, &[Sql::from(workspace.as_str())]).await.map_err(|error| fault(ports, &error))?;
    let text = rows.first().and_then(|row| row.get("copy")?.as_str()).unwrap_or("{}");
    Ok((text.to_owned(), crate::json::from_str(text).unwrap_or_default()))
}

/// Lower-case letters, digits and `-_.`, as in a model's name.
fn is_slug(slug: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    (1..=64).contains(&slug.len()) && slug.bytes().all(is_allowed) && !slug.starts_with(['-', '.'])
}

fn slug(text: &str) -> Result<&str, Failure> {
    if is_slug(text) {
        return Ok(text);
    }
    Err(Failure::invalid("slug", "must have 1 to 64 of a-z, 0-9, `-`, `_` and `.`, and begin with a letter or digit"))
}

/// `GET …/presets`: each with the version in use, by slug; of one that has drafts alone the newest of them.
pub async fn presets<P: Ports>(ports: &P, path: &str, query: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    let limit = query::limit(query, LIMIT_DEFAULT, LIMIT_MAX)?;
    let after = query::cursor(query, |text| is_slug(text).then(|| text.to_owned()))?.unwrap_or_default();
    let statement = "SELECT p.slug, v.version, p.version = v.version AS in_use, v.preset, v.created_at FROM presets p \
        JOIN preset_versions v ON v.workspace = p.workspace AND v.slug = p.slug AND v.version = iif(p.version > 0, p.version, \
        (SELECT max(version) FROM preset_versions WHERE workspace = p.workspace AND slug = p.slug)) \
        WHERE p.workspace = ?1 AND p.slug > ?3 ORDER BY p.slug LIMIT ?2";
    let values = [Sql::from(workspace.as_str()), whole(limit), Sql::Text(after)];
    let rows = ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    let data: Vec<Value> = rows.iter().filter_map(preset_json).collect();
    let next = next_of(&rows, limit, "slug");
    Ok(Reply::json(200, &json!({"object": "list", "data": data, "next_cursor": next})))
}

fn whole(number: u64) -> Sql {
    Sql::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A column of the last row of a full page.
fn next_of(rows: &[Value], limit: u64, column: &str) -> Option<Value> {
    let is_full = u64::try_from(rows.len()).unwrap_or(u64::MAX) >= limit;
    rows.last().filter(|_| is_full).and_then(|row| row.get(column)).cloned()
}

pub(super) fn preset_json(row: &Value) -> Option<Value> {
    let preset: Value = crate::json::from_str(row.get("preset")?.as_str()?).ok()?;
    // D1 knows one kind of number; these two are whole.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a version; milliseconds since the epoch"
    )]
    let whole = |name: &str| Some(row.get(name)?.as_f64()?.max(0.0).round() as u64);
    let at = whole("created_at")?;
    let mut shown = json!({
        "object": "preset", "slug": row.get("slug")?, "version": whole("version")?,
        "created_at": crate::time::Millis(at).to_rfc3339(), "preset": preset,
    });
    if let (Some(in_use), Some(shown)) = (row.get("in_use").and_then(Value::as_f64), shown.as_object_mut()) {
        shown.insert("in_use".to_owned(), json!(in_use > 0.0));
    }
    Some(shown)
}

/// A preset as it stands: which version is in use (0: it has drafts alone), what that says, and which is the newest.
struct Standing {
    version: i64,
    newest: i64,
    /// All of it, to see whether it was changed meanwhile.
    text: String,
    shown: Option<Value>,
}

async fn standing<P: Ports>(ports: &P, workspace: &WorkspaceId, name: &str) -> Result<Option<Standing>, Failure> {
    let statement = "SELECT p.slug, p.version, v.preset, v.created_at, (SELECT max(version) FROM preset_versions \
        WHERE workspace = ?1 AND slug = ?2) AS newest FROM presets p LEFT JOIN preset_versions v \
        ON v.workspace = p.workspace AND v.slug = p.slug AND v.version = p.version WHERE p.workspace = ?1 AND p.slug = ?2";
    let values = [Sql::from(workspace.as_str()), Sql::from(name)];
    let rows = ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    let read = |row: &Value| {
        #[allow(clippy::cast_possible_truncation, reason = "a version")]
        let number = |name: &str| row.get(name).and_then(Value::as_f64).map(|number| number as i64);
        let (version, newest) = (number("version")?, number("newest")?);
        Some(Standing { version, newest, text: row.to_string(), shown: preset_json(row) })
    };
    Ok(rows.first().and_then(read))
}

fn unknown_preset() -> Failure {
    Failure::new(Code::NotFound, "there is no preset of that slug")
}

/// `GET …/presets/{slug}`: its versions, newest first, and which is in use.
pub async fn preset<P: Ports>(act: &Act<'_, P>, path: &str, name: &str, query: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(act.ports, path).await?.settings.id;
    let limit = query::limit(query, LIMIT_DEFAULT, LIMIT_MAX)?;
    let before = query::cursor(query, |text| text.parse().ok())?.unwrap_or(i64::MAX >> 12);
    let standing = standing(act.ports, &workspace, name).await?.ok_or_else(unknown_preset)?;
    let tag = act.expect(&standing.text)?;
    let statement = "SELECT slug, version, version = ?5 AS in_use, preset, created_at, CAST(version AS TEXT) AS cursor \
        FROM preset_versions WHERE workspace = ?1 AND slug = ?2 AND version < ?3 ORDER BY version DESC LIMIT ?4";
    let values =
        [Sql::from(workspace.as_str()), Sql::from(name), Sql::Int(before), whole(limit), Sql::Int(standing.version)];
    let rows = act.ports.sql(statement, &values).await.map_err(|error| fault(act.ports, &error))?;
    let data: Vec<Value> = rows.iter().filter_map(preset_json).collect();
    let next = next_of(&rows, limit, "cursor");
    let shown = json!({
        "object": "preset", "slug": name, "version": standing.version, "versions": data, "next_cursor": next,
    });
    Ok(Reply::json(200, &shown).with_header("etag", tag))
}

/// `PUT …/presets/{slug}`: a new version, which comes into use at once; with `draft=true` when somebody rolls to it. With
/// `If-None-Match: *` only where there is none.
pub async fn put<P: Ports>(act: &Act<'_, P>, path: &str, name: &str, query: &str) -> Result<Reply<P>, Failure> {
    let ports = act.ports;
    let is_draft = match query::value(query, "draft").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Failure::invalid("draft", "must be true or false")),
    };
    let workspace = known(ports, path).await?.settings.id;
    let name = slug(name)?;
    let preset: Preset = body(ports).await?;
    preset.check()?;
    let text = serde_json::to_string(&preset).unwrap_or_default();
    let id = [Sql::from(workspace.as_str()), Sql::from(name)];
    for _ in 0..TRIES {
        let before = standing(ports, &workspace, name).await?;
        act.expect(before.as_ref().map_or("", |before| &before.text))?;
        if before.is_some() && act.wants_none() {
            let why = "there is a preset of that slug already";
            return Err(Failure::new(Code::IdempotencyConflict, why).about("if-none-match"));
        }
        let (used, newest) = before.as_ref().map_or((0, 0), |before| (before.version, before.newest));
        if newest >= VERSIONS_MAX {
            return Err(Failure::invalid("slug", format!("has {VERSIONS_MAX} versions already")));
        }
        if before.is_none() && preset_count(ports, &workspace).await? >= PRESETS_MAX {
            return Err(Failure::invalid("slug", format!("the workspace has {PRESETS_MAX} presets already")));
        }
        let version = newest.saturating_add(1);
        let now = whole(ports.now().0);
        let insert = "INSERT INTO preset_versions (workspace, slug, version, preset, created_at) SELECT ?1, ?2, ?3, ?4, ?5 \
            WHERE coalesce((SELECT max(version) FROM preset_versions WHERE workspace = ?1 AND slug = ?2), 0) = ?6 \
            AND coalesce((SELECT version FROM presets WHERE workspace = ?1 AND slug = ?2), 0) = ?7 \
            AND (?6 > 0 OR (SELECT count(*) FROM presets WHERE workspace = ?1) < ?8)";
        let mut values = id.to_vec();
        values.extend([Sql::Int(version), Sql::Text(text.clone()), now.clone(), Sql::Int(newest), Sql::Int(used)]);
        values.push(Sql::Int(PRESETS_MAX));
        let uses = "INSERT INTO presets (workspace, slug, version, created_at) SELECT ?1, ?2, ?3, ?4 \
            WHERE EXISTS (SELECT 1 FROM audit WHERE id = ?5) ON CONFLICT (workspace, slug) DO UPDATE SET version = excluded.version";
        let mut used_values = id.to_vec();
        used_values.extend([Sql::Int(if is_draft { used } else { version }), now]);
        let shown =
            json!({"object": "preset", "slug": name, "version": version, "in_use": !is_draft, "preset": preset});
        let seen = before.and_then(|before| before.shown);
        let told = Told { workspace: Some(&workspace), subject: name, before: seen.as_ref(), after: Some(&shown) };
        if act.commit(told, (insert, values), vec![(uses, used_values)]).await? {
            project(ports, &workspace, name).await?;
            return tagged(ports, &workspace, name, 201, &shown).await;
        }
    }
    Err(act.contended())
}

async fn preset_count<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<i64, Failure> {
    let statement = "SELECT count(*) AS n FROM presets WHERE workspace = ?1";
    let rows = ports.sql(statement, &[Sql::from(workspace.as_str())]).await.map_err(|error| fault(ports, &error))?;
    #[allow(clippy::cast_possible_truncation, reason = "a count of rows")]
    Ok(rows.first().and_then(|row| row.get("n")?.as_f64()).map_or(0, |n| n as i64))
}

/// The answer with the tag of the preset as it stands now.
async fn tagged<P: Ports>(
    ports: &P,
    workspace: &WorkspaceId,
    name: &str,
    status: u16,
    shown: &Value,
) -> Result<Reply<P>, Failure> {
    let reply = Reply::json(status, shown);
    Ok(match standing(ports, workspace, name).await? {
        Some(standing) => reply.with_header("etag", etag::of(&standing.text)),
        None => reply,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InUse {
    version: u64,
}

/// `PATCH …/presets/{slug}`: another version comes into use, forward or back.
pub async fn roll<P: Ports>(act: &Act<'_, P>, path: &str, name: &str) -> Result<Reply<P>, Failure> {
    let ports = act.ports;
    let workspace = known(ports, path).await?.settings.id;
    let wanted: InUse = body(ports).await?;
    let id = [Sql::from(workspace.as_str()), Sql::from(name), whole(wanted.version)];
    for _ in 0..TRIES {
        let before = standing(ports, &workspace, name).await?.ok_or_else(unknown_preset)?;
        act.expect(&before.text)?;
        let statement = "SELECT slug, version, 1 AS in_use, preset, created_at FROM preset_versions \
            WHERE workspace = ?1 AND slug = ?2 AND version = ?3";
        let rows = ports.sql(statement, &id).await.map_err(|error| fault(ports, &error))?;
        let unknown = || Failure::invalid("version", "there is no such version");
        let shown = rows.first().and_then(preset_json).ok_or_else(unknown)?;
        let change = "UPDATE presets SET version = ?3 WHERE workspace = ?1 AND slug = ?2 AND version = ?4";
        let mut values = id.to_vec();
        values.push(Sql::Int(before.version));
        let seen = before.shown.as_ref();
        let told = Told { workspace: Some(&workspace), subject: name, before: seen, after: Some(&shown) };
        if act.commit(told, (change, values), Vec::new()).await? {
            project(ports, &workspace, name).await?;
            return tagged(ports, &workspace, name, 200, &shown).await;
        }
    }
    Err(act.contended())
}

/// `DELETE …/presets/{slug}`: with all its versions.
pub async fn delete<P: Ports>(act: &Act<'_, P>, path: &str, name: &str) -> Result<Reply<P>, Failure> {
    let ports = act.ports;
    let workspace = known(ports, path).await?.settings.id;
    let id = [Sql::from(workspace.as_str()), Sql::from(name)];
    for _ in 0..TRIES {
        let before = standing(ports, &workspace, name).await?.ok_or_else(unknown_preset)?;
        act.expect(&before.text)?;
        let change = "DELETE FROM presets WHERE workspace = ?1 AND slug = ?2 AND version = ?3";
        let versions = "DELETE FROM preset_versions WHERE workspace = ?1 AND slug = ?2 \
            AND EXISTS (SELECT 1 FROM audit WHERE id = ?3)";
        let mut values = id.to_vec();
        values.push(Sql::Int(before.version));
        let told = Told { workspace: Some(&workspace), subject: name, before: before.shown.as_ref(), after: None };
        if act.commit(told, (change, values), vec![(versions, id.to_vec())]).await? {
            project(ports, &workspace, name).await?;
            return Ok(Reply::json(200, &json!({"object": "preset", "slug": name, "deleted": true})));
        }
    }
    Err(act.contended())
}

/// Renews the read copy; of a preset that is gone it says so.
pub(super) async fn project<P: Ports>(ports: &P, workspace: &WorkspaceId, name: &str) -> Result<(), Failure> {
    let values = [Sql::from(workspace.as_str()), Sql::from(name)];
    let key = preset_key(workspace, name);
    let mut last = String::new();
    for _ in 0..COPIES_MAX {
        let rows = ports.sql(IN_USE, &values).await.map_err(|error| fault(ports, &error))?;
        let copy = rows.first().and_then(|row| row.get("copy")?.as_str()).unwrap_or("null");
        if copy == last {
            break;
        }
        ports.kv_put(&key, copy).await.map_err(|error| fault(ports, &error))?;
        ports.forget_copy(&key);
        copy.clone_into(&mut last);
    }
    Ok(())
}
