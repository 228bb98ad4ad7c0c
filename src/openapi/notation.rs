//! The notation of `api.txt`, line by line.
//!
//! `type Name {` … `}` is an object, `type Name closed {` one that takes no other members, `type Name = T` any other type.
//! A member is `name: T - description`, optional as `name?: T`. T is `string`, `int`, `number`, `bool`, `null`, `any`,
//! `time` (RFC 3339), `binary`, `"literal"`, `CODES` (the error codes), another type's name, `T[]`, `{T}` (a map), `T | T`,
//! `T & T`, and `string(1..256)` or `int(0..)` with its least and most. `query Name {` … `}` is a group of parameters.
//! `== Tag` begins a group of operations: `METHOD /path`, then indented a sentence, `? Group …` or `? name: T` (`?!` where
//! it is needed), `> Type {example}` or `> multipart Type` for the body (`>?` where there may be none), and `status Type variant` for the answer.

use serde_json::{Map, Value, json};

use crate::error::Code;

/// One member of an object, or one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Whether it must be there.
    pub is_needed: bool,
    /// Its schema, with its description.
    pub schema: Value,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Operation {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// Its group.
    pub tag: String,
    /// A sentence.
    pub summary: String,
    /// Query parameters.
    pub query: Vec<Member>,
    /// The type of the body, and whether it is a form.
    pub body: Option<(String, bool)>,
    /// Whether there may be none.
    pub is_body_optional: bool,
    /// An example of the body.
    pub example: Option<Value>,
    /// The status of the answer.
    pub status: String,
    /// The type of the answer, and its further forms (`stream`, `text`, `file`) or `lines`, `audio`, `media`, `html` and `script` in place of it.
    pub answer: Vec<String>,
}

/// The whole interface.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Interface {
    /// Schemas by name.
    pub types: Map<String, Value>,
    /// Operations.
    pub operations: Vec<Operation>,
}

/// A line that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclear(pub String);

type Members = Vec<Member>;

/// Reads the notation.
pub fn parse(text: &str) -> Result<Interface, Unclear> {
    let mut interface = Interface::default();
    let mut groups: Vec<(String, Members)> = Vec::new();
    let mut tag = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let unclear = || Unclear(line.to_owned());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix("type ").or_else(|| line.strip_prefix("query ")) {
            if let Some((name, written)) = rest.split_once(" = ") {
                interface.types.insert(name.to_owned(), described(written)?);
                continue;
            }
            let head = rest.strip_suffix(" {").ok_or_else(unclear)?;
            let (name, is_closed) = head.strip_suffix(" closed").map_or((head, false), |name| (name, true));
            let mut members = Vec::new();
            for line in lines.by_ref().take_while(|line| *line != "}") {
                members.push(member(line.trim())?);
            }
            match line.starts_with("type ") {
                true => drop(interface.types.insert(name.to_owned(), object(&members, is_closed))),
                false => groups.push((name.to_owned(), members)),
            }
        } else if let Some(name) = line.strip_prefix("== ") {
            name.clone_into(&mut tag);
        } else if let Some(indented) = line.strip_prefix("  ") {
            let operation = interface.operations.last_mut().ok_or_else(unclear)?;
            detail(operation, indented, &groups)?;
        } else {
            let (method, path) = line.split_once(' ').ok_or_else(unclear)?;
            let (method, path, tag) = (method.to_owned(), path.to_owned(), tag.clone());
            interface.operations.push(Operation { method, path, tag, ..Operation::default() });
        }
    }
    Ok(interface)
}

/// One indented line of an operation.
fn detail(operation: &mut Operation, line: &str, groups: &[(String, Members)]) -> Result<(), Unclear> {
    let unclear = || Unclear(line.to_owned());
    if let Some(written) = line.strip_prefix("?! ") {
        operation.query.push(Member { is_needed: true, ..member(written)? });
    } else if let Some(written) = line.strip_prefix("? ") {
        if written.contains(':') {
            operation.query.push(Member { is_needed: false, ..member(written)? });
            return Ok(());
        }
        for name in written.split(' ') {
            let (_, members) = groups.iter().find(|(known, _)| known == name).ok_or_else(unclear)?;
            operation.query.extend(members.iter().cloned().map(|one| Member { is_needed: false, ..one }));
        }
    } else if let Some(written) = line.strip_prefix(">? ").or(line.strip_prefix("> ")) {
        operation.is_body_optional = line.starts_with(">?");
        if let Some(form) = written.strip_prefix("multipart ") {
            operation.body = Some((form.to_owned(), true));
            return Ok(());
        }
        let (name, example) = written.split_once(' ').ok_or_else(unclear)?;
        operation.body = Some((name.to_owned(), false));
        operation.example = Some(crate::json::from_str(example).map_err(|_| unclear())?);
    } else if line.starts_with(|c: char| c.is_ascii_digit()) {
        let mut words = line.split(' ').map(str::to_owned);
        operation.status = words.next().ok_or_else(unclear)?;
        operation.answer = words.collect();
    } else {
        line.clone_into(&mut operation.summary);
    }
    Ok(())
}

fn object(members: &[Member], is_closed: bool) -> Value {
    let properties: Map<String, Value> = members.iter().map(|one| (one.name.clone(), one.schema.clone())).collect();
    let needed: Vec<&str> = members.iter().filter(|one| one.is_needed).map(|one| one.name.as_str()).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if let Some(schema) = schema.as_object_mut() {
        if !needed.is_empty() {
            schema.insert("required".to_owned(), json!(needed));
        }
        if is_closed {
            schema.insert("additionalProperties".to_owned(), json!(false));
        }
    }
    schema
}

/// `name?: T - description`.
fn member(line: &str) -> Result<Member, Unclear> {
    let (name, written) = line.split_once(": ").ok_or_else(|| Unclear(line.to_owned()))?;
    let (name, is_needed) = name.strip_suffix('?').map_or((name, true), |name| (name, false));
    Ok(Member { name: name.to_owned(), is_needed, schema: described(written)? })
}

/// `T - description`.
fn described(written: &str) -> Result<Value, Unclear> {
    let (kind, description) = written.split_once(" - ").map_or((written, None), |(kind, text)| (kind, Some(text)));
    let mut schema = schema(kind)?;
    if let (Some(text), Some(object)) = (description, schema.as_object_mut()) {
        object.insert("description".to_owned(), json!(text));
    }
    Ok(schema)
}

/// The schema of a type.
fn schema(kind: &str) -> Result<Value, Unclear> {
    let parts: Vec<&str> = kind.split(" | ").collect();
    if parts.len() > 1 {
        let literals: Vec<&str> = parts.iter().filter_map(|part| literal(part)).collect();
        let others = parts.iter().filter(|part| literal(part).is_none());
        let mut any = others.map(|part| schema(part)).collect::<Result<Vec<Value>, Unclear>>()?;
        if !literals.is_empty() {
            any.insert(0, json!({"type": "string", "enum": literals}));
        }
        return Ok(match any.len() {
            1 => any.remove(0),
            _ => json!({ "anyOf": any }),
        });
    }
    if kind.contains(" & ") {
        let all = kind.split(" & ").map(schema).collect::<Result<Vec<Value>, Unclear>>()?;
        return Ok(json!({ "allOf": all }));
    }
    if let Some(element) = kind.strip_suffix("[]") {
        return Ok(json!({"type": "array", "items": schema(element)?}));
    }
    if let Some(element) = kind.strip_prefix('{').and_then(|kind| kind.strip_suffix('}')) {
        return Ok(json!({"type": "object", "additionalProperties": schema(element)?}));
    }
    if let Some(text) = literal(kind) {
        return Ok(json!({"type": "string", "const": text}));
    }
    if let Some((name, range)) = kind.split_once('(') {
        return bounded(name, range.trim_end_matches(')')).ok_or_else(|| Unclear(kind.to_owned()));
    }
    Ok(match kind {
        "any" => json!({}),
        "int" => json!({"type": "integer"}),
        "bool" => json!({"type": "boolean"}),
        "string" | "number" | "null" => json!({ "type": kind }),
        "time" => json!({"type": "string", "format": "date-time"}),
        "binary" => json!({"type": "string", "contentMediaType": "application/octet-stream"}),
        "CODES" => json!({"type": "string", "enum": Code::ALL.iter().map(|code| code.name()).collect::<Vec<_>>()}),
        name if name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(char::is_alphanumeric) => {
            json!({"$ref": format!("#/components/schemas/{name}")})
        }
        other => return Err(Unclear(other.to_owned())),
    })
}

fn literal(kind: &str) -> Option<&str> {
    kind.strip_prefix('"')?.strip_suffix('"')
}

/// `string(1..256)` and `int(0..)`.
fn bounded(name: &str, range: &str) -> Option<Value> {
    let (least, most) = range.split_once("..")?;
    let (mut schema, names) = match name {
        "string" => (json!({"type": "string"}), ["minLength", "maxLength"]),
        "int" => (json!({"type": "integer"}), ["minimum", "maximum"]),
        _ => return None,
    };
    for (name, bound) in names.into_iter().zip([least, most]) {
        if !bound.is_empty() {
            schema.as_object_mut()?.insert(name.to_owned(), json!(bound.parse::<u64>().ok()?));
        }
    }
    Some(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_become_schemas() {
        for (written, expected) in [
            ("string", json!({"type": "string"})),
            (
                "Name[][]",
                json!({"type": "array", "items": {"type": "array", "items": {"$ref": "#/components/schemas/Name"}}}),
            ),
            ("{int}", json!({"type": "object", "additionalProperties": {"type": "integer"}})),
            ("\"a\" | \"b\" | null", json!({"anyOf": [{"type": "string", "enum": ["a", "b"]}, {"type": "null"}]})),
            ("\"a\" | \"b\"", json!({"type": "string", "enum": ["a", "b"]})),
            ("int(0..)", json!({"type": "integer", "minimum": 0})),
            ("string(1..9)", json!({"type": "string", "minLength": 1, "maxLength": 9})),
            ("A & B", json!({"allOf": [{"$ref": "#/components/schemas/A"}, {"$ref": "#/components/schemas/B"}]})),
        ] {
            assert_eq!(schema(written), Ok(expected), "{written}");
        }
        for wrong in ["strin", "", "bool(1..2)", "int(x..)", "Na me", "[string]"] {
            assert!(schema(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        for wrong in ["type A", "  200 B", "GET", "type A {\n  b c\n}", "GET /a\n  ? Group", "GET /a\n  > A {"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let parsed = parse("== T\nPUT /a\n  Does it.\n  ?! id: string\n  > B {}\n  200 C stream").unwrap();
        let operation = parsed.operations.first().unwrap();
        assert_eq!(
            (operation.tag.as_str(), operation.summary.as_str(), operation.status.as_str()),
            ("T", "Does it.", "200")
        );
        assert_eq!((operation.query.len(), operation.query[0].is_needed), (1, true));
        assert_eq!(operation.answer, ["C", "stream"]);
    }
}
