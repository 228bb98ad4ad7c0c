//! Providers: who serves what a team needs, and everything about one of them.

use crate::catalog::{Row, with_member};
use crate::discovery::filter::{self, Condition};
use crate::discovery::page::{self, Health, Order};
use crate::error::Failure;
use crate::serve::discovery::{Asked, Rows, Texts, health_json};

/// Models of a provider that a list names; `matched.model_count` says how many there are.
const MODELS_MAX: usize = 50;

/// A provider and those of its offers that match.
struct Match<'a> {
    provider: Row<'a>,
    offers: Vec<Row<'a>>,
}

/// Where the offers are that `GET /v1/providers` is about: nowhere, where every filter looks at the provider alone.
pub fn rows_for<'a>(asked: &'a Asked<'_>) -> Rows<'a> {
    let is_in = |table: &[filter::Filter], name: &str| table.iter().any(|(known, _)| *known == name);
    let of_offers = |name: &str| is_in(filter::OFFERS, name) && !is_in(filter::PROVIDERS, name);
    match asked.pairs.iter().any(|(name, value)| of_offers(name) || (name == "sort" && value != "id")) {
        true => asked.narrowest(),
        false => Rows::List("list/providers"),
    }
}

/// `GET /v1/providers`: those with at least one offer for which every filter holds.
pub fn list(asked: &Asked<'_>, texts: &Texts) -> Result<String, Failure> {
    let paging = asked.paging(page::OFFERS)?;
    let conditions = asked.conditions(texts, &[filter::OFFERS, filter::PROVIDERS])?;
    let mut matches: Vec<Match<'_>> =
        Row::all(&texts.beside).map(|provider| Match { provider, offers: Vec::new() }).collect();
    // What a provider is called is asked of the provider, all else of its offers where they are read.
    let has_offers = rows_for(asked) != Rows::List("list/providers");
    let mut of_provider = Vec::new();
    let mut of_offers = Vec::new();
    for condition in conditions {
        let is_of_provider = !has_offers || matches!(condition, Condition::Text(_));
        (if is_of_provider { &mut of_provider } else { &mut of_offers }).push(condition);
    }
    // Providers stand in the order of their best offers, which come first among their own.
    let mut order: Vec<usize> = Vec::new();
    if has_offers {
        for row in asked.matching(&mut *texts.offers(), &of_offers, paging.order) {
            let id = row.value("provider").unwrap_or_default();
            // The list of providers is in the order of their ids.
            let Ok(place) = matches.binary_search_by(|one| one.provider.id().cmp(id)) else { continue };
            let Some(one) = matches.get_mut(place) else { continue };
            if one.offers.is_empty() {
                order.push(place);
            }
            one.offers.push(row);
        }
    }
    if paging.order == Order::Id {
        order.clear();
        order.extend(0..matches.len());
    }
    let mut found: Vec<&Match<'_>> = Vec::new();
    for one in order.iter().filter_map(|place| matches.get(*place)) {
        let has_what_it_needs = !has_offers || !one.offers.is_empty();
        if has_what_it_needs && of_provider.iter().all(|condition| condition.holds(&one.provider)) {
            found.push(one);
        }
    }
    let ids: Vec<&str> = found.iter().map(|one| one.provider.id()).collect();
    let page = page::cut(&ids, &paging)?;
    Ok(page::write(&ids, &page, &mut |place, text| {
        if let Some(one) = found.get(place) {
            text.push_str(&shown(asked, one));
        }
    }))
}

fn shown(asked: &Asked<'_>, one: &Match<'_>) -> String {
    if one.offers.is_empty() {
        return one.provider.json.to_owned();
    }
    let mut models: Vec<&str> = Vec::new();
    let mut best = Health::default();
    let mut own = String::new();
    for row in &one.offers {
        let health = asked.health(row);
        best.latency_ms = match (best.latency_ms, health.latency_ms) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        best.tokens_per_second = best.tokens_per_second.max(health.tokens_per_second);
        let model = row.value("model").unwrap_or_default();
        if !models.contains(&model) {
            models.push(model);
        }
        // Where a model, a family or a provider was asked for, the rows hold the offers' objects.
        if !row.json.is_empty() {
            own.push(if own.is_empty() { '[' } else { ',' });
            own.push_str(&asked.with_health(row, row.json));
        }
    }
    let (offer_count, model_count) = (one.offers.len(), models.len());
    models.truncate(MODELS_MAX);
    let (health, models) = (health_json(best), names(&models));
    let matched =
        format!(r#"{health},"matched":{{"offer_count":{offer_count},"model_count":{model_count},"models":{models}}}"#);
    let object = with_member(one.provider.json, &matched);
    if own.is_empty() { object } else { with_member(&object, &format!(r#""offers":{own}]"#)) }
}

/// Names of the catalog as a list; nothing in them needs to be escaped.
fn names(names: &[&str]) -> String {
    if names.is_empty() { "[]".to_owned() } else { format!(r#"["{}"]"#, names.join(r#"",""#)) }
}

/// `GET /v1/providers/{id}`: the provider with its offers, filtered and paged like any list of offers.
pub fn one(asked: &Asked<'_>, texts: &Texts) -> Result<String, Failure> {
    let paging = asked.paging(page::OFFERS)?;
    let conditions = asked.conditions(texts, &[filter::OFFERS])?;
    let provider = Row::all(&texts.rows).next().map(|row| row.full()).unwrap_or_default();
    let mut models: Vec<&str> = texts.offers().filter_map(|row| row.value("model")).collect();
    models.dedup();
    let offers = asked.listed(&mut *texts.offers(), &conditions, &paging, true)?;
    Ok(with_member(&provider, &format!(r#""models":{},"offers":{offers}"#, names(&models))))
}
