//! The AWS event stream: frames out of arbitrary byte chunks.
//!
//! One frame, integers big-endian: total length (4), length of the headers (4), CRC-32 of these eight bytes (4), headers,
//! payload, CRC-32 of all before (4). A header: length of its name (1), name, type (1), value; type 7 is a string with
//! two bytes of length. Follows the vnd.amazon.eventstream encoding of the AWS SDKs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::json::view::Node;
use crate::json::write::quoted;

/// Longest frame that is accepted, in bytes (the format's own limit).
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a frame beside headers and payload.
const OVERHEAD: usize = 16;
/// Lengths and their checksum.
const PRELUDE: usize = 12;

/// The stream broke the format: a wrong checksum, an impossible length, text that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokenFrame;

/// Splits bytes into frames. Holds at most one unfinished frame.
#[derive(Debug, Default)]
pub struct EventFrames {
    buffer: Vec<u8>,
}

impl EventFrames {
    /// Takes a chunk and calls `on_frame` with kind and payload of each frame that it completes. The kind is the
    /// `:event-type`; of an exception its type with a `!` before it, of an error its code likewise.
    pub fn push(&mut self, bytes: &[u8], on_frame: &mut dyn FnMut(&str, &str)) -> Result<(), BrokenFrame> {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(rest) = self.buffer.get(at..).filter(|rest| rest.len() >= PRELUDE) {
            let total = length(rest, 0)?;
            let headers = length(rest, 4)?;
            let is_possible = total >= OVERHEAD.saturating_add(headers) && total <= FRAME_BYTES_MAX;
            if !is_possible || checksum(rest, 8)? != crc32fast::hash(rest.get(..8).ok_or(BrokenFrame)?) {
                return Err(BrokenFrame);
            }
            let Some(frame) = rest.get(..total) else { break };
            let end = total.saturating_sub(4);
            if checksum(frame, end)? != crc32fast::hash(frame.get(..end).ok_or(BrokenFrame)?) {
                return Err(BrokenFrame);
            }
            let payload_at = PRELUDE.saturating_add(headers);
            let kind = kind(frame.get(PRELUDE..payload_at).ok_or(BrokenFrame)?)?;
            let payload =
                std::str::from_utf8(frame.get(payload_at..end).ok_or(BrokenFrame)?).map_err(|_| BrokenFrame)?;
            on_frame(&kind, payload);
            at = at.saturating_add(total);
        }
        self.buffer.drain(..at);
        Ok(())
    }

    /// Whether no frame is unfinished.
    pub fn is_at_border(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// A frame as the text that decoders take: an object with one member, named like the frame. The `chunk` of an invoke is
/// what it carries in base64.
pub fn as_json(kind: &str, payload: &str) -> String {
    let carried = || {
        let bytes = Node::parse(payload)?.text_at("bytes")?;
        String::from_utf8(STANDARD.decode(bytes.as_bytes()).ok()?).ok()
    };
    match kind {
        "chunk" => carried().unwrap_or_default(),
        _ => format!("{{{}:{}}}", quoted(kind), if payload.trim().is_empty() { "{}" } else { payload }),
    }
}

fn checksum(bytes: &[u8], at: usize) -> Result<u32, BrokenFrame> {
    let four = bytes.get(at..at.saturating_add(4)).and_then(|four| four.try_into().ok()).ok_or(BrokenFrame)?;
    Ok(u32::from_be_bytes(four))
}

fn length(bytes: &[u8], at: usize) -> Result<usize, BrokenFrame> {
    usize::try_from(checksum(bytes, at)?).map_err(|_| BrokenFrame)
}

/// Bytes of a header's value by its type, the two bytes of a length included; `None` for an unknown type.
fn value_bytes(kind: u8, rest: &[u8]) -> Option<usize> {
    Some(match kind {
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        5 | 8 => 8,
        6 | 7 => usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?)).saturating_add(2),
        9 => 16,
        _ => return None,
    })
}

fn kind(mut headers: &[u8]) -> Result<String, BrokenFrame> {
    let (mut event, mut failure) = (String::new(), None);
    while let Some((name_len, rest)) = headers.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*name_len)).ok_or(BrokenFrame)?;
        let (kind, rest) = rest.split_first().ok_or(BrokenFrame)?;
        let (value, rest) = rest.split_at_checked(value_bytes(*kind, rest).ok_or(BrokenFrame)?).ok_or(BrokenFrame)?;
        let text = || String::from_utf8_lossy(value.get(2..).unwrap_or_default()).into_owned();
        match name {
            b":event-type" => event = text(),
            b":exception-type" | b":error-code" => failure = Some(text()),
            _ => {}
        }
        headers = rest;
    }
    Ok(failure.map_or(event, |failure| format!("!{failure}")))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame with one string header.
    pub(crate) fn frame(header: &str, value: &str, payload: &str) -> Vec<u8> {
        let mut headers = vec![u8::try_from(header.len()).unwrap()];
        headers.extend_from_slice(header.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
        let total = u32::try_from(OVERHEAD + headers.len() + payload.len()).unwrap();
        let mut out = total.to_be_bytes().to_vec();
        out.extend_from_slice(&u32::try_from(headers.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out.extend_from_slice(&headers);
        out.extend_from_slice(payload.as_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out
    }

    fn run(chunks: &[&[u8]]) -> (Vec<(String, String)>, bool) {
        let (mut frames, mut found, mut broken) = (EventFrames::default(), Vec::new(), false);
        for chunk in chunks {
            broken |= frames.push(chunk, &mut |kind, data| found.push((kind.to_owned(), data.to_owned()))).is_err();
        }
        (found, broken || !frames.is_at_border())
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let mut bytes = frame(":event-type", "messageStart", "{\"role\":\"assistant\"}");
        bytes.extend(frame(":exception-type", "throttlingException", "{}"));
        let whole = run(&[&bytes]);
        assert_eq!(whole.0[1].0, "!throttlingException");
        assert!(!whole.1 && whole.0[0] == ("messageStart".into(), "{\"role\":\"assistant\"}".into()));
        for cut in 0..bytes.len() {
            assert_eq!(run(&[&bytes[..cut], &bytes[cut..]]), whole);
        }
        assert!(run(&[&bytes[..bytes.len() - 1]]).1, "a cut frame is not at its border");
    }

    #[test]
    fn a_wrong_checksum_is_an_error() {
        let good = frame(":event-type", "x", "{}");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(run(&[&bad]).1, "{at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            run(&[&bytes]);
        }
    }
}
