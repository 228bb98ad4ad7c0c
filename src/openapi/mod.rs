//! The OpenAPI 3.1 document: `api.txt` says what each endpoint takes and gives, the table of endpoints who may call it, and
//! the table of errors what may go wrong. The tests hold the first against the other two, and against every answer that
//! the Worker tests see.

pub mod headers;
pub mod notation;

use serde_json::{Map, Value, json};

use crate::error::Code;
use crate::openapi::notation::{Interface, Operation, Unclear};
use crate::serve::{Caller, Cost, Does, ENDPOINTS, Endpoint};

const API: &str = include_str!("api.txt");

/// Statuses that any endpoint may answer with: a method or path that does not exist is none of them.
const ANY: &[u16] = &[400, 500, 503];

/// The interface as it is written down.
pub fn interface() -> Result<Interface, Unclear> {
    notation::parse(API)
}

/// The document as JSON text.
pub fn document() -> Result<String, Unclear> {
    let interface = interface()?;
    let mut paths: Map<String, Value> = Map::new();
    for operation in &interface.operations {
        let row = ENDPOINTS.iter().find(|row| row.method == operation.method && plain(row.path) == operation.path);
        let row = row.ok_or_else(|| Unclear(format!("{} {}", operation.method, operation.path)))?;
        let path = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.to_ascii_lowercase(), described(operation, row));
        }
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "AI Stats Gateway", "version": env!("CARGO_PKG_VERSION"),
            "description": "One surface in front of every model provider. Money is in US dollars: decimal text is exact, \
                `*_nanos` are billionths.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": interface.types,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key of a workspace."},
                "operator": {"type": "http", "scheme": "bearer", "description": "The operator's token."},
                "management": {
                    "type": "http", "scheme": "bearer",
                    "description": "A management key of the path's workspace with this scope.",
                },
            },
        },
    });
    Ok(document.to_string())
}

/// A path of the table as OpenAPI has it: `{id*}` is one parameter too.
pub fn plain(path: &str) -> String {
    path.replace("*}", "}")
}

fn described(operation: &Operation, row: &Endpoint) -> Value {
    let mut described = json!({
        "operationId": operation_id(operation), "tags": [operation.tag], "summary": operation.summary,
        "parameters": parameters(operation, row), "responses": responses(operation, row),
    });
    let Some(members) = described.as_object_mut() else { return described };
    if let Some((name, is_form)) = &operation.body {
        let media = if *is_form { "multipart/form-data" } else { "application/json" };
        let mut content = json!({"schema": reference(name)});
        if let (Some(example), Some(content)) = (&operation.example, content.as_object_mut()) {
            content.insert("example".to_owned(), example.clone());
        }
        members.insert(
            "requestBody".to_owned(),
            json!({"required": !operation.is_body_optional, "content": {media: content}}),
        );
    }
    let security = match row.caller {
        Caller::Anyone => json!([]),
        Caller::Key => json!([{"key": []}]),
        Caller::Operator => json!([{"operator": []}]),
        Caller::Manager(resource, access) => {
            json!([{"operator": []}, {"management": [format!("{}:{}", resource.name(), access.name())]}])
        }
    };
    members.insert("security".to_owned(), security);
    described
}

/// `GET /v1/models/{id}/endpoints` is `get_models_id_endpoints`.
fn operation_id(operation: &Operation) -> String {
    let path = operation.path.trim_start_matches("/v1").replace(['{', '}'], "").replace(['/', '.', '-'], "_");
    format!("{}{path}", operation.method.to_ascii_lowercase())
}

fn reference(name: &str) -> Value {
    match name {
        "any" => json!({}),
        _ => json!({"$ref": format!("#/components/schemas/{name}")}),
    }
}

fn parameters(operation: &Operation, row: &Endpoint) -> Vec<Value> {
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path.map(
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}),
    );
    let in_query = operation
        .query
        .iter()
        .map(|one| json!({"name": one.name, "in": "query", "required": one.is_needed, "schema": one.schema}));
    in_path.chain(in_query).chain(headers::asked(row)).collect()
}

/// The answer, and every error that the endpoint can give.
fn responses(operation: &Operation, row: &Endpoint) -> Value {
    let mut content: Map<String, Value> = Map::new();
    let text = || json!({"schema": {"type": "string"}});
    for form in &operation.answer {
        match form.as_str() {
            "stream" => drop(content.insert("text/event-stream".to_owned(), text())),
            "text" => drop(content.insert("text/plain".to_owned(), text())),
            "html" => drop(content.insert("text/html".to_owned(), text())),
            "script" => drop(content.insert("text/javascript".to_owned(), text())),
            "audio" => drop(content.insert("audio/*".to_owned(), json!({}))),
            "lines" => drop(content.insert("application/x-ndjson".to_owned(), text())),
            "media" => {
                for kind in ["video/*", "image/*", "audio/*", "application/octet-stream"] {
                    content.insert(kind.to_owned(), json!({}));
                }
            }
            "file" => {
                content.insert("text/csv".to_owned(), text());
                content.insert("application/x-ndjson".to_owned(), text());
            }
            name => drop(content.insert("application/json".to_owned(), json!({"schema": reference(name)}))),
        }
    }
    let mut responses = json!({operation.status.clone(): {"description": "Done.", "content": content}});
    let is_cached = row.caller == Caller::Anyone && operation.method == "GET";
    let may = |code: Code| {
        let status = code.status();
        ANY.contains(&status)
            || row.cost == Cost::Paid && status != 405
            || operation.body.is_some() && status == 413
            || operation.answer.iter().any(|form| form == "media") && status == 502
            || matches!(row.does, Does::Grant | Does::Adjust | Does::ChangeCredential) && status == 409
            || operation.path.contains('{') && status == 404
            || matches!(code, Code::NotFound | Code::ModelNotFound)
            || match row.caller {
                Caller::Anyone => false,
                Caller::Key => status == 401,
                Caller::Operator | Caller::Manager(..) => status == 401 || status == 403 || status == 409,
            }
    };
    let error = if operation.path.starts_with("/v1/messages") { "AnthropicError" } else { "Error" };
    let Some(all) = responses.as_object_mut() else { return responses };
    for code in Code::ALL.iter().copied().filter(|code| may(*code)) {
        let described = all.entry(code.status().to_string()).or_insert_with(
            || json!({"description": "", "content": {"application/json": {"schema": reference(error)}}}),
        );
        if let Some(text) = described.get_mut("description") {
            let known = text.as_str().unwrap_or_default();
            *text = json!(if known.is_empty() { code.name().to_owned() } else { format!("{known}, {}", code.name()) });
        }
    }
    if is_cached {
        all.insert("304".to_owned(), json!({"description": "The client has it."}));
    }
    for (status, described) in all.iter_mut() {
        if let (Ok(status), Some(described)) = (status.parse(), described.as_object_mut()) {
            described.insert("headers".to_owned(), headers::given(row, status));
        }
    }
    responses
}

/// The page for people.
pub const DOCS: &str = include_str!("docs.html");
/// Where the key-value store has what shows the document on it, in base64: it would be a sixth of the Worker, which
/// hardly anybody asks for. The version is that of the page.
pub const READER_KEY: &str = "docs/reader/2.4.820";
/// It: a well-kept reader of OpenAPI documents, as its package has it, gzipped. The page says of exactly which bytes. The
/// catalog command publishes it.
#[cfg(not(target_arch = "wasm32"))]
pub const READER: &[u8] = include_bytes!("reader.js.gz");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_endpoint_is_described_and_nothing_else() {
        let interface = interface().unwrap();
        let described: Vec<String> =
            interface.operations.iter().map(|one| format!("{} {}", one.method, one.path)).collect();
        let served: Vec<String> = ENDPOINTS.iter().map(|one| format!("{} {}", one.method, plain(one.path))).collect();
        let as_set = |list: &[String]| list.iter().cloned().collect::<BTreeSet<String>>();
        assert_eq!(as_set(&described), as_set(&served));
        assert_eq!(described.len(), served.len(), "none is there twice");
        for one in &interface.operations {
            assert!(
                !one.summary.is_empty() && !one.status.is_empty() && !one.answer.is_empty(),
                "{} {}",
                one.method,
                one.path
            );
        }
    }

    #[test]
    fn every_filter_of_activity_is_described() {
        let interface = interface().unwrap();
        let list = interface.operations.iter().find(|one| one.path == "/v1/activity").unwrap();
        let described: BTreeSet<String> = list.query.iter().map(|one| one.name.clone()).collect();
        let others = ["limit", "cursor", "since", "until", "format"].map(str::to_owned);
        let filters: BTreeSet<String> = crate::activity::question::names().into_iter().chain(others).collect();
        assert_eq!(described, filters);
    }

    #[test]
    fn every_type_that_is_named_is_there_and_used() {
        let document: Value = serde_json::from_str(&document().unwrap()).unwrap();
        let text = document.to_string();
        let known = document["components"]["schemas"].as_object().unwrap();
        let named: BTreeSet<&str> =
            text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(named, known.keys().map(String::as_str).collect());
        let mut ids = BTreeSet::new();
        for operation in
            document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values())
        {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{}", operation["operationId"]);
        }
    }
}
