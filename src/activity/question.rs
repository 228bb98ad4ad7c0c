//! Which activity rows are asked for: filters, a time range and a place to go on from, as SQL over the table and as a test on
//! one row. Both follow one table of fields, so that rows which are not in D1 yet are chosen like the others.
//!
//! Rows lie in the order of their ids, which begin with the time of arrival; a time range is a range of ids. Other filters
//! look at each row of the range, at most [`SCAN_ROWS`] a page: an index for each would be one more row written a request.

use serde_json::Value;

use crate::id::RequestId;
use crate::money::{Nanos, plain};
use crate::time::Millis;

/// Most rows looked at for one page.
pub const SCAN_ROWS: u64 = 8_000;
/// Most values of all filters together.
const VALUES_MAX: usize = 20;
/// Longest value, in bytes.
const VALUE_BYTES_MAX: usize = 256;

/// What a field holds, and so how it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text, by equality.
    Text,
    /// A whole number, by equality and with `_min` and `_max`.
    Number,
    /// Yes or no.
    Flag,
    /// A bucket of usage, as a number: none where usage is known and does not name it.
    Bucket,
}

impl Kind {
    /// Whether it can lie between two.
    const fn is_number(self) -> bool {
        matches!(self, Kind::Number | Kind::Bucket)
    }
}

/// A field: its name in a query, in SQL, and as a pointer into the stored row.
struct Field(&'static str, Kind, &'static str, &'static str);

macro_rules! buckets {
    ($($name:literal),* $(,)?) => {
        /// Tokens by bucket, as [`crate::usage::Meter`] names them.
        const BUCKETS: &[Field] = &[$(Field(
            $name,
            Kind::Bucket,
            concat!("iif(row ->> '$.usage' IS NULL, NULL, coalesce(row ->> '$.usage.", $name, "', 0))"),
            concat!("/usage/", $name),
        ),)*];
    };
}

buckets! {
    "input_tokens", "cache_read_tokens", "cache_write_tokens", "input_audio_tokens", "input_image_tokens",
    "output_tokens", "reasoning_tokens", "output_audio_tokens", "output_image_tokens",
}

/// All of them.
fn fields() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().chain(BUCKETS)
}

/// The names of all filters, those with `_min` and `_max` too.
pub fn names() -> Vec<String> {
    let of = |field: &Field| {
        let bounds = if field.1.is_number() { vec!["", "_min", "_max"] } else { vec![""] };
        bounds.into_iter().map(|bound| format!("{}{bound}", field.0)).collect::<Vec<_>>()
    };
    fields().flat_map(of).collect()
}

const FIELDS: &[Field] = &[
    Field("id", Kind::Text, "id", "/id"),
    Field("key", Kind::Text, "key", "/key"),
    Field("model", Kind::Text, "model", "/model"),
    Field("provider", Kind::Text, "provider", "/provider"),
    Field("status", Kind::Number, "status", "/status"),
    Field("ending", Kind::Text, "ending", "/ending"),
    Field("model_asked", Kind::Text, "row ->> '$.model_asked'", "/model_asked"),
    Field("dialect", Kind::Text, "row ->> '$.dialect'", "/dialect"),
    Field("code", Kind::Text, "row ->> '$.code'", "/code"),
    Field("finish_reason", Kind::Text, "row ->> '$.finish_reason'", "/finish_reason"),
    Field("paid_by", Kind::Text, "row ->> '$.paid_by'", "/paid_by"),
    Field("session", Kind::Text, "row ->> '$.session'", "/session"),
    Field("user", Kind::Text, "row ->> '$.user'", "/user"),
    Field("app", Kind::Text, "row ->> '$.origin.app'", "/origin/app"),
    Field("referer", Kind::Text, "row ->> '$.origin.referer'", "/origin/referer"),
    Field("trace_id", Kind::Text, "row ->> '$.origin.trace.id'", "/origin/trace/id"),
    Field("stream", Kind::Flag, "row ->> '$.stream'", "/stream"),
    Field("is_estimated", Kind::Flag, "row ->> '$.is_estimated'", "/is_estimated"),
    Field("first_byte_ms", Kind::Number, "row ->> '$.first_byte_ms'", "/first_byte_ms"),
    Field("total_ms", Kind::Number, "row ->> '$.total_ms'", "/total_ms"),
    Field("gateway_ms", Kind::Number, "row ->> '$.gateway_ms'", "/gateway_ms"),
    Field("prompt_tokens", Kind::Number, "prompt_tokens", "/prompt_tokens"),
    Field("completion_tokens", Kind::Number, "completion_tokens", "/completion_tokens"),
    Field("cost", Kind::Number, "cost_nanos", "/cost_nanos"),
];

/// Parameters of the list that are no filter.
const OTHERS: &[&str] = &["limit", "cursor", "format", "since", "until"];

/// A value to compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// Text.
    Text(String),
    /// A whole number; cost in nano-dollars, a flag as 1 or 0.
    Number(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Equal,
    AtLeast,
    AtMost,
}

/// One condition; of several values one has to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    field: usize,
    relation: Relation,
    values: Vec<Operand>,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question {
    filters: Vec<Filter>,
    /// The first id that is meant.
    from: String,
    /// The first id that is not meant any more.
    before: String,
}

/// A parameter that makes no sense, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclear(pub String, pub String);

/// The least id of a moment.
pub fn first_id(at: Millis) -> String {
    RequestId::new(at, [0; 10]).as_str().to_owned()
}

impl Question {
    /// From decoded parameters. One that is neither a filter nor a word of the list is refused: a filter that was ignored
    /// would answer another question.
    pub fn parse(pairs: &[(String, String)]) -> Result<Question, Unclear> {
        let mut question = Question { filters: Vec::new(), from: String::new(), before: "gen_~".to_owned() };
        let mut count = 0usize;
        for (name, value) in pairs {
            let unclear = |why: &str| Unclear(name.clone(), why.to_owned());
            if value.len() > VALUE_BYTES_MAX {
                return Err(unclear("is longer than 256 bytes"));
            }
            let moment = || Millis::from_rfc3339(value).ok_or_else(|| unclear("must be a moment in RFC 3339"));
            match name.as_str() {
                "since" => question.from = first_id(moment()?),
                "until" => question.before = question.before.min(first_id(moment()?)),
                "cursor" => {
                    let id = RequestId::parse(value).ok_or_else(|| unclear("is not a cursor of this list"))?;
                    question.before = question.before.min(id.as_str().to_owned());
                }
                other if OTHERS.contains(&other) => {}
                _ => {
                    count = count.saturating_add(1);
                    if count > VALUES_MAX {
                        return Err(unclear("is one filter too many: there may be 20 values"));
                    }
                    question.add(name, value)?;
                }
            }
        }
        Ok(question)
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), Unclear> {
        let unclear = |why: &str| Unclear(name.to_owned(), why.to_owned());
        let place = |name: &str| fields().position(|field| field.0 == name);
        let bound = |suffix: &str, relation| {
            let field = place(name.strip_suffix(suffix)?)?;
            fields().nth(field).filter(|field| field.1.is_number()).map(|_| (field, relation))
        };
        let (field, relation) = place(name)
            .map(|field| (field, Relation::Equal))
            .or_else(|| bound("_min", Relation::AtLeast))
            .or_else(|| bound("_max", Relation::AtMost))
            .ok_or_else(|| unclear("is not a parameter of this list"))?;
        let kind = fields().nth(field).map_or(Kind::Text, |field| field.1);
        let operand = match (kind, name.starts_with("cost"), value) {
            (Kind::Text, _, text) => Operand::Text(text.to_owned()),
            (Kind::Number | Kind::Bucket, true, text) => {
                Operand::Number(Nanos::from_dollars(&plain(text)).map_err(|error| unclear(&error.to_string()))?.0)
            }
            (Kind::Number | Kind::Bucket, false, text) => {
                Operand::Number(text.parse().map_err(|_| unclear("must be a whole number"))?)
            }
            (Kind::Flag, _, "true") => Operand::Number(1),
            (Kind::Flag, _, "false") => Operand::Number(0),
            (Kind::Flag, ..) => return Err(unclear("must be true or false")),
        };
        match self.filters.iter_mut().find(|filter| (filter.field, filter.relation) == (field, relation)) {
            Some(filter) if relation == Relation::Equal => filter.values.push(operand),
            Some(_) => return Err(unclear("is there twice")),
            None => self.filters.push(Filter { field, relation, values: vec![operand] }),
        }
        Ok(())
    }

    /// Whether every row of the range is meant.
    pub fn is_plain(&self) -> bool {
        self.filters.is_empty()
    }

    /// The range of ids: from the first, to before the second.
    pub fn range(&self) -> (&str, &str) {
        (&self.from, &self.before)
    }

    /// The same for what comes after that id in the list.
    #[must_use]
    pub fn after(&self, id: &str) -> Question {
        Question { before: self.before.clone().min(id.to_owned()), ..self.clone() }
    }

    /// The statement of a page, newest first, and its values after the four that are always there: workspace, first id,
    /// id before which to end, and how many rows at most.
    pub fn statement(&self) -> (String, Vec<Operand>) {
        let range = "FROM activity WHERE workspace = ?1 AND id >= ?2 AND id < ?3 ORDER BY id DESC";
        if self.is_plain() {
            return (format!("SELECT id, cost_nanos, row {range} LIMIT ?4"), Vec::new());
        }
        let mut values = Vec::new();
        let mut terms = Vec::new();
        for filter in &self.filters {
            let Some(field) = fields().nth(filter.field) else { continue };
            let mut marks = Vec::new();
            for value in &filter.values {
                values.push(value.clone());
                marks.push(format!("?{}", values.len().saturating_add(4)));
            }
            let marks = marks.join(", ");
            terms.push(match filter.relation {
                Relation::Equal => format!("{} IN ({marks})", field.2),
                Relation::AtLeast => format!("{} >= {marks}", field.2),
                Relation::AtMost => format!("{} <= {marks}", field.2),
            });
        }
        let statement = format!(
            "SELECT id, cost_nanos, row FROM (SELECT * {range} LIMIT {SCAN_ROWS}) WHERE {} ORDER BY id DESC LIMIT ?4",
            terms.join(" AND ")
        );
        (statement, values)
    }

    /// Whether a row (its stored form with `cost_nanos`, `prompt_tokens` and `completion_tokens`) is meant.
    pub fn holds(&self, id: &str, row: &Value) -> bool {
        let fits = |filter: &Filter| {
            let field = fields().nth(filter.field);
            let found = field.and_then(|field| row.pointer(field.3));
            let number = found.and_then(|value| value.as_i64().or_else(|| value.as_bool().map(i64::from)));
            let is_none =
                || field.is_some_and(|field| field.1 == Kind::Bucket) && row.get("usage").is_some_and(Value::is_object);
            let number = number.or_else(|| is_none().then_some(0));
            filter.values.iter().any(|value| match (value, filter.relation) {
                (Operand::Text(text), _) => found.and_then(Value::as_str) == Some(text),
                (Operand::Number(wanted), Relation::Equal) => number == Some(*wanted),
                (Operand::Number(least), Relation::AtLeast) => number.is_some_and(|number| number >= *least),
                (Operand::Number(most), Relation::AtMost) => number.is_some_and(|number| number <= *most),
            })
        };
        id >= self.from.as_str() && id < self.before.as_str() && self.filters.iter().all(fits)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask(pairs: &[(&str, &str)]) -> Result<Question, Unclear> {
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Question::parse(&pairs)
    }

    #[test]
    fn a_question_is_a_statement_over_a_bounded_part_of_the_range() {
        assert_eq!(
            ask(&[]).unwrap().statement().0,
            "SELECT id, cost_nanos, row FROM activity WHERE workspace = ?1 AND id >= ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4"
        );
        let question = ask(&[("model", "a/b"), ("app", "x"), ("model", "c/d"), ("cost_min", "0.5")]).unwrap();
        let (statement, values) = question.statement();
        assert!(
            statement.ends_with(
                "LIMIT 8000) WHERE model IN (?5, ?6) AND row ->> '$.origin.app' IN (?7) AND cost_nanos >= ?8 ORDER BY id DESC LIMIT ?4"
            ),
            "{statement}"
        );
        assert_eq!(values.len(), 4);
        assert_eq!(values.last(), Some(&Operand::Number(500_000_000)));
    }

    #[test]
    fn every_field_chooses_one_row_and_not_another() {
        let row = json!({
            "key": "k", "model": "a/b", "provider": "p", "status": 200, "ending": "finished", "model_asked": "b",
            "dialect": "chat", "code": "c", "finish_reason": "stop", "paid_by": "credits", "session": "s", "user": "u",
            "origin": {"app": "x", "referer": "r", "trace": {"id": "t"}}, "stream": true, "is_estimated": false,
            "first_byte_ms": 5, "total_ms": 9, "gateway_ms": 1, "prompt_tokens": 3, "completion_tokens": 4,
            "cost_nanos": 7, "id": "gen_1", "usage": {
                "input_tokens": 1, "cache_read_tokens": 2, "cache_write_tokens": 3, "input_audio_tokens": 4,
                "input_image_tokens": 5, "output_tokens": 6, "reasoning_tokens": 7, "output_audio_tokens": 8,
                "output_image_tokens": 9,
            },
        });
        for Field(name, kind, _, pointer) in fields() {
            let found = row.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
            let (same, other) = match (*name, kind) {
                ("cost", _) => ("0.000000007".to_owned(), "1".to_owned()),
                (_, Kind::Text) => (found.as_str().unwrap().to_owned(), "other".to_owned()),
                (_, Kind::Number | Kind::Bucket) => (found.to_string(), "777777".to_owned()),
                (_, Kind::Flag) => (found.to_string(), (!found.as_bool().unwrap()).to_string()),
            };
            assert!(ask(&[(name, &same)]).unwrap().holds("gen_1", &row), "{name}");
            assert!(!ask(&[(name, &other)]).unwrap().holds("gen_1", &row), "{name}");
            assert!(!ask(&[(name, &same)]).unwrap().holds("gen_1", &json!({})), "{name}");
            if kind.is_number() {
                let bound = |suffix: &str| format!("{name}{suffix}");
                assert!(ask(&[(&bound("_min"), &same), (&bound("_max"), &same)]).unwrap().holds("gen_1", &row));
                assert!(!ask(&[(&bound("_min"), &other)]).unwrap().holds("gen_1", &row), "{name}");
            }
        }
    }

    #[test]
    fn a_bucket_that_usage_does_not_name_is_none_and_usage_that_nobody_knows_is_not() {
        let none = ask(&[("cache_read_tokens_max", "0")]).unwrap();
        assert!(none.holds("gen_1", &json!({"usage": {"input_tokens": 5}})));
        assert!(!none.holds("gen_1", &json!({"usage": {"cache_read_tokens": 1}})));
        assert!(!none.holds("gen_1", &json!({"usage": null})) && !none.holds("gen_1", &json!({})));
        for Field(name, ..) in BUCKETS {
            assert!(crate::usage::Meter::from_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_range_of_time_is_a_range_of_ids() {
        let question = ask(&[("since", "2026-11-25T00:00:00Z"), ("until", "2026-11-26T00:00:00Z")]).unwrap();
        let at = |text: &str| first_id(Millis::from_rfc3339(text).unwrap());
        assert!(question.holds(&at("2026-11-25T00:00:00Z"), &json!({})));
        assert!(question.holds(&at("2026-11-25T23:59:59.999Z"), &json!({})));
        assert!(!question.holds(&at("2026-11-24T23:59:59.999Z"), &json!({})));
        assert!(!question.holds(&at("2026-11-26T00:00:00Z"), &json!({})));
        let later = question.after(&at("2026-11-25T12:00:00Z"));
        assert!(!later.holds(&at("2026-11-25T12:00:00Z"), &json!({})));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (name, value) in [
            ("colour", "red"),
            ("model_min", "a"),
            ("status", "ok"),
            ("stream", "yes"),
            ("since", "yesterday"),
            ("cursor", "gen_1"),
            ("cost_min", "a lot"),
            ("user", &"u".repeat(257)),
        ] {
            assert_eq!(ask(&[(name, value)]).unwrap_err().0, name);
        }
        assert!(ask(&[("total_ms_min", "1"), ("total_ms_min", "2")]).is_err());
        assert!(ask(&vec![("user", "u"); 20]).is_ok());
        assert!(ask(&vec![("user", "u"); 21]).is_err());
    }
}
