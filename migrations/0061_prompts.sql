-- Requests and answers of workspaces that keep them, sealed; see src/serve/prompts.rs.
CREATE TABLE prompts (
    workspace TEXT NOT NULL,
    id        TEXT NOT NULL,    -- gen_<ULID>
    at        INTEGER NOT NULL, -- milliseconds since the epoch
    until     INTEGER NOT NULL, -- when it is deleted
    read_at   INTEGER,          -- when somebody read it last
    sealed    TEXT NOT NULL,    -- base64
    PRIMARY KEY (workspace, id)
);

CREATE INDEX prompts_by_end ON prompts (until);
