//! The plan of a request: candidates in order, and who was removed by which rule.

use std::rc::Rc;

use serde_json::json;

use crate::catalog::{ModelEntry, Offer, Provider, Suffix};
use crate::error::{Code, Failure};
use crate::health::board::Board;
use crate::ledger::bound::{Bound, bound};
use crate::routing::filter::{Conditions, Removed, Rule, check};
use crate::routing::rank::{Facts, rank};
use crate::text::request::Mode;

/// Output tokens a request is expected to use where the client sets no limit, for the price in the formula.
const OUTPUT_TOKENS_LIKELY: u64 = 400;

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
    /// Its worst case.
    pub bound: Bound,
    /// Its score in the ranking.
    pub score: f64,
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
}

/// Makes the plan.
pub fn plan(targets: &[Target], conditions: &Conditions<'_>, board: &Board, seed: u64) -> Plan {
    let request = conditions.request;
    let mut removed = Vec::new();
    let mut candidates = Vec::new();
    let mut facts = Vec::new();
    for (place, target) in targets.iter().enumerate() {
        let conditions = Conditions {
            pinned: target.pinned.as_deref(),
            free_only: target.suffix == Some(Suffix::Free),
            ..*conditions
        };
        for (index, offer) in target.entry.offers.iter().enumerate() {
            let Some(provider) = target.entry.provider_of(offer) else { continue };
            let mut remove = |rule: Rule, detail: Option<String>| {
                removed.push(Removed { provider: provider.id.clone(), model: target.entry.id.clone(), rule, detail });
            };
            if let Some((rule, detail)) = check(&conditions, &target.entry, offer, provider) {
                remove(rule, detail);
                continue;
            }
            let Some(Ok(bound)) = bound(&request.demand, offer, target.entry.max_output, target.entry.context) else {
                remove(Rule::NoPrice, None);
                continue;
            };
            let key = Board::key(&provider.id, &offer.upstream);
            facts.push(Facts {
                price_nanos: expected(&bound, offer, conditions.request.demand.prompt_tokens_likely()),
                score: board.score(&key, conditions.now),
                order: request.provider.order.iter().position(|id| *id == provider.id),
                model: place,
            });
            candidates.push(Candidate { entry: Rc::clone(&target.entry), offer: index, bound, score: 0.0 });
        }
    }
    let mode = mode(targets, request.provider.sort);
    let ordered = rank(&facts, mode, seed).into_iter().filter_map(|(index, score)| {
        let candidate = candidates.get(index)?;
        Some(Candidate { score, ..candidate.clone() })
    });
    Plan { candidates: ordered.collect(), removed }
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

/// The likely price: likely prompt at the base input price, and a usual answer.
fn expected(bound: &Bound, offer: &Offer, prompt_tokens: u64) -> i64 {
    use crate::money::Unrounded;
    use crate::usage::Meter;
    let price = |meter: Meter| offer.card.prices.get(&meter).copied();
    let output = bound.output_tokens.min(OUTPUT_TOKENS_LIKELY).saturating_mul(bound.choices);
    let sum = [(Meter::InputTokens, prompt_tokens.max(1)), (Meter::OutputTokens, output), (Meter::Requests, 1)]
        .into_iter()
        .filter_map(|(meter, quantity)| price(meter).map(|price| (quantity, price)))
        .try_fold(Unrounded::default(), |sum, (quantity, price)| sum.with(quantity, price));
    sum.and_then(Unrounded::round_up).map_or(i64::MAX, |nanos| nanos.0)
}

/// What to say when nobody is left: the status follows from what removed them.
pub fn nobody(asked: &str, removed: &[Removed]) -> Failure {
    let details = json!({ "removed": removed });
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

/// Rules that no change of the request can lift.
fn is_out_of_reach(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::Unsupported | Rule::Retired | Rule::Unavailable | Rule::SwitchedOff | Rule::NoPrice | Rule::NoCredential
    )
}

/// The answer to a name that the catalog does not know.
pub fn unknown_model(asked: &str) -> Failure {
    Failure::new(Code::ModelNotFound, format!("there is no model `{asked}`")).about("model")
}

#[cfg(test)]
mod tests;
