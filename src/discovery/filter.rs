//! Filters: a query's parameters as conditions on rows.
//!
//! Several values, by comma or by repetition, widen a filter whose facet has one value in a row (`organisation=a,b` is
//! either) and narrow one whose facet has many (`capability=tools,vision` is both); the tables say which. A name that
//! no table has, and a value that no row can have, are the client's mistake.

use crate::catalog::{PARAMETERS, Row, facet};
use crate::error::Failure;
use crate::money::Price;
use crate::time::Millis;
use crate::usage::Meter;

/// What a parameter asks of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// One of the words is a value of the facet.
    AnyOf(&'static str),
    /// Every word is a value of the facet.
    AllOf(&'static str),
    /// Every word is a parameter that the row's capabilities allow.
    Parameters,
    /// The facet says yes, or no.
    YesNo(&'static str),
    /// The provider always keeps nothing, or not.
    ZeroRetention,
    /// The facet is a number not below this.
    AtLeast(&'static str),
    /// The facet is a number not above this.
    AtMost(&'static str),
    /// A meter's price, in dollars per million, is not above this.
    PriceAtMost(Meter),
    /// Released after that day.
    ReleasedAfter,
    /// Every word occurs in what the row is called.
    Text,
    /// Nothing here: whoever reads the rows looks at it.
    Elsewhere,
}

/// A parameter.
pub type Filter = (&'static str, Asks);

const ORGANISATION: Filter = ("organisation", Asks::AnyOf("organisation"));
const PROVIDER: Filter = ("provider", Asks::AnyOf("provider"));
const FAMILY: Filter = ("family", Asks::AnyOf("family"));
const KIND: Filter = ("kind", Asks::AnyOf("kind"));
const STATUS: Filter = ("status", Asks::AnyOf("status"));
const INPUT: Filter = ("input_modality", Asks::AllOf("input"));
const OUTPUT: Filter = ("output_modality", Asks::AllOf("output"));
const CAPABILITY: Filter = ("capability", Asks::AllOf("can"));
const FEATURE: Filter = ("feature", Asks::AllOf("can"));
const PARAMETER: Filter = ("parameter", Asks::Parameters);
const CONTEXT: Filter = ("context_min", Asks::AtLeast("context"));
const PROMPT: Filter = ("prompt_price_max", Asks::PriceAtMost(Meter::InputTokens));
const COMPLETION: Filter = ("completion_price_max", Asks::PriceAtMost(Meter::OutputTokens));
const OPEN: Filter = ("open_weights", Asks::YesNo("open_weights"));
const FREE: Filter = ("free", Asks::YesNo("free"));
const MODEL: Filter = ("model", Asks::Elsewhere);
const TEXT: Filter = ("q", Asks::Text);
const REGION: Filter = ("region", Asks::AnyOf("region"));
const TRAINS: Filter = ("trains", Asks::AnyOf("trains"));
const RETENTION: Filter = ("zero_retention", Asks::AnyOf("zero_retention"));
const ZDR: Filter = ("zdr", Asks::ZeroRetention);
const DAYS: Filter = ("retention_days_max", Asks::AtMost("retention_days"));
const COUNTRY: Filter = ("country", Asks::AnyOf("country"));

/// Filters over models.
pub const MODELS: &[Filter] = &[
    ORGANISATION,
    PROVIDER,
    FAMILY,
    KIND,
    STATUS,
    INPUT,
    OUTPUT,
    CAPABILITY,
    FEATURE,
    PARAMETER,
    CONTEXT,
    PROMPT,
    COMPLETION,
    OPEN,
    FREE,
    ("released_after", Asks::ReleasedAfter),
    TEXT,
];
/// Filters over offers.
pub const OFFERS: &[Filter] = &[
    MODEL,
    ORGANISATION,
    PROVIDER,
    FAMILY,
    KIND,
    STATUS,
    INPUT,
    OUTPUT,
    CAPABILITY,
    FEATURE,
    PARAMETER,
    CONTEXT,
    PROMPT,
    COMPLETION,
    OPEN,
    FREE,
    REGION,
    TRAINS,
    RETENTION,
    ZDR,
    DAYS,
    COUNTRY,
];
/// Filters that look at a provider alone, whatever it offers.
pub const PROVIDERS: &[Filter] = &[PROVIDER, REGION, TRAINS, RETENTION, ZDR, DAYS, COUNTRY, TEXT];

/// What clients are known to send along on their own.
const TOLERATED: &[&str] = &["api-version", "beta", "client_version"];
/// What is no filter.
const PAGING: &[&str] = &["limit", "after", "after_id", "cursor", "sort"];
/// Values of one parameter.
const VALUES_MAX: usize = 64;
/// Words that are still told when one is unknown.
const TOLD_MAX: usize = 40;

/// Something that must hold for a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It has one of these facets.
    Any(Vec<String>),
    /// It does not have this facet.
    Not(String),
    /// A facet lies between these, both included.
    Between(&'static str, u64, u64),
    /// One price pair of it keeps both ceilings.
    Prices {
        /// Nanos per million prompt tokens.
        prompt: Option<i64>,
        /// Nanos per million completion tokens.
        completion: Option<i64>,
    },
    /// This occurs in its text.
    Text(String),
}

impl Condition {
    /// Whether it holds for `row`.
    pub fn holds(&self, row: &Row<'_>) -> bool {
        match self {
            Condition::Any(facets) => facets.iter().any(|facet| row.has(facet)),
            Condition::Not(facet) => !row.has(facet),
            Condition::Between(name, least, most) => row.number(name).is_some_and(|n| (*least..=*most).contains(&n)),
            Condition::Prices { prompt, completion } => {
                row.value("prices").unwrap_or_default().split(';').any(|pair| {
                    let (own_prompt, own_completion) = pair.split_once(':').unwrap_or_default();
                    keeps(own_prompt, *prompt) && keeps(own_completion, *completion)
                })
            }
            Condition::Text(word) => row.value("text").unwrap_or_default().contains(word.as_str()),
        }
    }
}

/// An unknown price keeps no ceiling.
fn keeps(price: &str, ceiling: Option<i64>) -> bool {
    ceiling.is_none_or(|ceiling| price.parse().is_ok_and(|price: i64| price <= ceiling))
}

/// The conditions that `pairs`, the parameters of a query, put on rows. `words` is every facet value there is.
pub fn parse(pairs: &[(String, String)], table: &[&[Filter]], words: &str) -> Result<Vec<Condition>, Failure> {
    let mut conditions = Vec::new();
    let (mut prompt, mut completion) = (None, None);
    for (name, value) in pairs {
        if PAGING.contains(&name.as_str()) || TOLERATED.contains(&name.as_str()) {
            continue;
        }
        let mut known = table.iter().flat_map(|filters| filters.iter());
        let Some((_, asks)) = known.find(|(known, _)| known == name) else {
            let mut known = table.iter().flat_map(|filters| filters.iter()).map(|(name, _)| *name);
            return Err(Failure::invalid(
                name,
                format!("is no parameter of this list; known are {}", told(&mut known)),
            ));
        };
        if value.is_empty() {
            return Err(Failure::invalid(name, "is empty"));
        }
        if value.matches(',').count() >= VALUES_MAX {
            return Err(Failure::invalid(name, format!("has more than {VALUES_MAX} values")));
        }
        match *asks {
            Asks::Elsewhere => {}
            Asks::AnyOf(of) => {
                let mut facets = Vec::new();
                for value in value.split(',') {
                    facets.push(known_facet(name, of, value, words)?);
                }
                conditions.push(Condition::Any(facets));
            }
            Asks::AllOf(of) => {
                for value in value.split(',') {
                    conditions.push(has(known_facet(name, of, value, words)?));
                }
            }
            Asks::Parameters => {
                conditions.push(has(facet("kind", "chat")));
                for value in value.split(',') {
                    let known = PARAMETERS.iter().find(|(parameter, _)| *parameter == value);
                    let (_, needs) =
                        known.ok_or_else(|| unknown(name, value, &mut PARAMETERS.iter().map(|(name, _)| *name)))?;
                    if let Some(capability) = needs {
                        conditions.push(has(facet("can", capability)));
                    }
                }
            }
            Asks::YesNo(of) => conditions.push(has(facet(of, if is_yes(name, value)? { "yes" } else { "no" }))),
            Asks::ZeroRetention => {
                let always = facet("zero_retention", "default");
                conditions.push(if is_yes(name, value)? { has(always) } else { Condition::Not(always) });
            }
            Asks::AtLeast(of) => conditions.push(Condition::Between(of, number(name, value)?, u64::MAX)),
            Asks::AtMost(of) => conditions.push(Condition::Between(of, 0, number(name, value)?)),
            Asks::PriceAtMost(meter) => {
                let price = Price::from_dollars(value, meter.per())
                    .map_err(|_| Failure::invalid(name, "is no price in dollars per million tokens, such as 0.5"))?;
                *(if meter == Meter::InputTokens { &mut prompt } else { &mut completion }) = Some(price.0);
            }
            Asks::ReleasedAfter => {
                let last = Millis::from_rfc3339(&format!("{value}T23:59:59Z"))
                    .ok_or_else(|| Failure::invalid(name, "is no day, such as 2026-01-31"))?;
                conditions.push(Condition::Between("created", last.seconds(), u64::MAX));
            }
            Asks::Text => {
                for word in value.split(' ').take(VALUES_MAX) {
                    conditions.push(Condition::Text(word.to_lowercase()));
                }
            }
        }
    }
    if prompt.is_some() || completion.is_some() {
        conditions.push(Condition::Prices { prompt, completion });
    }
    Ok(conditions)
}

fn has(facet: String) -> Condition {
    Condition::Any(vec![facet])
}

/// The facet for a word of a filter. A word that is nowhere in the catalog is refused: it is a slip, not a question.
pub fn known_facet(name: &str, of: &'static str, value: &str, words: &str) -> Result<String, Failure> {
    let facet = facet(of, value);
    if words.contains(&facet) {
        return Ok(facet);
    }
    Err(unknown(name, value, &mut words.split('|').filter_map(|word| word.strip_prefix(of)?.strip_prefix('='))))
}

fn unknown(name: &str, value: &str, known: &mut dyn Iterator<Item = &str>) -> Failure {
    // What the client wrote is told back only as far as it can be a word.
    let value: String = value.chars().filter(|c| !c.is_control()).take(64).collect();
    Failure::invalid(name, format!("the catalog has no {value:?}; known are {}", told(known)))
}

/// Words for a message; of many the first.
pub fn told(words: &mut dyn Iterator<Item = &str>) -> String {
    let mut text = String::new();
    for (count, word) in words.enumerate() {
        if count == TOLD_MAX {
            return text + ", …";
        }
        text.push_str(if count == 0 { "" } else { ", " });
        text.push_str(word);
    }
    text
}

fn is_yes(name: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Failure::invalid(name, "must be true or false")),
    }
}

fn number(name: &str, value: &str) -> Result<u64, Failure> {
    value.parse().map_err(|_| Failure::invalid(name, "must be a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "|can=tools|can=vision|kind=chat|kind=image|organisation=acme|organisation=bolt|region=eu|";
    const ROW: &str = "|id=acme/one|organisation=acme|kind=chat|can=tools|can=sampling_params|created=172800|context=8192\
        |prices=10:90;50:20;:5|open_weights=yes|zero_retention=on_request|retention_days=30|text=one acme/one|\t\t{}\t";

    fn check(query: &[(&str, &str)]) -> Result<bool, Option<String>> {
        let pairs: Vec<(String, String)> = query.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let row = Row::all(ROW).next().unwrap();
        let conditions = parse(&pairs, &[MODELS, OFFERS], WORDS).map_err(|failure| failure.param)?;
        Ok(conditions.iter().all(|condition| condition.holds(&row)))
    }

    #[test]
    fn each_filter_holds_and_does_not_hold() {
        for (name, yes, no) in [
            ("organisation", "acme", "bolt"),
            ("organisation", "bolt,acme", "bolt"),
            ("kind", "chat", "image"),
            ("capability", "tools", "vision"),
            ("feature", "tools", "tools,vision"),
            ("parameter", "tools,max_tokens,top_p", "tools,response_format"),
            ("context_min", "8192", "8193"),
            ("prompt_price_max", "0.00000001", "0.000000009"),
            ("completion_price_max", "0.000000005", "0.000000004"),
            ("open_weights", "true", "false"),
            ("released_after", "1970-01-02", "1970-01-03"),
            ("q", "ONE acme", "two"),
            ("zdr", "false", "true"),
            ("retention_days_max", "30", "29"),
        ] {
            assert_eq!(check(&[(name, yes)]), Ok(true), "{name}={yes}");
            assert_eq!(check(&[(name, no)]), Ok(false), "{name}={no}");
        }
    }

    #[test]
    fn both_ceilings_are_kept_by_one_offer() {
        let both = |prompt, completion| check(&[("prompt_price_max", prompt), ("completion_price_max", completion)]);
        assert_eq!(both("0.00000001", "0.00000009"), Ok(true));
        assert_eq!(both("0.00000005", "0.00000002"), Ok(true));
        assert_eq!(both("0.00000001", "0.00000002"), Ok(false), "two offers, one for each");
        assert_eq!(both("0.00000001", "0.000000005"), Ok(false), "an unknown price keeps no ceiling");
    }

    #[test]
    fn what_is_unknown_satisfies_nothing() {
        // The row says nothing about its provider's training, region or country.
        assert_eq!(check(&[("region", "eu")]), Ok(false));
        let unknown = Row::all("|id=x|\t\t{}\t").next().unwrap();
        for condition in [
            Condition::Between("context", 0, u64::MAX),
            Condition::Prices { prompt: Some(i64::MAX), completion: None },
            Condition::Text("x".into()),
        ] {
            assert!(!condition.holds(&unknown), "{condition:?}");
        }
    }

    #[test]
    fn every_mistake_names_its_parameter() {
        for (name, value) in [
            ("organisation", "nobody"),
            ("organisation", ""),
            ("organisation", "acme,"),
            ("capability", "flying"),
            ("parameter", "flying"),
            ("context_min", "many"),
            ("context_min", "-1"),
            ("prompt_price_max", "1e3"),
            ("completion_price_max", "-1"),
            ("open_weights", "maybe"),
            ("released_after", "yesterday"),
            ("released_after", "2026-13-01"),
            ("zdr", "1"),
            ("retention_days_max", "1.5"),
            ("colour", "red"),
        ] {
            assert_eq!(check(&[(name, value)]), Err(Some(name.to_owned())), "{name}={value}");
        }
        let many = vec!["acme"; VALUES_MAX + 1].join(",");
        assert_eq!(check(&[("organisation", &many)]), Err(Some("organisation".into())));
        assert_eq!(check(&[("client_version", "1"), ("limit", "5"), ("sort", "x")]), Ok(true));
    }
}
