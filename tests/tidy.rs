//! The rules of the project that a program can check.

use std::fs;
use std::path::{Path, PathBuf};

use ai_stats_gateway::error::Code;
use ai_stats_gateway::serve::ENDPOINTS;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Every source file with its path below `src/` and its text without the tests at its end.
fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    let is_code = |path: &PathBuf| path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        (path.strip_prefix(&src).unwrap().display().to_string(), code)
    };
    found.into_iter().filter(is_code).map(read).collect()
}

fn code_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn no_string_in_the_source_is_a_provider() {
    let providers = fs::read_dir(root().join("catalog/providers")).unwrap();
    let ids: Vec<String> =
        providers.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    for (path, text) in sources().iter().filter(|(path, _)| !path.starts_with("bin/")) {
        for line in code_of(text) {
            // D1 calls its account of a statement "meta", Cohere that of a rerank.
            // A family may bear the name of the provider that made it.
            let is_other = |id: &str| {
                (id == "meta" && (path.starts_with("host/") || path == "media/rerank.rs"))
                    || (path.ends_with("family/mod.rs") && line.contains(", Family::"))
                    || (path.starts_with("media/") && line.contains("families: &["))
            };
            let hit = ids.iter().find(|id| line.contains(&format!("\"{id}\"")) && !is_other(id));
            assert!(hit.is_none(), "{path} names the provider {hit:?}: {line}");
        }
    }
}

#[test]
fn money_knows_no_floats() {
    for (path, text) in sources() {
        let is_money =
            ["money.rs", "usage.rs", "ledger/", "limits/", "catalog/"].iter().any(|part| path.starts_with(part));
        for line in code_of(&text).filter(|_| is_money) {
            assert!(!line.contains("f64") && !line.contains("f32"), "{path}: {line}");
        }
    }
}

#[test]
fn only_the_shell_knows_the_platform_and_the_clock() {
    for (path, text) in sources() {
        if path.starts_with("host/") || path.starts_with("bin/") {
            continue;
        }
        for line in code_of(&text) {
            for word in
                ["worker::", "js_sys", "wasm_bindgen", "getrandom", "SystemTime::now", "Instant::now", "Utc::now"]
            {
                assert!(!line.contains(word), "{path} mentions {word}: {line}");
            }
        }
    }
}

#[test]
fn the_layers_point_upwards_only() {
    let layers: &[&[&str]] = &[
        &["money", "usage", "id", "time", "error"],
        &["json", "sse", "text", "dialect", "family"],
        &["catalog"],
        &[
            "access",
            "activity",
            "analytics",
            "attempt",
            "discovery",
            "health",
            "ledger",
            "limits",
            "relay",
            "routing",
            "workspace",
        ],
        &["serve"],
        &["host"],
    ];
    let layer_of = |module: &str| layers.iter().position(|layer| layer.contains(&module));
    for (path, text) in sources() {
        let module = path.split(['/', '.']).next().unwrap();
        let Some(own) = layer_of(module) else { continue };
        for line in code_of(&text) {
            let Some((_, rest)) = line.split_once("crate::") else { continue };
            let used = rest.split([':', ';', '{', ' ']).next().unwrap();
            let Some(other) = layer_of(used) else { continue };
            // A catalog names quirks; a quirk is a word of its family.
            assert!(other <= own, "{path} (layer {own}) uses {used} (layer {other}): {line}");
        }
    }
    for pair in [("dialect/", "crate::family"), ("family/", "crate::dialect")] {
        for (path, text) in sources().iter().filter(|(path, _)| path.starts_with(pair.0)) {
            assert!(!code_of(text).any(|line| line.contains(pair.1)), "{path} mentions {}", pair.1);
        }
    }
}

#[test]
fn the_readme_names_every_code_and_every_endpoint() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for code in Code::ALL {
        assert!(readme.contains(&format!("`{}`", code.name())), "README.md lacks the code {}", code.name());
    }
    for endpoint in ENDPOINTS {
        let path = endpoint.path.replace("/v1/admin/workspaces/{id}/", "/{id}/").replace("{id*}", "{id}");
        assert!(readme.contains(&path), "README.md lacks {} {path}", endpoint.method);
    }
}

#[test]
fn every_folder_of_the_source_is_in_the_map() {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(
            ["lib", "bin"].contains(&name.as_str()) || map.contains(&format!("mod {name};")),
            "{name} is not in lib.rs"
        );
    }
}

/// The reader of JSON tells a type the number of a field among its names; a second name would shift the numbers.
#[test]
fn a_field_has_one_name() {
    for (path, text) in sources() {
        let is_named_twice = |line: &&str| line.contains("serde(") && line.contains("alias = ");
        assert_eq!(text.lines().find(is_named_twice), None, "{path}");
    }
}
