//! The sums as they are written and read.

use crate::analytics::sketch::BUCKETS;
use crate::time::Millis;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// How long one sum reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// An hour (UTC).
    Hour,
    /// A day (UTC).
    Day,
}

impl Span {
    /// Every span.
    pub const ALL: [Span; 2] = [Span::Hour, Span::Day];

    /// Its name in queries and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Span::Hour => "hour",
            Span::Day => "day",
        }
    }

    /// Its length in milliseconds.
    pub fn ms(self) -> u64 {
        match self {
            Span::Hour => HOUR_MS,
            Span::Day => DAY_MS,
        }
    }

    /// When the span that holds a moment began.
    pub fn start(self, at: Millis) -> Millis {
        Millis(at.0.saturating_sub(at.0 % self.ms()))
    }

    /// The longest range of one answer, in milliseconds.
    pub fn range_ms_max(self) -> u64 {
        match self {
            Span::Hour => 8 * DAY_MS,
            Span::Day => 400 * DAY_MS,
        }
    }
}

/// What sums are grouped by: names in queries, and columns.
pub const GROUPS: &[&str] = &["model", "provider", "key", "app"];

fn each_bucket(write: impl Fn(usize) -> String) -> String {
    (0..BUCKETS).map(write).collect::<Vec<_>>().join(", ")
}

/// Adds the rows of `?2` (the list of sums of a [`Batch`](crate::analytics::batch::Batch)) of the workspace `?1` that are
/// not in D1 yet. Has to run in one batch with their insertion, and before it.
pub fn count_statement() -> String {
    let fields = ["hour", "day", "model", "provider", "key", "app", "failed", "prompt", "completion", "cost", "bucket"];
    let fields = fields.map(|name| format!("value ->> '{name}' AS {name}")).join(", ");
    let sums = each_bucket(|bucket| format!("sum(bucket = {bucket})"));
    let of = |span: Span| {
        let name = span.name();
        format!(
            "SELECT ?1, '{name}', {name}, model, provider, key, app, count(*), sum(failed), sum(prompt), sum(completion), \
             sum(cost), {sums} FROM fresh GROUP BY {name}, model, provider, key, app"
        )
    };
    let columns = ["requests", "failures", "prompt_tokens", "completion_tokens", "cost_nanos"].join(", ");
    let added = ["requests", "failures", "prompt_tokens", "completion_tokens", "cost_nanos"]
        .map(|name| format!("{name} = {name} + excluded.{name}"))
        .join(", ");
    format!(
        "WITH fresh AS MATERIALIZED (SELECT {fields} FROM json_each(?2) WHERE NOT EXISTS \
         (SELECT 1 FROM activity WHERE workspace = ?1 AND id = value ->> 'id')) \
         INSERT INTO rollups (workspace, span, start, model, provider, key, app, {columns}, {}) \
         SELECT * FROM ({} UNION ALL {}) WHERE true \
         ON CONFLICT DO UPDATE SET {added}, {}",
        each_bucket(|bucket| format!("h{bucket}")),
        of(Span::Hour),
        of(Span::Day),
        each_bucket(|bucket| format!("h{bucket} = h{bucket} + excluded.h{bucket}")),
    )
}

/// Sums of the workspace `?1` in spans `?2` that begin from `?3` to before `?4`, by `group` where there is one, and of the
/// `filters` (columns; their values follow), at most `?5`.
pub fn read_statement(group: Option<&str>, filters: &[&str]) -> String {
    let sums = each_bucket(|bucket| format!("sum(h{bucket}) AS h{bucket}"));
    let (name, by) = match group {
        Some(group) => (format!("{group} AS name, "), format!(", {group}")),
        None => (String::new(), String::new()),
    };
    let filters: String =
        filters.iter().enumerate().map(|(at, column)| format!(" AND {column} = ?{}", at.saturating_add(6))).collect();
    format!(
        "SELECT start, {name}sum(requests) AS requests, sum(failures) AS failures, sum(prompt_tokens) AS prompt_tokens, \
         sum(completion_tokens) AS completion_tokens, sum(cost_nanos) AS cost_nanos, {sums} FROM rollups \
         WHERE workspace = ?1 AND span = ?2 AND start >= ?3 AND start < ?4{filters} GROUP BY start{by} ORDER BY start{by} LIMIT ?5"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_begins_where_the_clock_says() {
        let at = Millis::from_rfc3339("2026-11-25T13:59:59.999Z").unwrap();
        assert_eq!(
            Span::Hour.start(at).to_rfc3339(),
            Millis::from_rfc3339("2026-11-25T13:00:00Z").unwrap().to_rfc3339()
        );
        assert_eq!(
            Span::Day.start(at).to_rfc3339(),
            Millis::from_rfc3339("2026-11-25T00:00:00Z").unwrap().to_rfc3339()
        );
    }

    #[test]
    fn statements_stay_within_what_d1_takes() {
        assert!(count_statement().len() < 20_000);
        assert!(
            read_statement(Some("model"), GROUPS)
                .ends_with("AND app = ?9 GROUP BY start, model ORDER BY start, model LIMIT ?5")
        );
        assert!(read_statement(None, &[]).ends_with("AND start < ?4 GROUP BY start ORDER BY start LIMIT ?5"));
    }
}
