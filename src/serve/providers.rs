//! Providers: who serves what a team needs, and everything about one of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::catalog::Row;
use crate::discovery::filter::{self, Condition};
use crate::discovery::page::{self, Health, Order, Paging};
use crate::error::{Code, Failure};
use crate::serve::Head;
use crate::serve::discovery::{Asked, list_json, with_health, with_members};
use crate::serve::ports::Ports;
use crate::serve::pricing::Offers;
use crate::serve::query::path_value;
use crate::serve::reply::Reply;

/// Models of a provider that a list names; `matched.models` says how many there are.
const MODELS_MAX: usize = 50;

/// A provider and those of its offers that match.
struct Match<'a> {
    provider: Row<'a>,
    offers: Vec<Row<'a>>,
}

/// `GET /v1/providers`: those with at least one offer for which every filter holds. Filters that look at the provider
/// alone are answered without its offers.
pub async fn list<P: Ports>(ports: &P, head: &Head) -> Result<Reply<P>, Failure> {
    let asked = Asked::parse(ports, head).await?;
    let paging = asked.paging(page::OFFERS)?;
    let about_provider = |name: &String| filter::PROVIDERS.iter().any(|(known, _)| known == name);
    let text = asked.pairs.iter().any(|(name, _)| name == "q");
    let of_offers = |name: &String| filter::OFFERS.iter().any(|(known, _)| known == name) && !about_provider(name);
    let has_offers = paging.order != Order::Id || asked.pairs.iter().any(|(name, _)| of_offers(name));
    let conditions = asked.conditions(&[filter::OFFERS, filter::PROVIDERS]).await?;
    let providers = asked.list("list/providers").await?;
    let (of_text, conditions): (Vec<Condition>, Vec<Condition>) =
        conditions.into_iter().partition(|condition| text && matches!(condition, Condition::Text(_)));
    let offers = if has_offers { Some(Offers::read(&asked, false).await?) } else { None };
    let mut matches = Vec::new();
    match &offers {
        None => matches.extend(
            Row::all(&providers)
                .filter(|row| conditions.iter().all(|c| c.holds(row)))
                .map(|provider| Match { provider, offers: Vec::new() }),
        ),
        Some(offers) => {
            let all = Paging { limit: None, after: None, ..paging.clone() };
            let mut by_provider: BTreeMap<&str, Vec<Row<'_>>> = BTreeMap::new();
            let mut order = Vec::new();
            for row in asked.page(offers.rows(), &conditions, &all)?.items {
                let id = row.value("provider").unwrap_or_default();
                let own = by_provider.entry(id).or_insert_with(|| {
                    order.push(id);
                    Vec::new()
                });
                own.push(row);
            }
            // Providers stand in the order of their best offers.
            if paging.order == Order::Id {
                order.sort_unstable();
            }
            let rows: BTreeMap<&str, Row<'_>> = Row::all(&providers).map(|row| (row.id(), row)).collect();
            matches.extend(order.into_iter().filter_map(|id| {
                Some(Match { provider: *rows.get(id)?, offers: by_provider.remove(id).unwrap_or_default() })
            }));
        }
    }
    matches.retain(|one| of_text.iter().all(|condition| condition.holds(&one.provider)));
    let page = page::cut(matches, &paging, |one| one.provider.id())?;
    let text = list_json(&page, |one| one.provider.id(), |one| shown(&asked, one));
    Ok(asked.reply(text, true))
}

fn shown<P: Ports>(asked: &Asked<'_, P>, one: &Match<'_>) -> String {
    if one.offers.is_empty() {
        return one.provider.json.to_owned();
    }
    let models: BTreeSet<&str> = one.offers.iter().filter_map(|row| row.value("model")).collect();
    let health: Vec<Health> = one.offers.iter().map(|row| asked.health(row)).collect();
    let object = with_members(
        one.provider.json,
        &json!({
            "latency_ms": health.iter().filter_map(|h| h.latency_ms).min(),
            "throughput_tokens_per_second": health.iter().filter_map(|h| h.tokens_per_second).max(),
            "matched": {
                "offer_count": one.offers.len(), "model_count": models.len(),
                "models": models.iter().take(MODELS_MAX).collect::<Vec<_>>(),
            },
        }),
    );
    // Where a model, a family or a provider was asked for, the rows hold the offers' objects.
    let own: Vec<String> = one
        .offers
        .iter()
        .zip(health)
        .filter(|(row, _)| !row.json.is_empty())
        .map(|(row, health)| with_health(row, health))
        .collect();
    if own.is_empty() {
        return object;
    }
    format!("{},\"offers\":[{}]}}", object.strip_suffix('}').unwrap_or(&object), own.join(","))
}

/// `GET /v1/providers/{id}`: the provider with its offers, filtered and paged like any list of offers.
pub async fn one<P: Ports>(ports: &P, head: &Head, path: &str) -> Result<Reply<P>, Failure> {
    let asked = Asked::parse(ports, head).await?;
    let paging = asked.paging(page::OFFERS)?;
    let conditions = asked.conditions(&[filter::OFFERS]).await?;
    let id = path_value(path);
    let unknown = || Failure::new(Code::NotFound, "there is no provider of that id");
    let rows = asked.rows("provider", &id).await?.ok_or_else(unknown)?;
    let provider = Row::all(&rows).next().ok_or_else(unknown)?;
    let models: BTreeSet<&str> = Row::all(&rows).filter_map(|row| row.value("model")).collect();
    let page = asked.page(Row::all(&rows).skip(1), &conditions, &paging)?;
    let object = with_members(provider.json, &json!({ "models": models }));
    let offers = list_json(&page, |row| row.id(), |row| with_health(row, asked.health(row)));
    Ok(asked.reply(format!("{},\"offers\":{offers}}}", object.strip_suffix('}').unwrap_or(&object)), true))
}
