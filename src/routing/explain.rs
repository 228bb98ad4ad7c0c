//! Why a request went where it went: its candidates with their factors, and who was removed by which rule.
//!
//! The record is enough to replay the decision: the seed, and of each candidate the facts that the formula took.

use serde::Serialize;
use serde_json::Value;

use crate::json::Raw;
use crate::routing::filter::Removed;
use crate::routing::plan::{Candidate, Plan};
use crate::text::request::Mode;

/// Candidates told of in an activity row.
pub const ROW_CANDIDATES: usize = 5;
/// Candidates and removals told of in an answer that asked for it: headers have to stay small.
pub const ASKED_CANDIDATES: usize = 12;

#[derive(Serialize)]
struct Explanation<'a> {
    mode: Mode,
    seed: String,
    candidate_count: usize,
    candidates: Vec<Ranked<'a>>,
    removed_count: usize,
    removed: &'a [Removed],
}

#[derive(Serialize)]
struct Ranked<'a> {
    provider: &'a str,
    model: &'a str,
    upstream: &'a str,
    tier: &'static str,
    score: f64,
    factors: Factors,
    expected_nanos: i64,
    cached_tokens: u64,
    reliability: f64,
    latency_ms: Option<f64>,
    ms_per_token: Option<f64>,
    state: &'static str,
    is_behind: bool,
}

#[derive(Serialize)]
struct Factors {
    reliability: f64,
    price: f64,
    latency: f64,
    pace: f64,
    chance: f64,
}

/// The explanation of a plan, with at most so many candidates and removals; it says how many there were.
pub fn explain(plan: &Plan, most: usize) -> Value {
    serde_json::to_value(explanation(plan, most)).unwrap_or_default()
}

/// The same as text, for the record.
pub fn recorded(plan: &Plan, most: usize) -> Raw {
    Raw::of(&explanation(plan, most))
}

fn explanation(plan: &Plan, most: usize) -> Explanation<'_> {
    Explanation {
        mode: plan.mode,
        seed: plan.seed.to_string(),
        candidate_count: plan.candidates.len(),
        candidates: plan.candidates.iter().take(most).filter_map(ranked).collect(),
        removed_count: plan.removed.len(),
        removed: plan.removed.get(..most.min(plan.removed.len())).unwrap_or_default(),
    }
}

fn ranked(candidate: &Candidate) -> Option<Ranked<'_>> {
    let (offer, provider) = (candidate.offer()?, candidate.provider()?);
    let (facts, ranked) = (&candidate.facts, &candidate.ranked);
    let factors = &ranked.factors;
    Some(Ranked {
        provider: &provider.id,
        model: &candidate.model().id,
        upstream: &offer.upstream,
        tier: ranked.tier.name(),
        score: rounded(factors.score()),
        factors: Factors {
            reliability: rounded(factors.reliability.exp()),
            price: rounded(factors.price.exp()),
            latency: rounded(factors.latency.exp()),
            pace: rounded(factors.pace.exp()),
            chance: rounded(factors.chance.exp()),
        },
        expected_nanos: facts.price_nanos,
        cached_tokens: facts.cached_tokens,
        reliability: rounded(facts.score.reliability),
        latency_ms: facts.score.latency.map(|spread| rounded(spread.median())),
        ms_per_token: facts.score.pace.map(|spread| rounded(spread.median())),
        state: facts.score.standing.name(),
        is_behind: facts.is_behind,
    })
}

/// Four digits after the point are enough for people, and for telling candidates apart.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}
