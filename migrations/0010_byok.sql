-- Customers' own credentials, sealed. What opens them is a Worker secret; see src/access/byok.rs.
CREATE TABLE byok (
    id         TEXT PRIMARY KEY, -- byok_<ULID>
    workspace  TEXT NOT NULL,
    provider   TEXT NOT NULL,
    position   INTEGER NOT NULL, -- order among those of a workspace
    about      TEXT NOT NULL,    -- JSON: name, use, models, keys, hint, enabled
    sealed     TEXT NOT NULL,    -- base64
    created_at INTEGER NOT NULL,
    refused_at INTEGER           -- when its provider last refused it
) WITHOUT ROWID;

CREATE INDEX byok_by_workspace ON byok (workspace, position);
