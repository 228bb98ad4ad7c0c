-- Keys that administer one workspace, and when a workspace was deleted and is to be erased.
CREATE TABLE management_keys (
    id         TEXT PRIMARY KEY,     -- mk_<ULID>
    workspace  TEXT NOT NULL,
    hash       TEXT NOT NULL UNIQUE, -- HMAC-SHA-256 of the secret; the secret itself is nowhere
    created_by TEXT NOT NULL,        -- operator, or the management key that made it
    revoked_at INTEGER,
    record     TEXT NOT NULL         -- JSON: name, scopes, expiry
) WITHOUT ROWID;

CREATE INDEX management_keys_by_workspace ON management_keys (workspace, id);
CREATE INDEX management_keys_by_maker ON management_keys (created_by);

ALTER TABLE workspaces ADD COLUMN deleted_at INTEGER;
ALTER TABLE workspaces ADD COLUMN erase_at INTEGER;
CREATE INDEX workspaces_to_erase ON workspaces (erase_at) WHERE erase_at IS NOT NULL;
