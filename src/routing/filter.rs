//! Hard filters over offers, in a fixed order. Each removal names its rule; the list of removals is the answer when
//! nobody is left. Privacy and price ceilings fail closed: what is not known does not pass.

use serde::Serialize;

use crate::access::policy::Policy;
use crate::access::routing::Narrowing;
use crate::catalog::{
    Availability, Channel, ModelEntry, Offer, Provider, Routing, Scheme, Status, Support, Training, ZeroRetention,
    has_ended,
};
use crate::dialect::Dialect;
use crate::family::Family;
use crate::family::quirk::Quirk;
use crate::money::Price;
use crate::relay::is_pass;
use crate::text::request::{DataCollection, Need, Request};
use crate::time::Millis;
use crate::usage::Meter;

/// Why an offer may not serve. The order is the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The provider speaks no family that this build knows, or the offer is not for chat.
    Unsupported,
    /// The offer has been retired.
    Retired,
    /// The provider takes no calls for it.
    Unavailable,
    /// It is in a channel that the workspace has not opened.
    Channel,
    /// The operator has switched it off.
    SwitchedOff,
    /// The card has no price for input or output.
    NoPrice,
    /// The gateway has no credential for the provider.
    NoCredential,
    /// The name pins another provider.
    Pinned,
    /// The key may not call this model.
    ModelNotAllowed,
    /// `:free` asks for free offers.
    NotFree,
    /// The offer cannot do something the request needs.
    Capability,
    /// The prompt is longer than its context.
    ContextLength,
    /// `provider.only` does not name it, or `provider.order` without fallbacks.
    NotInList,
    /// `provider.ignore` names it.
    Ignored,
    /// It may train on prompts, or keeps them, or nobody knows.
    Privacy,
    /// It is in none of the regions asked for.
    Region,
    /// It runs in none of `provider.quantizations`, or nobody knows in which.
    Quantization,
    /// It costs more than `provider.max_price`.
    MaxPrice,
}

/// An offer that may not serve this request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// The provider.
    pub provider: String,
    /// The model's canonical id.
    pub model: String,
    /// The rule that removed it.
    pub rule: Rule,
    /// What exactly, where the rule alone does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What the filters look at besides the offer.
#[derive(Clone, Copy)]
pub struct Conditions<'a> {
    /// The request.
    pub request: &'a Request,
    /// The calling key.
    pub policy: &'a Policy,
    /// The provider the name pins.
    pub pinned: Option<&'a str>,
    /// Whether only free offers may serve.
    pub free_only: bool,
    /// Whether the gateway holds the secret of that name.
    pub has_secret: &'a dyn Fn(&str) -> bool,
    /// What workspace and preset say.
    pub narrowings: &'a [&'a Narrowing],
    /// The furthest channel that is open.
    pub channel: Channel,
    /// Now.
    pub now: Millis,
}

/// The first rule that removes the offer.
pub fn check(
    conditions: &Conditions<'_>,
    model: &ModelEntry,
    offer: &Offer,
    provider: &Provider,
) -> Option<(Rule, Option<String>)> {
    let c = conditions;
    let preferences = &c.request.provider;
    let plain = |rule: Rule, removes: bool| removes.then_some((rule, None));
    let supported = offer.kind == "chat"
        && family_of(Dialect::Chat, offer, provider).is_some()
        && (provider.auth.scheme != Scheme::Unsupported || provider.alternative(c.has_secret).is_some());
    let standing = &offer.standing;
    let is_retired =
        standing.status == Status::Retired || offer.retires.as_deref().is_some_and(|date| has_ended(date, c.now));
    plain(Rule::Unsupported, !supported || standing.support == Support::Unsupported)
        .or_else(|| plain(Rule::Retired, is_retired))
        .or_else(|| plain(Rule::Unavailable, standing.availability == Availability::Closed))
        .or_else(|| {
            let is_closed = standing.channel > c.channel;
            is_closed.then(|| (Rule::Channel, Some(standing.channel.name().to_owned())))
        })
        .or_else(|| plain(Rule::SwitchedOff, standing.routing == Routing::Off))
        .or_else(|| plain(Rule::NoPrice, !has_prices(offer)))
        .or_else(|| {
            let tier = unpriced_tier(c.request, offer, provider)?;
            Some((Rule::NoPrice, Some(format!("service_tier {tier}"))))
        })
        .or_else(|| provider.missing(c.has_secret).map(|name| (Rule::NoCredential, Some(format!("{name} is not set")))))
        .or_else(|| plain(Rule::Pinned, c.pinned.is_some_and(|pinned| pinned != provider.id)))
        .or_else(|| {
            plain(
                Rule::ModelNotAllowed,
                !c.policy.may_call(&model.id)
                    || c.narrowings.iter().any(|narrowing| !narrowing.allows_model(&model.id)),
            )
        })
        .or_else(|| plain(Rule::NotFree, c.free_only && !offer.is_free))
        .or_else(|| {
            let missing = c.request.needs.iter().find(|need| cannot(model, offer, **need));
            missing.map(|need| (Rule::Capability, Some(need.capability().to_owned())))
        })
        .or_else(|| {
            let context = offer.context.or(model.context)?;
            let likely = c.request.demand.prompt_tokens_likely();
            // Half of the likely size is certain: nobody makes fewer tokens of a text than one per eight bytes.
            (likely / 2 > context).then(|| (Rule::ContextLength, Some(format!("{context} tokens"))))
        })
        .or_else(|| {
            let outside = |list: &[String]| !list.is_empty() && !list.contains(&provider.id);
            let strict_order = preferences.allow_fallbacks == Some(false) && outside(&preferences.order);
            let is_narrowed = c.narrowings.iter().any(|narrowing| !narrowing.allows_provider(&provider.id));
            plain(Rule::NotInList, outside(&preferences.only) || strict_order || is_narrowed)
        })
        .or_else(|| plain(Rule::Ignored, preferences.ignore.contains(&provider.id)))
        .or_else(|| plain(Rule::Privacy, !is_private_enough(c, provider)))
        .or_else(|| {
            let wanted = &preferences.regions;
            let regions = if offer.regions.is_empty() { &provider.regions } else { &offer.regions };
            let misses =
                |wanted: &[String]| !wanted.is_empty() && !wanted.iter().any(|region| regions.contains(region));
            let is_narrowed = c.narrowings.iter().any(|narrowing| misses(&narrowing.regions));
            plain(Rule::Region, misses(wanted) || is_narrowed)
        })
        .or_else(|| {
            let wanted = &preferences.quantizations;
            let is_one = offer.quantization.as_ref().is_some_and(|own| wanted.contains(own));
            plain(Rule::Quantization, !wanted.is_empty() && !is_one)
        })
        .or_else(|| exceeds(c.request, offer).map(|meter| (Rule::MaxPrice, Some(meter.name().to_owned()))))
}

/// The family in which an offer is asked on behalf of a client of `dialect`: what the offer names, else the provider's
/// first one that this build speaks. A host that speaks OpenAI chat and the client's own dialect is asked in the latter.
pub fn family_of(dialect: Dialect, offer: &Offer, provider: &Provider) -> Option<Family> {
    if let Some(name) = &offer.family {
        return Family::from_name(name);
    }
    let mut spoken = provider.families.iter().filter_map(|name| Family::from_name(name));
    if offer.can.contains("responses_only") {
        return spoken.find(|family| *family == Family::OpenAiResponses);
    }
    let first = spoken.next()?;
    let native = spoken.find(|family| is_pass(dialect, *family));
    Some(native.filter(|_| first == Family::OpenAiChat && dialect != Dialect::Chat).unwrap_or(first))
}

fn has_prices(offer: &Offer) -> bool {
    [Meter::InputTokens, Meter::OutputTokens].iter().all(|meter| offer.card.prices.contains_key(meter))
}

/// The tier that is asked for, where the card does not say what it costs there. Providers that are not sent the tier
/// serve at their usual one.
fn unpriced_tier<'a>(request: &'a Request, offer: &Offer, provider: &Provider) -> Option<&'a str> {
    const USUAL: &[&str] = &["auto", "default", "standard", "standard_only"];
    let tier = request.service_tier.as_deref().filter(|tier| !USUAL.contains(tier))?;
    let is_sent = !provider
        .quirks
        .iter()
        .any(|quirk| matches!(quirk, Quirk::Drop(fields) if fields.iter().any(|field| field == "service_tier")));
    let is_priced = offer.card.rules.iter().any(|rule| rule.when.service_tier.as_deref() == Some(tier));
    (is_sent && !is_priced).then_some(tier)
}

/// Whether it is known that the offer cannot do something. What nobody stated is tried.
fn cannot(model: &ModelEntry, offer: &Offer, need: Need) -> bool {
    let name = need.capability();
    match model.capabilities.get(name) {
        Some(false) => true,
        Some(true) => false,
        None => {
            !offer.can.is_empty()
                && matches!(need, Need::Tools | Need::Vision | Need::StructuredOutput)
                && !offer.can.contains(name)
        }
    }
}

fn is_private_enough(c: &Conditions<'_>, provider: &Provider) -> bool {
    let preferences = &c.request.provider;
    let may_train = preferences.data_collection != Some(DataCollection::Deny)
        && !c.narrowings.iter().any(|narrowing| narrowing.no_training);
    let may_keep = !preferences.zdr && !c.narrowings.iter().any(|narrowing| narrowing.zdr);
    let no_training =
        may_train || provider.data_policy.as_ref().is_some_and(|policy| policy.trains_on_api_data == Training::No);
    let zero_retention =
        may_keep || provider.data_policy.as_ref().is_some_and(|policy| policy.zero_retention == ZeroRetention::Default);
    no_training && zero_retention
}

fn exceeds(request: &Request, offer: &Offer) -> Option<Meter> {
    let ceilings = &request.provider.max_price;
    let over = |meter: Meter, ceiling: Option<Price>| {
        let ceiling = ceiling?;
        match offer.card.prices.get(&meter) {
            Some(price) => (*price > ceiling).then_some(meter),
            None => None,
        }
    };
    over(Meter::InputTokens, ceilings.prompt)
        .or_else(|| over(Meter::OutputTokens, ceilings.completion))
        .or_else(|| over(Meter::Requests, ceilings.request))
}

#[cfg(test)]
mod tests;
