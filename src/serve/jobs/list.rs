//! `GET /v1/videos`: a workspace's videos, newest first unless asked otherwise.

use futures::future::join_all;
use serde_json::{Value, json};

use super::{id_of, look, shown};
use crate::access::policy::Policy;
use crate::error::Failure;
use crate::job::command::Until;
use crate::serve::ports::{Ports, Sql};
use crate::serve::reply::Reply;
use crate::serve::{fault, query};

/// Videos of a page.
const LIMIT_DEFAULT: u64 = 20;
const LIMIT_MAX: u64 = 100;

/// Those that have not ended are asked of their objects: the list knows begin and end alone.
pub async fn list<P: Ports>(ports: &P, policy: &Policy, asked: &str) -> Result<Reply<P>, Failure> {
    let limit = match query::value(asked, "limit") {
        None => LIMIT_DEFAULT,
        Some(text) => {
            let known = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
            known.ok_or_else(|| Failure::invalid("limit", format!("must be a whole number from 1 to {LIMIT_MAX}")))?
        }
    };
    let is_rising = match query::value(asked, "order").as_deref() {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(Failure::invalid("order", "must be asc or desc")),
    };
    // Ids sort by creation.
    let after = match query::value(asked, "after") {
        None => {
            if is_rising {
                String::new()
            } else {
                "~".to_owned()
            }
        }
        Some(text) => id_of(&text).map_err(|_| Failure::invalid("after", "is no id of a video"))?.as_str().to_owned(),
    };
    let (sign, order) = if is_rising { (">", "ASC") } else { ("<", "DESC") };
    let statement = format!(
        "SELECT id, status, body FROM jobs WHERE workspace = ?1 AND kind = 'video' AND id {sign} ?2 ORDER BY id {order} LIMIT ?3"
    );
    let most = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    let values = [Sql::from(policy.workspace.as_str()), Sql::Text(after), Sql::Int(most)];
    let rows = ports.sql(&statement, &values).await.map_err(|error| fault(ports, &error))?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > wanted;
    let data: Vec<Value> = join_all(rows.iter().take(wanted).map(|row| current(ports, policy, row))).await;
    let data: Vec<Value> = data.into_iter().filter(|one| !one.is_null()).collect();
    let end = |one: Option<&Value>| one.and_then(|one| one.get("id")).cloned().unwrap_or_default();
    let body = json!({
        "object": "list", "has_more": has_more, "first_id": end(data.first()), "last_id": end(data.last()), "data": data,
    });
    Ok(Reply::json(200, &body))
}

async fn current<P: Ports>(ports: &P, policy: &Policy, row: &Value) -> Value {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let stored = crate::json::from_str(text("body")).unwrap_or_default();
    if !["queued", "running"].contains(&text("status")) {
        return stored;
    }
    let Ok(id) = id_of(text("id")) else { return Value::Null };
    match look(ports, &id, &policy.workspace, Until::Ended, 0).await {
        Ok(job) => shown::video(&job),
        Err(_) => stored,
    }
}
