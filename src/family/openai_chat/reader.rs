//! The frames of one stream, one after the other. Nearly all of them are the frame before with another text in it: those
//! are not parsed. A text in the same place of the same bytes means the same, whatever it says.

use super::{Told, parsed};
use crate::family::quirk::Quirk;

/// Reads a stream's frames as [`frame`](super::frame) reads each alone.
#[derive(Debug, Default)]
pub struct Reader {
    /// The last frame that was parsed and told nothing but a text: what stands before the text, and what behind it.
    around: Option<(String, String)>,
    /// What such a frame tells, its text aside.
    told: Told,
}

impl Reader {
    /// Reads one frame's data.
    pub fn frame(&mut self, data: &str, quirks: &[Quirk]) -> Told {
        if let Some(bytes) = self.alike(data) {
            return Told { output_bytes: bytes, has_content: bytes > 0, ..self.told.clone() };
        }
        let (told, text) = parsed(data, quirks);
        self.around =
            text.and_then(|text| Some((data.get(..text.start)?.to_owned(), data.get(text.end..)?.to_owned())));
        if self.around.is_some() {
            self.told = told.clone();
        }
        told
    }

    /// Bytes of the text, where nothing else is new.
    fn alike(&self, data: &str) -> Option<u64> {
        let (before, after) = self.around.as_ref()?;
        let text = data.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?;
        is_text(text.as_bytes()).then(|| u64::try_from(text.len()).unwrap_or(u64::MAX))
    }
}

/// Whether this may stand between the quotes of a JSON string. Says no to `\u`, which has rules of its own.
fn is_text(text: &[u8]) -> bool {
    let mut is_escaped = false;
    for byte in text {
        match byte {
            _ if is_escaped => match byte {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => is_escaped = false,
                _ => return false,
            },
            b'\\' => is_escaped = true,
            b'"' | 0..=0x1f => return false,
            _ => {}
        }
    }
    !is_escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::family::openai_chat::frame;

    const FRAMES: &[&str] = &[
        r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"TEXT"},"finish_reason":null}]}"#,
        r#"{"id":"c","service_tier":"flex","choices":[{"index":0,"delta":{"role":"assistant","content":"TEXT"},"finish_reason":null}],"usage":null}"#,
        r#"{"choices":[{"delta":{"content":"TEXT","reasoning":"more"}}]}"#,
        r#"{"choices":[{"delta":{"content":"TEXT","reasoning":""}}]}"#,
        r#"{"choices":[{"delta":{"content":"TEXT"},"message":{"content":"b"}}]}"#,
        r#"{"choices":[{"delta":{"content":"TEXT"}},{"delta":{"content":"b"}}]}"#,
        r#"{"choices":[{"delta":{"content":"TEXT"},"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"delta":{"content":"TEXT"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
        r#"{"choices":[{"delta":{"content":"TEXT"}}],"error":{"message":"no"}}"#,
        r#"{"choices":[{"delta":{"content":["TEXT"]}}]}"#,
        r#" {"choices":[{"delta":{ "content" : "TEXT" } } ] } "#,
        r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2},"note":"TEXT"}"#,
        r#"{"error":{"message":"TEXT"}}"#,
        "[DONE]",
        "TEXT",
    ];

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[a-z äß🦀]{0,12}",
            1 => prop::collection::vec(
                prop::sample::select(vec!["a", "\\n", "\\\"", "\\\\", "\\u0041", "\\ud800", "\\x", "\"", "\\", "\u{1}", "\n", "\"},\"x\":{\"y\":\""]), 0..4
            ).prop_map(|parts| parts.concat()),
        ]
    }

    proptest! {
        #[test]
        fn a_stream_says_what_its_frames_say(
            stream in prop::collection::vec((0..FRAMES.len(), prop::collection::vec(text(), 1..4)), 0..8)
        ) {
            let mut reader = Reader::default();
            for (which, texts) in stream {
                for text in texts {
                    let data = FRAMES[which].replace("TEXT", &text);
                    prop_assert_eq!(reader.frame(&data, &[]), frame(&data, &[]), "{}", data);
                }
            }
        }
    }

    #[test]
    fn a_frame_like_the_one_before_is_not_parsed() {
        let mut reader = Reader::default();
        let data = |text: &str| FRAMES[1].replace("TEXT", text);
        reader.frame(&data(""), &[]);
        assert_eq!(reader.alike(&data("zwölf \\n")), Some(9));
        assert_eq!(reader.alike(&data("\\u0041")), None);
        assert_eq!(reader.alike(&FRAMES[0].replace("TEXT", "a")), None);
        let told = reader.frame(&data("zwei"), &[]);
        assert_eq!((told.output_bytes, told.has_content, told.terms.service_tier.as_deref()), (4, true, Some("flex")));
        reader.frame(FRAMES[6], &[]);
        assert_eq!(reader.alike(&data("a")), None, "what tells more is no pattern");
    }
}
