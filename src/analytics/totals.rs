//! Sums over all workspaces and all time, by provider and code: what monitoring asks for. Written by the flush, like
//! [`crate::analytics::rollup`], so a request writes nothing more.

use crate::analytics::sketch::BUCKETS;

/// Columns that are summed, buckets besides.
const SUMS: [&str; 6] = ["requests", "attempts", "prompt_tokens", "completion_tokens", "cost_nanos", "total_ms"];

fn each_bucket(write: impl Fn(usize) -> String) -> String {
    (0..BUCKETS).map(write).collect::<Vec<_>>().join(", ")
}

/// Adds the rows of `?2` (the list of sums of a [`Batch`](crate::analytics::batch::Batch)) of the workspace `?1` that are not in D1
/// yet. Has to run in one batch with their insertion, and before it.
pub fn count_statement() -> String {
    let columns = SUMS.join(", ");
    let added = SUMS.map(|name| format!("{name} = {name} + excluded.{name}")).join(", ");
    format!(
        "WITH fresh AS MATERIALIZED (SELECT value FROM json_each(?2) WHERE NOT EXISTS \
         (SELECT 1 FROM activity WHERE workspace = ?1 AND id = value ->> 'id')), \
         parts AS (SELECT value ->> 'last' AS provider, value ->> 'code' AS code, 1 AS requests, 0 AS attempts, \
         value ->> 'prompt' AS prompt_tokens, value ->> 'completion' AS completion_tokens, value ->> 'cost' AS cost_nanos, \
         value ->> 'ms' AS total_ms, value ->> 'bucket' AS bucket FROM fresh \
         UNION ALL SELECT a.value ->> 0, a.value ->> 1, 0, 1, 0, 0, 0, 0, -1 \
         FROM fresh, json_each(fresh.value, '$.attempts') AS a) \
         INSERT INTO totals (provider, code, {columns}, {}) \
         SELECT provider, code, {}, {} FROM parts WHERE true GROUP BY provider, code \
         ON CONFLICT DO UPDATE SET {added}, {}",
        each_bucket(|bucket| format!("h{bucket}")),
        SUMS.map(|name| format!("sum({name})")).join(", "),
        each_bucket(|bucket| format!("sum(bucket = {bucket})")),
        each_bucket(|bucket| format!("h{bucket} = h{bucket} + excluded.h{bucket}")),
    )
}

/// All of them.
pub const READ: &str = "SELECT * FROM totals ORDER BY provider, code";
