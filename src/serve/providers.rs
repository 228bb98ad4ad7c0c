//! Providers: who serves what a team needs, and everything about one of them.

use std::borrow::Cow;

use crate::catalog::Row;
use crate::discovery::filter::{self, Condition};
use crate::discovery::page::{self, Health, Order};
use crate::error::Failure;
use crate::serve::discovery::{Asked, From, Texts, health_json, with_member};

/// Models of a provider that a list names; `matched.model_count` says how many there are.
const MODELS_MAX: usize = 50;

/// A provider and those of its offers that match.
struct Match<'a> {
    provider: Row<'a>,
    offers: Vec<Row<'a>>,
}

/// Where the offers are that `GET /v1/providers` is about: nowhere, where every filter looks at the provider alone.
pub fn rows_for<'a>(asked: &'a Asked<'_>) -> From<'a> {
    let is_in = |table: &[filter::Filter], name: &str| table.iter().any(|(known, _)| *known == name);
    let of_offers = |name: &str| is_in(filter::OFFERS, name) && !is_in(filter::PROVIDERS, name);
    match asked.pairs.iter().any(|(name, value)| of_offers(name) || (name == "sort" && value != "id")) {
        true => asked.narrowest(),
        false => From::List("list/providers"),
    }
}

/// `GET /v1/providers`: those with at least one offer for which every filter holds.
pub fn list(asked: &Asked<'_>, texts: &Texts) -> Result<String, Failure> {
    let paging = asked.paging(page::OFFERS)?;
    let conditions = asked.conditions(texts, &[filter::OFFERS, filter::PROVIDERS])?;
    let mut matches: Vec<Match<'_>> =
        Row::all(&texts.beside).map(|provider| Match { provider, offers: Vec::new() }).collect();
    // What a provider is called is asked of the provider, all else of its offers where they are read.
    let has_offers = rows_for(asked) != From::List("list/providers");
    let (of_provider, of_offers): (Vec<Condition>, Vec<Condition>) =
        conditions.into_iter().partition(|condition| !has_offers || matches!(condition, Condition::Text(_)));
    if has_offers {
        for row in asked.matching(&mut *texts.offers(), &of_offers, paging.order) {
            let id = row.value("provider").unwrap_or_default();
            // The list of providers is in the order of their ids.
            let place = matches.binary_search_by(|one| one.provider.id().cmp(id));
            if let Some(one) = place.ok().and_then(|place| matches.get_mut(place)) {
                one.offers.push(row);
            }
        }
    }
    let is_left = |one: &Match<'_>| {
        (!has_offers || !one.offers.is_empty()) && of_provider.iter().all(|condition| condition.holds(&one.provider))
    };
    matches.retain(is_left);
    let matches = in_order(asked, matches, paging.order);
    let ids: Vec<&str> = matches.iter().map(|one| one.provider.id()).collect();
    let page = page::cut(&ids, &paging)?;
    let on_page = matches.get(page.range.clone()).unwrap_or_default();
    let objects: Vec<Cow<'_, str>> = on_page.iter().map(|one| shown(asked, one)).collect();
    Ok(page::write(&ids, &page, &objects))
}

/// Providers in the order of their best offers, which come first among their own.
fn in_order<'a>(asked: &Asked<'_>, matches: Vec<Match<'a>>, order: Order) -> Vec<Match<'a>> {
    if order == Order::Id {
        return matches;
    }
    let best: Vec<Row<'a>> = matches.iter().filter_map(|one| one.offers.first().copied()).collect();
    let mut matches: Vec<Option<Match<'a>>> = matches.into_iter().map(Some).collect();
    let places = page::ascending(best.iter().map(|row| page::key(row, order, &|row| asked.health(row))).collect());
    places.into_iter().filter_map(|place| matches.get_mut(place)?.take()).collect()
}

fn shown<'a>(asked: &Asked<'_>, one: &Match<'a>) -> Cow<'a, str> {
    if one.offers.is_empty() {
        return one.provider.json.into();
    }
    let mut models: Vec<&str> = Vec::new();
    let mut best = Health::default();
    for row in &one.offers {
        let health = asked.health(row);
        best.latency_ms = [best.latency_ms, health.latency_ms].into_iter().flatten().min();
        best.tokens_per_second = best.tokens_per_second.max(health.tokens_per_second);
        let model = row.value("model").unwrap_or_default();
        if !models.contains(&model) {
            models.push(model);
        }
    }
    let (offer_count, model_count) = (one.offers.len(), models.len());
    models.truncate(MODELS_MAX);
    let matched = format!(
        r#"{},"matched":{{"offer_count":{offer_count},"model_count":{model_count},"models":{}}}"#,
        health_json(best),
        names(&models)
    );
    let object = with_member(one.provider.json, &matched);
    // Where a model, a family or a provider was asked for, the rows hold the offers' objects.
    let own = one.offers.iter().filter(|row| !row.json.is_empty()).map(|row| asked.with_health(row));
    let own: Vec<String> = own.collect();
    if own.is_empty() {
        object.into()
    } else {
        with_member(&object, &format!(r#""offers":[{}]"#, own.join(","))).into()
    }
}

/// Names of the catalog as a list; nothing in them needs to be escaped.
fn names(names: &[&str]) -> String {
    if names.is_empty() { "[]".to_owned() } else { format!(r#"["{}"]"#, names.join(r#"",""#)) }
}

/// `GET /v1/providers/{id}`: the provider with its offers, filtered and paged like any list of offers.
pub fn one(asked: &Asked<'_>, texts: &Texts) -> Result<String, Failure> {
    let paging = asked.paging(page::OFFERS)?;
    let conditions = asked.conditions(texts, &[filter::OFFERS])?;
    let provider = Row::all(&texts.rows).next().map(|row| row.json).unwrap_or_default();
    let mut models: Vec<&str> = texts.offers().filter_map(|row| row.value("model")).collect();
    models.dedup();
    let offers = asked.listed(&mut *texts.offers(), &conditions, &paging, true)?;
    Ok(with_member(provider, &format!(r#""models":{},"offers":{offers}"#, names(&models))))
}
