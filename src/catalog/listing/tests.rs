use serde_json::{Value, json};

use super::super::snapshot::Source;
use super::super::{Snapshot, compile, list_key, rows_key};
use super::Row;

fn source(path: &str, json: &Value) -> Source {
    Source { path: path.into(), text: json.to_string() }
}

/// Two models of a family at three providers, and one model of none.
fn snapshot() -> Snapshot {
    let models = json!({"organisation": {"id": "acme", "name": "Acme Labs"}, "models": [
        {"id": "acme/one", "name": "One", "family": "uno", "released": "2026-02-03", "open_weights": true, "context": 1000,
         "input": ["text", "image"], "aliases": ["acme/uno"],
         "capabilities": {"tools": true, "vision": false, "streaming": true, "parallel_tools": true}},
        {"id": "acme/two", "family": "uno", "kind": "embedding", "output": ["embedding"]},
        {"id": "acme/three"},
    ]});
    let p = json!({"id": "p", "name": "Pear", "base_url": "http://127.0.0.1:9", "as_of": "2026-11-01", "country": "DE",
    "role": "host", "regions": ["eu-west-1", "us-gov-east-1"],
    "data_policy": {"trains_on_api_data": "no", "retention_days": 0, "zero_retention": "default", "policy_page": "https://p.example"},
    "offers": [
        {"model": "acme/one", "upstream": "one", "prices": {"input_tokens": "0.5", "output_tokens": "2"},
         "rules": [{"when": {"input_tokens_over": 100}, "prices": {"input_tokens": "1"}}, {"when": {"region": "eu"}, "multiplier": "1.1"}],
         "can": ["reasoning"], "limits": {"rpm": 60}, "also": ["one-0"], "disputed": true, "sources": ["list"]},
        {"model": "acme/one", "upstream": "one-fast", "variant": "fast", "prices": {"input_tokens": "5", "output_tokens": "1"}, "status": "preview"},
        {"model": "acme/two", "upstream": "two", "kind": "embedding", "prices": {"input_tokens": "0.1"}},
    ]});
    let q = json!({"id": "q", "base_url": "http://127.0.0.1:9", "offers": [
        {"model": "acme/one", "upstream": "ONE", "free": true, "context": 5000, "regions": ["us"]},
        {"model": "acme/three", "upstream": "three|x", "prices": {"input_tokens": "9", "output_tokens": "9"}},
    ]});
    let files =
        [("catalog/models/acme.json", models), ("catalog/providers/p.json", p), ("catalog/providers/q.json", q)];
    let sources: Vec<Source> = files.iter().map(|(path, json)| source(path, json)).collect();
    compile(&sources).unwrap()
}

fn value(snapshot: &Snapshot, key: &str) -> String {
    let pairs = snapshot.pairs();
    pairs.into_iter().find(|(known, _)| *known == list_key(&snapshot.id, key)).unwrap_or_else(|| panic!("no {key}")).1
}

fn facets(row: &Row<'_>, name: &str) -> String {
    row.values(name).collect::<Vec<_>>().join(",")
}

#[test]
fn a_model_has_the_facets_of_its_offers_together() {
    let list = value(&snapshot(), "list/models");
    let rows: Vec<Row<'_>> = Row::all(&list).collect();
    assert_eq!(rows.iter().map(Row::id).collect::<Vec<_>>(), ["acme/one", "acme/three", "acme/two"]);
    let expected = [
        ("organisation", "acme"),
        ("family", "uno"),
        ("kind", "chat"),
        ("input", "text,image"),
        ("output", "text"),
        ("provider", "p,q"),
        // The model can use tools; one offer states what it can do, and that is reasoning alone.
        ("can", "parallel_tools,reasoning,streaming,tools"),
        ("status", "current,preview"),
        ("free", "yes"),
        ("open_weights", "yes"),
        ("created", "1770076800"),
        ("context", "1000"),
        // Free undercuts both others.
        ("prices", "0:0"),
        ("text", "one acme/one acme/uno acme labs"),
    ];
    for (name, values) in expected {
        assert_eq!(facets(&rows[0], name), values, "{name}");
    }
    // What is not known has no facet: it satisfies no filter.
    for name in ["family", "created", "context", "open_weights", "can"] {
        assert_eq!(rows[1].value(name), None, "{name}");
    }
    let shown: Value = serde_json::from_str(rows[0].json).unwrap();
    for (path, expected) in [
        ("/id", json!("acme/one")),
        ("/object", json!("model")),
        ("/created", json!(1_770_076_800)),
        ("/owned_by", json!("acme")),
        ("/released", json!("2026-02-03")),
        ("/context_length", json!(1000)),
        ("/max_output_tokens", json!(null)),
        ("/offer_count", json!(3)),
        ("/pricing/input_tokens", json!({"usd": "0", "per": 1_000_000})),
        (
            "/supported_parameters",
            json!([
                "max_completion_tokens",
                "max_tokens",
                "parallel_tool_calls",
                "reasoning_effort",
                "stream",
                "stream_options",
                "tool_choice",
                "tools"
            ]),
        ),
    ] {
        assert_eq!(shown.pointer(path), Some(&expected), "{path}");
    }
}

#[test]
fn an_offer_says_what_holds_for_it_alone() {
    let snapshot = snapshot();
    let list = value(&snapshot, "list/offers");
    let rows: Vec<Row<'_>> = Row::all(&list).collect();
    let ids: Vec<&str> = rows.iter().map(Row::id).collect();
    assert_eq!(ids, ["p:acme/one", "p:acme/one#2", "q:acme/one", "q:acme/three", "p:acme/two"]);
    for (at, name, values) in [
        (0, "can", "parallel_tools,reasoning,streaming"),
        (1, "can", "parallel_tools,streaming,tools"),
        (0, "region", "eu,eu-west-1,us-gov,us-gov-east-1"),
        (2, "region", "us"),
        (3, "region", ""),
        (0, "trains", "no"),
        (2, "trains", "unknown"),
        (0, "retention_days", "0"),
        (2, "retention_days", ""),
        (0, "prices", "500000000:2000000000"),
        (2, "prices", "0:0"),
        (4, "prices", "100000000:"),
        (1, "status", "preview"),
        (3, "upstream", "three x"),
    ] {
        assert_eq!(facets(&rows[at], name), values, "{} {name}", ids[at]);
    }
    let prices = value(&snapshot, "list/prices");
    let objects: Vec<Value> = prices.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.iter().map(|object| object["id"].as_str().unwrap()).collect::<Vec<_>>(), ids, "line by line");
    assert_eq!(objects[3]["upstream"], "three|x", "the object has it as it is");
    assert_eq!(
        objects[0]["price_rules"],
        json!([
            {"when": {"input_tokens_over": 100}, "pricing": {"input_tokens": {"usd": "1", "per": 1_000_000}}},
            {"when": {"region": "eu"}, "multiplier": "1.1"},
        ])
    );
}

#[test]
fn rows_of_one_thing_begin_with_it() {
    let snapshot = snapshot();
    let ids = |key: &str| Row::all(&value(&snapshot, key)).map(|row| row.id().to_owned()).collect::<Vec<_>>().join(" ");
    assert_eq!(ids("of/model/acme/one"), "acme/one p:acme/one p:acme/one#2 q:acme/one");
    assert_eq!(ids("of/family/uno"), "p:acme/one p:acme/one#2 q:acme/one p:acme/two");
    assert_eq!(ids("of/provider/p"), "p p:acme/one p:acme/one#2 p:acme/two");
    assert_eq!(ids("list/providers"), "p q");
    assert_eq!(rows_key("s", "model", "a/b"), "catalog/s/of/model/a/b");
    let rows = value(&snapshot, "of/model/acme/one");
    let offer = Row::all(&rows).nth(1).unwrap();
    let card: super::super::PriceCard = serde_json::from_str(offer.card).unwrap();
    assert_eq!((card.rules.len(), card.disputed), (2, true));
    let shown: Value = serde_json::from_str(&offer.full()).unwrap();
    assert_eq!(shown["data_policy"]["policy_page"], "https://p.example");
    assert_eq!(
        (&shown["limits"]["requests_per_minute"], &shown["limits"]["tokens_per_minute"]),
        (&json!(60), &json!(null))
    );
    assert_eq!((&shown["also_named"], &shown["price_sources"]), (&json!(["one-0"]), &json!(["list"])));
    let rows = value(&snapshot, "of/provider/p");
    let row = Row::all(&rows).next().unwrap();
    let provider: Value = serde_json::from_str(&row.full()).unwrap();
    assert!(row.json.contains(r#""data_policy":{"#) && !row.json.contains("features"), "a list shows less");
    for (path, expected) in [
        ("/role", json!("host")),
        ("/model_count", json!(2)),
        ("/offer_count", json!(3)),
        ("/features/kinds", json!({"chat": 2, "embedding": 1})),
        ("/features/capabilities/tools", json!(1)),
        ("/features/context_length_max", json!(1000)),
        ("/data_policy/zero_retention", json!("default")),
    ] {
        assert_eq!(provider.pointer(path), Some(&expected), "{path}");
    }
}

#[test]
fn words_are_all_that_a_filter_may_ask_for() {
    let words = value(&snapshot(), "words");
    for word in [
        "organisation=acme",
        "provider=q",
        "family=uno",
        "can=tools",
        "region=us-gov",
        "country=DE",
        "kind=ocr",
        "trains=may",
    ] {
        assert!(words.contains(&format!("|{word}|")), "{word}");
    }
    assert!(!words.contains("upstream=") && !words.contains("|can=vision|"));
}

#[test]
fn what_discovery_shows_is_a_part_of_the_content() {
    let with = |docs: &str| {
        let provider = json!({"id": "p", "base_url": "http://127.0.0.1:9", "docs": docs, "offers": [{"model": "a/b", "upstream": "b", "free": true}]});
        let models = json!({"organisation": {"id": "a"}, "models": [{"id": "a/b"}]});
        compile(&[source("providers/p.json", &provider), source("models/a.json", &models)]).unwrap().id
    };
    assert_ne!(with("https://one.example"), with("https://two.example"));
}
