//! AWS Signature Version 4 for one request.
//!
//! Source: AWS General Reference, "Signature Version 4 signing process". The path is encoded a second time in the
//! canonical request, as every service but S3 wants it.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::time::Millis;

/// Who signs.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    /// The id of the access key.
    pub access_key_id: &'a str,
    /// The key itself.
    pub secret_access_key: &'a str,
    /// The token of a session, where the key is of one.
    pub session_token: Option<&'a str>,
    /// Where the request goes.
    pub region: &'a str,
    /// What it asks.
    pub service: &'a str,
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The whole URL.
    pub url: &'a str,
    /// The value of `content-type`.
    pub content_type: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// The headers that sign `request` at `now`; `None` for a URL that has no host.
pub fn sign(request: &Request<'_>, credentials: &Credentials<'_>, now: Millis) -> Option<Vec<(String, String)>> {
    let (_, rest) = request.url.split_once("://")?;
    let (authority, target) = rest.split_once('/').unwrap_or((rest, ""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let host = authority.strip_suffix(":443").filter(|_| request.url.starts_with("https:")).unwrap_or(authority);
    if host.is_empty() {
        return None;
    }
    let date = stamp(now)?;
    let day = date.get(..8)?;
    let mut headers = vec![("content-type", request.content_type), ("host", host), ("x-amz-date", date.as_str())];
    headers.extend(credentials.session_token.map(|token| ("x-amz-security-token", token)));
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!(
        "{}\n/{}\n{}\n{lines}\n{names}\n{}",
        request.method,
        encoded(path),
        sorted(query),
        hex(&Sha256::digest(request.body))
    );
    let scope = format!("{day}/{}/{}/aws4_request", credentials.region, credentials.service);
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let mut key = format!("AWS4{}", credentials.secret_access_key).into_bytes();
    for part in [day, credentials.region, credentials.service, "aws4_request", text.as_str()] {
        key = mac(&key, part.as_bytes())?;
    }
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
        credentials.access_key_id,
        hex(&key)
    );
    let mut signed = vec![("authorization".to_owned(), authorization), ("x-amz-date".to_owned(), date.clone())];
    signed.extend(credentials.session_token.map(|token| ("x-amz-security-token".to_owned(), token.to_owned())));
    Some(signed)
}

fn mac(key: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(bytes);
    Some(mac.finalize().into_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `20261125T013714Z`.
fn stamp(now: Millis) -> Option<String> {
    let text = now.to_rfc3339();
    let (seconds, _) = text.split_once('.')?;
    Some(format!("{}Z", seconds.replace(['-', ':'], "")))
}

/// Every byte but the unreserved ones and the slash, encoded: also the percent signs of what is encoded already.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The query with its pairs in order, each with its `=`.
fn sorted(query: &str) -> String {
    let pair = |pair: &str| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") };
    let mut pairs: Vec<String> = query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
    pairs.sort();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with an independent implementation on Node's `crypto`.
    const REFERENCE: &str = concat!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261125/us-east-1/bedrock/aws4_request, SignedHea",
        "ders=content-type;host;x-amz-date, Signature=28b768d4ba9e577eca23bcc4eccc7499f0d225793f1ff",
        "801b583155c92a4abda",
    );
    const REFERENCE_SESSION: &str = concat!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261125/us-east-1/bedrock/aws4_request, SignedHea",
        "ders=content-type;host;x-amz-date;x-amz-security-token, Signature=135f498392a46b469b889559",
        "bd6071e34262c0671a85a3d673331b3d00646cbc",
    );

    #[test]
    fn a_request_is_signed_as_the_reference_does() {
        let credentials = Credentials {
            access_key_id: "AKIDEXAMPLE",
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            session_token: None,
            region: "us-east-1",
            service: "bedrock",
        };
        let request = Request {
            method: "POST",
            url: "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-v2%3A1/converse",
            content_type: "application/json",
            body: br#"{"messages":[]}"#,
        };
        let now = Millis::from_rfc3339("2026-11-25T01:37:14.567Z").unwrap();
        let signed = sign(&request, &credentials, now).unwrap();
        assert_eq!(signed[1], ("x-amz-date".to_owned(), "20261125T013714Z".to_owned()));
        assert_eq!(signed[0].1, REFERENCE);
        let session = Credentials { session_token: Some("token"), ..credentials };
        let signed = sign(&request, &session, now).unwrap();
        assert_eq!(signed[0].1, REFERENCE_SESSION);
        assert_eq!(signed[2], ("x-amz-security-token".to_owned(), "token".to_owned()));
    }

    #[test]
    fn queries_are_sorted_and_a_url_needs_a_host() {
        assert_eq!(sorted("b=2&a=1&c"), "a=1&b=2&c=");
        let credentials =
            Credentials { access_key_id: "a", secret_access_key: "b", session_token: None, region: "r", service: "s" };
        for url in ["", "x", "https:///path"] {
            let request = Request { method: "POST", url, content_type: "application/json", body: b"" };
            assert_eq!(sign(&request, &credentials, Millis(0)), None, "{url}");
        }
    }
}
