//! Checks catalog folders, and compiles them into the key-value pairs of a snapshot.
//!
//! ```text
//! catalog check FOLDER...                 problems and doubts as file:line: message, or one line of counts
//! catalog compile --out FILE FOLDER...    {"snapshot": {id, models, offers, providers}, "pairs": [{key, value}…]}
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
    use std::path::{Path, PathBuf};

    use ai_stats_gateway::catalog::{Counts, Problem, Snapshot, Source, compile, doubts};
    use serde::Serialize;

    const USAGE: &str = "usage: catalog check FOLDER...\n       catalog compile --out FILE FOLDER...";

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

    #[derive(Serialize)]
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
            _ => Err(USAGE.into()),
        }
    }

    fn summary(snapshot: &Snapshot) -> String {
        let Counts { models, offers, providers } = snapshot.counts;
        format!("{}: {models} models, {offers} offers, {providers} providers", snapshot.id)
    }

    fn write(snapshot: &Snapshot, file: &Path) -> std::io::Result<()> {
        let output = Output {
            snapshot: Head { id: snapshot.id.clone(), counts: snapshot.counts },
            pairs: snapshot.pairs().into_iter().map(|(key, value)| Pair { key, value }).collect(),
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
