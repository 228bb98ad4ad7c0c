-- Ledger entries that the journal of their workspace no longer holds, many in a row; see src/ledger/archive.rs.
CREATE TABLE ledger (
    workspace TEXT NOT NULL,
    first     INTEGER NOT NULL, -- number of the first journal row in it
    last      INTEGER NOT NULL, -- and of the last one
    entries   TEXT NOT NULL,    -- JSON: [[number, entry], …], oldest first
    PRIMARY KEY (workspace, first)
) WITHOUT ROWID;
