//! Base64 of bytes that come in chunks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Encodes; holds at most two bytes between chunks.
#[derive(Debug, Default)]
pub struct Encoder {
    rest: Vec<u8>,
}

impl Encoder {
    /// Takes a chunk, writes what is certain.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !self.rest.is_empty() && self.rest.len() < 3 {
            let Some((first, others)) = bytes.split_first() else { return };
            self.rest.push(*first);
            bytes = others;
        }
        write(&std::mem::take(&mut self.rest), out);
        let whole = bytes.len() - bytes.len() % 3;
        let (whole, rest) = bytes.split_at_checked(whole).unwrap_or((bytes, &[]));
        write(whole, out);
        self.rest.extend_from_slice(rest);
    }

    /// Writes the end.
    pub fn finish(self, out: &mut Vec<u8>) {
        write(&self.rest, out);
    }
}

fn write(bytes: &[u8], out: &mut Vec<u8>) {
    let from = out.len();
    // Four for each three that are begun.
    out.resize(from.saturating_add(bytes.len().div_ceil(3).saturating_mul(4)), 0);
    let written = out.get_mut(from..).and_then(|room| STANDARD.encode_slice(bytes, room).ok());
    out.truncate(from.saturating_add(written.unwrap_or(0)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_base64_of_all_however_it_was_cut(bytes in prop::collection::vec(any::<u8>(), 0..60), size in 1..20usize) {
            let (mut encoder, mut out) = (Encoder::default(), Vec::new());
            bytes.chunks(size).for_each(|chunk| encoder.push(chunk, &mut out));
            encoder.finish(&mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), STANDARD.encode(&bytes));
        }
    }
}
