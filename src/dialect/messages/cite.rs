//! Annotations of the typed form as the dialect's citations. It has one form for links and several for documents, by how
//! they tell the place; where nobody told one, it is the document's beginning.

use crate::json::view::Node;
use crate::json::write::Writer;
use crate::text::citation;

/// The citation; `None` where the annotation is of a kind that cites nothing.
pub fn location(annotation: &str) -> Option<String> {
    let (kind, node) = citation::parts(annotation)?;
    let has = |key: &str| node.get(key).is_some();
    let mut w = Writer::object();
    match () {
        () if has("search_result_index") => {
            w.text("type", "search_result_location");
            let source = node.text_at("url").or_else(|| node.text_at("source")).unwrap_or_default();
            numbers(node, &["search_result_index", "start_block_index", "end_block_index"], &mut w);
            w.text("source", &source);
            named(node, "title", &mut w);
        }
        () if kind == citation::URL => {
            w.text("type", "web_search_result_location");
            w.text("url", &node.string_at("url")).text("title", &node.string_at("title"));
            w.text("encrypted_index", &node.string_at("encrypted_index"));
        }
        () => {
            let (kind, places): (&str, &[&str]) = match () {
                () if has("start_page_number") => ("page_location", &["start_page_number", "end_page_number"]),
                () if has("start_block_index") => ("content_block_location", &["start_block_index", "end_block_index"]),
                () => ("char_location", &["start_char_index", "end_char_index"]),
            };
            w.text("type", kind).count("document_index", node.u64_at("index").unwrap_or(0));
            named(node, "document_title", &mut w);
            let id = node.text_at("file_id").filter(|id| !id.is_empty());
            match id {
                Some(id) => w.text("file_id", &id),
                None => w.value("file_id", "null"),
            };
            numbers(node, places, &mut w);
        }
    }
    w.text("cited_text", &node.string_at("cited_text"));
    Some(w.close())
}

fn numbers(node: Node<'_>, names: &[&str], w: &mut Writer) {
    for name in names {
        w.count(name, node.u64_at(name).unwrap_or(0));
    }
}

/// The name of the source, or null.
fn named(node: Node<'_>, key: &str, w: &mut Writer) {
    match node.text_at("filename").or_else(|| node.text_at("title")) {
        Some(name) => w.text(key, &name),
        None => w.value(key, "null"),
    };
}
