//! Whose reasoning it is. Signatures and sealed reasoning are of use only to the issuer that made them, and some refuse
//! a request that carries another's; so they travel with the issuer's name, and a family sends only its own.
//!
//! Dialects without a field for it (Anthropic's `signature` and `data`, OpenAI's `encrypted_content`) carry the name
//! inside the value, as `gw1.{issuer}.{value}`. A value without that mark is native to the dialect.

/// What marks a value that names its issuer.
const MARK: &str = "gw1.";

/// Claude, on any platform: signatures are good on all of them.
pub const CLAUDE: &str = "claude-v1";
/// Gemini, on any platform.
pub const GEMINI: &str = "gemini-v1";

/// The issuer of reasoning at an OpenAI-shaped provider: nobody else can read what it sealed.
pub fn of_provider(provider: &str) -> String {
    format!("openai-v1:{provider}")
}

/// Whether a provider of that kind is the issuer, and not a maker whose models are on several platforms.
pub fn is_of_provider(issuer: &str) -> bool {
    issuer.starts_with("openai-v1:")
}

/// Whether a value names an issuer to whom the dialect is not native.
pub fn is_marked(value: &str) -> bool {
    value.starts_with(MARK)
}

/// The value with its issuer's name in it; unchanged where the dialect is native to the issuer.
pub fn marked(issuer: &str, value: &str, native: Option<&str>) -> String {
    if native == Some(issuer) { value.to_owned() } else { format!("{MARK}{issuer}.{value}") }
}

/// The issuer and the bare value. `native` is whose an unmarked value is in this dialect.
pub fn unmarked<'a>(value: &'a str, native: Option<&'a str>) -> (Option<&'a str>, &'a str) {
    match value.strip_prefix(MARK).and_then(|rest| rest.split_once('.')) {
        Some((issuer, value)) => (Some(issuer), value),
        None => (native, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_in_and_comes_out() {
        for (issuer, native) in [(CLAUDE, Some(CLAUDE)), (GEMINI, Some(CLAUDE)), (GEMINI, None)] {
            let value = marked(issuer, "Ab.c=", native);
            assert_eq!(unmarked(&value, native), (Some(issuer), "Ab.c="));
        }
        assert_eq!(marked(CLAUDE, "x", Some(CLAUDE)), "x");
        assert_eq!(unmarked("x", None), (None, "x"));
    }
}
