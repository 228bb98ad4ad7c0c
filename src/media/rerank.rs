//! `POST /v1/rerank`, in the shape that Cohere and Jina share.

use serde_json::{Map, Value, json};

use super::common::Common;
use super::meter::{Basis, Told};
use super::shape::{Answered, Raw, Reading, Shape, Written, at_once, fates, json_of, malformed};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::family::target::cannot;
use crate::usage::Meter;

const DOCUMENTS_MAX: usize = 10_000;
/// Documents of one search unit.
const UNIT: u64 = 100;

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Rerank {
    /// What all work has.
    pub common: Common,
    query: String,
    /// Strings, and objects of fields.
    documents: Vec<Value>,
    top_n: Option<u64>,
    returns_documents: bool,
}

impl Rerank {
    /// Parses a body.
    pub fn parse(bytes: &[u8]) -> Result<Rerank, Failure> {
        let common = Common::parse(bytes, None)?;
        let query = common.text("query")?.filter(|text| !text.is_empty());
        let query = query.ok_or_else(|| Failure::invalid("query", "is missing"))?.to_owned();
        let top_n = common.count("top_n", 1, 1_000_000)?;
        let returns_documents = match common.body.get("return_documents") {
            None | Some(Value::Null) => false,
            Some(value) => {
                value.as_bool().ok_or_else(|| Failure::invalid("return_documents", "must be true or false"))?
            }
        };
        let list = common.body.get("documents").and_then(Value::as_array);
        let list = list.ok_or_else(|| Failure::invalid("documents", "must be a list"))?;
        if list.is_empty() || list.len() > DOCUMENTS_MAX {
            return Err(Failure::invalid("documents", format!("must have 1 to {DOCUMENTS_MAX} entries")));
        }
        let is_document = |one: &Value| one.is_string() || one.as_object().is_some_and(|object| !object.is_empty());
        if let Some(at) = list.iter().position(|one| !is_document(one)) {
            return Err(Failure::invalid(format!("documents[{at}]"), "must be a string or an object"));
        }
        let documents = list.clone();
        Ok(Rerank { common, query, documents, top_n, returns_documents })
    }

    /// The documents as texts, for hosts that take no objects.
    fn texts(&self) -> Result<Vec<&str>, Failure> {
        let text = |(at, one)| {
            let told = || cannot(&format!("documents[{at}]"), "an object without a `text`");
            text_of(one).ok_or_else(told)
        };
        self.documents.iter().enumerate().map(text).collect()
    }

    /// One for each hundred documents.
    fn search_units(&self) -> u64 {
        u64::try_from(self.documents.len()).unwrap_or(u64::MAX).div_ceil(UNIT)
    }

    /// Ways to count it.
    pub fn bases(&self) -> Vec<Basis> {
        let count = u64::try_from(self.documents.len()).unwrap_or(u64::MAX);
        let length = |one: &Value| text_of(one).map_or_else(|| one.to_string().len(), str::len);
        let bytes = self.documents.iter().map(length).fold(0, usize::saturating_add);
        // The query is read once with each document.
        let query = u64::try_from(self.query.len()).unwrap_or(u64::MAX).saturating_mul(count);
        let tokens = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(query);
        vec![
            vec![(Meter::SearchUnits, self.search_units())],
            vec![(Meter::InputTokens, tokens)],
            vec![(Meter::Requests, 1)],
        ]
    }

    /// What the request counts by itself.
    pub fn counted(&self) -> Told {
        Told::default().with(Meter::SearchUnits, self.search_units()).with(Meter::Requests, 1)
    }

    fn body(&self, upstream: &str, top: &str) -> Result<Map<String, Value>, Failure> {
        let mut body = Map::new();
        body.insert("model".to_owned(), upstream.into());
        body.insert("query".to_owned(), self.query.clone().into());
        body.insert("documents".to_owned(), json!(self.texts()?));
        if let Some(most) = self.top_n {
            body.insert(top.to_owned(), most.into());
        }
        Ok(body)
    }

    fn kept(&self, mut body: Map<String, Value>, names: &[&str]) -> Map<String, Value> {
        for name in names {
            if let Some(value) = self.common.body.get(*name).filter(|value| !value.is_null()) {
                body.insert((*name).to_owned(), value.clone());
            }
        }
        body
    }
}

/// The text of a document.
fn text_of(document: &Value) -> Option<&str> {
    document.as_str().or_else(|| document.get("text")?.as_str())
}

/// What the writers take from the typed form.
pub const CORE: &[&str] = &["query", "documents"];

/// The hosts.
pub const TABLE: &[&Shape<Rerank>] = &[
    &Shape {
        families: &["openai-chat", "openai-responses", "azure-openai"],
        fates: fates! {
            "top_n" Kept, "return_documents" => "made here", "max_tokens_per_doc" Kept, "rank_fields" Kept,
        },
        passes: true,
        write: |work, asked| {
            let mut body = work.common.passed(asked.upstream, &["return_documents"]);
            // Fields to rank by are fields of objects; else everybody takes texts.
            let is_by_fields = work.common.body.get("rank_fields").is_some_and(|fields| !fields.is_null());
            if let (false, Ok(texts)) = (is_by_fields, work.texts()) {
                body.insert("documents".to_owned(), json!(texts));
            }
            Ok(vec![Written::json("/rerank", Value::Object(body))])
        },
        follow: at_once,
        read,
    },
    &Shape {
        families: &["cohere-v2"],
        fates: fates! {
            "top_n" Kept, "return_documents" => "made here", "max_tokens_per_doc" Kept, "rank_fields" Dropped,
        },
        passes: false,
        write: |work, asked| {
            let body = work.kept(work.body(asked.upstream, "top_n")?, &["max_tokens_per_doc"]);
            Ok(vec![Written::json("/rerank", Value::Object(body))])
        },
        follow: at_once,
        read,
    },
    &Shape {
        families: &["jina"],
        fates: fates! {
            "top_n" Kept, "return_documents" => "made here", "max_tokens_per_doc" Dropped, "rank_fields" Dropped,
        },
        passes: false,
        write: |work, asked| Ok(vec![Written::json("/rerank", Value::Object(work.body(asked.upstream, "top_n")?))]),
        follow: at_once,
        read,
    },
    &Shape {
        families: &["voyage"],
        fates: fates! {
            "top_n" => "top_k", "return_documents" => "made here", "max_tokens_per_doc" Dropped,
            "rank_fields" Dropped, "truncation" Kept,
        },
        passes: false,
        write: |work, asked| {
            let body = work.kept(work.body(asked.upstream, "top_k")?, &["truncation"]);
            Ok(vec![Written::json("/rerank", Value::Object(body))])
        },
        follow: at_once,
        read,
    },
    &Shape {
        families: &["bedrock-invoke"],
        fates: fates! {
            "top_n" Kept, "return_documents" => "made here", "max_tokens_per_doc" Dropped, "rank_fields" Dropped,
        },
        passes: false,
        write: |work, asked| {
            let mut body = work.body(asked.upstream, "top_n")?;
            body.remove("model");
            if asked.upstream.contains("cohere.") {
                body.insert("api_version".to_owned(), 2.into());
            }
            let model = percent_encoding::utf8_percent_encode(asked.upstream, percent_encoding::NON_ALPHANUMERIC);
            Ok(vec![Written::json(format!("/model/{model}/invoke"), Value::Object(body))])
        },
        follow: at_once,
        read,
    },
];

fn read(work: &Rerank, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let value = json_of(&raws.first().ok_or_else(malformed)?.bytes)?;
    let list = value.get("results").or_else(|| value.get("data")).and_then(Value::as_array);
    let mut results = Vec::new();
    for one in list.ok_or_else(malformed)? {
        let index = one.get("index").and_then(Value::as_u64).ok_or_else(malformed)?;
        let score = one.get("relevance_score").or_else(|| one.get("score")).cloned().ok_or_else(malformed)?;
        let document = usize::try_from(index).ok().and_then(|index| work.documents.get(index)).ok_or_else(malformed)?;
        let document = if document.is_string() { json!({"text": document}) } else { document.clone() };
        let rank = score.as_f64().ok_or_else(malformed)?;
        let result = match work.returns_documents {
            true => json!({"index": index, "relevance_score": score, "document": document}),
            false => json!({"index": index, "relevance_score": score}),
        };
        results.push((rank, result));
    }
    // The best first, and no more than were asked for: not every host sees to it.
    results.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    results.truncate(work.top_n.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX));
    let results: Vec<Value> = results.into_iter().map(|(_, result)| result).collect();
    let of = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64);
    let units = of("/meta/billed_units/search_units");
    let tokens = of("/usage/total_tokens")
        .or_else(|| of("/usage/prompt_tokens"))
        .or_else(|| of("/meta/billed_units/input_tokens"))
        .or_else(|| of("/meta/tokens/input_tokens"));
    let told = Told::default().with(Meter::SearchUnits, units).with(Meter::InputTokens, tokens);
    let body = json!({
        "id": reading.id, "object": "list", "model": reading.model, "results": results,
        "meta": {"billed_units": {"search_units": units.unwrap_or(work.search_units())}},
        "usage": {"total_tokens": tokens.unwrap_or(0)},
    });
    let body = body.to_string().into_bytes();
    Ok(Answered { content_type: "application/json".to_owned(), body, told, ..Answered::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::media::shape::{Asked, Links};

    #[test]
    fn documents_are_texts_and_a_unit_has_a_hundred() {
        let of = |documents: Value| {
            Rerank::parse(json!({"model": "m", "query": "q", "documents": documents}).to_string().as_bytes())
        };
        assert_eq!(of(json!(["a", {"text": "b"}])).unwrap().texts().unwrap(), ["a", "b"]);
        let failure = of(json!(["a", {"title": "b"}])).unwrap().texts().unwrap_err();
        assert_eq!((failure.code, failure.param.as_deref()), (Code::UnsupportedParameter, Some("documents[1]")));
        assert_eq!(of(json!(vec!["a"; 101])).unwrap().search_units(), 2);
        for (documents, param) in [(json!([]), "documents"), (json!("a"), "documents"), (json!([1]), "documents[0]")] {
            assert_eq!(of(documents).unwrap_err().param.as_deref(), Some(param));
        }
    }

    #[test]
    fn hosts_answer_in_their_own_words_and_the_front_in_one() {
        let body = json!({"model": "m", "query": "q", "documents": ["a", "b"], "return_documents": true});
        let work = Rerank::parse(body.to_string().as_bytes()).unwrap();
        let read = |answer: Value| {
            let reading = Reading { upstream: "u", model: "org/m", id: "gen_1", created: 0 };
            read(&work, vec![Raw { bytes: answer.to_string().into_bytes(), ..Raw::default() }], &reading)
        };
        let cohere = read(
            json!({"results": [{"index": 1, "relevance_score": 0.5}], "meta": {"billed_units": {"search_units": 1}}}),
        )
        .unwrap();
        let voyage =
            read(json!({"data": [{"index": 1, "relevance_score": 0.5}], "usage": {"total_tokens": 9}})).unwrap();
        for (answer, units, tokens) in [(&cohere, Some(1), None), (&voyage, None, Some(9))] {
            let value: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(value["results"], json!([{"index": 1, "relevance_score": 0.5, "document": {"text": "b"}}]));
            assert_eq!((answer.told.get(Meter::SearchUnits), answer.told.get(Meter::InputTokens)), (units, tokens));
        }
        assert!(read(json!({"results": [{"index": 7, "relevance_score": 1}]})).is_err(), "there is no such document");
    }

    #[test]
    fn objects_of_fields_go_where_they_are_taken_and_the_best_comes_first() {
        let body = json!({"model": "m", "query": "q", "documents": [{"title": "a"}, {"title": "b"}, {"title": "c"}],
            "rank_fields": ["title"], "top_n": 2, "return_documents": true});
        let work = Rerank::parse(body.to_string().as_bytes()).unwrap();
        let links = Links::default();
        let asked =
            Asked { upstream: "u", batch_max: None, is_by_tokens: false, fetched: &links, voices: &[], id: "gen_1" };
        let write = |family: &str| {
            let row = crate::media::shape::find(TABLE, family).unwrap();
            (row.write)(&work, &asked).map(|calls| serde_json::from_slice::<Value>(&calls[0].whole_body()).unwrap())
        };
        assert_eq!(write("openai-chat").unwrap()["documents"], body["documents"]);
        for family in ["cohere-v2", "jina", "voyage", "bedrock-invoke"] {
            assert_eq!(write(family).unwrap_err().param.as_deref(), Some("documents[0]"), "{family}");
        }
        let scores = [0.1, 0.9, 0.5].into_iter().enumerate();
        let list: Vec<Value> = scores.map(|(index, score)| json!({"index": index, "relevance_score": score})).collect();
        let raw = Raw { bytes: json!({"results": list}).to_string().into_bytes(), ..Raw::default() };
        let reading = Reading { upstream: "u", model: "org/m", id: "gen_1", created: 0 };
        let answered: Value = serde_json::from_slice(&read(&work, vec![raw], &reading).unwrap().body).unwrap();
        assert_eq!(
            answered["results"],
            json!([
                {"index": 1, "relevance_score": 0.9, "document": {"title": "b"}},
                {"index": 2, "relevance_score": 0.5, "document": {"title": "c"}},
            ])
        );
    }
}
