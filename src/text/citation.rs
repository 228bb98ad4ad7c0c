//! Citations between the wires. One is an annotation of the chat dialect, `{"type":T,T:{…}}`: `url_citation` with `url`,
//! `title`, `start_index` and `end_index` (letters of the whole text of the choice), or `file_citation` with `file_id`,
//! `filename` and `index`. What else a source tells of it (the words cited, pages) stands beside these, so that it comes
//! over to a dialect that has it.

use crate::json::view::Node;
use crate::json::write::Writer;

/// A link.
pub const URL: &str = "url_citation";
/// A part of a document.
pub const FILE: &str = "file_citation";
/// What the Responses dialect has beside these two.
pub const OTHERS: &[&str] = &["container_file_citation", "file_path"];

/// A place in the text, in letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Its first letter.
    pub start: u64,
    /// Behind its last one.
    pub end: u64,
}

/// A citation of a link. `more` are further members, in JSON.
pub fn of_link(url: &str, title: Option<&str>, span: Span, more: &[(&str, &str)]) -> String {
    let title = title.filter(|title| !title.is_empty()).unwrap_or(url);
    let mut w = Writer::object();
    w.text("type", URL).object_at(URL).text("url", url).text("title", title);
    w.count("start_index", span.start).count("end_index", span.end);
    rest(more, w)
}

/// A citation of a document: its id at the provider, its name, and its number in the request.
pub fn of_file(id: &str, name: Option<&str>, index: u64, span: Span, more: &[(&str, &str)]) -> String {
    let mut w = Writer::object();
    w.text("type", FILE).object_at(FILE).text("file_id", id).text_if("filename", name).count("index", index);
    w.count("start_index", span.start).count("end_index", span.end);
    rest(more, w)
}

fn rest(more: &[(&str, &str)], mut w: Writer) -> String {
    more.iter().for_each(|(name, json)| {
        w.value(name, json);
    });
    w.end_object();
    w.close()
}

/// The kind of a citation and its members.
pub fn parts(json: &str) -> Option<(&'static str, Node<'_>)> {
    let node = Node::of(json);
    let kind = node.text_at("type")?;
    let known = [URL, FILE].into_iter().chain(OTHERS.iter().copied()).find(|known| *known == kind)?;
    node.get(known).filter(|inner| inner.is_object()).map(|inner| (known, inner))
}

/// A flat annotation of the Responses dialect in this form; its positions count from `before` on. `None` where it cites
/// nothing.
pub fn nested(flat: Node<'_>, before: u64) -> Option<String> {
    let kind = flat.text_at("type")?;
    let kind = [URL, FILE].into_iter().chain(OTHERS.iter().copied()).find(|known| *known == kind)?;
    let mut w = Writer::object();
    w.text("type", kind).object_at(kind);
    for (name, value) in flat.members().filter(|(name, value)| name != "type" && !value.is_null()) {
        match value.u64().filter(|_| matches!(name.as_ref(), "start_index" | "end_index")) {
            Some(at) => w.count(&name, at.saturating_add(before)),
            None => w.value(&name, value.raw()),
        };
    }
    if kind == URL && flat.get("title").is_none() {
        w.text("title", &flat.string_at("url"));
    }
    w.end_object();
    Some(w.close())
}

/// The members of `node` under these names, for `more`.
pub fn also<'a>(node: Node<'a>, names: &[&'static str]) -> Vec<(&'static str, &'a str)> {
    names.iter().filter_map(|name| Some((*name, node.get(name)?.raw()))).collect()
}

/// Letters of a text.
pub fn letters(text: &str) -> u64 {
    u64::try_from(text.chars().count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let span = Span { start: 3, end: 9 };
        let link = of_link("https://a.example", None, span, &[("cited_text", "\"q\"")]);
        let (kind, inner) = parts(&link).unwrap();
        assert_eq!((kind, inner.text_at("title").unwrap().as_ref()), (URL, "https://a.example"));
        assert_eq!((inner.u64_at("end_index"), inner.text_at("cited_text").unwrap().as_ref()), (Some(9), "q"));
        let file = of_file("f1", Some("a.pdf"), 2, Span::default(), &[]);
        let (kind, inner) = parts(&file).unwrap();
        assert_eq!((kind, inner.u64_at("index"), also(inner, &["index", "no"])), (FILE, Some(2), vec![("index", "2")]));
        for other in [r#"{"type":"file","file":{}}"#, r#"{"type":"url_citation"}"#, "{}"] {
            assert_eq!(parts(other).map(|(kind, _)| kind), None, "{other}");
        }
        assert_eq!(letters("é漢🦀"), 3);
    }
}
