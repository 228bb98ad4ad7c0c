use super::*;
use crate::media::shape::{Again, Links, find};

fn png(name: &str) -> Part {
    let bytes = bytes::Bytes::from_static(b"\x89PNG\r\n\x1a\n");
    Part { name: name.into(), filename: Some("a.png".into()), content_type: Some("image/png".into()), bytes }
}

fn parsed(more: &Value, pictures: usize) -> Images {
    let mut body = json!({"model": "m", "prompt": "p"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    if pictures == 0 {
        return Images::parse(body.to_string().as_bytes(), false).unwrap();
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fields = body.as_object().unwrap().iter().map(|(name, value)| Part::text(name, &text(value)));
    Images::parse_parts(fields.chain((0..pictures).map(|_| png("image[]"))).collect()).unwrap()
}

fn written(family: &str, upstream: &str, more: Value, pictures: usize) -> Result<Vec<Written>, Failure> {
    let links = Links::default();
    let asked = Asked { upstream, batch_max: None, is_by_tokens: false, fetched: &links, voices: &[], id: "r" };
    (find(TABLE, family).unwrap().write)(&parsed(&more, pictures), &asked)
}

fn json_body(written: &Written) -> Value {
    serde_json::from_slice(&written.whole_body()).unwrap()
}

fn form_body(written: &Written) -> Vec<(String, String)> {
    let boundary = multipart::boundary(&written.content_type).unwrap();
    let parts = multipart::parse(&written.whole_body().into(), &boundary).unwrap();
    parts.into_iter().map(|part| (part.name, String::from_utf8_lossy(&part.bytes).into_owned())).collect()
}

#[test]
fn generations_in_the_words_of_each_family() {
    let more = json!({"n": 2, "size": "1792x1024", "seed": 7, "output_format": "png"});
    for (family, upstream, path, body) in [
        (
            "openai-chat",
            "dall-e-3",
            "/images/generations",
            json!({"model": "dall-e-3", "prompt": "p", "n": 2, "size": "1792x1024", "seed": 7, "output_format": "png"}),
        ),
        (
            "xai-images",
            "up",
            "/images/generations",
            json!({"model": "up", "prompt": "p", "n": 2, "aspect_ratio": "16:9"}),
        ),
        (
            "together-images",
            "up",
            "/images/generations",
            json!({"model": "up", "prompt": "p", "n": 2, "seed": 7, "width": 1792, "height": 1024, "output_format": "png", "response_format": "base64"}),
        ),
        (
            "gemini",
            "imagen-4",
            "/models/imagen-4:predict",
            json!({"instances": [{"prompt": "p"}], "parameters": {"sampleCount": 2, "aspectRatio": "16:9", "outputOptions": {"mimeType": "image/png"}}}),
        ),
        (
            "fal-run",
            "fal-ai/flux/dev",
            "/fal-ai/flux/dev",
            json!({"prompt": "p", "seed": 7, "output_format": "png", "num_images": 2, "image_size": {"width": 1792, "height": 1024}}),
        ),
        (
            "replicate",
            "o/n",
            "/models/o/n/predictions",
            json!({"input": {"prompt": "p", "seed": 7, "output_format": "png", "num_outputs": 2, "aspect_ratio": "16:9"}}),
        ),
        (
            "recraft",
            "up",
            "/images/generations",
            json!({"model": "up", "prompt": "p", "n": 2, "size": "1792x1024", "image_format": "png", "random_seed": 7}),
        ),
    ] {
        let calls = written(family, upstream, more.clone(), 0).unwrap();
        assert_eq!((calls.len(), calls[0].path.as_str(), json_body(&calls[0])), (1, path, body), "{family}");
    }
    for (family, upstream, path) in [
        ("vertex-gemini", "gemini-image", "/publishers/google/models/gemini-image:generateContent"),
        ("bfl", "flux-2-pro", "/flux-2-pro"),
        ("fireworks-images", "a/flux", "/workflows/a/flux/text_to_image"),
        ("stability", "sd3-large", "/stable-image/generate/sd3"),
    ] {
        let calls = written(family, upstream, more.clone(), 0).unwrap();
        assert_eq!((calls.len(), calls[0].path.as_str()), (2, path), "{family}: one call for each picture");
    }
    let ideogram = written("ideogram", "ideogram-v3", more, 0).unwrap();
    assert_eq!(ideogram[0].path, "/ideogram-v3/generate");
    assert!(form_body(&ideogram[0]).contains(&("num_images".into(), "2".into())));
    let seeds: Vec<String> = written("stability", "core", json!({"n": 2, "seed": 7}), 0)
        .unwrap()
        .iter()
        .map(|one| form_body(one).last().unwrap().1.clone())
        .collect();
    assert_eq!(seeds, ["7", "8"], "two pictures, not one twice");
}

#[test]
fn edits_in_the_words_of_each_family() {
    let openai = written("openai-chat", "gpt-image-2", json!({"n": 2, "response_format": "b64_json"}), 2).unwrap();
    let fields = form_body(&openai[0]);
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(openai[0].path, "/images/edits");
    assert_eq!(names, ["model", "n", "prompt", "image[]", "image[]"], "these models refuse to be asked for a format");
    for (family, upstream, path, field) in [
        ("xai-images", "up", "/images/edits", "/image/url"),
        ("together-images", "up", "/images/generations", "/image_url"),
        ("gemini", "gemini-image", "/models/gemini-image:generateContent", "/contents/0/parts/1/inlineData/data"),
        ("fal-run", "fal-ai/flux-pro/kontext", "/fal-ai/flux-pro/kontext", "/image_url"),
        ("replicate", "o/n", "/models/o/n/predictions", "/input/input_image"),
        ("bfl", "flux-kontext-pro", "/flux-kontext-pro", "/input_image"),
        ("fireworks-images", "a/flux-kontext-pro", "/workflows/a/flux-kontext-pro", "/input_image"),
    ] {
        let calls = written(family, upstream, json!({}), 1).unwrap();
        assert_eq!(calls[0].path, path, "{family}");
        let picture = json_body(&calls[0]).pointer(field).and_then(Value::as_str).map(str::to_owned);
        assert!(picture.is_some_and(|picture| picture.ends_with("iVBORw0KGgo=")), "{family}");
    }
    for (family, upstream, path) in [
        ("stability", "sd3-large", "/stable-image/generate/sd3"),
        ("recraft", "recraftv3", "/images/imageToImage"),
        ("ideogram", "ideogram-v3", "/ideogram-v3/remix"),
    ] {
        let calls = written(family, upstream, json!({}), 1).unwrap();
        assert_eq!(calls[0].path, path, "{family}");
        assert!(form_body(&calls[0]).iter().any(|(name, _)| name == "image"), "{family}");
    }
    for (family, upstream) in [("gemini", "imagen-4"), ("stability", "core"), ("fireworks-images", "a/flux")] {
        assert!(written(family, upstream, json!({}), 1).is_err(), "{family} does not edit");
    }
    for family in ["together-images", "replicate", "stability", "recraft", "ideogram"] {
        assert!(written(family, "o/n", json!({}), 2).is_err(), "{family} takes one picture");
    }
}

#[test]
fn orders_are_followed_and_withheld_pictures_are_refusals() {
    let links = Links::default();
    let asked =
        Asked { upstream: "a/kontext", batch_max: None, is_by_tokens: false, fetched: &links, voices: &[], id: "r" };
    let work = parsed(&json!({}), 0);
    let follow = |family: &str, answer: Value| -> Result<Option<Again>, Fault> {
        let raw =
            Raw { bytes: answer.to_string().into_bytes(), content_type: "application/json".into(), ..Raw::default() };
        (find(TABLE, family).unwrap().follow)(&work, &raw, &asked)
    };
    let path = |again: Result<Option<Again>, Fault>| again.unwrap().unwrap().call.path;
    assert_eq!(
        path(follow("bfl", json!({"id": "1", "polling_url": "https://api.us1.bfl.ai/v1/get_result?id=1"}))),
        "https://api.us1.bfl.ai/v1/get_result?id=1"
    );
    assert!(
        follow("bfl", json!({"id": "1", "status": "Pending"})).unwrap().unwrap().call.method.is_empty(),
        "asked again as before"
    );
    assert!(follow("bfl", json!({"id": "1", "status": "Ready", "result": {"sample": "u"}})).unwrap().is_none());
    assert_eq!(
        path(follow(
            "replicate",
            json!({"status": "starting", "urls": {"get": "https://api.replicate.com/v1/predictions/1"}})
        )),
        "https://api.replicate.com/v1/predictions/1"
    );
    assert!(follow("replicate", json!({"status": "succeeded", "error": null, "output": ["u"]})).unwrap().is_none());
    assert_eq!(path(follow("fireworks-images", json!({"request_id": "1"}))), "/workflows/a/kontext/get_result");
    let code = |again: Result<Option<Again>, Fault>| again.err().unwrap().code;
    assert_eq!(code(follow("bfl", json!({"id": "1", "status": "Content Moderated"}))), "content_policy_violation");
    assert_eq!(
        code(follow("replicate", json!({"status": "failed", "error": "NSFW content detected"}))),
        "content_policy_violation"
    );
    assert_eq!(
        follow("replicate", json!({"status": "failed", "error": "out of memory"})).err().unwrap().status,
        Some(502)
    );
}

#[test]
fn pictures_are_found_in_each_answer() {
    let read = |family: &str, answer: Value| {
        let raw =
            Raw { bytes: answer.to_string().into_bytes(), content_type: "application/json".into(), ..Raw::default() };
        let reading = Reading { upstream: "u", model: "org/m", id: "i", created: 7 };
        (find(TABLE, family).unwrap().read)(&parsed(&json!({}), 0), vec![raw], &reading)
    };
    let data = |family: &str, answer: Value| {
        serde_json::from_slice::<Value>(&read(family, answer).unwrap().body).unwrap()["data"][0].clone()
    };
    let (link, inline) = (json!({"url": "https://x.example/1"}), json!({"b64_json": "AAAA"}));
    assert_eq!(
        data("fal-run", json!({"images": [{"url": "https://x.example/1"}], "has_nsfw_concepts": [false]})),
        link
    );
    assert_eq!(data("replicate", json!({"status": "succeeded", "output": "https://x.example/1"})), link);
    assert_eq!(data("bfl", json!({"status": "Ready", "result": {"sample": "https://x.example/1"}})), link);
    assert_eq!(data("ideogram", json!({"data": [{"url": "https://x.example/1", "is_image_safe": true}]})), link);
    assert_eq!(data("stability", json!({"image": "AAAA", "finish_reason": "SUCCESS"})), inline);
    assert_eq!(data("gemini", json!({"predictions": [{"bytesBase64Encoded": "AAAA"}]})), inline);
    let drawn = json!({"candidates": [{"content": {"parts": [{"text": "Here"}, {"inlineData": {"data": "AAAA"}}]}}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 1300, "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}]}});
    assert_eq!(data("gemini", drawn.clone()), inline);
    let told = read("gemini", drawn).unwrap().told;
    assert_eq!(
        [Meter::InputTokens, Meter::OutputTokens, Meter::OutputImageTokens].map(|meter| told.get(meter)),
        [Some(9), Some(10), Some(1290)]
    );
    for (family, answer) in [
        ("fal-run", json!({"images": [{"url": "u"}], "has_nsfw_concepts": [true]})),
        ("ideogram", json!({"data": [{"url": null, "is_image_safe": false}]})),
        ("stability", json!({"image": "AAAA", "finish_reason": "CONTENT_FILTERED"})),
        ("gemini", json!({"predictions": [{"raiFilteredReason": "r"}]})),
        ("gemini", json!({"candidates": [{"content": {"parts": [{"text": "I will not"}]}}]})),
    ] {
        assert_eq!(read(family, answer).unwrap_err().code, "content_policy_violation", "{family}");
    }
}
