//! What a request will probably cost with an offer: for its place in the order, never for money. The bill is made of
//! what was used.

use crate::catalog::{Offer, Situation};
use crate::ledger::charge::price_of;
use crate::money::{MoneyError, Unrounded};
use crate::usage::Meter;

/// Output tokens of a usual answer, where the client sets no lower limit.
pub const OUTPUT_TOKENS_LIKELY: u64 = 400;

/// The expected use of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Of these, what the offer has in its cache.
    pub cached_tokens: u64,
    /// Tokens of output, of all choices.
    pub output_tokens: u64,
}

/// The price of that use under the rules that hold now, in nano-dollars; the end of the range where it does not fit,
/// which puts the offer last.
pub fn price_nanos(expected: &Expected, offer: &Offer, situation: &Situation<'_>) -> i64 {
    priced(expected, offer, situation).unwrap_or(i64::MAX)
}

fn priced(expected: &Expected, offer: &Offer, situation: &Situation<'_>) -> Result<i64, MoneyError> {
    let situation = Situation { prompt_tokens: expected.prompt_tokens, ..*situation };
    let prices = offer.card.at(&situation)?.prices;
    let cached = expected.cached_tokens.min(expected.prompt_tokens);
    let quantities = [
        (Meter::InputTokens, expected.prompt_tokens.saturating_sub(cached).max(1)),
        (Meter::CacheReadTokens, cached),
        (Meter::OutputTokens, expected.output_tokens),
        (Meter::Requests, 1),
    ];
    let sum = quantities
        .into_iter()
        .filter(|(_, quantity)| *quantity > 0)
        .filter_map(|(meter, quantity)| price_of(&prices, meter).map(|price| (quantity, price)))
        .try_fold(Unrounded::default(), |sum, (quantity, price)| sum.with(quantity, price))?;
    Ok(sum.round_up()?.0)
}

/// Whether the offer charges less for what it has in its cache: then it has one.
pub fn has_cache(offer: &Offer) -> bool {
    let price = |meter| offer.card.prices.get(&meter);
    match (price(Meter::CacheReadTokens), price(Meter::InputTokens)) {
        (Some(cached), Some(input)) => cached < input,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;

    fn offer() -> Offer {
        serde_json::from_value(serde_json::json!({
            "provider": "p", "upstream": "u", "kind": "chat", "is_free": false,
            "card": {"as_of": "", "prices": {"input_tokens": 1_000_000, "cache_read_tokens": 100_000, "output_tokens": 4_000_000},
                "rules": [{"when": {"input_tokens_over": 10_000}, "effect": {"prices": {"input_tokens": 2_000_000}}},
                    {"when": {"service_tier": "flex"}, "effect": {"multiplier": 5_000}}]},
        }))
        .unwrap()
    }

    fn cost(prompt_tokens: u64, cached_tokens: u64, output_tokens: u64, service_tier: Option<&str>) -> i64 {
        let expected = Expected { prompt_tokens, cached_tokens, output_tokens };
        price_nanos(&expected, &offer(), &Situation { service_tier, now: Millis(0), ..Situation::default() })
    }

    #[test]
    fn the_rules_and_the_cache_count() {
        assert_eq!(cost(1_000, 0, 100, None), 1_400);
        assert_eq!(cost(1_000, 900, 100, None), 100 + 90 + 400);
        assert_eq!(cost(20_000, 0, 0, None), 40_000, "a long prompt costs more a token");
        assert_eq!(cost(1_000, 0, 100, Some("flex")), 700);
        assert!(has_cache(&offer()));
    }

    #[test]
    fn what_does_not_fit_goes_last() {
        assert_eq!(cost(u64::MAX, 0, u64::MAX, None), i64::MAX);
    }
}
