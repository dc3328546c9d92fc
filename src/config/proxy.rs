//! The proxy to the backend (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`) and its exceptions (`NO_PROXY`).
//!
//! These settings have the same meaning as in curl, with one difference: connections to this machine never use a proxy.
//! Such connections may be unencrypted because they do not leave the machine.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Uri;
use percent_encoding::percent_decode_str;

use super::api_url::{ApiUrl, HostPort, bare};
use super::sources::Reader;

/// A proxy that supports CONNECT. `Debug` and `Display` do not show the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// The name of the setting that contains this proxy.
    pub setting: &'static str,
    pub address: HostPort,
    /// The value of the `Proxy-Authorization` header.
    pub authorization: Option<String>,
}

impl Proxy {
    /// Parses only the setting that counts. The others may be for other programs, so errors in them do not matter.
    pub(super) fn read(r: &mut Reader, api: &ApiUrl) -> Option<Self> {
        let exceptions = r.value("NO_PROXY", |text| Ok(text.to_owned()));
        let name = settings_for(api).iter().find(|name| r.is_set(name))?;
        if is_exempt(api.address.host(), &exceptions.unwrap_or_default()) {
            return None;
        }
        r.value(name, |text| Self::parse(name, text))
    }

    /// `setting` is the name of the setting. No error shows `text`, because it may contain a password.
    pub(crate) fn parse(setting: &'static str, text: &str) -> Result<Self, String> {
        let text = text.trim().trim_end_matches('/');
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => {
                return Err("only proxies at http:// are supported; NO_PROXY exempts hosts".into());
            }
            None => text,
        };
        let (authorization, address) = match rest.rsplit_once('@') {
            Some((credentials, address)) => (Some(basic(credentials)), address),
            None => (None, rest),
        };
        let uri: Option<Uri> = format!("http://{address}").parse().ok();
        let uri = uri.filter(|uri| uri.path() == "/" && uri.query().is_none());
        let uri = uri.ok_or("is not host:port or http://host:port")?;
        Ok(Self {
            setting,
            address: HostPort::of(&uri, false)?,
            authorization,
        })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// The header value (RFC 7617) for `user:password`, which may be percent-encoded as in a URL. Adds a missing colon.
fn basic(credentials: &str) -> String {
    let mut plain: Vec<u8> = percent_decode_str(credentials).collect();
    if !credentials.contains(':') {
        plain.push(b':');
    }
    format!("Basic {}", BASE64_STANDARD.encode(plain))
}

/// The settings that may name a proxy for `api`. The first one that is set counts. The list is empty for this machine.
fn settings_for(api: &ApiUrl) -> &'static [&'static str] {
    match (api.address.is_loopback(), api.secure) {
        (true, _) => &[],
        (false, true) => &["HTTPS_PROXY", "ALL_PROXY"],
        (false, false) => &["HTTP_PROXY", "ALL_PROXY"],
    }
}

/// Whether `no_proxy` exempts the host. It lists names (with all their subdomains), addresses, networks (`10.0.0.0/8`),
/// or `*` for all hosts. This function never looks up the address of a name.
fn is_exempt(host: &str, no_proxy: &str) -> bool {
    let host = host.trim_end_matches('.');
    let mut entries = no_proxy.split(|c: char| c == ',' || c.is_whitespace());
    entries.any(|entry| match host.parse::<IpAddr>() {
        _ if entry == "*" => true,
        Ok(ip) => contains(entry, ip),
        Err(_) => is_within(host, entry),
    })
}

fn is_within(host: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches("*.").trim_matches('.');
    let rest = host.strip_suffix(&domain.to_ascii_lowercase());
    !domain.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn contains(network: &str, ip: IpAddr) -> bool {
    let (address, bits) = match network.split_once('/') {
        Some((address, bits)) => (address, bits.parse().ok()),
        None => (network, Some(u32::MAX)),
    };
    let (Ok(address), Some(bits)) = (bare(address).parse::<IpAddr>(), bits) else {
        return false;
    };
    let (difference, width) = match (address.to_canonical(), ip.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits() ^ b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits(), 128_u32),
        _ => return false,
    };
    // An address without `/` must be equal in all bits. A network of zero bits (`/0`) contains every address.
    let difference = difference.checked_shr(width.saturating_sub(bits));
    difference.unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::{Proxy, is_exempt};

    /// NO_PROXY: names with all below them, addresses, networks, everything; nothing that only looks alike.
    #[test]
    fn exemptions() {
        let rows = [
            ("good.example", "good.example", true),
            ("good.example", "GOOD.example", true),
            ("good.example.", "good.example", true),
            ("a.good.example", "good.example", true),
            ("a.b.good.example", "good.example", true),
            ("a.good.example", ".good.example", true),
            ("good.example", ".good.example", true),
            ("a.good.example", "*.good.example", true),
            ("good.example", "a, good.example", true),
            ("good.example", "a good.example\tb", true),
            ("good.example", ",,good.example,", true),
            ("good.example", "*", true),
            ("good.example", "a,*", true),
            ("10.1.2.3", "*", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("10.1.2.3", "10.1.2.2/31", true),
            ("10.1.2.3", "10.1.2.3/32", true),
            ("10.1.2.3", "0.0.0.0/0", true),
            ("10.1.2.3", "192.168.0.0/16,10.0.0.0/8", true),
            ("2001:db8::1", "2001:db8::1", true),
            ("2001:db8::1", "[2001:db8::1]", true),
            ("2001:db8::1", "2001:DB8:0::/32", true),
            ("2001:db8::1", "::/0", true),
            ("::ffff:10.1.2.3", "10.0.0.0/8", true),
            ("good.example", "", false),
            ("good.example", ",", false),
            ("good.example", ".", false),
            ("good.example", "*.", false),
            ("good.example", "example.good", false),
            ("good.example", "a.good.example", false),
            ("evilgood.example", "good.example", false),
            ("good.example.evil", "good.example", false),
            ("good.example", "od.example", false),
            ("good.example", "0.0.0.0/0", false),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.1.2.3", "1.2.3", false),
            ("10.1.2.3", "11.0.0.0/8", false),
            ("10.1.2.3", "10.1.2.0/31", false),
            ("10.1.2.3", "10.0.0.0/x", false),
            ("10.1.2.3", "10.0.0.0/", false),
            ("10.1.2.3", "::/0", false),
            ("2001:db8::1", "2001:db9::/32", false),
            ("2001:db8::1", "2001:db8::2/127", false),
            ("2001:db8::1", "0.0.0.0/0", false),
        ];
        let wrong: Vec<_> = rows
            .into_iter()
            .filter(|(host, list, wanted)| is_exempt(host, list) != *wanted)
            .collect();
        assert!(wrong.is_empty(), "taken for the opposite: {wrong:#?}");
    }

    /// A proxy is a URL or just host and port; what is escaped in the credentials is meant literally (RFC 7617).
    #[test]
    fn proxies() {
        let rows = [
            (
                "http://proxy.example:3128",
                "proxy.example:3128",
                "proxy.example",
                3128,
                None,
            ),
            (
                "HTTP://Proxy.Example:3128/",
                "proxy.example:3128",
                "proxy.example",
                3128,
                None,
            ),
            (
                " proxy.example:3128\n",
                "proxy.example:3128",
                "proxy.example",
                3128,
                None,
            ),
            (
                "http://proxy.example",
                "proxy.example:80",
                "proxy.example",
                80,
                None,
            ),
            (
                "http://[2001:db8::1]:8080",
                "[2001:db8::1]:8080",
                "2001:db8::1",
                8080,
                None,
            ),
            (
                "http://me:secret@p:1",
                "p:1",
                "p",
                1,
                Some("Basic bWU6c2VjcmV0"),
            ),
            ("me:secret@p:1", "p:1", "p", 1, Some("Basic bWU6c2VjcmV0")),
            (
                "http://me:p%40%3a%25@p:1",
                "p:1",
                "p",
                1,
                Some("Basic bWU6cEA6JQ=="),
            ),
            ("http://me:p@/@p:1", "p:1", "p", 1, Some("Basic bWU6cEAv")),
            ("http://me@p:1", "p:1", "p", 1, Some("Basic bWU6")),
        ];
        for (text, shown, host, port, authorization) in rows {
            let proxy = Proxy::parse("HTTPS_PROXY", text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(
                (proxy.address.host(), proxy.address.port),
                (host, port),
                "{text}"
            );
            assert_eq!(proxy.authorization.as_deref(), authorization, "{text}");
            assert_eq!(proxy.to_string(), shown, "{text}");
            assert_eq!(
                format!("{proxy:?}"),
                format!("Proxy({shown})"),
                "{text}: Debug shows more"
            );
        }
    }
}
