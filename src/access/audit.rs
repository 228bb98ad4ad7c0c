//! What a change by an administrator leaves behind: who did what to which thing, and how it looked before and after.
//!
//! A row never holds a secret. What the API shows has none, except where a secret is shown once; and texts that are meant
//! for models alone do not belong into a second store. Both are taken out here, by the names of their fields, and
//! whatever looks like a secret of ours wherever it stands.

use serde_json::{Map, Value};

use crate::access::key;
use crate::id::KeyId;

/// Members whose value is never kept.
const HIDDEN: &[&str] = &[
    "secret",
    "system",
    "variables",
    "sealed",
    "hash",
    "token",
    "password",
    "authorization",
    "signing_secret",
    "url",
    "headers",
];

/// A value as an audit row may keep it.
pub fn redacted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().map(|(name, value)| (name.clone(), member(name, value)));
            Value::Object(kept.collect::<Map<String, Value>>())
        }
        Value::Array(list) => Value::Array(list.iter().map(redacted).collect()),
        Value::String(text) if !key::found_in(text).is_empty() => hidden(value),
        other => other.clone(),
    }
}

fn member(name: &str, value: &Value) -> Value {
    // The member `key` is an id in some answers, and in one the secret.
    let is_secret_key = name == "key" && value.as_str().is_some_and(|text| KeyId::parse(text).is_none());
    match value {
        Value::Null => Value::Null,
        _ if is_secret_key || HIDDEN.contains(&name) => hidden(value),
        _ => redacted(value),
    }
}

/// How long it was says whether there was anything; more would help to guess it.
fn hidden(value: &Value) -> Value {
    let length = value.as_str().map_or_else(|| value.to_string().len(), str::len);
    Value::String(format!("[{length} bytes]"))
}

/// The name of what is done: the resource, and the verb of the method or of a path that ends in one.
pub fn action(resource: &str, method: &str, path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or_default();
    let is_verb = method == "POST" && ["rotate", "restore", "leaked", "secret", "test", "reconcile"].contains(&last);
    let verb = match method {
        _ if is_verb => last,
        "POST" => "create",
        "PUT" => "put",
        "PATCH" => "change",
        "DELETE" => "delete",
        _ => "read",
    };
    format!("{resource}.{verb}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_secret_is_kept_whatever_it_is_called() {
        let secret = key::write([7; 32]);
        let told = json!({
            "key": secret, "name": "ci", "nested": [{"system": "Be kind.", "note": format!("it is {secret}!")}],
            "variables": {"region": "eu"}, "secret": null, "url": "https://user:pass@host/",
        });
        let kept = redacted(&told);
        assert_eq!(
            kept,
            json!({
                "key": "[54 bytes]", "name": "ci", "nested": [{"system": "[8 bytes]", "note": "[61 bytes]"}],
                "variables": "[15 bytes]", "secret": null, "url": "[23 bytes]",
            })
        );
        assert!(!kept.to_string().contains(&secret));
        let id = "key_00000000000000000000000000";
        assert_eq!(redacted(&json!({"key": id})), json!({"key": id}));
    }

    #[test]
    fn actions_read_like_resource_and_verb() {
        let table = [
            ("keys", "POST", "/keys", "keys.create"),
            ("keys", "POST", "/keys/{key}/rotate", "keys.rotate"),
            ("keys", "DELETE", "/keys/{key}", "keys.delete"),
            ("presets", "PUT", "/presets/{slug}", "presets.put"),
            ("webhooks", "POST", "/webhooks/{webhook}/secret", "webhooks.secret"),
            ("prompts", "GET", "/prompts/{request}", "prompts.read"),
            ("workspace", "PATCH", "/workspaces/{id}", "workspace.change"),
        ];
        for (resource, method, path, name) in table {
            assert_eq!(action(resource, method, path), name);
        }
    }
}
