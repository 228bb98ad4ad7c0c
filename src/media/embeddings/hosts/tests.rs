use super::*;
use crate::media::shape::{Links, find};

fn work(body: Value) -> Embeddings {
    Embeddings::parse(body.to_string().as_bytes()).unwrap()
}

fn written(family: &str, upstream: &str, batch_max: Option<u64>, body: Value) -> Result<Vec<(String, Value)>, Failure> {
    let links = Links::default();
    let asked = Asked { upstream, batch_max, is_by_tokens: true, fetched: &links, voices: &[], id: "r" };
    let calls = (find(TABLE, family).unwrap().write)(&work(body), &asked)?;
    Ok(calls.into_iter().map(|one| (one.path.clone(), serde_json::from_slice(&one.whole_body()).unwrap())).collect())
}

#[test]
fn each_family_is_asked_in_its_own_words() {
    let ask = json!({"model": "m", "input": ["a", "b"], "dimensions": 3, "input_type": "search_query", "encoding_format": "base64"});
    for (family, upstream, path, body) in [
        (
            "openai-chat",
            "up",
            "/embeddings",
            json!({"model": "up", "input": ["a", "b"], "dimensions": 3, "encoding_format": "base64"}),
        ),
        ("mistral", "up", "/embeddings", json!({"model": "up", "input": ["a", "b"], "output_dimension": 3})),
        (
            "voyage",
            "up",
            "/embeddings",
            json!({"model": "up", "input": ["a", "b"], "output_dimension": 3, "input_type": "query"}),
        ),
        (
            "jina",
            "up",
            "/embeddings",
            json!({"model": "up", "input": ["a", "b"], "dimensions": 3, "task": "retrieval.query"}),
        ),
        (
            "cohere-v2",
            "up",
            "/embed",
            json!({"model": "up", "texts": ["a", "b"], "input_type": "search_query", "embedding_types": ["float"], "output_dimension": 3}),
        ),
        (
            "vertex-gemini",
            "up",
            "/publishers/google/models/up:predict",
            json!({"instances": [{"content": "a", "task_type": "RETRIEVAL_QUERY"}, {"content": "b", "task_type": "RETRIEVAL_QUERY"}], "parameters": {"outputDimensionality": 3}}),
        ),
        (
            "bedrock-invoke",
            "us.cohere.embed-v4:0",
            "/model/us%2Ecohere%2Eembed%2Dv4%3A0/invoke",
            json!({"texts": ["a", "b"], "input_type": "search_query", "embedding_types": ["float"], "output_dimension": 3}),
        ),
    ] {
        assert_eq!(written(family, upstream, None, ask.clone()).unwrap(), [(path.to_owned(), body)], "{family}");
    }
    let gemini = written("gemini", "up", None, ask.clone()).unwrap();
    assert_eq!(gemini[0].0, "/models/up:batchEmbedContents");
    assert_eq!(
        gemini[0].1["requests"][1],
        json!({"model": "models/up", "content": {"parts": [{"text": "b"}]}, "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 3})
    );
    let titan = written("bedrock-invoke", "amazon.titan-embed-text-v2:0", None, ask.clone()).unwrap();
    assert_eq!(
        titan.iter().map(|(_, body)| body.clone()).collect::<Vec<_>>(),
        [json!({"inputText": "a", "dimensions": 3}), json!({"inputText": "b", "dimensions": 3})]
    );
    assert_eq!(
        written("bedrock-invoke", "amazon.titan-embed-text-v1", None, ask).unwrap_err().param.as_deref(),
        Some("dimensions")
    );
}

#[test]
fn a_batch_is_no_longer_than_the_host_takes_and_one_input_goes_as_it_came() {
    let inputs: Vec<String> = (0..5).map(|n| n.to_string()).collect();
    let sent = written("openai-chat", "up", Some(2), json!({"model": "m", "input": inputs})).unwrap();
    let batches: Vec<Value> = sent.into_iter().map(|(_, body)| body["input"].clone()).collect();
    assert_eq!(batches, [json!(["0", "1"]), json!(["2", "3"]), json!(["4"])]);
    for input in [json!("a"), json!(["a"]), json!([1, 2]), json!([[1], [2]])] {
        assert_eq!(
            written("openai-chat", "up", Some(2), json!({"model": "m", "input": input})).unwrap()[0].1["input"],
            input
        );
    }
}

#[test]
fn tokens_and_pictures_go_where_they_are_taken() {
    let tokens = json!({"model": "m", "input": [1, 2]});
    let inline = "data:image/png;base64,AAAA";
    let picture = json!({"model": "m", "input": [{"content": ["a", {"image_url": {"url": inline}}]}]});
    for (family, upstream, takes_tokens, takes_pictures) in [
        ("openai-chat", "up", true, false),
        ("mistral", "up", true, false),
        ("voyage", "up", false, true),
        ("jina", "up", false, false),
        ("cohere-v2", "up", false, true),
        ("gemini", "up", false, true),
        ("vertex-gemini", "up", false, false),
        ("bedrock-invoke", "amazon.titan-embed-image-v1", false, true),
    ] {
        assert_eq!(written(family, upstream, None, tokens.clone()).is_ok(), takes_tokens, "{family}");
        assert_eq!(written(family, upstream, None, picture.clone()).is_ok(), takes_pictures, "{family}");
    }
    let titan = written("bedrock-invoke", "amazon.titan-embed-image-v1", None, picture.clone()).unwrap();
    assert_eq!(titan[0].1, json!({"inputText": "a", "inputImage": "AAAA"}));
    let voyage = written("voyage", "up", None, picture).unwrap();
    assert_eq!(voyage[0].1["inputs"][0]["content"][1], json!({"type": "image_base64", "image_base64": inline}));
    let single = json!({"model": "m", "input": [{"image": "https://x.example/a.png"}, "b"]});
    assert_eq!(
        written("jina", "up", None, single.clone()).unwrap()[0].1["input"],
        json!([{"image": "https://x.example/a.png"}, "b"])
    );
    assert_eq!(
        written("gemini", "up", None, single).unwrap_err().param.as_deref(),
        Some("input"),
        "a link nobody followed"
    );
}

#[test]
fn answers_are_joined_in_order_and_counted_together() {
    let read = |family: &str, inputs: Value, answers: Vec<Value>| {
        let reading = Reading { upstream: "u", model: "org/m", id: "i", created: 0 };
        let raws =
            answers.into_iter().map(|one| Raw { bytes: one.to_string().into_bytes(), ..Raw::default() }).collect();
        let answered =
            (find(TABLE, family).unwrap().read)(&work(json!({"model": "m", "input": inputs})), raws, &reading);
        answered.map(|one| (serde_json::from_slice::<Value>(&one.body).unwrap(), one.told.get(Meter::InputTokens)))
    };
    let one = |at: u64, value: f64| json!({"index": at, "embedding": [value]});
    let first = json!({"data": [one(1, 2.0), one(0, 1.0)], "usage": {"prompt_tokens": 3}});
    let second = json!({"data": [one(0, 3.0)], "usage": {"prompt_tokens": 4}});
    let (body, tokens) = read("openai-chat", json!(["a", "b", "c"]), vec![first.clone(), second]).unwrap();
    let vectors: Vec<&Value> = body["data"].as_array().unwrap().iter().map(|one| &one["embedding"][0]).collect();
    assert_eq!((vectors, tokens), (vec![&json!(1.0), &json!(2.0), &json!(3.0)], Some(7)));
    let silent = json!({"data": [one(0, 3.0)]});
    assert_eq!(
        read("openai-chat", json!(["a", "b", "c"]), vec![first.clone(), silent]).unwrap().1,
        None,
        "one did not say"
    );
    assert!(read("openai-chat", json!(["a", "b", "c"]), vec![first]).is_err(), "one is missing");
    let vertex = json!({"predictions": [{"embeddings": {"values": [0.5], "statistics": {"token_count": 2.0}}}]});
    assert_eq!(read("vertex-gemini", json!(["a"]), vec![vertex]).unwrap().1, Some(2));
    let titan = json!({"embedding": [0.5], "inputTextTokenCount": 2});
    assert_eq!(read("bedrock-invoke", json!(["a"]), vec![titan]).unwrap().1, Some(2));
    let cohere = json!({"embeddings": [[0.5]], "response_type": "embeddings_floats"});
    assert_eq!(read("bedrock-invoke", json!(["a"]), vec![cohere]).unwrap().0["data"][0]["embedding"], json!([0.5]));
}
