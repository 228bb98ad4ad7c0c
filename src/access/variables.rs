//! What a customer fills into a provider's placeholders: accounts, regions, further parts of a credential.
//!
//! Values become parts of hosts and paths, and a customer's credential goes only to its provider's host: so a value is a
//! plain word, and one that ends a host must be a host of the provider's own list.

use std::collections::BTreeMap;

use crate::catalog::{Provider, Variable};

/// Longest value, in bytes.
const VALUE_BYTES_MAX: usize = 2_048;

/// A value that will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The variable.
    pub name: String,
    /// Why.
    pub message: String,
}

/// Checks what was given for a provider: no name that it does not have, none missing that it needs, each of the form its
/// place demands.
pub fn check(provider: &Provider, given: &BTreeMap<String, String>) -> Result<(), Wrong> {
    let wrong = |name: &str, message: String| Err(Wrong { name: name.to_owned(), message });
    for (name, value) in given {
        let Some(variable) = provider.variables.get(name) else {
            let known: Vec<&str> = provider.variables.keys().map(String::as_str).collect();
            return wrong(
                name,
                match known.is_empty() {
                    true => "is none of the provider's: it has no variables".to_owned(),
                    false => format!("is none of the provider's: it has {}", known.join(", ")),
                },
            );
        };
        if let Some(message) = fault_of(provider, name, variable, value) {
            return wrong(name, message);
        }
    }
    let is_needed = |(name, variable): &(&String, &Variable)| {
        variable.default.is_none() && !variable.optional && !given.contains_key(*name)
    };
    match provider.variables.iter().find(is_needed) {
        Some((name, _)) => wrong(name, "is needed for this provider".to_owned()),
        None => Ok(()),
    }
}

fn fault_of(provider: &Provider, name: &str, variable: &Variable, value: &str) -> Option<String> {
    if value.is_empty() || value.len() > VALUE_BYTES_MAX {
        return Some(format!("must have 1 to {VALUE_BYTES_MAX} bytes"));
    }
    if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Some("holds a space or a control character".to_owned());
    }
    let is_plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !value.starts_with('.')
        && !value.ends_with('.')
        && !value.contains("..");
    if provider.is_placeholder(name) && !is_plain {
        return Some("is no part of a host or a path: letters, digits, `-`, `_` and `.`".to_owned());
    }
    if !variable.allowed.is_empty() && !variable.allowed.iter().any(|pattern| fits(pattern, value)) {
        return Some(format!("is none of the provider's: {}", variable.allowed.join(", ")));
    }
    None
}

/// Whether a value is of a pattern; `*` stands for at least one character.
fn fits(pattern: &str, value: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern.eq_ignore_ascii_case(value),
        Some((before, after)) => {
            let value = value.to_ascii_lowercase();
            let rest = value.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            rest.is_some_and(|rest| !rest.is_empty())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Provider {
        serde_json::from_value(serde_json::json!({
            "id": "cloud", "name": "Cloud", "base_url": "https://{host}/v1/{project}", "families": ["openai-chat"],
            "variables": {
                "host": {"env": "HOST", "default": "api.cloud.example", "allowed": ["api.cloud.example", "*.eu.cloud.example"]},
                "project": {"env": "PROJECT"}, "secret": {"env": "SECRET"}, "session": {"env": "SESSION", "optional": true},
            },
            "auth": {"header": "Authorization", "prefix": "Bearer "}, "key_env": "CLOUD_KEY",
        }))
        .unwrap()
    }

    #[test]
    fn what_is_given_fits_what_the_provider_declares() {
        let given = |more: &[(&str, &str)]| {
            let all = [("project", "acme-1"), ("secret", "a/b+c=")].iter().chain(more);
            all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let named = |given: BTreeMap<String, String>| check(&provider(), &given).err().map(|wrong| wrong.name);
        assert_eq!(named(given(&[])), None);
        assert_eq!(named(given(&[("host", "API.cloud.example"), ("session", "s")])), None);
        assert_eq!(named(given(&[("host", "x.eu.cloud.example")])), None);
        for (name, value) in [
            ("host", "evil.example"),
            ("host", ".eu.cloud.example"),
            ("host", "evil.example/.eu.cloud.example"),
            ("host", "evil.example?.eu.cloud.example"),
            ("project", "a/../b"),
            ("project", "a..b"),
            ("project", ""),
            ("project", "a@b"),
            ("secret", "a b"),
            ("region", "eu"),
        ] {
            assert_eq!(named(given(&[(name, value)])).as_deref(), Some(name), "{name}={value}");
        }
        assert_eq!(named(BTreeMap::from([("secret".to_owned(), "s".to_owned())])).as_deref(), Some("project"));
    }
}
