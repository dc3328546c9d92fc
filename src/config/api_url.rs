//! The URL of the backend. Derives the URLs to connect to, and checks that another URL has the same origin
//! (docs/protocol.md section 1).

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::message::Dialect;

/// The characters that must be escaped in a segment of a path.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn path_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Ticket => "/api/agents/ws",
        Dialect::Hub => "/agent/ws",
    }
}

/// A checked `WORKFORCE0_API_URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiUrl {
    /// Whether connections use TLS.
    pub secure: bool,
    pub address: HostPort,
    /// The path before `/api/…`. It is empty, or it begins with `/` and does not end with `/`.
    prefix: String,
    /// Path and query of the WebSocket, if the setting names them.
    socket_path: Option<String>,
}

impl ApiUrl {
    pub fn parse(text: &str, allow_insecure: bool) -> Result<Self, String> {
        let uri: Uri = text.trim().parse().map_err(|e| format!("not a URL: {e}"))?;
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        let (secure, socket) = match scheme.as_str() {
            "https" => (true, false),
            "http" => (false, false),
            "wss" => (true, true),
            "ws" => (false, true),
            _ => return Err("must begin with https:// (or wss://)".to_owned()),
        };
        let address = HostPort::of(&uri, secure)?;
        if !secure && !allow_insecure && !address.is_loopback() {
            return Err(format!(
                "would send the token unencrypted to {}: use https://, or set ALLOW_INSECURE=1 if you accept that",
                address.host
            ));
        }
        let path = uri.path().trim_end_matches('/');
        let (prefix, socket_path) = if socket && !path.is_empty() {
            let mut dialects = Dialect::ALL.into_iter();
            let prefix = dialects.find_map(|dialect| path.strip_suffix(path_of(dialect)));
            let socket_path = uri.path_and_query().map_or(path, |all| all.as_str());
            (prefix.unwrap_or_default(), Some(socket_path.to_owned()))
        } else if uri.query().is_some() {
            return Err("must not have a query (?…)".to_owned());
        } else {
            (path, None)
        };
        Ok(Self {
            secure,
            address,
            prefix: prefix.to_owned(),
            socket_path,
        })
    }

    /// The URL of that dialect's WebSocket.
    pub fn socket(&self, dialect: Dialect) -> String {
        let scheme = if self.secure { "wss" } else { "ws" };
        let default = || format!("{}{}", self.prefix, path_of(dialect));
        let path = self.socket_path.clone().unwrap_or_else(default);
        format!("{scheme}://{}{path}", self.authority())
    }

    /// The URL of the WebSocket for people. It has no query, because a query may contain a secret.
    pub fn shown(&self, dialect: Dialect) -> String {
        let mut socket = self.socket(dialect);
        socket.truncate(socket.find('?').unwrap_or(socket.len()));
        socket
    }

    /// The dialect that the WebSocket path in the setting belongs to. `None`: the setting has no such path.
    pub fn dialect(&self) -> Option<Dialect> {
        let path = self.socket_path.as_ref()?.split('?').next()?;
        let mut dialects = Dialect::ALL.into_iter();
        let named = dialects.find(|dialect| path.ends_with(path_of(*dialect)));
        Some(named.unwrap_or(Dialect::Ticket))
    }

    /// A URL of the HTTP interface. Escapes each segment, so that no segment can change the rest of the path.
    pub fn endpoint(&self, segments: &[&str]) -> String {
        let mut url = self.to_string();
        for segment in segments {
            url.push('/');
            url.push_str(&escape(segment));
        }
        url
    }

    /// Checks that `url` has this origin: the same scheme, host and port. It must contain no user name or password. The
    /// HTTP client parses the result in the same way, so it connects to the host that was checked.
    pub fn same_origin(&self, url: &str) -> Result<String, String> {
        let uri: Uri = url
            .parse()
            .map_err(|e| format!("payloadUrl is not a URL: {e}"))?;
        let theirs = HostPort::of(&uri, self.secure).map_err(|e| format!("payloadUrl {e}"))?;
        if uri.scheme_str() != Some(self.scheme()) || theirs != self.address {
            return Err("payloadUrl does not have the API URL's origin".to_owned());
        }
        Ok(uri.to_string())
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    fn authority(&self) -> String {
        if self.address.port == default_port(self.secure) {
            self.address.host.clone()
        } else {
            self.address.to_string()
        }
    }
}

/// The URL with http or https, and without the path and query of a WebSocket: these may contain a secret.
impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.prefix)
    }
}

/// `Display` always includes the port, because CONNECT requires it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The host in lower case. An IPv6 address has brackets.
    host: String,
    pub port: u16,
}

impl HostPort {
    pub(super) fn of(uri: &Uri, secure: bool) -> Result<Self, String> {
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err("must not contain a user name or password".to_owned());
        }
        let host = authority.host();
        if host.is_empty() {
            return Err("has no host".to_owned());
        }
        let port = match authority.port_u16() {
            Some(port) if port > 0 => port,
            None if authority.as_str() == host => default_port(secure),
            _ => return Err("has a port that is not a number from 1 to 65535".to_owned()),
        };
        let host = host.to_ascii_lowercase();
        Ok(Self { host, port })
    }

    /// The host for name lookup and TLS. An IPv6 address has no brackets.
    pub fn host(&self) -> &str {
        bare(&self.host)
    }

    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// Removes the brackets of an IPv6 address.
pub(super) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Escapes a segment (RFC 3986 section 2.1). `.` and `..` would name a folder, so dots alone are escaped too.
fn escape(segment: &str) -> String {
    if segment.chars().all(|c| c == '.') {
        return segment.replace('.', "%2E");
    }
    utf8_percent_encode(segment, RESERVED).to_string()
}
