//! Whether a JSON object or array that comes in pieces is complete, without keeping it.

/// How far a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    depth: u32,
    in_string: bool,
    is_escaped: bool,
    is_done: bool,
}

impl Progress {
    /// The next piece.
    pub fn push(&mut self, piece: &str) {
        for byte in piece.bytes() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.is_done |= self.depth == 0;
                }
                _ => {}
            }
        }
    }

    /// Whether its last bracket has come: what follows can only be white space.
    pub const fn is_done(self) -> bool {
        self.is_done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_complete_at_its_last_bracket_however_it_was_cut() {
        let text = r#"{"a":"}\"]","b":[{"c":"\\"}]}"#;
        for size in 1..text.len() {
            let mut progress = Progress::default();
            let bytes: Vec<char> = text.chars().collect();
            for (at, piece) in bytes.chunks(size).enumerate() {
                assert!(!progress.is_done(), "{size} {at}");
                progress.push(&piece.iter().collect::<String>());
            }
            assert!(progress.is_done(), "{size}");
        }
        let mut empty = Progress::default();
        empty.push("");
        assert!(!empty.is_done());
    }
}
