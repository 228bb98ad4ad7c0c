//! The objects that discovery shows: a model, an offer, a provider. Written when a snapshot is made and never parsed at
//! run time. What is not known is `null` or absent, never zero; `created` alone is 0 where unknown, because an OpenAI
//! client expects a number there (`released` says so in words).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::card::{Change, Effect, PriceCard, Rule, When};
use super::super::provider::{Training, ZeroRetention};
use super::super::{ModelEntry, Offer, Provider};
use super::about;
use super::{capabilities_of, parameters_of, regions_of};
use crate::money::{Nanos, Price};
use crate::usage::Meter;

/// A price with what it is for, so that no reader has to know the meter.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
struct Priced {
    usd: String,
    per: u64,
}

type Pricing = BTreeMap<Meter, Priced>;

fn pricing<'a>(prices: impl IntoIterator<Item = (&'a Meter, &'a Price)>) -> Pricing {
    let priced =
        |(meter, price): (&Meter, &Price)| (*meter, Priced { usd: price.to_dollars(meter.per()), per: meter.per() });
    prices.into_iter().map(priced).collect()
}

#[derive(Serialize)]
struct ShownRule<'a> {
    when: &'a When,
    #[serde(flatten)]
    effect: ShownEffect,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ShownEffect {
    Pricing(Pricing),
    Multiplier(String),
}

/// Announced prices.
#[derive(Serialize)]
struct ShownChange<'a> {
    from: String,
    pricing: Pricing,
    price_rules: Vec<ShownRule<'a>>,
}

fn changes(card: &PriceCard) -> Vec<ShownChange<'_>> {
    card.changes.iter().map(ShownChange::new).collect()
}

impl<'a> ShownChange<'a> {
    fn new(change: &'a Change) -> ShownChange<'a> {
        let (pricing, price_rules) = (pricing(&change.prices), rules(&change.rules));
        ShownChange { from: change.from.to_rfc3339(), pricing, price_rules }
    }
}

fn rules(rules: &[Rule]) -> Vec<ShownRule<'_>> {
    let effect = |effect: &Effect| match effect {
        Effect::Prices(prices) => ShownEffect::Pricing(pricing(prices)),
        // Basis points are ten-thousandths, nanos billionths.
        Effect::Multiplier(points) => ShownEffect::Multiplier(
            i64::try_from(*points).map(|points| Nanos(points.saturating_mul(100_000)).to_dollars()).unwrap_or_default(),
        ),
    };
    rules.iter().map(|rule| ShownRule { when: &rule.when, effect: effect(&rule.effect) }).collect()
}

#[derive(Serialize)]
struct ShownModel<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
    name: &'a str,
    family: Option<&'a str>,
    kind: &'a str,
    context_length: Option<u64>,
    max_output_tokens: Option<u64>,
    input_modalities: &'a [String],
    output_modalities: &'a [String],
    capabilities: &'a BTreeMap<String, bool>,
    supported_parameters: BTreeSet<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_controls: Option<serde_json::Value>,
    open_weights: Option<bool>,
    released: Option<&'a str>,
    knowledge_cutoff: Option<&'a str>,
    status: BTreeSet<&'a str>,
    retires: Option<&'a str>,
    aliases: &'a [String],
    providers: Vec<&'a str>,
    offer_count: usize,
    is_free: bool,
    /// The lowest base price of each meter among the offers.
    pricing: Pricing,
}

pub(super) fn model(entry: &ModelEntry, about: &about::Model) -> String {
    let largest = |limit: fn(&Offer) -> Option<u64>| entry.offers.iter().filter_map(limit).max();
    let mut lowest: BTreeMap<Meter, Price> = BTreeMap::new();
    for (meter, price) in entry.offers.iter().flat_map(|offer| &offer.card.prices) {
        lowest.entry(*meter).and_modify(|known| *known = (*known).min(*price)).or_insert(*price);
    }
    json(&ShownModel {
        id: &entry.id,
        object: "model",
        created: entry.created,
        owned_by: &entry.organisation,
        name: &entry.name,
        family: about.family.as_deref(),
        kind: &entry.kind,
        context_length: entry.context.or_else(|| largest(|offer| offer.context)),
        max_output_tokens: entry.max_output.or_else(|| largest(|offer| offer.max_output)),
        input_modalities: &entry.input,
        output_modalities: &entry.output,
        capabilities: &entry.capabilities,
        supported_parameters: parameters_of(&entry.kind, &super::capabilities_of_model(entry)),
        reasoning_controls: entry.reasoning_controls.as_ref().and_then(|controls| serde_json::to_value(controls).ok()),
        open_weights: about.open_weights,
        released: about.released.as_deref(),
        knowledge_cutoff: about.knowledge_cutoff.as_deref(),
        status: entry.offers.iter().map(super::status_of).collect(),
        retires: about.retires.as_deref(),
        aliases: &about.aliases,
        providers: entry.providers.keys().map(String::as_str).collect(),
        offer_count: entry.offers.len(),
        is_free: entry.offers.iter().any(|offer| offer.is_free),
        pricing: pricing(&lowest),
    })
}

#[derive(Serialize)]
struct ShownOffer<'a> {
    id: &'a str,
    object: &'static str,
    model: &'a str,
    provider: &'a str,
    upstream: &'a str,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    regions: &'a [String],
    context_length: Option<u64>,
    max_output_tokens: Option<u64>,
    capabilities: BTreeSet<&'a str>,
    pricing: Pricing,
    price_rules: Vec<ShownRule<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    price_changes: Vec<ShownChange<'a>>,
    priced_as_of: Option<&'a str>,
    disputed: bool,
    is_free: bool,
    status: &'a str,
    availability: &'a str,
    support: &'a str,
    channel: &'a str,
    routing: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retires: Option<&'a str>,
}

/// What the pages of one model and one provider add to an offer.
#[derive(Serialize)]
struct MoreOfOffer<'a> {
    also_named: &'a [String],
    supported_parameters: BTreeSet<&'static str>,
    limits: Limits,
    price_sources: &'a [String],
}

#[derive(Serialize)]
struct Limits {
    requests_per_minute: Option<u64>,
    tokens_per_minute: Option<u64>,
}

pub(super) fn offer(id: &str, entry: &ModelEntry, offer: &Offer, provider: &Provider) -> String {
    json(&ShownOffer {
        id,
        object: "offer",
        model: &entry.id,
        provider: &offer.provider,
        upstream: &offer.upstream,
        kind: &offer.kind,
        variant: offer.variant.as_deref(),
        regions: regions_of(offer, provider),
        context_length: offer.context.or(entry.context),
        max_output_tokens: offer.max_output.or(entry.max_output),
        capabilities: capabilities_of(entry, offer),
        pricing: pricing(&offer.card.prices),
        price_rules: rules(&offer.card.rules),
        price_changes: changes(&offer.card),
        priced_as_of: Some(offer.card.as_of.as_str()).filter(|date| !date.is_empty()),
        disputed: offer.card.disputed,
        is_free: offer.is_free,
        status: super::status_of(offer),
        availability: offer.standing.availability.name(),
        support: offer.standing.support.name(),
        channel: offer.standing.channel.name(),
        routing: offer.standing.routing.name(),
        retires: offer.retires.as_deref(),
    })
}

pub(super) fn more_of_offer(entry: &ModelEntry, offer: &Offer, about: &about::Provider) -> String {
    let stated = about.offer(&entry.id, offer);
    let limit = |name: &str| stated.and_then(|stated| stated.limits.as_ref()?.get(name).copied());
    members(&MoreOfOffer {
        also_named: stated.map(|stated| stated.also.as_slice()).unwrap_or_default(),
        supported_parameters: parameters_of(&offer.kind, &capabilities_of(entry, offer)),
        limits: Limits { requests_per_minute: limit("rpm"), tokens_per_minute: limit("tpm") },
        price_sources: stated.map(|stated| stated.sources.as_slice()).unwrap_or_default(),
    })
}

#[derive(Serialize)]
struct ShownPolicy<'a> {
    trains_on_api_data: Training,
    retention_days: Option<u32>,
    zero_retention: ZeroRetention,
    policy_page: Option<&'a str>,
    checked: Option<&'a str>,
}

/// The policy as a member of an offer.
pub(super) fn policy(provider: &Provider, about: &about::Provider) -> String {
    format!(r#""data_policy":{}"#, json(&policy_of(provider, about)))
}

fn policy_of<'a>(provider: &Provider, about: &'a about::Provider) -> Option<ShownPolicy<'a>> {
    provider.data_policy.as_ref().map(|policy| ShownPolicy {
        trains_on_api_data: policy.trains_on_api_data,
        retention_days: policy.retention_days,
        zero_retention: policy.zero_retention,
        policy_page: about.data_policy.policy_page.as_deref(),
        checked: about.data_policy.checked.as_deref(),
    })
}

#[derive(Serialize)]
struct ShownProvider<'a> {
    id: &'a str,
    object: &'static str,
    name: &'a str,
    role: Option<&'a str>,
    country: Option<&'a str>,
    regions: &'a [String],
    data_policy: Option<ShownPolicy<'a>>,
    model_count: usize,
    offer_count: usize,
    free_offer_count: usize,
}

/// What the page of one provider adds.
#[derive(Serialize)]
struct MoreOfProvider<'a> {
    docs: Option<&'a str>,
    pricing_page: Option<&'a str>,
    api_families: &'a [String],
    endpoints: &'a [String],
    features: Features<'a>,
    priced_as_of: Option<&'a str>,
}

/// What at least one offer of the provider is for.
#[derive(Serialize, Default)]
struct Features<'a> {
    kinds: BTreeMap<&'a str, usize>,
    input_modalities: BTreeSet<&'a str>,
    output_modalities: BTreeSet<&'a str>,
    /// How many offers have each capability.
    capabilities: BTreeMap<&'a str, usize>,
    context_length_max: Option<u64>,
}

pub(super) fn provider(provider: &Provider, about: &about::Provider, offers: &[(&ModelEntry, &Offer)]) -> String {
    let models: BTreeSet<&str> = offers.iter().map(|(entry, _)| entry.id.as_str()).collect();
    json(&ShownProvider {
        id: &provider.id,
        object: "provider",
        name: &provider.name,
        role: about.role.as_deref(),
        country: provider.country.as_deref(),
        regions: &provider.regions,
        data_policy: policy_of(provider, about),
        model_count: models.len(),
        offer_count: offers.len(),
        free_offer_count: offers.iter().filter(|(_, offer)| offer.is_free).count(),
    })
}

pub(super) fn more_of_provider(
    provider: &Provider,
    about: &about::Provider,
    offers: &[(&ModelEntry, &Offer)],
) -> String {
    let mut features = Features::default();
    for (entry, offer) in offers {
        let kind = features.kinds.entry(&offer.kind).or_default();
        *kind = kind.saturating_add(1);
        features.input_modalities.extend(entry.input.iter().map(String::as_str));
        features.output_modalities.extend(entry.output.iter().map(String::as_str));
        features.context_length_max = features.context_length_max.max(offer.context.or(entry.context));
        for capability in capabilities_of(entry, offer) {
            let count = features.capabilities.entry(capability).or_default();
            *count = count.saturating_add(1);
        }
    }
    let dates = offers.iter().map(|(_, offer)| offer.card.as_of.as_str());
    members(&MoreOfProvider {
        docs: about.docs.as_deref(),
        pricing_page: about.pricing_page.as_deref(),
        api_families: &provider.families,
        endpoints: &about.endpoints,
        features,
        priced_as_of: dates.max().filter(|date| !date.is_empty()),
    })
}

/// The members of an object without its braces.
fn members<T: Serialize>(value: &T) -> String {
    let object = json(value);
    object.strip_prefix('{').and_then(|object| object.strip_suffix('}')).unwrap_or_default().to_owned()
}

/// Compact JSON. Our own types with string keys always have one.
fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
