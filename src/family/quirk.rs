//! Declared deviations of a provider from its family. A provider lists its quirks in its catalog file; family code
//! asks for a quirk, never for a provider.

use serde::{Deserialize, Serialize};

/// One deviation. In catalog files a unit variant is a string (`"developer_as_system"`), the others are objects with
/// one member (`{"drop": ["store"]}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quirk {
    /// Top-level request fields the provider refuses: not sent.
    Drop(Vec<String>),
    /// A top-level request field that has another name there: `[ours, theirs]`. Not applied when `theirs` is present.
    Rename(String, String),
    /// The role `developer` is unknown there: sent as `system`.
    DeveloperAsSystem,
    /// Refuses `stream_options`, and reports usage in a stream without being asked.
    NoStreamOptions,
    /// `completion_tokens` leaves the reasoning tokens out: billed output is the sum of the two.
    ReasoningOutsideOutput,
    /// Leaves reasoning tokens out of `completion_tokens` at times: when there are more of them, they are added.
    ReasoningSometimesOutsideOutput,
    /// Reports errors with status 200 in `base_resp {status_code, status_msg}`; zero is success.
    BaseResp,
    /// Sound in a message is plain base64 rather than an object, and a file a `document_url`, which may be a data URL.
    PlainMedia,
    /// The tool calls of its streams have no `index`.
    UnnumberedCalls,
    /// Refuses `messages[].name`.
    NoMessageName,
    /// Has tools that take free text (`type: custom`), as only the family's maker and few others do.
    TakesFreeText,
}
