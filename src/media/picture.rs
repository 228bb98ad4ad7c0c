//! Pictures given by the client: a link, or the picture itself in a `data:` URL; and what bytes are by their first ones.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::shape::Links;
use crate::error::Failure;

/// A picture as hosts take it that want it inline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inline {
    /// Its content type.
    pub content_type: String,
    /// Its bytes in base64.
    pub base64: String,
}

/// Whether a text is a link that somebody has to follow.
pub fn is_link(url: &str) -> bool {
    url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"))
        || url.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("http://"))
}

/// Checks what a client gives as a picture: a link or a `data:` URL in base64.
pub fn check(url: &str, param: &str) -> Result<(), Failure> {
    match is_link(url) || parts(url).is_some() {
        true => Ok(()),
        false => Err(Failure::invalid(param, "must be an https URL or a data: URL in base64")),
    }
}

/// Content type and base64 of a `data:` URL.
pub fn parts(url: &str) -> Option<(&str, &str)> {
    let (kind, base64) = url.strip_prefix("data:")?.split_once(";base64,")?;
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    (!base64.is_empty() && base64.bytes().all(is_base64)).then_some((kind, base64))
}

/// A picture inline, of a `data:` URL or of what a link led to.
pub fn inline(url: &str, links: &Links, param: &str) -> Result<Inline, Failure> {
    if let Some((kind, base64)) = parts(url) {
        return Ok(Inline { content_type: kind.to_owned(), base64: base64.to_owned() });
    }
    let Some(found) = links.fetched.iter().find(|one| one.url == url) else {
        links.missed.set(true);
        return Err(Failure::invalid(param, "could not be fetched"));
    };
    Ok(Inline { content_type: found.content_type.clone(), base64: STANDARD.encode(&found.bytes) })
}

/// What bytes are, by their first ones; none where they are no picture that hosts take.
pub fn kind_of(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [b'<', b's', b'v', b'g', ..] | [b'<', b'?', b'x', b'm', b'l', ..] => Some("image/svg+xml"),
        _ => None,
    }
}

/// The same of bytes in base64.
pub fn kind_of_base64(base64: &str) -> Option<&'static str> {
    let start = base64.get(..32.min(base64.len()))?;
    kind_of(&STANDARD.decode(start.get(..start.len() / 4 * 4)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::super::shape::Fetched;
    use super::*;

    #[test]
    fn links_and_data_are_told_apart_from_the_rest() {
        assert!(check("https://x.example/a.png", "image").is_ok());
        assert!(check("data:image/png;base64,AAAA", "image").is_ok());
        for url in ["a.png", "data:image/png,raw", "data:image/png;base64,", "data:image/png;base64,a b", "file:///x"] {
            assert_eq!(check(url, "image").unwrap_err().param.as_deref(), Some("image"), "{url}");
        }
    }

    #[test]
    fn a_picture_is_inlined_from_either() {
        let links = |fetched| Links { fetched, missed: std::cell::Cell::new(false) };
        let told = inline("data:image/png;base64,AAAA", &links(vec![]), "image").unwrap();
        assert_eq!((told.content_type.as_str(), told.base64.as_str()), ("image/png", "AAAA"));
        let url = "https://x.example/a".to_owned();
        let links = links(vec![Fetched { url, content_type: "image/jpeg".into(), bytes: vec![0, 0, 0] }]);
        assert_eq!(inline("https://x.example/a", &links, "image").unwrap().base64, "AAAA");
        assert!(!links.missed.get() && inline("https://x.example/b", &links, "image").is_err() && links.missed.get());
    }
}
