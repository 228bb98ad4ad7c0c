//! What a volume of usage costs at one offer, itemised.
//!
//! The quantities are those of the whole volume; `requests` says over how many calls they are spread, and the length of
//! the average prompt decides which rules about length hold. Prices fall back as in a charge (a cached token without a
//! price of its own is an input token), but nothing is left out: a quantity without a price makes the whole estimate
//! unknown. One rounding, upwards, for the sum; a real charge rounds each request, so it may be a nano-dollar more for
//! each.

use serde_json::{Map, Value};

use crate::catalog::{Effect, PriceCard, Situation};
use crate::error::Failure;
use crate::ledger::charge::priced_as;
use crate::money::{Nanos, Price, Unrounded, plain};
use crate::usage::{Meter, Usage};

/// Largest quantity: a quadrillion. More is a slip.
const QUANTITY_MAX: u64 = 1_000_000_000_000_000;
/// Digits of a share that count.
const SHARE_ONE: u128 = 1_000_000_000;
/// Tiers that are the price without a rule.
const USUAL: &[&str] = &["default", "auto", "standard"];

/// Quantities, and over how many calls they are spread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Calls, at least one.
    pub requests: u64,
    /// Disjoint quantities; calls are not among them.
    pub usage: Usage,
}

/// A quantity at its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What is counted.
    pub meter: Meter,
    /// How many.
    pub quantity: u64,
    /// The meter whose price it is.
    pub priced_as: Meter,
    /// That price.
    pub price: Price,
    /// Quantity × price in dollars, not rounded.
    pub cost: String,
    /// The rules that made the price, by their place on the card.
    pub rules: Vec<usize>,
}

/// What the volume costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// Quantities at their prices.
    pub items: Vec<Item>,
    /// Every rule that applied, by its place on the card.
    pub rules: Vec<usize>,
    /// The sum, rounded up.
    pub total: Nanos,
}

/// Why there is no estimate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// Nobody knows the price of this.
    Price(Meter),
    /// Nobody knows the price in this tier or at this speed.
    Tier(String),
    /// The sum is out of range.
    Range,
    /// The price card cannot be read.
    Card,
}

impl Unknown {
    /// For people.
    pub fn reason(&self) -> String {
        match self {
            Unknown::Price(meter) => format!("no price for {} is known", meter.name()),
            Unknown::Tier(tier) => format!("no price for {tier} is known"),
            Unknown::Range => "the sum is out of range".to_owned(),
            Unknown::Card => "the price card cannot be read".to_owned(),
        }
    }
}

impl Volume {
    /// Parses `usage`: `input_tokens` is the whole prompt, of which `cached_tokens` or `cached_share` are read from a
    /// cache; any other meter by its name, counted beside them.
    pub fn parse(usage: &Map<String, Value>) -> Result<Volume, Failure> {
        let mut volume = Volume { requests: 1, usage: Usage::default() };
        for (name, value) in usage {
            let param = format!("usage.{name}");
            match name.as_str() {
                "cached_share" | "cached_tokens" => {}
                "requests" => {
                    volume.requests = quantity(&param, value)?;
                    if volume.requests == 0 {
                        return Err(Failure::invalid(param, "must be at least 1"));
                    }
                }
                "cache_read_tokens" => {
                    return Err(Failure::invalid(param, "is a part of input_tokens: say cached_tokens"));
                }
                _ => {
                    let meter = Meter::from_name(name).ok_or_else(|| {
                        Failure::invalid(
                            &param,
                            "is no meter; usual are input_tokens, output_tokens, cached_tokens, cached_share, requests",
                        )
                    })?;
                    volume.usage.set(meter, quantity(&param, value)?);
                }
            }
        }
        let input = volume.usage.quantity(Meter::InputTokens);
        let cached = match (usage.get("cached_tokens"), usage.get("cached_share")) {
            (Some(_), Some(_)) => return Err(Failure::invalid("usage.cached_share", "does not go with cached_tokens")),
            (Some(tokens), None) => quantity("usage.cached_tokens", tokens)?,
            (None, Some(share)) => share_of(input, share)?,
            (None, None) => 0,
        };
        let uncached = input.checked_sub(cached);
        let uncached =
            uncached.ok_or_else(|| Failure::invalid("usage.cached_tokens", "is more than usage.input_tokens"))?;
        volume.usage.set(Meter::InputTokens, uncached);
        volume.usage.set(Meter::CacheReadTokens, cached);
        if volume.usage == Usage::default() {
            return Err(Failure::invalid("usage", "has no quantity above zero"));
        }
        Ok(volume)
    }

    /// Tokens of the average prompt, rounded up.
    pub fn prompt_tokens(&self) -> u64 {
        self.usage.prompt_tokens().div_ceil(self.requests.max(1))
    }

    /// What it costs on `card`. `situation` states all but the length of the prompt.
    pub fn at(&self, card: &PriceCard, situation: &Situation<'_>) -> Result<Estimate, Unknown> {
        let stated = |wanted: Option<&str>, of: fn(&crate::catalog::When) -> Option<&str>| match wanted {
            Some(tier) if !USUAL.contains(&tier) && !card.rules.iter().any(|rule| of(&rule.when) == Some(tier)) => {
                Err(Unknown::Tier(tier.to_owned()))
            }
            _ => Ok(()),
        };
        stated(situation.service_tier, |when| when.service_tier.as_deref())?;
        stated(situation.speed, |when| when.speed.as_deref())?;
        let situation = Situation { prompt_tokens: self.prompt_tokens(), ..*situation };
        let effective = card.at(&situation).map_err(|_| Unknown::Range)?;
        let calls = effective.prices.contains_key(&Meter::Requests).then_some((Meter::Requests, self.requests));
        let mut items = Vec::new();
        let mut sum = Unrounded::default();
        for (meter, quantity) in self.usage.iter().chain(calls) {
            let (priced_as, price) = priced_as(&effective.prices, meter).ok_or(Unknown::Price(meter))?;
            sum = sum.with(quantity, price).map_err(|_| Unknown::Range)?;
            let cost = Unrounded::default().with(quantity, price).and_then(Unrounded::to_dollars);
            let cost = cost.map_err(|_| Unknown::Range)?;
            let rules = rules_of(card, &effective.applied, priced_as);
            items.push(Item { meter, quantity, priced_as, price, cost, rules });
        }
        Ok(Estimate { items, rules: effective.applied, total: sum.round_up().map_err(|_| Unknown::Range)? })
    }
}

/// Of the rules that applied, those that made the price of `meter`: the strongest that names it, and every multiplier.
/// The order of strength is that of [`PriceCard::at`].
fn rules_of(card: &PriceCard, applied: &[usize], meter: Meter) -> Vec<usize> {
    let rules = applied.iter().filter_map(|index| Some((*index, card.rules.get(*index)?)));
    let names = |effect: &Effect| matches!(effect, Effect::Prices(prices) if prices.contains_key(&meter));
    let strongest = rules
        .clone()
        .filter(|(_, rule)| names(&rule.effect))
        .max_by_key(|(index, rule)| (rule.when.conditions(), rule.when.input_tokens_over, *index))
        .map(|(index, _)| index);
    let multipliers = rules.filter(|(_, rule)| matches!(rule.effect, Effect::Multiplier(_))).map(|(index, _)| index);
    strongest.into_iter().chain(multipliers).collect()
}

fn quantity(param: &str, value: &Value) -> Result<u64, Failure> {
    value
        .as_u64()
        .filter(|quantity| *quantity <= QUANTITY_MAX)
        .ok_or_else(|| Failure::invalid(param, format!("must be a whole number from 0 to {QUANTITY_MAX}")))
}

/// A share of `whole`, rounded down: what is not certainly cached is not.
fn share_of(whole: u64, share: &Value) -> Result<u64, Failure> {
    let text = share.as_number().map(ToString::to_string).unwrap_or_default();
    // Nine digits after the point, as an amount has them: no float is computed with. A quotient has more.
    let text = plain(&text);
    let point = text.find('.').unwrap_or(text.len());
    let kept = text.get(..point.saturating_add(10)).unwrap_or(&text);
    let billionths = Nanos::from_dollars(kept).ok().and_then(|nanos| u128::try_from(nanos.0).ok());
    let billionths = billionths.filter(|share| *share <= SHARE_ONE);
    let billionths = billionths
        .ok_or_else(|| Failure::invalid("usage.cached_share", "must be a number from 0 to 1, such as 0.8"))?;
    let part = u128::from(whole).saturating_mul(billionths) / SHARE_ONE;
    Ok(u64::try_from(part).unwrap_or(whole))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(usage: Value) -> Result<Volume, Option<String>> {
        Volume::parse(usage.as_object().unwrap()).map_err(|failure| failure.param)
    }

    fn card(card: Value) -> PriceCard {
        serde_json::from_value(card).unwrap()
    }

    #[test]
    fn the_cached_part_is_taken_out_of_the_input() {
        for (usage, requests, input, cached) in [
            (json!({"input_tokens": 1000}), 1, 1000, 0),
            (json!({"input_tokens": 1000, "cached_tokens": 300, "requests": 3}), 3, 700, 300),
            (json!({"input_tokens": 1000, "cached_share": 0.8}), 1, 200, 800),
            (json!({"input_tokens": 1001, "cached_share": 0.333}), 1, 668, 333),
            (json!({"input_tokens": 1000, "cached_share": 0.3333333333333333}), 1, 667, 333),
            (json!({"input_tokens": 100_000, "cached_share": 2e-5}), 1, 99_998, 2),
            (json!({"input_tokens": 10, "cached_share": 1}), 1, 0, 10),
            (json!({"input_tokens": 10, "cached_share": 0}), 1, 10, 0),
        ] {
            let volume = volume(usage.clone()).unwrap();
            let got = |meter| volume.usage.quantity(meter);
            assert_eq!(
                (volume.requests, got(Meter::InputTokens), got(Meter::CacheReadTokens)),
                (requests, input, cached),
                "{usage}"
            );
        }
    }

    #[test]
    fn every_mistake_names_its_field() {
        for (usage, param) in [
            (json!({}), "usage"),
            (json!({"input_tokens": 0}), "usage"),
            (json!({"input_tokens": -1}), "usage.input_tokens"),
            (json!({"input_tokens": 1.5}), "usage.input_tokens"),
            (json!({"input_tokens": "1"}), "usage.input_tokens"),
            (json!({"input_tokens": QUANTITY_MAX + 1}), "usage.input_tokens"),
            (json!({"input_tokens": 1, "requests": 0}), "usage.requests"),
            (json!({"input_tokens": 1, "cached_tokens": 2}), "usage.cached_tokens"),
            (json!({"input_tokens": 1, "cached_share": 1.1}), "usage.cached_share"),
            (json!({"input_tokens": 1, "cached_share": -0.1}), "usage.cached_share"),
            (json!({"input_tokens": 1, "cached_share": "half"}), "usage.cached_share"),
            (json!({"input_tokens": 1, "cached_share": 0.1, "cached_tokens": 1}), "usage.cached_share"),
            (json!({"cache_read_tokens": 1}), "usage.cache_read_tokens"),
            (json!({"words": 1}), "usage.words"),
        ] {
            assert_eq!(volume(usage.clone()), Err(Some(param.to_owned())), "{usage}");
        }
    }

    #[test]
    fn rules_hold_for_the_average_prompt_and_are_named_by_item() {
        let card = card(
            json!({"as_of": "", "prices": {"input_tokens": 1000, "output_tokens": 5000, "requests": 7_000_000}, "rules": [
                {"when": {"input_tokens_over": 100}, "effect": {"prices": {"input_tokens": 2000}}},
                {"when": {"region": "eu"}, "effect": {"multiplier": 11000}},
                {"when": {"service_tier": "flex"}, "effect": {"prices": {"output_tokens": 10}}},
            ]}),
        );
        let usage = |requests: u64| {
            volume(json!({"input_tokens": 1010, "cached_tokens": 10, "output_tokens": 100, "requests": requests}))
                .unwrap()
        };
        // Ten prompts of 101 tokens are over the threshold, eleven of 92 are not.
        let long = usage(10).at(&card, &Situation { region: Some("eu"), ..Situation::default() }).unwrap();
        let lines: Vec<_> =
            long.items.iter().map(|i| (i.meter, i.quantity, i.priced_as, i.price.0, i.rules.clone())).collect();
        assert_eq!(
            lines,
            [
                (Meter::InputTokens, 1000, Meter::InputTokens, 2200, vec![0, 1]),
                (Meter::CacheReadTokens, 10, Meter::InputTokens, 2200, vec![0, 1]),
                (Meter::OutputTokens, 100, Meter::OutputTokens, 5500, vec![1]),
                (Meter::Requests, 10, Meter::Requests, 7_700_000, vec![1]),
            ]
        );
        // (1010 × 2200 + 100 × 5500 + 10 × 7 700 000) / 10⁶ = 79.772
        assert_eq!((long.total, long.rules), (Nanos(80), vec![0, 1]));
        assert_eq!(long.items[0].cost, "0.0000000022");
        let short = usage(11).at(&card, &Situation::default()).unwrap();
        assert_eq!((short.rules, short.items[0].price), (vec![], Price(1000)));
        let flex = usage(11).at(&card, &Situation { service_tier: Some("flex"), ..Situation::default() }).unwrap();
        assert_eq!((flex.items[2].price, flex.items[2].rules.clone()), (Price(10), vec![2]));
    }

    #[test]
    fn what_has_no_price_is_unknown_and_never_free() {
        let card = card(json!({"as_of": "", "prices": {"input_tokens": 1000}}));
        let at = |usage: Value, situation: Situation<'_>| volume(usage).unwrap().at(&card, &situation);
        let tier = |tier| Situation { service_tier: Some(tier), ..Situation::default() };
        let input = json!({"input_tokens": 5});
        assert_eq!(at(json!({"output_tokens": 1}), Situation::default()), Err(Unknown::Price(Meter::OutputTokens)));
        // A charge lets a search pass that no card prices; an estimate that was asked for it does not.
        let searches = json!({"input_tokens": 5, "web_searches": 1});
        assert_eq!(at(searches, Situation::default()), Err(Unknown::Price(Meter::WebSearches)));
        assert_eq!(at(input.clone(), tier("flex")), Err(Unknown::Tier("flex".into())));
        assert!(at(input.clone(), tier("auto")).is_ok());
        let fast = Situation { speed: Some("fast"), ..Situation::default() };
        assert_eq!(at(input, fast), Err(Unknown::Tier("fast".into())));
        let dear =
            serde_json::from_value::<PriceCard>(json!({"as_of": "", "prices": {"input_tokens": i64::MAX}})).unwrap();
        let much = volume(json!({"input_tokens": QUANTITY_MAX})).unwrap();
        assert_eq!(much.at(&dear, &Situation::default()), Err(Unknown::Range));
    }
}
