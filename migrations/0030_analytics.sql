-- Sums of activity rows by hour and by day, written by the same batch that brings the rows, so each row counts once. `h0` to
-- `h39` count answers by their whole time: each bucket ends at the square root of two times the end of the one before.
CREATE TABLE rollups (
    workspace         TEXT NOT NULL,
    span              TEXT NOT NULL,    -- hour, day
    start             INTEGER NOT NULL, -- milliseconds since the epoch
    model             TEXT NOT NULL,    -- what served, else what was asked for
    provider          TEXT NOT NULL,    -- '' where nobody served
    key               TEXT NOT NULL,
    app               TEXT NOT NULL,    -- '' where none was named
    requests          INTEGER NOT NULL,
    failures          INTEGER NOT NULL, -- those that ended with an error code
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost_nanos        INTEGER NOT NULL,
    h0 INTEGER NOT NULL, h1 INTEGER NOT NULL, h2 INTEGER NOT NULL, h3 INTEGER NOT NULL, h4 INTEGER NOT NULL,
    h5 INTEGER NOT NULL, h6 INTEGER NOT NULL, h7 INTEGER NOT NULL, h8 INTEGER NOT NULL, h9 INTEGER NOT NULL,
    h10 INTEGER NOT NULL, h11 INTEGER NOT NULL, h12 INTEGER NOT NULL, h13 INTEGER NOT NULL, h14 INTEGER NOT NULL,
    h15 INTEGER NOT NULL, h16 INTEGER NOT NULL, h17 INTEGER NOT NULL, h18 INTEGER NOT NULL, h19 INTEGER NOT NULL,
    h20 INTEGER NOT NULL, h21 INTEGER NOT NULL, h22 INTEGER NOT NULL, h23 INTEGER NOT NULL, h24 INTEGER NOT NULL,
    h25 INTEGER NOT NULL, h26 INTEGER NOT NULL, h27 INTEGER NOT NULL, h28 INTEGER NOT NULL, h29 INTEGER NOT NULL,
    h30 INTEGER NOT NULL, h31 INTEGER NOT NULL, h32 INTEGER NOT NULL, h33 INTEGER NOT NULL, h34 INTEGER NOT NULL,
    h35 INTEGER NOT NULL, h36 INTEGER NOT NULL, h37 INTEGER NOT NULL, h38 INTEGER NOT NULL, h39 INTEGER NOT NULL,
    PRIMARY KEY (workspace, span, start, model, provider, key, app)
) WITHOUT ROWID;

-- Days after which activity rows are swept; NULL is the gateway's own setting.
ALTER TABLE workspaces ADD COLUMN retention_days INTEGER;
