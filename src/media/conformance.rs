//! The table endpoint × family × parameter, out of the rows that act on it.

use super::shape::{Fate, Shape};
use super::{embeddings, images, moderation, rerank, speech, transcription};

/// One endpoint: its path, and for each family the fates of parameters.
type Section = (&'static str, Vec<(&'static [&'static str], Vec<(&'static str, Fate)>)>);

fn section<W>(path: &'static str, table: &[&Shape<W>]) -> Section {
    (path, table.iter().map(|shape| (shape.families, shape.fates.to_vec())).collect())
}

fn sections() -> Vec<Section> {
    vec![
        section("/v1/embeddings", embeddings::hosts::TABLE),
        section("/v1/rerank", rerank::TABLE),
        section("/v1/moderations", moderation::TABLE),
        section("/v1/images/generations, /v1/images/edits", images::hosts::TABLE),
        section("/v1/audio/speech, /v1/tts/synthesize", speech::hosts::TABLE),
        section("/v1/audio/transcriptions, /v1/audio/translations, /v1/stt/transcribe", transcription::hosts::TABLE),
    ]
}

fn word(fate: Fate) -> String {
    match fate {
        Fate::Kept => "kept".to_owned(),
        Fate::Mapped(how) => format!("→ {how}"),
        Fate::Unless(other) => format!("kept, not beside `{other}`"),
        Fate::Dropped => "dropped".to_owned(),
        Fate::Refused => "refused".to_owned(),
    }
}

/// The table as Markdown: one section for each endpoint, a row for each parameter, a column for each family.
pub fn markdown() -> String {
    let mut out = String::new();
    for (path, rows) in sections() {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in rows.iter().flat_map(|(_, fates)| fates) {
            if !names.contains(name) {
                names.push(name);
            }
        }
        let heads: Vec<&str> = rows.iter().map(|(families, _)| families.first().copied().unwrap_or_default()).collect();
        out.push_str(&format!("**{path}**\n\n| | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(heads.len())));
        for name in names {
            let cell = |(_, fates): &(_, Vec<(&str, Fate)>)| {
                fates
                    .iter()
                    .find(|(known, _)| known == &name)
                    .map_or_else(|| "dropped".to_owned(), |(_, fate)| word(*fate))
            };
            let cells: Vec<String> = rows.iter().map(cell).collect();
            out.push_str(&format!("| `{name}` | {} |\n", cells.join(" | ")));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines in the README between which the table stands.
    const MARKS: (&str, &str) =
        ("<!-- conformance: written by `UPDATE=1 cargo test conformance` -->\n", "<!-- /conformance -->");

    #[test]
    fn the_table_in_the_readme_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let (before, rest) = readme.split_once(MARKS.0).expect("README.md has the first mark");
        let (table, after) = rest.split_once(MARKS.1).expect("README.md has the second mark");
        if std::env::var("UPDATE").is_ok() {
            let text = format!("{before}{}\n{}{}{after}", MARKS.0, markdown(), MARKS.1);
            std::fs::write(path, text).unwrap();
            return;
        }
        assert_eq!(table.trim(), markdown().trim(), "run UPDATE=1 cargo test conformance");
    }

    #[test]
    fn a_family_has_one_row_and_a_parameter_one_fate() {
        for (path, rows) in sections() {
            let mut families: Vec<&str> = rows.iter().flat_map(|(families, _)| families.iter().copied()).collect();
            let count = families.len();
            families.sort_unstable();
            families.dedup();
            assert_eq!(families.len(), count, "{path}");
            for (families, fates) in rows {
                let mut names: Vec<&str> = fates.iter().map(|(name, _)| *name).collect();
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), fates.len(), "{path} {families:?}");
            }
        }
    }
}
