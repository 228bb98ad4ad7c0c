//! The plan of a request: candidates in order, and who was removed by which rule.

use std::rc::Rc;

use serde_json::json;

use crate::access::byok::Use;
use crate::attempt::machine::Seat;
use crate::attempt::pool::Pool;
use crate::attempt::timeouts::{first_byte_max_ms, hedge_ms, late_ms};
use crate::catalog::{ModelEntry, Offer, Provider, Routing, Situation, Suffix};
use crate::error::{Code, Failure};
use crate::health::board::Board;
use crate::health::sample::Place;
use crate::health::score::{Score, Standing, prompt_factor};
use crate::ledger::bound::{Bound, bound};
use crate::media::Work;
use crate::routing::change::{is_out_of_reach, smallest};
use crate::routing::expect::{Expected, OUTPUT_TOKENS_LIKELY, has_cache, price_nanos};
use crate::routing::filter::{Cause, Conditions, Removed, Rule, check, rules};
use crate::routing::rank::{Ask, Facts, Ranked, Tier, rank};
use crate::routing::sticky::{Conversation, Warm};
use crate::text::request::{Mode, ProviderPreferences};

/// One model of a request, resolved.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its entry.
    pub entry: Rc<ModelEntry>,
    /// The provider the name pins.
    pub pinned: Option<String>,
    /// The suffix of the name.
    pub suffix: Option<Suffix>,
}

/// An offer that may serve.
#[derive(Debug, Clone)]
pub struct Candidate {
    entry: Rc<ModelEntry>,
    offer: usize,
    /// The place of the workspace's own credential it is asked with, among all of them; none: the gateway's.
    pub own: Option<usize>,
    /// The gateway's credentials it may be asked with.
    pub pool: Pool,
    /// Its worst case.
    pub bound: Bound,
    /// What it was ranked by.
    pub facts: Facts,
    /// Its place and why.
    pub ranked: Ranked,
}

/// What the plan rests on besides the catalog and the request.
#[derive(Clone, Copy)]
pub struct Outlook<'a> {
    /// Health.
    pub board: &'a Board,
    /// The conversation, and where its prompt is warm.
    pub conversation: Option<(Conversation, Option<Warm>)>,
    /// Chance: from the request's id, so that a decision can be replayed from its record.
    pub seed: u64,
}

impl Candidate {
    /// The model.
    pub fn model(&self) -> &ModelEntry {
        &self.entry
    }

    /// The offer.
    pub fn offer(&self) -> Option<&Offer> {
        self.entry.offers.get(self.offer)
    }

    /// The place of the offer among those of the model.
    pub fn offer_place(&self) -> usize {
        self.offer
    }

    /// Its provider.
    pub fn provider(&self) -> Option<&Provider> {
        self.entry.provider_of(self.offer()?)
    }
}

/// Ordered candidates and removals.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Best first.
    pub candidates: Vec<Candidate>,
    /// Who may not, and why.
    pub removed: Vec<Removed>,
    /// The mode it was ranked in.
    pub mode: Mode,
    /// Whether the answer comes as a stream.
    pub is_stream: bool,
    /// Where the draws came from: the conversation where there is one, else the request.
    pub seed: u64,
}

impl Plan {
    /// What the attempts need to know of each candidate.
    pub fn seats(&self) -> Vec<Seat> {
        let p95_ms = |candidate: &Candidate| candidate.facts.score.first_byte_p95_ms(candidate.facts.prompt_tokens);
        let known: Vec<(usize, u64)> = self
            .candidates
            .iter()
            .filter(|candidate| candidate.ranked.tier == Tier::First)
            .filter_map(|candidate| Some((candidate.facts.model, p95_ms(candidate)?)))
            .collect();
        // A model that thinks for long is not hanging because another one of the request is quick.
        let soonest_ms = |model: usize| known.iter().filter(|(of, _)| *of == model).map(|(_, ms)| *ms).min();
        let seat = |candidate: &Candidate| {
            let credential = Seat { pool: candidate.pool, is_own: candidate.own.is_some(), ..Seat::default() };
            // What comes whole takes as long as its output is; nothing is known of that beforehand.
            if !self.is_stream {
                return credential;
            }
            let p95_ms = p95_ms(candidate);
            let trial = matches!(candidate.facts.score.standing, Standing::Trial(_)).then_some(p95_ms);
            Seat {
                first_byte_max_ms: first_byte_max_ms(soonest_ms(candidate.facts.model), trial),
                hedge_ms: hedge_ms(p95_ms),
                late_ms: late_ms(p95_ms),
                ..credential
            }
        };
        self.candidates.iter().map(seat).collect()
    }
}

/// Makes the plan.
pub fn plan(targets: &[Target], conditions: &Conditions<'_>, outlook: &Outlook<'_>) -> Plan {
    let mut plan = ordered(targets, conditions, outlook);
    if plan.candidates.is_empty() {
        name_all_rules(&mut plan.removed, targets, conditions);
    }
    plan
}

/// What a target adds to the conditions.
fn narrowed<'a>(conditions: &Conditions<'a>, target: &'a Target) -> Conditions<'a> {
    Conditions { pinned: target.pinned.as_deref(), free_only: target.suffix == Some(Suffix::Free), ..*conditions }
}

/// Says of each removal what else would have to change. Walks the offers as [`ordered`] did, which removed all of them.
fn name_all_rules(removed: &mut [Removed], targets: &[Target], conditions: &Conditions<'_>) {
    let mut removed = removed.iter_mut();
    for target in targets {
        let conditions = narrowed(conditions, target);
        for offer in &target.entry.offers {
            let Some(provider) = target.entry.provider_of(offer) else { continue };
            let Some(one) = removed.next() else { return };
            // The first is the one that was found; no price for this very request is found by none of them.
            let all = rules(&conditions, &target.entry, offer, provider).map(|(rule, detail)| Cause { rule, detail });
            one.also = all.filter(|cause| cause.rule != one.rule || cause.detail != one.detail).collect();
        }
    }
}

fn ordered(targets: &[Target], conditions: &Conditions<'_>, outlook: &Outlook<'_>) -> Plan {
    let request = conditions.request;
    let prompt_tokens = request.demand.prompt_tokens_likely();
    let situation = Situation {
        service_tier: request.terms.service_tier.as_deref(),
        quality: request.quality.as_deref(),
        size: request.size.as_deref(),
        now: conditions.now,
        ..Situation::default()
    };
    let warm = outlook.conversation.and_then(|(_, warm)| warm);
    // A conversation keeps its credential too: a warm prompt is one account's.
    let seed = outlook.conversation.map_or(outlook.seed, |(conversation, _)| conversation.0);
    let mut removed = Vec::new();
    let mut found = Vec::new();
    let mut facts = Vec::new();
    for (place_of_model, target) in targets.iter().enumerate() {
        let conditions = narrowed(conditions, target);
        for (index, offer) in target.entry.offers.iter().enumerate() {
            let Some(provider) = target.entry.provider_of(offer) else { continue };
            let mut remove = |rule: Rule, detail: Option<String>| {
                let (provider, model) = (provider.id.clone(), target.entry.id.clone());
                removed.push(Removed { provider, model, rule, detail, also: Vec::new() });
            };
            if let Some((rule, detail)) = check(&conditions, &target.entry, offer, provider) {
                remove(rule, detail);
                continue;
            }
            let switch = outlook.board.switch(&provider.id);
            if switch == Routing::Off {
                remove(Rule::SwitchedOff, Some("by the operator".to_owned()));
                continue;
            }
            let bound = match conditions.work {
                None => bound(&request.demand, offer, target.entry.max_output, target.entry.context),
                Some(work) => work.bound(offer, provider, conditions.now).map(Ok),
            };
            let Some(Ok(bound)) = bound else {
                remove(Rule::NoPrice, None);
                continue;
            };
            let offered = Place::new(&provider.id, &offer.upstream);
            let pool = Pool::new((conditions.slots)(provider), seed, |slot| {
                outlook.board.cools_until(&offered.in_slot(slot), conditions.now)
            });
            let place = offered.in_slot(pool.slot());
            let cached_tokens = warm
                .filter(|_| has_cache(offer))
                .map_or(0, |warm| warm.cached_tokens(place.credential_key(), prompt_tokens));
            let output_tokens = bound.output_tokens.min(OUTPUT_TOKENS_LIKELY).saturating_mul(bound.choices);
            let expected = Expected { prompt_tokens, cached_tokens, output_tokens };
            let order = request.provider.order.iter().position(|id| *id == provider.id);
            let score = match order {
                None => outlook.board.score(&place, conditions.now),
                Some(_) => outlook.board.score_alone(&place, conditions.now),
            };
            facts.push(Facts {
                key: offered.credential_key(),
                price_nanos: match conditions.work {
                    None => price_nanos(&expected, offer, &situation),
                    Some(Work::Job(_)) => bound.prompt_nanos.0,
                    Some(work) => {
                        let (quality, size) = offer.card.made_as(situation.quality, situation.size);
                        work.likely_nanos(&offer.card, &Situation { quality, size, ..situation })
                    }
                },
                prompt_tokens,
                cached_tokens,
                score,
                order,
                model: place_of_model,
                is_behind: offer.standing.routing == Routing::Last
                    || switch == Routing::Last
                    || misses_wishes(&request.provider, &score, prompt_tokens),
            });
            found.push((Rc::clone(&target.entry), index, bound, pool));
        }
    }
    let mode = mode(targets, request.provider.sort);
    let candidates = rank(&facts, &Ask { mode, is_stream: request.stream, seed }).into_iter().filter_map(|ranked| {
        let (entry, offer, bound, pool) = found.get(ranked.index)?;
        let facts = *facts.get(ranked.index)?;
        let entry = Rc::clone(entry);
        Some(Candidate { entry, offer: *offer, own: None, pool: *pool, bound: *bound, facts, ranked })
    });
    let candidates = by_credential(candidates.collect(), conditions, outlook.board, &mut removed);
    Plan { candidates, removed, mode, is_stream: request.stream, seed }
}

/// Each candidate once for each credential it can be asked with: the workspace's own that go first, the gateway's, the
/// workspace's own that go last. A request that has an own credential is paid with credits only where the workspace
/// said so.
fn by_credential(
    ranked: Vec<Candidate>,
    conditions: &Conditions<'_>,
    board: &Board,
    removed: &mut Vec<Removed>,
) -> Vec<Candidate> {
    if conditions.own.is_empty() {
        return ranked;
    }
    let with = |usage: Use| {
        let mut found = Vec::new();
        for candidate in &ranked {
            let Some((offer, provider)) = candidate.offer().zip(candidate.provider()) else { continue };
            for (place, own) in conditions.own.iter().enumerate() {
                let (model, key) = (&candidate.model().id, conditions.policy.key.as_str());
                if own.about.usage == usage && own.serves(&provider.id, model, key) {
                    let bound = candidate.bound.fee(conditions.fee_basis_points);
                    let asked =
                        Place { credential: Some(own.id.as_str()), ..Place::new(&provider.id, &offer.upstream) };
                    let cools = board.cools_until(&asked, conditions.now).is_some();
                    let pool = Pool::default();
                    found.push((cools, Candidate { own: Some(place), pool, bound, ..candidate.clone() }));
                }
            }
        }
        // One that was told to wait goes behind the others, in their order.
        found.sort_by_key(|(cools, _)| *cools);
        found.into_iter().map(|(_, candidate)| candidate).collect::<Vec<Candidate>>()
    };
    let first = with(Use::First);
    let is_paid = first.is_empty() || conditions.fallback_to_credits;
    let has_gateways = |candidate: &Candidate| {
        candidate.provider().is_some_and(|provider| provider.missing(conditions.has_secret).is_none())
    };
    let (gateways, others): (Vec<Candidate>, Vec<Candidate>) =
        ranked.iter().cloned().partition(|candidate| is_paid && has_gateways(candidate));
    if !is_paid {
        let asked = |candidate: &Candidate| first.iter().any(|own| own.facts.key == candidate.facts.key);
        for candidate in others.iter().filter(|candidate| !asked(candidate)) {
            let provider = candidate.provider().map(|provider| provider.id.clone()).unwrap_or_default();
            let model = candidate.model().id.clone();
            // With credits it could be asked all the same only where the gateway has a credential.
            let missing = candidate.provider().and_then(|provider| provider.missing(conditions.has_secret));
            let cause = |name: &str| Cause { rule: Rule::NoCredential, detail: Some(format!("{name} is not set")) };
            let also = missing.map(cause).into_iter().collect();
            removed.push(Removed { provider, model, rule: Rule::OwnKeyOnly, detail: None, also });
        }
    }
    first.into_iter().chain(gateways).chain(with(Use::Fallback)).collect()
}

/// Whether it is known that the offer misses what the request would like: that moves it back, not out.
fn misses_wishes(wishes: &ProviderPreferences, score: &Score, prompt_tokens: u64) -> bool {
    let over = |known: Option<f64>, most: Option<u64>| known.zip(most).is_some_and(|(known, most)| known > whole(most));
    let latency_ms = score.latency.map(|spread| spread.median() * prompt_factor(prompt_tokens));
    let pace_ms = score.pace.map(|spread| spread.median());
    // Tokens per thousand seconds, so that a wish is an integer: at least so many is at most so long a token.
    let slow = |wish: u64| pace_ms.is_some_and(|ms| 1_000_000.0 / ms.max(1e-6) < whole(wish));
    over(latency_ms, wishes.preferred_max_latency_ms) || wishes.preferred_min_millitokens.is_some_and(slow)
}

#[allow(clippy::cast_precision_loss, reason = "a wish in milliseconds or millitokens fits a float")]
fn whole(value: u64) -> f64 {
    value as f64
}

fn mode(targets: &[Target], sort: Option<Mode>) -> Mode {
    let by_suffix = targets.first().and_then(|target| match target.suffix? {
        Suffix::Nitro => Some(Mode::Throughput),
        Suffix::Fast => Some(Mode::Latency),
        Suffix::Cheap | Suffix::Floor => Some(Mode::Price),
        Suffix::Free => None,
    });
    sort.or(by_suffix).unwrap_or_default()
}

/// What to say when nobody is left: the status follows from what removed them.
pub fn nobody(asked: &str, removed: &[Removed]) -> Failure {
    let details = json!({ "removed": removed, "smallest_change": smallest(removed) });
    let all = |rule: Rule| !removed.is_empty() && removed.iter().all(|r| r.rule == rule);
    // Those who could serve if it were not for one last rule decide the answer.
    let able: Vec<&Removed> = removed.iter().filter(|r| !is_out_of_reach(r.rule)).collect();
    let able_all = |rule: Rule| !able.is_empty() && able.iter().all(|r| r.rule == rule);
    if all(Rule::ModelNotAllowed) || able_all(Rule::ModelNotAllowed) {
        return Failure::new(Code::ModelNotAllowed, format!("this key may not call `{asked}`")).about("model");
    }
    if able_all(Rule::ContextLength) {
        return Failure::new(Code::ContextLengthExceeded, "the prompt is longer than the context of every provider")
            .about("messages")
            .with_details(details);
    }
    let message = format!("no provider can serve `{asked}` under these conditions; details.removed says why for each");
    Failure::new(Code::NoEligibleProvider, message).about("model").with_details(details)
}

/// The answer to a name that the catalog does not know.
pub fn unknown_model(asked: &str) -> Failure {
    Failure::new(Code::ModelNotFound, format!("there is no model `{asked}`")).about("model")
}

#[cfg(test)]
mod tests;
