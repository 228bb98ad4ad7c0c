//! Files that come inside a request: what kind they are, and their text where they are text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::text::prompt::{Source, Text};

/// Media types by the end of a file's name.
const KINDS: &[(&str, &str)] = &[
    (".txt", "text/plain"),
    (".md", "text/markdown"),
    (".csv", "text/csv"),
    (".json", "application/json"),
    (".html", "text/html"),
];

/// `file_data` is a data URL, or base64 alone: then its name says what it is, and what says nothing is a PDF, the one
/// kind of file that every model with files reads.
pub fn source<'a>(data: Text<'a>, name: Option<&str>) -> Source<'a> {
    if ["data:", "http:", "https:"].iter().any(|scheme| data.starts_with(scheme)) {
        return Source::from_url(data);
    }
    let name = name.unwrap_or_default().to_ascii_lowercase();
    let kind = KINDS.iter().find(|(end, _)| name.ends_with(end)).map_or("application/pdf", |(_, kind)| *kind);
    Source::Data { media_type: kind.into(), data }
}

/// Whether files of that type are text.
pub fn is_text(media_type: &str) -> bool {
    media_type.starts_with("text/")
        || matches!(media_type, "application/json" | "application/xml" | "application/yaml" | "application/x-yaml")
}

/// The text of such a file; `None` where its base64 is none, or what is in it is not UTF-8.
pub fn text(data: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(data.trim()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_by_its_url_or_name_what_it_is() {
        let data = |media_type: &str| Source::Data { media_type: media_type.to_owned().into(), data: "AA==".into() };
        for (given, name, expected) in [
            ("data:text/csv;base64,AA==", Some("a.pdf"), data("text/csv")),
            ("AA==", Some("notes.MD"), data("text/markdown")),
            ("AA==", Some("a.pdf"), data("application/pdf")),
            ("AA==", None, data("application/pdf")),
            ("https://x.example/a.pdf", None, Source::Url("https://x.example/a.pdf".into())),
        ] {
            assert_eq!(source(given.into(), name), expected, "{given} {name:?}");
        }
    }

    #[test]
    fn text_is_taken_out() {
        assert_eq!(text("aMOp\n").as_deref(), Some("hé"));
        assert_eq!((text("/w=="), text("%")), (None, None));
        assert!(is_text("text/markdown") && is_text("application/json") && !is_text("application/pdf"));
    }
}
