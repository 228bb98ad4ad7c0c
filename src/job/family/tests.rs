use serde_json::json;

use super::*;
use crate::job::order::{Reference, Role};

fn order() -> Order {
    let image = |url: &str, role| Reference { url: url.into(), role };
    Order {
        models: vec!["m".into()],
        prompt: "a cat".into(),
        negative_prompt: Some("dogs".into()),
        seed: Some(7),
        references: vec![
            image("data:image/png;base64,UE5H", Role::FirstFrame),
            image("https://a.dev/l.png", Role::LastFrame),
        ],
        count: 2,
        ..Order::default()
    }
}

fn written(family: Family, upstream: &str, kind: Kind, order: &Order) -> (String, Value) {
    let terms = Terms::of(order, kind, family.manner(), upstream, None).unwrap();
    let call = family.submit(&Ask { order, terms: &terms, upstream, id: "gen_1" });
    let To::Path(path) = call.to else { panic!("{:?}", call.to) };
    (format!("{} {path}", call.method), serde_json::from_slice(&call.body).unwrap_or_default())
}

#[test]
fn each_family_is_asked_in_its_own_words() {
    use Family::*;
    let order = order();
    let first = "data:image/png;base64,UE5H";
    let last = "https://a.dev/l.png";
    let content = json!([{"type": "text", "text": "a cat"},
        {"type": "image_url", "image_url": {"url": first}, "role": "first_frame"},
        {"type": "image_url", "image_url": {"url": last}, "role": "last_frame"}]);
    for (family, upstream, kind, path, body) in [
        (
            VertexVeo,
            "veo-3.1",
            Kind::Video,
            "POST /publishers/google/models/veo-3.1:predictLongRunning",
            json!({
            "instances": [{"prompt": "a cat", "image": {"bytesBase64Encoded": "UE5H", "mimeType": "image/png"}}],
            "parameters": {"aspectRatio": "16:9", "durationSeconds": 8, "resolution": "720p", "negativePrompt": "dogs", "sampleCount": 2, "seed": 7}}),
        ),
        (
            Replicate,
            "luma/ray",
            Kind::Video,
            "POST /models/luma/ray/predictions",
            json!({"input": {"prompt": "a cat", "aspect_ratio": "16:9",
            "duration": 5, "resolution": "720p", "negative_prompt": "dogs", "seed": 7, "image": first, "last_frame_image": last}}),
        ),
        (
            Replicate,
            "x/y:abc",
            Kind::Image,
            "POST /predictions",
            json!({"version": "abc", "input": {"prompt": "a cat",
            "negative_prompt": "dogs", "seed": 7, "image": first, "last_frame_image": last}}),
        ),
        (
            Fal,
            "fal-ai/veo3",
            Kind::Video,
            "POST /fal-ai/veo3",
            json!({"prompt": "a cat", "duration": "8s", "aspect_ratio": "16:9", "resolution": "720p",
            "negative_prompt": "dogs", "seed": 7, "image_url": first, "end_image_url": last}),
        ),
        (
            Fal,
            "fal-ai/flux/dev",
            Kind::Image,
            "POST /fal-ai/flux/dev",
            json!({"prompt": "a cat", "num_images": 1, "image_size": {"width": 1024, "height": 1024},
            "negative_prompt": "dogs", "seed": 7, "image_url": first, "end_image_url": last}),
        ),
        (
            MiniMax,
            "MiniMax-H3",
            Kind::Video,
            "POST /v2/video_generation",
            json!({"model": "MiniMax-H3", "duration": 6, "resolution": "768P", "ratio": "16:9", "content": content}),
        ),
        (
            MiniMax,
            "MiniMax-Hailuo-02",
            Kind::Video,
            "POST /v1/video_generation",
            json!({"model": "MiniMax-Hailuo-02", "duration": 6, "resolution": "768P",
            "prompt": "a cat", "first_frame_image": first, "last_frame_image": last}),
        ),
        (
            Luma,
            "ray-2",
            Kind::Video,
            "POST /generations",
            json!({"prompt": "a cat", "model": "ray-2", "aspect_ratio": "16:9", "resolution": "720p", "duration": "5s",
            "keyframes": {"frame0": {"type": "image", "url": first}, "frame1": {"type": "image", "url": last}}}),
        ),
        (
            Luma,
            "photon-1",
            Kind::Image,
            "POST /generations/image",
            json!({"prompt": "a cat", "model": "photon-1", "aspect_ratio": "1:1",
            "image_ref": [{"url": first}, {"url": last}]}),
        ),
        (
            Runway,
            "gen4_turbo",
            Kind::Video,
            "POST /image_to_video",
            json!({"model": "gen4_turbo", "promptText": "a cat", "ratio": "1280:720", "seed": 7, "duration": 5,
            "negativePrompt": "dogs", "promptImage": [{"uri": first, "position": "first"}, {"uri": last, "position": "last"}]}),
        ),
        (
            Kling,
            "kling-v3",
            Kind::Video,
            "POST /videos/image2video",
            json!({"model_name": "kling-v3", "prompt": "a cat", "mode": "std", "aspect_ratio": "16:9",
            "duration": "5", "negative_prompt": "dogs", "image": "UE5H", "image_tail": last}),
        ),
        (
            Ark,
            "seedance",
            Kind::Video,
            "POST /contents/generations/tasks",
            json!({"model": "seedance", "content": content, "resolution": "720p", "ratio": "16:9",
            "duration": 5, "watermark": false, "seed": 7}),
        ),
        (
            DashScope,
            "wan2.7-i2v",
            Kind::Video,
            "POST /services/aigc/video-generation/video-synthesis",
            json!({"model": "wan2.7-i2v",
            "input": {"prompt": "a cat", "negative_prompt": "dogs", "media": [{"type": "first_frame", "url": first}, {"type": "last_frame", "url": last}]},
            "parameters": {"resolution": "720P", "duration": 5, "ratio": "16:9", "seed": 7}}),
        ),
        (
            Bfl,
            "flux-2-pro",
            Kind::Image,
            "POST /flux-2-pro",
            json!({"prompt": "a cat", "width": 1024, "height": 1024, "seed": 7, "input_image": "UE5H", "input_image_2": last}),
        ),
    ] {
        // One at a time, so that the number is not in the way.
        let order = Order { count: if family == VertexVeo { 2 } else { 1 }, ..order.clone() };
        assert_eq!(written(family, upstream, kind, &order), (path.to_owned(), body), "{family:?}");
    }
    let one = Order { references: order.references[..1].to_vec(), ..order.clone() };
    let (path, body) = written(Xai, "grok-imagine", Kind::Video, &one);
    assert_eq!(
        (path.as_str(), &body["image"], &body["duration"]),
        ("POST /videos/generations", &json!({"url": first}), &json!(6))
    );
    let linked = Order { references: order.references[1..].to_vec(), ..order };
    let (_, body) = written(OpenAi, "sora-2", Kind::Video, &linked);
    assert_eq!(
        body,
        json!({"model": "sora-2", "prompt": "a cat", "seconds": "4", "size": "720x1280", "input_reference": {"image_url": last}})
    );
}

fn handle() -> Handle {
    Handle { id: "h1".into(), result: Some(To::Url("https://r".into())), ..Handle::default() }
}

#[test]
fn each_answer_is_understood() {
    use Family::*;
    let link = |kind, url: &str| Media { kind, source: Source::Link(url.into()) };
    let film = |seconds| {
        Progress::Made(vec![link(Kind::Video, "https://f")], Usage::default().with(Meter::OutputVideoSeconds, seconds))
    };
    let waiting = |is_running, percent| Progress::Waiting { is_running, percent };
    let own = |to| Media { kind: Kind::Video, source: Source::Own(to) };
    for (family, answer, expected) in [
        (OpenAi, json!({"status": "queued", "progress": 0}), waiting(false, Some(0))),
        (OpenAi, json!({"status": "in_progress", "progress": 33}), waiting(true, Some(33))),
        (
            OpenAi,
            json!({"status": "completed"}),
            Progress::Made(vec![own(To::Path("/videos/h1/content".into()))], Usage::default()),
        ),
        (
            OpenAi,
            json!({"status": "failed", "error": {"code": "moderation_blocked"}}),
            Progress::Failed(Code::InvalidInput),
        ),
        (Veo, json!({"name": "models/v/operations/1"}), waiting(true, None)),
        (Veo, json!({"name": "models/v/operations/1", "done": true}), Progress::Failed(Code::ProviderError)),
        (
            Veo,
            json!({"name": "o", "done": true, "error": {"code": 13, "message": "internal"}}),
            Progress::Failed(Code::ProviderError),
        ),
        (
            Veo,
            json!({"done": true, "response": {"generateVideoResponse": {"raiMediaFilteredCount": 1}}}),
            Progress::Failed(Code::InvalidInput),
        ),
        (
            Veo,
            json!({"done": true, "response": {"generateVideoResponse": {"generatedSamples": [{"video": {"uri": "https://g/f"}}]}}}),
            Progress::Made(vec![own(To::Url("https://g/f".into()))], Usage::default()),
        ),
        (
            VertexVeo,
            json!({"done": true, "response": {"videos": [{"bytesBase64Encoded": "AA==", "mimeType": "video/mp4"}]}}),
            Progress::Made(vec![Media { kind: Kind::Video, source: Source::Inside(0) }], Usage::default()),
        ),
        (Replicate, json!({"status": "starting"}), waiting(false, None)),
        (Replicate, json!({"status": "processing"}), waiting(true, None)),
        (
            Replicate,
            json!({"status": "failed", "error": "NSFW content detected"}),
            Progress::Failed(Code::InvalidInput),
        ),
        (Fal, json!({"status": "IN_QUEUE", "queue_position": 2}), waiting(false, None)),
        (Fal, json!({"status": "IN_PROGRESS"}), waiting(true, None)),
        (Fal, json!({"status": "COMPLETED"}), Progress::Then(To::Url("https://r".into()))),
        (MiniMax, json!({"task": {"status": "running"}}), waiting(true, None)),
        (
            MiniMax,
            json!({"task": {"status": "succeeded", "content": {"url": "https://f"}, "usage": {"output_seconds": 6}}}),
            film(6),
        ),
        (MiniMax, json!({"status": "Processing", "task_id": "1"}), waiting(true, None)),
        (
            MiniMax,
            json!({"status": "Success", "file_id": "77"}),
            Progress::Then(To::Path("/v1/files/retrieve?file_id=77".into())),
        ),
        (Luma, json!({"state": "dreaming"}), waiting(true, None)),
        (Luma, json!({"state": "completed", "assets": {"video": "https://f"}}), film(0)),
        (Luma, json!({"state": "failed", "failure_reason": "400: moderation"}), Progress::Failed(Code::InvalidInput)),
        (Runway, json!({"status": "THROTTLED"}), waiting(false, None)),
        (Runway, json!({"status": "RUNNING", "progress": 0.42}), waiting(true, Some(42))),
        (Runway, json!({"status": "SUCCEEDED", "output": ["https://f"]}), film(0)),
        (Runway, json!({"status": "FAILED", "failureCode": "SAFETY.INPUT.TEXT"}), Progress::Failed(Code::InvalidInput)),
        (Kling, json!({"code": 0, "data": {"task_status": "submitted"}}), waiting(false, None)),
        (
            Kling,
            json!({"code": 0, "data": {"task_status": "succeed", "task_result": {"videos": [{"id": "v", "url": "https://f", "duration": "5.1"}]}}}),
            film(5),
        ),
        (Ark, json!({"status": "queued"}), waiting(false, None)),
        (
            Ark,
            json!({"status": "failed", "error": {"code": "OutputVideoSensitiveContentDetected"}}),
            Progress::Failed(Code::InvalidInput),
        ),
        (Xai, json!({"status": "pending", "progress": 10}), waiting(true, Some(10))),
        (
            Xai,
            json!({"status": "done", "video": {"url": "https://f", "duration": 6, "respect_moderation": true}}),
            film(6),
        ),
        (
            Xai,
            json!({"status": "done", "video": {"url": "", "respect_moderation": false}}),
            Progress::Failed(Code::InvalidInput),
        ),
        (DashScope, json!({"output": {"task_status": "RUNNING"}}), waiting(true, None)),
        (
            DashScope,
            json!({"output": {"task_status": "SUCCEEDED", "video_url": "https://f"}, "usage": {"video_duration": 5}}),
            film(5),
        ),
        (
            DashScope,
            json!({"output": {"task_status": "FAILED", "code": "DataInspectionFailed"}}),
            Progress::Failed(Code::InvalidInput),
        ),
        (Bfl, json!({"status": "Pending"}), waiting(true, None)),
        (
            Bfl,
            json!({"status": "Ready", "result": {"sample": "https://i"}}),
            Progress::Made(vec![link(Kind::Image, "https://i")], Usage::default().with(Meter::OutputImages, 1)),
        ),
        (Bfl, json!({"status": "Content Moderated"}), Progress::Failed(Code::InvalidInput)),
    ] {
        assert_eq!(family.progress(&answer, &handle(), Kind::Video), Ok(expected), "{family:?} {answer}");
    }
    let images = json!({"images": [{"url": "https://1"}, {"url": "https://2"}], "seed": 1});
    let two = vec![link(Kind::Image, "https://1"), link(Kind::Image, "https://2")];
    assert_eq!(Fal.result(200, &images), Ok(Progress::Made(two, Usage::default().with(Meter::OutputImages, 2))));
    assert_eq!(Fal.result(422, &json!({"detail": []})), Ok(Progress::Failed(Code::InvalidInput)));
    assert_eq!(MiniMax.result(200, &json!({})).err(), Some(malformed()), "an answer without a link is none");
    for family in FAMILIES.iter().map(|(_, family)| *family) {
        assert!(
            family.progress(&json!({"status": "new word", "state": "new word"}), &handle(), Kind::Video).is_err(),
            "{family:?}"
        );
        assert!(family.progress(&json!("text"), &handle(), Kind::Video).is_err(), "{family:?}");
        assert!(
            !matches!(family.progress(&json!({"status": "completed"}), &handle(), Kind::Image), Ok(Progress::Made(media, _)) if media.is_empty())
        );
    }
}

#[test]
fn what_kling_says_by_number_is_understood_at_every_status() {
    use crate::attempt::classify::{Class, answer};
    for (code, class, shown) in [
        (1002, Class::Credential, Code::ProviderUnavailable),
        (1102, Class::Credential, Code::ProviderUnavailable),
        (1201, Class::Request, Code::InvalidInput),
        (1301, Class::Request, Code::InvalidInput),
        (1302, Class::Busy, Code::ProviderBusy),
        (5000, Class::Fault, Code::ProviderError),
        (5001, Class::Fault, Code::ProviderUnavailable),
    ] {
        let fault = Family::Kling.fault(&json!({"code": code, "message": "m"})).unwrap();
        let verdict = answer(200, &fault);
        assert_eq!((verdict.class, verdict.code), (class, shown), "{code}");
    }
    let fault = Family::Kling.fault(&json!({"code": 1002, "message": "m"})).unwrap();
    assert_eq!(answer(401, &fault).class, Class::Credential);
    assert_eq!(Family::Kling.fault(&json!({"code": 0, "data": {}})), None);
}

#[test]
fn a_handle_is_read_and_an_odd_one_refused() {
    let order = Order { references: Vec::new(), ..order() };
    let terms = Terms::of(&order, Kind::Video, Family::Kling.manner(), "k", None).unwrap();
    let ask = Ask { order: &order, terms: &terms, upstream: "MiniMax-Hailuo-02", id: "g" };
    let of = |family: Family, value: Value| {
        family.started(&value, &ask).map(|handle| (family.poll(&handle, "u"), family.cancel(&handle)))
    };
    let polled = |family, value| match of(family, value).unwrap().0.to {
        To::Path(path) | To::Url(path) => path,
    };
    for (family, value, expected) in [
        (Family::OpenAi, json!({"id": "video_1"}), "/videos/video_1"),
        (Family::Veo, json!({"name": "models/m/operations/1"}), "/models/m/operations/1"),
        (
            Family::VertexVeo,
            json!({"name": "projects/p/operations/1"}),
            "/publishers/google/models/u:fetchPredictOperation",
        ),
        (Family::Replicate, json!({"id": "1", "urls": {"get": "https://api/p/1"}}), "https://api/p/1"),
        (
            Family::Fal,
            json!({"request_id": "1", "status_url": "https://q/s", "response_url": "https://q/r"}),
            "https://q/s",
        ),
        (
            Family::MiniMax,
            json!({"task_id": 12, "base_resp": {"status_code": 0}}),
            "/v1/query/video_generation?task_id=12",
        ),
        (Family::Luma, json!({"id": "1"}), "/generations/1"),
        (Family::Runway, json!({"id": "1"}), "/tasks/1"),
        (Family::Kling, json!({"code": 0, "data": {"task_id": "1"}}), "/videos/text2video/1"),
        (Family::Ark, json!({"id": "cgt-1"}), "/contents/generations/tasks/cgt-1"),
        (Family::Xai, json!({"request_id": "1"}), "/videos/1"),
        (Family::DashScope, json!({"output": {"task_id": "1"}}), "/tasks/1"),
        (
            Family::Bfl,
            json!({"id": "1", "polling_url": "https://api.eu.bfl.ai/v1/get_result?id=1"}),
            "https://api.eu.bfl.ai/v1/get_result?id=1",
        ),
    ] {
        assert_eq!(polled(family, value), expected, "{family:?}");
    }
    for id in [Value::Null, json!(true), json!({})] {
        assert!(of(Family::Runway, json!({"id": id})).is_err(), "{id}");
    }
    for id in ["../admin", "a/b", "", "a?b", "a\r\nb"] {
        assert!(of(Family::Runway, json!({"id": id})).is_err(), "{id}");
    }
    assert!(of(Family::Veo, json!({"name": "models/../../x"})).is_err());
    assert_eq!(of(Family::Kling, json!({"code": 1303, "message": "busy"})).unwrap_err().code, "rate_limit");
    assert_eq!(
        of(Family::MiniMax, json!({"task_id": "", "base_resp": {"status_code": 1008, "status_msg": "x"}}))
            .unwrap_err()
            .code,
        "1008"
    );
}
