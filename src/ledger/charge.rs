//! Usage × price card → receipt.
//!
//! A meter without a price of its own is charged as the meter it is a part of: a cached, audio or image token of the
//! prompt as an input token, a reasoning, audio or image token of the output as an output token. A quantity that finds
//! no price at all is an error, never zero; only meters that few providers price (`OPTIONAL`) are free where no price
//! stands. One rounding, upwards, per receipt.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalog::{PriceCard, Situation};
use crate::money::{MoneyError, Nanos, Price, Unrounded};
use crate::usage::{Meter, Usage};

/// One line of a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What was counted.
    pub meter: Meter,
    /// How many.
    pub quantity: u64,
    /// Nano-dollars per million units.
    pub price: Price,
}

/// What a generation costs, in a form that can be recomputed: Σ quantity × price / 10⁶, rounded up once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Receipt {
    /// Quantities at their prices.
    pub lines: Vec<Line>,
    /// The rules of the price card that applied, by their place on the card.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<usize>,
    /// Where the client paid the provider itself: the part of the price that is charged in place of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<Fee>,
    /// The sum.
    pub total: Nanos,
}

/// A part of a price: basis points of it, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fee {
    /// How many hundredths of a percent.
    pub basis_points: u64,
    /// Of what credits would have paid.
    pub of_nanos: Nanos,
}

impl Fee {
    /// What it comes to.
    pub fn nanos(&self) -> Nanos {
        let part = i128::from(self.of_nanos.0).saturating_mul(i128::from(self.basis_points));
        let rounded = part.saturating_add(9_999).checked_div(10_000).unwrap_or(0);
        Nanos(i64::try_from(rounded).unwrap_or(i64::MAX))
    }
}

impl Receipt {
    /// The receipt of a request whose provider the client pays: the fee alone.
    #[must_use]
    pub fn of_fee(self, basis_points: u64) -> Receipt {
        let fee = Fee { basis_points, of_nanos: self.total };
        Receipt { lines: Vec::new(), rules: self.rules, fee: Some(fee), total: fee.nanos() }
    }
}

/// Why no receipt can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeError {
    /// The card has no price for this meter nor for the one it is a part of.
    UnknownPrice(Meter),
    /// The sum does not fit.
    Money(MoneyError),
}

impl From<MoneyError> for ChargeError {
    fn from(error: MoneyError) -> ChargeError {
        ChargeError::Money(error)
    }
}

/// Meters that cost nothing where a card does not name them.
const OPTIONAL: &[Meter] = &[Meter::CitationTokens, Meter::WebSearches, Meter::Requests];

/// The meter that `meter` is a part of.
const fn wider(meter: Meter) -> Option<Meter> {
    use Meter::*;
    match meter {
        CacheWrite1hTokens | CacheWrite12hTokens => Some(CacheWriteTokens),
        CacheReadTokens | CacheWriteTokens | InputAudioTokens | InputImageTokens | InputVideoTokens => {
            Some(InputTokens)
        }
        CacheReadAudioTokens | CacheWriteAudioTokens => Some(InputAudioTokens),
        CacheReadImageTokens => Some(InputImageTokens),
        ReasoningTokens | OutputAudioTokens | OutputImageTokens | OutputVideoTokens => Some(OutputTokens),
        _ => None,
    }
}

/// The price that `meter` is charged at: its own, or that of the meter it is a part of.
pub fn price_of(prices: &BTreeMap<Meter, Price>, meter: Meter) -> Option<Price> {
    priced_as(prices, meter).map(|(_, price)| price)
}

/// The same, and the meter whose price it is.
pub fn priced_as(prices: &BTreeMap<Meter, Price>, meter: Meter) -> Option<(Meter, Price)> {
    let mut at = Some(meter);
    while let Some(meter) = at {
        if let Some(price) = prices.get(&meter) {
            return Some((meter, *price));
        }
        at = wider(meter);
    }
    None
}

/// The receipt for `usage` on `card`. One request is added where the card prices requests.
pub fn receipt(usage: &Usage, card: &PriceCard, situation: &Situation<'_>) -> Result<Receipt, ChargeError> {
    let situation = Situation { prompt_tokens: usage.prompt_tokens(), ..*situation };
    let effective = card.at(&situation)?;
    let mut usage = usage.clone();
    if effective.prices.contains_key(&Meter::Requests) && usage.quantity(Meter::Requests) == 0 {
        usage.set(Meter::Requests, 1);
    }
    let mut lines = Vec::new();
    let mut sum = Unrounded::default();
    for (meter, quantity) in usage.iter() {
        let Some(price) = price_of(&effective.prices, meter) else {
            if OPTIONAL.contains(&meter) {
                continue;
            }
            return Err(ChargeError::UnknownPrice(meter));
        };
        sum = sum.with(quantity, price)?;
        lines.push(Line { meter, quantity, price });
    }
    Ok(Receipt { lines, rules: effective.applied, fee: None, total: sum.round_up()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;

    #[test]
    fn a_fee_is_a_part_of_the_price_rounded_up_and_stands_alone() {
        let of = |total: i64, basis_points: u64| {
            let line = Line { meter: Meter::InputTokens, quantity: 1, price: Price(1) };
            Receipt { lines: vec![line], total: Nanos(total), ..Receipt::default() }.of_fee(basis_points)
        };
        for (total, basis_points, expected) in [(25_000, 500, 1_250), (1, 1, 1), (0, 500, 0), (25_000, 0, 0)] {
            let receipt = of(total, basis_points);
            assert_eq!((receipt.total, receipt.lines.len()), (Nanos(expected), 0));
            assert_eq!(receipt.fee, Some(Fee { basis_points, of_nanos: Nanos(total) }));
        }
    }

    fn card(prices: &[(Meter, &str)]) -> PriceCard {
        let prices = prices.iter().map(|(m, p)| (*m, Price::from_dollars(p, m.per()).unwrap())).collect();
        PriceCard { as_of: "2026-11-25".to_owned(), disputed: false, prices, rules: Vec::new(), changes: Vec::new() }
    }

    fn total(usage: &Usage, card: &PriceCard) -> Result<i64, ChargeError> {
        let situation = Situation { now: Millis(0), ..Situation::default() };
        receipt(usage, card, &situation).map(|r| r.total.0)
    }

    #[test]
    fn each_bucket_at_its_own_price_or_that_of_the_wider_one() {
        use Meter::*;
        let full = card(&[(InputTokens, "1"), (OutputTokens, "2"), (CacheReadTokens, "0.1"), (ReasoningTokens, "3")]);
        let plain = card(&[(InputTokens, "1"), (OutputTokens, "2")]);
        let usage = Usage::default()
            .with(InputTokens, 10)
            .with(CacheReadTokens, 10)
            .with(OutputTokens, 5)
            .with(ReasoningTokens, 5);
        assert_eq!(total(&usage, &full), Ok(10_000 + 1_000 + 10_000 + 15_000));
        assert_eq!(total(&usage, &plain), Ok(10_000 + 10_000 + 10_000 + 10_000));
        let hour = Usage::default().with(CacheWrite1hTokens, 1_000_000);
        assert_eq!(
            total(&hour, &card(&[(InputTokens, "1"), (OutputTokens, "2"), (CacheWriteTokens, "1.25")])),
            Ok(1_250_000_000)
        );
    }

    #[test]
    fn an_unknown_price_is_never_zero() {
        let usage = Usage::default().with(Meter::OutputTokens, 1);
        assert_eq!(
            total(&usage, &card(&[(Meter::InputTokens, "1")])),
            Err(ChargeError::UnknownPrice(Meter::OutputTokens))
        );
    }

    #[test]
    fn a_fee_per_request_is_added_once() {
        let usage = Usage::default().with(Meter::InputTokens, 1_000_000);
        assert_eq!(total(&usage, &card(&[(Meter::InputTokens, "1"), (Meter::Requests, "0.005")])), Ok(1_005_000_000));
    }

    #[test]
    fn a_receipt_can_be_recomputed_from_its_lines() {
        use Meter::*;
        let usage = Usage::default().with(InputTokens, 7).with(OutputTokens, 3);
        let card = card(&[(InputTokens, "0.0375"), (OutputTokens, "0.15")]);
        let situation = Situation { now: Millis(0), ..Situation::default() };
        let receipt = receipt(&usage, &card, &situation).unwrap();
        let again =
            receipt.lines.iter().try_fold(Unrounded::default(), |sum, l| sum.with(l.quantity, l.price)).unwrap();
        // 7 × 37.5 + 3 × 150 = 712.5 nanos, rounded up.
        assert_eq!((receipt.total, again.round_up().unwrap()), (Nanos(713), Nanos(713)));
    }
}
