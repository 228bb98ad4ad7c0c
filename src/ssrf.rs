//! Which addresses named by a client the gateway may call itself: webhooks, media to fetch. Everything else is refused.
//!
//! In scope: the text of a URL. It must be plain (`https`, a public host, a usual port), because each unusual form
//! (user info, numbers as hosts, backslashes, percent signs in a host) is read differently by two parsers somewhere.
//! Out of scope: what a name resolves to. A Worker on the network calls from the public side of the edge and cannot
//! reach private addresses; names that are made to resolve to them are refused all the same. Whoever fetches must not
//! follow redirects, or must ask here again for each hop.
//!
//! Follows the IANA registries of special-purpose addresses (RFC 6890, RFC 8190), and the host parser of the WHATWG URL
//! standard for what counts as a number.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Most bytes of a URL.
pub const URL_BYTES_MAX: usize = 2_048;
/// Most bytes of a host name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;
/// Most bytes of a label.
const LABEL_BYTES_MAX: usize = 63;
/// Ports that serve `https` in the wild; all others are somebody's inner service until shown otherwise.
const PORTS: &[u16] = &[443, 8443];

/// Top levels, and names, that never leave a network.
const INNER_NAMES: &[&str] = &[
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "arpa",
    "test",
    "invalid",
    "example",
    "onion",
    // Public names that anybody may point at an inner address.
    "nip.io",
    "sslip.io",
    "xip.io",
    "localtest.me",
    "lvh.me",
    "vcap.me",
    "lacolhost.com",
    "metadata.goog",
];

/// IPv4 networks that are not the public internet, as (first address, prefix length).
const INNER_V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 52, 193, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([192, 175, 48, 0], 24),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
    // Metadata services outside of the link-local block.
    ([168, 63, 129, 16], 32),
];

/// IPv6 networks within `2000::/3` that are not the public internet, or that wrap an IPv4 address.
const INNER_V6: &[([u16; 2], u32)] = &[([0x2001, 0], 23), ([0x2001, 0x0db8], 32), ([0x2002, 0], 16), ([0x3fff, 0], 20)];

/// What is said of this machine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loopback {
    /// Refused: everywhere but in local tests.
    Refused,
    /// Allowed, with `http` and on any port. For tests on one machine.
    Allowed,
}

/// Why a URL is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Too long, or with characters that have no place in one.
    Malformed,
    /// Not `https`.
    Scheme,
    /// A user or a password before the host.
    UserInfo,
    /// Not a usual port of `https`.
    Port,
    /// Not a host name nor an address in its usual form.
    Host,
    /// A host that is not on the public internet.
    NotPublic,
}

impl Refusal {
    /// For the person who sent it.
    pub fn message(self) -> &'static str {
        match self {
            Refusal::Malformed => "must be a plain absolute URL of at most 2048 ASCII characters, without a fragment",
            Refusal::Scheme => "must begin with https://",
            Refusal::UserInfo => "must not have a user or a password",
            Refusal::Port => "must use port 443 or 8443",
            Refusal::Host => "must have a host name, or an address in its usual form",
            Refusal::NotPublic => "must have a host on the public internet",
        }
    }
}

/// Whether the gateway may call that URL. It is called as it is written; nothing is rewritten.
pub fn check(url: &str, loopback: Loopback) -> Result<(), Refusal> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#' | b'<' | b'>' | b'"' | b'`');
    if url.is_empty() || url.len() > URL_BYTES_MAX || !url.bytes().all(is_plain) {
        return Err(Refusal::Malformed);
    }
    let (scheme, rest) = url.split_once("://").ok_or(Refusal::Malformed)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, _) = rest.split_at(end);
    if authority.contains('@') {
        return Err(Refusal::UserInfo);
    }
    let (host, port) = host_and_port(authority)?;
    let host = host.to_ascii_lowercase();
    let is_own = is_loopback(&host);
    if is_own && loopback == Loopback::Allowed && ["http", "https"].contains(&scheme) {
        return Ok(());
    }
    if !scheme.eq_ignore_ascii_case("https") {
        return Err(Refusal::Scheme);
    }
    check_host(&host)?;
    if port.is_some_and(|port| !PORTS.contains(&port)) { Err(Refusal::Port) } else { Ok(()) }
}

fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), Refusal> {
    let at = match authority.starts_with('[') {
        true => authority.find(']').map(|at| at.saturating_add(1)).ok_or(Refusal::Host)?,
        false => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, after) = authority.split_at(at);
    if after.is_empty() {
        return Ok((host, None));
    }
    let digits = after.strip_prefix(':').ok_or(Refusal::Host)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.parse().ok().filter(|_| is_number).ok_or(Refusal::Port)?;
    Ok((host, Some(port)))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "[::1]" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

fn check_host(host: &str) -> Result<(), Refusal> {
    if let Some(inner) = host.strip_prefix('[') {
        let text = inner.strip_suffix(']').ok_or(Refusal::Host)?;
        let address: Ipv6Addr = text.parse().map_err(|_| Refusal::Host)?;
        return if is_public_v6(address) { Ok(()) } else { Err(Refusal::NotPublic) };
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    // A last label that is a number makes the whole an IPv4 address to a browser: 127.1, 0x7f.1, 2130706433, 017700000001.
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if is_number {
        let address: Ipv4Addr = host.parse().map_err(|_| Refusal::Host)?;
        return if is_public_v4(address) { Ok(()) } else { Err(Refusal::NotPublic) };
    }
    if name.len() > HOST_BYTES_MAX || !name.split('.').all(is_label) {
        return Err(Refusal::Host);
    }
    let is_inner = |inner: &str| name == inner || name.strip_suffix(inner).is_some_and(|rest| rest.ends_with('.'));
    if !name.contains('.') || INNER_NAMES.iter().any(|inner| is_inner(inner)) {
        return Err(Refusal::NotPublic);
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    !label.is_empty()
        && label.len() <= LABEL_BYTES_MAX
        && label.bytes().all(is_letter)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Whether two numbers agree in their first `prefix` bits, 1 to 32.
fn agree(a: u32, b: u32, prefix: u32) -> bool {
    (a ^ b).checked_shr(32u32.saturating_sub(prefix)).unwrap_or(0) == 0
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !INNER_V4.iter().any(|(first, prefix)| agree(address.to_bits(), Ipv4Addr::from(*first).to_bits(), *prefix))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let head = |a: u16, b: u16| u32::from(a) << 16 | u32::from(b);
    let is_global = agree(head(a, b), head(0x2000, 0), 3);
    is_global && !INNER_V6.iter().any(|([c, d], prefix)| agree(head(a, b), head(*c, *d), *prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<(), Refusal> {
        check(url, Loopback::Refused)
    }

    #[test]
    fn a_public_https_url_is_called() {
        for url in [
            "https://hooks.acme.dev",
            "https://hooks.acme.dev/in?x=1&y=%20",
            "https://hooks.acme.dev:443/",
            "https://hooks.acme.dev:8443/",
            "https://HOOKS.Acme.dev./in",
            "https://xn--bcher-kva.ch/",
            "https://8.8.8.8/",
            "https://172.32.0.1/",
            "https://100.128.0.1/",
            "https://[2606:4700:4700::1111]/",
            "https://a_b.acme.dev/@me",
            "https://local.acme.dev/",
            "https://notlocalhost.dev/",
        ] {
            assert_eq!(of(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn whatever_else_is_refused_for_its_reason() {
        use Refusal::{Host, Malformed, NotPublic, Port, Scheme, UserInfo};
        let long = format!("https://acme.dev/{}", "a".repeat(URL_BYTES_MAX));
        let label = format!("https://{}.dev/", "a".repeat(64));
        let cases: &[(&str, Refusal)] = &[
            ("", Malformed),
            (&long, Malformed),
            ("hooks.acme.dev", Malformed),
            ("https:/acme.dev", Malformed),
            ("https://acme.dev\\@127.0.0.1/", Malformed),
            ("https://acme.dev/#x", Malformed),
            ("https://acme.dev/a b", Malformed),
            ("https://acme.dev/\r\nhost: x", Malformed),
            ("https://b\u{fc}cher.ch/", Malformed),
            ("https://\u{ff11}27.0.0.1/", Malformed),
            ("http://acme.dev/", Scheme),
            ("ftp://acme.dev/", Scheme),
            ("file://acme.dev/etc/passwd", Scheme),
            ("gopher://acme.dev/", Scheme),
            ("http://127.0.0.1/", Scheme),
            ("https://user@acme.dev/", UserInfo),
            ("https://user:pass@acme.dev/", UserInfo),
            ("https://acme.dev@127.0.0.1/", UserInfo),
            ("https://acme.dev:22/", Port),
            ("https://acme.dev:6379/", Port),
            ("https://acme.dev:/", Port),
            ("https://acme.dev:0x1bb/", Port),
            ("https://acme.dev:65979/", Port),
            ("https://", Host),
            ("https:///etc", Host),
            ("https://.acme.dev/", Host),
            ("https://acme..dev/", Host),
            ("https://-acme.dev/", Host),
            (&label, Host),
            ("https://acme%2edev/", Host),
            ("https://127.0.0.1%00.acme.dev/", Host),
            ("https://2130706433/", Host),
            ("https://0x7f000001/", Host),
            ("https://0x7f.1/", Host),
            ("https://017700000001/", Host),
            ("https://0177.0.0.1/", Host),
            ("https://127.1/", Host),
            ("https://127.0.0.1./", Host),
            ("https://acme.dev.1/", Host),
            ("https://[::1", Host),
            ("https://[::1]x/", Host),
            ("https://[fe80::1%25eth0]/", Host),
            ("https://[127.0.0.1]/", Host),
            ("https://localhost/", NotPublic),
            ("https://LOCALHOST./", NotPublic),
            ("https://a.localhost/", NotPublic),
            ("https://db/", NotPublic),
            ("https://db.internal/", NotPublic),
            ("https://metadata.google.internal/", NotPublic),
            ("https://printer.local/", NotPublic),
            ("https://127.0.0.1.nip.io/", NotPublic),
            ("https://0.0.0.0/", NotPublic),
            ("https://10.1.2.3/", NotPublic),
            ("https://100.64.0.1/", NotPublic),
            ("https://100.100.100.200/", NotPublic),
            ("https://127.0.0.1/", NotPublic),
            ("https://127.9.9.9/", NotPublic),
            ("https://169.254.169.254/latest/meta-data/", NotPublic),
            ("https://172.16.0.1/", NotPublic),
            ("https://172.31.255.255/", NotPublic),
            ("https://192.0.0.192/", NotPublic),
            ("https://192.168.1.1/", NotPublic),
            ("https://198.19.0.1/", NotPublic),
            ("https://168.63.129.16/", NotPublic),
            ("https://224.0.0.1/", NotPublic),
            ("https://255.255.255.255/", NotPublic),
            ("https://[::]/", NotPublic),
            ("https://[::1]/", NotPublic),
            ("https://[0:0:0:0:0:0:0:1]/", NotPublic),
            ("https://[::127.0.0.1]/", NotPublic),
            ("https://[::ffff:127.0.0.1]/", NotPublic),
            ("https://[::ffff:7f00:1]/", NotPublic),
            ("https://[::ffff:8.8.8.8]/", NotPublic),
            ("https://[64:ff9b::7f00:1]/", NotPublic),
            ("https://[64:ff9b:1::1]/", NotPublic),
            ("https://[2001::1]/", NotPublic),
            ("https://[2001:db8::1]/", NotPublic),
            ("https://[2002:7f00:1::]/", NotPublic),
            ("https://[3fff::1]/", NotPublic),
            ("https://[fc00::1]/", NotPublic),
            ("https://[fd00:ec2::254]/", NotPublic),
            ("https://[fe80::1]/", NotPublic),
            ("https://[fec0::1]/", NotPublic),
            ("https://[ff02::1]/", NotPublic),
        ];
        for (url, refusal) in cases {
            assert_eq!(of(url), Err(*refusal), "{url}");
        }
    }

    #[test]
    fn loopback_is_for_local_tests() {
        for url in ["http://127.0.0.1:8080/x", "http://localhost:1/", "https://[::1]:9/"] {
            assert_eq!(check(url, Loopback::Allowed), Ok(()), "{url}");
        }
        for url in
            ["http://10.0.0.1/", "http://acme.dev/", "https://192.168.0.1/", "http://0.0.0.0/", "ftp://127.0.0.1/"]
        {
            assert!(check(url, Loopback::Allowed).is_err(), "{url}");
        }
    }
}
