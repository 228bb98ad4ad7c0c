//! The conformance table of text: what becomes of each feature on its way from a dialect to a family.
//!
//! Nothing here says so by itself: each request is really written twice, without the feature and with it, and what is
//! different in the family's request (or is named as dropped, or fails) is what the table tells.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::is_pass;
use crate::dialect::Dialect;
use crate::family::target::{Target, Traits};
use crate::family::{Family, openai_chat};

const DIALECTS: [(Dialect, &str); 3] = [(Dialect::Chat, "c"), (Dialect::Responses, "r"), (Dialect::Messages, "m")];

const FAMILIES: [Family; 14] = [
    Family::OpenAiChat,
    Family::AzureOpenAi,
    Family::Mistral,
    Family::VertexMistral,
    Family::OpenAiResponses,
    Family::Anthropic,
    Family::VertexAnthropic,
    Family::BedrockInvoke,
    Family::BedrockConverse,
    Family::Gemini,
    Family::VertexGemini,
    Family::Cohere,
    Family::Watsonx,
    Family::WorkersAi,
];

/// What only concerns a provider's own bookkeeping or speed may be left out without a word, and what is so anyway.
const MAY_BE_SILENT: &[&str] =
    &["cache mark", "`prompt_cache_key`", "`metadata`", "end user", "`store`", "tool choice: auto"];

/// A feature as each dialect asks for it: the members of a request without it, and those with it.
struct Feature {
    name: &'static str,
    asked: [Option<(Value, Value)>; 3],
}

fn nothing() -> Value {
    json!({})
}

/// Members that are simply added, the same in chat and responses where both have them.
fn added(name: &'static str, chat: Option<Value>, responses: Option<Value>, messages: Option<Value>) -> Feature {
    let with = |members: Option<Value>| members.map(|members| (nothing(), members));
    Feature { name, asked: [with(chat), with(responses), with(messages)] }
}

/// Parts added to what the user says.
fn said(name: &'static str, chat: Option<Value>, responses: Option<Value>, messages: Option<Value>) -> Feature {
    let turn = |list: &str, kind: &str, part: Option<Value>| {
        let text = |text: &str| json!({"type": kind, "text": text});
        let content = |parts: Vec<Value>| json!({list: [{"role": "user", "content": parts}]});
        part.map(|part| (content(vec![text("a"), text("b")]), content(vec![text("a"), text("b"), part])))
    };
    let asked =
        [turn("messages", "text", chat), turn("input", "input_text", responses), turn("messages", "text", messages)];
    Feature { name, asked }
}

/// Members added to a request with two tools.
fn chosen(name: &'static str, chat: Option<Value>, responses: Option<Value>, messages: Option<Value>) -> Feature {
    let schema = json!({"type": "object", "properties": {"q": {"type": "string"}}});
    let chat_tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema}});
    let responses_tool = |name: &str| json!({"type": "function", "name": name, "parameters": schema});
    let messages_tool = |name: &str| json!({"name": name, "input_schema": schema});
    let with = |tools: [Value; 2], members: Option<Value>| {
        members.map(|members| {
            let base = json!({"tools": tools});
            (base.clone(), merged(base, members))
        })
    };
    let asked = [
        with([chat_tool("f"), chat_tool("g")], chat),
        with([responses_tool("f"), responses_tool("g")], responses),
        with([messages_tool("f"), messages_tool("g")], messages),
    ];
    Feature { name, asked }
}

fn both(members: Value) -> (Option<Value>, Option<Value>) {
    (Some(members.clone()), Some(members))
}

fn features() -> Vec<Feature> {
    let data = "data:image/png;base64,AAAA";
    let link = "https://x.example/a.png";
    let pdf = "data:application/pdf;base64,AAAA";
    let source = |kind: &str| json!({"type": "base64", "media_type": kind, "data": "AAAA"});
    let schema = json!({"type": "object", "properties": {"q": {"type": "string"}}});
    let user = || json!({"role": "user", "content": "x"});
    let turn = |list: &str, role: &str| {
        Some((json!({list: [user()]}), json!({list: [{"role": role, "content": "s"}, user()]})))
    };
    let format = json!({"type": "json_schema", "name": "n", "schema": schema});
    let custom = json!({"type": "custom", "custom": {"name": "f"}});
    let (tools_chat, tools_responses) = both(json!({"tool_choice": "required"}));
    let (auto_chat, auto_responses) = both(json!({"tool_choice": "auto"}));
    let (none_chat, none_responses) = both(json!({"tool_choice": "none"}));
    let (single_chat, single_responses) = both(json!({"parallel_tool_calls": false}));
    let (temperature_chat, temperature_responses) = both(json!({"temperature": 0.5}));
    let (top_p_chat, top_p_responses) = both(json!({"top_p": 0.5}));
    let (tier_chat, tier_responses) = both(json!({"service_tier": "flex"}));
    let (metadata_chat, metadata_responses) = both(json!({"metadata": {"a": "b"}}));
    let (user_chat, user_responses) = both(json!({"user": "u"}));
    let (key_chat, key_responses) = both(json!({"prompt_cache_key": "k"}));
    let (store_chat, store_responses) = both(json!({"store": true}));
    let (new_chat, new_responses) = both(json!({"brand_new": 1}));
    vec![
        Feature {
            name: "system turn",
            asked: [turn("messages", "system"), turn("input", "system"), Some((nothing(), json!({"system": "s"})))],
        },
        Feature { name: "developer turn", asked: [turn("messages", "developer"), turn("input", "developer"), None] },
        said(
            "image, data",
            Some(json!({"type": "image_url", "image_url": {"url": data}})),
            Some(json!({"type": "input_image", "image_url": data})),
            Some(json!({"type": "image", "source": source("image/png")})),
        ),
        said(
            "image, URL",
            Some(json!({"type": "image_url", "image_url": {"url": link}})),
            Some(json!({"type": "input_image", "image_url": link})),
            Some(json!({"type": "image", "source": {"type": "url", "url": link}})),
        ),
        said(
            "audio",
            Some(json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})),
            Some(json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})),
            None,
        ),
        said(
            "file, data",
            Some(json!({"type": "file", "file": {"filename": "a.pdf", "file_data": pdf}})),
            Some(json!({"type": "input_file", "filename": "a.pdf", "file_data": pdf})),
            Some(json!({"type": "document", "title": "a", "source": source("application/pdf")})),
        ),
        said(
            "file, URL",
            None,
            Some(json!({"type": "input_file", "file_url": "https://x.example/a.pdf"})),
            Some(json!({"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}})),
        ),
        said(
            "file, id",
            Some(json!({"type": "file", "file": {"file_id": "f"}})),
            Some(json!({"type": "input_file", "file_id": "f"})),
            Some(json!({"type": "document", "source": {"type": "file", "file_id": "f"}})),
        ),
        added(
            "tools",
            Some(json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]})),
            Some(json!({"tools": [{"type": "function", "name": "f", "parameters": schema}]})),
            Some(json!({"tools": [{"name": "f", "input_schema": schema}]})),
        ),
        added(
            "tools with free text",
            Some(json!({"tools": [custom]})),
            Some(json!({"tools": [{"type": "custom", "name": "f"}]})),
            None,
        ),
        chosen("tool choice: auto", auto_chat, auto_responses, Some(json!({"tool_choice": {"type": "auto"}}))),
        chosen("tool choice: none", none_chat, none_responses, Some(json!({"tool_choice": {"type": "none"}}))),
        chosen("tool choice: required", tools_chat, tools_responses, Some(json!({"tool_choice": {"type": "any"}}))),
        chosen(
            "tool choice: by name",
            Some(json!({"tool_choice": {"type": "function", "function": {"name": "f"}}})),
            Some(json!({"tool_choice": {"type": "function", "name": "f"}})),
            Some(json!({"tool_choice": {"type": "tool", "name": "f"}})),
        ),
        chosen(
            "tool choice: allowed ones",
            Some(json!({"tool_choice": {"type": "allowed_tools", "allowed_tools":
                {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}}})),
            Some(json!({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools":
                [{"type": "function", "name": "f"}]}})),
            None,
        ),
        chosen(
            "one call at a time",
            single_chat,
            single_responses,
            Some(json!({"tool_choice": {"type": "auto", "disable_parallel_tool_use": true}})),
        ),
        added(
            "JSON after a schema",
            Some(json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}})),
            Some(json!({"text": {"format": format}})),
            Some(json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}})),
        ),
        added(
            "any JSON object",
            Some(json!({"response_format": {"type": "json_object"}})),
            Some(json!({"text": {"format": {"type": "json_object"}}})),
            None,
        ),
        added(
            "reasoning effort",
            Some(json!({"reasoning_effort": "high"})),
            Some(json!({"reasoning": {"effort": "high"}})),
            Some(json!({"output_config": {"effort": "high"}})),
        ),
        added(
            "reasoning budget",
            Some(json!({"reasoning": {"max_tokens": 3000}})),
            Some(json!({"reasoning": {"max_tokens": 3000}})),
            Some(json!({"thinking": {"type": "enabled", "budget_tokens": 3000}})),
        ),
        added("`temperature`", temperature_chat, temperature_responses, Some(json!({"temperature": 0.5}))),
        added("`top_p`", top_p_chat, top_p_responses, Some(json!({"top_p": 0.5}))),
        added("`top_k`", Some(json!({"top_k": 5})), None, Some(json!({"top_k": 5}))),
        added("stop sequences", Some(json!({"stop": ["X"]})), None, Some(json!({"stop_sequences": ["X"]}))),
        added("`seed`", Some(json!({"seed": 7})), None, None),
        added("`n`: 2", Some(json!({"n": 2})), None, None),
        added(
            "log probabilities",
            Some(json!({"logprobs": true})),
            Some(json!({"include": ["message.output_text.logprobs"]})),
            None,
        ),
        added("`top_logprobs`", Some(json!({"top_logprobs": 2})), Some(json!({"top_logprobs": 2})), None),
        added("`presence_penalty`", Some(json!({"presence_penalty": 0.5})), None, None),
        added("`frequency_penalty`", Some(json!({"frequency_penalty": 0.5})), None, None),
        added("`logit_bias`", Some(json!({"logit_bias": {"5": 1}})), None, None),
        added("`verbosity`", Some(json!({"verbosity": "low"})), Some(json!({"text": {"verbosity": "low"}})), None),
        added("`web_search_options`", Some(json!({"web_search_options": {}})), None, None),
        marked(),
        cited(),
        added("`prompt_cache_key`", key_chat, key_responses, None),
        added("`service_tier`: flex", tier_chat, tier_responses, None),
        added("`metadata`", metadata_chat, metadata_responses, None),
        added("end user", user_chat, user_responses, Some(json!({"metadata": {"user_id": "u"}}))),
        added("`store`", store_chat, store_responses, None),
        added("a field that nobody knows", new_chat, new_responses, Some(json!({"brand_new": 1}))),
    ]
}

/// A document that the answer is to cite.
fn cited() -> Feature {
    let content = |citations: Value| {
        let source = json!({"type": "text", "media_type": "text/plain", "data": "d"});
        let document = merged(json!({"type": "document", "source": source}), citations);
        json!({"messages": [{"role": "user", "content": [document, {"type": "text", "text": "a"}]}]})
    };
    let asked = Some((content(nothing()), content(json!({"citations": {"enabled": true}}))));
    Feature { name: "citations of a document", asked: [None, None, asked] }
}

/// A mark for the cache on a part.
fn marked() -> Feature {
    let text = |text: &str| json!({"type": "text", "text": text});
    let mut cached = text("a");
    cached["cache_control"] = json!({"type": "ephemeral"});
    let content = |first: Value| json!({"messages": [{"role": "user", "content": [first, text("b")]}]});
    let asked = || Some((content(text("a")), content(cached.clone())));
    Feature { name: "cache mark", asked: [asked(), None, asked()] }
}

fn merged(mut base: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        base[name] = value.clone();
    }
    base
}

fn body(dialect: Dialect, members: &Value) -> Value {
    let user = json!([{"role": "user", "content": "x"}]);
    let base = match dialect {
        Dialect::Chat => json!({"model": "m", "messages": user}),
        Dialect::Responses => json!({"model": "m", "input": user}),
        Dialect::Messages => json!({"model": "m", "max_tokens": 20000, "messages": user}),
    };
    merged(base, members.clone())
}

/// The family's request, and what was dropped; `None` where it is refused.
fn written(dialect: Dialect, family: Family, body: &Value) -> Option<(Value, Vec<String>)> {
    let request = dialect.parse(body.to_string().into_bytes()).unwrap();
    if is_pass(dialect, family) {
        let (bytes, dropped) = openai_chat::request(&request, "up", &[], dialect.gateway_fields(), None);
        return Some((serde_json::from_slice(&bytes).unwrap(), dropped));
    }
    // A model that takes everything; the one at Bedrock is a Claude.
    let traits = Traits { structured_output: Some(true), ..Traits::default() };
    let upstream = "anthropic.up";
    let limit = Some(20000);
    let target = Target { upstream, provider: "p", quirks: &[], traits: &traits, limit, own_limit: limit };
    let written = family.write(&dialect.prompt(&request).ok()?, &target).ok()?;
    Some((serde_json::from_slice(&written.body).unwrap(), written.dropped))
}

/// What is in the new value and not in the old, by the name it has there; and what is gone.
fn differences(name: &str, old: &Value, new: &Value, found: &mut BTreeSet<String>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(a), Value::Object(b)) => {
            found.extend(a.keys().filter(|key| !b.contains_key(*key)).map(|key| format!("no {key}")));
            for (key, value) in b {
                match a.get(key) {
                    Some(before) => differences(key, before, value, found),
                    None => drop(found.insert(key.clone())),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).for_each(|(a, b)| differences(name, a, b, found));
        }
        (Value::Array(a), Value::Array(b)) => {
            let fresh: Vec<&Value> = b.iter().filter(|value| !a.contains(value)).collect();
            let kind = |value: &Value| {
                let said = value["role"].as_str().or_else(|| value["type"].as_str()).map(str::to_owned);
                said.or_else(|| value.as_object()?.keys().next().cloned()).unwrap_or_else(|| name.to_owned())
            };
            found.extend(fresh.iter().map(|value| kind(value)));
            if fresh.is_empty() {
                found.insert(name.to_owned());
            }
        }
        _ => drop(found.insert(name.to_owned())),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// Under the client's own names.
    Kept(BTreeSet<String>),
    /// Under these.
    Mapped(BTreeSet<String>),
    Dropped,
    Refused,
    /// Nothing of it goes out, and nobody is told.
    Silent,
}

fn fate(dialect: Dialect, family: Family, (without, with): &(Value, Value)) -> Fate {
    let (without, with) = (body(dialect, without), body(dialect, with));
    let (before, none) = written(dialect, family, &without).expect("a plain request can be written to every family");
    assert!(none.is_empty(), "{dialect:?} {family:?} {without}");
    let Some((after, dropped)) = written(dialect, family, &with) else { return Fate::Refused };
    if !dropped.is_empty() {
        return Fate::Dropped;
    }
    let (mut own, mut theirs) = (BTreeSet::new(), BTreeSet::new());
    differences("", &without, &with, &mut own);
    differences("", &before, &after, &mut theirs);
    match theirs {
        theirs if theirs.is_empty() => Fate::Silent,
        theirs if own == theirs => Fate::Kept(theirs),
        theirs => Fate::Mapped(theirs),
    }
}

/// One word for all dialects, or one for each group of them that fares alike.
fn cell(feature: &Feature, family: Family) -> String {
    let all = DIALECTS.iter().zip(&feature.asked);
    let fates: Vec<(&str, Fate)> =
        all.filter_map(|((dialect, letter), asked)| Some((*letter, fate(*dialect, family, asked.as_ref()?)))).collect();
    let word = |fate: &Fate, is_own: bool| match fate {
        Fate::Kept(_) if is_own => "kept".to_owned(),
        Fate::Kept(names) | Fate::Mapped(names) => {
            format!("→ {}", names.iter().cloned().collect::<Vec<_>>().join(", "))
        }
        Fate::Dropped => "dropped".to_owned(),
        Fate::Refused => "refused".to_owned(),
        Fate::Silent => "left out".to_owned(),
    };
    // A name that is one dialect's own and another's translation is told as the family's.
    let is_own = |fate: &Fate| match fate {
        Fate::Kept(names) => !fates.iter().any(|(_, other)| *other == Fate::Mapped(names.clone())),
        _ => false,
    };
    let mut groups: Vec<(String, String)> = Vec::new();
    for (letter, fate) in &fates {
        let word = word(fate, is_own(fate));
        match groups.iter_mut().find(|(known, _)| *known == word) {
            Some((_, letters)) => letters.push_str(letter),
            None => groups.push((word, (*letter).to_owned())),
        }
    }
    match groups.as_slice() {
        [(word, _)] => word.clone(),
        groups => groups.iter().map(|(word, letters)| format!("{letters}: {word}")).collect::<Vec<_>>().join("; "),
    }
}

/// A row for each feature, a column for each family; families that fare alike share one.
fn markdown() -> String {
    let features = features();
    let mut columns: Vec<(String, Vec<String>)> = Vec::new();
    for family in FAMILIES {
        let cells: Vec<String> = features.iter().map(|feature| cell(feature, family)).collect();
        match columns.iter_mut().find(|(_, known)| *known == cells) {
            Some((names, _)) => names.push_str(&format!(", {}", family.name())),
            None => columns.push((family.name().to_owned(), cells)),
        }
    }
    let heads: Vec<&str> = columns.iter().map(|(names, _)| names.as_str()).collect();
    let mut out = format!("| | | {} |\n|---|---|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
    for (at, feature) in features.iter().enumerate() {
        let letters: String =
            DIALECTS.iter().zip(&feature.asked).filter(|(_, asked)| asked.is_some()).map(|((_, l), _)| *l).collect();
        let cells: Vec<&str> = columns.iter().map(|(_, cells)| cells[at].as_str()).collect();
        out.push_str(&format!("| {} | {letters} | {} |\n", feature.name, cells.join(" | ")));
    }
    out
}

/// The lines in the README between which the table stands.
const MARKS: (&str, &str) =
    ("<!-- text features: written by `UPDATE=1 cargo test text_features` -->\n", "<!-- /text features -->");

#[test]
fn the_table_of_text_features_in_the_readme_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (before, rest) = readme.split_once(MARKS.0).expect("README.md has the first mark");
    let (table, after) = rest.split_once(MARKS.1).expect("README.md has the second mark");
    if std::env::var("UPDATE").is_ok() {
        std::fs::write(path, format!("{before}{}\n{}\n{}{after}", MARKS.0, markdown(), MARKS.1)).unwrap();
        return;
    }
    assert_eq!(table.trim(), markdown().trim(), "run UPDATE=1 cargo test text_features");
}

#[test]
fn nothing_of_the_text_features_is_lost_without_a_word_but_bookkeeping() {
    for feature in features().iter().filter(|feature| !MAY_BE_SILENT.contains(&feature.name)) {
        for family in FAMILIES {
            for ((dialect, _), asked) in DIALECTS.iter().zip(&feature.asked) {
                let Some(asked) = asked else { continue };
                let fate = fate(*dialect, family, asked);
                assert_ne!(fate, Fate::Silent, "{}: {dialect:?} to {family:?}", feature.name);
            }
        }
    }
}
