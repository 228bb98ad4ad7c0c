//! OpenAI chat completions as Mistral has them.

use crate::error::Failure;
use crate::family::target::{Target, Written, cannot};
use crate::text::prompt::Prompt;

/// Writes a request.
pub fn write(_prompt: &Prompt<'_>, _target: &Target<'_>) -> Result<Written, Failure> {
    Err(cannot("messages", "this request"))
}
