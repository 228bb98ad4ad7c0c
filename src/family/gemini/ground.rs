//! What a Gemini answer is grounded on, as annotations.
//!
//! A support names a segment of the answer, in bytes of UTF-8, and the chunks that back it; a chunk that backs no segment
//! is cited for the answer as a whole. A stream may tell its metadata more than once: each citation is told once.

use crate::json::view::Node;
use crate::text::citation::{Span, letters, of_file, of_link};

/// Most pieces of metadata of one answer that are kept.
const PIECES_MAX: usize = 64;

/// What has come of one choice.
#[derive(Debug, Default)]
pub struct Ground {
    choice: u32,
    text: String,
    metadata: Vec<String>,
}

/// The one of a choice.
pub fn of(all: &mut Vec<Ground>, choice: u32) -> Option<&mut Ground> {
    if !all.iter().any(|ground| ground.choice == choice) {
        all.push(Ground { choice, ..Ground::default() });
    }
    all.iter_mut().find(|ground| ground.choice == choice)
}

impl Ground {
    /// More of the answer's text.
    pub fn say(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Metadata of a candidate.
    pub fn note(&mut self, candidate: Node<'_>) {
        for key in ["groundingMetadata", "citationMetadata"] {
            if let Some(node) = candidate.get(key).filter(|_| self.metadata.len() < PIECES_MAX) {
                self.metadata.push(node.raw().to_owned());
            }
        }
    }

    /// All citations, once each.
    pub fn annotations(&mut self) -> Vec<String> {
        let mut told: Vec<String> = Vec::new();
        for json in std::mem::take(&mut self.metadata) {
            for annotation in self.of_piece(Node::of(&json)) {
                if !told.contains(&annotation) {
                    told.push(annotation);
                }
            }
        }
        told
    }

    fn of_piece(&self, node: Node<'_>) -> Vec<String> {
        let list = |key: &str| node.get(key).map(Node::items).into_iter().flatten();
        let chunks: Vec<Node<'_>> = list("groundingChunks").collect();
        let mut is_used = vec![false; chunks.len()];
        let mut out = Vec::new();
        for support in list("groundingSupports") {
            let span = support.get("segment").map(|segment| self.span(segment)).unwrap_or_default();
            for index in support.get("groundingChunkIndices").map(Node::items).into_iter().flatten() {
                let Some(at) = index.u64().and_then(|at| usize::try_from(at).ok()) else { continue };
                let (Some(chunk), Some(used)) = (chunks.get(at), is_used.get_mut(at)) else { continue };
                *used = true;
                out.extend(cited(*chunk, at, span));
            }
        }
        let unused = chunks.iter().enumerate().filter(|(at, _)| is_used.get(*at) == Some(&false));
        out.extend(unused.filter_map(|(at, chunk)| cited(*chunk, at, Span::default())));
        for source in list("citationSources").chain(list("citations")) {
            if let Some(url) = source.text_at("uri") {
                out.push(of_link(&url, source.text_at("title").as_deref(), self.span(source), &[]));
            }
        }
        out
    }

    /// Bytes as letters.
    fn span(&self, segment: Node<'_>) -> Span {
        let at = |key: &str| {
            let bytes = usize::try_from(segment.u64_at(key).unwrap_or(0)).unwrap_or(usize::MAX);
            let mut end = bytes.min(self.text.len());
            while !self.text.is_char_boundary(end) {
                end = end.saturating_sub(1);
            }
            letters(self.text.get(..end).unwrap_or_default())
        };
        Span { start: at("startIndex"), end: at("endIndex") }
    }
}

/// A chunk: a page of the web or of a map, or a document that was retrieved.
fn cited(chunk: Node<'_>, at: usize, span: Span) -> Option<String> {
    let node = ["web", "maps", "retrievedContext"].into_iter().find_map(|kind| chunk.get(kind))?;
    let title = node.text_at("title");
    let quote = node.get("text").map(Node::raw);
    let more: Vec<(&str, &str)> = quote.into_iter().map(|quote| ("cited_text", quote)).collect();
    Some(match node.text_at("uri") {
        Some(url) => of_link(&url, title.as_deref(), span, &more),
        None => of_file("", title.as_deref(), u64::try_from(at).unwrap_or(u64::MAX), span, &more),
    })
}
