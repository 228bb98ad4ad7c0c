-- The list of a workspace's jobs: what their objects say of them at begin and end, without prompt or output.
CREATE TABLE jobs (
  id TEXT PRIMARY KEY,
  workspace TEXT NOT NULL,
  kind TEXT NOT NULL,
  front TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  status TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;
CREATE INDEX jobs_of_workspace ON jobs (workspace, kind, id);
