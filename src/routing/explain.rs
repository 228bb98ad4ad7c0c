//! Why a request went where it went: its candidates with their factors, and who was removed by which rule.
//!
//! The record is enough to replay the decision: the seed, and of each candidate the facts that the formula took.

use serde_json::{Value, json};

use crate::routing::plan::Plan;

/// Candidates told of in an activity row.
pub const ROW_CANDIDATES: usize = 5;
/// Candidates and removals told of in an answer that asked for it: headers have to stay small.
pub const ASKED_CANDIDATES: usize = 12;

/// The explanation of a plan, with at most so many candidates and removals; it says how many there were.
pub fn explain(plan: &Plan, most: usize) -> Value {
    let candidates: Vec<Value> = plan
        .candidates
        .iter()
        .take(most)
        .filter_map(|candidate| {
            let (offer, provider) = (candidate.offer()?, candidate.provider()?);
            let (facts, ranked) = (&candidate.facts, &candidate.ranked);
            let factors = &ranked.factors;
            Some(json!({
                "provider": provider.id,
                "model": candidate.model().id,
                "upstream": offer.upstream,
                "tier": ranked.tier.name(),
                "score": rounded(factors.score()),
                "factors": {
                    "reliability": rounded(factors.reliability.exp()),
                    "price": rounded(factors.price.exp()),
                    "latency": rounded(factors.latency.exp()),
                    "pace": rounded(factors.pace.exp()),
                    "chance": rounded(factors.chance.exp()),
                },
                "expected_nanos": facts.price_nanos,
                "cached_tokens": facts.cached_tokens,
                "reliability": rounded(facts.score.reliability),
                "latency_ms": facts.score.latency.map(|spread| rounded(spread.median())),
                "ms_per_token": facts.score.pace.map(|spread| rounded(spread.median())),
                "state": facts.score.standing.name(),
                "is_behind": facts.is_behind,
            }))
        })
        .collect();
    let removed: Vec<Value> = plan.removed.iter().take(most).map(|removed| json!(removed)).collect();
    json!({
        "mode": plan.mode,
        "seed": plan.seed.to_string(),
        "candidate_count": plan.candidates.len(),
        "candidates": candidates,
        "removed_count": plan.removed.len(),
        "removed": removed,
    })
}

/// Four digits after the point are enough for people, and for telling candidates apart.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}
