//! Prices: every offer's, and what a volume of usage costs at each.

use std::rc::Rc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::catalog::{PriceCard, Row, Situation, facet};
use crate::discovery::estimate::{Estimate, Volume};
use crate::discovery::{filter, page};
use crate::error::Failure;
use crate::serve::admin::body;
use crate::serve::discovery::{Asked, list_json};
use crate::serve::ports::Ports;
use crate::serve::reply::Reply;
use crate::serve::{Head, fault};
use crate::time::Millis;

/// Rows of a page of prices where the query states no limit.
const LIMIT_DEFAULT: usize = 100;

/// The lists that hold the offers in question: the narrowest that the query names.
pub struct Offers {
    rows: Rc<str>,
    prices: Option<Rc<str>>,
}

impl Offers {
    /// Reads them. Of a model, a family or a provider alone the rows are apart and complete; of all offers the objects
    /// are a list of their own, read only where `is_shown`.
    pub async fn read<P: Ports>(asked: &Asked<'_, P>, is_shown: bool) -> Result<Offers, Failure> {
        let one = |name: &str| asked.value(name).filter(|value| !value.contains(','));
        if let Some(model) = asked.value("model") {
            let rows = asked.model(model).await.map_err(|failure| failure.about("model"))?;
            return Ok(Offers { rows: rows.into(), prices: None });
        }
        for of in ["family", "provider"] {
            let Some(id) = one(of) else { continue };
            if let Some(rows) = asked.rows(of, id).await? {
                return Ok(Offers { rows: rows.into(), prices: None });
            }
        }
        let prices = if is_shown { Some(asked.list("list/prices").await?) } else { None };
        Ok(Offers { rows: asked.list("list/offers").await?, prices })
    }

    /// The rows of offers.
    pub fn rows(&self) -> Box<dyn Iterator<Item = Row<'_>> + '_> {
        match &self.prices {
            Some(prices) => Box::new(Row::all(&self.rows).zip(prices.lines()).map(|(row, json)| row.with_json(json))),
            // A model or a provider stands in front of its offers; it is nobody's offer.
            None => Box::new(Row::all(&self.rows).filter(|row| row.value("model").is_some())),
        }
    }
}

/// `GET /v1/pricing`: an offer a row, with its price card.
pub async fn list<P: Ports>(ports: &P, head: &Head) -> Result<Reply<P>, Failure> {
    let asked = Asked::parse(ports, head).await?;
    let mut paging = asked.paging(page::PRICES)?;
    paging.limit = paging.limit.or(Some(LIMIT_DEFAULT));
    if let Some(reply) = asked.unchanged() {
        return Ok(reply);
    }
    let conditions = asked.conditions(&[filter::OFFERS]).await?;
    let offers = Offers::read(&asked, true).await?;
    let page = asked.page(offers.rows(), &conditions, &paging)?;
    Ok(asked.reply(list_json(&page, |row| row.id(), |row| row.json.to_owned()), false))
}

/// What an estimate is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    model: Option<String>,
    family: Option<String>,
    usage: Map<String, Value>,
    region: Option<String>,
    service_tier: Option<String>,
    speed: Option<String>,
    #[serde(default)]
    provider: Preferences,
    limit: Option<usize>,
}

/// The part of a request's `provider` object that decides who may serve; the rest has no bearing on a price.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Preferences {
    only: Vec<String>,
    ignore: Vec<String>,
    regions: Vec<String>,
    data_collection: Option<DataCollection>,
    zdr: bool,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum DataCollection {
    Allow,
    Deny,
}

impl Question {
    /// Why the offer is not eligible.
    fn excludes(&self, row: &Row<'_>, now: Millis) -> Option<&'static str> {
        let provider = row.value("provider").unwrap_or_default();
        let names = |list: &[String]| list.iter().any(|id| id == provider);
        let is_in = |region: &String| row.has(&facet("region", region));
        let regions = &self.provider.regions;
        let preferences = &self.provider;
        let no_training = preferences.data_collection != Some(DataCollection::Deny) || row.has(&facet("trains", "no"));
        let no_retention = !preferences.zdr || row.has(&facet("zero_retention", "default"));
        [
            (row.value("retires").is_some_and(|day| is_past(day, now)), "retired"),
            (!preferences.only.is_empty() && !names(&preferences.only), "not_in_list"),
            (names(&preferences.ignore), "ignored"),
            (!no_training || !no_retention, "privacy"),
            (self.region.as_ref().is_some_and(|region| !is_in(region)), "region"),
            (!regions.is_empty() && !regions.iter().any(is_in), "region"),
        ]
        .into_iter()
        .find_map(|(is, why)| is.then_some(why))
    }
}

fn is_past(day: &str, now: Millis) -> bool {
    Millis::from_rfc3339(&format!("{day}T00:00:00Z")).is_some_and(|end| now >= end)
}

/// `POST /v1/pricing/estimate`: the eligible offers in order of cost, and apart from them those whose cost nobody knows
/// and those that may not serve.
pub async fn estimate<P: Ports>(ports: &P, head: &Head) -> Result<Reply<P>, Failure> {
    let question: Question = body(ports).await?;
    let volume = Volume::parse(&question.usage)?;
    let limit = question.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=page::LIMIT_MAX).contains(&limit) {
        return Err(Failure::invalid("limit", format!("must be a whole number between 1 and {}", page::LIMIT_MAX)));
    }
    let asked = Asked::parse(ports, head).await?;
    let rows = match (&question.model, &question.family) {
        (Some(model), None) => asked.model(model).await.map_err(|failure| failure.about("model"))?,
        (None, Some(family)) => {
            let rows = asked.rows("family", family).await?;
            rows.ok_or_else(|| Failure::invalid("family", "the catalog has no such family; GET /v1/models shows them"))?
        }
        _ => return Err(Failure::invalid("model", "either model or family is needed, and not both")),
    };
    let words = asked.list("words").await?;
    known(&question, &words)?;
    let situation = Situation {
        service_tier: question.service_tier.as_deref(),
        region: question.region.as_deref(),
        speed: question.speed.as_deref(),
        now: head.arrived,
        ..Situation::default()
    };
    let (mut priced, mut unpriced, mut excluded) = (Vec::new(), Vec::new(), Vec::new());
    for row in Row::all(&rows).filter(|row| !row.card.is_empty()) {
        if let Some(rule) = question.excludes(&row, head.arrived) {
            excluded.push(with(&row, json!({"rule": rule})));
            continue;
        }
        let card: PriceCard = serde_json::from_str(row.card)
            .map_err(|_| fault(ports, &crate::serve::ports::PortError("a price card is malformed".to_owned())))?;
        match volume.at(&card, &situation) {
            Ok(estimate) => priced.push((estimate, row, card)),
            Err(unknown) => unpriced.push(with(&row, json!({"reason": unknown.reason()}))),
        }
    }
    // The rows are in order of their ids, and the sort keeps that among equals.
    priced.sort_by_key(|(estimate, _, _)| estimate.total);
    let total = priced.len();
    let data: Vec<Value> = priced.iter().take(limit).map(|(estimate, row, card)| shown(estimate, row, card)).collect();
    let usage: Map<String, Value> =
        volume.usage.iter().map(|(meter, quantity)| (meter.name().to_owned(), json!(quantity))).collect();
    let answer = json!({
        "object": "estimate", "currency": "USD", "price_snapshot": &*asked.snapshot,
        "model": question.model, "family": question.family, "region": question.region,
        "service_tier": question.service_tier, "usage": usage, "requests": volume.requests,
        "prompt_tokens_per_request": volume.prompt_tokens(), "total": total, "has_more": total > data.len(),
        "data": data, "unpriced": unpriced, "excluded": excluded,
    });
    Ok(Reply::json(200, &answer))
}

/// Refuses words that are nowhere in the catalog.
fn known(question: &Question, words: &str) -> Result<(), Failure> {
    let Preferences { only, ignore, regions, .. } = &question.provider;
    let region: Vec<String> = question.region.iter().cloned().collect();
    for (param, of, values) in [
        ("region", "region", &region),
        ("provider.regions", "region", regions),
        ("provider.only", "provider", only),
        ("provider.ignore", "provider", ignore),
    ] {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        filter::facets(param, of, &values, words)?;
    }
    Ok(())
}

/// What an offer is called, and more.
fn with(row: &Row<'_>, more: Value) -> Value {
    let mut shown = json!({
        "id": row.id(), "provider": row.value("provider"), "model": row.value("model"),
        "upstream": row.value("upstream"), "variant": row.value("variant"),
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut shown, more) {
        all.extend(more);
    }
    shown
}

fn shown(estimate: &Estimate, row: &Row<'_>, card: &PriceCard) -> Value {
    #[derive(Deserialize)]
    struct Rules<'a> {
        #[serde(borrow)]
        price_rules: Vec<&'a RawValue>,
    }

    let items: Vec<Value> = estimate
        .items
        .iter()
        .map(|item| {
            json!({
                "meter": item.meter, "quantity": item.quantity, "priced_as": item.priced_as,
                "price": {"usd": item.price.to_dollars(item.priced_as.per()), "per": item.priced_as.per()},
                "cost": item.cost.to_dollars(), "rules": item.rules,
            })
        })
        .collect();
    let texts = serde_json::from_str::<Rules<'_>>(row.json).map(|rules| rules.price_rules).unwrap_or_default();
    let rules: Vec<Value> = estimate
        .rules
        .iter()
        .filter_map(|index| {
            let rule: Value = serde_json::from_str(texts.get(*index)?.get()).ok()?;
            Some(json!({"index": index, "rule": rule}))
        })
        .collect();
    with(
        row,
        json!({
            "cost": estimate.total.to_dollars(), "cost_nanos": estimate.total, "items": items, "rules": rules,
            "regions": row.values("region").collect::<Vec<_>>(), "is_free": row.has(&facet("free", "yes")),
            "priced_as_of": card.as_of, "disputed": card.disputed,
        }),
    )
}
