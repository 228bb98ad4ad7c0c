//! Server-sent events out of arbitrary byte chunks.
//!
//! A frame is the lines up to a blank line. Lines end in LF, CRLF or CR; a line that begins with `:` is a comment;
//! several `data:` lines join with LF; one space after the colon is dropped. A last frame without a blank line counts.
//! Follows the event-stream format of the HTML standard. The machine gives the same frames however the input was cut.

/// Longest frame that is accepted, in bytes. A provider that sends a longer one is at fault.
pub const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;

/// One frame: its data and the exact bytes it came in, the blank line included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The joined `data:` lines; `None` for a frame of comments or other fields only.
    pub data: Option<&'a str>,
    /// The bytes as they came.
    pub raw: &'a [u8],
}

/// The stream broke the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SseError {
    /// A frame is longer than [`FRAME_BYTES_MAX`].
    TooLong,
    /// A data line is not UTF-8.
    NotUtf8,
}

/// Splits bytes into frames. Holds at most one unfinished frame.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    /// Everything before this was searched for a blank line in vain.
    searched: usize,
    joined: String,
}

impl Frames {
    /// Takes a chunk and calls `on_frame` for each frame that it completes.
    pub fn push(&mut self, bytes: &[u8], mut on_frame: impl FnMut(Frame<'_>)) -> Result<(), SseError> {
        self.buffer.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(end) = frame_end(&self.buffer, start, self.searched.max(start)) {
            let raw = self.buffer.get(start..end).unwrap_or_default();
            match only_line(raw) {
                Some(data) => {
                    on_frame(Frame { data: Some(std::str::from_utf8(data).map_err(|_| SseError::NotUtf8)?), raw })
                }
                None => emit(raw, &mut self.joined, &mut on_frame)?,
            }
            start = end;
            self.searched = end;
        }
        self.buffer.drain(..start);
        // A line end at the very end may be half of a blank line: look at the last three bytes again next time.
        self.searched = self.buffer.len().saturating_sub(3);
        if self.buffer.len() > FRAME_BYTES_MAX { Err(SseError::TooLong) } else { Ok(()) }
    }

    /// The end of the stream: an unfinished last frame counts as one.
    pub fn finish(mut self, mut on_frame: impl FnMut(Frame<'_>)) -> Result<(), SseError> {
        let rest = std::mem::take(&mut self.buffer);
        if rest.iter().all(|b| matches!(b, b'\r' | b'\n')) {
            return Ok(());
        }
        emit(&rest, &mut self.joined, &mut on_frame)
    }

    /// Bytes of the unfinished frame.
    pub fn pending(&self) -> &[u8] {
        &self.buffer
    }
}

/// Where the frame that begins at `start` ends, after its blank line; looks from `from` on.
fn frame_end(buffer: &[u8], start: usize, from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let found = memchr::memchr2(b'\n', b'\r', buffer.get(at..)?)?;
        let first = at.checked_add(found)?;
        let next_line = line_end(buffer, first)?;
        // A line end right at the start of a frame is an empty frame: swallow it with the next line's search.
        if first == start {
            return Some(next_line);
        }
        match buffer.get(next_line) {
            Some(b'\n' | b'\r') => return line_end(buffer, next_line),
            Some(_) => at = next_line,
            None => return None,
        }
    }
}

/// The index after the line end at `at`; `None` when a CR is last and an LF might still come.
fn line_end(buffer: &[u8], at: usize) -> Option<usize> {
    match (buffer.get(at)?, buffer.get(at.checked_add(1)?)) {
        (b'\r', Some(b'\n')) => at.checked_add(2),
        (b'\r', None) => None,
        _ => at.checked_add(1),
    }
}

/// The data of a frame in the form that nearly all have: one line, ended by LF.
fn only_line(raw: &[u8]) -> Option<&[u8]> {
    let data = raw.strip_prefix(b"data: ")?.strip_suffix(b"\n\n")?;
    memchr::memchr2(b'\n', b'\r', data).is_none().then_some(data)
}

fn emit(raw: &[u8], joined: &mut String, on_frame: &mut impl FnMut(Frame<'_>)) -> Result<(), SseError> {
    let mut single: Option<&str> = None;
    let mut lines = 0usize;
    for line in raw.split(|b| matches!(b, b'\n' | b'\r')) {
        let Some(value) = data_of(line) else { continue };
        let value = std::str::from_utf8(value).map_err(|_| SseError::NotUtf8)?;
        match lines {
            0 => single = Some(value),
            1 => {
                joined.clear();
                joined.push_str(single.unwrap_or_default());
                joined.push('\n');
                joined.push_str(value);
            }
            _ => {
                joined.push('\n');
                joined.push_str(value);
            }
        }
        lines = lines.saturating_add(1);
    }
    let data = if lines > 1 { Some(joined.as_str()) } else { single };
    on_frame(Frame { data, raw });
    Ok(())
}

fn data_of(line: &[u8]) -> Option<&[u8]> {
    // Some hosts begin with a byte order mark.
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let rest = line.strip_prefix(b"data")?;
    match rest.split_first() {
        None => Some(rest),
        Some((b':', value)) => Some(value.strip_prefix(b" ").unwrap_or(value)),
        Some(_) => None,
    }
}

/// Appends one data frame.
pub fn write_data(data: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"\n\n");
}

/// The keep-alive: one comment line, ended by one newline. A blank line after it would make some clients dispatch an
/// empty event.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(chunks: &[&[u8]]) -> Vec<Option<String>> {
        let mut out = Vec::new();
        let mut machine = Frames::default();
        for chunk in chunks {
            machine.push(chunk, |f| out.push(f.data.map(str::to_owned))).unwrap();
        }
        machine.finish(|f| out.push(f.data.map(str::to_owned))).unwrap();
        out.into_iter().filter(Option::is_some).collect()
    }

    #[test]
    fn every_form_of_the_format_is_read() {
        for (input, expected) in [
            ("data: a\n\ndata: b\n\n", vec!["a", "b"]),
            ("data:a\r\n\r\ndata: b\r\n\r\n", vec!["a", "b"]),
            ("data: a\r\rdata: b\r\r", vec!["a", "b"]),
            (": hi\n\ndata: a\n\n", vec!["a"]),
            (": hi\ndata: a\n\n", vec!["a"]),
            ("event: x\ndata: a\ndata: b\ndata: c\nid: 1\n\n", vec!["a\nb\nc"]),
            ("data: a\n\ndata: last", vec!["a", "last"]),
            ("\u{feff}data: a\n\n", vec!["a"]),
            ("data: a\n\n\n\n\ndata: b\n\n", vec!["a", "b"]),
            ("\n\ndata:  two\n\n", vec![" two"]),
            ("data\n\n", vec![""]),
            ("database: a\n\n", vec![]),
            ("", vec![]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|s| Some(s.to_owned())).collect();
            assert_eq!(frames(&[input.as_bytes()]), expected, "{input:?}");
        }
    }

    #[test]
    fn a_frame_keeps_its_bytes() {
        let mut raw = Vec::new();
        let mut machine = Frames::default();
        machine.push(b": c\r\ndata: a\r\n\r\ndata: b\n", |f| raw.extend_from_slice(f.raw)).unwrap();
        assert_eq!(raw, b": c\r\ndata: a\r\n\r\n");
        assert_eq!(machine.pending(), b"data: b\n");
    }

    #[test]
    fn the_same_frames_at_every_byte_border() {
        let input = "data: {\"a\":\"grüße 🦀\"}\r\n\r\n: c\n\ndata: x\ndata: y\n\ndata: z\r\r\ndata: [DONE]";
        let whole = frames(&[input.as_bytes()]);
        for cut in 0..input.len() {
            let (a, b) = input.as_bytes().split_at(cut);
            assert_eq!(frames(&[a, b]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
        assert_eq!(frames(&bytes), whole);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks_are_kept_and_never_panic(
            chunks in prop::collection::vec(prop::collection::vec(prop::sample::select(b"data: \r\n:x".to_vec()), 0..12), 0..12)
        ) {
            let mut raw = Vec::new();
            let mut machine = Frames::default();
            for chunk in &chunks {
                machine.push(chunk, |f| raw.extend_from_slice(f.raw)).unwrap();
            }
            raw.extend_from_slice(machine.pending());
            prop_assert_eq!(raw, chunks.concat());
            let refs: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let whole = chunks.concat();
            prop_assert_eq!(frames(&refs), frames(&[&whole]));
        }
    }
}
