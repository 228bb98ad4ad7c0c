//! What an estimate is asked for: of which offers, for how much, under which conditions.

use serde_json::{Map, Value};

use super::estimate::Volume;
use super::{filter, page};
use crate::catalog::{Channel, Row, facet, has_ended};
use crate::error::Failure;
use crate::time::Millis;

/// Offers of an answer where the question states no limit.
const LIMIT_DEFAULT: usize = 100;
/// Members of a question.
const MEMBERS: &[&str] = &["model", "family", "usage", "region", "service_tier", "speed", "provider", "free", "limit"];
/// The part of a request's `provider` object that decides who may serve; the rest has no bearing on a price.
const PREFERENCES: &[&str] = &["only", "ignore", "regions", "data_collection", "zdr"];

/// Whose offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// Those of one model.
    Model(String),
    /// Those of every model of a family.
    Family(String),
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whose offers.
    pub of: Of,
    /// For how much.
    pub volume: Volume,
    /// Served in this region, at its price.
    pub region: Option<String>,
    /// In this service tier.
    pub service_tier: Option<String>,
    /// At this speed.
    pub speed: Option<String>,
    /// Offers of the answer, at most.
    pub limit: usize,
    only: Vec<String>,
    ignore: Vec<String>,
    regions: Vec<String>,
    no_training: bool,
    no_retention: bool,
    no_free: bool,
}

impl Question {
    /// Parses a body.
    pub fn parse(body: &Map<String, Value>) -> Result<Question, Failure> {
        only_known(body, MEMBERS, "")?;
        let of = match (text(body, "model")?, text(body, "family")?) {
            (Some(model), None) => Of::Model(model),
            (None, Some(family)) => Of::Family(family),
            _ => return Err(Failure::invalid("model", "either model or family is needed, and not both")),
        };
        let usage = object(body, "usage")?.ok_or_else(|| Failure::invalid("usage", "is missing"))?;
        let limit = match body.get("limit") {
            None => LIMIT_DEFAULT,
            Some(limit) => limit
                .as_u64()
                .and_then(|limit| usize::try_from(limit).ok())
                .filter(|limit| (1..=page::LIMIT_MAX).contains(limit))
                .ok_or_else(|| {
                    Failure::invalid("limit", format!("must be a whole number between 1 and {}", page::LIMIT_MAX))
                })?,
        };
        let none = Map::new();
        let provider = object(body, "provider")?.unwrap_or(&none);
        only_known(provider, PREFERENCES, "provider.")?;
        let within = |failure: Failure| {
            let param = format!("provider.{}", failure.param.as_deref().unwrap_or_default());
            failure.about(param)
        };
        let no_training = match text(provider, "data_collection").map_err(within)?.as_deref() {
            None | Some("allow") => false,
            Some("deny") => true,
            Some(_) => return Err(Failure::invalid("provider.data_collection", "must be \"allow\" or \"deny\"")),
        };
        let no_retention = match provider.get("zdr") {
            None => false,
            Some(zdr) => zdr.as_bool().ok_or_else(|| Failure::invalid("provider.zdr", "must be true or false"))?,
        };
        // What is free has limits that a volume soon meets.
        let no_free = match body.get("free") {
            None => false,
            Some(free) => !free.as_bool().ok_or_else(|| Failure::invalid("free", "must be true or false"))?,
        };
        Ok(Question {
            of,
            volume: Volume::parse(usage)?,
            region: text(body, "region")?,
            service_tier: text(body, "service_tier")?,
            speed: text(body, "speed")?,
            limit,
            only: texts(provider, "only").map_err(within)?,
            ignore: texts(provider, "ignore").map_err(within)?,
            regions: texts(provider, "regions").map_err(within)?,
            no_training,
            no_retention,
            no_free,
        })
    }

    /// Refuses words that are nowhere in the catalog.
    pub fn check(&self, words: &str) -> Result<(), Failure> {
        if let Some(region) = &self.region {
            filter::known_facet("region", "region", region, words)?;
        }
        for (param, of, values) in [
            ("provider.regions", "region", &self.regions),
            ("provider.only", "provider", &self.only),
            ("provider.ignore", "provider", &self.ignore),
        ] {
            for value in values {
                filter::known_facet(param, of, value, words)?;
            }
        }
        Ok(())
    }

    /// The rule by which an offer is not eligible; the names are those of the rules of routing.
    pub fn excludes(&self, row: &Row<'_>, now: Millis) -> Option<&'static str> {
        let provider = row.value("provider").unwrap_or_default();
        let names = |list: &[String]| list.iter().any(|id| id == provider);
        let is_in = |region: &String| row.has(&facet("region", region));
        [
            (row.has(&facet("support", "unsupported")), "unsupported"),
            (row.has(&facet("status", "retired")), "retired"),
            (row.value("retires").is_some_and(|day| has_ended(day, now)), "retired"),
            (row.has(&facet("availability", "closed")), "unavailable"),
            // Nobody is known here, so nobody is of a narrower audience.
            (row.value("channel").is_some_and(|channel| channel != Channel::Stable.name()), "channel"),
            (row.has(&facet("routing", "off")), "switched_off"),
            (!self.only.is_empty() && !names(&self.only), "not_in_list"),
            (names(&self.ignore), "ignored"),
            (self.no_free && row.has(&facet("free", "yes")), "free"),
            (self.no_training && !row.has(&facet("trains", "no")), "privacy"),
            (self.no_retention && !row.has(&facet("zero_retention", "default")), "privacy"),
            (self.region.as_ref().is_some_and(|region| !is_in(region)), "region"),
            (!self.regions.is_empty() && !self.regions.iter().any(is_in), "region"),
        ]
        .into_iter()
        .find_map(|(is, rule)| is.then_some(rule))
    }
}

fn only_known(object: &Map<String, Value>, known: &[&str], root: &str) -> Result<(), Failure> {
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Failure::invalid(
            format!("{root}{name}"),
            format!("is not known; known are {}", filter::told(&mut known.iter().copied())),
        )),
        None => Ok(()),
    }
}

fn text(object: &Map<String, Value>, name: &str) -> Result<Option<String>, Failure> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(_) => Err(Failure::invalid(name, "must be a text")),
    }
}

fn texts(object: &Map<String, Value>, name: &str) -> Result<Vec<String>, Failure> {
    let Some(value) = object.get(name) else { return Ok(Vec::new()) };
    let wrong = || Failure::invalid(name, "must be a list of texts");
    let mut texts = Vec::new();
    for text in value.as_array().ok_or_else(wrong)? {
        texts.push(text.as_str().ok_or_else(wrong)?.to_owned());
    }
    Ok(texts)
}

fn object<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Option<&'a Map<String, Value>>, Failure> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner)),
        Some(_) => Err(Failure::invalid(name, "must be an object")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn question(more: Value) -> Result<Question, Option<String>> {
        let mut body = json!({"model": "a/b", "usage": {"input_tokens": 1}});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        Question::parse(body.as_object().unwrap()).map_err(|failure| failure.param)
    }

    #[test]
    fn an_offer_that_may_not_serve_is_told_with_the_rule() {
        let row = Row::all(
            "|provider=p|region=eu|trains=opt_out|zero_retention=on_request|free=yes|retires=2026-11-25|\t{}\t{}\t",
        )
        .next();
        let row = row.unwrap();
        let before = Millis::from_rfc3339("2026-11-24T23:59:59Z").unwrap();
        for (more, rule) in [
            (json!({}), None),
            (json!({"provider": {"only": ["p", "q"], "ignore": ["q"], "regions": ["us", "eu"]}, "region": "eu"}), None),
            (json!({"provider": {"data_collection": "allow", "zdr": false}}), None),
            (json!({"provider": {"only": ["q"]}}), Some("not_in_list")),
            (json!({"provider": {"ignore": ["p"]}}), Some("ignored")),
            (json!({"free": false}), Some("free")),
            (json!({"free": true}), None),
            (json!({"provider": {"data_collection": "deny"}}), Some("privacy")),
            (json!({"provider": {"zdr": true}}), Some("privacy")),
            (json!({"provider": {"regions": ["us"]}}), Some("region")),
            (json!({"region": "us"}), Some("region")),
        ] {
            assert_eq!(question(more.clone()).unwrap().excludes(&row, before), rule, "{more}");
        }
        assert_eq!(question(json!({})).unwrap().excludes(&row, before.plus(1000)), Some("retired"));
    }

    #[test]
    fn every_mistake_names_its_field() {
        for (more, param) in [
            (json!({"family": "f"}), "model"),
            (json!({"model": null}), "model"),
            (json!({"model": ""}), "model"),
            (json!({"model": 5}), "model"),
            (json!({"usage": null}), "usage"),
            (json!({"usage": []}), "usage"),
            (json!({"usage": {"words": 1}}), "usage.words"),
            (json!({"region": ["eu"]}), "region"),
            (json!({"free": "no"}), "free"),
            (json!({"limit": 0}), "limit"),
            (json!({"limit": 1001}), "limit"),
            (json!({"tokens": 1}), "tokens"),
            (json!({"provider": []}), "provider"),
            (json!({"provider": {"sort": "price"}}), "provider.sort"),
            (json!({"provider": {"only": "p"}}), "provider.only"),
            (json!({"provider": {"regions": [5]}}), "provider.regions"),
            (json!({"provider": {"zdr": "yes"}}), "provider.zdr"),
            (json!({"provider": {"data_collection": "maybe"}}), "provider.data_collection"),
        ] {
            assert_eq!(question(more.clone()), Err(Some(param.to_owned())), "{more}");
        }
        let words = "|region=eu|provider=p|";
        for (more, param) in [
            (json!({"region": "mars"}), "region"),
            (json!({"provider": {"only": ["p", "nobody"]}}), "provider.only"),
            (json!({"provider": {"ignore": ["nobody"]}}), "provider.ignore"),
            (json!({"provider": {"regions": ["mars"]}}), "provider.regions"),
        ] {
            let refused = question(more.clone()).unwrap().check(words).map_err(|failure| failure.param);
            assert_eq!(refused, Err(Some(param.to_owned())), "{more}");
        }
        let family = json!({"family": "f", "usage": {"input_tokens": 1}});
        assert_eq!(Question::parse(family.as_object().unwrap()).unwrap().of, Of::Family("f".into()));
    }
}
