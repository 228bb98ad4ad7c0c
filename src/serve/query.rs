//! Query strings of our own endpoints.

use percent_encoding::percent_decode_str;

use crate::error::Failure;

/// The decoded value of a parameter.
pub fn value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key) == name).then(|| decoded(value))
    })
}

/// Every parameter with a name, decoded, each as often as it is there.
pub fn each(query: &str) -> Vec<(String, String)> {
    let split = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(split).collect()
}

/// Every parameter, decoded. Values of one that is there several times, also as `name[]`, are joined by commas.
pub fn pairs(query: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (mut name, value) = (decoded(name), decoded(value));
        name.truncate(name.trim_end_matches("[]").len());
        match pairs.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => {
                values.push(',');
                values.push_str(&value);
            }
            None => pairs.push((name, value)),
        }
    }
    pairs
}

fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// A page size between 1 and `max`, `default` where none is asked for.
pub fn limit(query: &str, default: u64, max: u64) -> Result<u64, Failure> {
    match value(query, "limit") {
        None => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=max).contains(limit))
            .ok_or_else(|| Failure::invalid("limit", format!("must be a number between 1 and {max}"))),
    }
}

/// What the query says of where a list goes on; 400 where that is none of this list.
pub fn cursor<T>(query: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Failure> {
    let Some(text) = value(query, "cursor") else { return Ok(None) };
    parse(&text).map(Some).ok_or_else(|| Failure::invalid("cursor", "is not a cursor of this list"))
}

/// A path segment, decoded.
pub fn path_value(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_decoded() {
        assert_eq!(value("a=1&b=x%20y+z", "b").as_deref(), Some("x y z"));
        assert_eq!(value("a=1", "b"), None);
        let parts = |query| pairs(query).into_iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>();
        assert_eq!(parts("a=1&b=x%20y+z&&c&a=2&a%5B%5D=3"), ["a:1,2,3", "b:x y z", "c:"]);
        assert_eq!((limit("", 20, 100), limit("limit=5", 20, 100)), (Ok(20), Ok(5)));
        for query in ["limit=0", "limit=101", "limit=x", "limit=-1"] {
            assert_eq!(limit(query, 20, 100).unwrap_err().param.as_deref(), Some("limit"), "{query}");
        }
    }
}
