//! Where a request came from, as its client says: the application, and the trace it is part of.
//!
//! Follows the W3C Trace Context recommendation for `traceparent`. Of a referring URL only scheme, host and path are kept:
//! queries hold what is nobody's business.

use serde::{Deserialize, Serialize};

/// Longest name or address of an application that is kept, in bytes.
pub const APP_BYTES_MAX: usize = 128;

/// Longest word of a host about its answer that a row keeps, in bytes: a row as long as a host likes is one that no store
/// takes, and its charge with it.
pub const WORD_BYTES_MAX: usize = 256;

/// As much of such a word as is kept.
pub fn kept(word: &str) -> String {
    let end = (0..=WORD_BYTES_MAX.min(word.len())).rev().find(|end| word.is_char_boundary(*end));
    word.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

/// A position in a distributed trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The trace: 32 lower-case hexadecimal digits.
    pub id: String,
    /// The caller's span: 16 of them.
    pub parent: String,
    /// Whether the caller records it.
    pub is_sampled: bool,
}

/// Who says to have sent a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origin {
    /// `X-Title`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// `HTTP-Referer` without its query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referer: Option<String>,
    /// `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
}

impl Origin {
    /// From the three headers. What is malformed or too long is not kept, and harms nobody.
    pub fn parse(title: Option<&str>, referer: Option<&str>, trace: Option<&str>) -> Origin {
        let label = |text: &str| {
            let text = text.trim();
            let fits = !text.is_empty() && text.len() <= APP_BYTES_MAX && !text.chars().any(char::is_control);
            fits.then(|| text.to_owned())
        };
        Origin {
            app: title.and_then(label),
            referer: referer.and_then(address).and_then(label),
            trace: trace.and_then(Trace::parse),
        }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Origin::default()
    }
}

/// A URL without user, query and fragment.
fn address(url: &str) -> Option<&str> {
    let url = url.split(['?', '#']).next()?;
    (!url.contains('@')).then_some(url)
}

impl Trace {
    /// `00-<32 hex>-<16 hex>-<2 hex>`; a later version may have more after that.
    pub fn parse(text: &str) -> Option<Trace> {
        let mut parts = text.trim().split('-');
        let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, len: usize| {
            text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_some = |text: &str| text.bytes().any(|byte| byte != b'0');
        let fits = is_hex(version, 2) && is_hex(id, 32) && is_hex(parent, 16) && is_hex(flags, 2);
        let is_known = version != "ff" && (version != "00" || parts.next().is_none());
        if !fits || !is_known || !is_some(id) || !is_some(parent) {
            return None;
        }
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Trace { id: id.to_owned(), parent: parent.to_owned(), is_sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_kept_up_to_its_limit() {
        assert_eq!(kept("stop"), "stop");
        assert_eq!(kept(&"x".repeat(3_000_000)).len(), WORD_BYTES_MAX);
        assert_eq!(kept(&"€".repeat(100)), "€".repeat(85), "no character is cut");
    }

    #[test]
    fn a_traceparent_is_kept_when_it_is_one() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let good = Trace { id: id.to_owned(), parent: "b7ad6b7169203331".to_owned(), is_sampled: true };
        assert_eq!(Trace::parse(&format!("00-{id}-b7ad6b7169203331-01")), Some(good.clone()));
        assert_eq!(Trace::parse(&format!("cc-{id}-b7ad6b7169203331-01-more")), Some(good.clone()));
        assert_eq!(Trace::parse(&format!("00-{id}-b7ad6b7169203331-00")), Some(Trace { is_sampled: false, ..good }));
        for bad in [
            String::new(),
            format!("ff-{id}-b7ad6b7169203331-01"),
            format!("00-{id}-b7ad6b7169203331-01-more"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{id}-0000000000000000-01"),
            format!("00-{}-b7ad6b7169203331-01", id.to_uppercase()),
            format!("00-{id}-b7ad6b7169203331"),
            format!("00-{id}-b7ad6b71692033-01"),
        ] {
            assert_eq!(Trace::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn an_application_is_its_name_and_address_without_what_is_private() {
        let origin = Origin::parse(Some(" My app "), Some("https://app.dev/chat?token=s#t"), None);
        assert_eq!((origin.app.as_deref(), origin.referer.as_deref()), (Some("My app"), Some("https://app.dev/chat")));
        let long = "x".repeat(APP_BYTES_MAX + 1);
        for bad in ["", "  ", "a\u{7}b", &long] {
            assert_eq!(Origin::parse(Some(bad), None, None).app, None);
        }
        assert!(Origin::parse(None, Some("https://user:pass@app.dev/"), Some("x")).is_empty());
    }
}
