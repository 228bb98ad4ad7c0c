//! Citations from every family that has them to every dialect, plain and streamed: a link stays a link at its place in the
//! text, and a place in a document is told wherever the dialect can tell it.

use serde_json::{Value, json};

use super::calls::{sent, voice};
use super::*;
use crate::family::event_stream::tests::frame;
use crate::text::reply::Reply;

const LINK: &str = "https://a.example/x";
/// The text is `Grüße vom Rhein.`; what is cited is `vom Rhein`, letters 6 to 15 and bytes 8 to 17.
const BEFORE: &str = "Grüße ";
const CITED: &str = "vom Rhein";
const AFTER: &str = ".";

fn sse(all: &[Value]) -> Vec<u8> {
    all.iter().flat_map(|data| format!("data: {data}\n\n").into_bytes()).collect()
}

fn whole_text() -> String {
    [BEFORE, CITED, AFTER].concat()
}

/// One answer with one citation.
struct Told {
    family: Family,
    stream: Vec<u8>,
    whole: Value,
}

fn chat() -> Told {
    let annotation =
        json!({"type": "url_citation", "url_citation": {"url": LINK, "title": "X", "start_index": 6, "end_index": 15}});
    let chunk = |delta: Value, finish: Value| json!({"id": "i", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let message = json!({"role": "assistant", "content": whole_text(), "annotations": [annotation]});
    Told {
        family: Family::Mistral,
        stream: sse(&[
            chunk(json!({"content": whole_text()}), Value::Null),
            chunk(json!({"annotations": [annotation]}), Value::Null),
            chunk(json!({}), json!("stop")),
        ]),
        whole: json!({"id": "i", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}),
    }
}

/// Two parts: the citation counts from the second one's beginning.
fn responses() -> Told {
    let flat = json!({"type": "url_citation", "url": LINK, "title": "X", "start_index": 0, "end_index": 9});
    let part =
        |text: &str, annotations: Value| json!({"type": "output_text", "text": text, "annotations": annotations});
    let content = [part(BEFORE, json!([])), part(&format!("{CITED}{AFTER}"), json!([flat]))];
    let item = json!({"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": content});
    let response = json!({"id": "r", "status": "completed", "model": "u", "output": [item]});
    let delta = |at: u64, text: &str| json!({"type": "response.output_text.delta", "output_index": 0, "content_index": at, "delta": text});
    Told {
        family: Family::OpenAiResponses,
        stream: sse(&[
            json!({"type": "response.created", "response": {"id": "r"}}),
            delta(0, BEFORE),
            delta(1, CITED),
            delta(1, AFTER),
            json!({"type": "response.output_text.annotation.added", "output_index": 0, "content_index": 1, "annotation_index": 0, "annotation": flat}),
            json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
            json!({"type": "response.completed", "response": response}),
        ]),
        whole: response,
    }
}

fn anthropic(family: Family, citation: &Value) -> Told {
    let block = |text: &str, citations: Value| match citations {
        Value::Null => json!({"type": "text", "text": text}),
        citations => json!({"type": "text", "text": text, "citations": citations}),
    };
    let content = [block(BEFORE, Value::Null), block(CITED, json!([citation])), block(AFTER, Value::Null)];
    let head = json!({"id": "m", "type": "message", "role": "assistant", "model": "u", "content": [], "usage": {"input_tokens": 1}});
    let mut events = vec![json!({"type": "message_start", "message": head})];
    for (index, part) in content.iter().enumerate() {
        let delta = |delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        events.push(
            json!({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}),
        );
        events.extend(
            part["citations"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|citation| delta(json!({"type": "citations_delta", "citation": citation}))),
        );
        events.push(delta(json!({"type": "text_delta", "text": part["text"]})));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}));
    events.push(json!({"type": "message_stop"}));
    let mut whole = head.clone();
    whole["content"] = json!(content);
    whole["stop_reason"] = json!("end_turn");
    Told { family, stream: sse(&events), whole }
}

fn searched() -> Value {
    json!({"type": "web_search_result_location", "url": LINK, "title": "X", "cited_text": "the source", "encrypted_index": "E"})
}

fn gemini() -> Told {
    let grounding = json!({
        "groundingChunks": [{"web": {"uri": LINK, "title": "X"}}],
        "groundingSupports": [{"segment": {"startIndex": 8, "endIndex": 17, "text": CITED}, "groundingChunkIndices": [0]}],
    });
    let frame = |parts: Value, grounding: Value, finish: Value| json!({"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0, "groundingMetadata": grounding, "finishReason": finish}]});
    let text = |text: &str| json!([{"text": text}]);
    Told {
        family: Family::Gemini,
        // The metadata is told twice.
        stream: sse(&[
            frame(text(BEFORE), Value::Null, Value::Null),
            frame(text(CITED), grounding.clone(), Value::Null),
            frame(text(AFTER), grounding.clone(), json!("STOP")),
        ]),
        whole: frame(text(&whole_text()), grounding, json!("STOP")),
    }
}

fn cohere() -> Told {
    let citation = json!({"start": 6, "end": 15, "text": CITED, "sources": [{"type": "document", "id": "d", "document": {"id": "d", "title": "X", "url": LINK}}]});
    let message =
        json!({"role": "assistant", "content": [{"type": "text", "text": whole_text()}], "citations": [citation]});
    Told {
        family: Family::Cohere,
        stream: sse(&[
            json!({"type": "message-start", "id": "c"}),
            json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": whole_text()}}}}),
            json!({"type": "citation-start", "index": 0, "delta": {"message": {"citations": citation}}}),
            json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}),
        ]),
        whole: json!({"id": "c", "finish_reason": "COMPLETE", "message": message}),
    }
}

fn converse() -> Told {
    let citation = json!({"title": "X", "sourceContent": [{"text": "the source"}], "location": {"web": {"url": LINK, "domain": "a.example"}}});
    let delta = |index: u64, delta: Value| ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta}));
    let stop = |index: u64| ("contentBlockStop", json!({"contentBlockIndex": index}));
    let events = [
        ("messageStart", json!({"role": "assistant"})),
        delta(0, json!({"text": BEFORE})),
        stop(0),
        delta(1, json!({"text": CITED})),
        delta(1, json!({"citation": citation})),
        stop(1),
        delta(2, json!({"text": AFTER})),
        stop(2),
        ("messageStop", json!({"stopReason": "end_turn"})),
        ("metadata", json!({"usage": {"inputTokens": 1, "outputTokens": 1}})),
    ];
    let content = json!([{"text": BEFORE}, {"citationsContent": {"content": [{"text": CITED}], "citations": [citation]}}, {"text": AFTER}]);
    Told {
        family: Family::BedrockConverse,
        stream: events.iter().flat_map(|(kind, data)| frame(":event-type", kind, &data.to_string())).collect(),
        whole: json!({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "end_turn"}),
    }
}

/// The text and the citations that a client of the dialect finds in a whole answer, and in a stream.
fn read_whole(dialect: Dialect, bytes: &[u8]) -> (String, Vec<Value>) {
    let value: Value = serde_json::from_slice(bytes).unwrap();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    match dialect {
        Dialect::Chat => {
            let message = &value["choices"][0]["message"];
            let all = [list(&message["annotations"]), list(&message["citations"])].concat();
            (message["content"].as_str().unwrap().to_owned(), all)
        }
        Dialect::Responses | Dialect::Messages => {
            let blocks = match dialect {
                Dialect::Responses => {
                    value["output"].as_array().unwrap().iter().flat_map(|item| list(&item["content"])).collect()
                }
                _ => list(&value["content"]),
            };
            let name = if dialect == Dialect::Responses { "annotations" } else { "citations" };
            let text = blocks.iter().map(|block| block["text"].as_str().unwrap()).collect();
            (text, blocks.iter().flat_map(|block| list(&block[name])).collect())
        }
    }
}

fn read_stream(bytes: &[u8]) -> (String, Vec<Value>) {
    let text = std::str::from_utf8(bytes).unwrap();
    let data = text.split("\n\n").filter_map(|frame| frame.lines().find_map(|line| line.strip_prefix("data: ")));
    let (mut said, mut cited) = (String::new(), Vec::new());
    for event in data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str::<Value>(data).unwrap()) {
        let delta = &event["choices"][0]["delta"];
        said.push_str(delta["content"].as_str().unwrap_or_default());
        for list in [&delta["annotations"], &delta["citations"]] {
            cited.extend(list.as_array().cloned().unwrap_or_default());
        }
        match event["type"].as_str() {
            Some("response.output_text.delta") => said.push_str(event["delta"].as_str().unwrap()),
            Some("response.output_text.annotation.added") => cited.push(event["annotation"].clone()),
            Some("content_block_delta") => {
                said.push_str(event["delta"]["text"].as_str().unwrap_or_default());
                cited.extend(event["delta"].get("citation").cloned());
            }
            _ => {}
        }
    }
    (said, cited)
}

/// Both ways of an answer, each as a client of the dialect reads it.
fn both(dialect: Dialect, told: &Told) -> [(String, Vec<Value>); 2] {
    let mut events = Vec::new();
    Decoder::new(told.family, &[], "p").whole(&told.whole.to_string(), &mut events);
    let whole = read_whole(dialect, &dialect.write(&Reply::fold(events), &voice(), None));
    let mut streamed = Vec::new();
    for size in [7, 1000] {
        let relay = Relay::translate(dialect, (told.family, &[], "p"), &[], voice());
        let (out, end) = sent(relay, &told.stream, &[size]);
        assert_eq!(end.ending, Ending::Finished, "{dialect:?} {:?}", told.family);
        streamed.push(read_stream(&out));
    }
    assert_eq!(streamed[0], streamed[1]);
    [whole, streamed.remove(0)]
}

#[test]
fn a_link_is_cited_in_every_dialect_at_its_place() {
    for told in [
        chat(),
        responses(),
        anthropic(Family::VertexAnthropic, &searched()),
        anthropic(Family::Anthropic, &searched()),
        gemini(),
        cohere(),
        converse(),
    ] {
        for dialect in [Dialect::Chat, Dialect::Responses, Dialect::Messages] {
            for (text, cited) in both(dialect, &told) {
                let what = format!("{dialect:?} {:?} {cited:?}", told.family);
                assert_eq!((text, cited.len()), (whole_text(), 1), "{what}");
                let flat = if dialect == Dialect::Chat { &cited[0]["url_citation"] } else { &cited[0] };
                assert_eq!((&flat["url"], &flat["title"]), (&json!(LINK), &json!("X")), "{what}");
                match dialect {
                    Dialect::Messages => {
                        assert_eq!(flat["type"], "web_search_result_location", "{what}");
                        assert!(flat["cited_text"].is_string() && flat["encrypted_index"].is_string(), "{what}");
                    }
                    _ => {
                        assert_eq!(cited[0]["type"], "url_citation", "{what}");
                        assert_eq!((&flat["start_index"], &flat["end_index"]), (&json!(6), &json!(15)), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_place_in_a_document_is_told_in_every_dialect() {
    let page = json!({"type": "page_location", "cited_text": "q", "document_index": 1, "document_title": "a.pdf", "file_id": null,
        "start_page_number": 2, "end_page_number": 3});
    let told = anthropic(Family::VertexAnthropic, &page);
    for (_, cited) in both(Dialect::Messages, &told) {
        assert_eq!(cited, std::slice::from_ref(&page));
    }
    for (_, cited) in both(Dialect::Responses, &told) {
        assert_eq!((&cited[0]["type"], &cited[0]["filename"]), (&json!("file_citation"), &json!("a.pdf")));
        assert_eq!(
            (&cited[0]["index"], &cited[0]["file_id"], &cited[0]["cited_text"]),
            (&json!(1), &json!(""), &json!("q"))
        );
    }
    for (_, cited) in both(Dialect::Chat, &told) {
        assert_eq!(cited[0]["file_citation"]["start_page_number"], 2);
    }
}

#[test]
fn a_file_that_the_responses_family_cites_comes_over() {
    let Told { family, stream, whole } = responses();
    let swap = |text: String| {
        let link =
            json!({"type": "url_citation", "url": LINK, "title": "X", "start_index": 0, "end_index": 9}).to_string();
        text.replace(&link, r#"{"type":"file_citation","file_id":"file_1","filename":"a.pdf","index":4}"#)
    };
    let told = Told {
        family,
        stream: swap(String::from_utf8(stream).unwrap()).into_bytes(),
        whole: serde_json::from_str(&swap(whole.to_string())).unwrap(),
    };
    for (_, cited) in both(Dialect::Messages, &told) {
        assert_eq!((&cited[0]["type"], &cited[0]["document_title"]), (&json!("char_location"), &json!("a.pdf")));
        assert_eq!(cited[0]["file_id"], "file_1");
    }
    for (_, cited) in both(Dialect::Chat, &told) {
        assert_eq!(cited[0]["file_citation"]["file_id"], "file_1");
    }
}
