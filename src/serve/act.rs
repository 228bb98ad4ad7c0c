//! One administrator's request: who asks, what it changes, and the row it leaves.
//!
//! A change goes to D1 through [`Act::commit`] alone: one transaction in which the change is made if the record is still
//! what it was read as, and the audit row is written if the change was made. What is not kept in D1 (credits, the catalog
//! in use, switches) leaves its row through [`Act::finish`], which the router calls for every administrator's endpoint,
//! so that no handler can forget it; an answer that the row did not precede is not given.

use std::cell::Cell;
use std::rc::Rc;

use serde_json::Value;

use crate::access::audit::{action, redacted};
use crate::access::management::ManagementKey;
use crate::error::{Code, Failure};
use crate::id::{AuditId, RequestId, WorkspaceId};
use crate::serve::admin::chance;
use crate::serve::ports::{Ports, Sql};
use crate::serve::reply::{Body, Reply};
use crate::serve::{Caller, Endpoint, Head, etag, fault};

/// How often a change is tried anew where others change the same thing at the same moment.
pub const TRIES: u32 = 8;

/// Who changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The operator.
    Operator,
    /// The holder of a management key, of its own workspace.
    Manager(Rc<ManagementKey>),
    /// Somebody who reported a leaked key.
    LeakReport,
    /// The gateway's own schedule.
    Schedule,
}

impl Actor {
    /// The name in audit rows.
    pub fn name(&self) -> String {
        match self {
            Actor::Operator => "operator".to_owned(),
            Actor::Manager(key) => key.id.as_str().to_owned(),
            Actor::LeakReport => "leak_report".to_owned(),
            Actor::Schedule => "schedule".to_owned(),
        }
    }

    /// The management key, where it is one.
    pub fn manager(&self) -> Option<&ManagementKey> {
        match self {
            Actor::Manager(key) => Some(key),
            Actor::Operator | Actor::LeakReport | Actor::Schedule => None,
        }
    }
}

/// One administrator's request.
pub struct Act<'a, P: Ports> {
    /// The world.
    pub ports: &'a P,
    /// Who asks.
    pub actor: Actor,
    endpoint: Endpoint,
    request: &'a RequestId,
    if_match: Option<&'a str>,
    if_none_match: Option<&'a str>,
    values: Vec<String>,
    is_recorded: Cell<bool>,
}

/// What a change is about, as an audit row has it.
pub struct Told<'v> {
    /// Whose it is; `None`: the gateway's.
    pub workspace: Option<&'v WorkspaceId>,
    /// Its id or name.
    pub subject: &'v str,
    /// How it looked.
    pub before: Option<&'v Value>,
    /// How it will look.
    pub after: Option<&'v Value>,
}

const ROW: &str = "INSERT INTO audit (id, workspace, at, actor, action, subject, request, before, after) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9";

impl<'a, P: Ports> Act<'a, P> {
    /// For one request; `values` are those of its path.
    pub fn new(ports: &'a P, head: &'a Head, endpoint: Endpoint, values: &[&str], actor: Actor) -> Act<'a, P> {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let (request, if_match, if_none_match) = (&head.id, head.if_match.as_deref(), head.if_none_match.as_deref());
        Act { ports, actor, endpoint, request, if_match, if_none_match, values, is_recorded: Cell::new(false) }
    }

    /// Refuses where the client has seen another version of the record; else the record's tag.
    ///
    /// # Errors
    /// 409 about `if-match`.
    pub fn expect(&self, stored: &str) -> Result<String, Failure> {
        let tag = etag::of(stored);
        etag::expect(self.if_match, &tag).map(|()| tag)
    }

    /// Whether the client wants to make what is not there (`If-None-Match: *`).
    pub fn wants_none(&self) -> bool {
        self.if_none_match.is_some_and(|list| list.trim() == "*")
    }

    /// Makes a change together with its audit row. `change` writes one row where the record is still what it was read as,
    /// and none otherwise; `more` is run where it wrote one, with the audit row's id as its last value. Says whether it did.
    ///
    /// # Errors
    /// 500 where D1 does not answer: nothing was changed then.
    pub async fn commit(
        &self,
        told: Told<'_>,
        change: (&str, Vec<Sql>),
        more: Vec<(&str, Vec<Sql>)>,
    ) -> Result<bool, Failure> {
        let id = AuditId::new(self.ports.now(), chance(self.ports));
        let row = (format!("{ROW} WHERE changes() = 1 RETURNING id"), self.row(&id, &told));
        let mut statements = vec![(change.0.to_owned(), change.1), row];
        for (statement, mut values) in more {
            values.push(Sql::from(id.as_str()));
            statements.push((statement.to_owned(), values));
        }
        let rows = self.ports.sql_batch(statements).await.map_err(|error| fault(self.ports, &error))?;
        let is_done = rows.get(1).is_some_and(|rows| !rows.is_empty());
        self.is_recorded.set(self.is_recorded.get() || is_done);
        Ok(is_done)
    }

    fn row(&self, id: &AuditId, told: &Told<'_>) -> Vec<Sql> {
        let text = |value: Option<&Value>| value.map_or(Sql::Null, |value| Sql::Text(redacted(value).to_string()));
        let action = action(self.endpoint.resource(), self.endpoint.method, self.endpoint.path);
        vec![
            Sql::from(id.as_str()),
            told.workspace.map_or(Sql::Null, |workspace| Sql::from(workspace.as_str())),
            Sql::Int(i64::try_from(self.ports.now().0).unwrap_or(i64::MAX)),
            Sql::Text(self.actor.name()),
            Sql::Text(action),
            Sql::from(told.subject),
            Sql::from(self.request.as_str()),
            text(told.before),
            text(told.after),
        ]
    }

    /// The answer, once the change has its row: written here where [`Act::commit`] did not.
    ///
    /// # Errors
    /// 500 where the row could not be written: what was changed can be changed again with the same result.
    pub async fn finish(&self, reply: Reply<P>) -> Result<Reply<P>, Failure> {
        let is_admin = matches!(self.endpoint.caller, Caller::Operator | Caller::Manager(..));
        let is_change = is_admin && self.endpoint.method != "GET";
        if !is_change || self.is_recorded.get() || reply.status >= 300 {
            return Ok(reply);
        }
        let shown: Option<Value> = match &reply.body {
            Body::Bytes(bytes) => crate::json::from_bytes(bytes),
            Body::Empty | Body::Stream(_) => None,
        };
        let is_workspaces = self.endpoint.path.starts_with("/v1/admin/workspaces/{id}");
        let workspace = self.values.first().filter(|_| is_workspaces).and_then(|id| WorkspaceId::parse(id));
        let of_answer = shown.as_ref().and_then(|value| value.get("id")?.as_str());
        let subject = of_answer.or(self.values.last().map(String::as_str)).unwrap_or_default();
        let id = AuditId::new(self.ports.now(), chance(self.ports));
        let told = Told { workspace: workspace.as_ref(), subject, before: None, after: shown.as_ref() };
        self.ports.sql(ROW, &self.row(&id, &told)).await.map_err(|error| fault(self.ports, &error))?;
        Ok(reply)
    }

    /// Says that all is as it was asked for already: no row is due.
    pub fn nothing_to_do(&self) {
        self.is_recorded.set(true);
    }

    /// Refuses where a field is the operator's alone and a management key names it.
    ///
    /// # Errors
    /// 403 about the field.
    pub fn operator_only(&self, param: &str, is_named: bool) -> Result<(), Failure> {
        match is_named && self.actor.manager().is_some() {
            true => Err(Failure::new(Code::Forbidden, "only the operator may change this").about(param)),
            false => Ok(()),
        }
    }

    /// Where others changed the same thing again and again.
    pub fn contended(&self) -> Failure {
        let why = "others are changing the same thing; nothing was changed by this request";
        Failure::new(Code::IdempotencyConflict, why).retry_after(Some(1000))
    }
}
