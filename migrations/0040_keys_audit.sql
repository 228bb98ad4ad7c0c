-- The secret of a key before its last rotation; until when it works is in the policy.
ALTER TABLE keys ADD COLUMN old_hash TEXT;
CREATE INDEX keys_by_old_hash ON keys (old_hash) WHERE old_hash IS NOT NULL;

-- What administrators changed, written in the transaction of the change. Never a secret: src/access/audit.rs.
CREATE TABLE audit (
    id        TEXT PRIMARY KEY, -- aud_<ULID>
    workspace TEXT,             -- NULL: of the gateway itself
    at        INTEGER NOT NULL, -- milliseconds since the epoch
    actor     TEXT NOT NULL,    -- operator, the id of a management key, leak_report, schedule
    action    TEXT NOT NULL,    -- resource and verb: keys.rotate
    subject   TEXT,             -- the id or name of what was changed
    request   TEXT NOT NULL,    -- gen_<ULID>
    before    TEXT,             -- JSON; NULL: there was nothing, or it is not D1's
    after     TEXT              -- JSON; NULL: there is nothing any more
) WITHOUT ROWID;

CREATE INDEX audit_by_workspace ON audit (workspace, id);
