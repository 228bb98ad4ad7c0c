//! The values of a snapshot that discovery answers from, made when the snapshot is.
//!
//! Everything that can be known of a catalog without a request is worked out here, natively, and written down as lines
//! (`row` has the form). At run time a filter compares bytes and an answer is made of pieces of the value.
//!
//! | key below `catalog/{snapshot}/` | rows |
//! |---|---|
//! | `words` | no rows: every facet value there is, so that a filter for an unknown one can be refused |
//! | `list/models` | every model |
//! | `list/providers` | every provider |
//! | `list/offers` | every offer, without its JSON |
//! | `list/prices` | the JSON of every offer, line by line as in `list/offers` |
//! | `of/model/{id}` | one model, then its offers with their cards |
//! | `of/family/{family}` | the offers of a model family with their cards |
//! | `of/provider/{id}` | one provider, then its offers |

mod about;
mod row;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::provider::area_of;
use super::snapshot::Source;
use super::source::KINDS;
use super::{Availability, Channel, ModelEntry, Offer, Provider, Status};
use crate::usage::Meter;

pub use row::{Row, facet, with_member};

/// The key of a list of `snapshot`.
pub fn list_key(snapshot: &str, list: &str) -> String {
    format!("catalog/{snapshot}/{list}")
}

/// The key of the rows that belong to one thing: `of` is `model`, `family` or `provider`.
pub fn rows_key(snapshot: &str, of: &str, id: &str) -> String {
    format!("catalog/{snapshot}/of/{of}/{id}")
}

/// Parameters of a request that an offer takes when it has the capability; none: every offer of that kind takes it.
/// `parameter` filters look here too, so a parameter is no facet of its own.
pub const PARAMETERS: &[(&str, Option<&str>)] = &[
    ("max_completion_tokens", None),
    ("max_tokens", None),
    ("parallel_tool_calls", Some("parallel_tools")),
    ("reasoning_effort", Some("reasoning")),
    ("response_format", Some("structured_output")),
    ("stream", Some("streaming")),
    ("stream_options", Some("streaming")),
    ("temperature", Some("sampling_params")),
    ("tool_choice", Some("tools")),
    ("tools", Some("tools")),
    ("top_p", Some("sampling_params")),
    ("web_search_options", Some("web_search")),
];

/// Capabilities that an offer states for itself: where it states any of them, the others are not there.
pub const STATED: &[&str] = &["reasoning", "structured_output", "tools", "vision"];
/// Words that a filter may ask for also where no offer has them today.
const TRAINING: &[&str] = &["no", "opt_out", "may", "unknown"];
const RETENTION: &[&str] = &["default", "on_request", "none", "unknown"];

/// Every value, by its key below the snapshot's.
pub(super) fn listing(sources: &[Source], entries: &BTreeMap<&str, ModelEntry>) -> BTreeMap<String, String> {
    let about = about::read(sources);
    let mut words = Words::default();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut names: Vec<(String, &str)> =
        entries.values().map(|one| (one.name.to_lowercase(), one.id.as_str())).collect();
    names.sort_unstable();
    let ranks: BTreeMap<&str, usize> = names.iter().enumerate().map(|(rank, (_, id))| (*id, rank)).collect();
    for entry in entries.values() {
        let rank = ranks.get(entry.id.as_str()).copied().unwrap_or_default();
        add_model(entry, rank, &about, &mut words, &mut values);
    }
    add_providers(entries, &about, &mut words, &mut values);
    values.insert("words".into(), words.into_text());
    values
}

/// `rank` is its place among all models by name.
fn add_model(
    entry: &ModelEntry,
    rank: usize,
    about: &about::About,
    words: &mut Words,
    values: &mut BTreeMap<String, String>,
) {
    let none = (about::Model::default(), about::Provider::default());
    let described = about.models.get(&entry.id).unwrap_or(&none.0);
    let mut facets = words.noted(model_facets(entry, described, about));
    facets.push(("rank", rank.to_string()));
    let model = line(&facets, "", &shown::model(entry, described), "");
    append(values, "list/models", &model);
    append(values, &format!("of/model/{}", entry.id), &model);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for offer in &entry.offers {
        let Some(provider) = entry.provider_of(offer) else { continue };
        let count = counts.entry(&offer.provider).or_default();
        *count = count.saturating_add(1);
        let id = match *count {
            1 => format!("{}:{}", offer.provider, entry.id),
            count => format!("{}:{}#{count}", offer.provider, entry.id),
        };
        let facets = words.noted(offer_facets(&id, entry, offer, provider, described));
        let card = serde_json::to_string(&offer.card).unwrap_or_default();
        let json = shown::offer(&id, entry, offer, provider);
        let of_provider = about.providers.get(&offer.provider).unwrap_or(&none.1);
        let more = shown::more_of_offer(entry, offer, of_provider);
        let policy = shown::policy(provider, of_provider);
        append(values, "list/offers", &line(&facets, "", "", ""));
        append(values, "list/prices", &format!("{json}\n"));
        append(values, &format!("of/model/{}", entry.id), &line(&facets, &card, &json, &format!("{more},{policy}")));
        if let Some(family) = &described.family {
            append(values, &format!("of/family/{family}"), &line(&facets, &card, &json, ""));
        }
        append(values, &format!("of/provider/{}", offer.provider), &line(&facets, "", &json, &more));
    }
}

/// The rows of providers, each in front of its offers too.
fn add_providers(
    entries: &BTreeMap<&str, ModelEntry>,
    about: &about::About,
    words: &mut Words,
    values: &mut BTreeMap<String, String>,
) {
    let providers: BTreeMap<&str, &Provider> =
        entries.values().flat_map(|entry| entry.providers.values()).map(|one| (one.id.as_str(), one)).collect();
    let none = about::Provider::default();
    for (id, provider) in providers {
        let own = entries.values().flat_map(|entry| entry.offers.iter().map(move |offer| (entry, offer)));
        let own: Vec<(&ModelEntry, &Offer)> = own.filter(|(_, offer)| offer.provider == id).collect();
        let facets = words.noted(provider_facets(provider));
        let about = about.providers.get(id).unwrap_or(&none);
        let json = shown::provider(provider, about, &own);
        append(values, "list/providers", &line(&facets, "", &json, ""));
        let rows = values.entry(format!("of/provider/{id}")).or_default();
        rows.insert_str(0, &line(&facets, "", &json, &shown::more_of_provider(provider, about, &own)));
    }
}

type Facets = Vec<(&'static str, String)>;

fn model_facets(entry: &ModelEntry, about: &about::Model, all: &about::About) -> Facets {
    let mut facets = vec![("id", entry.id.clone()), ("created", entry.created.to_string())];
    facets.retain(|(name, value)| *name != "created" || value != "0");
    let kinds: BTreeSet<&str> =
        [entry.kind.as_str()].into_iter().chain(about.kinds.iter().map(String::as_str)).collect();
    let context = entry.context.or_else(|| entry.offers.iter().filter_map(|offer| offer.context).max());
    let free = entry.offers.iter().any(|offer| offer.is_free);
    let statuses: BTreeSet<&str> = entry.offers.iter().map(status_of).collect();
    add_about(&mut facets, entry, about);
    add(&mut facets, "kind", kinds);
    add(&mut facets, "provider", entry.providers.keys());
    add(&mut facets, "can", capabilities_of_model(entry));
    add(&mut facets, "status", statuses);
    add(&mut facets, "free", [if free { "yes" } else { "no" }]);
    add(&mut facets, "context", context.map(|tokens| tokens.to_string()));
    add(&mut facets, "prices", [best_prices(entry.offers.iter())]);
    let organisation = all.organisations.get(&entry.organisation).and_then(|one| one.name.as_deref());
    let text = [&entry.name, &entry.id].into_iter().chain(&about.aliases).map(String::as_str).chain(organisation);
    facets.push(("text", text.collect::<Vec<_>>().join(" ").to_lowercase()));
    facets
}

/// What both a model and its offers are found by.
fn add_about(facets: &mut Facets, entry: &ModelEntry, about: &about::Model) {
    add(facets, "organisation", [&entry.organisation]);
    add(facets, "family", &about.family);
    add(facets, "input", &entry.input);
    add(facets, "output", &entry.output);
    add(facets, "open_weights", about.open_weights.map(|open| if open { "yes" } else { "no" }));
}

fn offer_facets(id: &str, entry: &ModelEntry, offer: &Offer, provider: &Provider, about: &about::Model) -> Facets {
    let mut facets = vec![("id", id.to_owned())];
    add_about(&mut facets, entry, about);
    add(&mut facets, "model", [&entry.id]);
    add(&mut facets, "provider", [&offer.provider]);
    add(&mut facets, "upstream", [&offer.upstream]);
    add(&mut facets, "variant", &offer.variant);
    add(&mut facets, "kind", [&offer.kind]);
    add(&mut facets, "can", capabilities_of(entry, offer));
    add(&mut facets, "region", areas_of(offer, provider));
    add(&mut facets, "status", [status_of(offer)]);
    add(&mut facets, "availability", [offer.standing.availability.name()]);
    add(&mut facets, "support", [offer.standing.support.name()]);
    add(&mut facets, "channel", [offer.standing.channel.name()]);
    add(&mut facets, "routing", [offer.standing.routing.name()]);
    add(&mut facets, "retires", &offer.retires);
    add(&mut facets, "free", [if offer.is_free { "yes" } else { "no" }]);
    add(&mut facets, "context", offer.context.or(entry.context).map(|tokens| tokens.to_string()));
    add(&mut facets, "prices", [best_prices([offer].into_iter())]);
    add_policy(&mut facets, provider);
    facets
}

fn provider_facets(provider: &Provider) -> Facets {
    let mut facets = vec![("id", provider.id.clone()), ("provider", provider.id.clone())];
    add(&mut facets, "region", with_areas(&provider.regions));
    add_policy(&mut facets, provider);
    facets.push(("text", format!("{} {}", provider.name, provider.id).to_lowercase()));
    facets
}

/// Where nobody looked, the policy is unknown and its days are not there: such a provider passes no filter for them.
fn add_policy(facets: &mut Facets, provider: &Provider) {
    add(facets, "country", &provider.country);
    let policy = provider.data_policy.as_ref();
    let word = |value: Option<serde_json::Value>| {
        value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_else(|| "unknown".to_owned())
    };
    let trains = word(policy.and_then(|policy| serde_json::to_value(policy.trains_on_api_data).ok()));
    let zero = word(policy.and_then(|policy| serde_json::to_value(policy.zero_retention).ok()));
    add(facets, "retention_days", policy.and_then(|policy| policy.retention_days).map(|days| days.to_string()));
    facets.extend([("trains", trains), ("zero_retention", zero)]);
}

fn add<T: ToString>(facets: &mut Facets, name: &'static str, values: impl IntoIterator<Item = T>) {
    facets.extend(values.into_iter().map(|value| (name, value.to_string())));
}

/// What the model can do at one of its offers.
fn capabilities_of_model(entry: &ModelEntry) -> BTreeSet<&str> {
    let of_offers = entry.offers.iter().flat_map(|offer| capabilities_of(entry, offer));
    of_offers.filter(|capability| entry.capabilities.get(*capability) != Some(&false)).collect()
}

/// What an offer is known to be able to do. Of what offers state for themselves its own word counts, of the rest the
/// model's. A restriction (`responses_only`) is no capability.
fn capabilities_of<'a>(entry: &'a ModelEntry, offer: &'a Offer) -> BTreeSet<&'a str> {
    let states = STATED.iter().any(|capability| offer.can.contains(*capability));
    let of_model = entry.capabilities.iter().filter(|(_, can)| **can).map(|(name, _)| name.as_str());
    let inherited = of_model.filter(|name| !(states && STATED.contains(name)));
    let own = offer.can.iter().map(String::as_str).filter(|name| STATED.contains(name));
    inherited.chain(own).collect()
}

fn parameters_of(kind: &str, capabilities: &BTreeSet<&str>) -> BTreeSet<&'static str> {
    let takes = |needs: &Option<&str>| needs.is_none_or(|capability| capabilities.contains(capability));
    let known = PARAMETERS.iter().filter(|(_, needs)| kind == "chat" && takes(needs));
    known.map(|(parameter, _)| *parameter).collect()
}

fn regions_of<'a>(offer: &'a Offer, provider: &'a Provider) -> &'a [String] {
    if offer.regions.is_empty() { &provider.regions } else { &offer.regions }
}

fn areas_of(offer: &Offer, provider: &Provider) -> BTreeSet<String> {
    with_areas(regions_of(offer, provider))
}

/// Regions with the areas they lie in.
fn with_areas(regions: &[String]) -> BTreeSet<String> {
    regions.iter().cloned().chain(regions.iter().map(|region| area_of(region))).collect()
}

/// Where in its life an offer is.
fn status_of(offer: &Offer) -> &'static str {
    offer.standing.status.name()
}

/// `prompt:completion` in nanos per million tokens of each offer that no other undercuts in both, cheapest sum first;
/// an unknown price is empty. So one look says whether one offer keeps both ceilings.
fn best_prices<'a>(offers: impl Iterator<Item = &'a Offer>) -> String {
    let price = |offer: &Offer, meter| offer.card.prices.get(&meter).map_or(i64::MAX, |price| price.0);
    let mut pairs: Vec<(i64, i64)> =
        offers.map(|offer| (price(offer, Meter::InputTokens), price(offer, Meter::OutputTokens))).collect();
    pairs.sort_by_key(|(prompt, completion)| (prompt.saturating_add(*completion), *prompt));
    let mut best: Vec<(i64, i64)> = Vec::new();
    for (prompt, completion) in pairs {
        if !best.iter().any(|(p, c)| *p <= prompt && *c <= completion) {
            best.push((prompt, completion));
        }
    }
    let text = |nanos: i64| if nanos == i64::MAX { String::new() } else { nanos.to_string() };
    best.iter()
        .map(|(prompt, completion)| format!("{}:{}", text(*prompt), text(*completion)))
        .collect::<Vec<_>>()
        .join(";")
}

fn line(facets: &Facets, card: &str, json: &str, more: &str) -> String {
    let mut text = String::from("|");
    for (name, value) in facets {
        let _ = write!(text, "{name}={}|", row::clean(value));
    }
    format!("{text}\t{card}\t{json}\t{more}\n")
}

fn append(values: &mut BTreeMap<String, String>, key: &str, line: &str) {
    values.entry(key.to_owned()).or_default().push_str(line);
}

/// Every value of the facets that are words.
#[derive(Default)]
struct Words(BTreeSet<(&'static str, String)>);

impl Words {
    const NAMES: &'static [&'static str] = &[
        "organisation",
        "provider",
        "family",
        "kind",
        "input",
        "output",
        "can",
        "region",
        "status",
        "trains",
        "zero_retention",
        "country",
    ];

    /// Notes the words among the facets.
    fn noted(&mut self, facets: Facets) -> Facets {
        self.0.extend(facets.iter().filter(|(name, _)| Words::NAMES.contains(name)).cloned());
        facets
    }

    fn into_text(mut self) -> String {
        let always = [
            ("kind", KINDS),
            ("status", Status::NAMES),
            ("availability", Availability::NAMES),
            ("channel", Channel::NAMES),
            ("trains", TRAINING),
            ("zero_retention", RETENTION),
        ];
        for (name, words) in always {
            self.0.extend(words.iter().map(|word| (name, (*word).to_owned())));
        }
        self.0.iter().fold(String::from("|"), |text, (name, word)| text + &format!("{name}={}|", row::clean(word)))
    }
}

#[cfg(test)]
mod tests;
