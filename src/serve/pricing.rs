//! Prices: every offer's, and what a volume of usage costs at each.

use serde_json::Value;

use crate::catalog::{PriceCard, Row, Situation};
use crate::discovery::estimate::{Estimate, Unknown};
use crate::discovery::question::Question;
use crate::discovery::{filter, page};
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
    let (mut priced, mut costs) = (Vec::new(), Vec::new());
    let (mut unpriced, mut excluded) = (Vec::new(), Vec::new());
    for row in texts.offers() {
        if let Some(rule) = question.excludes(&row, now) {
            excluded.push(format!(r#"{},"rule":"{rule}"}}"#, called(&row)));
            continue;
        }
        let card = serde_json::from_slice::<PriceCard>(row.card.as_bytes()).map_err(|_| Unknown::Card);
        match card.and_then(|card| question.volume.at(&card, &situation)) {
            Ok(estimate) => {
                costs.push(u64::try_from(estimate.total.0).unwrap_or_default());
                priced.push((row, estimate));
            }
            Err(unknown) => unpriced.push(format!(r#"{},"reason":{}}}"#, called(&row), Value::from(unknown.reason()))),
        }
    }
    let order = page::ascending(costs).into_iter().take(question.limit);
    let data: Vec<String> = order.filter_map(|at| priced.get(at)).map(|(row, estimate)| shown(row, estimate)).collect();
    let usage: Vec<String> =
        question.volume.usage.iter().map(|(meter, quantity)| format!(r#""{}":{quantity}"#, meter.name())).collect();
    Ok(format!(
        r#"{{"object":"estimate","currency":"USD","price_snapshot":"{}","requests":{},"prompt_tokens_per_request":{},"usage":{{{}}},"total":{},"has_more":{},"data":[{}],"unpriced":[{}],"excluded":[{}]}}"#,
        asked.snapshot,
        question.volume.requests,
        question.volume.prompt_tokens(),
        usage.join(","),
        priced.len(),
        priced.len() > data.len(),
        data.join(","),
        unpriced.join(","),
        excluded.join(","),
    ))
}

/// The begin of an object that says which offer it is about. Names of the catalog need no escaping.
fn called(row: &Row<'_>) -> String {
    let [id, provider, model] = ["id", "provider", "model"].map(|name| row.value(name).unwrap_or_default());
    format!(r#"{{"id":"{id}","provider":"{provider}","model":"{model}""#)
}

/// An estimate with the whole offer, so that the rules it names by their place can be read there.
fn shown(row: &Row<'_>, estimate: &Estimate) -> String {
    let items: Vec<String> = estimate
        .items
        .iter()
        .map(|item| {
            let per = item.priced_as.per();
            format!(
                r#"{{"meter":"{}","quantity":{},"priced_as":"{}","price":{{"usd":"{}","per":{per}}},"cost":"{}","rules":{:?}}}"#,
                item.meter.name(),
                item.quantity,
                item.priced_as.name(),
                item.price.to_dollars(per),
                item.cost,
                item.rules,
            )
        })
        .collect();
    format!(
        r#"{},"cost":"{}","cost_nanos":{},"items":[{}],"rules":{:?},"offer":{}}}"#,
        called(row),
        estimate.total.to_dollars(),
        estimate.total.0,
        items.join(","),
        estimate.rules,
        row.json,
    )
}
