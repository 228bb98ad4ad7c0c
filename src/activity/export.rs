//! Activity rows as comma-separated values (RFC 4180) and as JSON lines.

use serde_json::Value;

/// A format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180, with a header line.
    Csv,
    /// One JSON object a line.
    Lines,
}

/// Columns: the name, and where in a row as the API shows it.
const COLUMNS: &[(&str, &str)] = &[
    ("id", "/id"),
    ("created_at", "/created_at"),
    ("key", "/key"),
    ("model_asked", "/model_asked"),
    ("model", "/model"),
    ("provider", "/provider"),
    ("dialect", "/dialect"),
    ("stream", "/stream"),
    ("status", "/status"),
    ("code", "/code"),
    ("ending", "/ending"),
    ("finish_reason", "/finish_reason"),
    ("prompt_tokens", "/prompt_tokens"),
    ("completion_tokens", "/completion_tokens"),
    ("usage", "/usage"),
    ("is_estimated", "/is_estimated"),
    ("cost", "/cost"),
    ("cost_nanos", "/cost_nanos"),
    ("paid_by", "/paid_by"),
    ("first_byte_ms", "/first_byte_ms"),
    ("total_ms", "/total_ms"),
    ("gateway_ms", "/gateway_ms"),
    ("session", "/session"),
    ("user", "/user"),
    ("app", "/app"),
    ("referer", "/referer"),
    ("trace_id", "/trace_id"),
    ("attempts", "/attempts"),
];

impl Format {
    /// The format that a query, else an `Accept` header, asks for; `None` is a page of JSON.
    pub fn asked(format: Option<&str>, accept: Option<&str>) -> Result<Option<Format>, &'static str> {
        match format {
            Some("csv") => return Ok(Some(Format::Csv)),
            Some("jsonl") => return Ok(Some(Format::Lines)),
            Some("json") => return Ok(None),
            Some(_) => return Err("must be json, csv or jsonl"),
            None => {}
        }
        let kinds = accept.unwrap_or_default().split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
        Ok(kinds
            .into_iter()
            .find_map(|kind| match kind {
                "text/csv" => Some(Some(Format::Csv)),
                "application/x-ndjson" | "application/jsonl" => Some(Some(Format::Lines)),
                "application/json" | "*/*" => Some(None),
                _ => None,
            })
            .flatten())
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Lines => "application/x-ndjson",
        }
    }

    /// What comes before the rows of activity.
    pub fn head(self) -> String {
        self.head_of(COLUMNS)
    }

    /// One row of activity.
    pub fn line(self, row: &Value, out: &mut String) {
        self.line_of(COLUMNS, row, out);
    }

    /// What comes before rows of such columns: each a name, and where in a row it stands.
    pub fn head_of(self, columns: &[(&str, &str)]) -> String {
        match self {
            Format::Csv => {
                let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
                format!("{}\r\n", names.join(","))
            }
            Format::Lines => String::new(),
        }
    }

    /// One row of such columns.
    pub fn line_of(self, columns: &[(&str, &str)], row: &Value, out: &mut String) {
        if self == Format::Lines {
            out.push_str(&row.to_string());
            out.push('\n');
            return;
        }
        for (at, (_, pointer)) in columns.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            match row.pointer(pointer) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => field(text, out),
                // No spreadsheet takes a number for a formula, also where it is below zero.
                Some(Value::Number(number)) => out.push_str(&number.to_string()),
                Some(other) => field(&other.to_string(), out),
            }
        }
        out.push_str("\r\n");
    }
}

/// A field; text that a spreadsheet would take for a formula gets an apostrophe before it.
fn field(text: &str, out: &mut String) {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !is_formula && !text.contains([',', '"', '\r', '\n']) {
        out.push_str(text);
        return;
    }
    out.push('"');
    if is_formula {
        out.push('\'');
    }
    out.push_str(&text.replace('"', "\"\""));
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_a_line() {
        let row = json!({"id": "gen_1", "key": "k", "user": "a,\"b\"\n", "app": "=HYPERLINK()", "status": 200, "usage": {"x": 1}});
        let (mut csv, mut lines) = (String::new(), String::new());
        Format::Csv.line(&row, &mut csv);
        Format::Lines.line(&row, &mut lines);
        assert_eq!(csv, "gen_1,,k,,,,,,200,,,,,,\"{\"\"x\"\":1}\",,,,,,,,,\"a,\"\"b\"\"\n\",\"'=HYPERLINK()\",,,\r\n");
        assert_eq!(serde_json::from_str::<Value>(lines.strip_suffix('\n').unwrap()).unwrap(), row);
        assert_eq!(Format::Csv.head().matches(',').count(), COLUMNS.len() - 1);
    }

    #[test]
    fn the_query_asks_before_the_header() {
        assert_eq!(Format::asked(Some("jsonl"), Some("text/csv")), Ok(Some(Format::Lines)));
        assert_eq!(Format::asked(Some("json"), Some("text/csv")), Ok(None));
        assert!(Format::asked(Some("xml"), None).is_err());
        assert_eq!(Format::asked(None, Some("text/csv;q=0.9, */*")), Ok(Some(Format::Csv)));
        assert_eq!(Format::asked(None, Some("*/*")), Ok(None));
        assert_eq!(Format::asked(None, None), Ok(None));
    }
}
