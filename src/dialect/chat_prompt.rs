//! The OpenAI chat completions dialect: a parsed body as the typed form.

use crate::error::Failure;
use crate::text::prompt::Prompt;
use crate::text::request::Request;

/// The typed form.
pub fn prompt(_request: &Request) -> Result<Prompt<'_>, Failure> {
    Ok(Prompt::default())
}
