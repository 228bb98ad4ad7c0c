//! Tool calls from every family to every dialect: what a model said is what the client reads, however it was cut.
//!
//! A generated [`Scene`] is written as each family's own answer (`upstream`), sent through the relay in arbitrary chunks,
//! and read as a client of each dialect reads it (`client`). Where both ends speak alike, arguments are the same bytes;
//! elsewhere the same values, with numbers as they were written.

mod client;
mod past;
mod scene;
mod upstream;

use proptest::prelude::*;

use super::*;
use crate::dialect::Dialect;
use crate::text::reply::Reply;
use crate::text::terms::Terms;
use client::Read;
use scene::{Call, Scene, scene};

const DIALECTS: [Dialect; 3] = [Dialect::Chat, Dialect::Responses, Dialect::Messages];

const FAMILIES: [Family; 14] = [
    Family::OpenAiChat,
    Family::AzureOpenAi,
    Family::Mistral,
    Family::OpenAiResponses,
    Family::Anthropic,
    Family::VertexAnthropic,
    Family::Gemini,
    Family::VertexGemini,
    Family::Cohere,
    Family::VertexMistral,
    Family::BedrockConverse,
    Family::BedrockInvoke,
    Family::Watsonx,
    Family::WorkersAi,
];

/// Cases of each property. Every one goes through all pairs of dialect and family, so this makes tens of thousands of
/// translations.
const CASES: u32 = 400;

/// The tools that a client has with free text and the family as functions.
fn customs(scene: &Scene, family: Family) -> Vec<String> {
    let all = scene.calls.iter().filter(|call| call.is_custom && !family.takes_free_text(&[]));
    all.map(|call| call.name.clone()).collect()
}

/// The scene as a model of the family says it: free text inside an object, where it has no other place.
fn as_told(scene: &Scene, family: Family) -> Scene {
    let mut scene = scene.clone();
    for call in scene.calls.iter_mut().filter(|call| call.is_custom && !family.takes_free_text(&[])) {
        call.is_custom = false;
        call.arguments = format!("{{\"input\":{}}}", scene::quoted(&call.arguments, scene.is_ascii));
    }
    scene
}

fn is_chat(family: Family) -> bool {
    use Family::*;
    matches!(family, OpenAiChat | AzureOpenAi | Mistral | VertexMistral | Watsonx)
}

/// Whether the family says arguments in the dialect's own way.
fn is_alike(dialect: Dialect, family: Family) -> bool {
    match dialect {
        Dialect::Chat => is_chat(family),
        Dialect::Responses => family == Family::OpenAiResponses,
        Dialect::Messages => {
            matches!(family, Family::Anthropic | Family::VertexAnthropic | Family::BedrockInvoke)
        }
    }
}

fn pairs(scene: &Scene) -> impl Iterator<Item = (Dialect, Family)> {
    let has_custom = scene.calls.iter().any(|call| call.is_custom);
    let all = DIALECTS.iter().flat_map(|dialect| FAMILIES.iter().map(move |family| (*dialect, *family)));
    all.filter(move |(dialect, _)| !has_custom || *dialect != Dialect::Messages)
}

pub(super) fn voice() -> Voice {
    Voice { request_id: "r".into(), model: "a/b".into(), created: 5, wants_usage: true, echo: None }
}

fn no_price(_: &Usage, _: &Terms, _: Ending) -> Option<String> {
    None
}

/// Sends bytes through a relay in chunks of these sizes, again and again.
pub(super) fn sent(mut relay: Relay, mut bytes: &[u8], sizes: &[usize]) -> (Vec<u8>, End) {
    let mut out = Vec::new();
    for size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (chunk, rest) = bytes.split_at((*size).min(bytes.len()));
        relay.push(chunk, Some(&mut out), &no_price);
        bytes = rest;
    }
    let end = relay.finish(Stop::Eof, false, "r", &mut out, &no_price);
    (out, end)
}

fn same(sent: &[Call], got: &[Call], is_exact: bool) -> Result<(), TestCaseError> {
    prop_assert_eq!(sent.len(), got.len());
    for (sent, got) in sent.iter().zip(got) {
        prop_assert_eq!((&sent.id, &sent.name, sent.is_custom), (&got.id, &got.name, got.is_custom));
        match is_exact || sent.is_custom {
            true => prop_assert_eq!(&sent.arguments, &got.arguments),
            false => prop_assert_eq!(scene::value(&sent.arguments), scene::value(&got.arguments)),
        }
    }
    Ok(())
}

fn same_scene(scene: &Scene, got: &Read, is_exact: bool) -> Result<(), TestCaseError> {
    prop_assert_eq!(&got.text, &format!("{}{}", scene.before, scene.aside));
    same(&scene.calls, &got.calls, is_exact)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streamed_calls_come_over_whole(scene in scene(), sizes in prop::collection::vec(1usize..200, 1..6)) {
        for (dialect, family) in pairs(&scene) {
            let customs = customs(&scene, family);
            let relay = Relay::translate(dialect, (family, &[], "p"), &customs, voice());
            let (out, end) = sent(relay, &upstream::stream(family, &as_told(&scene, family)), &sizes);
            prop_assert_eq!(end.ending, Ending::Finished, "{:?} {:?}", dialect, family);
            let got = client::streamed(dialect, &out);
            same_scene(&scene, &got, is_alike(dialect, family))
                .map_err(|error| TestCaseError::fail(format!("{dialect:?} of {family:?}: {error}")))?;
        }
    }

    #[test]
    fn calls_of_a_whole_answer_come_over_whole(scene in scene()) {
        for (dialect, family) in pairs(&scene) {
            let mut events = Vec::new();
            Decoder::new(family, &[], "p").whole(&upstream::whole(family, &as_told(&scene, family)), &mut events);
            Customs::new(customs(&scene, family)).turn(&mut events);
            prop_assert!(!events.iter().any(|event| matches!(event, Event::Fault(_) | Event::Malformed)), "{:?}", family);
            let got = client::whole(dialect, &dialect.write(&Reply::fold(events), &voice(), None));
            same_scene(&scene, &got, is_alike(dialect, family))
                .map_err(|error| TestCaseError::fail(format!("{dialect:?} of {family:?}: {error}")))?;
        }
    }

    #[test]
    fn a_stream_that_is_passed_on_keeps_its_bytes(
        scene in scene(),
        sizes in prop::collection::vec(1usize..200, 1..6),
    ) {
        for (dialect, family) in pairs(&scene).filter(|(dialect, family)| is_pass(*dialect, *family)) {
            let bytes = upstream::stream(family, &scene);
            let relay = match dialect {
                Dialect::Chat => Relay::new(Vec::new(), UsageView::Shown),
                _ => Relay::pass(dialect, family, &[], "p"),
            };
            let (out, end) = sent(relay, &bytes, &sizes);
            prop_assert_eq!(end.ending, Ending::Finished);
            prop_assert_eq!(out, bytes);
        }
    }
}
