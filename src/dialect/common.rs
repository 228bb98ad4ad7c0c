//! What all text dialects share: types of fields, the gateway's own fields, errors that name the field.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::Failure;
use crate::json::view::Node;
use crate::json::{self, JsonError};
use crate::money::{Price, plain};
use crate::text::request::{Body, DataCollection, MaxPrice, Mode, ProviderPreferences};

/// Most entries of `models`.
const MODELS_MAX: usize = 16;
/// Longest `session_id` and `user`, in bytes.
pub const LABEL_BYTES_MAX: usize = 256;

/// JSON type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As the name says.
    Bool,
    /// As the name says.
    Number,
    /// As the name says.
    Integer,
    /// As the name says.
    Text,
    /// As the name says.
    Array,
    /// As the name says.
    Object,
    /// As the name says.
    TextOrArray,
    /// As the name says.
    TextOrObject,
}

/// The body with its members. Checks the syntax of all of it.
pub fn read(bytes: Vec<u8>) -> Result<Body, Failure> {
    let (members, messages) = json::members_and(&bytes, "messages").map_err(failure)?;
    Ok(Body { bytes, members, messages })
}

/// `model`, then `models`: at least one name.
pub fn models(body: &Body) -> Result<Vec<String>, Failure> {
    let mut models = Vec::new();
    if let Some(name) = text_field(body, "model")? {
        models.push(name);
    }
    if let Some(list) = field::<Vec<String>>(body, "models")? {
        if list.len() > MODELS_MAX {
            return Err(Failure::invalid("models", format!("has more than {MODELS_MAX} entries")));
        }
        models.extend(list.into_iter().filter(|name| !models.contains(name)).collect::<Vec<_>>());
    }
    if let Some(at) = models.iter().position(|name| name.trim().is_empty()) {
        let param = if at == 0 && body.has("model") { "model" } else { "models" };
        return Err(Failure::invalid(param, "is empty"));
    }
    if models.is_empty() {
        return Err(Failure::invalid("model", "is missing"));
    }
    Ok(models)
}

/// Whether `usage: {include: true}` asks for the cost.
pub fn wants_cost(body: &Body) -> Result<bool, Failure> {
    Ok(field::<UsageOptions>(body, "usage")?.and_then(|usage| usage.include).unwrap_or(false))
}

#[derive(Deserialize)]
struct UsageOptions {
    #[serde(default)]
    include: Option<bool>,
}

/// A JSON error as a failure that names the field.
pub fn failure(error: JsonError) -> Failure {
    let failure = Failure::new(crate::error::Code::InvalidInput, error.message);
    match error.path {
        Some(path) => failure.about(path),
        None => failure,
    }
}

/// Bytes of a body that stand around what a model reads, which is the values of those fields.
pub fn around(body: &Body, read: &[&str]) -> u64 {
    let read = body.members.iter().filter(|member| read.contains(&member.key.as_str()));
    let read = read.map(|member| member.value.len()).fold(0, usize::saturating_add);
    count(body.bytes.len().saturating_sub(read))
}

/// Whether a body has tools.
pub fn has_tools(body: &Body) -> bool {
    ["tools", "functions"]
        .iter()
        .any(|name| body.value(name).is_some_and(|list| Node::of(list).items().next().is_some()))
}

/// Whether a body lets the host search the web: by a field for it, or by a tool that searches.
pub fn searches(body: &Body) -> bool {
    let is_set = |name: &&str| body.value(name).is_some_and(|value| value != "null");
    ["web_search_options", "search_parameters", "plugins"].iter().any(is_set)
        || body.value("tools").is_some_and(|tools| Node::of(tools).items().any(searches_by_itself))
}

/// Whether a tool is a host's search, known by its type or, of hosts that write none, by its member. What a client's own
/// tool is called and says does not let the host search.
fn searches_by_itself(tool: Node<'_>) -> bool {
    let is_search = |word: &str| word.to_ascii_lowercase().contains("search");
    match tool.text_at("type") {
        Some(kind) => !matches!(kind.as_ref(), "function" | "custom") && is_search(&kind),
        None => tool.members().any(|(name, _)| is_search(&name)),
    }
}

/// How much context web searches are to bring.
pub fn search_context_size(body: &Body) -> Option<String> {
    Some(Node::of(body.value("web_search_options")?).text_at("search_context_size")?.into_owned())
}

/// A size as a count.
pub fn count(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// Fails where a known field is not of its documented type.
pub fn check_types(body: &Body, fields: &[(&str, Kind)]) -> Result<(), Failure> {
    for member in &body.members {
        let Some((_, kind)) = fields.iter().find(|(name, _)| *name == member.key) else { continue };
        let text = body.bytes.get(member.value.clone()).unwrap_or_default();
        if !has_kind(text, *kind) {
            return Err(Failure::invalid(member.key.clone(), format!("must be {}", kind_name(*kind))));
        }
    }
    Ok(())
}

fn has_kind(text: &[u8], kind: Kind) -> bool {
    let first = text.first().copied().unwrap_or(0);
    let is_number = first == b'-' || first.is_ascii_digit();
    if first == b'n' {
        return true;
    }
    match kind {
        Kind::Bool => matches!(first, b't' | b'f'),
        Kind::Number => is_number,
        Kind::Integer => is_number && !text.iter().any(|b| matches!(b, b'.' | b'e' | b'E')),
        Kind::Text => first == b'"',
        Kind::Array => first == b'[',
        Kind::Object => first == b'{',
        Kind::TextOrArray => matches!(first, b'"' | b'['),
        Kind::TextOrObject => matches!(first, b'"' | b'{'),
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::Number => "a number",
        Kind::Integer => "a whole number",
        Kind::Text => "a string",
        Kind::Array => "an array",
        Kind::Object => "an object",
        Kind::TextOrArray => "a string or an array",
        Kind::TextOrObject => "a string or an object",
    }
}

/// A field's value; `None` when it is absent or null.
pub fn field<'a, T: Deserialize<'a>>(body: &'a Body, key: &str) -> Result<Option<T>, Failure> {
    match body.value(key) {
        None | Some("null") => Ok(None),
        Some(text) => json::parse_flat(text, key).map(Some).map_err(failure),
    }
}

/// A string field.
pub fn text_field(body: &Body, key: &str) -> Result<Option<String>, Failure> {
    if body.value(key) == Some("null") && key == "model" {
        return Err(Failure::invalid("model", "must be a string"));
    }
    field::<String>(body, key)
}

/// A short string field: the client's own names for its users and conversations.
pub fn label(body: &Body, key: &str) -> Result<Option<String>, Failure> {
    let value = text_field(body, key)?;
    match &value {
        Some(text) if text.len() > LABEL_BYTES_MAX => {
            Err(Failure::invalid(key, format!("is longer than {LABEL_BYTES_MAX} bytes")))
        }
        _ => Ok(value),
    }
}

#[derive(Deserialize, Default)]
struct WireProvider {
    #[serde(default)]
    order: Option<Vec<String>>,
    #[serde(default)]
    only: Option<Vec<String>>,
    #[serde(default)]
    ignore: Option<Vec<String>>,
    #[serde(default)]
    allow_fallbacks: Option<bool>,
    #[serde(default)]
    require_parameters: Option<bool>,
    #[serde(default)]
    data_collection: Option<DataCollection>,
    #[serde(default)]
    zdr: Option<bool>,
    #[serde(default)]
    regions: Option<Vec<String>>,
    #[serde(default)]
    sort: Option<Mode>,
    #[serde(default)]
    max_price: Option<WirePrice>,
    #[serde(default)]
    quantizations: Option<Vec<String>>,
    #[serde(default)]
    hedge: Option<bool>,
    #[serde(default)]
    preferred_max_latency: Option<f64>,
    #[serde(default)]
    preferred_min_throughput: Option<f64>,
}

/// A ceiling that nobody knows would be none, so it is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct WirePrice {
    #[serde(default)]
    prompt: Option<Box<RawValue>>,
    #[serde(default)]
    completion: Option<Box<RawValue>>,
    #[serde(default)]
    request: Option<Box<RawValue>>,
    #[serde(default)]
    image: Option<Box<RawValue>>,
    #[serde(default)]
    audio: Option<Box<RawValue>>,
}

/// A wish in whole units (seconds, tokens a second) as thousandths of them.
fn thousandths(value: Option<f64>, param: &str) -> Result<Option<u64>, Failure> {
    const MOST: f64 = 1e9;
    let Some(value) = value else { return Ok(None) };
    if !(0.0..=MOST).contains(&value) {
        return Err(Failure::invalid(param, "must be a number from 0 to 1000000000"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    Ok(Some((value * 1000.0) as u64))
}

/// Members of [`WireProvider`].
const PREFERENCES: &[&str] = &[
    "order",
    "only",
    "ignore",
    "allow_fallbacks",
    "require_parameters",
    "data_collection",
    "zdr",
    "regions",
    "sort",
    "max_price",
    "quantizations",
    "hedge",
    "preferred_max_latency",
    "preferred_min_throughput",
];

/// The members of a `provider` object that nobody knows, by path.
fn unknown_of(text: &str) -> Vec<String> {
    let members = json::members(text.as_bytes()).unwrap_or_default();
    let unknown = members.into_iter().filter(|member| !PREFERENCES.contains(&member.key.as_str()));
    unknown.map(|member| format!("provider.{}", member.key)).collect()
}

/// The `provider` object.
pub fn provider(body: &Body) -> Result<ProviderPreferences, Failure> {
    let wire: WireProvider = match body.value("provider") {
        None | Some("null") => WireProvider::default(),
        Some(text) => json::parse_object(text, "provider").map_err(failure)?,
    };
    let price = |raw: Option<&RawValue>, name: &str, per: u64| -> Result<Option<Price>, Failure> {
        let Some(raw) = raw else { return Ok(None) };
        let text = raw.get().trim_matches('"');
        if text == "null" {
            return Ok(None);
        }
        Price::from_dollars(&if raw.get().starts_with('"') { text.into() } else { plain(text) }, per)
            .map(Some)
            .map_err(|error| Failure::invalid(format!("provider.max_price.{name}"), error.to_string()))
    };
    let max_price = match &wire.max_price {
        None => MaxPrice::default(),
        Some(wire) => MaxPrice {
            prompt: price(wire.prompt.as_deref(), "prompt", 1_000_000)?,
            completion: price(wire.completion.as_deref(), "completion", 1_000_000)?,
            request: price(wire.request.as_deref(), "request", 1)?,
            image: price(wire.image.as_deref(), "image", 1)?,
            audio: price(wire.audio.as_deref(), "audio", 1)?,
        },
    };
    Ok(ProviderPreferences {
        unknown: body.value("provider").map(unknown_of).unwrap_or_default(),
        order: wire.order.unwrap_or_default(),
        only: wire.only.unwrap_or_default(),
        ignore: wire.ignore.unwrap_or_default(),
        allow_fallbacks: wire.allow_fallbacks,
        require_parameters: wire.require_parameters.unwrap_or(false),
        data_collection: wire.data_collection,
        zdr: wire.zdr.unwrap_or(false),
        regions: wire.regions.unwrap_or_default(),
        sort: wire.sort,
        max_price,
        quantizations: wire.quantizations.unwrap_or_default(),
        hedge: wire.hedge.unwrap_or(false),
        preferred_max_latency_ms: thousandths(wire.preferred_max_latency, "provider.preferred_max_latency")?,
        preferred_min_millitokens: thousandths(wire.preferred_min_throughput, "provider.preferred_min_throughput")?,
    })
}
