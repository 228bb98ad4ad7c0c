use serde_json::json;

use super::*;
use crate::access::policy::Limits;
use crate::catalog::Channel;
use crate::id::{KeyId, WorkspaceId};

/// The rule that removes an offer of this standing for a workspace that has opened `channel`.
fn rule_of(offer: serde_json::Value, channel: Channel) -> Option<Rule> {
    let mut stated = json!({"provider": "p", "upstream": "u", "kind": "chat",
        "card": {"as_of": "2026-11-25", "prices": {"input_tokens": 1, "output_tokens": 1}}});
    stated.as_object_mut().unwrap().extend(offer.as_object().unwrap().clone());
    let model = json!({"id": "org/m", "name": "M", "organisation": "org", "kind": "chat", "input": ["text"], "output": ["text"],
        "created": 0, "offers": [stated], "providers": {"p": {"id": "p", "name": "P", "base_url": "http://x",
            "families": ["openai-chat"], "auth": {}}}});
    let model = ModelEntry::parse(model.to_string().as_bytes()).unwrap();
    let request = Request { models: vec!["org/m".to_owned()], ..Request::default() };
    let policy = Policy {
        key: KeyId::new(Millis(0), [0; 10]),
        workspace: WorkspaceId::new(Millis(0), [0; 10]),
        name: String::new(),
        hint: String::new(),
        expires_at: None,
        disabled: false,
        revoked: false,
        allowed_models: Vec::new(),
        limits: Limits::default(),
        created_at: Millis(0),
        ..Policy::default()
    };
    let conditions = Conditions {
        request: &request,
        policy: &policy,
        pinned: None,
        free_only: false,
        has_secret: &|_| true,
        slots: &|_| crate::attempt::pool::Slots::default(),
        own: &[],
        fallback_to_credits: false,
        fee_basis_points: 0,
        work: None,
        narrowings: &[],
        channel,
        now: Millis::from_rfc3339("2026-11-25T12:00:00Z").unwrap(),
    };
    let offer = &model.offers[0];
    check(&conditions, &model, offer, model.provider_of(offer).unwrap()).map(|(rule, _)| rule)
}

#[test]
fn an_offer_serves_only_where_all_five_axes_agree() {
    let standing = |axis: &str, value: &str| json!({"standing": {axis: value}});
    for (offer, expected) in [
        (json!({}), None),
        (standing("status", "preview"), None),
        (standing("status", "deprecated"), None),
        (standing("status", "retired"), Some(Rule::Retired)),
        (json!({"retires": "2026-11-25"}), Some(Rule::Retired)),
        (json!({"retires": "2026-11-26"}), None),
        (standing("availability", "limited"), None),
        (standing("availability", "closed"), Some(Rule::Unavailable)),
        (standing("support", "unsupported"), Some(Rule::Unsupported)),
        (standing("channel", "beta"), Some(Rule::Channel)),
        (standing("channel", "alpha"), Some(Rule::Channel)),
        (standing("routing", "last"), None),
        (standing("routing", "off"), Some(Rule::SwitchedOff)),
    ] {
        assert_eq!(rule_of(offer.clone(), Channel::Stable), expected, "{offer}");
    }
    assert_eq!(rule_of(standing("channel", "beta"), Channel::Beta), None);
    assert_eq!(rule_of(standing("channel", "alpha"), Channel::Beta), Some(Rule::Channel));
    assert_eq!(rule_of(standing("channel", "beta"), Channel::Alpha), None);
}

#[test]
fn what_a_card_is_silent_about_is_no_bargain() {
    let provider = serde_json::json!({"id": "p", "name": "P", "base_url": "https://p.example",
        "families": ["anthropic-messages"], "auth": {"header": "Authorization", "prefix": "Bearer "}});
    let offer = |more: serde_json::Value, rules: serde_json::Value| {
        let mut prices = serde_json::json!({"input_tokens": 1, "output_tokens": 1});
        prices.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::json!({"provider": "p", "upstream": "u", "kind": "chat", "card": {"as_of": "", "prices": prices, "rules": rules}})
    };
    let fast = serde_json::json!([{"when": {"speed": "fast"}, "effect": {"multiplier": 20_000}}]);
    let entry: ModelEntry = serde_json::from_value(serde_json::json!({
        "id": "a/b", "name": "B", "organisation": "a", "kind": "chat", "input": [], "output": [], "created": 0,
        "providers": {"p": provider}, "offers": [
            offer(serde_json::json!({"web_searches": 10}), serde_json::json!([])), offer(serde_json::json!({}), fast)],
    }))
    .unwrap();
    let provider = &entry.providers["p"];
    let mut request = Request::default();
    let searches =
        |request: &Request| entry.offers.iter().map(|o| unpriced_searches(request, &entry, o)).collect::<Vec<_>>();
    let speeds = |request: &Request| {
        entry.offers.iter().map(|o| unpriced_speed(request, o, provider).is_some()).collect::<Vec<_>>()
    };
    assert_eq!((searches(&request), speeds(&request)), (vec![false, false], vec![false, false]));
    request.demand.searches = true;
    request.terms.speed = Some("fast".to_owned());
    assert_eq!((searches(&request), speeds(&request)), (vec![false, true], vec![true, false]));
    request.terms.speed = Some("standard".to_owned());
    assert_eq!(speeds(&request), [false, false]);
}
