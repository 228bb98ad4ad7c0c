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
/// Bytes by which a picture tells its kind.
const KIND_BYTES: usize = 12;
/// How long one link may take, in milliseconds.
const WAIT_MS: u64 = 20_000;

/// A picture of which the begin is there.
pub struct Open<A> {
    /// The rest.
    pub answer: A,
    /// The begin.
    pub first: Vec<u8>,
    /// How long all of it is, where that is stated, in bytes.
    pub length: Option<usize>,
    kind: &'static str,
}

impl<A: Answer> Open<A> {
    /// The picture of an answer; `None` where it is none.
    pub async fn of(mut answer: A) -> Option<Open<A>> {
        let length = answer.header("content-length").and_then(|text| text.trim().parse().ok());
        let mut first = Vec::new();
        while first.len() < KIND_BYTES {
            match answer.block().await.ok()? {
                Some(chunk) => first.extend_from_slice(&chunk),
                None => break,
            }
        }
        let kind = kind_of(&first)?;
        Some(Open { answer, first, length, kind })
    }

    /// All of it.
    pub async fn whole(mut self) -> Option<Vec<u8>> {
        while let Some(chunk) = self.answer.block().await.ok()? {
            self.first.extend_from_slice(&chunk);
            if self.first.len() > PICTURE_BYTES_MAX {
                return None;
            }
        }
        Some(self.first)
    }
}

/// The picture that a link leads to, when its begin is there; `None` where it leads to none that may be had.
pub async fn open<P: Ports>(ports: &P, url: &str) -> Option<Open<P::Answer>> {
    in_time(ports, hops(ports, url)).await
}

/// The picture that a link leads to; `None` where it leads to none that may be had.
pub async fn picture<P: Ports>(ports: &P, url: &str) -> Option<Fetched> {
    let fetched = async {
        let open = hops(ports, url).await?;
        let content_type = open.kind.to_owned();
        Some(Fetched { url: url.to_owned(), content_type, bytes: open.whole().await? })
    };
    in_time(ports, fetched).await
}

async fn in_time<P: Ports, T>(ports: &P, fetched: impl Future<Output = Option<T>>) -> Option<T> {
    let deadline = ports.sleep(WAIT_MS);
    pin_mut!(fetched, deadline);
    match select(fetched, deadline).await {
        Either::Left((fetched, _)) => fetched,
        Either::Right(_) => None,
    }
}

async fn hops<P: Ports>(ports: &P, url: &str) -> Option<Open<P::Answer>> {
    let loopback = match ports.secret("MEDIA_LOOPBACK").as_deref() {
        Some("allowed") => Loopback::Allowed,
        _ => Loopback::Refused,
    };
    let mut at = url.to_owned();
    for _ in 0..=HOPS_MAX {
        ssrf::check(&at, loopback).ok()?;
        let headers = vec![("accept".to_owned(), "image/*".to_owned())];
        let call = Call { method: "GET", url: at.clone(), headers, body: Vec::new() };
        let answer = ports.send(call).await.ok()?;
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
        return Open::of(answer).await;
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
