-- Sums of activity rows over everything and all time, for the operator's metrics: kept by the batch that brings the rows.
-- `h0` to `h39` as in `rollups`.
CREATE TABLE totals (
    provider          TEXT NOT NULL,    -- '' where nobody was asked
    code              TEXT NOT NULL,    -- '' where it did not fail
    requests          INTEGER NOT NULL, -- that ended there, so
    attempts          INTEGER NOT NULL, -- calls of the provider that ended so
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost_nanos        INTEGER NOT NULL,
    total_ms          INTEGER NOT NULL,
    h0 INTEGER NOT NULL, h1 INTEGER NOT NULL, h2 INTEGER NOT NULL, h3 INTEGER NOT NULL, h4 INTEGER NOT NULL,
    h5 INTEGER NOT NULL, h6 INTEGER NOT NULL, h7 INTEGER NOT NULL, h8 INTEGER NOT NULL, h9 INTEGER NOT NULL,
    h10 INTEGER NOT NULL, h11 INTEGER NOT NULL, h12 INTEGER NOT NULL, h13 INTEGER NOT NULL, h14 INTEGER NOT NULL,
    h15 INTEGER NOT NULL, h16 INTEGER NOT NULL, h17 INTEGER NOT NULL, h18 INTEGER NOT NULL, h19 INTEGER NOT NULL,
    h20 INTEGER NOT NULL, h21 INTEGER NOT NULL, h22 INTEGER NOT NULL, h23 INTEGER NOT NULL, h24 INTEGER NOT NULL,
    h25 INTEGER NOT NULL, h26 INTEGER NOT NULL, h27 INTEGER NOT NULL, h28 INTEGER NOT NULL, h29 INTEGER NOT NULL,
    h30 INTEGER NOT NULL, h31 INTEGER NOT NULL, h32 INTEGER NOT NULL, h33 INTEGER NOT NULL, h34 INTEGER NOT NULL,
    h35 INTEGER NOT NULL, h36 INTEGER NOT NULL, h37 INTEGER NOT NULL, h38 INTEGER NOT NULL, h39 INTEGER NOT NULL,
    PRIMARY KEY (provider, code)
) WITHOUT ROWID;
