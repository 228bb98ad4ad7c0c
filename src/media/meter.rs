//! What a piece of media work is charged by.
//!
//! Hosts count the same work in different things: a picture, its megapixels, its tokens. A [`Basis`] is one such way of
//! counting; a price card may price several. The answer decides: of the bases that the card prices, the first one that the
//! host told (or that the request itself counts exactly) is charged, and none but that, so nothing is paid twice. Where
//! nobody told anything, the first basis is estimated, and the charge says so.

use std::collections::BTreeMap;

use crate::catalog::{Offer, PriceCard, Situation};
use crate::ledger::bound::Bound;
use crate::ledger::charge::price_of;
use crate::money::{Price, Unrounded};
use crate::usage::{Meter, Usage};

/// What somebody counted. A zero that was told is told; a meter that is absent was not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told(BTreeMap<Meter, u64>);

impl Told {
    /// The same with a meter, where it was told.
    #[must_use]
    pub fn with(mut self, meter: Meter, quantity: impl Into<Option<u64>>) -> Told {
        if let Some(quantity) = quantity.into() {
            self.0.insert(meter, quantity);
        }
        self
    }

    /// What was told of a meter.
    pub fn get(&self, meter: Meter) -> Option<u64> {
        self.0.get(&meter).copied()
    }

    /// The sum of two parts of one piece of work: what only one of them told is not known of the whole.
    #[must_use]
    pub fn plus(self, other: &Told) -> Told {
        let sum = |(meter, quantity): (Meter, u64)| Some((meter, quantity.saturating_add(other.get(meter)?)));
        Told(self.0.into_iter().filter_map(sum).collect())
    }
}

/// One way of counting a piece of work: each meter with the most that can be used of it. The first meter is the one that
/// makes it up: without a word about it, the basis was not told.
pub type Basis = Vec<(Meter, u64)>;

/// Input and output meters that a host may tell beside those of a basis in tokens: parts of the same count.
const PARTS: &[Meter] = &[
    Meter::CacheReadTokens,
    Meter::CacheReadImageTokens,
    Meter::InputAudioTokens,
    Meter::InputImageTokens,
    Meter::InputVideoTokens,
    Meter::OutputTokens,
    Meter::ReasoningTokens,
];

/// The bases that a card prices, in their order.
pub fn priced_by(bases: Vec<Basis>, card: &PriceCard) -> Vec<Basis> {
    let is_priced = |meter: Meter| price_of(&card.prices, meter).is_some();
    bases.into_iter().filter(|basis| basis.iter().all(|(meter, _)| is_priced(*meter))).collect()
}

/// The worst case: the dearest of the bases under any rule. `None` where there is none.
pub fn bound(bases: &[Basis], offer: &Offer) -> Option<Bound> {
    let one = |basis: &Basis| {
        let tokens = basis.iter().filter(|(meter, _)| meter.per() > 1).map(|(_, quantity)| *quantity).sum();
        let prices = offer.card.dearest(tokens);
        let sum = basis.iter().try_fold(Unrounded::default(), |sum, (meter, quantity)| {
            sum.with(*quantity, price_of(&prices, *meter).unwrap_or(Price(i64::MAX)))
        });
        // A card may price each call beside what is in it.
        let calls = prices.get(&Meter::Requests).filter(|_| !basis.iter().any(|(meter, _)| *meter == Meter::Requests));
        sum.and_then(|sum| calls.map_or(Ok(sum), |price| sum.with(1, *price))).and_then(Unrounded::round_up).ok()
    };
    let most = bases.iter().map(one).collect::<Option<Vec<_>>>()?.into_iter().max()?;
    Some(fixed(most))
}

/// The bound of work whose most is known beforehand.
pub fn fixed(most: crate::money::Nanos) -> Bound {
    Bound {
        prompt_nanos: most,
        output_price: Price(0),
        output_tokens: 0,
        choices: 1,
        must_send_limit: false,
        is_stated: true,
    }
}

/// What is charged, and whether that is an estimate. `counted` is what the request itself counts exactly, `guessed` what
/// of the rest it will probably be.
pub fn charged(bases: &[Basis], told: &Told, counted: &Told, guessed: &Told, card: &PriceCard) -> (Usage, bool) {
    let known = |meter: Meter| told.get(meter).or_else(|| counted.get(meter));
    // What makes up a basis must be told; of its other meters silence means that there was none.
    let is_known = |basis: &&Basis| {
        let (out, rest): (Vec<Meter>, Vec<Meter>) = basis.iter().map(|(meter, _)| *meter).partition(|m| is_output(*m));
        let heads = out.first().or(rest.first());
        heads.is_some_and(|meter| known(*meter).is_some() || as_text(*meter).is_some_and(|text| known(text).is_some()))
    };
    let mut usage = Usage::default();
    if let Some(basis) = bases.iter().find(is_known) {
        let own = |meter: Meter| basis.iter().any(|(other, _)| *other == meter);
        let is_tokens = basis.iter().any(|(meter, _)| meter.name().ends_with("_tokens"));
        let main = basis.iter().map(|(meter, _)| *meter).find(|meter| is_output(*meter));
        let parts = PARTS.iter().copied().filter(|meter| is_tokens && !own(*meter) && told.get(*meter).is_some());
        for meter in basis.iter().map(|(meter, _)| *meter).chain(parts) {
            let quantity = known(meter).unwrap_or(0);
            // Output of a kind that the card does not price is of the kind that it does.
            let priced = match price_of(&card.prices, meter) {
                Some(_) => meter,
                None => main.unwrap_or(meter),
            };
            usage.set(priced, usage.quantity(priced).saturating_add(quantity));
        }
        return (usage, false);
    }
    for (meter, likely) in estimated(bases, guessed) {
        usage.set(meter, known(meter).unwrap_or(likely));
    }
    (usage, true)
}

/// What the first basis will probably come to.
fn estimated<'a>(bases: &'a [Basis], guessed: &'a Told) -> impl Iterator<Item = (Meter, u64)> + 'a {
    bases.first().into_iter().flatten().map(|(meter, most)| {
        // A token of text is about four bytes, and the bound is one for each.
        let likely = if meter.per() > 1 { most.div_ceil(4) } else { *most };
        (*meter, guessed.get(*meter).map_or(likely, |guess| guess.min(*most)))
    })
}

/// What a host was sent, where its client left before anything came back: the input of what it will probably come to.
pub fn sent(bases: &[Basis], counted: &Told, guessed: &Told) -> Usage {
    let mut usage = Usage::default();
    for (meter, likely) in estimated(bases, guessed).filter(|(meter, _)| meter.name().starts_with("input_")) {
        usage.set(meter, counted.get(meter).unwrap_or(likely));
    }
    usage
}

/// What it will probably cost, in nano-dollars: for the order of candidates alone.
pub fn likely_nanos(
    bases: &[Basis],
    counted: &Told,
    guessed: &Told,
    card: &PriceCard,
    situation: &Situation<'_>,
) -> i64 {
    let (usage, _) = charged(bases, &Told::default(), counted, guessed, card);
    crate::ledger::charge::receipt(&usage, card, situation).map_or(i64::MAX, |receipt| receipt.total.0)
}

fn is_output(meter: Meter) -> bool {
    meter.name().starts_with("output_")
}

/// The meter that hosts without kinds of tokens count these in.
const fn as_text(meter: Meter) -> Option<Meter> {
    match meter {
        Meter::OutputAudioTokens | Meter::OutputImageTokens => Some(Meter::OutputTokens),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Meter::*;

    fn card(prices: &[(Meter, i64)]) -> PriceCard {
        let prices = prices.iter().map(|(meter, price)| (*meter, Price(*price))).collect();
        PriceCard { as_of: String::new(), disputed: false, prices, rules: Vec::new(), changes: Vec::new() }
    }

    #[test]
    fn the_answer_decides_by_what_is_charged() {
        let bases = || {
            vec![
                vec![(InputTokens, 100), (InputImageTokens, 1000), (OutputImageTokens, 5000)],
                vec![(InputTokens, 100), (OutputTokens, 5000)],
                vec![(OutputImages, 2)],
            ]
        };
        let both = card(&[(InputTokens, 5), (InputImageTokens, 10), (OutputImageTokens, 40), (OutputImages, 7)]);
        let counted = Told::default().with(OutputImages, 2);
        let charge = |card: &PriceCard, told: Told| {
            let (usage, is_estimated) = charged(&priced_by(bases(), card), &told, &counted, &Told::default(), card);
            (usage.iter().collect::<Vec<_>>(), is_estimated)
        };
        let tokens = Told::default().with(InputTokens, 9).with(OutputImageTokens, 400).with(InputImageTokens, 0);
        assert_eq!(charge(&both, tokens.clone()), (vec![(InputTokens, 9), (OutputImageTokens, 400)], false));
        assert_eq!(charge(&both, Told::default()), (vec![(OutputImages, 2)], false), "no tokens told: by the picture");
        assert_eq!(
            charge(&both, tokens.clone().with(OutputTokens, 3)),
            (vec![(InputTokens, 9), (OutputImageTokens, 403)], false),
            "words beside a picture, where only pictures have a price"
        );
        let wide = card(&[(InputTokens, 5), (OutputTokens, 30)]);
        assert_eq!(
            charge(&wide, tokens.with(OutputTokens, 3)),
            (vec![(InputTokens, 9), (OutputTokens, 3), (OutputImageTokens, 400)], false),
            "what has no price of its own has that of what it is a part of"
        );
        let (usage, is_estimated) = charge(&wide, Told::default());
        assert!(is_estimated && usage.contains(&(OutputImageTokens, 1250)), "{usage:?}");
        assert_eq!(charge(&card(&[(OutputMegapixels, 5)]), Told::default()), (vec![], true));
        for (guess, expected) in [(900, 900), (9000, 5000)] {
            let guessed = Told::default().with(OutputTokens, guess);
            let (usage, is_estimated) =
                charged(&priced_by(bases(), &wide), &Told::default(), &counted, &guessed, &wide);
            assert!(is_estimated && usage.quantity(OutputTokens) == 0, "{usage:?}");
            let by_words = card(&[(InputTokens, 5), (OutputTokens, 30)]);
            let bases = [vec![(InputTokens, 100), (OutputTokens, 5000)]];
            let (usage, _) = charged(&bases, &Told::default(), &Told::default(), &guessed, &by_words);
            assert_eq!(usage.quantity(OutputTokens), expected, "a guess is no more than the bound");
        }
    }

    #[test]
    fn parts_add_up_where_all_of_them_were_told() {
        let one = Told::default().with(InputTokens, 3).with(InputCharacters, 0);
        assert_eq!(one.clone().plus(&one), Told::default().with(InputTokens, 6).with(InputCharacters, 0));
        assert_eq!(one.plus(&Told::default()).get(InputTokens), None);
    }

    #[test]
    fn what_was_sent_is_its_input_alone() {
        let guessed = Told::default().with(InputAudioSeconds, 7u64);
        let sent = |bases: &[Basis], counted: Told| sent(bases, &counted, &guessed).iter().collect::<Vec<_>>();
        let none = Told::default;
        let picture = vec![(InputTokens, 101), (InputImageTokens, 1000), (OutputImageTokens, 5000)];
        assert_eq!(sent(&[picture, vec![(OutputImages, 2)]], none()), [(InputTokens, 26), (InputImageTokens, 250)]);
        assert_eq!(sent(&[vec![(InputCharacters, 40)]], none().with(InputCharacters, 37)), [(InputCharacters, 37)]);
        assert_eq!(sent(&[vec![(InputAudioSeconds, 600)]], none()), [(InputAudioSeconds, 7)]);
        assert_eq!(sent(&[vec![(SearchUnits, 1)]], none().with(SearchUnits, 1)), [], "that is what comes back");
        assert_eq!(sent(&[], none()), []);
    }

    #[test]
    fn the_bound_is_that_of_the_dearest_basis() {
        let offer: Offer =
            serde_json::from_value(serde_json::json!({"provider": "p", "upstream": "u", "kind": "image",
            "card": {"as_of": "", "prices": {"output_images": 7_000_000, "output_image_tokens": 2_000_000_000}}}))
            .unwrap();
        let bases = vec![vec![(OutputImages, 1)], vec![(OutputImageTokens, 10_000)]];
        assert_eq!(bound(&bases, &offer).unwrap().prompt_nanos.0, 20_000_000);
        assert_eq!(bound(&[], &offer), None);
    }
}
