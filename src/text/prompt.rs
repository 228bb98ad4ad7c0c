//! The typed form of a text request, for a family that does not speak the client's dialect.
//!
//! A dialect parses its body into a [`Prompt`]; a family writes it as its own request. Strings borrow from the body, and
//! what neither side has to understand (numbers, schemas, tool arguments) is JSON text as the client wrote it.

use std::borrow::Cow;

use crate::json::view::Node;
use crate::json::write::Writer;

/// Text of the body: borrowed where it stands there without escapes.
pub type Text<'a> = Cow<'a, str>;

/// Who speaks. `developer` is [`Role::System`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions of the application.
    System,
    /// The user. Results of tools stand in turns of their own, see [`Role::Tool`].
    User,
    /// The model.
    Assistant,
    /// Results of tool calls; only [`Part::Result`]s.
    Tool,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part<'a>>,
    /// The speaker's name.
    pub name: Option<Text<'a>>,
    /// Where it stands in the client's body (`messages[3]`, `input[0]`), to blame it.
    pub path: String,
}

/// One part of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text.
    Text(Text<'a>),
    /// An image; `detail` is `low`, `high`, `auto`, `original`.
    Image {
        /// The picture.
        source: Source<'a>,
        /// How closely to look.
        detail: Option<Text<'a>>,
    },
    /// Sound: base64 and its format (`wav`, `mp3`, …).
    Audio {
        /// Base64.
        data: Text<'a>,
        /// The format's short name.
        format: Text<'a>,
    },
    /// A document.
    File {
        /// The document.
        source: Source<'a>,
        /// Its name.
        name: Option<Text<'a>>,
        /// Whether the answer is to say what of it it uses.
        is_cited: bool,
    },
    /// The model's refusal, replayed.
    Refusal(Text<'a>),
    /// The model's reasoning, replayed.
    Reasoning(Reasoning<'a>),
    /// A tool call of the model.
    Call(Call<'a>),
    /// What a tool answered.
    Result {
        /// The call's id.
        id: Text<'a>,
        /// Text, images and files.
        parts: Vec<Part<'a>>,
        /// Whether the tool failed.
        is_error: bool,
    },
    /// The prompt up to here is worth caching for this long (follows the part it belongs to).
    CacheUpToHere(Lifetime),
    /// A part that no other family has: its type, and its JSON.
    Other {
        /// The dialect's name for it.
        kind: Text<'a>,
        /// The part.
        json: &'a str,
    },
}

/// Where media come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source<'a> {
    /// In the request: MIME type and base64.
    Data {
        /// `image/png`, …
        media_type: Text<'a>,
        /// Base64.
        data: Text<'a>,
    },
    /// A link that the provider is to follow.
    Url(Text<'a>),
    /// A file kept by the provider.
    Id(Text<'a>),
    /// Plain text (a text document of the messages dialect).
    Text(Text<'a>),
}

impl<'a> Source<'a> {
    /// A link, or the content of a `data:` URL.
    pub fn from_url(url: Text<'a>) -> Source<'a> {
        fn split(url: &str) -> Option<(&str, &str)> {
            let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
            Some((head.strip_suffix(";base64")?, data))
        }
        match url {
            Cow::Borrowed(text) => match split(text) {
                Some((kind, data)) => Source::Data { media_type: media_type(kind).into(), data: data.into() },
                None => Source::Url(Cow::Borrowed(text)),
            },
            Cow::Owned(text) => match split(&text) {
                Some((kind, data)) => {
                    Source::Data { media_type: media_type(kind).to_owned().into(), data: data.to_owned().into() }
                }
                None => Source::Url(Cow::Owned(text)),
            },
        }
    }
}

/// Without parameters: `image/png;name=x` is an `image/png`.
fn media_type(kind: &str) -> &str {
    kind.split(';').next().unwrap_or_default()
}

/// How long a cached prefix is to live, as far as families tell lifetimes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The shortest: five minutes at one, half an hour at another.
    Short,
    /// An hour.
    Hour,
    /// Twelve hours.
    HalfDay,
}

/// Reasoning that goes back to the model that wrote it. Only its issuer can make use of the opaque parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reasoning<'a> {
    /// What may be shown.
    pub text: Option<Text<'a>>,
    /// Proof that the text is the issuer's.
    pub signature: Option<Text<'a>>,
    /// Reasoning that nobody but the issuer can read.
    pub sealed: Option<Text<'a>>,
    /// Its id there.
    pub id: Option<Text<'a>>,
    /// Whose it is, see [`crate::text::issuer`]; none where nobody signed.
    pub issuer: Option<Text<'a>>,
}

/// What kind of tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolKind {
    /// Arguments are JSON after a schema.
    Function,
    /// Arguments are free text.
    Custom,
}

/// A tool call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<'a> {
    /// Its id.
    pub id: Text<'a>,
    /// The tool.
    pub name: Text<'a>,
    /// JSON text (or free text for a custom tool), exactly as it was given; may be broken.
    pub arguments: Text<'a>,
    /// What kind of tool.
    pub kind: ToolKind,
    /// A signature over the call (Gemini's thought signature).
    pub signature: Option<Text<'a>>,
    /// Whose signature.
    pub issuer: Option<Text<'a>>,
}

impl Call<'_> {
    /// Its arguments for families that carry an object. Text that is none is kept in one member, so that nothing is lost.
    pub fn object(&self) -> Cow<'_, str> {
        let arguments = self.arguments.trim();
        match Node::parse(arguments) {
            _ if arguments.is_empty() => "{}".into(),
            Some(node) if node.is_object() => arguments.into(),
            _ => Writer::object().text("input", &self.arguments).clone().close().into(),
        }
    }
}

/// A tool the model may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool<'a> {
    /// What kind.
    pub kind: ToolKind,
    /// Its name.
    pub name: Text<'a>,
    /// What it does.
    pub description: Option<Text<'a>>,
    /// JSON schema of its arguments (a custom tool: its `format`).
    pub schema: Option<&'a str>,
    /// Whether the arguments must match the schema.
    pub strict: Option<bool>,
    /// The tools up to here are worth caching.
    pub cache: Option<Lifetime>,
}

impl Tool<'_> {
    /// Its schema for families that refuse one which does not say that it is of an object.
    pub fn object_schema(&self) -> Cow<'_, str> {
        let Some(schema) = self.schema else { return r#"{"type":"object","properties":{}}"#.into() };
        let node = Node::of(schema);
        match (node.is_object(), node.get("type"), node.members().next()) {
            (true, None, None) => r#"{"type":"object","properties":{}}"#.into(),
            (true, None, Some(_)) => {
                let rest = schema.trim().strip_prefix('{').unwrap_or_default();
                format!(r#"{{"type":"object",{rest}"#).into()
            }
            _ => schema.into(),
        }
    }
}

/// Which tool must be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice<'a> {
    /// The model decides.
    Auto,
    /// None.
    None,
    /// Any, but one.
    Required,
    /// This one.
    Named(Text<'a>),
    /// One of these: whether one must be called.
    Allowed {
        /// Whether one must be called.
        required: bool,
        /// Their names.
        names: Vec<Text<'a>>,
    },
}

/// The form of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format<'a> {
    /// Any JSON object.
    Json,
    /// JSON after a schema.
    Schema {
        /// The schema's name.
        name: Text<'a>,
        /// What it is for.
        description: Option<Text<'a>>,
        /// The schema.
        schema: &'a str,
        /// Whether it must be followed to the letter.
        strict: Option<bool>,
    },
}

/// How much to reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effort<'a> {
    /// `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`.
    pub effort: Option<Text<'a>>,
    /// At most so many tokens of it.
    pub budget_tokens: Option<u64>,
    /// Switched on or off without saying how much.
    pub enabled: Option<bool>,
    /// Whether its text (or a summary) is wanted: `auto`, `concise`, `detailed`, or `none`.
    pub summary: Option<Text<'a>>,
}

impl Effort<'_> {
    /// Whether the client said anything about it.
    pub fn is_stated(&self) -> bool {
        self.effort.is_some() || self.budget_tokens.is_some() || self.enabled.is_some()
    }

    /// Whether the client wants none.
    pub fn is_off(&self) -> bool {
        self.enabled == Some(false) || self.effort.as_deref() == Some("none") || self.budget_tokens == Some(0)
    }
}

macro_rules! params {
    ($($variant:ident $name:literal;)*) => {
        /// A request parameter whose value is passed on or left out, never understood. Named as in the chat dialect.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each is its own name on the wire")]
        pub enum Param { $($variant,)* }

        impl Param {
            /// Every parameter.
            pub const ALL: &'static [Param] = &[$(Param::$variant,)*];
            /// The name in the chat dialect, in warnings and in `supported_parameters`.
            pub const fn name(self) -> &'static str { match self { $(Param::$variant => $name,)* } }
            /// The parameter of that name.
            pub fn from_name(name: &str) -> Option<Param> { match name { $($name => Some(Param::$variant),)* _ => None } }
        }
    };
}

params! {
    Audio "audio";
    FrequencyPenalty "frequency_penalty";
    LogitBias "logit_bias";
    Logprobs "logprobs";
    Metadata "metadata";
    MinP "min_p";
    Modalities "modalities";
    Moderation "moderation";
    N "n";
    ParallelToolCalls "parallel_tool_calls";
    Prediction "prediction";
    PresencePenalty "presence_penalty";
    PromptCacheKey "prompt_cache_key";
    PromptCacheOptions "prompt_cache_options";
    PromptCacheRetention "prompt_cache_retention";
    RepetitionPenalty "repetition_penalty";
    SafetyIdentifier "safety_identifier";
    Seed "seed";
    ServiceTier "service_tier";
    Stop "stop";
    Store "store";
    Temperature "temperature";
    TopK "top_k";
    TopLogprobs "top_logprobs";
    TopP "top_p";
    Truncation "truncation";
    User "user";
    Verbosity "verbosity";
    WebSearchOptions "web_search_options";
}

/// A whole text request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompt<'a> {
    /// The conversation, system turns where the client put them.
    pub messages: Vec<Message<'a>>,
    /// Tools.
    pub tools: Vec<Tool<'a>>,
    /// Which tool must be called.
    pub tool_choice: Option<ToolChoice<'a>>,
    /// The form of the answer.
    pub format: Option<Format<'a>>,
    /// How much to reason.
    pub reasoning: Effort<'a>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Everything else that has a name in the chat dialect: its JSON.
    pub params: Vec<(Param, &'a str)>,
    /// Fields of the client's dialect that the typed form does not know. They cannot be translated: a warning names them.
    pub unknown: Vec<Text<'a>>,
}

impl<'a> Prompt<'a> {
    /// The JSON of a parameter.
    pub fn param(&self, param: Param) -> Option<&'a str> {
        self.params.iter().find(|(known, _)| *known == param).map(|(_, json)| *json)
    }

    /// The name of the tool that the call of that id called, earlier in the conversation.
    pub fn called(&self, id: &str) -> Option<&str> {
        self.messages.iter().flat_map(|message| &message.parts).find_map(|part| match part {
            Part::Call(call) if call.id == id => Some(call.name.as_ref()),
            _ => None,
        })
    }

    /// Whether the answer is to cite a file.
    pub fn wants_citations(&self) -> bool {
        let is_cited = |part: &Part<'_>| matches!(part, Part::File { is_cited: true, .. });
        self.messages.iter().any(|message| message.parts.iter().any(is_cited))
    }

    /// Whether a turn says who of several speaks. Of a tool's result the call says it.
    pub fn names_speakers(&self) -> bool {
        self.messages.iter().any(|message| message.name.is_some() && message.role != Role::Tool)
    }

    /// Whether the result of a tool says that it is an error.
    pub fn has_failed_results(&self) -> bool {
        let is_failed = |part: &Part<'_>| matches!(part, Part::Result { is_error: true, .. });
        self.messages.iter().any(|message| message.parts.iter().any(is_failed))
    }

    /// The system turns at the beginning, and the rest.
    pub fn split_system(&self) -> (&[Message<'a>], &[Message<'a>]) {
        let count = self.messages.iter().take_while(|message| message.role == Role::System).count();
        self.messages.split_at(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_urls_are_taken_apart() {
        let data = |media_type: &str, data: &str| Source::Data {
            media_type: media_type.to_owned().into(),
            data: data.to_owned().into(),
        };
        assert_eq!(Source::from_url("data:image/png;base64,AA==".into()), data("image/png", "AA=="));
        assert_eq!(Source::from_url("data:image/png;name=x;base64,AA".to_owned().into()), data("image/png", "AA"));
        for link in ["https://x.example/a.png", "data:text/plain,hi"] {
            assert_eq!(Source::from_url(link.into()), Source::Url(link.into()));
        }
    }

    #[test]
    fn every_parameter_is_found_by_its_name() {
        for param in Param::ALL {
            assert_eq!(Param::from_name(param.name()), Some(*param));
        }
    }
}
