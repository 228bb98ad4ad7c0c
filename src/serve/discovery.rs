//! What every discovery answer shares: the snapshot it is read from, its tag, its lists, and how rows become a reply.
//!
//! A strong `ETag` names the snapshot and the question. Where an answer also holds what this isolate has seen of
//! providers, the tag covers its bytes. A question that comes again with the tag is answered before any list is read.

use std::borrow::Cow;
use std::rc::Rc;

use crate::catalog::{ModelName, Row, list_key, rows_key};
use crate::discovery::filter::{self, Condition, Filter};
use crate::discovery::page::{self, Health, Named, Order, Paging};
use crate::error::{Code, Failure};
use crate::health::board::Board;
use crate::routing::plan::unknown_model;
use crate::serve::ports::Ports;
use crate::serve::reply::{Body, Reply};
use crate::serve::{Head, fault, query};

/// How long a client may keep what discovery said.
pub const CACHE: &str = "public, max-age=60";
/// To be raised when answers about the same snapshot change their form: tags must not outlive it.
const FORM: u32 = 1;

/// A question about one snapshot.
pub struct Asked<'a, P: Ports> {
    ports: &'a P,
    head: &'a Head,
    /// The snapshot's id.
    pub snapshot: Rc<str>,
    /// The query's parameters, decoded.
    pub pairs: Vec<(String, String)>,
}

impl<'a, P: Ports> Asked<'a, P> {
    /// The question in `head`.
    pub async fn parse(ports: &'a P, head: &'a Head) -> Result<Asked<'a, P>, Failure> {
        let snapshot = ports.snapshot().await.map_err(|error| fault(ports, &error))?.ok_or_else(no_catalog)?;
        Ok(Asked { ports, head, snapshot, pairs: query::pairs(&head.query) })
    }

    /// The first value of a parameter.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The reply that nothing has changed, where the client has the answer already.
    pub fn unchanged(&self) -> Option<Reply<P>> {
        self.not_modified(&self.tag(""))
    }

    /// The answer. `is_seen`: it holds what this isolate has seen.
    pub fn reply(&self, text: String, is_seen: bool) -> Reply<P> {
        let tag = self.tag(if is_seen { &text } else { "" });
        if let Some(reply) = self.not_modified(&tag).filter(|_| is_seen) {
            return reply;
        }
        Reply::text(200, "application/json", text).with_header("cache-control", CACHE).with_header("etag", tag)
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

    /// RFC 9110, 13.1.2: any of the tags, compared weakly; `*` is whatever there is.
    fn not_modified(&self, tag: &str) -> Option<Reply<P>> {
        let known = self.head.if_none_match.as_deref()?;
        let is_same = |one: &str| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag;
        known.split(',').any(|one| is_same(one.trim())).then(|| {
            let headers = vec![("cache-control", CACHE.to_owned()), ("etag", tag.to_owned())];
            Reply { status: 304, headers, body: Body::Empty }
        })
    }

    /// A list of the snapshot. One that is not there was published by a release that did not make it.
    pub async fn list(&self, name: &str) -> Result<Rc<str>, Failure> {
        let key = list_key(&self.snapshot, name);
        let list = self.ports.list_text(&key).await.map_err(|error| fault(self.ports, &error))?;
        list.ok_or_else(no_catalog)
    }

    /// The rows of one family or provider, or of one model by its canonical id.
    pub async fn rows(&self, of: &str, id: &str) -> Result<Option<String>, Failure> {
        self.ports.kv_get(&rows_key(&self.snapshot, of, id)).await.map_err(|error| fault(self.ports, &error))
    }

    /// The rows of a model by its id, an alias or its unique bare name: one read for an id, two for another name.
    pub async fn model(&self, asked: &str) -> Result<String, Failure> {
        let name = ModelName::parse(asked).ok().and_then(|name| name.model).ok_or_else(|| unknown_model(asked))?;
        if let Some(rows) = self.rows("model", &name).await? {
            return Ok(rows);
        }
        let resolved = self.ports.model(&name).await.map_err(|error| fault(self.ports, &error))?;
        let entry = resolved.ok_or_else(|| unknown_model(asked))?.entry;
        self.rows("model", &entry.id).await?.ok_or_else(no_catalog)
    }

    /// What the query's filters demand of a row.
    pub async fn conditions(&self, table: &[&[Filter]]) -> Result<Vec<Condition>, Failure> {
        let words = self.list("words").await?;
        filter::parse(&self.pairs, table, &words)
    }

    /// What the query says about order and pages.
    pub fn paging(&self, orders: &[Named]) -> Result<Paging, Failure> {
        page::parse(&self.pairs, orders)
    }

    /// What this isolate knows of an offer.
    pub fn health(&self, row: &Row<'_>) -> Health {
        let (provider, upstream) =
            (row.value("provider").unwrap_or_default(), row.value("upstream").unwrap_or_default());
        let score = self.ports.board().borrow().score(&Board::key(provider, upstream), self.head.arrived);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds, rounded for people")]
        let latency_ms = score.latency_ms.map(|ms| ms.max(0.0) as u64);
        Health { latency_ms, tokens_per_second: None }
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

    /// The same as a list of their objects, with their health where `is_seen`.
    pub fn listed<'r>(
        &self,
        rows: &mut dyn Iterator<Item = Row<'r>>,
        conditions: &[Condition],
        paging: &Paging,
        is_seen: bool,
    ) -> Result<String, Failure> {
        let rows = self.matching(rows, conditions, paging.order);
        let ids: Vec<&str> = rows.iter().map(|row| row.id()).collect();
        let page = page::cut(&ids, paging)?;
        let shown = |row: &Row<'r>| if is_seen { self.with_health(row).into() } else { Cow::Borrowed(row.json) };
        let objects: Vec<Cow<'_, str>> = rows.get(page.range.clone()).unwrap_or_default().iter().map(shown).collect();
        Ok(page::write(&ids, &page, &objects))
    }

    /// An offer's object with its health.
    pub fn with_health(&self, row: &Row<'_>) -> String {
        with_member(row.json, &health_json(self.health(row)))
    }
}

fn no_catalog() -> Failure {
    Failure::new(Code::ProviderUnavailable, "no catalog of this release is published yet").retry_after(Some(5_000))
}

/// Health as members of an object.
pub fn health_json(health: Health) -> String {
    let shown = |number: Option<u64>| number.map_or_else(|| "null".to_owned(), |number| number.to_string());
    let (latency, throughput) = (shown(health.latency_ms), shown(health.tokens_per_second));
    format!(r#""latency_ms":{latency},"throughput_tokens_per_second":{throughput}"#)
}

/// A written object with one more member (or several) at its end.
pub fn with_member(object: &str, member: &str) -> String {
    format!("{},{member}}}", object.strip_suffix('}').unwrap_or(object))
}
