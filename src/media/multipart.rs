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
    parameter(parameters, "boundary").filter(|value| (1..=70).contains(&value.len()))
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
        // The end of the mark's line stays: a part without headers begins with an empty one.
        rest = padded(rest)?;
        let split = memchr::memmem::find(rest, b"\r\n\r\n")?;
        let (head, after) = rest.split_at_checked(split)?;
        let content = after.get(4..)?;
        // A mark stands at the begin of a line and has it for itself; the same bytes elsewhere are content.
        let mut from = 0;
        let (end, next) = loop {
            let at = finder.find(content.get(from..)?)?.checked_add(from)?;
            let is_line = at >= 2 && content.get(at.checked_sub(2)?..at) == Some(b"\r\n");
            let next = content.get(at.checked_add(mark.len())?..)?;
            if is_line && (next.starts_with(b"--") || padded(next).is_some()) {
                break (at, next);
            }
            from = at.checked_add(1)?;
        };
        let bytes = body.slice_ref(content.get(..end.checked_sub(2)?)?);
        parts.push(part(std::str::from_utf8(head).ok()?, bytes)?);
        rest = next;
    }
}

/// What follows a mark, from the end of its line on: before that only spaces may stand (RFC 2046).
fn padded(rest: &[u8]) -> Option<&[u8]> {
    let spaces = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    rest.get(spaces..).filter(|rest| rest.starts_with(b"\r\n"))
}

fn part(head: &str, bytes: Bytes) -> Option<Part> {
    let (mut name, mut filename, mut content_type) = (None, None, None);
    // A header may go on in lines that begin with a space.
    let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    for line in head.split("\r\n").filter(|line| !line.is_empty()) {
        let (header, value) = line.split_once(':')?;
        match header.trim().to_ascii_lowercase().as_str() {
            "content-disposition" => {
                let (_, parameters) = value.split_once(';')?;
                name = parameter(parameters, "name");
                filename = parameter(parameters, "filename").or_else(|| extended(&parameter(parameters, "filename*")?));
            }
            "content-type" => content_type = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    Some(Part { name: name?, filename, content_type, bytes })
}

/// A name beyond ASCII as some clients send it: `utf-8''na%C3%AFve.mp3` (RFC 8187).
fn extended(value: &str) -> Option<String> {
    let (_, text) = value.split_once('\'')?.1.split_once('\'')?;
    Some(percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned())
}

/// A parameter of a header; one in quotes may hold anything. Browsers write a quote in it as `%22`, others as `\"`.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut chars = parameters.chars().peekable();
    while chars.peek().is_some() {
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| !matches!(c, '=' | ';')) {
            name.push(c);
        }
        let mut value = String::new();
        if chars.next() == Some('=') {
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
            if chars.next_if_eq(&'"').is_some() {
                let mut is_closed = false;
                while let Some(c) = chars.next() {
                    match c {
                        '"' => {
                            is_closed = true;
                            break;
                        }
                        '\\' => value.extend(chars.next()),
                        other => value.push(other),
                    }
                }
                if !is_closed {
                    return None;
                }
                while chars.next_if(|c| *c != ';').is_some() {}
            } else {
                while let Some(c) = chars.next_if(|c| *c != ';') {
                    value.push(c);
                }
                value.truncate(value.trim_end().len());
            }
            chars.next();
        }
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
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
        for (content_type, expected) in [
            ("multipart/form-data; charset=utf-8; boundary=\"a b\"", "a b"),
            ("multipart/form-data; boundary=\"a;b=c\"; charset=utf-8", "a;b=c"),
            (r#"Multipart/Form-Data;Boundary="a\"b""#, "a\"b"),
            ("multipart/form-data; boundary===x== ", "==x=="),
        ] {
            assert_eq!(boundary(content_type).as_deref(), Some(expected), "{content_type}");
        }
        for bad in ["application/json", "multipart/form-data", "multipart/form-data; boundary="] {
            assert_eq!(boundary(bad), None, "{bad}");
        }
    }

    #[test]
    fn parts_are_found_however_their_headers_are_written() {
        let of = |head: &str| {
            let body = Bytes::from(format!("before\r\n--b \t\r\n{head}\r\n\r\nx\r\n--bc\r\n--b--\r\nafter"));
            let mut parts = parse(&body, "b").unwrap_or_else(|| panic!("{head}"));
            let part = parts.pop().unwrap();
            assert_eq!((parts.len(), part.name.as_str(), &part.bytes[..]), (0, "file", &b"x\r\n--bc"[..]), "{head}");
            part.filename
        };
        for (head, filename) in [
            (r#"Content-Disposition: form-data; name="file"; filename="a.mp3""#, Some("a.mp3")),
            ("content-disposition:form-data;name=file;filename=a.mp3", Some("a.mp3")),
            (r#"Content-Disposition: form-data; filename="x; name=\"y\".mp3"; name="file""#, Some("x; name=\"y\".mp3")),
            (r#"Content-Disposition: form-data; filename="name=x"; name="file""#, Some("name=x")),
            ("Content-Disposition: form-data;\r\n name=\"file\";\r\n\tfilename=\"a.mp3\"", Some("a.mp3")),
            ("Content-Disposition: form-data; name=file; filename*=utf-8''gr%C3%BC%20n.mp3", Some("grü n.mp3")),
            ("Content-Disposition: form-data; filename*=UTF-8''b; filename=\"a.mp3\"; name=\"file\"", Some("a.mp3")),
            ("Content-Length: 1\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\"", Some("")),
            ("Content-Disposition: form-data; name=\"file\"", None),
        ] {
            assert_eq!(of(head).as_deref(), filename, "{head}");
        }
        let open = Bytes::from_static(b"--b\r\nContent-Disposition: form-data; name=\"file\r\n\r\nx\r\n--b--");
        assert_eq!(parse(&open, "b"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&Bytes::from(bytes.clone()), "b");
            let _ = parse(&Bytes::from([b"--b\r\n", bytes.as_slice()].concat()), "b");
        }
    }
}
