//! Following a link on behalf of a client or a host: only where the table of addresses allows it, without a credential,
//! and no further than a few hops; what comes must be a picture, and is measured while it is read.

use futures::future::{Either, select};
use futures::pin_mut;

use crate::media::images::PICTURE_BYTES_MAX;
use crate::media::picture::kind_of;
use crate::media::shape::Fetched;
use crate::serve::ports::{Answer, Call, Ports};
use crate::ssrf::{self, Loopback};

/// Most redirects of one link.
const HOPS_MAX: usize = 3;
/// How long one link may take, in milliseconds.
const WAIT_MS: u64 = 20_000;

/// The picture that a link leads to; `None` where it leads to none that may be had.
pub async fn picture<P: Ports>(ports: &P, url: &str) -> Option<Fetched> {
    let fetched = hops(ports, url);
    let deadline = ports.sleep(WAIT_MS);
    pin_mut!(fetched, deadline);
    match select(fetched, deadline).await {
        Either::Left((fetched, _)) => fetched,
        Either::Right(_) => None,
    }
}

async fn hops<P: Ports>(ports: &P, url: &str) -> Option<Fetched> {
    let loopback = match ports.secret("MEDIA_LOOPBACK").as_deref() {
        Some("allowed") => Loopback::Allowed,
        _ => Loopback::Refused,
    };
    let mut at = url.to_owned();
    for _ in 0..=HOPS_MAX {
        ssrf::check(&at, loopback).ok()?;
        let headers = vec![("accept".to_owned(), "image/*".to_owned())];
        let call = Call { method: "GET", url: at.clone(), headers, body: Vec::new() };
        let mut answer = ports.send(call).await.ok()?;
        match answer.status() {
            200 => {}
            301 | 302 | 303 | 307 | 308 => {
                at = resolved(&at, &answer.header("location")?)?;
                continue;
            }
            _ => return None,
        }
        let stated = answer.header("content-type").unwrap_or_default().to_ascii_lowercase();
        let is_picture = stated.starts_with("image/") || stated.starts_with("application/octet-stream");
        if !is_picture {
            return None;
        }
        let bytes = answer.whole(PICTURE_BYTES_MAX).await.ok()?;
        let content_type = kind_of(&bytes)?.to_owned();
        return Some(Fetched { url: url.to_owned(), content_type, bytes });
    }
    None
}

/// Where a `Location` leads from a URL: absolute, or a path on the same host.
fn resolved(from: &str, location: &str) -> Option<String> {
    if location.contains("://") {
        return Some(location.to_owned());
    }
    let (scheme, rest) = from.split_once("://")?;
    let host = rest.split(['/', '?']).next()?;
    (location.starts_with('/') && !location.starts_with("//")).then(|| format!("{scheme}://{host}{location}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_absolute_or_a_path() {
        let of = |location: &str| resolved("https://a.example/x/y?z=1", location);
        assert_eq!(of("https://b.example/c").as_deref(), Some("https://b.example/c"));
        assert_eq!(of("/c?d").as_deref(), Some("https://a.example/c?d"));
        assert_eq!((of("//b.example/c"), of("c")), (None, None));
    }
}
