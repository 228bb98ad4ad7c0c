//! What a job costs: seconds, films or pictures at the price card of the offer that makes them, in the resolution and size
//! that it was asked for. Everything is known before the job starts, so what is held is what it costs, or more.

use super::order::{Kind, Order};
use super::terms::Terms;
use crate::catalog::{Offer, PriceCard, Situation};
use crate::ledger::charge::{Receipt, receipt};
use crate::money::Nanos;
use crate::time::Millis;
use crate::usage::{Meter, Usage};

/// Pixels of a megapixel, as hosts count them.
const MEGAPIXEL: u64 = 1_048_576;

/// The meters by which outputs are counted, the one to prefer first.
const fn meters(kind: Kind) -> &'static [Meter] {
    match kind {
        Kind::Video => &[Meter::OutputVideoSeconds, Meter::OutputVideos, Meter::Requests],
        Kind::Image => &[Meter::OutputImages, Meter::OutputMegapixels, Meter::Requests],
    }
}

/// The meter that a card counts outputs by.
pub fn meter_of(card: &PriceCard, kind: Kind) -> Option<Meter> {
    meters(kind).iter().copied().find(|meter| card.prices.contains_key(meter))
}

/// The ways to count outputs of either kind, for the check that a card prices one of them.
pub fn measures() -> Vec<Vec<(Meter, u64)>> {
    [Kind::Video, Kind::Image].iter().flat_map(|kind| meters(*kind)).map(|meter| vec![(*meter, 1)]).collect()
}

/// What one job at a host comes to: by what it says itself, else by what it was asked for.
pub fn usage_of(terms: &Terms, references: usize, outputs: u64, reported: &Usage) -> Usage {
    let said = |meter: Meter, asked: u64| Some(reported.quantity(meter)).filter(|said| *said > 0).unwrap_or(asked);
    let references = u64::try_from(references).unwrap_or(u64::MAX);
    let usage = Usage::default().with(Meter::InputImages, references).with(Meter::Requests, 1);
    match terms.kind {
        Kind::Video => usage
            .with(Meter::OutputVideos, outputs)
            .with(Meter::OutputVideoSeconds, said(Meter::OutputVideoSeconds, terms.seconds.saturating_mul(outputs))),
        Kind::Image => {
            let (w, h) = terms.size;
            let each = u64::from(w).saturating_mul(u64::from(h)).div_ceil(MEGAPIXEL);
            let asked = each.saturating_mul(outputs);
            usage.with(Meter::OutputImages, outputs).with(Meter::OutputMegapixels, said(Meter::OutputMegapixels, asked))
        }
    }
}

/// Quantities of several jobs together.
pub fn sum(all: impl Iterator<Item = Usage>) -> Usage {
    all.fold(Usage::default(), |mut sum, one| {
        for (meter, quantity) in one.iter() {
            sum.set(meter, sum.quantity(meter).saturating_add(quantity));
        }
        sum
    })
}

/// The receipt for usage at a card; `None` where the card does not price it.
pub fn price(usage: &Usage, terms: &Terms, quality: Option<&str>, card: &PriceCard, now: Millis) -> Option<Receipt> {
    let by = meter_of(card, terms.kind)?;
    let mut counted = Usage::default().with(by, usage.quantity(by));
    if card.prices.contains_key(&Meter::InputImages) {
        counted.set(Meter::InputImages, usage.quantity(Meter::InputImages));
    }
    let size = terms.size_text('x');
    let class = terms.resolution.as_deref().unwrap_or("1k").to_ascii_uppercase();
    let situation = Situation {
        quality,
        size: Some(&size),
        image_size: Some(&class).filter(|_| terms.kind == Kind::Image).map(String::as_str),
        resolution: terms.resolution.as_deref(),
        now,
        ..Situation::default()
    };
    receipt(&counted, card, &situation).ok()
}

/// The worst case of an order at an offer: all of it is made.
pub fn bound(order: &Order, terms: &Terms, offer: &Offer, now: Millis) -> Option<Nanos> {
    let one = usage_of(terms, order.references.len(), terms.each, &Usage::default());
    let all = sum((0..terms.parts).map(|_| one.clone()));
    price(&all, terms, order.quality.as_deref(), &offer.card, now).map(|receipt| receipt.total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(value: serde_json::Value) -> PriceCard {
        let mut whole = serde_json::json!({"as_of": ""});
        whole.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn terms(kind: Kind, resolution: Option<&str>) -> Terms {
        let resolution = resolution.map(str::to_owned);
        Terms { kind, seconds: 8, resolution, ratio: Some((16, 9)), size: (1280, 720), parts: 1, each: 2 }
    }

    #[test]
    fn a_film_costs_its_seconds_at_its_resolution() {
        let card = card(serde_json::json!({
            "prices": {"output_video_seconds": 400_000_000_000_000i64, "input_images": 10_000_000_000_000i64},
            "rules": [{"when": {"resolution": "4k"}, "effect": {"prices": {"output_video_seconds": 600_000_000_000_000i64}}}],
        }));
        for (resolution, reported, expected) in [
            ("720p", 0, 16 * 400_000_000 + 3 * 10_000_000),
            ("4k", 0, 16 * 600_000_000 + 3 * 10_000_000),
            ("4k", 15, 15 * 600_000_000 + 3 * 10_000_000),
        ] {
            let terms = terms(Kind::Video, Some(resolution));
            let usage = usage_of(&terms, 3, 2, &Usage::default().with(Meter::OutputVideoSeconds, reported));
            assert_eq!(price(&usage, &terms, None, &card, Millis(0)).unwrap().total, Nanos(expected));
        }
    }

    #[test]
    fn a_picture_costs_by_number_by_class_or_by_pixels() {
        let by_number = card(serde_json::json!({"prices": {"output_images": 40_000_000_000_000i64},
            "rules": [{"when": {"image_size": "4K"}, "effect": {"prices": {"output_images": 90_000_000_000_000i64}}}]}));
        let by_pixels = card(serde_json::json!({"prices": {"output_megapixels": 10_000_000_000_000i64}}));
        let of = |card: &PriceCard, resolution: Option<&str>| {
            let terms = terms(Kind::Image, resolution);
            let usage = usage_of(&terms, 0, 2, &Usage::default());
            price(&usage, &terms, None, card, Millis(0)).unwrap().total.0
        };
        assert_eq!((of(&by_number, None), of(&by_number, Some("4k"))), (80_000_000, 180_000_000));
        assert_eq!(of(&by_pixels, None), 20_000_000);
        let tokens = card(serde_json::json!({"prices": {"output_tokens": 1}}));
        assert_eq!(meter_of(&tokens, Kind::Image), None, "what cannot be measured has no price");
    }
}
