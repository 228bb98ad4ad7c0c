//! What a request may cost at most with one offer: the basis of the hold.
//!
//! Every prompt token at the dearest input price the card can ask, every output token at the dearest output price,
//! under any rule that could apply. So the hold is a true upper bound as long as the provider counts no more than one
//! token per byte and keeps to its output limit; what exceeds it is the gateway's loss, not the client's.
#![deny(clippy::arithmetic_side_effects)]

use crate::catalog::Offer;
use crate::ledger::charge::price_of;
use crate::money::{MoneyError, Nanos, Price, Unrounded};
use crate::text::demand::Demand;
use crate::usage::Meter;

/// Output tokens that are allowed for where neither client nor catalog states a limit. The limit is then sent along.
pub const OUTPUT_TOKENS_UNSTATED: u64 = 16_384;
/// The least output worth buying when the balance does not cover an offer's own limit, in tokens.
pub const OUTPUT_TOKENS_MIN: u64 = 64;
/// Web searches allowed for in one request.
const SEARCHES_MAX: u64 = 10;
/// The same of a model that does research by itself.
const RESEARCH_SEARCHES_MAX: u64 = 100;
/// Tokens of sources, and of reasoning apart from the answer, that are allowed for where no context length is stated.
const RESEARCH_TOKENS_UNSTATED: u64 = 128_000;

const INPUT: &[Meter] = &[
    Meter::InputTokens,
    Meter::CacheReadTokens,
    Meter::CacheWriteTokens,
    Meter::CacheWrite1hTokens,
    Meter::CacheWrite12hTokens,
    Meter::InputAudioTokens,
    Meter::CacheReadAudioTokens,
    Meter::CacheWriteAudioTokens,
    Meter::InputImageTokens,
    Meter::CacheReadImageTokens,
    Meter::InputVideoTokens,
];
const OUTPUT: &[Meter] = &[
    Meter::OutputTokens,
    Meter::ReasoningTokens,
    Meter::OutputAudioTokens,
    Meter::OutputImageTokens,
    Meter::OutputVideoTokens,
];

/// The worst case of one request with one offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The prompt and fixed fees.
    pub prompt_nanos: Nanos,
    /// Dearest price of an output token.
    pub output_price: Price,
    /// Output limit per choice, in tokens.
    pub output_tokens: u64,
    /// Choices.
    pub choices: u64,
    /// Whether the limit has to be sent along, because neither client nor provider has one.
    pub must_send_limit: bool,
    /// Whether the client stated the limit itself.
    pub is_stated: bool,
}

/// The bound for `demand` with `offer`; `None` where the card has no price for input or output.
pub fn bound(
    demand: &Demand,
    offer: &Offer,
    model_max_output: Option<u64>,
    model_context: Option<u64>,
) -> Option<Result<Bound, MoneyError>> {
    let context = offer.context.or(model_context);
    let most = demand.prompt_tokens_max(&offer.upstream);
    let prompt_tokens = context.map_or(most, |context| most.min(context));
    let prices = offer.card.dearest(prompt_tokens);
    let dearest = |meters: &[Meter]| meters.iter().filter_map(|meter| prices.get(meter)).max().copied();
    price_of(&prices, Meter::InputTokens)?;
    price_of(&prices, Meter::OutputTokens)?;
    let (input_price, output_price) = (dearest(INPUT)?, dearest(OUTPUT)?);
    let own_limit = offer.max_output.or(model_max_output).or(context);
    let output_tokens = match (demand.max_output, own_limit) {
        (Some(client), Some(own)) => client.min(own),
        (Some(client), None) => client,
        (None, Some(own)) => own,
        (None, None) => OUTPUT_TOKENS_UNSTATED,
    };
    // Who prices what it cites also reads and thinks apart from the answer, as far as its context goes.
    let is_research = prices.contains_key(&Meter::CitationTokens);
    let research = context.unwrap_or(RESEARCH_TOKENS_UNSTATED);
    let searches = match (is_research, demand.searches) {
        (true, _) => RESEARCH_SEARCHES_MAX,
        (false, true) => SEARCHES_MAX,
        (false, false) => 0,
    };
    let fixed = |meter: Meter, quantity: u64, sum: Unrounded| match prices.get(&meter) {
        Some(price) => sum.with(quantity, *price),
        None => Ok(sum),
    };
    let prompt = Unrounded::default()
        .with(prompt_tokens, input_price)
        .and_then(|sum| fixed(Meter::Requests, 1, sum))
        .and_then(|sum| fixed(Meter::CitationTokens, research, sum))
        .and_then(|sum| fixed(Meter::ReasoningTokens, if is_research { research } else { 0 }, sum))
        .and_then(|sum| fixed(Meter::WebSearches, searches, sum))
        .and_then(Unrounded::round_up);
    Some(prompt.map(|prompt_nanos| Bound {
        prompt_nanos,
        output_price,
        output_tokens,
        choices: demand.choices.max(1),
        must_send_limit: demand.max_output.is_none() && own_limit.is_none(),
        is_stated: demand.max_output.is_some(),
    }))
}

impl Bound {
    /// Nano-dollars for `output_tokens` per choice.
    pub fn nanos_for(&self, output_tokens: u64) -> Result<Nanos, MoneyError> {
        let tokens = output_tokens.checked_mul(self.choices).ok_or(MoneyError::Overflow)?;
        let output = Unrounded::default().with(tokens, self.output_price)?.round_up()?;
        self.prompt_nanos.plus(output)
    }

    /// The hold that covers everything.
    pub fn most(&self) -> Result<Nanos, MoneyError> {
        self.nanos_for(self.output_tokens)
    }

    /// The same for a request that its client pays elsewhere: only so many basis points of it are ours.
    #[must_use]
    pub fn fee(&self, basis_points: u64) -> Bound {
        let part = |nanos: i64| Price(nanos).scaled(basis_points).map_or(i64::MAX, |price| price.0);
        let of = |nanos: i64| if basis_points == 0 { 0 } else { part(nanos) };
        Bound { prompt_nanos: Nanos(of(self.prompt_nanos.0)), output_price: Price(of(self.output_price.0)), ..*self }
    }

    /// The least hold worth admitting: all of it where the client stated a limit, else a small answer.
    pub fn least(&self) -> Result<Nanos, MoneyError> {
        if self.is_stated { self.most() } else { self.nanos_for(self.output_tokens.min(OUTPUT_TOKENS_MIN)) }
    }

    /// Output tokens per choice that `held` covers, at most the limit; `None` where it does not cover [`Bound::least`].
    pub fn affordable(&self, held: Nanos) -> Option<u64> {
        (held >= self.least().ok()?).then(|| self.tokens_for(held))
    }

    /// Output tokens per choice that `nanos` cover beside the prompt, at most the limit.
    pub fn tokens_for(&self, nanos: Nanos) -> u64 {
        let left = i128::from(nanos.0.saturating_sub(self.prompt_nanos.0).max(0));
        let per_token = i128::from(self.output_price.0).saturating_mul(i128::from(self.choices));
        match left.saturating_mul(1_000_000).checked_div(per_token) {
            Some(tokens) => u64::try_from(tokens).unwrap_or(u64::MAX).min(self.output_tokens),
            None => self.output_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::catalog::PriceCard;

    fn offer(input: &str, output: &str, max_output: Option<u64>) -> Offer {
        let prices: BTreeMap<Meter, Price> = [(Meter::InputTokens, input), (Meter::OutputTokens, output)]
            .into_iter()
            .map(|(meter, price)| (meter, Price::from_dollars(price, 1_000_000).unwrap()))
            .collect();
        Offer {
            provider: "p".to_owned(),
            upstream: "u".to_owned(),
            kind: "chat".to_owned(),
            family: None,
            variant: None,
            regions: Vec::new(),
            context: None,
            max_output,
            can: std::collections::BTreeSet::new(),
            card: PriceCard { as_of: String::new(), disputed: false, prices, rules: Vec::new(), changes: Vec::new() },
            is_free: false,
            quantization: None,
            batch_max: None,
            voices: Vec::new(),
            standing: crate::catalog::Standing::default(),
            retires: None,
        }
    }

    fn demand(text_bytes: u64, max_output: Option<u64>, choices: u64) -> Demand {
        Demand { text_bytes, max_output, choices, ..Demand::default() }
    }

    fn bound_of(demand: Demand, offer: &Offer) -> Bound {
        bound(&demand, offer, None, None).unwrap().unwrap()
    }

    #[test]
    fn a_stated_limit_is_held_for_in_full() {
        let b = bound_of(demand(100, Some(50), 2), &offer("1", "2", Some(1000)));
        assert_eq!(b.most(), Ok(Nanos(100 * 1000 + 2 * 50 * 2000)));
        assert_eq!(b.least(), b.most());
        assert_eq!(b.affordable(b.most().unwrap()), Some(50));
        assert_eq!(b.affordable(Nanos(b.most().unwrap().0 - 1)), None);
    }

    #[test]
    fn an_unstated_limit_is_lowered_to_what_is_affordable() {
        let b = bound_of(demand(0, None, 1), &offer("1", "2", Some(1000)));
        assert_eq!(b.most(), Ok(Nanos(2_000_000)));
        assert_eq!(b.affordable(Nanos(1_000_000)), Some(500));
        assert_eq!(b.affordable(Nanos(64 * 2000)), Some(64));
        assert_eq!(b.affordable(Nanos(64 * 2000 - 1)), None, "under the floor");
        assert!(!b.must_send_limit);
        assert!(bound_of(demand(0, None, 1), &offer("1", "2", None)).must_send_limit);
    }

    #[test]
    fn a_free_offer_needs_no_hold() {
        let b = bound_of(demand(1000, None, 1), &offer("0", "0", Some(10)));
        assert_eq!((b.most(), b.affordable(Nanos(0))), (Ok(Nanos(0)), Some(10)));
    }

    #[test]
    fn without_a_price_there_is_no_bound() {
        let mut o = offer("1", "2", None);
        o.card.prices.remove(&Meter::OutputTokens);
        assert_eq!(bound(&demand(1, None, 1), &o, None, None), None);
    }

    #[test]
    fn searches_are_held_for_where_the_request_lets_the_host_search() {
        let mut o = offer("1", "2", Some(10));
        o.card.prices.insert(Meter::WebSearches, Price::from_dollars("0.035", 1).unwrap());
        let at =
            |searches| bound_of(Demand { searches, max_output: Some(10), ..demand(0, None, 1) }, &o).most().unwrap();
        assert_eq!(at(false), Nanos(20_000));
        assert_eq!(at(true), Nanos(20_000 + 10 * 35_000_000 + 100_000 * 1000), "and for what is found");
    }

    #[test]
    fn research_is_held_for_beside_the_answer() {
        let mut o = offer("2", "8", Some(10));
        o.context = Some(1000);
        let dollars = |text: &str, per| Price::from_dollars(text, per).unwrap();
        o.card.prices.insert(Meter::CitationTokens, dollars("2", 1_000_000));
        o.card.prices.insert(Meter::ReasoningTokens, dollars("3", 1_000_000));
        o.card.prices.insert(Meter::WebSearches, dollars("0.005", 1));
        let most = bound_of(demand(0, Some(10), 1), &o).most().unwrap();
        assert_eq!(most, Nanos(10 * 8000 + 1000 * (2000 + 3000) + 100 * 5_000_000));
    }

    #[test]
    fn the_fee_of_an_own_credential_is_a_part_rounded_up_or_nothing() {
        let demand = Demand { text_bytes: 1000, choices: 1, max_output: Some(10), ..Demand::default() };
        let bound = bound(&demand, &offer("1", "2", None), None, None).unwrap().unwrap();
        assert_eq!((bound.fee(0).most(), bound.fee(0).least()), (Ok(Nanos(0)), Ok(Nanos(0))));
        let (whole, part) = (bound.most().unwrap().0, bound.fee(500).most().unwrap().0);
        assert!(part >= whole * 5 / 100 && part <= whole * 5 / 100 + 2, "{part} of {whole}");
        assert_eq!(bound.fee(0).affordable(Nanos(0)), Some(10));
    }
}
