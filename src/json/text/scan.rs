//! The syntax of a JSON text (RFC 8259), checked without making anything of it. Prompts are mostly long strings: these are
//! looked at sixteen bytes at a time, and eight where something is found.

use std::ops::Range;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Whether anything of a block is special.
#[cfg(target_feature = "simd128")]
#[inline(always)]
fn has_special(block: &[u8; 16]) -> bool {
    use core::arch::wasm32::{u8x16_eq, u8x16_lt, u8x16_splat, u64x2, v128_any_true, v128_or};
    let both = u128::from_le_bytes(*block);
    #[allow(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    let block = u64x2(both as u64, (both >> 64) as u64);
    let marks = v128_or(u8x16_eq(block, u8x16_splat(b'"')), u8x16_eq(block, u8x16_splat(b'\\')));
    v128_any_true(v128_or(marks, u8x16_lt(block, u8x16_splat(0x20))))
}

/// Where, from `at` on, something stands that a string does not simply hold: a quote, a backslash, a control character.
#[inline(always)]
pub fn special(bytes: &[u8], mut at: usize) -> Option<usize> {
    #[cfg(target_feature = "simd128")]
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk)
        && !has_special(block)
    {
        at = at.wrapping_add(16);
    }
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*word);
        let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
        // In each of the three, the lowest byte that is marked is marked rightly.
        let quote = is_zero(word ^ (ONES.wrapping_mul(0x22)));
        let backslash = is_zero(word ^ (ONES.wrapping_mul(0x5c)));
        let control = word.wrapping_sub(ONES.wrapping_mul(0x20)) & !word;
        let marks = (quote | backslash | control) & HIGHS;
        if marks != 0 {
            return at.checked_add(usize::try_from(marks.trailing_zeros() >> 3).ok()?);
        }
        at = at.wrapping_add(8);
    }
    let rest = bytes.get(at..)?;
    at.checked_add(rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?)
}

/// The index behind the string whose first quote is before `at`.
pub fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = special(bytes, at)?;
        // Escapes stand close to each other in code: each is one look at two bytes.
        at = match bytes.get(at..)? {
            [b'"', ..] => return at.checked_add(1),
            [b'\\', b'n' | b'"' | b'\\' | b'/' | b'b' | b'f' | b'r' | b't', ..] => at.wrapping_add(2),
            [b'\\', b'u', a, b, c, d, ..] => {
                [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit).then_some(())?;
                at.wrapping_add(6)
            }
            _ => return None,
        };
    }
}

/// The index behind the white space at `at`.
pub fn space_end(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
        at = at.wrapping_add(1);
    }
    at
}

fn digits_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at = at.wrapping_add(1);
    }
    (at > from).then_some(at)
}

/// The index behind the number that begins at `at`.
pub fn number_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    if bytes.get(at) == Some(&b'-') {
        at = at.checked_add(1)?;
    }
    at = match bytes.get(at)? {
        b'0' => at.checked_add(1)?,
        _ => digits_end(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits_end(bytes, at.checked_add(1)?)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at = at.checked_add(1)?;
        if matches!(bytes.get(at), Some(b'+' | b'-')) {
            at = at.checked_add(1)?;
        }
        at = digits_end(bytes, at)?;
    }
    Some(at)
}

/// Where a name stands between its quotes, and the index behind its colon.
fn name(bytes: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    (bytes.get(at) == Some(&b'"')).then_some(())?;
    let begin = at.checked_add(1)?;
    let end = string_end(bytes, begin)?;
    let colon = space_end(bytes, end);
    (bytes.get(colon) == Some(&b':')).then_some(())?;
    Some((begin..end.checked_sub(1)?, colon.checked_add(1)?))
}

/// The index behind the value that begins at `at` or behind the white space there; `None` where there is no JSON value.
/// `bytes` is UTF-8.
pub fn value_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    // What closes the lists and objects that are open: nothing is called again for a deeper one.
    let mut open: Vec<u8> = Vec::new();
    loop {
        at = space_end(bytes, at);
        let literal = |word: &[u8]| bytes.get(at..)?.starts_with(word).then(|| at.wrapping_add(word.len()));
        at = match *bytes.get(at)? {
            b'"' => string_end(bytes, at.checked_add(1)?)?,
            bracket @ (b'{' | b'[') => {
                let closing = if bracket == b'{' { b'}' } else { b']' };
                let next = space_end(bytes, at.checked_add(1)?);
                if bytes.get(next) == Some(&closing) {
                    next.checked_add(1)?
                } else {
                    open.push(closing);
                    at = if closing == b'}' { name(bytes, next)?.1 } else { next };
                    continue;
                }
            }
            b't' => literal(b"true")?,
            b'f' => literal(b"false")?,
            b'n' => literal(b"null")?,
            _ => number_end(bytes, at)?,
        };
        loop {
            let Some(closing) = open.last().copied() else { return Some(at) };
            at = space_end(bytes, at);
            let byte = *bytes.get(at)?;
            at = at.checked_add(1)?;
            if byte == closing {
                open.pop();
                continue;
            }
            (byte == b',').then_some(())?;
            if closing == b'}' {
                at = name(bytes, space_end(bytes, at))?.1;
            }
            break;
        }
    }
}

/// A member of an object by its place: where its name's quote stands, its name between the quotes, its value.
pub type Place = (usize, Range<usize>, Range<usize>);

/// Members of the objects in a list.
pub type Entries = Vec<Vec<Place>>;

/// The members of the object at `at`, and the index behind it. `end_of` finds the end of a member's value.
fn object(
    bytes: &[u8],
    at: usize,
    mut end_of: impl FnMut(&Range<usize>, usize) -> Option<usize>,
) -> Option<(Vec<Place>, usize)> {
    let mut found = Vec::with_capacity(8);
    let mut at = at;
    (bytes.get(at) == Some(&b'{')).then_some(())?;
    at = space_end(bytes, at.checked_add(1)?);
    if bytes.get(at) == Some(&b'}') {
        return Some((found, at.checked_add(1)?));
    }
    loop {
        let (name, after) = name(bytes, at)?;
        let begin = space_end(bytes, after);
        let end = end_of(&name, begin)?;
        found.push((at, name, begin..end));
        at = space_end(bytes, end);
        match bytes.get(at)? {
            b',' => at = space_end(bytes, at.checked_add(1)?),
            b'}' => return Some((found, at.checked_add(1)?)),
            _ => return None,
        }
    }
}

/// The members of each object of the list at `at`, and the index behind it; `None` where something else is in it.
fn objects(bytes: &[u8], at: usize) -> Option<(Entries, usize)> {
    let mut found = Vec::new();
    (bytes.get(at) == Some(&b'[')).then_some(())?;
    let mut at = space_end(bytes, at.checked_add(1)?);
    loop {
        let (members, end) = object(bytes, at, |_, begin| value_end(bytes, begin))?;
        found.push(members);
        at = space_end(bytes, end);
        match bytes.get(at)? {
            b',' => at = space_end(bytes, at.checked_add(1)?),
            b']' => return Some((found, at.checked_add(1)?)),
            _ => return None,
        }
    }
}

/// The members of the object that is the whole text, and those of the objects in its list `listed`, where there is one:
/// a prompt is nearly all of a request, and one look at it is enough. `None` where the text is no object.
pub fn members(bytes: &[u8], listed: &str) -> Option<(Vec<Place>, Option<Entries>)> {
    let mut entries = None;
    let (found, end) = object(bytes, space_end(bytes, 0), |name, begin| {
        if bytes.get(name.clone()) == Some(listed.as_bytes())
            && let Some((list, end)) = objects(bytes, begin)
        {
            entries = Some(list);
            return Some(end);
        }
        value_end(bytes, begin)
    })?;
    (space_end(bytes, end) == bytes.len()).then_some((found, entries))
}

#[cfg(test)]
mod tests;
