//! The files of a catalog folder, as people write them.
//!
//! ```text
//! providers/{id}.json
//!   {id, name?, role?, country?, docs?, pricing_page?, base_url, family_base_urls?: {family: URL}, query?: {name: value}, body?: {name: value},
//!    variables?: {name: {env, default?, optional?, allowed?: [pattern]}}, families?, verify?: "/path",
//!    auth?: {scheme?, header?, prefix?, extra_headers?, service?, family_services?, token_url?, alternative?: {key_env, header, prefix?}}, key_env?, regions?, data_policy?: {trains_on_api_data, retention_days, zero_retention, policy_page?, checked?},
//!    reasoning?: {style?, request?, response?}, endpoints?, quirks?, as_of?, offers: [
//!      {model, upstream, also?, kind?, family?, variant?, regions?, snapshot?, context?, max_output?, limits?: {rpm?, tpm?}, can?, quantization?, batch_max?, voices?,
//!       prices: {meter: "dollars"}, rules?: [{when, prices} | {when, multiplier: "1.1"}],
//!       changes?: [{from: "2026-12-01" | "2026-12-01T16:00:00Z", prices, rules?}], free?: true | "trial", status?, availability?, support?, channel?, routing?, retires?, odd?, sources?, as_of?, disputed?}]}
//! models/{organisation}.json
//!   {organisation: {id, name?, country?}, models: [
//!      {id, name?, kind?, input?, output?, context?, max_output?, released?, knowledge_cutoff?, open_weights?, family?,
//!       kinds?, capabilities?, reasoning_controls?, aliases?, retires?, odd?}]}
//! ```
//!
//! Prices are decimal dollars for [`Meter::per`] units. `free: true` states a price of zero for prompt and answer;
//! `"trial"` is information and no price. Unknown members are errors. Each offer and each model is read by itself, so
//! that one mistake does not hide the next; a problem names the line and the path.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

use super::card::{Change, Effect, PriceCard, Rule, When};
use super::naming::is_id;
use super::offer::Offer;
use super::provider::{
    Auth, DataPolicy, Provider, ReasoningStyle, Training, Variable, ZeroRetention, hosts_of, placeholders_of,
};
use super::snapshot::{Problem, Source};
use super::standing::{Availability, Channel, Routing, Standing, Status, Support};
use crate::family::quirk::Quirk;
use crate::json::{self, de::place::Step};
use crate::money::{Nanos, Price};
use crate::time::Millis;
use crate::usage::Meter;

/// What a model or an offer can be for.
pub(super) const KINDS: &[&str] =
    &["chat", "embedding", "image", "speech", "transcription", "video", "rerank", "moderation", "realtime", "ocr"];

/// The content of a provider's file.
pub(super) struct ProviderSource {
    pub line: Option<usize>,
    pub provider: Provider,
    pub endpoints: Vec<String>,
    pub offers: Vec<OfferSource>,
}

/// An offer, the model it names, and where it stands.
pub(super) struct OfferSource {
    pub line: Option<usize>,
    pub index: usize,
    pub model: String,
    pub offer: Offer,
    pub odd: Vec<String>,
}

/// A model and where it stands.
pub(super) struct ModelSource {
    pub line: Option<usize>,
    pub organisation: String,
    pub model: ModelFields,
}

/// Parses a provider's file. What cannot be read goes to `problems`; the offers that can be are still given.
pub(super) fn parse_provider(source: &Source, problems: &mut Vec<Problem>) -> Option<ProviderSource> {
    let file: ProviderFields<'_> = parse_part(source, &source.text, "", problems)?;
    let mut offers = Vec::new();
    for (index, raw) in file.offers.iter().enumerate() {
        let Some(fields) = parse_part::<OfferFields>(source, raw.get(), &format!("offers[{index}]"), problems) else {
            continue;
        };
        let line = line_of(source, raw.get());
        match fields.into_offer(&file.id, file.as_of.as_deref()) {
            Ok((model, offer, odd)) => offers.push(OfferSource { line, index, model, offer, odd }),
            Err(message) => problems.push(source.problem(line, format!("offers[{index}]: {message}"))),
        }
    }
    let line = line_of_text(source, "\"id\"");
    let templates =
        || file.family_base_urls.values().chain(file.query.values()).chain(file.body.values()).chain([&file.base_url]);
    for name in templates().flat_map(|template| placeholders_of(template)) {
        if file.variables.get(name).is_none_or(|variable| variable.optional) {
            let line = line_of_text(source, &format!("{{{name}}}"));
            problems.push(source.problem(line, format!("{{{name}}}: no variable of that name, or an optional one")));
        }
    }
    for name in file.family_base_urls.values().chain([&file.base_url]).flat_map(|url| hosts_of(url)) {
        if file.variables.get(name).is_some_and(|variable| variable.allowed.is_empty()) {
            let line = line_of_text(source, &format!("{{{name}}}"));
            problems.push(source.problem(line, format!("variables.{name}: it ends a host, so it needs `allowed`")));
        }
    }
    for message in unsendable(&file.auth) {
        problems.push(source.problem(line_of_text(source, "\"auth\""), message));
    }
    for (name, variable) in file.variables.iter().filter(|(_, variable)| !is_env(&variable.env)) {
        let line = line_of_text(source, &variable.env);
        problems.push(source.problem(line, format!("variables.{name}.env: {:?} is not {ENV_FORM}", variable.env)));
    }
    let endpoints = file.endpoints.clone();
    Some(ProviderSource { line, provider: file.into_provider(), endpoints, offers })
}

/// Parses an organisation's models. What cannot be read goes to `problems`.
pub(super) fn parse_models(source: &Source, problems: &mut Vec<Problem>) -> Vec<ModelSource> {
    let Some(file) = parse_part::<ModelsFields<'_>>(source, &source.text, "", problems) else {
        return Vec::new();
    };
    let organisation = file.organisation.id;
    let mut models = Vec::new();
    for (index, raw) in file.models.iter().enumerate() {
        let line = line_of(source, raw.get());
        match parse_part::<ModelFields>(source, raw.get(), &format!("models[{index}]"), problems) {
            Some(model) if model.id.split_once('/').is_none_or(|(first, _)| first != organisation) => {
                let message = format!("models[{index}].id: {} is not a model of {organisation}", model.id);
                problems.push(source.problem(line, message));
            }
            Some(model) => models.push(ModelSource { line, organisation: organisation.clone(), model }),
            None => {}
        }
    }
    models
}

/// Parses `text`, a part of the source that stands at `at` in it.
fn parse_part<'a, T: Deserialize<'a>>(
    source: &Source,
    text: &'a str,
    at: &str,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let error = match json::from_str(text) {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    let mut steps = json::steps_to(text, &error);
    if steps.last().is_some_and(|step| names_itself(error.message(), step)) {
        steps.pop();
    }
    let path = json::de::place::write(at, &steps);
    let path = if path.is_empty() { path } else { format!("{path}: ") };
    let before = text.as_bytes().get(..error.at()).unwrap_or_default();
    let lines = before.iter().filter(|byte| **byte == b'\n').count();
    let line = line_of(source, text).unwrap_or(1).saturating_add(lines);
    problems.push(source.problem(Some(line), format!("{path}{}", error.message())));
    None
}

/// Whether the words about a price begin or end with its meter.
fn names_itself(message: &str, step: &Step) -> bool {
    let Step::Name(name) = step else { return false };
    message.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(": ") || rest == " is there twice")
        || message.strip_prefix("unknown meter ") == Some(name)
}

/// The line of the source on which `part`, a slice of its text, begins.
fn line_of(source: &Source, part: &str) -> Option<usize> {
    let offset = (part.as_ptr() as usize).checked_sub(source.text.as_ptr() as usize)?;
    let before = source.text.get(..offset)?;
    before.bytes().filter(|byte| *byte == b'\n').count().checked_add(1)
}

/// The line on which `text` first occurs.
fn line_of_text(source: &Source, text: &str) -> Option<usize> {
    line_of(source, source.text.get(source.text.find(text)?..)?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some members are for people; their form is checked and they go no further")]
struct ProviderFields<'a> {
    #[serde(deserialize_with = "id")]
    id: String,
    name: Option<String>,
    role: Option<String>,
    country: Option<String>,
    docs: Option<String>,
    pricing_page: Option<String>,
    #[serde(deserialize_with = "base_url")]
    base_url: String,
    #[serde(default, deserialize_with = "base_urls")]
    family_base_urls: BTreeMap<String, String>,
    #[serde(default)]
    query: BTreeMap<String, String>,
    #[serde(default)]
    body: BTreeMap<String, String>,
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    #[serde(default)]
    families: Vec<String>,
    #[serde(default)]
    auth: Auth,
    #[serde(default, deserialize_with = "key_env")]
    key_env: Option<String>,
    #[serde(default)]
    regions: Vec<String>,
    data_policy: Option<DataPolicyFields>,
    reasoning: Option<ReasoningFields>,
    #[serde(default, deserialize_with = "verify_path")]
    verify: Option<String>,
    #[serde(default)]
    endpoints: Vec<String>,
    #[serde(default)]
    quirks: Vec<Quirk>,
    #[serde(default, deserialize_with = "some_date")]
    as_of: Option<String>,
    #[serde(borrow, default)]
    offers: Vec<&'a RawValue>,
}

impl ProviderFields<'_> {
    fn into_provider(self) -> Provider {
        Provider {
            name: self.name.unwrap_or_else(|| self.id.clone()),
            id: self.id,
            country: self.country,
            base_url: self.base_url,
            family_base_urls: self.family_base_urls,
            query: self.query,
            body: self.body,
            variables: self.variables,
            families: if self.families.is_empty() { vec!["openai-chat".into()] } else { self.families },
            auth: self.auth,
            key_env: self.key_env,
            verify: self.verify,
            reasoning: self.reasoning.and_then(|reasoning| reasoning.style),
            regions: self.regions,
            data_policy: self.data_policy.map(|policy| DataPolicy {
                trains_on_api_data: policy.trains_on_api_data,
                retention_days: policy.retention_days,
                zero_retention: policy.zero_retention,
            }),
            quirks: self.quirks,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the source of a policy is for people")]
struct DataPolicyFields {
    trains_on_api_data: Training,
    retention_days: Option<u32>,
    zero_retention: ZeroRetention,
    policy_page: Option<String>,
    #[serde(default, deserialize_with = "some_date")]
    checked: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "request and response are for people")]
struct ReasoningFields {
    style: Option<ReasoningStyle>,
    #[serde(default)]
    request: Vec<String>,
    response: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some members are for people; their form is checked and they go no further")]
struct OfferFields {
    #[serde(deserialize_with = "model_id")]
    model: String,
    #[serde(deserialize_with = "upstream")]
    upstream: String,
    #[serde(default)]
    also: Vec<String>,
    #[serde(default = "chat", deserialize_with = "kind")]
    kind: String,
    family: Option<String>,
    variant: Option<String>,
    #[serde(default)]
    regions: Vec<String>,
    snapshot: Option<String>,
    context: Option<u64>,
    max_output: Option<u64>,
    limits: Option<LimitsFields>,
    #[serde(default)]
    can: BTreeSet<String>,
    quantization: Option<String>,
    batch_max: Option<u64>,
    #[serde(default)]
    voices: Vec<String>,
    #[serde(default)]
    prices: PriceFields,
    #[serde(default)]
    rules: Vec<RuleFields>,
    #[serde(default)]
    changes: Vec<ChangeFields>,
    free: Option<Free>,
    #[serde(default)]
    status: Status,
    #[serde(default)]
    availability: Availability,
    #[serde(default)]
    support: Support,
    #[serde(default)]
    channel: Channel,
    #[serde(default)]
    routing: Routing,
    #[serde(default, deserialize_with = "some_date")]
    retires: Option<String>,
    #[serde(default)]
    odd: Vec<String>,
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default, deserialize_with = "some_date")]
    as_of: Option<String>,
    #[serde(default)]
    disputed: bool,
}

impl OfferFields {
    /// The offer and the model it names, or what is wrong with it as a whole.
    fn into_offer(self, provider: &str, as_of: Option<&str>) -> Result<(String, Offer, Vec<String>), String> {
        let is_free = matches!(self.free, Some(Free::Yes(true)));
        let mut prices = self.prices.0;
        if is_free {
            if let Some((meter, _)) = prices.iter().find(|(_, price)| **price != Price(0)) {
                return Err(format!("it is free, but {} has a price", meter.name()));
            }
            if !self.rules.is_empty() {
                return Err("it is free, but has rules".into());
            }
            for meter in [Meter::InputTokens, Meter::OutputTokens] {
                prices.insert(meter, Price(0));
            }
        }
        if prices.is_empty() {
            return Err("it has no prices and is not free; an unknown price is not zero".into());
        }
        let changes: Vec<Change> = self.changes.into_iter().map(ChangeFields::into_change).collect();
        if changes.windows(2).any(|pair| matches!(pair, [first, next] if next.from <= first.from)) {
            return Err("its changes are not in the order of their dates".into());
        }
        let offer = Offer {
            provider: provider.to_owned(),
            upstream: self.upstream,
            kind: self.kind,
            family: self.family,
            variant: self.variant,
            regions: self.regions,
            context: self.context,
            max_output: self.max_output,
            can: self.can,
            quantization: self.quantization,
            batch_max: self.batch_max,
            voices: self.voices,
            card: PriceCard {
                as_of: self.as_of.as_deref().or(as_of).unwrap_or_default().to_owned(),
                disputed: self.disputed,
                prices,
                rules: self.rules.into_iter().map(|RuleFields(rule)| rule).collect(),
                changes,
            },
            is_free,
            standing: Standing {
                status: self.status,
                availability: self.availability,
                support: self.support,
                channel: self.channel,
                routing: self.routing,
            },
            retires: self.retires,
        };
        Ok((self.model, offer, self.odd))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeFields {
    #[serde(deserialize_with = "moment")]
    from: Millis,
    #[serde(deserialize_with = "some_prices")]
    prices: PriceFields,
    #[serde(default)]
    rules: Vec<RuleFields>,
}

impl ChangeFields {
    fn into_change(self) -> Change {
        let rules = self.rules.into_iter().map(|RuleFields(rule)| rule).collect();
        Change { from: self.from, prices: self.prices.0, rules }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "for people")]
struct LimitsFields {
    rpm: Option<u64>,
    tpm: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected true or \"trial\"")]
enum Free {
    Yes(bool),
    Trial(TrialWord),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum TrialWord {
    Trial,
}

/// Prices in dollars by meter.
#[derive(Default)]
struct PriceFields(BTreeMap<Meter, Price>);

impl<'de> Deserialize<'de> for PriceFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PriceFields, D::Error> {
        struct Prices;

        impl<'de> Visitor<'de> for Prices {
            type Value = PriceFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("prices by meter, dollars as decimal strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PriceFields, A::Error> {
                let mut prices = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let meter =
                        Meter::from_name(&name).ok_or_else(|| A::Error::custom(format!("unknown meter {name}")))?;
                    let dollars: String = map.next_value()?;
                    let price = Price::from_dollars(&dollars, meter.per())
                        .map_err(|error| A::Error::custom(format!("{name}: {dollars:?}: {error}")))?;
                    if prices.insert(meter, price).is_some() {
                        return Err(A::Error::custom(format!("{name} is there twice")));
                    }
                }
                Ok(PriceFields(prices))
            }
        }

        deserializer.deserialize_map(Prices)
    }
}

/// A rule whose effect is written in dollars or as a decimal factor.
struct RuleFields(Rule);

impl<'de> Deserialize<'de> for RuleFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RuleFields, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            when: When,
            prices: Option<PriceFields>,
            multiplier: Option<String>,
        }

        let fields = Fields::deserialize(deserializer)?;
        if fields.when.conditions() == 0 {
            return Err(D::Error::custom("a rule needs a condition"));
        }
        let effect = match (fields.prices, fields.multiplier) {
            (Some(prices), None) if !prices.0.is_empty() => Effect::Prices(prices.0),
            (None, Some(factor)) => Effect::Multiplier(
                basis_points(&factor)
                    .ok_or_else(|| D::Error::custom(format!("multiplier: {factor:?} is no factor")))?,
            ),
            _ => return Err(D::Error::custom("a rule needs either prices or a multiplier")),
        };
        Ok(RuleFields(Rule { when: fields.when, effect }))
    }
}

/// A factor above zero with up to four digits after the point, in basis points.
fn basis_points(factor: &str) -> Option<u64> {
    let billionths = Nanos::from_dollars(factor).ok()?.0;
    let basis_points = billionths.checked_div(100_000).filter(|_| billionths.checked_rem(100_000) == Some(0))?;
    u64::try_from(basis_points).ok().filter(|value| *value > 0)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelsFields<'a> {
    organisation: OrganisationFields,
    #[serde(borrow)]
    models: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "name and country are for people")]
struct OrganisationFields {
    #[serde(deserialize_with = "id")]
    id: String,
    name: Option<String>,
    country: Option<String>,
}

/// A model as its file states it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some members are for people; their form is checked and they go no further")]
pub(super) struct ModelFields {
    #[serde(deserialize_with = "model_id")]
    pub id: String,
    pub name: Option<String>,
    #[serde(default = "chat", deserialize_with = "kind")]
    pub kind: String,
    #[serde(default)]
    pub kinds: Vec<String>,
    #[serde(default = "text")]
    pub input: Vec<String>,
    #[serde(default = "text")]
    pub output: Vec<String>,
    pub context: Option<u64>,
    pub max_output: Option<u64>,
    #[serde(default, deserialize_with = "some_date")]
    pub released: Option<String>,
    #[serde(default, deserialize_with = "some_date")]
    knowledge_cutoff: Option<String>,
    open_weights: Option<bool>,
    family: Option<String>,
    #[serde(default)]
    pub capabilities: BTreeMap<String, bool>,
    pub reasoning_controls: Option<serde_json::Value>,
    #[serde(default, deserialize_with = "aliases")]
    pub aliases: Vec<String>,
    #[serde(default, deserialize_with = "some_date")]
    pub retires: Option<String>,
    #[serde(default)]
    pub odd: Vec<String>,
}

impl ModelFields {
    /// The release in Unix seconds, 0 where it is not stated; a month counts from its first day.
    pub(super) fn created(&self) -> u64 {
        let seconds = self.released.as_deref().and_then(parse_date).and_then(|date| date.and_hms_opt(0, 0, 0));
        seconds.and_then(|moment| u64::try_from(moment.and_utc().timestamp()).ok()).unwrap_or(0)
    }
}

fn chat() -> String {
    "chat".into()
}

fn text() -> Vec<String> {
    vec!["text".into()]
}

/// The first day of `2026-11-19`, `2026-11` or `2026`.
fn parse_date(text: &str) -> Option<chrono::NaiveDate> {
    let full = match text.len() {
        10 => text.to_owned(),
        7 => format!("{text}-01"),
        4 => format!("{text}-01-01"),
        _ => return None,
    };
    chrono::NaiveDate::parse_from_str(&full, "%Y-%m-%d").ok()
}

/// Reads a value that must pass `is_right`; `expected` says what would.
fn checked<'de, D: Deserializer<'de>, T: DeserializeOwned + fmt::Debug>(
    deserializer: D,
    expected: &str,
    is_right: impl FnOnce(&T) -> bool,
) -> Result<T, D::Error> {
    let value = T::deserialize(deserializer)?;
    if is_right(&value) { Ok(value) } else { Err(D::Error::custom(format!("{value:?} is not {expected}"))) }
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked(deserializer, "an id ([a-z0-9][a-z0-9._-]*)", |text: &String| is_id(text))
}

fn model_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked(deserializer, "a model id (organisation/name, each [a-z0-9][a-z0-9._-]*)", |text: &String| {
        text.split_once('/').is_some_and(|(organisation, name)| is_id(organisation) && is_id(name))
    })
}

fn aliases<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    checked(deserializer, "a list of aliases ([a-z0-9][a-z0-9._-]*, with one slash at most)", |names: &Vec<String>| {
        names.iter().all(|name| name.splitn(2, '/').all(is_id))
    })
}

fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked(deserializer, &format!("one of {}", KINDS.join(", ")), |text: &String| KINDS.contains(&text.as_str()))
}

fn upstream<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked(deserializer, "an upstream name", |text: &String| !text.is_empty() && !text.contains(char::is_control))
}

fn base_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked(deserializer, URL_FORM, |url: &String| is_base_url(url))
}

fn base_urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    checked(deserializer, URL_FORM, |urls: &BTreeMap<String, String>| urls.values().all(|url| is_base_url(url)))
}

const URL_FORM: &str = "an http(s) URL without a trailing slash, query or user";

/// Whether text is a URL to which paths can be added. Braces are placeholders; whether each is declared is checked
/// where the variables are known.
fn is_base_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.ends_with('/'))
        && !url.contains(|c: char| c.is_whitespace() || c.is_control() || "?#@\\".contains(c))
}

fn verify_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let is_path = |text: &String| {
        text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte))
    };
    checked(deserializer, "a path below the base URL", is_path).map(Some)
}

fn key_env<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = checked(deserializer, ENV_FORM, |text: &String| is_env(text))?;
    Ok(Some(name))
}

const ENV_FORM: &str = "the name of a secret ([A-Z][A-Z0-9_]*), and none of the gateway's own";

/// What no provider is ever sent, whoever wrote its file.
const OWN_SECRETS: &[&str] = &["OPERATOR_TOKEN", "KEY_HASH_SECRET", "BYOK_SECRETS", "OTEL_EXPORTER_OTLP_HEADERS"];

/// What of the credential's headers could never be sent.
fn unsendable(auth: &Auth) -> Vec<String> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let is_value = |value: &str| value.bytes().all(|b| matches!(b, b' '..=b'~'));
    let extra = auth.extra_headers.iter().map(|(name, value)| (format!("auth.extra_headers.{name}"), name, value));
    let alternative =
        auth.alternative.iter().map(|other| ("auth.alternative".to_owned(), &other.header, &other.prefix));
    let own = [("auth".to_owned(), &auth.header, &auth.prefix)].into_iter();
    let mut wrong = Vec::new();
    for (path, name, value) in own.chain(alternative).chain(extra) {
        if !is_name(name) {
            wrong.push(format!("{path}: {name:?} is not a header's name"));
        }
        if !is_value(value) {
            wrong.push(format!("{path}: {value:?} cannot be sent in a header"));
        }
    }
    let other = auth.alternative.iter().map(|other| &other.key_env).filter(|name| !is_env(name));
    wrong.extend(other.map(|name| format!("auth.alternative.key_env: {name:?} is not {ENV_FORM}")));
    wrong
}

fn is_env(text: &str) -> bool {
    !OWN_SECRETS.contains(&text)
        && text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
}

/// A moment: a day, from its begin in UTC, or a time of it.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Millis, D::Error> {
    let text = String::deserialize(deserializer)?;
    let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.clone() };
    Millis::from_rfc3339(&full)
        .ok_or_else(|| D::Error::custom(format!("{text:?} is not a moment (2026-12-01 or 2026-12-01T16:00:00Z)")))
}

fn some_prices<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PriceFields, D::Error> {
    let prices = PriceFields::deserialize(deserializer)?;
    if prices.0.is_empty() { Err(D::Error::custom("new prices are needed")) } else { Ok(prices) }
}

fn some_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let date =
        checked(deserializer, "a date (2026-11-19, 2026-11 or 2026)", |text: &String| parse_date(text).is_some())?;
    Ok(Some(date))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_basis_points() {
        for (text, expected) in [
            ("1.1", Some(11_000)),
            ("0.5", Some(5_000)),
            ("2", Some(20_000)),
            ("1.00005", None),
            ("0", None),
            ("-1", None),
            ("10%", None),
        ] {
            assert_eq!(basis_points(text), expected, "{text}");
        }
    }

    #[test]
    fn dates_may_be_coarse() {
        for (text, expected) in [
            ("2026-11-19", Some("2026-11-19")),
            ("2026-11", Some("2026-11-01")),
            ("2026", Some("2026-01-01")),
            ("2026-13", None),
            ("19.11.2026", None),
            ("soon", None),
        ] {
            assert_eq!(parse_date(text).map(|date| date.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_part_knows_its_line() {
        let source = Source { path: "x".into(), text: "one\ntwo\nthree".into() };
        assert_eq!(line_of(&source, &source.text[4..7]), Some(2));
        assert_eq!(line_of(&source, &source.text), Some(1));
    }
}
