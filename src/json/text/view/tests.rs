use proptest::prelude::*;

use super::*;

#[test]
fn values_are_found_where_they_stand() {
    let node = Node::parse(r#" {"a" : 1.50 , "b":[1,{"c":"x]}\"\\"},[]],"d":null,"e":true,"n":12.0} "#).unwrap();
    assert_eq!(node.get("a").map(Node::raw), Some("1.50"));
    assert_eq!(
        node.get("b").map(|b| b.items().map(Node::raw).collect::<Vec<_>>()).unwrap(),
        ["1", r#"{"c":"x]}\"\\"}"#, "[]"]
    );
    assert_eq!(node.get("b").unwrap().items().nth(1).unwrap().text_at("c").unwrap(), r#"x]}"\"#);
    assert_eq!(
        (node.get("d"), node.bool_at("e"), node.u64_at("n"), node.u64_at("a")),
        (None, Some(true), Some(12), None)
    );
    assert_eq!(node.at(&["b", "c"]), None);
    assert_eq!(node.members().count(), 5);
    assert!(Node::parse("{").is_none() && Node::parse("{}x").is_none());
    assert_eq!(Node::of("{}").members().count() + Node::of("[ ]").items().count(), 0);
}

#[test]
fn half_a_pair_is_no_reason_to_lose_the_rest() {
    assert_eq!(Node::of(r#""a\ud83d\n\u00e9""#).text().unwrap(), "a\u{FFFD}\né");
    assert_eq!(Node::of(r#""\ud83d\ude00""#).text().unwrap(), "😀");
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn same(node: Node<'_>, value: &serde_json::Value) {
    match value {
        serde_json::Value::Array(list) => {
            let items: Vec<_> = node.items().collect();
            assert_eq!(items.len(), list.len());
            items.into_iter().zip(list).for_each(|(node, value)| same(node, value));
        }
        serde_json::Value::Object(map) => {
            assert_eq!(node.members().count(), map.len());
            node.members().for_each(|(name, node)| same(node, map.get(name.as_ref()).unwrap()));
        }
        serde_json::Value::String(text) => assert_eq!(node.text().unwrap(), text.as_str()),
        other => assert_eq!(node.raw(), other.to_string()),
    }
}

proptest! {
    #[test]
    fn a_view_says_what_a_tree_says(value in value()) {
        same(Node::parse(&value.to_string()).unwrap(), &value);
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        same(Node::parse(&pretty).unwrap(), &value);
    }

    #[test]
    fn no_text_makes_it_panic(text in ".*") {
        let node = Node::of(&text);
        let _ = (node.members().count(), node.items().count(), node.text(), node.u64(), node.get("a"));
    }
}
