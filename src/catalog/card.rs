//! The price card of an offer: base prices by meter, and the rules that change them.
//!
//! A rule applies when **all** its conditions hold. [`PriceCard::at`] finds the prices of one call in this order:
//!
//! 1. Start from the base prices.
//! 2. Take the rules that replace prices and apply. Of those that differ in nothing but `input_tokens_over`, only the
//!    one with the highest threshold stays: the whole call is priced by it.
//! 3. Lay them over the base, meter by meter, those with fewer conditions first, so that of two rules that name the
//!    same meter the one with more conditions wins; at equal count the one with the higher `input_tokens_over`
//!    (none counts as zero), and at equal threshold the one that stands later in the file.
//! 4. A meter that none of them names keeps its base price.
//! 5. Multiply every price by each multiplier that applies, in the order of the file, each time rounded up to a whole
//!    nano-dollar per million units.
//!
//! `input_tokens_over` looks at the whole prompt, cached part included, and holds when it is strictly longer. Time
//! windows are in UTC. A condition about something that a [`Situation`] does not state does not hold in `at`;
//! [`PriceCard::dearest`] counts every condition as if it might.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::money::{MoneyError, Price};
use crate::time::Millis;
use crate::usage::Meter;

/// All prices of one offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceCard {
    /// The date the prices were read (`2026-11-19`); empty where the file says none.
    pub as_of: String,
    /// Whether the sources of the prices contradict each other.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disputed: bool,
    /// Base prices. A meter that is absent has no known price.
    pub prices: BTreeMap<Meter, Price>,
    /// What changes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Announced prices that take the place of these, earliest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

/// Prices from a moment on. They replace base prices and rules as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// A request that arrives then or later pays these.
    pub from: Millis,
    /// Base prices.
    pub prices: BTreeMap<Meter, Price>,
    /// What changes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// A condition and what it does to prices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// All of this must hold.
    pub when: When,
    /// What happens then.
    pub effect: Effect,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// These meters cost this instead.
    Prices(BTreeMap<Meter, Price>),
    /// Every meter costs this many basis points (1/10,000) of its price.
    Multiplier(u64),
}

/// The conditions of a rule; an absent one is no condition. An unknown one is an error when read: a rule that is
/// half understood would charge a wrong price.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The whole prompt has more tokens than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens_over: Option<u64>,
    /// The call runs in this service tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// The call is processed in this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The call runs at this speed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<String>,
    /// An image of this quality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// An image or video of this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// An image of this size class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<String>,
    /// A video of this resolution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<String>,
    /// A web search with this much context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_context_size: Option<String>,
    /// The call starts in one of these windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_windows: Option<Vec<TimeWindow>>,
}

/// Spans of the day on some days of the week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeWindow {
    /// `(start, end)` in minutes of the UTC day, start included, end not; `"22:00-02:00"` in JSON. An end at or before
    /// the start lies on the next day, so `00:00-00:00` is the whole day.
    #[serde(serialize_with = "write_spans", deserialize_with = "parse_spans")]
    pub utc: Vec<(u16, u16)>,
    /// The days on which a span **starts**, Monday = 1; empty means every day.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", deserialize_with = "parse_weekdays")]
    pub weekdays: BTreeSet<u8>,
}

/// What prices depend on, for one call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Situation<'a> {
    /// The whole prompt, cached part included.
    pub prompt_tokens: u64,
    /// The service tier the call ran in.
    pub service_tier: Option<&'a str>,
    /// The region it was processed in.
    pub region: Option<&'a str>,
    /// The speed it ran at.
    pub speed: Option<&'a str>,
    /// The quality of its images.
    pub quality: Option<&'a str>,
    /// The size of its images or videos.
    pub size: Option<&'a str>,
    /// The size class of its images.
    pub image_size: Option<&'a str>,
    /// The resolution of its videos.
    pub resolution: Option<&'a str>,
    /// How much context its web searches brought.
    pub search_context_size: Option<&'a str>,
    /// When it was sent.
    pub now: Millis,
}

/// The prices of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Prices by meter.
    pub prices: BTreeMap<Meter, Price>,
    /// The rules that made a difference, as indexes into [`PriceCard::rules`], ascending.
    pub applied: Vec<usize>,
}

impl PriceCard {
    /// Puts the announced prices in force whose moment has come; whether there were any.
    pub fn put_in_force(&mut self, now: Millis) -> bool {
        let due = self.changes.iter().take_while(|change| change.from <= now).count();
        let Some(change) = self.changes.drain(..due).next_back() else { return false };
        self.prices = change.prices;
        self.rules = change.rules;
        true
    }

    /// The prices in `situation`; the module documentation gives the order of rules.
    pub fn at(&self, situation: &Situation<'_>) -> Result<Effective, MoneyError> {
        let holding: Vec<(usize, &Rule)> =
            self.rules.iter().enumerate().filter(|(_, rule)| rule.when.holds(situation)).collect();

        let mut layers: Vec<(usize, &When, &BTreeMap<Meter, Price>)> = Vec::new();
        let mut multipliers: Vec<(usize, u64)> = Vec::new();
        for (index, rule) in &holding {
            match &rule.effect {
                Effect::Multiplier(basis_points) => multipliers.push((*index, *basis_points)),
                Effect::Prices(_) if holding.iter().any(|(_, other)| other.outranks(rule)) => {}
                Effect::Prices(prices) => layers.push((*index, &rule.when, prices)),
            }
        }
        layers.sort_by_key(|(index, when, _)| (when.conditions(), when.input_tokens_over, *index));

        let mut prices = self.prices.clone();
        let mut set_by: BTreeMap<Meter, usize> = BTreeMap::new();
        for (index, _, layer) in layers {
            for (meter, price) in layer {
                prices.insert(*meter, *price);
                set_by.insert(*meter, index);
            }
        }
        let mut applied: BTreeSet<usize> = set_by.into_values().collect();
        for (index, basis_points) in multipliers {
            for price in prices.values_mut() {
                *price = price.scaled(basis_points)?;
            }
            applied.insert(index);
        }
        Ok(Effective { prices, applied: applied.into_iter().collect() })
    }

    /// The quality and size that a picture is made in, where a request states them so: what it leaves unsaid beside the
    /// other is what the base prices are stated for, as far as a rule tells it by repeating them.
    pub fn made_as<'a>(
        &'a self,
        quality: Option<&'a str>,
        size: Option<&'a str>,
    ) -> (Option<&'a str>, Option<&'a str>) {
        let said = |word: Option<&'a str>| word.filter(|word| *word != "auto");
        let (quality, size) = (said(quality), said(size));
        if quality.is_some() == size.is_some() {
            return (quality, size);
        }
        let usual = self.rules.iter().find(|rule| {
            let Effect::Prices(prices) = &rule.effect else { return false };
            rule.when.quality.is_some()
                && rule.when.size.is_some()
                && rule.when.conditions() == 2
                && prices.iter().all(|(meter, price)| self.prices.get(meter) == Some(price))
        });
        let Some(usual) = usual else { return (quality, size) };
        (quality.or(usual.when.quality.as_deref()), size.or(usual.when.size.as_deref()))
    }

    /// For each meter an upper bound of what [`PriceCard::at`] can answer for a prompt of up to `max_prompt_tokens`,
    /// in any tier, region, time and so on. A price beyond the range of [`Price`] stays at its end, which no balance
    /// covers.
    pub fn dearest(&self, max_prompt_tokens: u64) -> BTreeMap<Meter, Price> {
        let mut prices = self.prices.clone();
        let mut multipliers: Vec<(&When, u64)> = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.when.is_within(max_prompt_tokens)) {
            match &rule.effect {
                Effect::Prices(layer) => raise(&mut prices, layer),
                Effect::Multiplier(basis_points) if *basis_points > 10_000 => {
                    multipliers.push((&rule.when, *basis_points));
                }
                Effect::Multiplier(_) => {}
            }
        }
        // A call has one region, so only multipliers of the same region meet; other conditions may all hold at once.
        let regions: BTreeSet<Option<&str>> = multipliers.iter().map(|(when, _)| when.region.as_deref()).collect();
        let base = prices.clone();
        for region in regions {
            let mut scaled = base.clone();
            for (when, basis_points) in &multipliers {
                if when.region.is_none() || when.region.as_deref() == region {
                    for price in scaled.values_mut() {
                        *price = price.scaled(*basis_points).unwrap_or(Price(i64::MAX));
                    }
                }
            }
            raise(&mut prices, &scaled);
        }
        prices
    }
}

impl Rule {
    /// Whether this rule, which holds too, takes the place of `other` because its threshold is higher and nothing
    /// else about their conditions differs.
    fn outranks(&self, other: &Rule) -> bool {
        let bare = |when: &When| When { input_tokens_over: None, ..when.clone() };
        matches!(self.effect, Effect::Prices(_))
            && other.when.input_tokens_over.is_some()
            && self.when.input_tokens_over > other.when.input_tokens_over
            && bare(&self.when) == bare(&other.when)
    }
}

impl When {
    /// How many conditions there are.
    pub fn conditions(&self) -> usize {
        let words = [
            &self.service_tier,
            &self.region,
            &self.speed,
            &self.quality,
            &self.size,
            &self.image_size,
            &self.resolution,
            &self.search_context_size,
        ];
        let other = [self.input_tokens_over.is_some(), self.time_windows.is_some()];
        words
            .into_iter()
            .filter(|word| word.is_some())
            .count()
            .saturating_add(other.into_iter().filter(|is| *is).count())
    }

    /// Whether every condition holds.
    pub fn holds(&self, situation: &Situation<'_>) -> bool {
        let is = |wanted: &Option<String>, given: Option<&str>| wanted.is_none() || wanted.as_deref() == given;
        self.is_within(situation.prompt_tokens)
            && is(&self.service_tier, situation.service_tier)
            && is(&self.region, situation.region)
            && is(&self.speed, situation.speed)
            && is(&self.quality, situation.quality)
            && is(&self.size, situation.size)
            && is(&self.image_size, situation.image_size)
            && is(&self.resolution, situation.resolution)
            && is(&self.search_context_size, situation.search_context_size)
            && self.time_windows.as_ref().is_none_or(|windows| windows.iter().any(|w| w.contains(situation.now)))
    }

    /// Whether the threshold, where there is one, is passed by a prompt of `prompt_tokens`.
    fn is_within(&self, prompt_tokens: u64) -> bool {
        self.input_tokens_over.is_none_or(|over| prompt_tokens > over)
    }
}

impl TimeWindow {
    /// Whether `moment` lies in one of the spans.
    pub fn contains(&self, moment: Millis) -> bool {
        let Some(moment) = i64::try_from(moment.0).ok().and_then(DateTime::<Utc>::from_timestamp_millis) else {
            return false;
        };
        let minute = moment.num_seconds_from_midnight() / 60;
        let starts_on = |day: chrono::Weekday| {
            u8::try_from(day.number_from_monday())
                .is_ok_and(|day| self.weekdays.is_empty() || self.weekdays.contains(&day))
        };
        let (today, yesterday) = (starts_on(moment.weekday()), starts_on(moment.weekday().pred()));
        self.utc.iter().any(|(start, end)| {
            let (start, end) = (u32::from(*start), u32::from(*end));
            if start < end {
                today && (start..end).contains(&minute)
            } else {
                (today && minute >= start) || (yesterday && minute < end)
            }
        })
    }
}

/// Raises each price in `prices` to that in `other` where it is higher or new.
fn raise(prices: &mut BTreeMap<Meter, Price>, other: &BTreeMap<Meter, Price>) {
    for (meter, price) in other {
        prices.entry(*meter).and_modify(|known| *known = (*known).max(*price)).or_insert(*price);
    }
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn write_spans<S: Serializer>(spans: &[(u16, u16)], serializer: S) -> Result<S::Ok, S::Error> {
    let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    serializer.collect_seq(spans.iter().map(|(start, end)| format!("{}-{}", clock(*start), clock(*end))))
}

fn parse_spans<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(u16, u16)>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| {
            let (start, end) = text.split_once('-')?;
            Some((parse_clock(start)?, parse_clock(end)?))
        })
        .collect::<Option<Vec<_>>>()
        .filter(|spans| !spans.is_empty())
        .ok_or_else(|| D::Error::custom("expected spans like \"22:00-02:00\""))
}

/// Minutes of the day from `HH:MM`.
fn parse_clock(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |part: &str, below: u16| {
        let is_digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u16>().ok().filter(|value| is_digits && *value < below)
    };
    number(hours, 24)?.checked_mul(60)?.checked_add(number(minutes, 60)?)
}

fn parse_weekdays<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<u8>, D::Error> {
    let days = BTreeSet::<u8>::deserialize(deserializer)?;
    if days.iter().all(|day| (1..=7).contains(day)) {
        Ok(days)
    } else {
        Err(D::Error::custom("expected weekdays from 1 (Monday) to 7"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn price(dollars: &str) -> Price {
        Price::from_dollars(dollars, 1_000_000).unwrap()
    }

    fn card(rules: serde_json::Value) -> PriceCard {
        serde_json::from_value(serde_json::json!({
            "as_of": "2026-11-19",
            "prices": {"input_tokens": 1000, "output_tokens": 5000, "cache_read_tokens": 100},
            "rules": rules,
        }))
        .unwrap()
    }

    #[test]
    fn a_picture_is_made_in_what_the_base_prices_are_for_where_a_request_says_only_half() {
        let rule = |quality: &str, size: &str, price: i64| serde_json::json!({"when": {"quality": quality, "size": size}, "effect": {"prices": {"output_images": price}}});
        let mut pictures = card(serde_json::json!([
            rule("hd", "1024x1024", 80),
            rule("standard", "1024x1024", 40),
            rule("standard", "1792x1024", 80)
        ]));
        pictures.prices = BTreeMap::from([(Meter::OutputImages, Price(40))]);
        for ((quality, size), made) in [
            ((None, Some("1792x1024")), (Some("standard"), Some("1792x1024"))),
            ((Some("auto"), Some("1792x1024")), (Some("standard"), Some("1792x1024"))),
            ((Some("hd"), None), (Some("hd"), Some("1024x1024"))),
            ((Some("hd"), Some("512x512")), (Some("hd"), Some("512x512"))),
            ((None, None), (None, None)),
        ] {
            assert_eq!(pictures.made_as(quality, size), made);
        }
        assert_eq!(card(serde_json::json!([])).made_as(Some("hd"), None), (Some("hd"), None), "nothing tells it");
    }

    /// The prices of input, output and cache reads, and the rules behind them.
    fn check(card: &PriceCard, situation: Situation<'_>, expected: [i64; 3], applied: &[usize]) {
        let effective = card.at(&situation).unwrap();
        let of = |meter| effective.prices.get(&meter).unwrap().0;
        let prices = [of(Meter::InputTokens), of(Meter::OutputTokens), of(Meter::CacheReadTokens)];
        assert_eq!((prices, effective.applied.as_slice()), (expected, applied), "{situation:?}");
        let bound = card.dearest(situation.prompt_tokens);
        assert!(effective.prices.iter().all(|(meter, price)| bound[meter] >= *price), "{situation:?} {bound:?}");
    }

    #[test]
    fn announced_prices_come_into_force_at_their_moment_and_the_last_one_counts() {
        let mut card = card(serde_json::json!([{"when": {"region": "eu"}, "effect": {"multiplier": 20000}}]));
        let change = |from: u64, input: i64| Change {
            from: Millis(from),
            prices: BTreeMap::from([(Meter::InputTokens, Price(input))]),
            rules: Vec::new(),
        };
        card.changes = vec![change(100, 7), change(200, 8), change(300, 9)];
        assert!(!card.put_in_force(Millis(99)));
        assert_eq!((card.prices[&Meter::InputTokens], card.rules.len(), card.changes.len()), (Price(1000), 1, 3));
        assert!(card.put_in_force(Millis(200)));
        // The old card is gone as a whole: what the new one does not price has no price.
        assert_eq!((card.prices.len(), card.prices[&Meter::InputTokens], card.rules.len()), (1, Price(8), 0));
        assert_eq!(card.changes, [change(300, 9)]);
    }

    #[test]
    fn without_a_rule_that_holds_base_prices_stay() {
        let card = card(serde_json::json!([
            {"when": {"input_tokens_over": 200}, "effect": {"prices": {"input_tokens": 2000}}},
            {"when": {"quality": "high"}, "effect": {"prices": {"input_tokens": 9000}}},
        ]));
        check(&card, Situation { prompt_tokens: 200, ..Situation::default() }, [1000, 5000, 100], &[]);
    }

    #[test]
    fn the_highest_passed_threshold_prices_the_call() {
        let card = card(serde_json::json!([
            {"when": {"input_tokens_over": 1000}, "effect": {"prices": {"input_tokens": 4000}}},
            {"when": {"input_tokens_over": 200}, "effect": {"prices": {"input_tokens": 2000, "cache_read_tokens": 200}}},
        ]));
        let at = |prompt_tokens| Situation { prompt_tokens, ..Situation::default() };
        check(&card, at(201), [2000, 5000, 200], &[1]);
        check(&card, at(1000), [2000, 5000, 200], &[1]);
        // The lower rule's price of cache reads is gone too.
        check(&card, at(1001), [4000, 5000, 100], &[0]);
    }

    #[test]
    fn more_conditions_win_over_fewer_meter_by_meter() {
        let card = card(serde_json::json!([
            {"when": {"service_tier": "flex", "input_tokens_over": 200}, "effect": {"prices": {"input_tokens": 1100}}},
            {"when": {"service_tier": "flex"}, "effect": {"prices": {"input_tokens": 500, "cache_read_tokens": 50}}},
            {"when": {"input_tokens_over": 200}, "effect": {"prices": {"input_tokens": 2000, "output_tokens": 9000}}},
        ]));
        let flex = Some("flex");
        check(&card, Situation { service_tier: flex, ..Situation::default() }, [500, 5000, 50], &[1]);
        check(
            &card,
            Situation { service_tier: flex, prompt_tokens: 201, ..Situation::default() },
            [1100, 9000, 50],
            &[0, 1, 2],
        );
        check(&card, Situation { service_tier: Some("default"), ..Situation::default() }, [1000, 5000, 100], &[]);
    }

    #[test]
    fn multipliers_come_last_and_round_up() {
        let card = card(serde_json::json!([
            {"when": {"region": "eu"}, "effect": {"multiplier": 11000}},
            {"when": {"region": "us"}, "effect": {"multiplier": 12345}},
            {"when": {"speed": "fast"}, "effect": {"prices": {"input_tokens": 2001}}},
        ]));
        let eu = Situation { region: Some("eu"), ..Situation::default() };
        check(&card, eu, [1100, 5500, 110], &[0]);
        check(&card, Situation { speed: Some("fast"), ..eu }, [2202, 5500, 110], &[0, 2]);
        // No call is in two regions: the bound takes the dearer one, not their product.
        assert_eq!(card.dearest(0)[&Meter::OutputTokens], Price(6173));
    }

    #[test]
    fn prices_follow_the_clock() {
        let card = card(serde_json::json!([{
            "when": {"time_windows": [
                {"utc": ["00:00-01:00", "10:00-00:00"], "weekdays": [1, 2, 3, 4, 5]},
                {"utc": ["00:00-00:00"], "weekdays": [6]},
                {"utc": ["22:00-02:00"], "weekdays": [7]},
            ]},
            "effect": {"prices": {"input_tokens": 500}},
        }]));
        for (moment, is_low) in [
            ("2026-11-25T00:59:59Z", true), // Wednesday
            ("2026-11-25T01:00:00Z", false),
            ("2026-11-25T09:59:59Z", false),
            ("2026-11-25T10:00:00Z", true),
            ("2026-11-25T23:59:59Z", true),
            ("2026-11-28T03:00:00Z", true),  // Saturday, the whole day
            ("2026-11-29T03:00:00Z", false), // Sunday
            ("2026-11-29T22:00:00Z", true),
            ("2026-11-30T01:59:59Z", true), // Monday, Sunday's window goes on
            ("2026-11-30T02:00:00Z", false),
        ] {
            let now = Millis::from_rfc3339(moment).unwrap();
            let (input, applied): (i64, &[usize]) = if is_low { (500, &[0]) } else { (1000, &[]) };
            check(&card, Situation { now, ..Situation::default() }, [input, 5000, 100], applied);
        }
    }

    #[test]
    fn a_price_out_of_range_is_an_error_and_its_bound_the_highest_price() {
        let mut card = card(serde_json::json!([{"when": {"region": "eu"}, "effect": {"multiplier": 20000}}]));
        card.prices.insert(Meter::Requests, Price(i64::MAX));
        let eu = Situation { region: Some("eu"), ..Situation::default() };
        assert_eq!(card.at(&eu), Err(MoneyError::Overflow));
        assert_eq!(card.dearest(0)[&Meter::Requests], Price(i64::MAX));
    }

    #[test]
    fn pictures_and_searches_are_priced_by_what_the_call_asked_for() {
        let card = card(serde_json::json!([
            {"when": {"quality": "high", "size": "1024x1024"}, "effect": {"prices": {"input_tokens": 7}}},
            {"when": {"quality": "high"}, "effect": {"prices": {"input_tokens": 5}}},
            {"when": {"image_size": "4K"}, "effect": {"prices": {"output_tokens": 9}}},
            {"when": {"resolution": "1080p"}, "effect": {"prices": {"output_tokens": 8}}},
            {"when": {"search_context_size": "high"}, "effect": {"prices": {"cache_read_tokens": 3}}},
        ]));
        let high = Situation { quality: Some("high"), ..Situation::default() };
        check(&card, Situation { quality: Some("low"), ..high }, [1000, 5000, 100], &[]);
        check(&card, high, [5, 5000, 100], &[1]);
        check(&card, Situation { size: Some("512x512"), ..high }, [5, 5000, 100], &[1]);
        check(&card, Situation { size: Some("1024x1024"), ..high }, [7, 5000, 100], &[0]);
        check(&card, Situation { image_size: Some("4K"), ..Situation::default() }, [1000, 9, 100], &[2]);
        check(&card, Situation { resolution: Some("1080p"), ..Situation::default() }, [1000, 8, 100], &[3]);
        check(&card, Situation { search_context_size: Some("high"), ..Situation::default() }, [1000, 5000, 3], &[4]);
    }

    #[test]
    fn the_bound_knows_only_rules_in_reach() {
        let card = card(serde_json::json!([
            {"when": {"input_tokens_over": 200, "service_tier": "priority"}, "effect": {"prices": {"input_tokens": 7000}}},
            {"when": {"search_context_size": "high"}, "effect": {"prices": {"requests": 12}}},
        ]));
        assert_eq!(card.dearest(200)[&Meter::InputTokens], Price(1000));
        assert_eq!(card.dearest(201)[&Meter::InputTokens], Price(7000));
        assert_eq!(card.dearest(0)[&Meter::Requests], Price(12));
    }

    #[test]
    fn price_card_json_format_is_unchanged() {
        let json = concat!(
            r#"{"as_of":"2026-11-19","disputed":true,"prices":{"input_tokens":150000000},"rules":["#,
            r#"{"when":{"input_tokens_over":200000},"effect":{"prices":{"input_tokens":300000000}}},"#,
            r#"{"when":{"region":"eu","time_windows":[{"utc":["22:00-02:30"],"weekdays":[1,7]}]},"#,
            r#""effect":{"multiplier":11000}}]}"#,
        );
        let card: PriceCard = serde_json::from_str(json).unwrap();
        assert_eq!(card.prices[&Meter::InputTokens], price("0.15"));
        assert_eq!(card.rules[1].when.time_windows.as_ref().unwrap()[0].utc, [(1320, 150)]);
        assert_eq!(serde_json::to_string(&card).unwrap(), json);
    }

    #[test]
    fn an_unknown_condition_or_a_bad_window_is_refused() {
        for when in [
            serde_json::json!({"moon": "full"}),
            serde_json::json!({"time_windows": [{"utc": ["24:00-01:00"]}]}),
            serde_json::json!({"time_windows": [{"utc": ["1:00-02:00"]}]}),
            serde_json::json!({"time_windows": [{"utc": []}]}),
            serde_json::json!({"time_windows": [{"utc": ["00:00-01:00"], "weekdays": [0]}]}),
        ] {
            assert!(serde_json::from_value::<When>(when.clone()).is_err(), "{when}");
        }
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let word = |words: &'static [&'static str]| {
            prop::option::of(prop::sample::select(words)).prop_map(|word| word.map(str::to_owned))
        };
        let prices = prop::collection::btree_map(
            prop::sample::select(vec![Meter::InputTokens, Meter::OutputTokens, Meter::Requests]),
            (0i64..10_000).prop_map(Price),
            0..3,
        );
        let effect = prop_oneof![prices.prop_map(Effect::Prices), (1u64..30_000).prop_map(Effect::Multiplier)];
        (prop::option::of(0u64..4), word(&["flex", "priority"]), word(&["eu", "us"]), effect).prop_map(
            |(input_tokens_over, service_tier, region, effect)| Rule {
                when: When { input_tokens_over, service_tier, region, ..When::default() },
                effect,
            },
        )
    }

    proptest! {
        #[test]
        fn no_call_costs_more_than_the_bound(
            rules in prop::collection::vec(any_rule(), 0..6),
            prompt_tokens in 0u64..6,
            more in 0u64..3,
            service_tier in prop::option::of(prop::sample::select(vec!["flex", "priority"])),
            region in prop::option::of(prop::sample::select(vec!["eu", "us"])),
        ) {
            let mut card = card(serde_json::json!([]));
            card.rules = rules;
            let bound = card.dearest(prompt_tokens.saturating_add(more));
            let situation = Situation { prompt_tokens, service_tier, region, ..Situation::default() };
            for (meter, price) in card.at(&situation).unwrap().prices {
                prop_assert!(price <= bound[&meter]);
            }
        }
    }
}
