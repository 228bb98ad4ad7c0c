-- Webhooks of workspaces. Deliveries are in the courier object of the workspace.
CREATE TABLE webhooks (
    id         TEXT PRIMARY KEY, -- wh_<ULID>
    workspace  TEXT NOT NULL,
    url        TEXT NOT NULL,
    name       TEXT NOT NULL,
    events     TEXT NOT NULL,    -- JSON: names; empty is all
    state      TEXT NOT NULL,    -- enabled, disabled, gone
    secrets    TEXT NOT NULL,    -- JSON: sealed signing secrets, newest first
    created_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX webhooks_by_workspace ON webhooks (workspace);
