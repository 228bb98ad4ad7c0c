//! The smallest change that would let somebody serve: the answer to "and what now?" where every offer was removed.
//!
//! A removal is lifted where all rules that remove the offer are. A change of the request costs least, one of the
//! workspace or key more, one of the gateway most; rules that nobody can lift (no price, retired) rule an offer out.

use serde_json::{Value, json};

use crate::routing::filter::{NARROWED, Removed, Rule};

/// Who can make a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Request,
    Workspace,
    Operator,
    Nobody,
}

impl By {
    const fn name(self) -> &'static str {
        match self {
            By::Request => "request",
            By::Workspace => "workspace",
            By::Operator => "operator",
            By::Nobody => "nobody",
        }
    }

    /// What a change by them weighs; the sum decides.
    const fn weight(self) -> Option<u32> {
        match self {
            By::Request => Some(1),
            By::Workspace => Some(10),
            By::Operator => Some(100),
            By::Nobody => None,
        }
    }
}

/// Who lifts a rule, in which field, and how.
const fn lifting(rule: Rule) -> (By, &'static str, &'static str) {
    match rule {
        Rule::Unsupported => (By::Nobody, "", ""),
        Rule::Retired => (By::Nobody, "", ""),
        Rule::Unavailable => (By::Nobody, "", ""),
        Rule::NoPrice => (By::Nobody, "", ""),
        Rule::Channel => (By::Workspace, "channel", "open the channel of this offer in the workspace"),
        Rule::SwitchedOff => (By::Operator, "", "switch the provider on again"),
        Rule::NoCredential => (By::Operator, "", "set the provider's secret"),
        Rule::OwnKeyOnly => (By::Workspace, "fallback_to_credits", "let credits pay where own credentials fail"),
        Rule::Pinned => (By::Request, "model", "leave the `provider:` in front of the name out"),
        Rule::ModelNotAllowed => (By::Workspace, "allowed_models", "allow this key the model"),
        Rule::NotFree => (By::Request, "model", "leave `:free` out of the name"),
        Rule::Capability => (By::Request, "messages", "leave out what needs this capability"),
        Rule::ContextLength => (By::Request, "messages", "shorten the prompt to what fits this context"),
        Rule::NotInList => (By::Request, "provider.only", "name this provider in `only` (or in `order`)"),
        Rule::Ignored => (By::Request, "provider.ignore", "take this provider out of `ignore`"),
        Rule::Privacy => (By::Request, "provider.data_collection", "allow providers that may keep or train on prompts"),
        Rule::Region => (By::Request, "provider.regions", "add one of this offer's regions"),
        Rule::Quantization => (By::Request, "provider.quantizations", "add this offer's precision, or any"),
        Rule::MaxPrice => (By::Request, "provider.max_price", "raise the ceiling for this meter"),
        Rule::Parameter => (By::Request, "provider.require_parameters", "leave this parameter out, or the requirement"),
    }
}

/// The same for a rule that workspace or preset make.
fn lifting_of(rule: Rule, detail: Option<&str>) -> (By, &'static str, &'static str) {
    match detail {
        Some(NARROWED) => (By::Workspace, "routing", "widen the workspace's routing settings or the preset"),
        _ => lifting(rule),
    }
}

/// All rules that remove an offer.
fn causes(removed: &Removed) -> impl Iterator<Item = (Rule, Option<&str>)> {
    let also = removed.also.iter().map(|cause| (cause.rule, cause.detail.as_deref()));
    std::iter::once((removed.rule, removed.detail.as_deref())).chain(also)
}

/// Whether no change of the request, the key or the workspace can lift the rule.
pub fn is_out_of_reach(rule: Rule) -> bool {
    matches!(lifting(rule).0, By::Nobody | By::Operator)
}

fn weight(removed: &Removed) -> Option<u32> {
    let weights = causes(removed).map(|(rule, detail)| lifting_of(rule, detail).0.weight());
    weights.into_iter().try_fold(0_u32, |sum, weight| Some(sum.saturating_add(weight?)))
}

/// The change, and whom it would bring back; `None` where nothing helps.
pub fn smallest(removed: &[Removed]) -> Option<Value> {
    let (_, one) = removed.iter().filter_map(|one| Some((weight(one)?, one))).min_by_key(|(weight, _)| *weight)?;
    let changes: Vec<Value> = causes(one)
        .map(|(rule, detail)| {
            let (by, field, how) = lifting_of(rule, detail);
            let field = Some(field).filter(|field| !field.is_empty());
            json!({"rule": rule, "detail": detail, "by": by.name(), "field": field, "how": how})
        })
        .collect();
    let is_alike = |other: &&Removed| other.model == one.model && causes(other).eq(causes(one));
    let providers: Vec<&str> = removed.iter().filter(is_alike).map(|other| other.provider.as_str()).collect();
    Some(json!({"model": one.model, "providers": providers, "changes": changes}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::filter::Cause;

    fn removed(provider: &str, rule: Rule, also: &[Rule]) -> Removed {
        let also = also.iter().map(|rule| Cause { rule: *rule, detail: None }).collect();
        Removed { provider: provider.to_owned(), model: "org/m".to_owned(), rule, detail: None, also }
    }

    #[test]
    fn the_change_with_the_least_effort_is_named_with_whom_it_brings_back() {
        let all = [
            removed("a", Rule::NoPrice, &[Rule::Ignored]),
            removed("b", Rule::NoCredential, &[]),
            removed("c", Rule::Ignored, &[Rule::MaxPrice]),
            removed("d", Rule::Ignored, &[]),
            removed("e", Rule::Ignored, &[]),
            removed("f", Rule::Channel, &[]),
        ];
        let change = smallest(&all).unwrap();
        assert_eq!(change["providers"], json!(["d", "e"]));
        assert_eq!(change["changes"][0]["field"], json!("provider.ignore"));
        let change = smallest(&all[1..3]).unwrap();
        assert_eq!(
            (change["providers"][0].as_str(), change["changes"][1]["rule"].as_str()),
            (Some("c"), Some("max_price"))
        );
        assert_eq!(smallest(&all[1..2]).unwrap()["changes"][0]["by"], json!("operator"));
        assert_eq!(smallest(&all[..1]), None);
        let own = removed("a", Rule::Privacy, &[]);
        let narrowed = Removed { detail: Some(NARROWED.to_owned()), ..own.clone() };
        let by = |one: Removed| smallest(&[one]).unwrap()["changes"][0]["by"].clone();
        assert_eq!((by(own), by(narrowed)), (json!("request"), json!("workspace")));
    }
}
