//! How a workspace's requests are routed, and its presets: the admin's endpoints, and what a request reads of them.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::routing::RoutingSettings;
use crate::dialect::Dialect;
use crate::error::{Code, Failure};
use crate::id::WorkspaceId;
use crate::preset::{Preset, apply, named};
use crate::serve::admin::{body, known};
use crate::serve::fault;
use crate::serve::ports::{Ports, Sql};
use crate::serve::reply::Reply;

/// Most presets of a workspace.
const PRESETS_MAX: i64 = 500;

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
    serde_json::from_str(&copy).map_err(|_| Failure::new(Code::Internal, "the workspace's settings cannot be read"))
}

/// The body with the preset it names in it, and that preset.
pub async fn with_preset<P: Ports>(
    ports: &P,
    workspace: &WorkspaceId,
    dialect: Dialect,
    bytes: Vec<u8>,
) -> Result<(Vec<u8>, Option<Preset>), Failure> {
    let Some(named) = named(&bytes) else { return Ok((bytes, None)) };
    let unknown = || Failure::new(Code::NotFound, format!("there is no preset `{}`", named.slug)).about(named.param);
    if !is_slug(&named.slug) {
        return Err(unknown());
    }
    let values = [Sql::from(workspace.as_str()), Sql::from(named.slug.as_str())];
    let key = preset_key(workspace, &named.slug);
    let copy = ports.read_copy(&key, IN_USE, &values).await.map_err(|error| fault(ports, &error))?;
    let text = copy.filter(|copy| copy.as_str() != "null").ok_or_else(unknown)?;
    let preset: Preset =
        serde_json::from_str(&text).map_err(|_| Failure::new(Code::Internal, "the preset cannot be read"))?;
    let bytes = apply(dialect, &bytes, &named, &preset).ok_or_else(|| Failure::invalid("messages", "is not a list"))?;
    Ok((bytes, Some(preset)))
}

/// `GET …/settings`.
pub async fn get<P: Ports>(ports: &P, path: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    Ok(Reply::json(200, &shown(&stored(ports, &workspace).await?)))
}

/// `PATCH …/settings`: members that are there replace those of the same name.
pub async fn change<P: Ports>(ports: &P, path: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    let changed: Value = body(ports).await?;
    let mut settings = serde_json::to_value(stored(ports, &workspace).await?).unwrap_or_default();
    let (Some(to), Some(from)) = (settings.as_object_mut(), changed.as_object()) else {
        return Err(Failure::new(Code::InvalidInput, "the body must be an object"));
    };
    for (name, value) in from {
        match (name.as_str(), value) {
            (_, Value::Null) => drop(to.remove(name)),
            ("narrowing", Value::Object(lists)) => {
                let narrowing = to.entry("narrowing").or_insert_with(|| json!({}));
                if let Some(narrowing) = narrowing.as_object_mut() {
                    narrowing.extend(lists.clone());
                }
            }
            _ => drop(to.insert(name.clone(), value.clone())),
        }
    }
    let text = settings.to_string();
    let settings: RoutingSettings = crate::json::parse_body(text.as_bytes())
        .map_err(|error| Failure { param: error.path, ..Failure::new(Code::InvalidInput, error.message) })?;
    let text = serde_json::to_string(&settings).unwrap_or_default();
    let values = [Sql::from(workspace.as_str()), Sql::Text(text.clone())];
    let statement = "UPDATE workspaces SET routing = ?2 WHERE id = ?1";
    ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    let key = routing_key(&workspace);
    ports.kv_put(&key, &text).await.map_err(|error| fault(ports, &error))?;
    ports.forget_copy(&key);
    Ok(Reply::json(200, &shown(&settings)))
}

fn shown(settings: &RoutingSettings) -> Value {
    let narrowing = &settings.narrowing;
    json!({
        "object": "settings", "mode": settings.mode.unwrap_or_default(), "channel": settings.channel,
        "fallback_to_credits": settings.fallback_to_credits,
        "narrowing": {
            "allow_providers": narrowing.allow_providers, "ignore_providers": narrowing.ignore_providers,
            "allow_models": narrowing.allow_models, "ignore_models": narrowing.ignore_models,
            "regions": narrowing.regions, "no_training": narrowing.no_training, "zdr": narrowing.zdr,
        },
    })
}

/// From the record, not from a copy: what is changed must not be old.
async fn stored<P: Ports>(ports: &P, workspace: &WorkspaceId) -> Result<RoutingSettings, Failure> {
    let rows = ports.sql(ROUTING, &[Sql::from(workspace.as_str())]).await.map_err(|error| fault(ports, &error))?;
    let text = rows.first().and_then(|row| row.get("copy")?.as_str());
    Ok(text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
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

/// `GET …/presets`: each with the version in use.
pub async fn presets<P: Ports>(ports: &P, path: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    let statement = "SELECT p.slug, p.version, v.preset, v.created_at FROM presets p JOIN preset_versions v \
        ON v.workspace = p.workspace AND v.slug = p.slug AND v.version = p.version \
        WHERE p.workspace = ?1 ORDER BY p.slug LIMIT ?2";
    let values = [Sql::from(workspace.as_str()), Sql::Int(PRESETS_MAX)];
    let rows = ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    let data: Vec<Value> = rows.iter().filter_map(preset_json).collect();
    Ok(Reply::json(200, &json!({"object": "list", "data": data})))
}

fn preset_json(row: &Value) -> Option<Value> {
    let preset: Value = serde_json::from_str(row.get("preset")?.as_str()?).ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds since the epoch")]
    let at = row.get("created_at")?.as_f64()?.max(0.0) as u64;
    Some(json!({
        "object": "preset", "slug": row.get("slug")?, "version": row.get("version")?.as_f64()?.max(0.0).round(),
        "created_at": crate::time::Millis(at).to_rfc3339(), "preset": preset,
    }))
}

/// `GET …/presets/{slug}`: every version, newest first, and which is in use.
pub async fn preset<P: Ports>(ports: &P, path: &str, name: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    let (version, versions) = versions(ports, &workspace, name).await?;
    let data: Vec<Value> = versions.iter().filter_map(preset_json).collect();
    Ok(Reply::json(200, &json!({"object": "preset", "slug": name, "version": version, "versions": data})))
}

async fn versions<P: Ports>(ports: &P, workspace: &WorkspaceId, name: &str) -> Result<(u64, Vec<Value>), Failure> {
    let statement = "SELECT v.slug, v.version, v.preset, v.created_at, p.version AS in_use FROM presets p \
        JOIN preset_versions v ON v.workspace = p.workspace AND v.slug = p.slug \
        WHERE p.workspace = ?1 AND p.slug = ?2 ORDER BY v.version DESC LIMIT 200";
    let values = [Sql::from(workspace.as_str()), Sql::from(name)];
    let rows = ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a version")]
    let in_use = rows.first().and_then(|row| row.get("in_use")?.as_f64()).map(|version| version.max(0.0) as u64);
    match in_use {
        Some(version) => Ok((version, rows)),
        None => Err(Failure::new(Code::NotFound, "there is no preset of that slug")),
    }
}

/// `PUT …/presets/{slug}`: a new version, which comes into use at once.
pub async fn put<P: Ports>(ports: &P, path: &str, name: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    let name = slug(name)?;
    let preset: Preset = body(ports).await?;
    preset.check()?;
    let text = serde_json::to_string(&preset).unwrap_or_default();
    let now = Sql::Int(i64::try_from(ports.now().0).unwrap_or(i64::MAX));
    let id = [Sql::from(workspace.as_str()), Sql::from(name)];
    let insert = "INSERT INTO preset_versions (workspace, slug, version, preset, created_at) \
        SELECT ?1, ?2, 1 + coalesce((SELECT max(version) FROM preset_versions WHERE workspace = ?1 AND slug = ?2), 0), ?3, ?4 \
        RETURNING version";
    let values = [id[0].clone(), id[1].clone(), Sql::Text(text), now.clone()];
    let rows = ports.sql(insert, &values).await.map_err(|error| fault(ports, &error))?;
    #[allow(clippy::cast_possible_truncation, reason = "a version")]
    let version = rows.first().and_then(|row| row.get("version")?.as_f64()).unwrap_or(1.0) as i64;
    use_version(ports, &workspace, name, version).await?;
    Ok(Reply::json(201, &json!({"object": "preset", "slug": name, "version": version, "preset": preset})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InUse {
    version: u64,
}

/// `PATCH …/presets/{slug}`: another version comes into use, forward or back.
pub async fn roll<P: Ports>(ports: &P, path: &str, name: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    let wanted: InUse = body(ports).await?;
    let (_, versions) = versions(ports, &workspace, name).await?;
    let is_it = |row: &&Value| {
        row.get("version")
            .and_then(Value::as_f64)
            .is_some_and(|version| version.to_string() == wanted.version.to_string())
    };
    let Some(row) = versions.iter().find(is_it) else {
        return Err(Failure::invalid("version", "there is no such version"));
    };
    let shown = preset_json(row).unwrap_or_default();
    use_version(ports, &workspace, name, i64::try_from(wanted.version).unwrap_or(0)).await?;
    Ok(Reply::json(200, &shown))
}

async fn use_version<P: Ports>(ports: &P, workspace: &WorkspaceId, name: &str, version: i64) -> Result<(), Failure> {
    let now = Sql::Int(i64::try_from(ports.now().0).unwrap_or(i64::MAX));
    let statement = "INSERT INTO presets (workspace, slug, version, created_at) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (workspace, slug) DO UPDATE SET version = ?3";
    let values = [Sql::from(workspace.as_str()), Sql::from(name), Sql::Int(version), now];
    ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    project(ports, workspace, name).await
}

/// `DELETE …/presets/{slug}`: with all its versions.
pub async fn delete<P: Ports>(ports: &P, path: &str, name: &str) -> Result<Reply<P>, Failure> {
    let workspace = known(ports, path).await?.settings.id;
    versions(ports, &workspace, name).await?;
    let values = [Sql::from(workspace.as_str()), Sql::from(name)];
    for statement in [
        "DELETE FROM presets WHERE workspace = ?1 AND slug = ?2",
        "DELETE FROM preset_versions WHERE workspace = ?1 AND slug = ?2",
    ] {
        ports.sql(statement, &values).await.map_err(|error| fault(ports, &error))?;
    }
    project(ports, &workspace, name).await?;
    Ok(Reply::json(200, &json!({"object": "preset", "slug": name, "deleted": true})))
}

/// Renews the read copy; of a preset that is gone it says so.
async fn project<P: Ports>(ports: &P, workspace: &WorkspaceId, name: &str) -> Result<(), Failure> {
    let values = [Sql::from(workspace.as_str()), Sql::from(name)];
    let rows = ports.sql(IN_USE, &values).await.map_err(|error| fault(ports, &error))?;
    let copy = rows.first().and_then(|row| row.get("copy")?.as_str()).unwrap_or("null");
    let key = preset_key(workspace, name);
    ports.kv_put(&key, copy).await.map_err(|error| fault(ports, &error))?;
    ports.forget_copy(&key);
    Ok(())
}
