//! `multipart/form-data` (RFC 7578), taken apart and put together. A part's content is a slice of the body it came in, and
//! goes out as that slice: a file of many megabytes is held once, however often it is sent.

use bytes::Bytes;

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The field.
    pub name: String,
    /// The file's name, where it is one.
    pub filename: Option<String>,
    /// Its content type.
    pub content_type: Option<String>,
    /// Its content.
    pub bytes: Bytes,
}

impl Part {
    /// A field.
    pub fn text(name: &str, value: &str) -> Part {
        let bytes = Bytes::copy_from_slice(value.as_bytes());
        Part { name: name.to_owned(), filename: None, content_type: None, bytes }
    }

    /// The same file under another name.
    #[must_use]
    pub fn named(&self, name: &str) -> Part {
        Part { name: name.to_owned(), ..self.clone() }
    }
}

/// The boundary of a content type.
pub fn boundary(content_type: &str) -> Option<String> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let named = parameters.split(';').filter_map(|one| one.trim().split_once('='));
    let value = named.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))?.1.trim();
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    (1..=70).contains(&value.len()).then(|| value.to_owned())
}

/// The parts of a body; `None` where it breaks the format.
pub fn parse(body: &Bytes, boundary: &str) -> Option<Vec<Part>> {
    let mark = format!("--{boundary}").into_bytes();
    let finder = memchr::memmem::Finder::new(&mark);
    let mut rest = body.get(finder.find(body)?.checked_add(mark.len())?..)?;
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(parts);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let split = memchr::memmem::find(rest, b"\r\n\r\n")?;
        let (head, after) = rest.split_at_checked(split)?;
        let content = after.get(4..)?;
        // A mark stands at the begin of a line; the same bytes elsewhere are content.
        let mut from = 0;
        let end = loop {
            let at = finder.find(content.get(from..)?)?.checked_add(from)?;
            let is_line = at >= 2 && content.get(at.checked_sub(2)?..at) == Some(b"\r\n");
            if is_line {
                break at;
            }
            from = at.checked_add(1)?;
        };
        let bytes = body.slice_ref(content.get(..end.checked_sub(2)?)?);
        parts.push(part(std::str::from_utf8(head).ok()?, bytes)?);
        rest = content.get(end.checked_add(mark.len())?..)?;
    }
}

fn part(head: &str, bytes: Bytes) -> Option<Part> {
    let (mut name, mut filename, mut content_type) = (None, None, None);
    for line in head.split("\r\n") {
        let (header, value) = line.split_once(':')?;
        match header.trim().to_ascii_lowercase().as_str() {
            "content-disposition" => {
                name = parameter(value, "name");
                filename = parameter(value, "filename");
            }
            "content-type" => content_type = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    Some(Part { name: name?, filename, content_type, bytes })
}

/// A quoted parameter of a header; browsers write a quote in it as `%22`, others as `\"`.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value;
    while let Some(at) = rest.find(wanted) {
        let before = rest.get(..at)?;
        let after = rest.get(at.checked_add(wanted.len())?..)?;
        let is_alone = before.trim_end().ends_with(';');
        if let (true, Some(quoted)) = (is_alone, after.trim_start().strip_prefix('=')) {
            let quoted = quoted.trim_start();
            let Some(text) = quoted.strip_prefix('"') else {
                return Some(quoted.split(';').next()?.trim().to_owned());
            };
            let mut out = String::new();
            let mut chars = text.chars();
            while let Some(c) = chars.next() {
                match c {
                    '"' => return Some(out),
                    '\\' => out.extend(chars.next()),
                    other => out.push(other),
                }
            }
            return None;
        }
        rest = after;
    }
    None
}

/// A body of parts: its content type and its pieces.
pub fn write(parts: &[Part], boundary: &str) -> (String, Vec<Bytes>) {
    let safe = |text: &str| text.replace(['"', '\r', '\n', '\\'], "_");
    let (mut out, mut pieces) = (String::new(), Vec::new());
    for part in parts {
        out.push_str(&format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{}\"", safe(&part.name)));
        if let Some(filename) = &part.filename {
            out.push_str(&format!("; filename=\"{}\"", safe(filename)));
        }
        if let Some(content_type) = &part.content_type {
            out.push_str(&format!("\r\ncontent-type: {}", content_type.replace(['\r', '\n'], " ")));
        }
        out.push_str("\r\n\r\n");
        pieces.push(Bytes::from(std::mem::take(&mut out).into_bytes()));
        pieces.push(part.bytes.clone());
        out.push_str("\r\n");
    }
    out.push_str(&format!("--{boundary}--\r\n"));
    pieces.push(Bytes::from(out.into_bytes()));
    (format!("multipart/form-data; boundary={boundary}"), pieces)
}

/// A boundary that is in none of the parts: made of a request's id, which nobody knows who writes a file.
pub fn own_boundary(id: &str) -> String {
    format!("gateway-{id}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_come_out_as_they_went_in() {
        let parts = [
            Part::text("model", "m"),
            Part {
                name: "file".into(),
                filename: Some("a b.mp3".into()),
                content_type: Some("audio/mpeg".into()),
                bytes: Bytes::from_static(b"\r\n--gateway-x in the middle --gateway-1\r\n"),
            },
        ];
        let (kind, pieces) = write(&parts, "gateway-1");
        assert_eq!(pieces[3].as_ptr(), parts[1].bytes.as_ptr(), "the file is not copied");
        let body = Bytes::from(pieces.concat());
        assert_eq!(boundary(&kind).as_deref(), Some("gateway-1"));
        assert_eq!(parse(&body, "gateway-1").unwrap(), parts);
        for cut in [0, 10, body.len() / 2, body.len() - 5] {
            assert_eq!(parse(&body.slice(..cut), "gateway-1"), None, "{cut}");
        }
    }

    #[test]
    fn boundaries_may_be_quoted_and_other_types_have_none() {
        assert_eq!(boundary("multipart/form-data; charset=utf-8; boundary=\"a b\"").as_deref(), Some("a b"));
        for bad in ["application/json", "multipart/form-data", "multipart/form-data; boundary="] {
            assert_eq!(boundary(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&Bytes::from(bytes.clone()), "b");
            let _ = parse(&Bytes::from([b"--b\r\n", bytes.as_slice()].concat()), "b");
        }
    }
}
