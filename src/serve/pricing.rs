//! Prices: every offer's, and what a volume of usage costs at each.

use serde_json::Value;

use crate::catalog::{PriceCard, Row, Situation};
use crate::discovery::estimate::{Estimate, Unknown};
use crate::discovery::filter;
use crate::discovery::page::{self, Places};
use crate::discovery::question::Question;
use crate::error::Failure;
use crate::serve::discovery::{Asked, Texts};
use crate::time::Millis;

/// Rows of a page of prices where the query states no limit.
const LIMIT_DEFAULT: usize = 100;

/// `GET /v1/pricing`: an offer a row, with its price card.
pub fn list(asked: &Asked<'_>, texts: &Texts) -> Result<String, Failure> {
    let mut paging = asked.paging(page::PRICES)?;
    paging.limit = paging.limit.or(Some(LIMIT_DEFAULT));
    let conditions = asked.conditions(texts, &[filter::OFFERS])?;
    // The objects of all offers are a list of their own, line by line as the rows.
    let mut objects = texts.beside.lines();
    let mut rows = texts
        .offers()
        .map(|row| if row.json.is_empty() { row.with_json(objects.next().unwrap_or_default()) } else { row });
    asked.listed(&mut rows, &conditions, &paging, false)
}

/// `POST /v1/pricing/estimate`: the eligible offers in order of cost, and apart from them those whose cost nobody knows
/// and those that may not serve.
pub fn estimate(asked: &Asked<'_>, texts: &Texts, question: &Question, now: Millis) -> Result<String, Failure> {
    question.check(&texts.words)?;
    let situation = Situation {
        service_tier: question.service_tier.as_deref(),
        region: question.region.as_deref(),
        speed: question.speed.as_deref(),
        now,
        ..Situation::default()
    };
    let (mut priced, mut costs) = (Vec::new(), Places::default());
    let (mut data, mut unpriced, mut excluded) = (String::new(), String::new(), String::new());
    for row in texts.offers() {
        if let Some(rule) = question.excludes(&row, now) {
            add(&mut excluded, &format!(r#"{},"rule":"{rule}"}}"#, called(&row)));
            continue;
        }
        let card = crate::json::from_bytes::<PriceCard>(row.card.as_bytes()).ok_or(Unknown::Card);
        let in_force = card.map(|mut card| {
            card.put_in_force(now);
            card
        });
        match in_force.and_then(|card| question.volume.at(&card, &situation)) {
            Ok(estimate) => {
                costs.add(u64::try_from(estimate.total.0).unwrap_or_default());
                priced.push((row, estimate));
            }
            Err(unknown) => {
                add(&mut unpriced, &format!(r#"{},"reason":{}}}"#, called(&row), Value::from(unknown.reason())));
            }
        }
    }
    let mut left = question.limit;
    costs.each(&mut |place| {
        if let (Some((row, estimate)), true) = (priced.get(place), left > 0) {
            add(&mut data, &shown(row, estimate));
            left -= 1;
        }
    });
    let mut usage = String::new();
    for (meter, quantity) in question.volume.usage.iter() {
        add(&mut usage, &format!(r#""{}":{quantity}"#, meter.name()));
    }
    Ok(format!(
        r#"{{"object":"estimate","currency":"USD","price_snapshot":"{}","requests":{},"prompt_tokens_per_request":{},"usage":{{{usage}}},"offer_count":{},"has_more":{},"data":[{data}],"unpriced":[{unpriced}],"excluded":[{excluded}]}}"#,
        asked.snapshot,
        question.volume.requests,
        question.volume.prompt_tokens(),
        priced.len(),
        priced.len() > question.limit,
    ))
}

/// Adds an element or a member to the text of a list or an object.
fn add(list: &mut String, one: &str) {
    if !list.is_empty() {
        list.push(',');
    }
    list.push_str(one);
}

/// The begin of an object that says which offer it is about. Names of the catalog need no escaping.
fn called(row: &Row<'_>) -> String {
    let [id, provider, model] = ["id", "provider", "model"].map(|name| row.value(name).unwrap_or_default());
    format!(r#"{{"id":"{id}","provider":"{provider}","model":"{model}""#)
}

/// An estimate with the whole offer, so that the rules it names by their place can be read there.
fn shown(row: &Row<'_>, estimate: &Estimate) -> String {
    let mut items = String::new();
    for item in &estimate.items {
        let (meter, priced_as, per) = (item.meter.name(), item.priced_as.name(), item.priced_as.per());
        let item = format!(
            r#"{{"meter":"{meter}","quantity":{},"priced_as":"{priced_as}","price":{{"usd":"{}","per":{per}}},"cost":"{}","rules":{:?}}}"#,
            item.quantity,
            item.price.to_dollars(per),
            item.cost,
            item.rules,
        );
        add(&mut items, &item);
    }
    format!(
        r#"{},"cost":"{}","cost_nanos":{},"items":[{items}],"rules":{:?},"offer":{}}}"#,
        called(row),
        estimate.total.to_dollars(),
        estimate.total.0,
        estimate.rules,
        row.json,
    )
}
