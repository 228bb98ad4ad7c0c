//! What the schedule makes good: a change is in D1 first and told to the workspace's object and the read copies after it.
//! Where that telling failed, and nobody repeated the change, they would go on with what was. So every run tells again
//! what was changed lately; versions see to it that this never brings anything old back.

use crate::error::Failure;
use crate::id::{AuditId, KeyId, WorkspaceId};
use crate::serve::admin::{known, tell};
use crate::serve::ports::{Ports, Sql};
use crate::serve::{fault, keys, settings};
use crate::time::Millis;
use crate::workspace::Command;

/// How far back a run looks, in milliseconds: three intervals of the schedule.
const WINDOW_MS: u64 = 30 * 60 * 1000;
/// Most things told again by one run.
const CHANGED_MAX: i64 = 500;

/// One run. What cannot be told now is told by the next one.
pub async fn run<P: Ports>(ports: &P) {
    let since = AuditId::new(Millis(ports.now().0.saturating_sub(WINDOW_MS)), [0; 10]);
    let statement = "SELECT workspace, subject, substr(action, 1, instr(action, '.') - 1) AS resource FROM audit \
        WHERE id >= ?1 AND workspace IS NOT NULL GROUP BY 1, 2, 3 LIMIT ?2";
    let rows = match ports.sql(statement, &[Sql::from(since.as_str()), Sql::Int(CHANGED_MAX)]).await {
        Ok(rows) => rows,
        Err(error) => return drop(fault(ports, &error)),
    };
    for row in rows {
        let text = |name: &str| row.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        let Some(workspace) = WorkspaceId::parse(text("workspace")) else { continue };
        if let Err(failure) = again(ports, &workspace, text("resource"), text("subject")).await {
            ports.log(&format!("a change of {workspace} was not told again: {}", failure.message));
        }
    }
}

async fn again<P: Ports>(ports: &P, workspace: &WorkspaceId, resource: &str, subject: &str) -> Result<(), Failure> {
    match resource {
        "keys" => match KeyId::parse(subject) {
            Some(key) => keys::project(ports, workspace, &key).await,
            None => Ok(()),
        },
        "workspace" => {
            let settings = known(ports, workspace.as_str()).await?.settings;
            tell(ports, workspace, &Command::SetWorkspace(settings)).await
        }
        "settings" => settings::project_routing(ports, workspace).await,
        "presets" => settings::project(ports, workspace, subject).await,
        // Own credentials are read copies alone, and what else there is has none.
        "byok" => crate::serve::byok::project(ports, workspace).await,
        _ => Ok(()),
    }
}
