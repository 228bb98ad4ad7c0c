-- How a workspace's requests are routed, and its presets. Versions of a preset never change.

-- JSON: mode, channel, privacy, lists.
ALTER TABLE workspaces ADD COLUMN routing TEXT NOT NULL DEFAULT '{}';

CREATE TABLE presets (
    workspace  TEXT NOT NULL,
    slug       TEXT NOT NULL,
    version    INTEGER NOT NULL, -- the one in use
    created_at INTEGER NOT NULL,
    PRIMARY KEY (workspace, slug)
) WITHOUT ROWID;

CREATE TABLE preset_versions (
    workspace  TEXT NOT NULL,
    slug       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    preset     TEXT NOT NULL, -- JSON
    created_at INTEGER NOT NULL,
    PRIMARY KEY (workspace, slug, version)
) WITHOUT ROWID;
