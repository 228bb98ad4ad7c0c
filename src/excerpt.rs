//! The begin of something of any length: so many bytes of it are held, the rest is counted.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The first bytes, and how many there were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    held: Vec<u8>,
    most: usize,
    whole: u64,
}

impl Excerpt {
    /// Of nothing yet, and at most `most` bytes.
    pub fn new(most: usize) -> Excerpt {
        Excerpt { held: Vec::new(), most, whole: 0 }
    }

    /// Of that.
    pub fn of(bytes: &[u8], most: usize) -> Excerpt {
        let mut excerpt = Excerpt::new(most);
        excerpt.push(bytes);
        excerpt
    }

    /// Takes what comes next.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = self.most.saturating_sub(self.held.len()).min(bytes.len());
        self.held.extend_from_slice(bytes.get(..room).unwrap_or_default());
        self.whole = self.whole.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    }

    /// As JSON: `text`, or `base64` where it is no text, or text that would take more than two bytes for each of its own
    /// there (control characters take six); `bytes` of the whole, and whether some are missing.
    pub fn json(&self) -> Value {
        let is_truncated = u64::try_from(self.held.len()).unwrap_or(u64::MAX) < self.whole;
        let text = match std::str::from_utf8(&self.held) {
            Ok(text) => Some(text),
            // The cut may have fallen into a character.
            Err(error) if is_truncated && error.error_len().is_none() => {
                self.held.get(..error.valid_up_to()).and_then(|held| std::str::from_utf8(held).ok())
            }
            Err(_) => None,
        };
        match text.filter(|text| json!(text).to_string().len() <= text.len().saturating_mul(2).saturating_add(2)) {
            Some(text) => json!({"text": text, "bytes": self.whole, "is_truncated": is_truncated}),
            None => json!({"base64": STANDARD.encode(&self.held), "bytes": self.whole, "is_truncated": is_truncated}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_begin_is_held_the_rest_is_counted() {
        let mut excerpt = Excerpt::of(b"abc", 5);
        assert_eq!(excerpt.json(), json!({"text": "abc", "bytes": 3, "is_truncated": false}));
        excerpt.push(b"de");
        assert_eq!(excerpt.json(), json!({"text": "abcde", "bytes": 5, "is_truncated": false}));
        excerpt.push(b"fgh");
        assert_eq!(excerpt.json(), json!({"text": "abcde", "bytes": 8, "is_truncated": true}));
        assert_eq!(Excerpt::new(0).json(), json!({"text": "", "bytes": 0, "is_truncated": false}));
    }

    #[test]
    fn a_cut_falls_before_a_character_and_what_is_no_text_is_told_in_base64() {
        for most in 1..4 {
            let shown = Excerpt::of("aüa".as_bytes(), most).json();
            assert_eq!(shown["text"], json!(["a", "a", "aü"][most - 1]), "{most}");
        }
        let (quotes, zeros) = ([b'"'; 90], [0; 90]);
        assert!(Excerpt::of(&quotes, 90).json().get("text").is_some());
        assert_eq!(Excerpt::of(&zeros, 90).json()["base64"], json!("A".repeat(120)));
        assert_eq!(Excerpt::of(&[0xff, 0xfe], 9).json(), json!({"base64": "//4=", "bytes": 2, "is_truncated": false}));
        // An unfinished character at the very end is no text either.
        assert!(Excerpt::of(&[b'a', 0xc3], 9).json().get("base64").is_some());
    }
}
