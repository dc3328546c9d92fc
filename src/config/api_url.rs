//! The backend's address: what may be connected to and what counts as the same origin (docs/protocol.md section 1).

use std::fmt;

use std::net::IpAddr;

use http::Uri;

use crate::domain::message::Dialect;

/// Where each dialect is spoken.
fn path_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Ticket => "/api/agents/ws",
        Dialect::Hub => "/agent/ws",
    }
}

/// A checked `WORKFORCE0_API_URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiUrl {
    secure: bool,
    /// Lower case; an IPv6 address stands in brackets.
    host: String,
    port: u16,
    /// Before `/api/…`; empty or begins with `/` and does not end with one.
    prefix: String,
    /// Path and query of the WebSocket, where the URL names them.
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
        let Origin { host, port } = origin(&uri, secure)?;
        if !secure && !allow_insecure && !is_loopback(&host) {
            return Err(format!(
                "would send the token in clear text to {host}: use https://, or set ALLOW_INSECURE=1 if you accept that"
            ));
        }
        let path = uri.path().trim_end_matches('/');
        if socket && !path.is_empty() {
            let socket_path = uri
                .path_and_query()
                .map_or(path, |all| all.as_str())
                .to_owned();
            let prefix = Dialect::ALL
                .into_iter()
                .find_map(|dialect| path.strip_suffix(path_of(dialect)));
            let prefix = prefix.unwrap_or_default().to_owned();
            return Ok(Self {
                secure,
                host,
                port,
                prefix,
                socket_path: Some(socket_path),
            });
        }
        if uri.query().is_some() {
            return Err("must not have a query (?…)".to_owned());
        }
        Ok(Self {
            secure,
            host,
            port,
            prefix: path.to_owned(),
            socket_path: None,
        })
    }

    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Without the brackets of an IPv6 address: for name lookup and TLS.
    pub fn host(&self) -> &str {
        bare(&self.host)
    }

    /// For CONNECT: with brackets, and always with the port.
    pub fn host_and_port(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the WebSocket of that dialect is.
    pub fn socket(&self, dialect: Dialect) -> String {
        let scheme = if self.secure { "wss" } else { "ws" };
        match &self.socket_path {
            Some(path) => format!("{scheme}://{}{path}", self.authority()),
            None => format!(
                "{scheme}://{}{}{}",
                self.authority(),
                self.prefix,
                path_of(dialect)
            ),
        }
    }

    /// The same for people: without a query, where somebody may keep a secret.
    pub fn shown(&self, dialect: Dialect) -> String {
        let socket = self.socket(dialect);
        socket
            .split_once('?')
            .map_or(socket.clone(), |(shown, _)| shown.to_owned())
    }

    /// The dialect of a URL that names a path of its own, where only one can be spoken.
    pub fn dialect(&self) -> Option<Dialect> {
        let path = self.socket_path.as_ref()?.split('?').next()?;
        let is_hub =
            path.ends_with(path_of(Dialect::Hub)) && !path.ends_with(path_of(Dialect::Ticket));
        Some(if is_hub {
            Dialect::Hub
        } else {
            Dialect::Ticket
        })
    }

    /// An address of the HTTP interface; each segment is escaped, so that none can lead elsewhere.
    pub fn endpoint(&self, segments: &[&str]) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        let mut url = format!("{scheme}://{}{}", self.authority(), self.prefix);
        for segment in segments {
            url.push('/');
            url.push_str(&escape(segment));
        }
        url
    }

    /// Checks that `url` has this origin: same scheme, host and port, and no credentials of its own.
    /// It is parsed as the HTTP client will parse it, so that both see the same host.
    pub fn same_origin(&self, url: &str) -> Result<String, String> {
        let uri: Uri = url
            .parse()
            .map_err(|e| format!("payloadUrl is not a URL: {e}"))?;
        let scheme = if self.secure { "https" } else { "http" };
        let theirs = origin(&uri, self.secure).map_err(|e| format!("payloadUrl {e}"))?;
        let same = uri.scheme_str() == Some(scheme)
            && theirs.host == self.host
            && theirs.port == self.port;
        if same {
            Ok(uri.to_string())
        } else {
            Err("payloadUrl is not of the API URL's origin".to_owned())
        }
    }

    fn authority(&self) -> String {
        let default = if self.secure { 443 } else { 80 };
        if self.port == default {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

pub(super) struct Origin {
    pub host: String,
    pub port: u16,
}

pub(super) fn origin(uri: &Uri, secure: bool) -> Result<Origin, String> {
    let authority = uri.authority().ok_or("has no host")?;
    if authority.as_str().contains('@') {
        return Err("must not hold a user name or password".to_owned());
    }
    let host = authority.host().to_ascii_lowercase();
    if host.is_empty() {
        return Err("has no host".to_owned());
    }
    let port = match (authority.port(), authority.port_u16()) {
        (None, _) if authority.as_str().len() > authority.host().len() => {
            return Err("has a port that is not a number from 1 to 65535".to_owned());
        }
        (None, _) => {
            if secure {
                443
            } else {
                80
            }
        }
        (Some(_), Some(port)) if port > 0 => port,
        (Some(_), _) => return Err("has a port that is not a number from 1 to 65535".to_owned()),
    };
    Ok(Origin { host, port })
}

/// As people know it: without path and query of a WebSocket, where somebody may keep a secret.
impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

/// Without the brackets of an IPv6 address.
pub(super) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn is_loopback(host: &str) -> bool {
    let host = bare(host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// RFC 3986 section 2.1: everything but unreserved characters. A segment of dots alone would climb, so it is escaped too.
fn escape(segment: &str) -> String {
    let dots = segment.chars().all(|c| c == '.');
    let mut escaped = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'~')
            || (byte == b'.' && !dots)
        {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
