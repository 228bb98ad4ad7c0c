//! Checks catalog folders, and compiles them into the key-value pairs of a snapshot.
//!
//! ```text
//! catalog check FOLDER...                 problems and doubts as file:line: message, or one line of counts
//! catalog compile --out FILE FOLDER...    {"snapshot": {id, models, offers, providers}, "pairs": [{key, value}…]}
//! catalog receipt --snapshot FILE [ROW]   a row of `GET /v1/generation` (a file, else standard input) recomputed from such a
//!                                         file; fails where it was charged anything else
//! ```
//!
//! A command for people and scripts, never part of the Worker: on wasm32 it does nothing.

#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match native::run(&args) {
        Ok(summary) => {
            println!("{summary}");
            std::process::ExitCode::SUCCESS
        }
        Err(problems) => {
            eprintln!("{problems}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::fs;
    use std::io::Read;
    use std::path::{Path, PathBuf};

    use ai_stats_gateway::activity::receipt::prove;
    use ai_stats_gateway::activity::row::Row;
    use ai_stats_gateway::catalog::{Counts, ModelEntry, Problem, Snapshot, Source, compile, doubts, model_key};
    use ai_stats_gateway::money::Nanos;
    use ai_stats_gateway::openapi::{READER, READER_KEY};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Serialize};

    const USAGE: &str = "usage: catalog check FOLDER...\n       catalog compile --out FILE FOLDER...\n       \
        catalog receipt --snapshot FILE [ROW]";

    #[derive(Serialize)]
    struct Output {
        snapshot: Head,
        pairs: Vec<Pair>,
    }

    #[derive(Serialize)]
    struct Head {
        id: String,
        #[serde(flatten)]
        counts: Counts,
    }

    #[derive(Serialize, Deserialize)]
    struct Pair {
        key: String,
        value: String,
    }

    pub fn run(args: &[String]) -> Result<String, String> {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match args.as_slice() {
            ["check", folders @ ..] if !folders.is_empty() => {
                let sources = sources_of(folders)?;
                let snapshot = compile(&sources).map_err(|problems| lines(&problems))?;
                let doubts = doubts(&sources);
                if doubts.is_empty() { Ok(summary(&snapshot)) } else { Err(lines(&doubts)) }
            }
            ["compile", "--out", file, folders @ ..] if !folders.is_empty() => {
                let snapshot = compile(&sources_of(folders)?).map_err(|problems| lines(&problems))?;
                write(&snapshot, Path::new(file)).map_err(|error| format!("{file}: {error}"))?;
                Ok(summary(&snapshot))
            }
            ["receipt", "--snapshot", snapshot] => receipt(Path::new(snapshot), None),
            ["receipt", "--snapshot", snapshot, row] => receipt(Path::new(snapshot), Some(Path::new(row))),
            _ => Err(USAGE.into()),
        }
    }

    #[derive(Deserialize)]
    struct Published {
        snapshot: Named,
        pairs: Vec<Pair>,
    }

    #[derive(Deserialize)]
    struct Named {
        id: String,
    }

    /// A row as the API shows it: what the ledger charged stands beside it.
    #[derive(Deserialize)]
    struct Charged {
        cost_nanos: i64,
    }

    fn receipt(snapshot: &Path, row: Option<&Path>) -> Result<String, String> {
        let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
        let text = match row {
            Some(path) => read(path)?,
            None => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map_err(|error| error.to_string())?;
                text
            }
        };
        let wrong = |error: serde_json::Error| format!("the row is none: {error}");
        let row: Row = serde_json::from_str(&text).map_err(wrong)?;
        let Charged { cost_nanos } = serde_json::from_str(&text).map_err(wrong)?;
        let published: Published =
            serde_json::from_str(&read(snapshot)?).map_err(|error| format!("{}: {error}", snapshot.display()))?;
        if row.snapshot.as_deref().is_some_and(|id| id != published.snapshot.id) {
            return Err(format!(
                "the row was priced by snapshot {}, this is {}",
                row.snapshot.as_deref().unwrap_or_default(),
                published.snapshot.id
            ));
        }
        let key = row.model.as_deref().map(|model| model_key(&published.snapshot.id, model));
        let pair = published.pairs.iter().find(|pair| Some(&pair.key) == key.as_ref());
        let entry = pair.map(|pair| ModelEntry::parse(pair.value.as_bytes()).map_err(|error| error.to_string()));
        let entry = entry.transpose()?;
        prove(&row, entry.as_ref(), Nanos(cost_nanos)).map(|proof| proof.text)
    }

    fn summary(snapshot: &Snapshot) -> String {
        let Counts { models, offers, providers } = snapshot.counts;
        format!("{}: {models} models, {offers} offers, {providers} providers", snapshot.id)
    }

    fn write(snapshot: &Snapshot, file: &Path) -> std::io::Result<()> {
        // Not the catalog's, but published as it is.
        let reader = (READER_KEY.to_owned(), STANDARD.encode(READER));
        let output = Output {
            snapshot: Head { id: snapshot.id.clone(), counts: snapshot.counts },
            pairs: snapshot.pairs().into_iter().chain([reader]).map(|(key, value)| Pair { key, value }).collect(),
        };
        fs::write(file, serde_json::to_vec(&output)?)
    }

    fn lines(problems: &[Problem]) -> String {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    fn sources_of(folders: &[&str]) -> Result<Vec<Source>, String> {
        let mut sources = Vec::new();
        for folder in folders {
            read_folder(Path::new(folder), &mut sources)?;
        }
        Ok(sources)
    }

    /// Every JSON file in a catalog folder and in its subfolders.
    fn read_folder(folder: &Path, sources: &mut Vec<Source>) -> Result<(), String> {
        let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let found: Result<Vec<PathBuf>, _> =
            fs::read_dir(folder).and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
        for path in found.map_err(|error| failed(folder, error))? {
            if path.is_dir() {
                read_folder(&path, sources)?;
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
                sources.push(Source { path: path.display().to_string(), text });
            }
        }
        Ok(())
    }
}
