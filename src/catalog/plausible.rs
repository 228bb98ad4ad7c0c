//! Whether what a catalog file says can be so: values that parse and are yet, most likely, slips of whoever wrote them.
//!
//! A finding that is true all the same is stated in the file, `"odd": ["output_below_input"]`: the next reader then knows
//! that somebody looked. An oddity that is stated and is not there is a problem too, so that none outlives its cause.

use std::collections::BTreeSet;

use super::card::{Effect, Rule};
use super::offer::Offer;
use super::source::{KINDS, ModelFields, ProviderSource};
use crate::money::Price;
use crate::usage::Meter;

/// A rule by its name, and what was found.
pub(super) type Finding = (&'static str, String);

/// What a model can take and give.
const MODALITIES: &[&str] = &["text", "image", "audio", "video", "pdf", "embedding", "score"];

/// The shapes in which providers are asked, spoken by this build or not.
const FAMILIES: &str = "openai-chat openai-responses openai-embeddings anthropic-messages vertex-anthropic gemini \
    vertex-gemini vertex-mistral cohere-v2 mistral azure-openai bedrock-converse bedrock-invoke watsonx \
    cloudflare-ai-run bfl fal-queue fal-run fireworks-audio fireworks-images groq-speech minimax-speech \
    together-images xai-images replicate runway luma kling stability recraft ideogram elevenlabs \
    deepgram cartesia hume aws-polly assemblyai soniox gladia voyage jina nomic minimax openai-videos ark-video \
    dashscope-video xai-video minimax-video";

/// What a provider has endpoints for.
const ENDPOINTS: &[&str] = &[
    "chat",
    "responses",
    "messages",
    "count_tokens",
    "embeddings",
    "rerank",
    "moderations",
    "images",
    "videos",
    "speech",
    "transcriptions",
    "ocr",
    "realtime",
    "batch",
    "predictions",
];

/// What an offer may state that it can, or can only, do.
const ABILITIES: &[&str] = &["tools", "structured_output", "reasoning", "vision", "responses_only"];

/// What a model may be said to be capable of.
const CAPABILITIES: &[&str] = &[
    "vision",
    "reasoning",
    "streaming",
    "structured_output",
    "tools",
    "sampling_params",
    "prompt_caching",
    "parallel_tools",
    "web_search",
    "pdf_input",
    "video_input",
    "audio_input",
    "audio_output",
    "assistant_prefill",
    "computer_use",
    "adaptive_thinking",
    "reasoning_always_on",
    "forced_tool_choice",
];

/// Every rule that `odd` may name.
pub(super) const RULES: &[&str] = &[
    "cache_read_over_input",
    "cache_write_far_over_input",
    "cache_write_1h_below_5m",
    "output_below_input",
    "price_too_low",
    "price_too_high",
    "rule_far_from_base",
    "batch_over_base",
    "priority_below_base",
    "long_prompt_below_base",
    "same_condition_twice",
    "max_output_over_context",
    "context_out_of_range",
    "free_variant_with_price",
    "kind_not_of_model",
    "retires_before_release",
];

/// The lowest and the highest price of a meter that was ever seen, with room: dollars for [`Meter::per`] units. Outside
/// of it somebody mixed up units (a price per token, in cents, per thousand).
const RANGES: &[(Meter, &str, &str)] = &[
    (Meter::InputTokens, "0.004", "300"),
    (Meter::CacheReadTokens, "0.0005", "100"),
    (Meter::CacheWriteTokens, "0.001", "400"),
    (Meter::CacheWrite1hTokens, "0.01", "400"),
    (Meter::CacheWrite12hTokens, "0.01", "400"),
    (Meter::InputAudioTokens, "0.02", "300"),
    (Meter::CacheReadAudioTokens, "0.01", "100"),
    (Meter::CacheWriteAudioTokens, "0.01", "100"),
    (Meter::InputImageTokens, "0.01", "100"),
    (Meter::CacheReadImageTokens, "0.01", "100"),
    (Meter::InputVideoTokens, "0.01", "100"),
    (Meter::OutputTokens, "0.004", "1000"),
    (Meter::ReasoningTokens, "0.01", "1000"),
    (Meter::OutputAudioTokens, "0.05", "500"),
    (Meter::OutputImageTokens, "0.1", "500"),
    (Meter::OutputVideoTokens, "0.1", "500"),
    (Meter::CitationTokens, "0.1", "100"),
    (Meter::InputCharacters, "0.001", "1000"),
    (Meter::OutputCharacters, "0.01", "1000"),
    (Meter::InputAudioSeconds, "0.000001", "0.1"),
    (Meter::OutputAudioSeconds, "0.00001", "0.1"),
    (Meter::InputVideoSeconds, "0.00001", "1"),
    (Meter::OutputVideoSeconds, "0.001", "5"),
    (Meter::ComputeSeconds, "0.00001", "1"),
    (Meter::InputImages, "0.00001", "1"),
    (Meter::OutputImages, "0.0005", "5"),
    (Meter::OutputMegapixels, "0.0005", "1"),
    (Meter::OutputVideos, "0.01", "50"),
    (Meter::Requests, "0.0001", "1"),
    (Meter::SearchUnits, "0.0001", "0.1"),
    (Meter::WebSearches, "0.001", "0.2"),
    (Meter::Pages, "0.0001", "0.5"),
];

/// A price by a rule is at most this many times its base, and at least this fraction of it.
const RATIO_MAX: i64 = 20;
const CONTEXT_MIN: u64 = 128;
const CONTEXT_MAX: u64 = 20_000_000;

/// What is odd about an offer of `model`.
pub(super) fn of_offer(offer: &Offer, model: &ModelFields) -> Vec<Finding> {
    let mut found = Vec::new();
    let price = |meter: Meter| offer.card.prices.get(&meter).copied();
    let mut compare = |rule: &'static str, left: Meter, right: Meter, is_odd: &dyn Fn(Price, Price) -> bool| {
        if let (Some(a), Some(b)) = (price(left), price(right))
            && is_odd(a, b)
        {
            let dollars = |price: Price, meter: Meter| price.to_dollars(meter.per());
            found.push((
                rule,
                format!("{} costs {} and {} {}", left.name(), dollars(a, left), right.name(), dollars(b, right)),
            ));
        }
    };
    compare("cache_read_over_input", Meter::CacheReadTokens, Meter::InputTokens, &|read, input| read > input);
    compare("cache_write_far_over_input", Meter::CacheWriteTokens, Meter::InputTokens, &|write, input| {
        write.0 > input.0.saturating_mul(4)
    });
    compare("cache_write_1h_below_5m", Meter::CacheWrite1hTokens, Meter::CacheWriteTokens, &|long, short| long < short);
    if offer.kind == "chat" {
        compare("output_below_input", Meter::OutputTokens, Meter::InputTokens, &|output, input| output < input);
    }
    for (meter, price) in all_prices(offer) {
        let Some((_, low, high)) = RANGES.iter().find(|(ranged, ..)| *ranged == meter) else { continue };
        let limit = |text: &str| Price::from_dollars(text, meter.per()).unwrap_or(Price(0));
        let told = format!("{} costs {} dollars", meter.name(), price.to_dollars(meter.per()));
        if price.0 > 0 && price < limit(low) {
            found.push(("price_too_low", format!("{told}; the lowest that makes sense is {low}")));
        }
        if price > limit(high) {
            found.push(("price_too_high", format!("{told}; the highest that makes sense is {high}")));
        }
    }
    rules(offer, &mut found);
    let context = offer.context.or(model.context);
    if let (Some(output), Some(context)) = (offer.max_output, context)
        && output > context
    {
        found.push(("max_output_over_context", format!("max_output {output} is over the context of {context}")));
    }
    if let Some(context) = offer.context.filter(|context| !(CONTEXT_MIN..=CONTEXT_MAX).contains(context)) {
        found.push(("context_out_of_range", format!("a context of {context} tokens")));
    }
    if offer.variant.as_deref() == Some("free") && !offer.is_free {
        found.push(("free_variant_with_price", "the variant is free, but it has prices".to_owned()));
    }
    found.extend(unknown("can", offer.can.iter(), ABILITIES));
    found.extend(unknown("family", offer.family.iter(), &FAMILIES.split(' ').collect::<Vec<_>>()));
    if offer.kind != model.kind && !model.kinds.contains(&offer.kind) {
        found.push(("kind_not_of_model", format!("kind {}, but {} is {}", offer.kind, model.id, model.kind)));
    }
    found
}

/// What is odd about a model.
pub(super) fn of_model(model: &ModelFields) -> Vec<Finding> {
    let mut found = Vec::new();
    if let (Some(output), Some(context)) = (model.max_output, model.context)
        && output > context
    {
        found.push(("max_output_over_context", format!("max_output {output} is over the context of {context}")));
    }
    found.extend(unknown("input", model.input.iter(), MODALITIES));
    found.extend(unknown("output", model.output.iter(), MODALITIES));
    found.extend(unknown("kinds", model.kinds.iter(), KINDS));
    found.extend(unknown("capabilities", model.capabilities.keys(), CAPABILITIES));
    if let Some(context) = model.context.filter(|context| !(CONTEXT_MIN..=CONTEXT_MAX).contains(context)) {
        found.push(("context_out_of_range", format!("a context of {context} tokens")));
    }
    if let (Some(retires), Some(released)) = (&model.retires, &model.released)
        && retires < released
    {
        found.push(("retires_before_release", format!("it retires {retires} and was released {released}")));
    }
    found
}

/// What is odd about a provider.
pub(super) fn of_provider(provider: &ProviderSource) -> Vec<Finding> {
    let families: Vec<&str> = FAMILIES.split(' ').collect();
    let stated = provider.provider.families.iter().chain(provider.provider.family_base_urls.keys());
    let of_families = unknown("families", stated, &families);
    of_families.into_iter().chain(unknown("endpoints", provider.endpoints.iter(), ENDPOINTS)).collect()
}

/// Words that nobody knows: most likely they are misspelt.
fn unknown<'a>(member: &str, words: impl Iterator<Item = &'a String>, known: &[&str]) -> Vec<Finding> {
    let unknown = words.filter(|word| !known.contains(&word.as_str()));
    unknown.map(|word| ("unknown_word", format!("{member}: {word:?} is not one of {}", known.join(", ")))).collect()
}

/// Base prices and those of rules.
fn all_prices(offer: &Offer) -> impl Iterator<Item = (Meter, Price)> + '_ {
    let of_rules = offer.card.rules.iter().filter_map(|rule| match &rule.effect {
        Effect::Prices(prices) => Some(prices),
        Effect::Multiplier(_) => None,
    });
    [&offer.card.prices]
        .into_iter()
        .chain(of_rules)
        .flat_map(|prices| prices.iter().map(|(meter, price)| (*meter, *price)))
}

fn rules(offer: &Offer, found: &mut Vec<Finding>) {
    let conditions = |rule: &Rule| serde_json::to_string(&rule.when).unwrap_or_default();
    let mut seen = BTreeSet::new();
    for rule in &offer.card.rules {
        let when = conditions(rule);
        if !seen.insert(when.clone()) {
            found.push(("same_condition_twice", format!("two rules for {when}")));
        }
        let Effect::Prices(prices) = &rule.effect else { continue };
        for (meter, price) in prices {
            let Some(base) = offer.card.prices.get(meter).filter(|base| base.0 > 0) else { continue };
            let dollars = |price: Price| price.to_dollars(meter.per());
            let told = || format!("{} costs {} for {when} and {} else", meter.name(), dollars(*price), dollars(*base));
            let is_far = price.0 > base.0.saturating_mul(RATIO_MAX) || price.0.saturating_mul(RATIO_MAX) < base.0;
            let is_only_long = rule.when.conditions() == 1 && rule.when.input_tokens_over.is_some();
            let tier = rule.when.service_tier.as_deref();
            let findings = [
                // A picture of low quality costs a hundredth of one of high quality; a token does not.
                ("rule_far_from_base", is_far && price.0 > 0 && meter.per() > 1),
                (
                    "batch_over_base",
                    matches!(tier, Some("batch" | "flex")) && rule.when.conditions() == 1 && price > base,
                ),
                ("priority_below_base", tier == Some("priority") && rule.when.conditions() == 1 && price < base),
                ("long_prompt_below_base", is_only_long && price < base),
            ];
            found.extend(findings.into_iter().filter(|(_, is)| *is).map(|(rule, _)| (rule, told())));
        }
    }
}

/// The problems that remain of findings where `odd` is stated: those it does not name, and names that found nothing.
pub(super) fn unstated(found: Vec<Finding>, odd: &[String]) -> Vec<String> {
    let names: BTreeSet<&str> = found.iter().map(|(rule, _)| *rule).collect();
    let idle =
        odd.iter().filter(|name| !names.contains(name.as_str())).map(|name| match RULES.contains(&name.as_str()) {
            true => format!("odd: {name} is stated, and nothing of the kind is there"),
            false => format!("odd: {name} is not one of {}", RULES.join(", ")),
        });
    let new = found.iter().filter(|(rule, _)| !odd.iter().any(|name| name == rule));
    let told = |(rule, what): &Finding| match RULES.contains(rule) {
        true => format!("{what} ({rule}; if it is so, state it in odd)"),
        false => what.clone(),
    };
    new.map(told).chain(idle).collect()
}
