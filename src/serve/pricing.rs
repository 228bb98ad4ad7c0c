//! Prices: every offer's, and what a volume of usage costs at each.

use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::catalog::{PriceCard, Row, Situation};
use crate::discovery::estimate::Estimate;
use crate::discovery::question::{Of, Question};
use crate::discovery::{filter, page};
use crate::error::Failure;
use crate::serve::admin::body;
use crate::serve::discovery::Asked;
use crate::serve::ports::{PortError, Ports};
use crate::serve::reply::Reply;
use crate::serve::{Head, fault};

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
    let list = asked.listed(&mut *offers.rows(), &conditions, &paging, false)?;
    Ok(asked.reply(list, false))
}

/// `POST /v1/pricing/estimate`: the eligible offers in order of cost, and apart from them those whose cost nobody knows
/// and those that may not serve.
pub async fn estimate<P: Ports>(ports: &P, head: &Head) -> Result<Reply<P>, Failure> {
    let question = Question::parse(&body::<P, Map<String, Value>>(ports).await?)?;
    let asked = Asked::parse(ports, head).await?;
    let rows = match &question.of {
        Of::Model(model) => asked.model(model).await.map_err(|failure| failure.about("model"))?,
        Of::Family(family) => {
            let rows = asked.rows("family", family).await?;
            rows.ok_or_else(|| Failure::invalid("family", "the catalog has no such family; GET /v1/models shows them"))?
        }
    };
    question.check(&asked.list("words").await?)?;
    let situation = Situation {
        service_tier: question.service_tier.as_deref(),
        region: question.region.as_deref(),
        speed: question.speed.as_deref(),
        now: head.arrived,
        ..Situation::default()
    };
    let (mut priced, mut costs) = (Vec::new(), Vec::new());
    let (mut unpriced, mut excluded) = (Vec::new(), Vec::new());
    for row in Row::all(&rows).filter(|row| !row.card.is_empty()) {
        if let Some(rule) = question.excludes(&row, head.arrived) {
            excluded.push(format!(r#"{},"rule":"{rule}"}}"#, called(&row)));
            continue;
        }
        let card: PriceCard = serde_json::from_slice(row.card.as_bytes())
            .map_err(|_| fault(ports, &PortError("a price card is malformed".to_owned())))?;
        match question.volume.at(&card, &situation) {
            Ok(estimate) => {
                costs.push(u64::try_from(estimate.total.0).unwrap_or_default());
                priced.push((row, estimate));
            }
            Err(unknown) => unpriced.push(format!(r#"{},"reason":{}}}"#, called(&row), json!(unknown.reason()))),
        }
    }
    let order = page::ascending(costs).into_iter().take(question.limit);
    let data: Vec<String> = order.filter_map(|at| priced.get(at)).map(|(row, estimate)| shown(row, estimate)).collect();
    let usage: Vec<String> =
        question.volume.usage.iter().map(|(meter, quantity)| format!(r#""{}":{quantity}"#, meter.name())).collect();
    let text = format!(
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
    );
    Ok(Reply::text(200, "application/json", text))
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
