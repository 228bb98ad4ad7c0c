//! The way of every discovery answer: which texts of the snapshot it is made from, reading them, and the reply with its tag.
//!
//! A strong `ETag` names the snapshot and the question; where an answer also holds what this isolate has seen of
//! providers, the tag covers its bytes. A question that comes again with its tag is answered before anything is read.
//! What an answer says is decided without waiting, in `models`, `providers` and `pricing`.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::catalog::{ModelName, Row, list_key, rows_key, with_member};
use crate::discovery::filter::{self, Condition, Filter};
use crate::discovery::page::{self, Health, Named, Order, Paging};
use crate::discovery::question::{Of, Question};
use crate::error::{Code, Failure};
use crate::health::board::Board;
use crate::health::sample::Place;
use crate::health::score::Score;
use crate::routing::plan::unknown_model;
use crate::serve::ports::Ports;
use crate::serve::query::path_value;
use crate::serve::reply::{Body, Reply};
use crate::serve::{Does, Head, admin, fault, metrics, models, pricing, providers, query};

/// How long a client may keep what discovery said.
const CACHE: &str = "public, max-age=60";
/// To be raised when answers about the same snapshot change their form: tags must not outlive it.
const FORM: u32 = 1;

/// A question about one snapshot.
pub struct Asked<'a> {
    head: &'a Head,
    board: &'a RefCell<Board>,
    /// The snapshot's id.
    pub snapshot: &'a str,
    /// The query's parameters, decoded.
    pub pairs: Vec<(String, String)>,
}

/// Where the rows in question are.
#[derive(Debug, PartialEq, Eq)]
pub enum Rows<'a> {
    /// A list of the snapshot.
    List(&'static str),
    /// The rows of a family or a provider.
    Of(&'static str, &'a str),
    /// The rows of a model by its id, an alias or its unique bare name.
    Model(&'a str),
}

/// What an answer is made from.
pub struct Texts {
    /// Every value that a filter may ask for.
    pub words: Rc<str>,
    /// The rows in question.
    pub rows: Rc<str>,
    /// Another list beside them.
    pub beside: Rc<str>,
}

/// Answers any discovery endpoint; `path` is the id in it.
pub async fn answer<P: Ports>(ports: &P, head: &Head, does: Does, path: &str) -> Result<Reply<P>, Failure> {
    let question = match does {
        Does::Estimate => Some(Question::parse(&admin::body::<P, Map<String, Value>>(ports).await?)?),
        _ => None,
    };
    let snapshot = ports.snapshot().await.map_err(|error| fault(ports, &error))?.ok_or_else(no_catalog)?;
    let asked = Asked { head, board: ports.board(), snapshot: &snapshot, pairs: query::pairs(&head.query) };
    let known = asked.tag("");
    if does != Does::Metrics && asked.is_known(&known) {
        return Ok(unchanged(known));
    }
    if does == Does::Metrics {
        ports.recall_health().await;
    }
    let id = path_value(path);
    let (from, beside) = match (does, &question) {
        (_, Some(Question { of: Of::Model(model), .. })) => (Rows::Model(model), None),
        (_, Some(Question { of: Of::Family(family), .. })) => (Rows::Of("family", family), None),
        (Does::Model | Does::ModelOffers, _) => (Rows::Model(&id), None),
        (Does::Provider, _) => (Rows::Of("provider", &id), None),
        (Does::Providers, _) => (providers::rows_for(&asked), Some("list/providers")),
        (Does::Pricing, _) => match asked.narrowest() {
            Rows::List(list) => (Rows::List(list), Some("list/prices")),
            from => (from, None),
        },
        (Does::Metrics, _) => (Rows::List("list/offers"), None),
        _ => (Rows::List("list/models"), None),
    };
    let words = (does != Does::Model).then_some("words");
    let texts = Texts {
        words: read(ports, &snapshot, words).await?,
        rows: read_rows(ports, &snapshot, &from, does).await?,
        beside: read(ports, &snapshot, beside).await?,
    };
    let text = match (does, question) {
        (_, Some(question)) => {
            let text = pricing::estimate(&asked, &texts, &question, head.arrived)?;
            return Ok(Reply::text(200, "application/json", text));
        }
        (Does::Model, _) => models::one(&texts),
        (Does::ModelOffers, _) => models::offers(&asked, &texts)?,
        (Does::Provider, _) => providers::one(&asked, &texts)?,
        (Does::Providers, _) => providers::list(&asked, &texts)?,
        (Does::Pricing, _) => pricing::list(&asked, &texts)?,
        (Does::Metrics, _) => metrics::models(&asked, &texts)?,
        _ => models::list(&asked, &texts)?,
    };
    let is_seen = matches!(does, Does::ModelOffers | Does::Provider | Does::Providers | Does::Metrics);
    let tag = asked.tag(if is_seen { &text } else { "" });
    if asked.is_known(&tag) || asked.is_known("*") {
        return Ok(unchanged(tag));
    }
    Ok(Reply::text(200, "application/json", text).with_header("cache-control", CACHE).with_header("etag", tag))
}

fn unchanged<P: Ports>(tag: String) -> Reply<P> {
    Reply { status: 304, headers: vec![("cache-control", CACHE.to_owned()), ("etag", tag)], body: Body::Empty }
}

/// A list of the snapshot. One that is not there was published by a release that did not make it.
async fn read<P: Ports>(ports: &P, snapshot: &str, list: Option<&str>) -> Result<Rc<str>, Failure> {
    let Some(list) = list else { return Ok(Rc::from("")) };
    let list = ports.list_text(&list_key(snapshot, list)).await.map_err(|error| fault(ports, &error))?;
    list.ok_or_else(no_catalog)
}

/// The rows in question. Those of a model take one read for its id, two more for another name of it.
async fn read_rows<P: Ports>(ports: &P, snapshot: &str, from: &Rows<'_>, does: Does) -> Result<Rc<str>, Failure> {
    let (of, id) = match from {
        Rows::List(list) => return read(ports, snapshot, Some(list)).await,
        Rows::Of(of, id) => (*of, (*id).to_owned()),
        Rows::Model(asked) => ("model", model_of(asked).ok_or_else(|| unknown(from, does))?),
    };
    let mut key = rows_key(snapshot, of, &id);
    let mut tries_left = 1;
    loop {
        if let Some(rows) = ports.kv_get(&key).await.map_err(|error| fault(ports, &error))? {
            return Ok(rows.into());
        }
        if of != "model" || tries_left == 0 {
            return Err(unknown(from, does));
        }
        tries_left -= 1;
        let resolved = ports.model(&id).await.map_err(|error| fault(ports, &error))?;
        key = rows_key(snapshot, of, &resolved.ok_or_else(|| unknown(from, does))?.entry.id);
    }
}

/// The model in a name that may also have a suffix or a preset.
fn model_of(asked: &str) -> Option<String> {
    ModelName::parse(asked).ok()?.model
}

/// The refusal for rows that are not there: about the path where the path names them, else about the parameter.
fn unknown(from: &Rows<'_>, does: Does) -> Failure {
    match from {
        Rows::Model(asked) if matches!(does, Does::Model | Does::ModelOffers) => unknown_model(asked),
        Rows::Model(asked) => unknown_model(asked).about("model"),
        _ if does == Does::Provider => Failure::new(Code::NotFound, "there is no provider of that id"),
        Rows::Of(of, _) => Failure::invalid(*of, "the catalog has none of that name"),
        Rows::List(_) => no_catalog(),
    }
}

fn no_catalog() -> Failure {
    Failure::new(Code::ProviderUnavailable, "no catalog of this release is published yet").retry_after(Some(5_000))
}

impl Asked<'_> {
    /// The first value of a parameter.
    fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The narrowest rows that hold every offer the query can mean.
    pub fn narrowest(&self) -> Rows<'_> {
        let one = |name: &str| self.value(name).filter(|value| !value.is_empty() && !value.contains(','));
        match (self.value("model"), one("family"), one("provider")) {
            (Some(model), _, _) => Rows::Model(model),
            (None, Some(family), _) => Rows::Of("family", family),
            (None, None, Some(provider)) => Rows::Of("provider", provider),
            (None, None, None) => Rows::List("list/offers"),
        }
    }

    fn tag(&self, seen: &str) -> String {
        let mut hash = crc32fast::Hasher::new();
        for part in [self.head.path.as_str(), "?", &self.head.query] {
            hash.update(part.as_bytes());
        }
        let query = hash.finalize();
        let seen = if seen.is_empty() { String::new() } else { format!("-{:08x}", crc32fast::hash(seen.as_bytes())) };
        format!("\"{}-{FORM}-{query:08x}{seen}\"", self.snapshot)
    }

    /// Whether the client has what the tag names. RFC 9110, 13.1.2: any of several, compared weakly.
    fn is_known(&self, tag: &str) -> bool {
        let known = self.head.if_none_match.as_deref().unwrap_or_default();
        known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)
    }

    /// What the query's filters demand of a row.
    pub fn conditions(&self, texts: &Texts, table: &[&[Filter]]) -> Result<Vec<Condition>, Failure> {
        filter::parse(&self.pairs, table, &texts.words)
    }

    /// What the query says about order and pages.
    pub fn paging(&self, orders: &[Named]) -> Result<Paging, Failure> {
        page::parse(&self.pairs, orders)
    }

    /// What this isolate knows of an offer.
    pub fn health(&self, row: &Row<'_>) -> Health {
        let (provider, upstream) =
            (row.value("provider").unwrap_or_default(), row.value("upstream").unwrap_or_default());
        let score = self.board.borrow().score(&Place::new(provider, upstream), self.head.arrived);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds, rounded for people")]
        let whole = |value: f64| value.max(0.0) as u64;
        let latency_ms = score.latency.map(|spread| whole(spread.median()));
        let tokens_per_second = score.pace.map(|spread| whole(1000.0 / spread.median().max(0.001)));
        Health { latency_ms, tokens_per_second }
    }

    /// The same as it is scored.
    pub fn score(&self, row: &Row<'_>) -> Option<Score> {
        let (provider, upstream) =
            (row.value("provider").unwrap_or_default(), row.value("upstream").unwrap_or_default());
        let place = Place::new(provider, upstream);
        let board = self.board.borrow();
        board.is_known(&place).then(|| board.score(&place, self.head.arrived))
    }

    /// The rows for which every condition holds, in order.
    pub fn matching<'r>(
        &self,
        rows: &mut dyn Iterator<Item = Row<'r>>,
        conditions: &[Condition],
        order: Order,
    ) -> Vec<Row<'r>> {
        let rows = rows.filter(|row| conditions.iter().all(|c| c.holds(row))).collect();
        page::sort(rows, order, &|row| self.health(row))
    }

    /// The same as a list of their objects; with everything and their health where `is_full`.
    pub fn listed<'r>(
        &self,
        rows: &mut dyn Iterator<Item = Row<'r>>,
        conditions: &[Condition],
        paging: &Paging,
        is_full: bool,
    ) -> Result<String, Failure> {
        let rows = self.matching(rows, conditions, paging.order);
        let ids: Vec<&str> = rows.iter().map(|row| row.id()).collect();
        let page = page::cut(&ids, paging)?;
        Ok(page::write(&ids, &page, &mut |place, text| match rows.get(place) {
            Some(row) if is_full => text.push_str(&self.with_health(row, &row.full())),
            Some(row) => text.push_str(row.json),
            None => {}
        }))
    }

    /// An offer's object with its health.
    pub fn with_health(&self, row: &Row<'_>, object: &str) -> String {
        with_member(object, &health_json(self.health(row)))
    }
}

impl Texts {
    /// The rows of offers, each with its object where there is one. A model or a provider that stands in front of its
    /// offers is left out.
    pub fn offers(&self) -> Box<dyn Iterator<Item = Row<'_>> + '_> {
        Box::new(Row::all(&self.rows).filter(|row| row.value("model").is_some()))
    }
}

/// Health as members of an object.
pub fn health_json(health: Health) -> String {
    let shown = |number: Option<u64>| number.map_or_else(|| "null".to_owned(), |number| number.to_string());
    let (latency, throughput) = (shown(health.latency_ms), shown(health.tokens_per_second));
    format!(r#""latency_ms":{latency},"throughput_tokens_per_second":{throughput}"#)
}
