//! What all kinds of media work have: the models, and the client's fields by name.

use serde_json::{Map, Value};

use crate::error::{Code, Failure};

/// What all kinds of work have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Common {
    /// Names of models in order, at least one.
    pub models: Vec<String>,
    /// The client's fields, by name, for what is passed on as it is.
    pub body: Map<String, Value>,
}

/// Fields of ours that no host is sent.
pub const OWN: &[&str] = &["models", "provider", "preset", "session_id", "metadata"];

impl Common {
    /// From a JSON body.
    pub fn parse(bytes: &[u8], fallback: Option<&str>) -> Result<Common, Failure> {
        let body: Map<String, Value> = crate::json::parse_body(bytes)
            .map_err(|error| Failure { param: error.path, ..Failure::new(Code::InvalidInput, error.message) })?;
        Common::of(body, fallback)
    }

    /// From fields.
    pub fn of(body: Map<String, Value>, fallback: Option<&str>) -> Result<Common, Failure> {
        let mut models: Vec<String> = Vec::new();
        match body.get("model") {
            Some(Value::String(name)) => models.push(name.clone()),
            None | Some(Value::Null) => {}
            Some(_) => return Err(Failure::invalid("model", "must be a string")),
        }
        match body.get("models") {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) => {
                for name in list {
                    let name = name.as_str().ok_or_else(|| Failure::invalid("models", "must be a list of strings"))?;
                    models.push(name.to_owned());
                }
            }
            Some(_) => return Err(Failure::invalid("models", "must be a list of strings")),
        }
        if models.is_empty() {
            models.extend(fallback.map(str::to_owned));
        }
        if models.is_empty() {
            return Err(Failure::invalid("model", "is missing"));
        }
        Ok(Common { models, body })
    }

    /// The body for a host of the same shape: the client's own, with the model's name there and without our fields.
    pub fn passed(&self, upstream: &str, without: &[&str]) -> Map<String, Value> {
        let mut body = self.body.clone();
        OWN.iter().chain(without).for_each(|name| drop(body.remove(*name)));
        body.insert("model".to_owned(), upstream.into());
        body
    }

    /// A string field.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        match self.body.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Failure::invalid(name, "must be a string")),
        }
    }

    /// A whole number between two.
    pub fn count(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Failure> {
        match self.body.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().filter(|value| (least..=most).contains(value)) {
                Some(value) => Ok(Some(value)),
                None => Err(Failure::invalid(name, format!("must be a whole number from {least} to {most}"))),
            },
        }
    }

    /// A string field that must be one of those.
    pub fn word(&self, name: &str, known: &[&str]) -> Result<Option<String>, Failure> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) if known.contains(&text) => Ok(Some(text.to_owned())),
            Some(_) => Err(Failure::invalid(name, format!("must be one of {}", known.join(", ")))),
        }
    }
}
