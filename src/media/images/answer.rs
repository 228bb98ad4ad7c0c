//! Pictures on their way back: into OpenAI's answer, into its events, and from links into base64 and the other way.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Images;
use crate::family::fault::Fault;
use crate::json::from_bytes;
use crate::media::Work;
use crate::media::meter::Told;
use crate::media::picture;
use crate::media::shape::{Answered, Raw, Reading, json_of, malformed};
use crate::media::stream::{Fold, event};
use crate::usage::Meter;

/// The content type of streamed pictures.
pub const STREAM: &str = "text/event-stream; charset=utf-8";

/// What a host made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Made {
    /// `{url}` or `{b64_json}`, with what else there is to say of it.
    pub data: Vec<Value>,
    /// What the host counted.
    pub told: Told,
    /// In OpenAI's words.
    pub usage: Option<Value>,
}

impl Made {
    /// Of links.
    pub fn of_links<'a>(links: impl IntoIterator<Item = &'a str>) -> Made {
        Made { data: links.into_iter().map(|url| json!({"url": url})).collect(), ..Made::default() }
    }
}

/// The host's count in OpenAI's words.
pub fn told(usage: Option<&Value>) -> Told {
    let of = |pointer: &str| usage.and_then(|usage| usage.pointer(pointer)).and_then(Value::as_u64);
    let pictures_in = of("/input_tokens_details/image_tokens");
    let words_out = of("/output_tokens_details/text_tokens");
    let out = of("/output_tokens_details/image_tokens")
        .or_else(|| Some(of("/output_tokens")?.saturating_sub(words_out.unwrap_or(0))));
    Told::default()
        .with(Meter::InputTokens, of("/input_tokens").map(|all| all.saturating_sub(pictures_in.unwrap_or(0))))
        .with(Meter::InputImageTokens, pictures_in)
        .with(Meter::OutputTokens, words_out)
        .with(Meter::OutputImageTokens, out)
}

/// The answer for the client.
pub fn answer(work: &Images, mut made: Made, reading: &Reading<'_>) -> Result<Answered, Fault> {
    if made.data.is_empty() {
        return Err(malformed());
    }
    let count = u64::try_from(made.data.len()).unwrap_or(u64::MAX);
    let told = made.told.with(Meter::OutputImages, count);
    let mut links = Vec::new();
    for (at, one) in made.data.iter_mut().enumerate() {
        let Some(one) = one.as_object_mut() else { return Err(malformed()) };
        match work.format.as_deref() {
            // A link that was asked for and is not there: the picture itself is one.
            Some("url") if !one.contains_key("url") => {
                let Some(Value::String(base64)) = one.remove("b64_json") else { return Err(malformed()) };
                one.insert("url".to_owned(), data_url(&base64).into());
            }
            Some("url") => {}
            // Nobody asked: what the host gave. A streamed picture is always inline.
            None if !work.is_stream => {}
            _ => {
                if let Some(Value::String(url)) = one.get("url").filter(|_| !one.contains_key("b64_json")).cloned() {
                    one.remove("url");
                    match picture::parts(&url) {
                        Some((_, base64)) => drop(one.insert("b64_json".to_owned(), base64.into())),
                        None => links.push((at, url)),
                    }
                }
            }
        }
    }
    let usage = made.usage.unwrap_or_else(|| json!({}));
    let body = json!({"created": reading.created, "data": made.data, "usage": usage});
    let content_type = "application/json".to_owned();
    Ok(Answered { content_type, body: body.to_string().into_bytes(), told, links })
}

fn data_url(base64: &str) -> String {
    let kind = picture::kind_of_base64(base64).unwrap_or("image/png");
    format!("data:{kind};base64,{base64}")
}

/// Puts fetched pictures where their links were.
pub fn fill(mut answered: Answered, fetched: &[(usize, Vec<u8>)]) -> Result<Answered, Fault> {
    if answered.links.is_empty() {
        return Ok(answered);
    }
    let mut value = json_of(&answered.body)?;
    let data = value.get_mut("data").and_then(Value::as_array_mut).ok_or_else(malformed)?;
    for (at, bytes) in fetched {
        let one = data.get_mut(*at).and_then(Value::as_object_mut).ok_or_else(malformed)?;
        one.insert("b64_json".to_owned(), STANDARD.encode(bytes).into());
    }
    answered.links = Vec::new();
    answered.body = value.to_string().into_bytes();
    Ok(answered)
}

/// An answer as the events of one that was asked for as a stream: each picture is completed at once.
pub fn as_events(work: &Images, body: &[u8]) -> Result<Vec<u8>, Fault> {
    let value = json_of(body)?;
    let name = if work.is_edit { "image_edit.completed" } else { "image_generation.completed" };
    let mut out = Vec::new();
    for one in value.get("data").and_then(Value::as_array).into_iter().flatten() {
        let done = json!({"type": name, "b64_json": one.get("b64_json"), "created_at": value.get("created"),
            "usage": value.get("usage")});
        event(&done, &mut out);
    }
    Ok(out)
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Vec<Given<'a>>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Given<'a> {
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    b64_json: Option<&'a RawValue>,
}

/// An answer in OpenAI's own shape. Pictures of many megabytes are left where they are when the client gets them as they came.
pub fn read_openai(work: &Images, raws: Vec<Raw>, reading: &Reading<'_>) -> Result<Answered, Fault> {
    let raw = raws.into_iter().next().ok_or_else(malformed)?;
    let Some(given) = from_bytes::<Answer<'_>>(&raw.bytes) else {
        json_of(&raw.bytes)?;
        return Err(malformed());
    };
    let is_as_wanted = |one: &Given<'_>| match work.format.as_deref() {
        Some("url") => one.url.is_some(),
        Some(_) => one.b64_json.is_some(),
        None => one.url.is_some() || one.b64_json.is_some(),
    };
    let told = told(given.usage.as_ref());
    if given.usage.is_some() && !work.is_stream && !given.data.is_empty() && given.data.iter().all(is_as_wanted) {
        let told = told.with(Meter::OutputImages, u64::try_from(given.data.len()).unwrap_or(u64::MAX));
        let content_type = "application/json".to_owned();
        return Ok(Answered { content_type, body: raw.bytes, told, ..Answered::default() });
    }
    let mut value = json_of(&raw.bytes)?;
    let Some(Value::Array(data)) = value.get_mut("data").map(Value::take) else { return Err(malformed()) };
    answer(work, Made { data, told, usage: value.get("usage").cloned() }, reading)
}

/// OpenAI's events, as they are.
pub fn events(work: &Work) -> Box<dyn Fold> {
    let count = match work {
        Work::Images(images) => images.count,
        _ => 1,
    };
    Box::new(Completed { left: count, told: None, made: 0 })
}

struct Completed {
    left: u64,
    told: Option<Told>,
    made: u64,
}

impl Fold for Completed {
    fn on(&mut self, value: &Value, out: &mut Vec<u8>) -> Result<bool, Fault> {
        event(value, out);
        if value.get("type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with(".completed")) {
            let told = told(value.get("usage"));
            self.told = Some(match self.told.take() {
                None => told,
                Some(before) => before.plus(&told),
            });
            self.made = self.made.saturating_add(1);
            self.left = self.left.saturating_sub(1);
        }
        Ok(self.left == 0)
    }

    fn told(&self) -> Told {
        self.told.clone().unwrap_or_default().with(Meter::OutputImages, Some(self.made).filter(|made| *made > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(more: &str) -> Images {
        Images::parse(format!(r#"{{"model":"m","prompt":"p"{more}}}"#).as_bytes(), false).unwrap()
    }

    const READING: Reading<'_> = Reading { upstream: "u", model: "org/m", id: "i", created: 7 };

    fn read(work: &Images, answer: &Value) -> Answered {
        let raw = Raw { bytes: answer.to_string().into_bytes(), ..Raw::default() };
        read_openai(work, vec![raw], &READING).unwrap()
    }

    #[test]
    fn links_and_base64_become_each_other() {
        let inline = json!({"created": 1, "data": [{"b64_json": "iVBORw0KGgo="}]});
        let body = |answered: &Answered| serde_json::from_slice::<Value>(&answered.body).unwrap();
        let url = read(&work(r#","response_format":"url""#), &inline);
        assert_eq!(body(&url)["data"][0]["url"], "data:image/png;base64,iVBORw0KGgo=");
        let linked =
            json!({"created": 1, "data": [{"url": "https://x.example/1"}, {"url": "data:image/png;base64,AAAA"}]});
        let wanted = read(&work(r#","response_format":"b64_json""#), &linked);
        assert_eq!(wanted.links, [(0, "https://x.example/1".to_owned())]);
        let filled = body(&fill(wanted, &[(0, vec![0, 0, 0, 0, 0, 0])]).unwrap());
        assert_eq!(filled["data"], json!([{"b64_json": "AAAAAAAA"}, {"b64_json": "AAAA"}]));
        assert_eq!(body(&read(&work(""), &linked))["data"], linked["data"], "nobody asked for anything else");
    }

    #[test]
    fn what_is_as_wanted_is_not_touched() {
        let answer = json!({"created": 1, "data": [{"b64_json": "AAAA"}], "usage": {"input_tokens": 10,
            "input_tokens_details": {"image_tokens": 4}, "output_tokens": 9, "output_tokens_details": {"text_tokens": 2}}});
        let answered = read(&work(""), &answer);
        assert_eq!(answered.body, answer.to_string().into_bytes());
        let of = |meter| answered.told.get(meter);
        assert_eq!(
            [
                of(Meter::InputTokens),
                of(Meter::InputImageTokens),
                of(Meter::OutputTokens),
                of(Meter::OutputImageTokens)
            ],
            [Some(6), Some(4), Some(2), Some(7)]
        );
        assert!(read_openai(&work(""), vec![Raw { bytes: b"{}".to_vec(), ..Raw::default() }], &READING).is_err());
    }

    #[test]
    fn a_whole_answer_can_be_told_as_events() {
        let out = as_events(&work(r#","stream":true"#), br#"{"created":1,"data":[{"b64_json":"AAAA"}],"usage":{}}"#);
        let text = String::from_utf8(out.unwrap()).unwrap();
        assert!(text.starts_with("event: image_generation.completed\n") && text.contains("AAAA"), "{text}");
    }
}
