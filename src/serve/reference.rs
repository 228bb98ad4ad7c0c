//! The interface, told to programs and to people.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Code, Failure};
use crate::openapi;
use crate::serve::ports::Ports;
use crate::serve::reply::{Body, Reply};
use crate::serve::{Head, fault};

/// Both change with a deployment only.
const CACHE: &str = "public, max-age=300";
/// The reader changes with its version, which the page names by its hash.
const READER_CACHE: &str = "public, max-age=86400";
/// What the page may load: nothing that is not from here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; font-src data:; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /v1/openapi.json`.
pub fn document<P: Ports>(head: &Head) -> Result<Reply<P>, Failure> {
    let text = openapi::document().map_err(|line| {
        Failure::new(
            Code::Internal,
            format!("the description of the interface has a line that makes no sense: {}", line.0),
        )
    })?;
    let tag = format!("\"{:08x}\"", crc32fast::hash(text.as_bytes()));
    let headers = vec![("cache-control", CACHE.to_owned()), ("etag", tag.clone())];
    let known = head.if_none_match.as_deref().unwrap_or_default();
    if known.split(',').any(|one| matches!(one.trim().trim_start_matches("W/"), one if one == tag || one == "*")) {
        return Ok(Reply { status: 304, headers, body: Body::Empty });
    }
    let mut reply = Reply::text(200, "application/json", text);
    reply.headers.extend(headers);
    Ok(reply)
}

/// `GET /docs`.
pub fn page<P: Ports>() -> Reply<P> {
    Reply::text(200, "text/html; charset=utf-8", openapi::DOCS.to_owned())
        .with_header("cache-control", CACHE)
        .with_header("content-security-policy", POLICY)
}

/// `GET /docs/reader.js`.
pub async fn reader<P: Ports>(ports: &P) -> Result<Reply<P>, Failure> {
    let text = ports.kv_get(openapi::READER_KEY).await.map_err(|error| fault(ports, &error))?;
    let unpublished = || Failure::new(Code::NotFound, "the reader is not there yet: it is published with the catalog");
    let bytes = STANDARD.decode(text.ok_or_else(unpublished)?);
    let bytes = bytes.map_err(|_| Failure::new(Code::Internal, "the reader cannot be read"))?;
    let headers = [
        ("content-type", "text/javascript; charset=utf-8"),
        ("content-encoding", "gzip"),
        ("cache-control", READER_CACHE),
        ("x-content-type-options", "nosniff"),
    ];
    let headers = headers.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
    Ok(Reply { status: 200, headers, body: Body::Bytes(bytes) })
}
