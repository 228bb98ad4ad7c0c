//! Hard filters over offers, in a fixed order. Each removal names its rule; the list of removals is the answer when
//! nobody is left. Privacy and price ceilings fail closed: what is not known does not pass.

use serde::Serialize;

use crate::access::byok::OwnKey;
use crate::access::policy::Policy;
use crate::access::routing::Narrowing;
use crate::attempt::pool::Slots;
use crate::catalog::{
    Availability, Channel, DataPolicy, ModelEntry, Offer, PARAMETERS, Provider, Routing, STATED, Scheme, Status,
    Support, Training, ZeroRetention, has_ended, is_in,
};
use crate::dialect::Dialect;
use crate::family::Family;
use crate::family::quirk::Quirk;
use crate::media::Work;
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
    /// The workspace has credentials of its own, and credits may not pay for others.
    OwnKeyOnly,
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
    /// It does not take a parameter of the request, and `provider.require_parameters` asks for that.
    Parameter,
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
    /// Further rules that remove it too; looked for only where nobody is left.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Cause>,
}

/// A further rule that removes an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// The rule.
    pub rule: Rule,
    /// What exactly.
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
    /// Which of the gateway's credentials for a provider are there.
    pub slots: &'a dyn Fn(&Provider) -> Slots,
    /// The workspace's own credentials.
    pub own: &'a [OwnKey],
    /// Whether credits pay where those fail.
    pub fallback_to_credits: bool,
    /// Basis points of the price that a request with an own credential costs.
    pub fee_basis_points: u64,
    /// The work, where it is no text.
    pub work: Option<&'a Work>,
    /// What workspace and preset say.
    pub narrowings: &'a [&'a Narrowing],
    /// The furthest channel that is open.
    pub channel: Channel,
    /// Now.
    pub now: Millis,
}

/// The detail of a removal by the workspace's settings or by a preset.
pub const NARROWED: &str = "workspace or preset";

/// What a check looks at.
struct Subject<'a> {
    conditions: &'a Conditions<'a>,
    model: &'a ModelEntry,
    offer: &'a Offer,
    provider: &'a Provider,
}

/// The detail of a removal, where there is one.
type Removes = Option<Option<String>>;

/// Whether a rule removes the offer.
type Check = fn(&Subject<'_>) -> Removes;

/// The checks in their order. Each says whether its rule removes the offer.
const CHECKS: &[(Rule, Check)] = &[
    (Rule::Unsupported, |s| {
        let speaks = match s.conditions.work {
            None => s.offer.kind == "chat" && family_of(Dialect::Chat, s.offer, s.provider).is_some(),
            Some(work) => work.is_served(s.offer, s.provider).unwrap_or(true),
        };
        let signs =
            s.provider.auth.scheme != Scheme::Unsupported || s.provider.alternative(s.conditions.has_secret).is_some();
        plain(!(speaks && signs) || s.offer.standing.support == Support::Unsupported)
    }),
    (Rule::Retired, |s| {
        let has_ended = |date: &str| has_ended(date, s.conditions.now);
        plain(s.offer.standing.status == Status::Retired || s.offer.retires.as_deref().is_some_and(has_ended))
    }),
    (Rule::Unavailable, |s| plain(s.offer.standing.availability == Availability::Closed)),
    (Rule::Channel, |s| {
        let channel = s.offer.standing.channel;
        (channel > s.conditions.channel).then(|| Some(channel.name().to_owned()))
    }),
    (Rule::SwitchedOff, |s| plain(s.offer.standing.routing == Routing::Off)),
    (Rule::NoPrice, |s| match has_prices(s.offer, s.conditions.work) {
        false => Some(None),
        true => {
            let request = s.conditions.request;
            let tier = unpriced_tier(request, s.offer, s.provider).map(|tier| format!("service_tier {tier}"));
            let speed = || unpriced_speed(request, s.offer, s.provider).map(|speed| format!("speed {speed}"));
            let searches = || unpriced_searches(request, s.model, s.offer).then(|| "web_searches".to_owned());
            tier.or_else(speed).or_else(searches).map(Some)
        }
    }),
    (Rule::NoCredential, |s| {
        let c = s.conditions;
        if c.own.iter().any(|own| own.serves(&s.provider.id, &s.model.id, c.policy.key.as_str())) {
            return None;
        }
        s.provider.missing(s.conditions.has_secret).map(|name| Some(format!("{name} is not set")))
    }),
    (Rule::Pinned, |s| plain(s.conditions.pinned.is_some_and(|pinned| pinned != s.provider.id))),
    (Rule::ModelNotAllowed, |s| plain(!s.conditions.policy.may_call(&s.model.id))),
    (Rule::ModelNotAllowed, |s| narrowed(s, |narrowing| !narrowing.allows_model(&s.model.id))),
    (Rule::NotFree, |s| plain(s.conditions.free_only && !s.offer.is_free)),
    (Rule::Capability, |s| s.conditions.work?.is_served(s.offer, s.provider).err().map(Some)),
    (Rule::Capability, |s| {
        let missing = s.conditions.request.needs.iter().find(|need| cannot(s.model, s.offer, **need))?;
        Some(Some(missing.capability().to_owned()))
    }),
    (Rule::ContextLength, |s| {
        let context = s.offer.context.or(s.model.context)?;
        let likely = s.conditions.request.demand.prompt_tokens_likely();
        // Half of the likely size is certain: nobody makes fewer tokens of a text than one per eight bytes.
        (likely / 2 > context).then(|| Some(format!("{context} tokens")))
    }),
    (Rule::NotInList, |s| {
        let preferences = &s.conditions.request.provider;
        let outside = |list: &[String]| !list.is_empty() && !list.contains(&s.provider.id);
        let strict_order = preferences.allow_fallbacks == Some(false) && outside(&preferences.order);
        plain(outside(&preferences.only) || strict_order)
    }),
    (Rule::NotInList, |s| narrowed(s, |narrowing| !narrowing.allows_provider(&s.provider.id))),
    (Rule::Ignored, |s| plain(s.conditions.request.provider.ignore.contains(&s.provider.id))),
    (Rule::Privacy, |s| {
        let preferences = &s.conditions.request.provider;
        let no_training = preferences.data_collection == Some(DataCollection::Deny);
        plain(!is_private_enough(s.provider, no_training, preferences.zdr))
    }),
    (Rule::Privacy, |s| narrowed(s, |narrowing| !is_private_enough(s.provider, narrowing.no_training, narrowing.zdr))),
    (Rule::Privacy, |s| narrowed(s, |narrowing| keeps_longer(s.provider, narrowing.retention_days_max))),
    (Rule::Region, |s| plain(is_elsewhere(s, &s.conditions.request.provider.regions))),
    (Rule::Region, |s| narrowed(s, |narrowing| is_elsewhere(s, &narrowing.regions))),
    (Rule::Quantization, |s| {
        let wanted = &s.conditions.request.provider.quantizations;
        let is_one = s.offer.quantization.as_ref().is_some_and(|own| wanted.contains(own));
        plain(!wanted.is_empty() && !is_one)
    }),
    (Rule::MaxPrice, |s| exceeds(s.conditions.request, s.offer).map(|meter| Some(meter.name().to_owned()))),
    (Rule::Parameter, |s| {
        let request = s.conditions.request;
        let untaken = request.provider.require_parameters.then(|| untaken(request, s.model, s.offer, s.provider))?;
        untaken.map(Some)
    }),
];

/// A rule of the workspace's settings or of a preset, which the request alone cannot lift.
fn narrowed(s: &Subject<'_>, removes: impl Fn(&Narrowing) -> bool) -> Removes {
    s.conditions.narrowings.iter().any(|narrowing| removes(narrowing)).then(|| Some(NARROWED.to_owned()))
}

/// A rule without a detail.
fn plain(removes: bool) -> Removes {
    removes.then_some(None)
}

/// Every rule that removes the offer, in order: the first one decides, all of them have to be lifted.
pub fn rules<'a>(
    conditions: &'a Conditions<'a>,
    model: &'a ModelEntry,
    offer: &'a Offer,
    provider: &'a Provider,
) -> impl Iterator<Item = (Rule, Option<String>)> + 'a {
    let subject = Subject { conditions, model, offer, provider };
    CHECKS.iter().filter_map(move |(rule, removes)| removes(&subject).map(|detail| (*rule, detail)))
}

/// The first rule that removes the offer.
pub fn check(
    conditions: &Conditions<'_>,
    model: &ModelEntry,
    offer: &Offer,
    provider: &Provider,
) -> Option<(Rule, Option<String>)> {
    rules(conditions, model, offer, provider).next()
}

/// The first parameter of the request that the offer is not known to take: its provider is not sent it, or it has not
/// the capability that the parameter needs.
fn untaken(request: &Request, model: &ModelEntry, offer: &Offer, provider: &Provider) -> Option<String> {
    let is_sent = |name: &str| request.body.value(name).is_some_and(|value| value != "null");
    let dropped = provider.quirks.iter().flat_map(|quirk| match quirk {
        Quirk::Drop(fields) => fields.as_slice(),
        _ => &[],
    });
    let unable = PARAMETERS.iter().filter(|(_, capability)| {
        capability.is_some_and(|name| match model.capabilities.get(name) {
            Some(can) => !can,
            // What offers do not state is no reason: only what some of them do, and this one does not.
            None => !offer.can.is_empty() && STATED.contains(&name) && !offer.can.contains(name),
        })
    });
    let names = dropped.map(String::as_str).chain(unable.map(|(name, _)| *name));
    names.into_iter().find(|name| is_sent(name)).map(str::to_owned)
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

fn has_prices(offer: &Offer, work: Option<&Work>) -> bool {
    if let Some(work) = work {
        return !work.priced_by(&offer.card).is_empty();
    }
    [Meter::InputTokens, Meter::OutputTokens].iter().all(|meter| offer.card.prices.contains_key(meter))
}

/// The tier that is asked for, where the card does not say what it costs there. Providers that are not sent the tier
/// serve at their usual one.
fn unpriced_tier<'a>(request: &'a Request, offer: &Offer, provider: &Provider) -> Option<&'a str> {
    const USUAL: &[&str] = &["auto", "default", "standard", "standard_only"];
    let tier = request.terms.service_tier.as_deref().filter(|tier| !USUAL.contains(tier))?;
    let is_sent = !provider
        .quirks
        .iter()
        .any(|quirk| matches!(quirk, Quirk::Drop(fields) if fields.iter().any(|field| field == "service_tier")));
    let is_priced = offer.card.rules.iter().any(|rule| rule.when.service_tier.as_deref() == Some(tier));
    (is_sent && !is_priced).then_some(tier)
}

/// The speed that is asked for, where it goes to the provider and the card does not say what it costs there.
fn unpriced_speed<'a>(request: &'a Request, offer: &Offer, provider: &Provider) -> Option<&'a str> {
    let speed = request.terms.speed.as_deref().filter(|speed| *speed != "standard")?;
    let family = family_of(Dialect::Messages, offer, provider)?;
    let is_priced = offer.card.rules.iter().any(|rule| rule.when.speed.as_deref() == Some(speed));
    (is_pass(Dialect::Messages, family) && !is_priced).then_some(speed)
}

/// Whether searches are asked for that cost something at this provider, and this offer does not say what.
fn unpriced_searches(request: &Request, model: &ModelEntry, offer: &Offer) -> bool {
    let is_priced = |offer: &Offer| offer.card.prices.contains_key(&Meter::WebSearches);
    let is_sibling = |other: &&Offer| other.provider == offer.provider;
    request.demand.searches && !is_priced(offer) && model.offers.iter().filter(is_sibling).any(is_priced)
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

fn is_private_enough(provider: &Provider, no_training: bool, zdr: bool) -> bool {
    let says = |holds: fn(&DataPolicy) -> bool| provider.data_policy.as_ref().is_some_and(holds);
    (!no_training || says(|policy| policy.trains_on_api_data == Training::No))
        && (!zdr || says(|policy| policy.zero_retention == ZeroRetention::Default))
}

/// Whether it keeps prompts for more days than that, or nobody knows.
fn keeps_longer(provider: &Provider, days_max: Option<u32>) -> bool {
    let kept = provider.data_policy.as_ref().and_then(|policy| match policy.zero_retention {
        ZeroRetention::Default => Some(0),
        _ => policy.retention_days,
    });
    days_max.is_some_and(|most| kept.is_none_or(|days| days > most))
}

fn is_elsewhere(s: &Subject<'_>, wanted: &[String]) -> bool {
    let regions = if s.offer.regions.is_empty() { &s.provider.regions } else { &s.offer.regions };
    !wanted.is_empty() && !wanted.iter().any(|wanted| regions.iter().any(|region| is_in(region, wanted)))
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
        .or_else(|| over(Meter::OutputImages, ceilings.image))
        .or_else(|| over(Meter::OutputMegapixels, ceilings.image))
        .or_else(|| over(Meter::InputAudioSeconds, ceilings.audio))
        .or_else(|| over(Meter::OutputAudioSeconds, ceilings.audio))
        .or_else(|| over(Meter::InputCharacters, ceilings.prompt))
}

#[cfg(test)]
mod tests;
