//! How a client names a model.
//!
//! ```text
//! name     = [provider ":"] model [":" suffix] ["@" preset] [":" suffix]  |  "@" preset [":" suffix]
//! suffix   = "nitro" | "fast" | "cheap" | "floor" | "free"      at most one, before or after the preset
//! provider = an id; pins the request to that provider
//! model    = an id (organisation/name), an alias or a bare name; behind a pin it may hold further colons
//! ```
//!
//! The last colon is a suffix when a known one follows; else the first colon ends a provider's id. So `llama3:8b` is
//! the model `8b` pinned to a provider `llama3`, and `ollama:llama3:8b` is `llama3:8b` at `ollama`. What the name
//! resolves to is not decided here.

use std::fmt;

/// The longest name, in bytes; keeps it fit for a key of the store.
pub const NAME_BYTES_MAX: usize = 256;
/// The longest preset slug, in bytes.
pub const PRESET_BYTES_MAX: usize = 64;

/// A name, taken apart. Model or preset is there, or both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelName {
    /// The provider to pin to.
    pub provider: Option<String>,
    /// Id, alias or bare name of the model; none where only a preset is named.
    pub model: Option<String>,
    /// How to choose among its offers.
    pub suffix: Option<Suffix>,
    /// The preset to apply.
    pub preset: Option<String>,
}

/// What may stand behind a model's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suffix {
    /// `:nitro`, the highest throughput.
    Nitro,
    /// `:fast`, the lowest latency.
    Fast,
    /// `:cheap`, a low price.
    Cheap,
    /// `:floor`, the lowest price.
    Floor,
    /// `:free`, offers that cost nothing only.
    Free,
}

/// Why a name cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamingError {
    /// Nothing, or nothing where a model belongs.
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    TooLong,
    /// A character that is in no name.
    Character(char),
    /// Something after a colon that is no suffix, behind something that is no provider id.
    UnknownSuffix(String),
    /// Two suffixes.
    TwoSuffixes,
    /// Something after `@` that is no preset slug.
    Preset(String),
}

impl fmt::Display for NamingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NamingError::Empty => write!(f, "the model name is empty"),
            NamingError::TooLong => write!(f, "the model name is longer than {NAME_BYTES_MAX} bytes"),
            NamingError::Character(character) => write!(f, "the model name may not contain {character:?}"),
            NamingError::UnknownSuffix(suffix) => {
                write!(f, "unknown suffix :{suffix}; known are")?;
                Suffix::ALL.iter().try_for_each(|known| write!(f, " :{}", known.name()))
            }
            NamingError::TwoSuffixes => write!(f, "the model name has two suffixes"),
            NamingError::Preset(slug) => write!(f, "{slug:?} is not a preset"),
        }
    }
}

impl Suffix {
    /// Every suffix.
    pub const ALL: [Suffix; 5] = [Suffix::Nitro, Suffix::Fast, Suffix::Cheap, Suffix::Floor, Suffix::Free];

    /// The word behind the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Suffix::Nitro => "nitro",
            Suffix::Fast => "fast",
            Suffix::Cheap => "cheap",
            Suffix::Floor => "floor",
            Suffix::Free => "free",
        }
    }
}

impl ModelName {
    /// Parses the `model` of a request.
    pub fn parse(text: &str) -> Result<ModelName, NamingError> {
        if text.len() > NAME_BYTES_MAX {
            return Err(NamingError::TooLong);
        }
        if let Some(character) = text.chars().find(|character| !is_name_character(*character)) {
            return Err(NamingError::Character(character));
        }
        let (rest, last) = split_suffix(text);
        let (rest, preset) = split_preset(rest)?;
        let (rest, first) = split_suffix(rest);
        let suffix = match (first, last) {
            (Some(_), Some(_)) => return Err(NamingError::TwoSuffixes),
            (first, last) => first.or(last),
        };
        if rest.is_empty() && preset.is_some() && first.is_none() {
            return Ok(ModelName { suffix, preset, ..ModelName::default() });
        }
        if split_suffix(rest).1.is_some() {
            return Err(NamingError::TwoSuffixes);
        }
        let (provider, model) = split_pin(rest)?;
        if model.is_empty() {
            return Err(NamingError::Empty);
        }
        Ok(ModelName { provider: provider.map(str::to_owned), model: Some(model.to_owned()), suffix, preset })
    }
}

fn split_suffix(text: &str) -> (&str, Option<Suffix>) {
    let known = text.rsplit_once(':').and_then(|(rest, word)| {
        let suffix = Suffix::ALL.into_iter().find(|suffix| suffix.name() == word)?;
        Some((rest, suffix))
    });
    match known {
        Some((rest, suffix)) => (rest, Some(suffix)),
        None => (text, None),
    }
}

/// The last `@` starts a preset, unless it is the first character of a pinned upstream name (`host:@cf/org/name`).
fn split_preset(text: &str) -> Result<(&str, Option<String>), NamingError> {
    let Some((rest, slug)) = text.rsplit_once('@').filter(|(rest, _)| !rest.ends_with(':')) else {
        return Ok((text, None));
    };
    let is_slug = slug.len() <= PRESET_BYTES_MAX && is_id(slug);
    if is_slug { Ok((rest, Some(slug.to_owned()))) } else { Err(NamingError::Preset(slug.to_owned())) }
}

fn split_pin(text: &str) -> Result<(Option<&str>, &str), NamingError> {
    match text.split_once(':') {
        None => Ok((None, text)),
        Some((provider, model)) if is_id(provider) => Ok((Some(provider), model)),
        Some(("", _)) => Err(NamingError::Empty),
        Some((_, word)) => Err(NamingError::UnknownSuffix(word.to_owned())),
    }
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "._-/:@+".contains(character)
}

/// Whether `text` is `[a-z0-9][a-z0-9._-]*`, the form of the ids of providers and organisations and of preset slugs.
pub fn is_id(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = (Option<&'static str>, Option<&'static str>, Option<Suffix>, Option<&'static str>);

    fn check(text: &str, expected: Result<Parts, NamingError>) {
        let own = |part: Option<&str>| part.map(str::to_owned);
        let expected = expected.map(|(provider, model, suffix, preset)| ModelName {
            provider: own(provider),
            model: own(model),
            suffix,
            preset: own(preset),
        });
        assert_eq!(ModelName::parse(text), expected, "{text}");
    }

    #[test]
    fn names_are_taken_apart() {
        use Suffix::*;
        for (text, expected) in [
            ("openai/gpt-5.4", (None, Some("openai/gpt-5.4"), None, None)),
            ("gpt-5.4", (None, Some("gpt-5.4"), None, None)),
            ("openai/gpt-5.4:nitro", (None, Some("openai/gpt-5.4"), Some(Nitro), None)),
            ("gpt-5.4:fast", (None, Some("gpt-5.4"), Some(Fast), None)),
            ("a/b:cheap", (None, Some("a/b"), Some(Cheap), None)),
            ("a/b:floor", (None, Some("a/b"), Some(Floor), None)),
            ("a/b:free", (None, Some("a/b"), Some(Free), None)),
            ("acme:openai/gpt-oss-120b", (Some("acme"), Some("openai/gpt-oss-120b"), None, None)),
            ("acme:openai/gpt-oss-120b:free", (Some("acme"), Some("openai/gpt-oss-120b"), Some(Free), None)),
            ("llama3:8b", (Some("llama3"), Some("8b"), None, None)),
            ("ollama:llama3:8b", (Some("ollama"), Some("llama3:8b"), None, None)),
            ("host:@cf/meta/llama-3", (Some("host"), Some("@cf/meta/llama-3"), None, None)),
            ("host:Qwen/Qwen3-32B", (Some("host"), Some("Qwen/Qwen3-32B"), None, None)),
            ("@support", (None, None, None, Some("support"))),
            ("@support:nitro", (None, None, Some(Nitro), Some("support"))),
            ("a/b@support", (None, Some("a/b"), None, Some("support"))),
            ("a/b:fast@support", (None, Some("a/b"), Some(Fast), Some("support"))),
            ("a/b@support:fast", (None, Some("a/b"), Some(Fast), Some("support"))),
            ("p:a/b:fast@support", (Some("p"), Some("a/b"), Some(Fast), Some("support"))),
        ] {
            check(text, Ok(expected));
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_reason() {
        let longest = "a".repeat(NAME_BYTES_MAX);
        assert_eq!(ModelName::parse(&longest).unwrap().model, Some(longest.clone()));
        let long_slug = "s".repeat(PRESET_BYTES_MAX + 1);
        for (text, error) in [
            ("", NamingError::Empty),
            (":", NamingError::Empty),
            (":free", NamingError::Empty),
            ("acme:", NamingError::Empty),
            (":nitro@support", NamingError::Empty),
            (format!("{longest}a").as_str(), NamingError::TooLong),
            ("a b", NamingError::Character(' ')),
            ("a/b\n", NamingError::Character('\n')),
            ("modèle", NamingError::Character('è')),
            ("a/b:turbo", NamingError::UnknownSuffix("turbo".into())),
            ("a/b:free:nitro", NamingError::TwoSuffixes),
            ("a/b:free@support:nitro", NamingError::TwoSuffixes),
            ("acme:a/b:free:nitro", NamingError::TwoSuffixes),
            ("gpt:free:fast@support", NamingError::TwoSuffixes),
            ("a/b@", NamingError::Preset(String::new())),
            ("@", NamingError::Preset(String::new())),
            ("a/b@Support", NamingError::Preset("Support".into())),
            (format!("@{long_slug}").as_str(), NamingError::Preset(long_slug.clone())),
        ] {
            check(text, Err(error));
        }
        assert_eq!(
            NamingError::UnknownSuffix("turbo".into()).to_string(),
            "unknown suffix :turbo; known are :nitro :fast :cheap :floor :free"
        );
    }
}
