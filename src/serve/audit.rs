//! `GET /v1/admin/audit` and `GET /v1/admin/workspaces/{id}/audit`: what administrators changed, newest first.

use serde_json::{Value, json};

use crate::error::Failure;
use crate::id::{AuditId, WorkspaceId};
use crate::serve::ports::{Ports, Sql};
use crate::serve::reply::Reply;
use crate::serve::{fault, query};
use crate::time::Millis;

const LIMIT_DEFAULT: u64 = 50;
const LIMIT_MAX: u64 = 200;
/// Columns that can be asked for by their value.
const FILTERS: &[&str] = &["workspace", "actor", "action", "subject", "request"];

/// What is asked, as a statement and its values.
fn parse(workspace: Option<&WorkspaceId>, query: &str) -> Result<(String, Vec<Sql>), Failure> {
    let limit = query::limit(query, LIMIT_DEFAULT, LIMIT_MAX)?;
    let mut statement =
        "SELECT id, workspace, at, actor, action, subject, request, before, after FROM audit".to_owned();
    let mut values = vec![Sql::Int(i64::try_from(limit).unwrap_or(i64::MAX))];
    let mut word = " WHERE ";
    let mut and = |condition: String, value: Sql| {
        values.push(value);
        statement.push_str(&format!("{word}{condition} ?{}", values.len()));
        word = " AND ";
    };
    if let Some(workspace) = workspace {
        and("workspace =".to_owned(), Sql::from(workspace.as_str()));
    }
    for (name, value) in query::each(query) {
        // An id begins with its moment, so a time is a place in the order.
        let moment = || {
            let at = Millis::from_rfc3339(&value);
            let at = at.ok_or_else(|| Failure::invalid(&*name, "must be a moment in RFC 3339"))?;
            Ok::<Sql, Failure>(Sql::from(AuditId::new(at, [0; 10]).as_str()))
        };
        match name.as_str() {
            "limit" => {}
            "cursor" => {
                let id = AuditId::parse(&value);
                let id = id.ok_or_else(|| Failure::invalid(&*name, "is not a cursor of this list"))?;
                and("id <".to_owned(), Sql::from(id.as_str()));
            }
            "since" => and("id >=".to_owned(), moment()?),
            "until" => and("id <".to_owned(), moment()?),
            "workspace" if workspace.is_some() => return Err(Failure::invalid(name, "is in the path already")),
            column if FILTERS.contains(&column) => and(format!("{column} ="), Sql::Text(value)),
            _ => return Err(Failure::invalid(name, "is not a parameter of the audit")),
        }
    }
    statement.push_str(" ORDER BY id DESC LIMIT ?1");
    Ok((statement, values))
}

/// A row as the API shows it.
pub(super) fn shown(row: &Value) -> Value {
    let text = |name: &str| row.get(name).cloned().unwrap_or_default();
    let json = |name: &str| -> Value {
        row.get(name).and_then(Value::as_str).and_then(|text| crate::json::from_str(text).ok()).unwrap_or_default()
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds since the epoch")]
    let at = Millis(row.get("at").and_then(Value::as_f64).unwrap_or(0.0).max(0.0) as u64);
    json!({
        "object": "change", "id": text("id"), "workspace": text("workspace"), "at": at.to_rfc3339(), "actor": text("actor"),
        "action": text("action"), "subject": text("subject"), "request": text("request"),
        "before": json("before"), "after": json("after"),
    })
}

/// The endpoints.
pub async fn list<P: Ports>(ports: &P, workspace: Option<&WorkspaceId>, query: &str) -> Result<Reply<P>, Failure> {
    let (statement, values) = parse(workspace, query)?;
    let rows = ports.sql(&statement, &values).await.map_err(|error| fault(ports, &error))?;
    let is_full =
        matches!(values.first(), Some(Sql::Int(limit)) if i64::try_from(rows.len()).is_ok_and(|n| n >= *limit));
    let next = rows.last().filter(|_| is_full).and_then(|row| row.get("id")).cloned();
    let data: Vec<Value> = rows.iter().map(shown).collect();
    Ok(Reply::json(200, &json!({"object": "list", "data": data, "next_cursor": next})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_is_a_condition_and_an_unknown_one_is_refused() {
        let own = WorkspaceId::new(Millis(1), [1; 10]);
        let (statement, values) = parse(
            Some(&own),
            "actor=operator&since=2026-11-25T00:00:00Z&cursor=aud_01KAXKQ5DB0W3GE1R70W3GE1RA&limit=5",
        )
        .unwrap();
        let conditions = statement.split_once(" WHERE ").unwrap().1;
        assert_eq!(conditions, "workspace = ?2 AND actor = ?3 AND id >= ?4 AND id < ?5 ORDER BY id DESC LIMIT ?1");
        assert_eq!((values.len(), &values[0]), (5, &Sql::Int(5)));
        assert!(parse(None, "").unwrap().0.ends_with("FROM audit ORDER BY id DESC LIMIT ?1"));
        assert!(parse(None, "workspace=ws_1&action=keys.rotate").is_ok());
        for (query, param) in
            [("since=now", "since"), ("who=me", "who"), ("limit=0", "limit"), ("cursor=x", "cursor"), ("id=1", "id")]
        {
            assert_eq!(parse(None, query).unwrap_err().param.as_deref(), Some(param), "{query}");
        }
        assert_eq!(parse(Some(&own), "workspace=ws_2").unwrap_err().param.as_deref(), Some("workspace"));
    }
}
