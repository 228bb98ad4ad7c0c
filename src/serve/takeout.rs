//! `GET /v1/admin/workspaces/{id}/export`: everything that is the workspace's, as JSON lines, without a secret.
//!
//! Each line is an object with its kind in `object`; the last one is `end` with the number of lines before it, so that an
//! export that broke off shows. A management key gets what it may read. Prompts that are kept are read one by one, by
//! whoever may, and are not in it.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::access::management::{Access, Resource};
use crate::access::policy::Policy;
use crate::activity::question::Question;
use crate::error::{Code, Failure};
use crate::id::WorkspaceId;
use crate::serve::account::{credits_json, key_json, state};
use crate::serve::act::Actor;
use crate::serve::admin::known;
use crate::serve::ports::{Client, Ports, Sql};
use crate::serve::reply::{Body, Reply};
use crate::serve::{activity, analytics, audit, byok, fault, ledger, management, retention, settings, webhooks};
use crate::webhook::hook::Hook;

/// Rows read at once; no more are held in memory.
const ROWS: u64 = 200;

/// A kind of rows in D1: whose scope they are under, the statement (workspace, the cursor before, so many) whose rows have a
/// `cursor`, and how a row is shown.
struct Section {
    resource: Resource,
    statement: &'static str,
    shown: fn(&Value) -> Option<Value>,
}

/// The sums of one day, or hour, at a time: they are the order of the table.
const SUMS_BY_DAY: &str = "SELECT *, CAST(start AS TEXT) AS cursor FROM rollups WHERE workspace = ?1 AND span = 'day' \
    AND start = (SELECT min(start) FROM rollups WHERE workspace = ?1 AND span = 'day' AND start > CAST(?2 AS INTEGER)) \
    LIMIT max(?3, 1000000)";
const SUMS_BY_HOUR: &str = "SELECT *, CAST(start AS TEXT) AS cursor FROM rollups WHERE workspace = ?1 AND span = 'hour' \
    AND start = (SELECT min(start) FROM rollups WHERE workspace = ?1 AND span = 'hour' AND start > CAST(?2 AS INTEGER)) \
    LIMIT max(?3, 1000000)";

fn sum(row: &Value, interval: &str) -> Option<Value> {
    let mut shown = analytics::told(row, None);
    let members = shown.as_object_mut()?;
    members.insert("object".to_owned(), json!("sum"));
    members.insert("interval".to_owned(), json!(interval));
    for name in ["model", "provider", "key", "app"] {
        members.insert(name.to_owned(), row.get(name).cloned().unwrap_or_default());
    }
    Some(shown)
}

const SECTIONS: &[Section] = &[
    Section {
        resource: Resource::Keys,
        statement: "SELECT id AS cursor, policy FROM keys WHERE workspace = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        shown: |row| crate::json::from_str::<Policy>(row.get("policy")?.as_str()?).ok().map(|policy| key_json(&policy)),
    },
    Section {
        resource: Resource::ManagementKeys,
        statement: "SELECT id AS cursor, record, revoked_at FROM management_keys WHERE workspace = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        shown: management::row_json,
    },
    Section {
        resource: Resource::Presets,
        statement: "SELECT v.slug || printf(' %012d', v.version) AS cursor, v.slug, v.version, v.preset, v.created_at, \
            p.version = v.version AS in_use FROM preset_versions v JOIN presets p ON p.workspace = v.workspace AND p.slug = v.slug \
            WHERE v.workspace = ?1 AND v.slug || printf(' %012d', v.version) > ?2 ORDER BY cursor LIMIT ?3",
        shown: settings::preset_json,
    },
    Section {
        resource: Resource::Byok,
        statement: "SELECT *, id AS cursor FROM byok WHERE workspace = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        shown: |row| Some(byok::shown(row)),
    },
    Section {
        resource: Resource::Webhooks,
        statement: "SELECT *, id AS cursor FROM webhooks WHERE workspace = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        shown: |row| Hook::parse(row).map(|hook| webhooks::shown(&hook)),
    },
    Section { resource: Resource::Analytics, statement: SUMS_BY_DAY, shown: |row| sum(row, "day") },
    Section { resource: Resource::Analytics, statement: SUMS_BY_HOUR, shown: |row| sum(row, "hour") },
    Section {
        resource: Resource::Audit,
        statement: "SELECT *, id AS cursor FROM audit WHERE workspace = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        shown: |row| Some(audit::shown(row)),
    },
];

/// What an export is of, and who gets it.
struct Takeout<P: Ports> {
    ports: Rc<P>,
    workspace: WorkspaceId,
    actor: Actor,
    client: P::Client,
    lines: u64,
}

/// The endpoint.
pub async fn export<P: Ports>(ports: &Rc<P>, actor: Actor, path: &str) -> Result<Reply<P>, Failure> {
    let known = known(ports.as_ref(), path).await?;
    let (client, readable) = ports.open_stream();
    let mut takeout =
        Takeout { ports: Rc::clone(ports), workspace: known.settings.id.clone(), actor, client, lines: 0 };
    ports.in_background(async move {
        let ended = match takeout.write(known.json()).await {
            Ok(()) => takeout.sections().await,
            Err(stopped) => Err(stopped),
        };
        let last = match ended {
            Ok(()) => Some(json!({"object": "end", "lines": takeout.lines})),
            Err(Stopped::Left) => None,
            Err(Stopped::Failed(failure)) => {
                Some(json!({"object": "error", "code": failure.code.name(), "message": failure.message}))
            }
        };
        if let Some(last) = last {
            let _ = takeout.write(last).await;
        }
        takeout.client.close().await;
    });
    let headers = vec![("content-type", "application/x-ndjson".to_owned())];
    Ok(Reply { status: 200, headers, body: Body::Stream(readable) })
}

enum Stopped {
    Left,
    Failed(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Stopped {
        Stopped::Failed(failure)
    }
}

impl<P: Ports> Takeout<P> {
    async fn write(&mut self, line: Value) -> Result<(), Stopped> {
        self.write_all(vec![line]).await
    }

    async fn write_all(&mut self, lines: Vec<Value>) -> Result<(), Stopped> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.lines = self.lines.saturating_add(u64::try_from(lines.len()).unwrap_or(0));
        self.client.write(text.as_bytes()).await.map_err(|_| Stopped::Left)
    }

    fn may_read(&self, resource: Resource) -> bool {
        self.actor.manager().is_none_or(|own| own.scopes.allow(resource, Access::Read))
    }

    async fn sections(&mut self) -> Result<(), Stopped> {
        let ports = Rc::clone(&self.ports);
        let workspace = self.workspace.clone();
        if self.may_read(Resource::Settings) {
            let shown = settings::shown_of(ports.as_ref(), &workspace).await?;
            self.write(shown).await?;
        }
        if self.may_read(Resource::Retention) {
            let shown = retention::shown_of(ports.as_ref(), &workspace).await?;
            self.write(shown).await?;
        }
        for section in SECTIONS.iter().filter(|section| self.may_read(section.resource)).collect::<Vec<_>>() {
            self.rows(section).await?;
        }
        if self.may_read(Resource::Credits) {
            let credits = state(ports.as_ref(), &workspace).await?;
            self.write(credits_json(&credits)).await?;
            self.ledger().await?;
        }
        if self.may_read(Resource::Activity) {
            self.activity().await?;
        }
        Ok(())
    }

    async fn rows(&mut self, section: &Section) -> Result<(), Stopped> {
        let mut cursor = String::new();
        loop {
            let size = Sql::Int(i64::try_from(ROWS).unwrap_or(i64::MAX));
            let values = [Sql::from(self.workspace.as_str()), Sql::Text(cursor.clone()), size];
            let rows = self.ports.sql(section.statement, &values).await;
            let rows = rows.map_err(|error| fault(self.ports.as_ref(), &error))?;
            let Some(last) = rows.last().and_then(|row| row.get("cursor")?.as_str()) else { return Ok(()) };
            last.clone_into(&mut cursor);
            let shown: Option<Vec<Value>> = rows.iter().map(section.shown).collect();
            // A row that cannot be read must not go missing without a word.
            let unreadable = || Failure::new(Code::Internal, "a row of the workspace cannot be read");
            self.write_all(shown.ok_or_else(unreadable)?).await?;
        }
    }

    async fn ledger(&mut self) -> Result<(), Stopped> {
        let mut before = None;
        loop {
            let page = ledger::page(self.ports.as_ref(), &self.workspace, before, ROWS).await?;
            let lines = page.entries.iter().map(|one| {
                let mut line = json!(one);
                if let Some(line) = line.as_object_mut() {
                    line.insert("object".to_owned(), json!("entry"));
                }
                line
            });
            self.write_all(lines.collect()).await?;
            match page.next {
                Some(seq) => before = Some(seq),
                None => return Ok(()),
            }
        }
    }

    async fn activity(&mut self) -> Result<(), Stopped> {
        let whole = || Failure::new(Code::Internal, "the rows cannot be asked for");
        let mut question = Question::parse(&[]).map_err(|_| whole())?;
        loop {
            let page = activity::page(self.ports.as_ref(), &self.workspace, &question, ROWS).await?;
            self.write_all(page.rows).await?;
            match page.next {
                Some(next) => question = question.after(&next),
                None => return Ok(()),
            }
        }
    }
}
