//! The OpenAI chat completions dialect: request parsing.
//!
//! Wire: OpenAI API reference, `POST /v1/chat/completions`. Fields this file does not know are kept and passed on;
//! known ones must have their documented type. Nothing is refused for being new.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::dialect::common::{self, Kind, around, count, failure, field, label, provider, text_field};
use crate::error::Failure;
use crate::json::{self, scan::Place};
use crate::text::demand::Demand;
use crate::text::request::{Body, Need, Request};
use crate::text::terms::Terms;

/// Fields that are for the gateway alone and never sent to a provider.
pub const GATEWAY_FIELDS: &[&str] = &["provider", "models", "preset", "session_id", "usage"];
/// Most choices.
const CHOICES_MAX: u64 = 128;

/// Known top-level fields and their types; each may also be null.
const FIELDS: &[(&str, Kind)] = &[
    ("audio", Kind::Object),
    ("frequency_penalty", Kind::Number),
    ("function_call", Kind::TextOrObject),
    ("functions", Kind::Array),
    ("logit_bias", Kind::Object),
    ("max_completion_tokens", Kind::Integer),
    ("max_tokens", Kind::Integer),
    ("metadata", Kind::Object),
    ("modalities", Kind::Array),
    ("models", Kind::Array),
    ("n", Kind::Integer),
    ("parallel_tool_calls", Kind::Bool),
    ("prediction", Kind::Object),
    ("presence_penalty", Kind::Number),
    ("prompt_cache_key", Kind::Text),
    ("provider", Kind::Object),
    ("preset", Kind::Text),
    ("reasoning_effort", Kind::Text),
    ("response_format", Kind::Object),
    ("safety_identifier", Kind::Text),
    ("seed", Kind::Integer),
    ("service_tier", Kind::Text),
    ("session_id", Kind::Text),
    ("stop", Kind::TextOrArray),
    ("store", Kind::Bool),
    ("stream", Kind::Bool),
    ("stream_options", Kind::Object),
    ("temperature", Kind::Number),
    ("tool_choice", Kind::TextOrObject),
    ("tools", Kind::Array),
    ("top_logprobs", Kind::Integer),
    ("top_p", Kind::Number),
    ("usage", Kind::Object),
    ("user", Kind::Text),
    ("verbosity", Kind::Text),
    ("web_search_options", Kind::Object),
];

/// Parses a body. Errors are `invalid_input` with the field's path in `param`.
pub fn parse(bytes: Vec<u8>) -> Result<Request, Failure> {
    parse_body(common::read(bytes)?)
}

/// The same of a body whose members are known.
pub fn parse_body(body: Body) -> Result<Request, Failure> {
    common::check_types(&body, FIELDS)?;
    let models = common::models(&body)?;
    let stream = field::<bool>(&body, "stream")?.unwrap_or(false);
    let options = field::<StreamOptions>(&body, "stream_options")?;
    if options.is_some() && !stream {
        return Err(Failure::invalid("stream_options", "is only allowed together with stream: true"));
    }
    let prompt = messages(&body)?;
    let mut needs = prompt.needs();
    if field::<Vec<IgnoredAny>>(&body, "tools")?.is_some_and(|tools| !tools.is_empty()) {
        needs.insert(Need::Tools);
    }
    if field::<Vec<IgnoredAny>>(&body, "functions")?.is_some_and(|tools| !tools.is_empty()) {
        needs.insert(Need::Tools);
    }
    if field::<ResponseFormat>(&body, "response_format")?.is_some_and(|f| f.kind.as_deref() == Some("json_schema")) {
        needs.insert(Need::StructuredOutput);
    }
    if field::<Vec<String>>(&body, "modalities")?.is_some_and(|list| list.iter().any(|m| m == "audio")) {
        needs.insert(Need::AudioOutput);
    }
    let session = label(&body, "session_id")?;
    let user = label(&body, "user")?;
    Ok(Request {
        quality: None,
        size: None,
        models,
        stream,
        wants_usage: options.and_then(|o| o.include_usage).unwrap_or(false),
        wants_cost: common::wants_cost(&body)?,
        needs,
        demand: Demand {
            text_bytes: count(body.bytes.len()).saturating_sub(prompt.media_chars),
            around_bytes: around(&body, &["messages", "tools", "functions", "response_format"]),
            messages: prompt.messages,
            images: prompt.images,
            audio_chars: prompt.audio_chars,
            file_chars: prompt.file_chars,
            remote_files: prompt.remote_files,
            max_output: max_output(&body)?,
            choices: choices(&body)?,
            tools: common::has_tools(&body),
            searches: common::searches(&body),
        },
        provider: provider(&body)?,
        user,
        session,
        terms: Terms {
            service_tier: text_field(&body, "service_tier")?,
            search_context_size: common::search_context_size(&body),
            ..Terms::default()
        },
        developer_roles: prompt.developer_roles,
        body,
    })
}

/// The larger of the two limits: which one a provider obeys when both are there is its own matter.
fn max_output(body: &Body) -> Result<Option<u64>, Failure> {
    let mut most = None;
    for key in ["max_completion_tokens", "max_tokens"] {
        match field::<i64>(body, key)? {
            Some(n) if n < 1 => return Err(Failure::invalid(key, "must be at least 1")),
            Some(n) => most = most.max(u64::try_from(n).ok()),
            None => {}
        }
    }
    Ok(most)
}

fn choices(body: &Body) -> Result<u64, Failure> {
    match field::<i64>(body, "n")? {
        None => Ok(1),
        Some(n) => u64::try_from(n)
            .ok()
            .filter(|n| (1..=CHOICES_MAX).contains(n))
            .ok_or_else(|| Failure::invalid("n", format!("must be between 1 and {CHOICES_MAX}"))),
    }
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct ResponseFormat<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
}

/// What the messages hold, counted.
#[derive(Debug, Default)]
struct Prompt {
    messages: u64,
    images: u64,
    audio_chars: u64,
    file_chars: u64,
    remote_files: u64,
    /// Base64 characters of all inline media.
    media_chars: u64,
    has_audio: bool,
    has_file: bool,
    developer_roles: Vec<std::ops::Range<usize>>,
}

impl Prompt {
    fn needs(&self) -> std::collections::BTreeSet<Need> {
        let found =
            [(self.images > 0, Need::Vision), (self.has_audio, Need::AudioInput), (self.has_file, Need::FileInput)];
        found.into_iter().filter(|(has, _)| *has).map(|(_, need)| need).collect()
    }

    fn add(&mut self, part: &Part<'_>) {
        match part {
            Part::Other => {}
            Part::Image(url) => {
                self.images = self.images.saturating_add(1);
                self.media_chars = self.media_chars.saturating_add(inline_chars(url));
            }
            Part::Audio(chars) => {
                self.has_audio = true;
                self.audio_chars = self.audio_chars.saturating_add(*chars);
                self.media_chars = self.media_chars.saturating_add(*chars);
            }
            Part::File(Some(data)) => {
                self.has_file = true;
                let chars = inline_chars(data);
                self.file_chars = self.file_chars.saturating_add(chars);
                self.media_chars = self.media_chars.saturating_add(chars);
            }
            Part::File(None) => {
                self.has_file = true;
                self.remote_files = self.remote_files.saturating_add(1);
            }
        }
    }
}

/// Length of the data of a data URL; zero for a link.
fn inline_chars(url: &str) -> u64 {
    if url.starts_with("data:") { count(url.len()) } else { 0 }
}

fn messages(body: &Body) -> Result<Prompt, Failure> {
    if !body.has("messages") {
        return Err(Failure::invalid("messages", "is missing"));
    }
    // Where the messages have been looked at already, only odd ones are read again, to say what is wrong with them.
    let list = match quickly(body) {
        Some(list) => list,
        None => {
            let text = body.value("messages").unwrap_or_default();
            let spelt: Vec<Spelt<'_>> = json::parse_at(text, "messages").map_err(failure)?;
            spelt.into_iter().map(Spelt::message).collect()
        }
    };
    if list.is_empty() {
        return Err(Failure::invalid("messages", "is empty"));
    }
    let mut prompt = Prompt { messages: count(list.len()), ..Prompt::default() };
    for (index, message) in list.iter().enumerate() {
        let Some(role) = message.role else {
            return Err(Failure::invalid(format!("messages[{index}].role"), "is missing"));
        };
        let role_name = json::from_str::<Name<'_>>(role)
            .map_err(|_| Failure::invalid(format!("messages[{index}].role"), "must be a string"))?;
        let role_name = role_name.0;
        let needs_content = matches!(role_name.as_ref(), "system" | "developer" | "user" | "tool");
        match &message.content {
            None if needs_content => {
                return Err(Failure::invalid(format!("messages[{index}].content"), "is missing"));
            }
            None | Some(Content::Text) => {}
            Some(Content::Parts(parts)) => parts.iter().for_each(|part| prompt.add(part)),
        }
        if role_name == "tool" && message.tool_call_id.is_none() {
            return Err(Failure::invalid(format!("messages[{index}].tool_call_id"), "is missing"));
        }
        if role_name == "developer" {
            let start = (role.as_ptr() as usize).saturating_sub(body.bytes.as_ptr() as usize);
            prompt.developer_roles.push(start..start.saturating_add(role.len()));
        }
    }
    Ok(prompt)
}

/// Borrows where it can; `Cow` alone would always copy.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A message, as far as it is looked into.
struct Message<'a> {
    /// As it is written, quotes included.
    role: Option<&'a str>,
    content: Option<Content<'a>>,
    tool_call_id: Option<Name<'a>>,
}

/// A message read with an eye on what is wrong with it.
#[derive(Deserialize)]
struct Spelt<'a> {
    #[serde(borrow, default)]
    role: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<Content<'a>>,
    #[serde(borrow, default)]
    tool_call_id: Option<Name<'a>>,
    #[serde(default, rename = "tool_calls")]
    _tool_calls: Option<Vec<IgnoredAny>>,
}

impl<'a> Spelt<'a> {
    fn message(self) -> Message<'a> {
        Message { role: self.role.map(RawValue::get), content: self.content, tool_call_id: self.tool_call_id }
    }
}

/// The messages; `None` where something is wrong with them, or odd. Most are one long text that nobody reads here.
fn quickly(body: &Body) -> Option<Vec<Message<'_>>> {
    body.messages.as_ref()?.iter().map(|members| outline(&body.bytes, members)).collect()
}

fn outline<'a>(bytes: &'a [u8], members: &[Place]) -> Option<Message<'a>> {
    const KNOWN: [&[u8]; 4] = [b"role", b"content", b"tool_call_id", b"tool_calls"];
    let mut message = Message { role: None, content: None, tool_call_id: None };
    let mut seen = [false; KNOWN.len()];
    for (_, name, value) in members {
        let (name, value) = (bytes.get(name.clone())?, bytes.get(value.clone())?);
        // Such a name may be one of the known ones.
        (!name.contains(&b'\\')).then_some(())?;
        let Some(place) = KNOWN.iter().position(|known| *known == name) else { continue };
        if std::mem::replace(seen.get_mut(place)?, true) {
            return None;
        }
        let text = || std::str::from_utf8(value).ok();
        match (name, value.first()?) {
            (_, b'n') => {}
            (b"role", _) => message.role = Some(text()?),
            (b"content", b'"') => message.content = Some(Content::Text),
            (b"content", _) => message.content = Some(Content::Parts(json::from_str(text()?).ok()?)),
            (b"tool_call_id", _) => message.tool_call_id = Some(json::from_str(text()?).ok()?),
            (_, first) => (*first == b'[').then_some(())?,
        }
    }
    Some(message)
}

enum Content<'a> {
    Text,
    Parts(Vec<Part<'a>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Content<'a>, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Content<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of parts")
            }
            fn visit_str<E>(self, _: &str) -> Result<Content<'de>, E> {
                Ok(Content::Text)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content<'de>, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// One content part, as far as its size and its needs go.
enum Part<'a> {
    Other,
    Image(Cow<'a, str>),
    Audio(u64),
    File(Option<Cow<'a, str>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Part<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Part<'a>, D::Error> {
        #[derive(Deserialize)]
        struct Link<'a>(#[serde(borrow)] Cow<'a, str>);
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Image<'a> {
            Plain(#[serde(borrow)] Cow<'a, str>),
            Object {
                #[serde(borrow)]
                url: Cow<'a, str>,
            },
        }
        #[derive(Deserialize)]
        struct Audio<'a> {
            #[serde(borrow)]
            data: Link<'a>,
        }
        #[derive(Deserialize)]
        struct File<'a> {
            #[serde(borrow, default)]
            file_data: Option<Link<'a>>,
        }
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Part<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a content part (an object with a type)")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part<'de>, A::Error> {
                let (mut part, mut has_type) = (Part::Other, false);
                while let Some(Name(key)) = map.next_key::<Name<'de>>()? {
                    match key.as_ref() {
                        "type" => {
                            map.next_value::<Name<'de>>()?;
                            has_type = true;
                        }
                        "text" => {
                            let text = map.next_value::<&'de RawValue>()?.get();
                            if !text.starts_with('"') {
                                return Err(serde::de::Error::custom("`text` must be a string"));
                            }
                        }
                        "image_url" => {
                            part = Part::Image(match map.next_value::<Image<'de>>()? {
                                Image::Plain(url) | Image::Object { url } => url,
                            });
                        }
                        "input_audio" => part = Part::Audio(count(map.next_value::<Audio<'de>>()?.data.0.len())),
                        "file" => part = Part::File(map.next_value::<File<'de>>()?.file_data.map(|link| link.0)),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                if has_type { Ok(part) } else { Err(serde::de::Error::missing_field("type")) }
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Price;

    fn parsed(text: &str) -> Result<Request, Failure> {
        parse(text.as_bytes().to_vec())
    }

    #[test]
    fn only_a_host_s_own_search_is_one() {
        let searches = |tool: &str| {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"tools":[{tool}]}}"#);
            common::searches(&parsed(&body).unwrap().body)
        };
        for own in [
            r#"{"type":"function","function":{"name":"search_docs","description":"Searches"}}"#,
            r#"{"type":"custom","name":"search"}"#,
            r#"{"name":"search","input_schema":{"type":"object"}}"#,
        ] {
            assert!(!searches(own), "{own}");
        }
        for host in [
            r#"{"type":"web_search_20250305","name":"web_search"}"#,
            r#"{"type":"web_search"}"#,
            r#"{"googleSearch":{}}"#,
        ] {
            assert!(searches(host), "{host}");
        }
    }

    #[test]
    fn a_whole_request() {
        let request = parsed(
            r#"{"model":"a/b","models":["c/d","a/b"],"stream":true,"stream_options":{"include_usage":true},"max_tokens":7,"n":2,
            "messages":[{"role":"developer","content":"be"},{"role":"user","content":[{"type":"text","text":"hi"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],"tools":[{"type":"function"}],
            "response_format":{"type":"json_schema"},"provider":{"order":["x"],"sort":"price","max_price":{"prompt":1.5}},"unheard":{"of":1}}"#,
        )
        .unwrap();
        assert_eq!(request.models, ["a/b", "c/d"]);
        assert!(request.stream && request.wants_usage && !request.wants_cost);
        assert_eq!(
            request.needs.iter().copied().collect::<Vec<_>>(),
            [Need::Tools, Need::Vision, Need::StructuredOutput]
        );
        assert_eq!((request.demand.max_output, request.demand.choices, request.demand.images), (Some(7), 2, 1));
        assert_eq!(request.provider.max_price.prompt, Some(Price(1_500_000_000)));
        assert!(request.body.has("unheard"));
        let role = request.developer_roles[0].clone();
        assert_eq!(&request.body.bytes[role], b"\"developer\"");
    }

    #[test]
    fn inline_media_are_not_counted_as_text() {
        let data = "A".repeat(5000);
        let text = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]}}"#
        );
        let request = parsed(&text).unwrap();
        assert!(request.demand.text_bytes < 200, "{:?}", request.demand);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, param) in [
            ("{", None),
            ("[]", None),
            ("", None),
            (r#"{"messages":[{"role":"user","content":"x"}]}"#, Some("model")),
            (r#"{"model":null,"messages":[{"role":"user","content":"x"}]}"#, Some("model")),
            (r#"{"model":7,"messages":[{"role":"user","content":"x"}]}"#, Some("model")),
            (r#"{"model":"","messages":[{"role":"user","content":"x"}]}"#, Some("model")),
            (r#"{"model":"m"}"#, Some("messages")),
            (r#"{"model":"m","messages":null}"#, Some("messages")),
            (r#"{"model":"m","messages":[]}"#, Some("messages")),
            (r#"{"model":"m","messages":"x"}"#, Some("messages")),
            (r#"{"model":"m","messages":["x"]}"#, Some("messages[0]")),
            (r#"{"model":"m","messages":[{"content":"x"}]}"#, Some("messages[0].role")),
            (r#"{"model":"m","messages":[{"role":1,"content":"x"}]}"#, Some("messages[0].role")),
            (r#"{"model":"m","messages":[{"role":"user"}]}"#, Some("messages[0].content")),
            (r#"{"model":"m","messages":[{"role":"user","content":null}]}"#, Some("messages[0].content")),
            (r#"{"model":"m","messages":[{"role":"user","content":5}]}"#, Some("messages[0].content")),
            (r#"{"model":"m","messages":[{"role":"user","content":["x"]}]}"#, Some("messages[0].content[0]")),
            (r#"{"model":"m","messages":[{"role":"user","content":[{"text":"x"}]}]}"#, Some("messages[0].content[0]")),
            (r#"{"model":"m","messages":[{"role":"tool","content":"x"}]}"#, Some("messages[0].tool_call_id")),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":"hot"}"#, Some("temperature")),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":0}"#, Some("max_tokens")),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":1.5}"#, Some("max_tokens")),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"n":0}"#, Some("n")),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":"yes"}"#, Some("stream")),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream_options":{}}"#, Some("stream_options")),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"provider":{"order":"x"}}"#,
                Some("provider.order"),
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"provider":{"sort":"luck"}}"#,
                Some("provider.sort"),
            ),
        ] {
            let failure = parsed(text).expect_err(text);
            assert_eq!(failure.code, crate::error::Code::InvalidInput);
            assert_eq!(failure.param.as_deref(), param, "{text}: {}", failure.message);
        }
    }

    #[test]
    fn what_may_be_absent_may_be_absent() {
        for text in [
            r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{}]},{"role":"user","content":""}]}"#,
            r#"{"model":"m","messages":[{"role":"assistant","content":null}],"temperature":null,"stop":null}"#,
            r#"{"models":["m"],"messages":[{"role":"critic","whatever":1}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"hologram","hologram":{}}]}]}"#,
        ] {
            parsed(text).unwrap_or_else(|f| panic!("{text}: {f:?}"));
        }
    }
}
