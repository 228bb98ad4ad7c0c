//! Presets: what a workspace has written down to be put into requests that name it.
//!
//! A preset is applied to the client's bytes before they are parsed, so every dialect and every family sees a request
//! as if the client had written it: its parameters where the client left them out, its system prompt in front of the
//! client's, its model where the client named none. The request's own values win; caps and lists only narrow.

mod apply;
pub mod fields;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::access::routing::Narrowing;
use crate::error::Failure;
use crate::text::request::Mode;

pub use apply::{Named, apply, named, named_in};

/// Longest system prompt, in bytes.
pub const SYSTEM_BYTES_MAX: usize = 64 * 1024;
/// Parameters that a preset may not set: they are the request's own, or the gateway's.
const FORBIDDEN: &[&str] =
    &["messages", "input", "system", "instructions", "model", "models", "preset", "stream", "provider", "tools"];

/// One version of a preset.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The model where the request names none (`@slug` alone).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Put in front of the client's own instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Parameters of the request, where it has none of that name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
    /// The order of candidates, where the request says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Most output tokens of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Who may serve, and what.
    #[serde(default)]
    pub narrowing: Narrowing,
}

impl Preset {
    /// What is wrong with it, by its field.
    pub fn check(&self) -> Result<(), Failure> {
        if self.system.as_ref().is_some_and(|text| text.len() > SYSTEM_BYTES_MAX) {
            return Err(Failure::invalid("system", format!("is longer than {SYSTEM_BYTES_MAX} bytes")));
        }
        if self.max_tokens == Some(0) {
            return Err(Failure::invalid("max_tokens", "must be at least 1"));
        }
        if let Some(model) = &self.model {
            let parsed = crate::catalog::ModelName::parse(model);
            let name = parsed.map_err(|error| Failure::invalid("model", error.to_string()))?;
            if name.preset.is_some() {
                return Err(Failure::invalid("model", "may not name a preset"));
            }
        }
        match self.parameters.keys().find(|name| FORBIDDEN.contains(&name.as_str())) {
            Some(name) => Err(Failure::invalid(format!("parameters.{name}"), "cannot be set by a preset")),
            None => Ok(()),
        }
    }
}
