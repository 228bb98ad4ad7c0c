-- The system of record for workspaces and keys, and the activity log.

CREATE TABLE workspaces (
    id         TEXT PRIMARY KEY, -- ws_<ULID>
    name       TEXT NOT NULL,
    settings   TEXT NOT NULL,    -- JSON: limits, suspended
    created_at INTEGER NOT NULL  -- milliseconds since the epoch
) WITHOUT ROWID;

CREATE TABLE keys (
    id        TEXT PRIMARY KEY,     -- key_<ULID>
    workspace TEXT NOT NULL,
    hash      TEXT NOT NULL UNIQUE, -- HMAC-SHA-256 of the secret; the secret itself is nowhere
    policy    TEXT NOT NULL         -- JSON: what the key may do
) WITHOUT ROWID;

CREATE INDEX keys_by_workspace ON keys (workspace);

-- One row per request. The primary key is workspace and a sortable id, so that a page of the newest rows needs no other
-- index: each index would be one more row written per request.
CREATE TABLE activity (
    workspace         TEXT NOT NULL,
    id                TEXT NOT NULL,    -- gen_<ULID>
    at                INTEGER NOT NULL, -- milliseconds since the epoch
    key               TEXT NOT NULL,
    model             TEXT,
    provider          TEXT,
    status            INTEGER NOT NULL,
    ending            TEXT NOT NULL,
    cost_nanos        INTEGER NOT NULL, -- what the ledger charged
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    row               TEXT NOT NULL,    -- JSON: the whole row with its attempts
    PRIMARY KEY (workspace, id)
) WITHOUT ROWID;
