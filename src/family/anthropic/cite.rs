//! Anthropic citations as annotations of the typed form.

use crate::json::view::Node;
use crate::text::citation::{Span, also, of_file, of_link};

/// Where in its source something stands, by the API's names for it.
const PLACES: &[&str] = &[
    "cited_text",
    "start_char_index",
    "end_char_index",
    "start_page_number",
    "end_page_number",
    "start_block_index",
    "end_block_index",
    "search_result_index",
    "encrypted_index",
];

/// A citation of a block of text that stands there.
pub fn annotation(citation: Node<'_>, span: Span) -> String {
    let text = |key: &str| citation.text_at(key);
    let title = text("title").or_else(|| text("document_title"));
    let source = text("source");
    let link = text("url").or_else(|| source.clone().filter(|source| source.starts_with("http")));
    let mut more = also(citation, PLACES);
    match link {
        Some(url) => of_link(&url, title.as_deref(), span, &more),
        None => {
            more.extend(also(citation, &["source"]));
            let index = citation.u64_at("document_index").or_else(|| citation.u64_at("search_result_index"));
            of_file(&text("file_id").unwrap_or_default(), title.as_deref(), index.unwrap_or(0), span, &more)
        }
    }
}
