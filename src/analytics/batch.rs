//! What a flush brings to D1: the rows, and what of them counts. Both are lists in JSON, written as they are read: a row
//! is three kilobytes, of which a sum needs a dozen fields, so the rest is passed on without being understood.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::analytics::rollup::Span;
use crate::analytics::sketch;
use crate::ledger::ending::Ending;
use crate::time::Millis;
use crate::usage::Usage;

/// Inserts the rows of `?2` (see [`Batch::into_lists`]) of the workspace `?1`; those that are there already stay as they are.
pub const INSERT: &str = "INSERT OR IGNORE INTO activity \
    (workspace, id, at, key, model, provider, status, ending, cost_nanos, prompt_tokens, completion_tokens, row) \
    SELECT ?1, value ->> 'id', value ->> 'at', value ->> 'key', value ->> 'model', value ->> 'provider', \
    value ->> 'status', value ->> 'ending', value ->> 'cost_nanos', value ->> 'prompt_tokens', \
    value ->> 'completion_tokens', value ->> 'row' FROM json_each(?2)";

/// What of a stored [`Row`](crate::activity::row::Row) is a column or counts.
#[derive(Debug, Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    at: u64,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    model_asked: Cow<'a, str>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    provider: Option<String>,
    status: u16,
    #[serde(default)]
    code: Option<String>,
    ending: Ending,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    attempts: Vec<Attempt>,
    #[serde(default)]
    total_ms: u64,
    #[serde(default)]
    origin: Origin,
}

#[derive(Debug, Deserialize)]
struct Attempt {
    provider: String,
    #[serde(default)]
    code: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Origin {
    #[serde(default)]
    app: Option<String>,
}

/// What of a row counts, for [`rollup`](crate::analytics::rollup::count_statement) and [`totals`](crate::analytics::totals::count_statement).
#[derive(Serialize)]
struct Counted<'a> {
    id: &'a str,
    hour: u64,
    day: u64,
    model: &'a str,
    provider: &'a str,
    key: &'a str,
    app: &'a str,
    failed: u8,
    code: &'a str,
    /// Who served, else who failed last; empty where nobody was asked.
    last: &'a str,
    /// Each as provider and code.
    attempts: Vec<(&'a str, &'a str)>,
    ms: u64,
    prompt: u64,
    completion: u64,
    cost: i64,
    bucket: usize,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    at: u64,
    key: &'a str,
    model: Option<&'a str>,
    provider: Option<&'a str>,
    status: u16,
    ending: &'a Ending,
    cost_nanos: i64,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    row: &'a RawValue,
}

/// Rows on their way.
#[derive(Debug, Default)]
pub struct Batch {
    rows: Vec<u8>,
    sums: Vec<u8>,
}

fn append<T: Serialize>(list: &mut Vec<u8>, item: &T) {
    list.push(if list.is_empty() { b'[' } else { b',' });
    // Writing into memory fails for no value of these types.
    let _ = serde_json::to_writer(list, item);
}

fn closed(mut list: Vec<u8>) -> String {
    if list.is_empty() {
        list.push(b'[');
    }
    list.push(b']');
    String::from_utf8(list).unwrap_or_default()
}

impl Batch {
    /// Adds a row that cost so many nano-dollars. One that cannot be read is left out.
    pub fn push(&mut self, row: &RawValue, cost_nanos: i64) {
        let Ok(told) = crate::json::from_str::<Told<'_>>(row.get()) else { return };
        let attempts: Vec<(&str, &str)> = told
            .attempts
            .iter()
            .map(|attempt| (attempt.provider.as_str(), attempt.code.as_deref().unwrap_or_default()))
            .collect();
        let (model, provider) = (told.model.as_deref(), told.provider.as_deref());
        let (prompt, completion) = match &told.usage {
            Some(usage) => (Some(usage.prompt_tokens()), Some(usage.completion_tokens())),
            None => (None, None),
        };
        let counted = Counted {
            id: &told.id,
            hour: Span::Hour.start(Millis(told.at)).0,
            day: Span::Day.start(Millis(told.at)).0,
            model: model.unwrap_or(&told.model_asked),
            provider: provider.unwrap_or_default(),
            key: &told.key,
            app: told.origin.app.as_deref().unwrap_or_default(),
            failed: u8::from(told.code.is_some()),
            code: told.code.as_deref().unwrap_or_default(),
            last: provider.or_else(|| attempts.last().map(|(provider, _)| *provider)).unwrap_or_default(),
            attempts,
            ms: told.total_ms,
            prompt: prompt.unwrap_or(0),
            completion: completion.unwrap_or(0),
            cost: cost_nanos,
            bucket: sketch::bucket(told.total_ms),
        };
        append(&mut self.sums, &counted);
        let line = Line {
            id: &told.id,
            at: told.at,
            key: &told.key,
            model,
            provider,
            status: told.status,
            ending: &told.ending,
            cost_nanos,
            prompt_tokens: prompt,
            completion_tokens: completion,
            row,
        };
        append(&mut self.rows, &line);
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its rows in bytes.
    pub fn bytes(&self) -> usize {
        self.rows.len()
    }

    /// What counts, and the rows: the lists of the statements.
    pub fn into_lists(self) -> (String, String) {
        (closed(self.sums), closed(self.rows))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::activity::row::Row;

    fn raw(row: &Row) -> Box<RawValue> {
        serde_json::value::to_raw_value(row).unwrap()
    }

    #[test]
    fn what_counts_of_a_row_and_what_is_stored() {
        let row = Row::expired("gen_1", "key_1", "a/b", 7_200_001, 7);
        let mut batch = Batch::default();
        assert!(batch.is_empty());
        batch.push(&raw(&row), 5);
        batch.push(RawValue::NULL, 6);
        let mut served =
            Row { model: Some("a/c".to_owned()), provider: Some("p".to_owned()), code: None, ..row.clone() };
        served.origin.app = Some("an \"app\"".to_owned());
        batch.push(&raw(&served), 0);
        let (sums, rows) = batch.into_lists();
        let [sums, rows]: [Vec<Value>; 2] = [sums, rows].map(|list| serde_json::from_str(&list).unwrap());
        assert_eq!((sums.len(), rows.len()), (2, 2));
        assert_eq!(
            sums[0],
            json!({"id": "gen_1", "hour": 7_200_000, "day": 0, "model": "a/b", "provider": "", "key": "key_1", "app": "",
                "failed": 1, "code": "provider_timeout", "last": "", "attempts": [], "ms": 0, "prompt": 0, "completion": 0, "cost": 5, "bucket": 0})
        );
        assert_eq!([&sums[1]["model"], &sums[1]["last"], &sums[1]["app"]], ["a/c", "p", "an \"app\""]);
        assert_eq!(
            rows[0],
            json!({"id": "gen_1", "at": 7_200_001, "key": "key_1", "model": null, "provider": null, "status": 504, "ending": "expired",
                "cost_nanos": 5, "prompt_tokens": null, "completion_tokens": null, "row": serde_json::to_value(&row).unwrap()})
        );
        assert_eq!(Batch::default().into_lists(), ("[]".to_owned(), "[]".to_owned()));
    }

    #[test]
    fn an_attempt_that_failed_last_is_told() {
        let row = r#"{"id":"g","at":1,"key":"k","model_asked":"m","status":502,"ending":"attempts_failed","code":"provider_error","usage":{"input_tokens":3,"output_tokens":2},
            "attempts":[{"provider":"a","upstream":"u","code":"busy","start_ms":1,"ms":2},{"provider":"b","upstream":"u","start_ms":1,"ms":2}]}"#;
        let mut batch = Batch::default();
        batch.push(&serde_json::from_str::<Box<RawValue>>(row).unwrap(), 1);
        let sums: Vec<Value> = serde_json::from_str(&batch.into_lists().0).unwrap();
        assert_eq!(sums[0]["attempts"], json!([["a", "busy"], ["b", ""]]));
        assert_eq!((&sums[0]["last"], &sums[0]["prompt"], &sums[0]["completion"]), (&json!("b"), &json!(3), &json!(2)));
    }
}
