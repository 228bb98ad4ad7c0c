//! Embeddings at each family of hosts.

use serde_json::{Map, Value, json};

use super::{Embeddings, Input, Piece, text_of};
use crate::error::Failure;
use crate::family::fault::Fault;
use crate::family::target::cannot;
use crate::media::meter::Told;
use crate::media::picture;
use crate::media::shape::{Answered, Asked, Fate, Raw, Reading, Shape, Written, at_once, fates, json_of, malformed};
use crate::usage::Meter;

use Fate::{Dropped, Kept, Mapped};

/// What the writers take from the typed form.
pub const CORE: &[&str] = &["input"];

/// The hosts.
pub const TABLE: &[&Shape<Embeddings>] = &[
    &Shape {
        families: &["openai-chat", "openai-responses", "openai-embeddings", "azure-openai"],
        fates: fates! {
            "dimensions" Kept, "encoding_format" Kept, "user" Kept, "input_type" Dropped,
        },
        passes: true,
        write: |work, asked| openai(work, asked, &["input_type"], &[]),
        follow: at_once,
        read: read_openai,
    },
    &Shape {
        families: &["mistral"],
        fates: fates! {
            "dimensions" => "output_dimension", "encoding_format" => "made here", "user" Dropped,
            "input_type" Dropped,
        },
        passes: false,
        write: |work, asked| {
            openai(work, asked, &["encoding_format", "user", "input_type"], &[("dimensions", "output_dimension")])
        },
        follow: at_once,
        read: read_openai,
    },
    &Shape {
        families: &["voyage"],
        fates: fates! {
            "dimensions" => "output_dimension", "encoding_format" => "made here", "user" Dropped,
            "input_type" => "query, document", "truncation" Kept,
        },
        passes: false,
        write: voyage,
        follow: at_once,
        read: read_openai,
    },
    &Shape {
        families: &["jina"],
        fates: fates! {
            "dimensions" Kept, "encoding_format" => "made here", "user" Dropped, "input_type" => "task",
            "normalized" Kept, "late_chunking" Kept, "truncate" Kept,
        },
        passes: false,
        write: jina,
        follow: at_once,
        read: read_openai,
    },
    &Shape {
        families: &["cohere-v2"],
        fates: COHERE,
        passes: false,
        write: |work, asked| {
            let call = |batch: &[Input]| Ok(Written::json("/embed", cohere(work, asked, batch, true)?));
            work.batches(asked.batch_max).map(call).collect()
        },
        follow: at_once,
        read: read_cohere,
    },
    &Shape { families: &["gemini"], fates: GOOGLE, passes: false, write: gemini, follow: at_once, read: read_gemini },
    &Shape {
        families: &["vertex-gemini"],
        fates: GOOGLE,
        passes: false,
        write: vertex,
        follow: at_once,
        read: read_vertex,
    },
    &Shape {
        families: &["bedrock-invoke"],
        fates: COHERE,
        passes: false,
        write: bedrock,
        follow: at_once,
        read: read_bedrock,
    },
];

const COHERE: &[(&str, Fate)] = &[
    ("dimensions", Mapped("output_dimension")),
    ("encoding_format", Mapped("made here")),
    ("user", Dropped),
    ("input_type", Kept),
    ("truncate", Kept),
];
const GOOGLE: &[(&str, Fate)] = &[
    ("dimensions", Mapped("outputDimensionality")),
    ("encoding_format", Mapped("made here")),
    ("user", Dropped),
    ("input_type", Mapped("taskType")),
];

/// The client's own fields but for some, others under their name there, and a batch as `input`.
fn openai(
    work: &Embeddings,
    asked: &Asked<'_>,
    without: &[&str],
    renamed: &[(&str, &str)],
) -> Result<Vec<Written>, Failure> {
    let mut body = work.common.passed(asked.upstream, without);
    for (from, to) in renamed {
        if let Some(value) = body.remove(*from) {
            body.insert((*to).to_owned(), value);
        }
    }
    let plain = |input: &Input| match input {
        Input::Tokens(tokens) => Ok(json!(tokens)),
        Input::Pieces(_) => text_of(input).map(|text| json!(text)),
    };
    let call = |batch: &[Input]| {
        let inputs = batch.iter().map(plain).collect::<Result<Vec<Value>, Failure>>()?;
        let mut body = body.clone();
        // One input goes as it came: not every host takes a list.
        let is_one = batch.len() == work.inputs.len() && !work.common.body.get("input").is_some_and(is_list_of_inputs);
        let input = if is_one { inputs.into_iter().next().unwrap_or_default() } else { Value::Array(inputs) };
        body.insert("input".to_owned(), input);
        Ok(Written::json("/embeddings", Value::Object(body)))
    };
    work.batches(asked.batch_max).map(call).collect()
}

fn is_list_of_inputs(value: &Value) -> bool {
    value.as_array().is_some_and(|list| !list.iter().all(Value::is_u64))
}

fn fields(work: &Embeddings, asked: &Asked<'_>, names: &[&str]) -> Map<String, Value> {
    let kept = names.iter().filter_map(|name| Some(((*name).to_owned(), work.common.body.get(*name)?.clone())));
    let mut body: Map<String, Value> = kept.filter(|(_, value)| !value.is_null()).collect();
    body.insert("model".to_owned(), asked.upstream.into());
    body
}

fn voyage(work: &Embeddings, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    let mut body = fields(work, asked, &["truncation"]);
    let purpose = work.common.text("input_type")?.map(|kind| match kind {
        "search_query" | "query" => "query",
        _ => "document",
    });
    put(&mut body, "input_type", purpose);
    put(&mut body, "output_dimension", work.dimensions);
    let is_multimodal = work.pictures().next().is_some();
    let call = |batch: &[Input]| {
        let mut body = body.clone();
        if is_multimodal {
            body.remove("output_dimension");
            body.insert("inputs".to_owned(), Value::Array(batch.iter().map(contents).collect::<Result<_, _>>()?));
            return Ok(Written::json("/multimodalembeddings", Value::Object(body)));
        }
        body.insert("input".to_owned(), json!(batch.iter().map(text_of).collect::<Result<Vec<_>, _>>()?));
        Ok(Written::json("/embeddings", Value::Object(body)))
    };
    work.batches(asked.batch_max).map(call).collect()
}

/// `{content: [{type, text | image_url | image_base64}]}`.
fn contents(input: &Input) -> Result<Value, Failure> {
    let Input::Pieces(pieces) = input else { return Err(cannot("input", "a list of tokens")) };
    let one = |piece: &Piece| match piece {
        Piece::Text(text) => json!({"type": "text", "text": text}),
        Piece::Picture(url) if picture::is_link(url) => json!({"type": "image_url", "image_url": url}),
        Piece::Picture(url) => json!({"type": "image_base64", "image_base64": url}),
    };
    Ok(json!({"content": pieces.iter().map(one).collect::<Vec<Value>>()}))
}

fn jina(work: &Embeddings, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    let mut body = fields(work, asked, &["dimensions", "normalized", "late_chunking", "truncate"]);
    let task = work.common.text("input_type")?.map(|kind| match kind {
        "search_query" | "query" => "retrieval.query",
        "search_document" | "document" => "retrieval.passage",
        "classification" => "classification",
        "clustering" => "separation",
        other => other,
    });
    put(&mut body, "task", task);
    let one = |input: &Input| match input {
        Input::Tokens(_) => Err(cannot("input", "a list of tokens")),
        Input::Pieces(pieces) => match pieces.as_slice() {
            [Piece::Text(text)] => Ok(json!(text)),
            [Piece::Picture(url)] => {
                Ok(json!({"image": picture::parts(url).map_or(url.as_str(), |(_, base64)| base64)}))
            }
            _ => Err(cannot("input", "text and picture in one vector")),
        },
    };
    let call = |batch: &[Input]| {
        let mut body = body.clone();
        body.insert("input".to_owned(), Value::Array(batch.iter().map(one).collect::<Result<_, _>>()?));
        Ok(Written::json("/embeddings", Value::Object(body)))
    };
    work.batches(asked.batch_max).map(call).collect()
}

fn cohere(work: &Embeddings, asked: &Asked<'_>, batch: &[Input], names_model: bool) -> Result<Value, Failure> {
    let mut body = fields(work, asked, &["truncate"]);
    if !names_model {
        body.remove("model");
    }
    let is_multimodal = work.pictures().next().is_some();
    let purpose = if is_multimodal { "image" } else { "search_document" };
    let purpose = match work.common.text("input_type")? {
        Some("query") => "search_query",
        Some("document") => "search_document",
        Some(other) => other,
        None => purpose,
    };
    body.insert("input_type".to_owned(), purpose.into());
    body.insert("embedding_types".to_owned(), json!(["float"]));
    put(&mut body, "output_dimension", work.dimensions);
    if !is_multimodal {
        body.insert("texts".to_owned(), json!(batch.iter().map(text_of).collect::<Result<Vec<_>, _>>()?));
        return Ok(Value::Object(body));
    }
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => Ok(json!({"type": "text", "text": text})),
        Piece::Picture(url) => {
            let inline = picture::inline(url, asked.fetched, "input")?;
            let url = format!("data:{};base64,{}", inline.content_type, inline.base64);
            Ok(json!({"type": "image_url", "image_url": {"url": url}}))
        }
    };
    let one = |input: &Input| match input {
        Input::Tokens(_) => Err(cannot("input", "a list of tokens")),
        Input::Pieces(pieces) => {
            Ok(json!({"content": pieces.iter().map(piece).collect::<Result<Vec<Value>, Failure>>()?}))
        }
    };
    body.insert("inputs".to_owned(), Value::Array(batch.iter().map(one).collect::<Result<_, Failure>>()?));
    Ok(Value::Object(body))
}

/// What an embedding is for, in Google's words.
fn task_type(work: &Embeddings) -> Result<Option<String>, Failure> {
    Ok(work.common.text("input_type")?.map(|kind| match kind {
        "search_query" | "query" => "RETRIEVAL_QUERY".to_owned(),
        "search_document" | "document" => "RETRIEVAL_DOCUMENT".to_owned(),
        other => other.to_ascii_uppercase(),
    }))
}

fn gemini(work: &Embeddings, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    let task = task_type(work)?;
    let part = |piece: &Piece| match piece {
        Piece::Text(text) => Ok(json!({"text": text})),
        Piece::Picture(url) => {
            let inline = picture::inline(url, asked.fetched, "input")?;
            Ok(json!({"inlineData": {"mimeType": inline.content_type, "data": inline.base64}}))
        }
    };
    let one = |input: &Input| {
        let Input::Pieces(pieces) = input else { return Err(cannot("input", "a list of tokens")) };
        let parts = pieces.iter().map(part).collect::<Result<Vec<Value>, Failure>>()?;
        let mut one = Map::new();
        one.insert("model".to_owned(), format!("models/{}", asked.upstream).into());
        one.insert("content".to_owned(), json!({"parts": parts}));
        put(&mut one, "taskType", task.clone());
        put(&mut one, "outputDimensionality", work.dimensions);
        Ok(Value::Object(one))
    };
    let path = format!("/models/{}:batchEmbedContents", asked.upstream);
    let call = |batch: &[Input]| {
        let requests = batch.iter().map(one).collect::<Result<Vec<Value>, Failure>>()?;
        Ok(Written::json(path.as_str(), json!({"requests": requests})))
    };
    work.batches(asked.batch_max).map(call).collect()
}

fn vertex(work: &Embeddings, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    let task = task_type(work)?;
    let one = |input: &Input| {
        let mut one = Map::new();
        one.insert("content".to_owned(), text_of(input)?.into());
        put(&mut one, "task_type", task.clone());
        Ok(Value::Object(one))
    };
    let mut parameters = Map::new();
    put(&mut parameters, "outputDimensionality", work.dimensions);
    let path = format!("/publishers/google/models/{}:predict", asked.upstream);
    let call = |batch: &[Input]| {
        let instances = batch.iter().map(one).collect::<Result<Vec<Value>, Failure>>()?;
        Ok(Written::json(path.as_str(), json!({"instances": instances, "parameters": parameters})))
    };
    work.batches(asked.batch_max).map(call).collect()
}

/// On Bedrock each maker's models have a body of their own; a model's name begins with (a region and) its maker.
fn bedrock(work: &Embeddings, asked: &Asked<'_>) -> Result<Vec<Written>, Failure> {
    let model = percent_encoding::utf8_percent_encode(asked.upstream, percent_encoding::NON_ALPHANUMERIC);
    let path = format!("/model/{model}/invoke");
    if asked.upstream.contains("cohere.") {
        let call = |batch: &[Input]| Ok(Written::json(path.as_str(), cohere(work, asked, batch, false)?));
        return work.batches(asked.batch_max).map(call).collect();
    }
    if !asked.upstream.contains("titan-embed") {
        return Err(cannot("model", "embeddings of this maker"));
    }
    let takes_dimensions = asked.upstream.contains("v2") || asked.upstream.contains("image");
    if work.dimensions.is_some() && !takes_dimensions {
        return Err(cannot("dimensions", "the parameter"));
    }
    let call = |input: &Input| {
        let Input::Pieces(pieces) = input else { return Err(cannot("input", "a list of tokens")) };
        let mut body = Map::new();
        for piece in pieces {
            let (name, value) = match piece {
                Piece::Text(text) => ("inputText", text.clone()),
                Piece::Picture(url) => ("inputImage", picture::inline(url, asked.fetched, "input")?.base64),
            };
            if body.insert(name.to_owned(), value.into()).is_some() {
                return Err(cannot("input", "several texts or pictures in one vector"));
            }
        }
        match asked.upstream.contains("image") {
            true => put(&mut body, "embeddingConfig", work.dimensions.map(|n| json!({"outputEmbeddingLength": n}))),
            false => put(&mut body, "dimensions", work.dimensions),
        }
        Ok(Written::json(path.as_str(), Value::Object(body)))
    };
    work.inputs.iter().map(call).collect()
}

fn put(body: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), value.into());
    }
}

/// Reads each answer, puts vectors behind one another and counts together.
fn joined(
    work: &Embeddings,
    raws: Vec<Raw>,
    reading: &Reading<'_>,
    one: impl Fn(Value, &Raw) -> Option<(Vec<Value>, Told)>,
) -> Result<Answered, Fault> {
    let (mut vectors, mut told) = (Vec::new(), None::<Told>);
    for raw in raws {
        let (more, counted) = one(json_of(&raw.bytes)?, &raw).ok_or_else(malformed)?;
        vectors.extend(more);
        told = Some(match told {
            None => counted,
            Some(told) => told.plus(&counted),
        });
    }
    work.answer(vectors, told.unwrap_or_default(), reading)
}

fn read_openai(work: &Embeddings, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    joined(work, raws, reading, |mut value, _| {
        let usage = value.get("usage").cloned().unwrap_or_default();
        let Some(Value::Array(list)) = value.get_mut("data").map(Value::take) else { return None };
        let mut placed: Vec<(u64, Value)> = Vec::with_capacity(list.len());
        for (at, mut one) in (0u64..).zip(list) {
            let vector = one.get_mut("embedding").map(Value::take)?;
            placed.push((one.get("index").and_then(Value::as_u64).unwrap_or(at), vector));
        }
        placed.sort_by_key(|(index, _)| *index);
        let of = |name: &str| usage.get(name).and_then(Value::as_u64);
        let tokens = of("text_tokens").or_else(|| of("prompt_tokens")).or_else(|| of("total_tokens"));
        let told = Told::default().with(Meter::InputTokens, tokens);
        Some((placed.into_iter().map(|(_, vector)| vector).collect(), told))
    })
}

fn cohere_answer(mut value: Value, counted: Option<u64>) -> Option<(Vec<Value>, Told)> {
    let of = |name: &str| value.pointer(name).and_then(Value::as_u64);
    let told = Told::default()
        .with(Meter::InputTokens, of("/meta/billed_units/input_tokens").or(counted))
        .with(Meter::InputImageTokens, of("/meta/billed_units/image_tokens"))
        .with(Meter::InputImages, of("/meta/billed_units/images"));
    let embeddings = value.get_mut("embeddings")?;
    let list = if embeddings.is_array() { embeddings.take() } else { embeddings.get_mut("float")?.take() };
    if let Value::Array(list) = list { Some((list, told)) } else { None }
}

fn read_cohere(work: &Embeddings, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    joined(work, raws, reading, |value, _| cohere_answer(value, None))
}

fn read_gemini(work: &Embeddings, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    joined(work, raws, reading, |mut value, _| {
        let tokens = value.pointer("/usageMetadata/promptTokenCount").and_then(Value::as_u64);
        let Some(Value::Array(list)) = value.get_mut("embeddings").map(Value::take) else { return None };
        let vectors = list.into_iter().map(|mut one| one.get_mut("values").map(Value::take)).collect::<Option<_>>()?;
        Some((vectors, Told::default().with(Meter::InputTokens, tokens)))
    })
}

fn read_vertex(work: &Embeddings, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    joined(work, raws, reading, |mut value, _| {
        let Some(Value::Array(list)) = value.get_mut("predictions").map(Value::take) else { return None };
        let (mut vectors, mut tokens) = (Vec::new(), Some(0u64));
        for mut one in list {
            let count = one.pointer("/embeddings/statistics/token_count").and_then(Value::as_f64);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, printed as a float")]
            let count = count.filter(|count| *count >= 0.0).map(|count| count as u64);
            tokens = tokens.and_then(|sum| sum.checked_add(count?));
            vectors.push(one.pointer_mut("/embeddings/values").map(Value::take)?);
        }
        Some((vectors, Told::default().with(Meter::InputTokens, tokens)))
    })
}

fn read_bedrock(work: &Embeddings, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    joined(work, raws, reading, |mut value, raw| {
        let counted = raw.count("x-amzn-bedrock-input-token-count");
        if value.get("embeddings").is_some() {
            return cohere_answer(value, counted);
        }
        let tokens = value.get("inputTextTokenCount").and_then(Value::as_u64).or(counted);
        let vector = value.get_mut("embedding").map(Value::take)?;
        Some((vec![vector], Told::default().with(Meter::InputTokens, tokens)))
    })
}

#[cfg(test)]
mod tests;
