//! The project's own catalog, a private one beside it, and every mistake that a catalog file can have.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use ai_stats_gateway::catalog::{
    Effective, ModelEntry, ModelName, Provider, Situation, Snapshot, Source, Status, Support, Training, compile,
    doubts, model_key,
};
use ai_stats_gateway::dialect::Dialect;
use ai_stats_gateway::family::quirk::Quirk;
use ai_stats_gateway::money::Price;
use ai_stats_gateway::routing::filter::family_of;
use ai_stats_gateway::time::Millis;
use ai_stats_gateway::usage::Meter;
use serde_json::{Value, json};

/// The files of the project's catalog.
fn own() -> Vec<Source> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog");
    let mut sources = Vec::new();
    for part in ["providers", "models"] {
        for file in fs::read_dir(folder.join(part)).unwrap() {
            let path = file.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            sources.push(Source { path: format!("catalog/{part}/{}", path.file_name().unwrap().display()), text });
        }
    }
    sources
}

/// The project's catalog, compiled once for all tests.
static OWN: LazyLock<Snapshot> = LazyLock::new(|| compiled(&own()));

/// Its models, each once.
fn own_models() -> impl Iterator<Item = ModelEntry> {
    let names = OWN.pairs().into_iter().filter(|(key, _)| key.starts_with(&model_key(&OWN.id, "")));
    names.filter_map(|(key, value)| {
        let entry = ModelEntry::parse(value.as_bytes()).unwrap();
        (key == model_key(&OWN.id, &entry.id)).then_some(entry)
    })
}

fn source(path: &str, content: &Value) -> Source {
    Source { path: path.into(), text: serde_json::to_string_pretty(content).unwrap() }
}

fn entry(snapshot: &Snapshot, name: &str) -> ModelEntry {
    ModelEntry::parse(snapshot.entry(name).unwrap_or_else(|| panic!("no {name}")).as_bytes()).unwrap()
}

fn compiled(sources: &[Source]) -> Snapshot {
    compile(sources).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

#[test]
fn there_is_every_model_that_a_request_without_one_or_an_example_means() {
    let interface = include_str!("../src/openapi/api.txt");
    let examples = interface.split(['{', ',']).filter_map(|member| {
        let (name, value) = member.split_once(": ")?;
        let is_model = matches!(name.trim(), "\"model\"" | "\"model_id\"");
        is_model.then(|| value.trim_start_matches('"').split('"').next().unwrap_or_default())
    });
    let names: Vec<&str> = examples.chain([ai_stats_gateway::media::moderation::DEFAULT_MODEL, "sora-2"]).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(OWN.entry(name).is_some(), "{name}");
    }
}

#[test]
fn every_chat_offer_is_of_a_family_that_is_spoken_or_says_that_it_is_not() {
    let mut spoken = BTreeMap::new();
    for model in own_models() {
        for offer in &model.offers {
            let provider = model.provider_of(offer).unwrap();
            if offer.kind != "chat" || offer.standing.support == Support::Unsupported {
                continue;
            }
            let family = family_of(Dialect::Chat, offer, provider);
            assert!(family.is_some(), "{}:{} speaks {:?}", provider.id, offer.upstream, provider.families);
            *spoken.entry(family.map(|family| family.name())).or_insert(0) += 1;
        }
    }
    assert!(spoken.contains_key(&Some("watsonx")), "{spoken:?}");
}

#[test]
fn the_own_catalog_has_no_problems() {
    let snapshot = &*OWN;
    assert_eq!(doubts(&own()), []);
    let counts = snapshot.counts;
    assert!(counts.providers >= 85 && counts.offers >= 4_000 && counts.models >= 1_000, "{counts:?}");
    let mut largest = 0;
    for (key, value) in snapshot.pairs() {
        assert!(key.len() <= 512, "{key}");
        if key.starts_with(&model_key(&snapshot.id, "")) {
            largest = largest.max(value.len());
            let name = key.strip_prefix(&model_key(&snapshot.id, "")).unwrap();
            assert_eq!(ModelName::parse(name).unwrap().model.as_deref(), Some(name));
        }
    }
    assert_eq!(own_models().count(), counts.models);
    assert!(largest < 64 * 1024, "a model's value is read on the request path and must stay small: {largest}");
}

#[test]
fn the_own_catalog_prices_what_it_offers() {
    for entry in own_models() {
        for offer in entry.offers {
            let named = format!("{} at {}", offer.upstream, offer.provider);
            assert!(!offer.card.prices.is_empty(), "{named}: no price at all");
            assert!(
                !offer.is_free || offer.card.prices.values().all(|price| *price == Price(0)),
                "{named}: free at a price"
            );
            assert!(!offer.card.as_of.is_empty(), "{named}: prices without a date");
        }
    }
}

#[test]
fn every_chat_provider_but_openai_declares_what_it_does_not_take() {
    let speaks_chat = |provider: &Provider| provider.families.first().is_some_and(|family| family == "openai-chat");
    let providers = own_models().flat_map(|entry| entry.providers).filter(|(_, provider)| speaks_chat(provider));
    let mut quirks: BTreeMap<String, Vec<Quirk>> = providers.map(|(id, provider)| (id, provider.quirks)).collect();
    assert_eq!(quirks.remove("openai"), Some(vec![Quirk::TakesFreeText]));
    for (id, quirks) in &quirks {
        assert!(quirks.contains(&Quirk::DeveloperAsSystem), "{id}");
        let is_store =
            |quirk: &Quirk| matches!(quirk, Quirk::Drop(fields) if fields.iter().any(|name| name == "store"));
        assert!(quirks.iter().any(is_store), "{id}");
    }
    for (id, quirk) in [
        ("xai", Quirk::ReasoningOutsideOutput),
        ("deepinfra", Quirk::ReasoningSometimesOutsideOutput),
        ("minimax", Quirk::BaseResp),
        ("groq", Quirk::NoMessageName),
    ] {
        assert!(quirks[id].contains(&quirk), "{id}");
    }
}

#[test]
fn own_rules_price_known_calls() {
    let check = |model: &str, provider: &str, upstream: &str, situation: Situation<'_>, expected: &[(Meter, &str)]| {
        let entry = entry(&OWN, model);
        let offer = entry.offers.iter().find(|offer| offer.provider == provider && offer.upstream == upstream);
        let Effective { prices, .. } = offer.unwrap().card.at(&situation).unwrap();
        for (meter, dollars) in expected {
            assert_eq!(prices[meter].to_dollars(meter.per()), *dollars, "{model} {situation:?} {}", meter.name());
        }
    };
    use Meter::*;
    let at = |moment: &str| Millis::from_rfc3339(moment).unwrap();
    let plain = Situation::default();
    let long = Situation { prompt_tokens: 272_001, ..plain };
    let gpt = |situation, expected: &[(Meter, &str)]| check("openai/gpt-5.4", "openai", "gpt-5.4", situation, expected);
    gpt(plain, &[(InputTokens, "2.5"), (OutputTokens, "15"), (CacheReadTokens, "0.25")]);
    gpt(long, &[(InputTokens, "5"), (OutputTokens, "22.5"), (CacheReadTokens, "0.5"), (WebSearches, "0.01")]);
    gpt(Situation { service_tier: Some("flex"), ..plain }, &[(InputTokens, "1.25"), (CacheReadTokens, "0.13")]);
    gpt(Situation { service_tier: Some("flex"), ..long }, &[(InputTokens, "2.5"), (OutputTokens, "11.25")]);
    gpt(Situation { region: Some("eu"), ..long }, &[(InputTokens, "5.5"), (OutputTokens, "24.75")]);
    let deepseek = |moment: &str, expected: &[(Meter, &str)]| {
        let situation = Situation { now: at(moment), ..plain };
        check("deepseek/deepseek-v4-flash", "deepseek", "deepseek-v4-flash", situation, expected);
    };
    deepseek("2026-11-25T02:00:00Z", &[(InputTokens, "0.3"), (OutputTokens, "1.2")]); // a Wednesday's peak
    deepseek("2026-11-25T05:00:00Z", &[(InputTokens, "0.15"), (CacheReadTokens, "0.003"), (CacheWriteTokens, "0")]);
    deepseek("2026-11-29T02:00:00Z", &[(InputTokens, "0.15"), (OutputTokens, "0.6")]); // a Sunday
}

#[test]
fn a_bound_covers_every_situation_of_every_own_offer() {
    for entry in own_models() {
        for offer in entry.offers.iter().filter(|offer| !offer.card.rules.is_empty()) {
            let bound = offer.card.dearest(300_000);
            for prompt_tokens in [0, 130_000, 300_000] {
                for service_tier in [None, Some("flex"), Some("priority"), Some("batch"), Some("ultrafast")] {
                    for region in [None, Some("eu"), Some("us")] {
                        let situation = Situation { prompt_tokens, service_tier, region, ..Situation::default() };
                        for (meter, price) in offer.card.at(&situation).unwrap().prices {
                            assert!(price <= bound[&meter], "{} at {} {situation:?}", offer.upstream, offer.provider);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_private_provider_is_a_small_file() {
    let private = json!({"id": "acme", "base_url": "http://127.0.0.1:8000/v1", "offers": [
        {"model": "openai/gpt-5.4", "upstream": "local", "prices": {"input_tokens": "0.1", "output_tokens": "0.2"}},
    ]});
    let mut sources = own();
    sources.push(source("/etc/private/providers/acme.json", &private));
    let entry = entry(&compiled(&sources), "gpt-5.4");
    let provider = &entry.providers["acme"];
    assert_eq!((provider.name.as_str(), provider.families.as_slice()), ("acme", ["openai-chat".to_owned()].as_slice()));
    assert_eq!((provider.auth.header.as_str(), provider.auth.prefix.as_str()), ("Authorization", "Bearer "));
    assert_eq!((provider.key_env.as_deref(), provider.data_policy.as_ref()), (None, None));
    let offer = entry.offers.iter().find(|offer| offer.provider == "acme").unwrap();
    assert_eq!((offer.kind.as_str(), offer.is_free), ("chat", false));
    assert_eq!(offer.card.prices[&Meter::InputTokens], Price(100_000_000));
}

#[test]
fn the_same_content_has_the_same_id_and_another_price_another() {
    let sources = own();
    let first = &*OWN;
    assert_eq!(*first, compiled(&sources));
    let mut dearer = sources;
    let file = dearer.iter_mut().find(|source| source.path.ends_with("/openai.json") && source.path.contains("prov"));
    let file = file.unwrap();
    let changed = file.text.replacen(r#""input_tokens": "2.5""#, r#""input_tokens": "2.51""#, 1);
    assert_ne!(changed, file.text);
    file.text = changed;
    assert_ne!(compiled(&dearer).id, first.id);
}

/// A whole, right catalog of two files: the provider's and the models'.
fn small() -> (Value, Value) {
    (
        json!({"id": "p", "name": "P", "base_url": "https://p.example/v1", "families": ["openai-chat"],
        "auth": {"header": "x-key", "prefix": "", "extra_headers": {"x-version": "1"}}, "key_env": "P_KEY",
        "data_policy": {"trains_on_api_data": "no", "retention_days": null, "zero_retention": "default"},
        "quirks": ["base_resp", {"drop": ["store"]}], "as_of": "2026-11-01",
        "offers": [
            {"model": "acme/one", "upstream": "one", "also": ["uno"], "context": 8192, "max_output": 1024,
             "limits": {"rpm": 10}, "can": ["tools"], "prices": {"input_tokens": "0.5", "output_tokens": "1"},
             "rules": [{"when": {"input_tokens_over": 100}, "prices": {"input_tokens": "1"}},
                       {"when": {"region": "eu"}, "multiplier": "1.1"}],
             "status": "preview", "retires": "2027-01", "sources": ["own"], "disputed": true},
            {"model": "acme/one", "upstream": "one-free", "variant": "free", "free": true},
            {"model": "acme/one", "upstream": "one-trial", "free": "trial", "prices": {"input_tokens": "3"}},
        ]}),
        json!({"organisation": {"id": "acme", "name": "Acme", "country": "DE"}, "models": [
            {"id": "acme/one", "name": "One", "aliases": ["acme/uno"], "released": "2026-01-02",
             "capabilities": {"tools": true}, "reasoning_controls": {"effort": ["low"]}},
            {"id": "acme/two"},
        ]}),
    )
}

#[test]
fn a_file_means_what_it_says() {
    let (provider, models) = small();
    let snapshot = compiled(&[source("c/providers/p.json", &provider), source("c/models/acme.json", &models)]);
    let entry = entry(&snapshot, "acme/uno");
    assert_eq!((entry.id.as_str(), entry.created), ("acme/one", 1_767_312_000));
    assert_eq!(entry.providers["p"].data_policy.as_ref().unwrap().trains_on_api_data, Training::No);
    assert_eq!(entry.providers["p"].auth.extra_headers["x-version"], "1");
    let [priced, free, trial] = entry.offers.as_slice() else { panic!("{:?}", entry.offers) };
    assert_eq!((priced.card.as_of.as_str(), priced.card.disputed, priced.card.rules.len()), ("2026-11-01", true, 2));
    assert_eq!((priced.standing.status, priced.retires.as_deref()), (Status::Preview, Some("2027-01")));
    let zero = BTreeMap::from([(Meter::InputTokens, Price(0)), (Meter::OutputTokens, Price(0))]);
    assert_eq!((free.is_free, &free.card.prices), (true, &zero));
    // A trial is not free, and the price that is not stated stays unknown.
    assert_eq!((trial.is_free, trial.card.prices.get(&Meter::OutputTokens)), (false, None));
}

/// Sets the member at a JSON pointer; the last part may be new.
fn set(value: &mut Value, pointer: &str, to: Value) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match value.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = to,
        Value::Object(members) => drop(members.insert(last.to_owned(), to)),
        other => panic!("{other}"),
    }
}

#[test]
fn every_mistake_is_found_in_its_file() {
    let provider_mistakes = [
        ("/nme", json!("P"), "nme: unknown field `nme`"),
        ("/id", json!("P!"), "id: \"P!\" is not an id"),
        ("/id", json!(""), "id: \"\" is not an id"),
        ("/id", json!(".p"), "is not an id"),
        ("/base_url", json!("ftp://p.example"), "base_url: \"ftp://p.example\" is not an http(s) URL"),
        ("/base_url", json!("https://p.example/"), "is not an http(s) URL"),
        ("/base_url", json!("https://"), "is not an http(s) URL"),
        ("/base_url", json!("https://{account}.example"), "{account}: no variable of that name"),
        ("/query", json!({"v": "{version}"}), "{version}: no variable of that name"),
        ("/variables", json!({"account": {"env": "account"}}), "variables.account.env: \"account\" is not the name"),
        ("/auth/scheme", json!("basic"), "auth.scheme: unknown variant `basic`"),
        ("/base_url", json!("https://me@p.example"), "is not an http(s) URL"),
        ("/key_env", json!("p_key"), "key_env: \"p_key\" is not the name of a secret"),
        ("/key_env", json!("1KEY"), "is not the name of a secret"),
        ("/auth/heder", json!("x"), "auth.heder: unknown field `heder`"),
        ("/data_policy/trains_on_api_data", json!("never"), "data_policy.trains_on_api_data: unknown variant `never`"),
        ("/quirks/0", json!("odd"), "quirks[0]: unknown variant `odd`"),
        ("/key_env", json!("OPERATOR_TOKEN"), "key_env: \"OPERATOR_TOKEN\" is not the name of a secret"),
        (
            "/variables",
            json!({"a": {"env": "BYOK_SECRETS"}}),
            "variables.a.env: \"BYOK_SECRETS\" is not the name of a secret",
        ),
        ("/auth", json!({"header": "x y"}), "auth: \"x y\" is not a header's name"),
        ("/auth", json!({"prefix": "a\n"}), "auth: \"a\\n\" cannot be sent in a header"),
        ("/auth", json!({"extra_headers": {"x:": "1"}}), "auth.extra_headers.x:: \"x:\" is not a header's name"),
        (
            "/auth",
            json!({"alternative": {"key_env": "KEY_HASH_SECRET", "header": "k"}}),
            "auth.alternative.key_env: \"KEY_HASH",
        ),
        ("/as_of", json!("yesterday"), "as_of: \"yesterday\" is not a date"),
        ("/offers/0/model", json!("acme/three"), "offers[0].model: no file describes acme/three"),
        ("/offers/0/model", json!("one"), "offers[0].model: \"one\" is not a model id"),
        ("/offers/0/model", json!("Acme/One"), "is not a model id"),
        ("/offers/0/upstream", json!(""), "offers[0].upstream: \"\" is not an upstream name"),
        ("/offers/0/kind", json!("chats"), "offers[0].kind: \"chats\" is not one of"),
        ("/offers/0/price", json!({}), "offers[0].price: unknown field `price`"),
        ("/offers/0/prices/input_token", json!("1"), "offers[0].prices"),
        ("/offers/0/prices/input_token", json!("1"), "unknown meter input_token"),
        ("/offers/0/prices/input_tokens", json!("1,5"), "input_tokens: \"1,5\": not a decimal number"),
        ("/offers/0/prices/input_tokens", json!("1e-3"), "not a decimal number"),
        ("/offers/0/prices/input_tokens", json!("0.0000000001"), "more digits after the point"),
        ("/offers/0/prices/input_tokens", json!("-1"), "may not be negative"),
        ("/offers/0/prices/input_tokens", json!(0.5), "expected a string"),
        ("/offers/0/prices", json!({}), "offers[0]: it has no prices and is not free"),
        ("/offers/1/free", json!(false), "offers[1]: it has no prices and is not free"),
        ("/offers/1/free", json!("yes"), "expected true or \"trial\""),
        ("/offers/1/prices", json!({"input_tokens": "1"}), "offers[1]: it is free, but input_tokens has a price"),
        ("/offers/0/rules/0/when", json!({}), "offers[0].rules[0]: a rule needs a condition"),
        ("/offers/0/rules/0/when/moon", json!("full"), "unknown field `moon`"),
        ("/offers/0/rules/0/prices", json!({}), "a rule needs either prices or a multiplier"),
        ("/offers/0/rules/1/prices", json!({"requests": "1"}), "a rule needs either prices or a multiplier"),
        ("/offers/0/rules/1/multiplier", json!("1.00001"), "is no factor"),
        ("/offers/0/rules/0/prices/tokens", json!("1"), "unknown meter tokens"),
        ("/offers/0/changes", json!([{"from": "soon", "prices": {"input_tokens": "1"}}]), "\"soon\" is not a moment"),
        ("/offers/0/changes", json!([{"from": "2026-12-01", "prices": {}}]), "new prices are needed"),
        ("/offers/0/changes", json!([{"from": "2026-12-01"}]), "missing field `prices`"),
        (
            "/offers/0/changes",
            json!([{"from": "2026-12-02", "prices": {"input_tokens": "1"}}, {"from": "2026-12-01", "prices": {"input_tokens": "1"}}]),
            "not in the order of their dates",
        ),
        ("/offers/2/upstream", json!("one"), "acme/one as one is offered twice"),
    ];
    let model_mistakes = [
        ("/model", json!([]), "model: unknown field `model`"),
        ("/organisation/id", json!("Acme"), "organisation.id: \"Acme\" is not an id"),
        ("/organisation/id", json!("bolt"), "models[0].id: acme/one is not a model of bolt"),
        ("/models/0/id", json!("acme"), "models[0].id: \"acme\" is not a model id"),
        ("/models/1/id", json!("acme/one"), "model acme/one is also in c/models/acme.json"),
        ("/models/1/aliases", json!(["acme/one"]), "alias acme/one is also a name of acme/one"),
        ("/models/1/aliases", json!(["acme/uno"]), "alias acme/uno is also a name of acme/one"),
        ("/models/1/aliases", json!(["a:b"]), "models[1].aliases: [\"a:b\"] is not a list of aliases"),
        ("/models/1/released", json!("2026-13"), "models[1].released: \"2026-13\" is not a date"),
        ("/models/1/kind", json!("text"), "models[1].kind: \"text\" is not one of"),
        ("/models/1/contxt", json!(1), "models[1].contxt: unknown field `contxt`"),
    ];
    let check = |file: &str, pointer: &str, provider: &Value, models: &Value, expected: &str| {
        let sources = [source("c/providers/p.json", provider), source("c/models/acme.json", models)];
        let problems = compile(&sources).err().unwrap_or_default();
        let found = problems.iter().any(|p| p.path == file && p.line.is_some() && p.message.contains(expected));
        assert!(found, "{pointer}: expected {expected:?} in {problems:?}");
    };
    for (pointer, to, expected) in provider_mistakes {
        let (mut provider, models) = small();
        set(&mut provider, pointer, to);
        check("c/providers/p.json", pointer, &provider, &models, expected);
    }
    for (pointer, to, expected) in model_mistakes {
        let (provider, mut models) = small();
        set(&mut models, pointer, to);
        check("c/models/acme.json", pointer, &provider, &models, expected);
    }
}

/// One offer or model that parses and cannot be so, and the rule that says it.
const SLIPS: &[(&str, &str)] = &[
    (r#""prices": {"input_tokens": "1", "output_tokens": "2", "cache_read_tokens": "1.5"}"#, "cache_read_over_input"),
    (
        r#""prices": {"input_tokens": "1", "output_tokens": "2", "cache_write_tokens": "4.5"}"#,
        "cache_write_far_over_input",
    ),
    (
        r#""prices": {"input_tokens": "1", "output_tokens": "2", "cache_write_tokens": "1.25", "cache_write_1h_tokens": "1"}"#,
        "cache_write_1h_below_5m",
    ),
    (r#""prices": {"input_tokens": "2", "output_tokens": "1"}"#, "output_below_input"),
    (r#""prices": {"input_tokens": "0.0000005", "output_tokens": "2"}"#, "price_too_low"), // per token
    (r#""prices": {"input_tokens": "0.5", "output_tokens": "2000"}"#, "price_too_high"),   // cents
    (r#""prices": {"input_tokens": "1", "output_tokens": "2", "web_searches": "10"}"#, "price_too_high"), // per thousand
    (r#""kind": "image", "prices": {"output_images": "0.0000003"}"#, "price_too_low"),
    (
        r#""prices": {"input_tokens": "1", "output_tokens": "2"}, "rules": [{"when": {"region": "eu"}, "prices": {"input_tokens": "25"}}]"#,
        "rule_far_from_base",
    ),
    (
        r#""prices": {"input_tokens": "1", "output_tokens": "2"}, "rules": [{"when": {"service_tier": "batch"}, "prices": {"input_tokens": "1.5"}}]"#,
        "batch_over_base",
    ),
    (
        r#""prices": {"input_tokens": "1", "output_tokens": "2"}, "rules": [{"when": {"service_tier": "priority"}, "prices": {"input_tokens": "0.5"}}]"#,
        "priority_below_base",
    ),
    (
        r#""prices": {"input_tokens": "1", "output_tokens": "2"}, "rules": [{"when": {"input_tokens_over": 200000}, "prices": {"output_tokens": "1.5"}}]"#,
        "long_prompt_below_base",
    ),
    (
        r#""prices": {"input_tokens": "1", "output_tokens": "2"}, "rules": [{"when": {"region": "eu"}, "multiplier": "1.1"}, {"when": {"region": "eu"}, "multiplier": "1.2"}]"#,
        "same_condition_twice",
    ),
    (
        r#""context": 8192, "max_output": 81920, "prices": {"input_tokens": "1", "output_tokens": "2"}"#,
        "max_output_over_context",
    ),
    (r#""context": 8, "prices": {"input_tokens": "1", "output_tokens": "2"}"#, "context_out_of_range"),
    (r#""variant": "free", "prices": {"input_tokens": "1", "output_tokens": "2"}"#, "free_variant_with_price"),
    (r#""kind": "speech", "prices": {"input_characters": "15"}"#, "kind_not_of_model"),
];

#[test]
fn what_cannot_be_so_is_found_on_its_line_unless_the_file_states_it() {
    let models = Source {
        path: "c/models/acme.json".into(),
        text: "{\"organisation\": {\"id\": \"acme\"}, \"models\": [\n  {\"id\": \"acme/one\", \"kinds\": [\"chat\", \"image\"]}]}".into(),
    };
    let with = |offer: &str| Source {
        path: "c/providers/p.json".into(),
        text: format!(
            "{{\n\"id\": \"p\", \"base_url\": \"https://p.example\",\n\"offers\": [\n{{\"model\": \"acme/one\", \"upstream\": \"a\", \"free\": true}},\n{{\"model\": \"acme/one\", \"upstream\": \"b\", {offer}}}]}}"
        ),
    };
    for (offer, rule) in SLIPS {
        let files = [with(offer), models.clone()];
        assert!(compile(&files).is_ok(), "{offer}");
        let problems = doubts(&files);
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let [one] = told.as_slice() else { panic!("{offer}: {told:?}") };
        assert!(one.starts_with("c/providers/p.json:5: offers[1] acme/one: ") && one.contains(rule), "{one}");
        let stated = format!("{offer}, \"odd\": [\"{rule}\"]");
        assert_eq!(doubts(&[with(&stated), models.clone()]), [], "{stated}");
    }
    let idle = doubts(&[
        with(r#""prices": {"input_tokens": "1", "output_tokens": "2"}, "odd": ["price_too_low", "cheap"]"#),
        models,
    ]);
    let told: Vec<String> = idle.iter().map(|problem| problem.message.clone()).collect();
    assert!(told.iter().any(|one| one.contains("price_too_low is stated, and nothing of the kind")), "{told:?}");
    assert!(told.iter().any(|one| one.contains("odd: cheap is not one of")), "{told:?}");
}

#[test]
fn a_model_that_cannot_be_so_and_a_word_that_nobody_knows_are_found_on_their_line() {
    let provider = Source {
        path: "c/providers/p.json".into(),
        text: r#"{"id": "p", "base_url": "https://p.example", "offers": [{"model": "acme/one", "upstream": "a", "free": true}]}"#.into(),
    };
    for (model, expected) in [
        (r#""context": 1000, "max_output": 2000"#, "max_output_over_context"),
        (r#""context": 99000000000"#, "context_out_of_range"),
        (r#""released": "2026-05", "retires": "2025-05""#, "retires_before_release"),
        (r#""input": ["txt"]"#, "input: \"txt\" is not one of"),
        (r#""kinds": ["chats"]"#, "kinds: \"chats\" is not one of"),
        (r#""capabilities": {"tool": true}"#, "capabilities: \"tool\" is not one of"),
    ] {
        let text = format!(
            "{{\"organisation\": {{\"id\": \"acme\"}}, \"models\": [\n{{\"id\": \"acme/one\"}},\n{{\"id\": \"acme/two\", {model}}}]}}"
        );
        let models = Source { path: "c/models/acme.json".into(), text };
        let problems = doubts(&[provider.clone(), models]);
        let [one] = problems.as_slice() else { panic!("{model}: {problems:?}") };
        assert!(one.line == Some(3) && one.path == "c/models/acme.json" && one.message.contains(expected), "{one}");
    }
    for (member, expected) in [
        (r#""families": ["openai"]"#, "families: \"openai\" is not one of"),
        (r#""family_base_urls": {"grpc": "https://a.b"}"#, "families: \"grpc\" is not one of"),
        (r#""endpoints": ["chats"]"#, "endpoints: \"chats\" is not one of"),
        (r#""offers": [{"model": "acme/one", "upstream": "a", "free": true, "can": ["tool"]}]"#, "can: \"tool\""),
        (
            r#""offers": [{"model": "acme/one", "upstream": "a", "free": true, "family": "grpc"}]"#,
            "family: \"grpc\" is not one of",
        ),
        (
            r#""offers": [{"model": "acme/one", "upstream": "a", "free": true, "channel": "gamma"}]"#,
            "offers[0].channel: unknown variant",
        ),
        (
            r#""offers": [{"model": "acme/one", "upstream": "a", "free": true, "status": "old"}]"#,
            "offers[0].status: unknown variant",
        ),
    ] {
        let text = format!("{{\n\"id\": \"p\", \"base_url\": \"https://p.example\", {member}}}");
        let models = Source {
            path: "c/models/acme.json".into(),
            text: r#"{"organisation": {"id": "acme"}, "models": [{"id": "acme/one"}]}"#.into(),
        };
        let files = [Source { path: "c/providers/p.json".into(), text }, models];
        let problems: Vec<_> = compile(&files).err().unwrap_or_default().into_iter().chain(doubts(&files)).collect();
        let found = problems.iter().find(|one| one.message.contains(expected)).map(|one| (one.path.as_str(), one.line));
        assert_eq!(found, Some(("c/providers/p.json", Some(2))), "{member}: {problems:?}");
    }
}

#[test]
fn folders_merge_but_no_id_is_said_twice() {
    let (provider, models) = small();
    let base = [source("c/providers/p.json", &provider), source("c/models/acme.json", &models)];
    let with = |more: Source| compile(&[base.as_slice(), &[more]].concat());
    let again = with(source("x/providers/other.json", &provider)).unwrap_err();
    assert_eq!(again[0].message, "provider p is also in c/providers/p.json");
    let again = with(source("x/models/other.json", &models)).unwrap_err();
    assert_eq!((again.len(), again[0].message.as_str()), (2, "model acme/one is also in c/models/acme.json"));
    let more = json!({"organisation": {"id": "acme"}, "models": [{"id": "acme/more"}]});
    assert!(with(source("x/models/more.json", &more)).is_ok());
    let stray = with(source("x/notes.json", &more)).unwrap_err();
    assert_eq!(stray[0].to_string(), "x/notes.json: a catalog file lies in providers/ or models/");
    let torn = with(Source { path: "x/providers/t.json".into(), text: "{\n\"id\": \"t\",\n".into() }).unwrap_err();
    assert_eq!((torn[0].path.as_str(), torn[0].line), ("x/providers/t.json", Some(3)));
    assert_eq!(compile(&[]).unwrap_err()[0].message, "no file holds an offer");
}

#[test]
fn one_mistake_does_not_hide_the_next_and_each_has_its_line() {
    let text = r#"{
  "id": "p", "base_url": "https://p.example",
  "offers": [
    {"model": "acme/one", "upstream": "a", "prices": {"input_tokens": "x"}},
    {"model": "acme/one", "upstream": "b",
     "prices": {"input_token": "1"}},
    {"model": "acme/none", "upstream": "c", "prices": {"input_tokens": "1"}}
  ]
}"#;
    let (_, models) = small();
    let provider = Source { path: "c/providers/p.json".into(), text: text.into() };
    let problems = compile(&[provider, source("c/models/acme.json", &models)]).unwrap_err();
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "c/providers/p.json:4: offers[0].prices: input_tokens: \"x\": not a decimal number of dollars",
            "c/providers/p.json:6: offers[1].prices: unknown meter input_token",
            "c/providers/p.json:7: offers[2].model: no file describes acme/none",
        ]
    );
}
