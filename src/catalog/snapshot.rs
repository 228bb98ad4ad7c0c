//! From the files of catalog folders to one published snapshot.
//!
//! [`compile`] is pure: texts in, key-value pairs out, in the same bytes for the same content whatever the order of the
//! files. The id of a snapshot is the hash of its pairs. Files under `providers/` and `models/` of several folders
//! merge; two that say the same id are a problem, and so is an offer of a model nobody describes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::listing::{list_key, listing};
use super::model::ModelEntry;
use super::plausible;
use super::source::{ModelSource, OfferSource, ProviderSource, parse_models, parse_provider};
use super::{manifest_key, model_key, provider_key};

/// Hex digits of a snapshot id.
const ID_DIGITS: usize = 16;

/// A file of a catalog folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is. Its folder, `providers` or `models`, says what it holds.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// One thing that is wrong with a catalog. Prints as `path:line: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: String,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// What is wrong, with the path of the member.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

impl Source {
    pub(super) fn problem(&self, line: Option<usize>, message: String) -> Problem {
        Problem { path: self.path.clone(), line, message }
    }
}

/// How much a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Models with at least one offer.
    pub models: usize,
    /// Offers.
    pub offers: usize,
    /// Providers with at least one offer.
    pub providers: usize,
}

/// A checked catalog in the form it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The first 16 hex digits of the hash of its content.
    pub id: String,
    /// How much it holds.
    pub counts: Counts,
    /// The latest date of any price in it; empty where none is dated.
    pub as_of: String,
    /// What discovery answers from, by its key below the snapshot's.
    listing: BTreeMap<String, String>,
    /// What each name resolves to.
    entries: BTreeMap<String, String>,
    /// Providers by id.
    providers: BTreeMap<String, String>,
}

impl Snapshot {
    /// Every key and value to publish, sorted by key. The pointer to the snapshot is not among them: it is written
    /// after they are.
    pub fn pairs(&self) -> Vec<(String, String)> {
        let manifest = Manifest { id: &self.id, counts: self.counts, as_of: &self.as_of };
        let mut pairs: Vec<_> =
            self.entries.iter().map(|(name, entry)| (model_key(&self.id, name), entry.clone())).collect();
        pairs.extend(self.providers.iter().map(|(id, value)| (provider_key(&self.id, id), value.clone())));
        pairs.push((manifest_key(&self.id), json(&manifest)));
        pairs.extend(self.listing.iter().map(|(key, value)| (list_key(&self.id, key), value.clone())));
        pairs.sort();
        pairs
    }

    /// What `name` resolves to.
    pub fn entry(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(String::as_str)
    }
}

#[derive(Serialize)]
struct Manifest<'a> {
    id: &'a str,
    #[serde(flatten)]
    counts: Counts,
    as_of: &'a str,
}

/// Reads, checks and renders the files. Every problem is reported, not only the first.
pub fn compile(sources: &[Source]) -> Result<Snapshot, Vec<Problem>> {
    let mut problems = Vec::new();
    let (providers, models) = read(sources, &mut problems);
    let names = claim_names(&models, &mut problems);
    let mut entries: BTreeMap<&str, ModelEntry> = BTreeMap::new();
    for (source, provider) in providers.values() {
        add_offers(source, provider, &models, &mut entries, &mut problems);
    }
    if entries.is_empty() && problems.is_empty() {
        problems.push(Problem { path: "catalog".into(), line: None, message: "no file holds an offer".into() });
    }
    if problems.is_empty() { Ok(render(sources, &models, &names, &entries)) } else { Err(problems) }
}

/// What parses and can yet hardly be so. A check looks for it; a folder of somebody's own may be as odd as it likes.
pub fn doubts(sources: &[Source]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let (providers, models) = read(sources, &mut Vec::new());
    for (id, (source, parsed)) in &models {
        for message in plausible::unstated(plausible::of_model(&parsed.model), &parsed.model.odd) {
            problems.push(source.problem(parsed.line, format!("{id}: {message}")));
        }
    }
    for (id, (source, parsed)) in &providers {
        for message in plausible::unstated(plausible::of_provider(parsed), &[]) {
            problems.push(source.problem(parsed.line, format!("{id}: {message}")));
        }
        for OfferSource { line, index, model, offer, odd } in &parsed.offers {
            let Some((_, described)) = models.get(model) else { continue };
            for message in plausible::unstated(plausible::of_offer(offer, &described.model), odd) {
                problems.push(source.problem(*line, format!("offers[{index}] {model}: {message}")));
            }
        }
    }
    problems
}

type Providers<'a> = BTreeMap<String, (&'a Source, ProviderSource)>;
type Models<'a> = BTreeMap<String, (&'a Source, ModelSource)>;

/// The providers and models of all files by id; a second one of the same id is a problem.
fn read<'a>(sources: &'a [Source], problems: &mut Vec<Problem>) -> (Providers<'a>, Models<'a>) {
    let mut sources: Vec<&Source> = sources.iter().collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    let (mut providers, mut models) = (Providers::new(), Models::new());
    for source in sources {
        match source.path.rsplit(['/', '\\']).nth(1) {
            Some("providers") => {
                let Some(parsed) = parse_provider(source, problems) else { continue };
                let (id, line) = (parsed.provider.id.clone(), parsed.line);
                match providers.get(&id) {
                    Some((other, _)) => {
                        problems.push(source.problem(line, format!("provider {id} is also in {}", other.path)));
                    }
                    None => {
                        providers.insert(id, (source, parsed));
                    }
                }
            }
            Some("models") => {
                for parsed in parse_models(source, problems) {
                    let (id, line) = (parsed.model.id.clone(), parsed.line);
                    match models.get(&id) {
                        Some((other, _)) => {
                            problems.push(source.problem(line, format!("model {id} is also in {}", other.path)));
                        }
                        None => {
                            models.insert(id, (source, parsed));
                        }
                    }
                }
            }
            _ => problems.push(source.problem(None, "a catalog file lies in providers/ or models/".into())),
        }
    }
    (providers, models)
}

/// Which model each id and alias means; one name for two models is a problem.
fn claim_names<'a>(models: &'a Models<'_>, problems: &mut Vec<Problem>) -> BTreeMap<&'a str, &'a str> {
    let mut names: BTreeMap<&str, &str> = models.keys().map(|id| (id.as_str(), id.as_str())).collect();
    for (id, (source, parsed)) in models {
        for alias in &parsed.model.aliases {
            match names.insert(alias, id) {
                Some(other) if other == id => {
                    problems.push(source.problem(parsed.line, format!("alias {alias} is there twice")));
                }
                Some(other) => {
                    problems.push(source.problem(parsed.line, format!("alias {alias} is also a name of {other}")));
                }
                None => {}
            }
        }
    }
    names
}

/// Adds a provider's offers to the entries of their models.
fn add_offers<'a>(
    source: &Source,
    provider: &ProviderSource,
    models: &'a Models<'_>,
    entries: &mut BTreeMap<&'a str, ModelEntry>,
    problems: &mut Vec<Problem>,
) {
    let mut seen = BTreeSet::new();
    for OfferSource { line, index, model, offer, .. } in &provider.offers {
        if !seen.insert((model, &offer.upstream, &offer.kind, &offer.variant, &offer.regions)) {
            problems.push(
                source.problem(*line, format!("offers[{index}]: {model} as {} is offered twice", offer.upstream)),
            );
            continue;
        }
        let Some((id, (_, described))) = models.get_key_value(model) else {
            problems.push(source.problem(*line, format!("offers[{index}].model: no file describes {model}")));
            continue;
        };
        let entry = entries.entry(id).or_insert_with(|| describe(described));
        entry.providers.entry(provider.provider.id.clone()).or_insert_with(|| provider.provider.clone());
        entry.offers.push(offer.clone());
    }
}

/// The entry of a model, still without offers.
fn describe(source: &ModelSource) -> ModelEntry {
    let model = &source.model;
    ModelEntry {
        id: model.id.clone(),
        name: model.name.clone().unwrap_or_else(|| model.id.clone()),
        organisation: source.organisation.clone(),
        kind: model.kind.clone(),
        input: model.input.clone(),
        output: model.output.clone(),
        context: model.context,
        max_output: model.max_output,
        created: model.created(),
        capabilities: model.capabilities.clone(),
        reasoning_controls: model.reasoning_controls.clone(),
        providers: BTreeMap::new(),
        offers: Vec::new(),
    }
}

fn render(
    sources: &[Source],
    models: &Models<'_>,
    names: &BTreeMap<&str, &str>,
    entries: &BTreeMap<&str, ModelEntry>,
) -> Snapshot {
    let mut rendered: BTreeMap<String, String> = BTreeMap::new();
    for (id, entry) in entries {
        let value = json(entry);
        let aliases = models.get(*id).map(|(_, source)| source.model.aliases.as_slice()).unwrap_or_default();
        for alias in aliases {
            rendered.insert(alias.clone(), value.clone());
        }
        rendered.insert((*id).to_owned(), value);
    }
    for (bare, id) in bare_names(entries.keys().copied()) {
        if let (false, Some(value)) = (names.contains_key(bare), rendered.get(id).cloned()) {
            rendered.insert(bare.to_owned(), value);
        }
    }
    let listing = listing(sources, entries);
    let offers = || entries.values().flat_map(|entry| &entry.offers);
    let providers = entries.values().flat_map(|entry| &entry.providers);
    let providers: BTreeMap<String, String> = providers.map(|(id, one)| (id.clone(), json(one))).collect();
    Snapshot {
        id: content_id(&rendered, &listing),
        counts: Counts { models: entries.len(), offers: offers().count(), providers: providers.len() },
        providers,
        as_of: offers().map(|offer| offer.card.as_of.as_str()).max().unwrap_or_default().to_owned(),
        listing,
        entries: rendered,
    }
}

/// The names behind the slash that belong to one model only.
fn bare_names<'a>(ids: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, &'a str> {
    let mut names: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for id in ids {
        if let Some((_, bare)) = id.split_once('/') {
            names.entry(bare).and_modify(|owner| *owner = None).or_insert(Some(id));
        }
    }
    names.into_iter().filter_map(|(bare, owner)| Some((bare, owner?))).collect()
}

/// The hash over all pairs but the manifest, which holds the id itself, and the providers, which are in the entries too.
/// No key or value holds a line end.
fn content_id(entries: &BTreeMap<String, String>, listing: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    for (name, entry) in entries {
        hash.update(format!("model/{name}\n{entry}\n"));
    }
    // A list holds line ends: its length says where it stops.
    for (key, list) in listing {
        hash.update(format!("{key} {}\n{list}\n", list.len()));
    }
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    digits.chars().take(ID_DIGITS).collect()
}

/// Compact JSON. Our own types with string keys always have one.
fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, json: serde_json::Value) -> Source {
        Source { path: path.into(), text: json.to_string() }
    }

    fn two_models() -> Vec<Source> {
        vec![
            source(
                "catalog/models/acme.json",
                serde_json::json!({"organisation": {"id": "acme"}, "models": [
                    {"id": "acme/one", "released": "2026-02", "aliases": ["acme-old/uno"]},
                    {"id": "acme/two", "aliases": ["beta"]},
                    {"id": "acme/three"},
                ]}),
            ),
            source(
                "catalog/models/bolt.json",
                serde_json::json!({"organisation": {"id": "bolt"}, "models": [{"id": "bolt/two"}, {"id": "bolt/beta"}]}),
            ),
            source(
                "catalog/providers/p.json",
                serde_json::json!({"id": "p", "base_url": "http://127.0.0.1:9", "as_of": "2026-11-01", "offers": [
                    {"model": "acme/one", "upstream": "one", "prices": {"input_tokens": "0.5", "output_tokens": "2"}},
                    {"model": "acme/two", "upstream": "two", "prices": {"input_tokens": "1"}, "as_of": "2026-11-02"},
                    {"model": "bolt/two", "upstream": "bolt-two", "free": true},
                    {"model": "bolt/beta", "upstream": "bolt-beta", "free": true},
                ]}),
            ),
        ]
    }

    #[test]
    fn names_resolve_where_they_mean_one_model() {
        let snapshot = compile(&two_models()).unwrap();
        let resolved = |name: &str| snapshot.entry(name).map(|entry| ModelEntry::parse(entry.as_bytes()).unwrap().id);
        for (name, id) in [
            ("acme/one", Some("acme/one")),
            ("acme-old/uno", Some("acme/one")),
            ("one", Some("acme/one")),
            ("two", None),              // of two organisations
            ("beta", Some("acme/two")), // an alias, so not the bare name of bolt/beta
            ("acme/three", None),       // no offer
            ("three", None),
        ] {
            assert_eq!(resolved(name).as_deref(), id, "{name}");
        }
    }

    #[test]
    fn the_order_of_files_does_not_matter() {
        let mut reversed = two_models();
        reversed.reverse();
        assert_eq!(compile(&two_models()), compile(&reversed));
    }

    #[test]
    fn pairs_are_keyed_by_the_snapshot() {
        let snapshot = compile(&two_models()).unwrap();
        let pairs: BTreeMap<String, String> = snapshot.pairs().into_iter().collect();
        assert_eq!(snapshot.id.len(), ID_DIGITS);
        assert_eq!(
            pairs[&manifest_key(&snapshot.id)],
            format!(r#"{{"id":"{}","models":4,"offers":4,"providers":1,"as_of":"2026-11-02"}}"#, snapshot.id)
        );
        for key in [model_key(&snapshot.id, "acme-old/uno"), list_key(&snapshot.id, "list/models")] {
            assert!(pairs.contains_key(&key), "{key}");
        }
        assert!(pairs.keys().all(|key| key.starts_with(&list_key(&snapshot.id, ""))));
    }
}
