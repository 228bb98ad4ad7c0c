use serde_json::Value;

use super::*;
use crate::access::policy::{Limits, Policy};
use crate::catalog::Channel;
use crate::id::{KeyId, WorkspaceId};
use crate::text::request::{DataCollection, Need, Request};
use crate::time::Millis;

fn entry() -> Rc<ModelEntry> {
    let provider = |id: &str, extra: Value| {
        let mut base = json!({"id": id, "name": id, "base_url": "http://x", "families": ["openai-chat"],
            "auth": {"header": "Authorization", "prefix": "Bearer "}, "regions": ["us"]});
        base.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        base
    };
    let offer = |id: &str, input: i64, extra: Value| {
        let mut base = json!({"provider": id, "upstream": "u", "kind": "chat", "is_free": false, "context": 1000,
            "card": {"as_of": "2026-11-25", "disputed": false, "prices": {"input_tokens": input, "output_tokens": input}, "rules": []}});
        base.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        base
    };
    let private =
        json!({"data_policy": {"trains_on_api_data": "no", "retention_days": 0, "zero_retention": "default"}});
    let value = json!({
        "id": "org/m", "name": "M", "organisation": "org", "kind": "chat", "input": ["text"], "output": ["text"], "created": 0,
        "capabilities": {},
        "providers": {"cheap": provider("cheap", json!({})), "dear": provider("dear", private), "locked": provider("locked", json!({"key_env": "LOCKED_KEY"}))},
        "offers": [offer("dear", 9_000_000, json!({"can": ["vision", "tools"]})), offer("cheap", 1_000_000, json!({"can": ["structured_output"]})), offer("locked", 1, json!({}))],
    });
    Rc::new(ModelEntry::parse(value.to_string().as_bytes()).unwrap())
}

fn planned(change: impl Fn(&mut Request), pinned: Option<&str>) -> Plan {
    let mut request = Request { models: vec!["org/m".to_owned()], ..Request::default() };
    request.demand.choices = 1;
    change(&mut request);
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
        has_secret: &|_| false,
        slots: &|_| crate::attempt::pool::Slots::default(),
        own: &[],
        fallback_to_credits: false,
        fee_basis_points: 0,
        work: None,
        narrowings: &[],
        channel: Channel::Stable,
        now: Millis(0),
    };
    let target = Target { entry: entry(), pinned: pinned.map(str::to_owned), suffix: None };
    let outlook = Outlook { board: &Board::default(), conversation: None, seed: 1 };
    plan(&[target], &conditions, &outlook)
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.candidates.iter().filter_map(|c| c.provider()).map(|p| p.id.as_str()).collect()
}

fn rule_of(plan: &Plan, id: &str) -> Option<Rule> {
    plan.removed.iter().find(|r| r.provider == id).map(|r| r.rule)
}

#[test]
fn candidates_in_order_and_removals_with_their_rule() {
    let plan = planned(|r| r.provider.sort = Some(Mode::Price), None);
    assert_eq!(ids(&plan), ["cheap", "dear"]);
    assert_eq!(rule_of(&plan, "locked"), Some(Rule::NoCredential));
}

#[test]
fn every_filter_names_itself() {
    let check = |change: &dyn Fn(&mut Request), id: &str, rule: Rule| {
        assert_eq!(rule_of(&planned(change, None), id), Some(rule), "{rule:?}");
    };
    check(&|r| r.provider.only = vec!["dear".into()], "cheap", Rule::NotInList);
    check(&|r| r.provider.ignore = vec!["dear".into()], "dear", Rule::Ignored);
    check(&|r| r.provider.data_collection = Some(DataCollection::Deny), "cheap", Rule::Privacy);
    check(&|r| r.provider.zdr = true, "cheap", Rule::Privacy);
    check(&|r| r.provider.regions = vec!["eu".into()], "cheap", Rule::Region);
    check(&|r| r.provider.max_price.prompt = Some(crate::money::Price(2_000_000)), "dear", Rule::MaxPrice);
    check(
        &|r| {
            let _ = r.needs.insert(Need::Vision);
        },
        "cheap",
        Rule::Capability,
    );
    check(&|r| r.demand.text_bytes = 1_000_000, "cheap", Rule::ContextLength);
    let order = |r: &mut Request| {
        r.provider.order = vec!["dear".into()];
        r.provider.allow_fallbacks = Some(false);
    };
    check(&order, "cheap", Rule::NotInList);
    assert_eq!(rule_of(&planned(|_| (), Some("dear")), "cheap"), Some(Rule::Pinned));
    assert_eq!(ids(&planned(|r| r.provider.zdr = true, None)), ["dear"]);
}

#[test]
fn the_requests_order_wins_over_price() {
    let plan = planned(
        |r| {
            r.provider.order = vec!["dear".into()];
            r.provider.sort = Some(Mode::Price);
        },
        None,
    );
    assert_eq!(ids(&plan), ["dear", "cheap"]);
}

#[test]
fn the_answer_when_nobody_is_left_follows_from_the_rules() {
    let code = |plan: &Plan| nobody("org/m", &plan.removed).code;
    assert_eq!(code(&planned(|r| r.provider.only = vec!["none".into()], None)), Code::NoEligibleProvider);
    assert_eq!(code(&planned(|r| r.provider.regions = vec!["eu".into()], None)), Code::NoEligibleProvider);
    assert_eq!(code(&planned(|r| r.demand.text_bytes = 1_000_000, None)), Code::ContextLengthExceeded);
    let failure = nobody("org/m", &planned(|r| r.provider.only = vec!["none".into()], None).removed);
    assert_eq!(failure.details.unwrap()["removed"].as_array().unwrap().len(), 3);
}

#[test]
fn a_tier_that_the_card_does_not_price_is_no_bargain() {
    let asked = |tier: &str| planned(|request| request.terms.service_tier = Some(tier.to_owned()), None);
    assert!(!asked("auto").candidates.is_empty());
    let plan = asked("flex");
    assert!(plan.candidates.is_empty());
    let detail = Some("service_tier flex".to_owned());
    assert!(plan.removed.iter().any(|removed| removed.rule == Rule::NoPrice && removed.detail == detail));
}
