//! Where a credential may go, and what may be fetched at all, of the addresses that a host answers with.

use serde::{Deserialize, Serialize};

use crate::ssrf::{self, Loopback};

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// Below the base URL of the catalog.
    Path(String),
    /// An address that the host answered with.
    Url(String),
}

/// Which hosts are the provider's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// The one of its base URL.
    Host,
    /// All below the same name: it answers with the address of a region.
    Siblings,
}

/// Scheme, and host with port.
fn origin(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let is_plain = !authority.is_empty() && !authority.contains(['@', '\\']) && !url.contains(['\\', '\r', '\n', ' ']);
    is_plain.then_some((scheme, authority))
}

/// Whether a credential of the provider at `base` may go with a call of `url`.
pub fn is_own(url: &str, base: &str, own: Own) -> bool {
    let (Some((scheme, host)), Some((base_scheme, base_host))) = (origin(url), origin(base)) else { return false };
    if scheme != base_scheme {
        return false;
    }
    let parent = base_host.split_once('.').map(|(_, parent)| parent).filter(|parent| parent.contains('.'));
    let is_sibling = || {
        let below = |parent: &str| host.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
        own == Own::Siblings && !host.contains(':') && parent.is_some_and(below)
    };
    host.eq_ignore_ascii_case(base_host) || is_sibling()
}

/// Whether the gateway may fetch what a host points to: on the public internet, or at the provider itself. A provider on
/// this machine may point to this machine.
pub fn may_fetch(url: &str, base: &str) -> bool {
    let is_local = ssrf::check(base, Loopback::Allowed).is_ok() && ssrf::check(base, Loopback::Refused).is_err();
    let loopback = if is_local { Loopback::Allowed } else { Loopback::Refused };
    is_own(url, base, Own::Host) || is_url(url, loopback)
}

/// Links of hosts are signed and may be longer than what a client may name.
fn is_url(url: &str, loopback: Loopback) -> bool {
    let end = url.find('?').unwrap_or(url.len());
    let is_plain = url.len() <= LINK_BYTES_MAX && url.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain && url.get(..end).is_some_and(|address| ssrf::check(address, loopback).is_ok())
}

/// The address that a redirect from `url` leads to.
pub fn resolve(url: &str, location: &str) -> Option<String> {
    let (scheme, host) = origin(url)?;
    if location.contains("://") {
        return origin(location).map(|_| location.to_owned());
    }
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{scheme}://{rest}"));
    }
    location.starts_with('/').then(|| format!("{scheme}://{host}{location}"))
}

/// Most bytes of a link that a host answers with.
const LINK_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_goes_to_its_own_host_alone() {
        let base = "https://api.bfl.ai/v1";
        for (url, own, expected) in [
            ("https://api.bfl.ai/v1/get_result?id=1", Own::Host, true),
            ("https://API.bfl.ai/v1", Own::Host, true),
            ("http://api.bfl.ai/v1", Own::Host, false),
            ("https://api.bfl.ai:8443/v1", Own::Host, false),
            ("https://api.us1.bfl.ai/v1/get_result", Own::Host, false),
            ("https://api.us1.bfl.ai/v1/get_result", Own::Siblings, true),
            ("https://evilbfl.ai/", Own::Siblings, false),
            ("https://bfl.ai.evil.dev/", Own::Siblings, false),
            ("https://api.bfl.ai@evil.dev/", Own::Siblings, false),
            ("https://evil.dev/api.bfl.ai", Own::Siblings, false),
            ("https://evil.dev\\.bfl.ai/", Own::Siblings, false),
            ("/v1", Own::Siblings, false),
        ] {
            assert_eq!(is_own(url, base, own), expected, "{url}");
        }
        assert!(
            !is_own("https://evil.ai/", "https://bfl.ai/v1", Own::Siblings),
            "a name without a parent has no siblings"
        );
    }

    #[test]
    fn redirects_are_resolved() {
        for (location, expected) in [
            ("https://b.dev/x", Some("https://b.dev/x")),
            ("//b.dev/x", Some("https://b.dev/x")),
            ("/x?y=1", Some("https://a.dev/x?y=1")),
            ("x", None),
            ("https://u@b.dev/", None),
        ] {
            assert_eq!(resolve("https://a.dev/v1/f", location).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn links_lead_to_the_public_internet() {
        let base = "https://api.replicate.com/v1";
        let signed = format!("https://cdn.host.dev/x.mp4?sig={}", "a".repeat(3_000));
        for (url, expected) in [
            ("https://cdn.host.dev/x.mp4", true),
            (signed.as_str(), true),
            ("http://cdn.host.dev/x.mp4", false),
            ("https://169.254.169.254/latest", false),
            ("http://127.0.0.1:9/x", false),
            ("https://api.replicate.com/v1/files/1", true),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(may_fetch(url, base), expected, "{url}");
        }
        assert!(may_fetch("http://127.0.0.1:9/x", "http://127.0.0.1:8/v1"));
    }
}
