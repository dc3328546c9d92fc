//! The way to the backend: name lookup, each address in turn, proxy, TLS, and an error with advice for each failure.
//!
//! The WebSocket and the downloads both use this way, so only one way needs a review. They send the token later, on the
//! open stream, so this module never sees the token.

mod stream;
mod tls;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use http::StatusCode;

pub use stream::{PeerActivity, Stream, Wire, left, wire_of};

use crate::config::{ApiUrl, Config, HostPort, Proxy, Roots};

/// How long one address is tried at most.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The largest head of a proxy's answer, in bytes.
const HEAD_MAX: usize = 16 << 10;

/// The backend's address, and what is needed to reach it: the proxy and the root certificates.
#[derive(Debug, Clone)]
pub struct Route {
    pub api: ApiUrl,
    pub proxy: Option<Proxy>,
    pub roots: Roots,
}

/// Why a [`Route`] does not reach the backend.
#[derive(Debug, thiserror::Error)]
#[error("{what}{}", .fix.as_ref().map_or(String::new(), |fix| format!("; {fix}")))]
pub struct RouteError {
    pub what: String,
    /// What a person can do about the failure, if that is known.
    pub fix: Option<String>,
}

impl RouteError {
    fn with_fix(what: String, fix: impl Into<String>) -> Self {
        let fix = Some(fix.into());
        Self { what, fix }
    }
}

impl From<String> for RouteError {
    fn from(what: String) -> Self {
        Self { what, fix: None }
    }
}

impl Route {
    pub fn new(config: &Config) -> Self {
        Self {
            api: config.api.clone(),
            proxy: config.proxy.clone(),
            roots: config.roots.clone(),
        }
    }

    /// Opens a stream to the backend, with TLS if the URL asks for it. Blocks until `until` at the latest.
    pub fn open(&self, until: Instant) -> Result<Stream, RouteError> {
        let host = self.api.address.host();
        let wire = match &self.proxy {
            Some(proxy) => self.tunnel(proxy, until)?,
            None => reach(&self.api.address, until).map_err(|e| format!("{host}: {e}"))?,
        };
        if !self.api.secure {
            return Ok(Stream::Plain(wire));
        }
        tls::secure(host, wire, &self.roots).map(Stream::NativeTls)
    }

    /// Sends CONNECT (RFC 9110 section 9.3.6) to the proxy, even for a URL without TLS: an ordinary proxy request would
    /// show the token to the proxy.
    fn tunnel(&self, proxy: &Proxy, until: Instant) -> Result<Wire, RouteError> {
        let setting = proxy.setting;
        let mut wire = reach(&proxy.address, until).map_err(|e| {
            let what = format!("the proxy {proxy} cannot be reached ({e})");
            RouteError::with_fix(what, format!("is {setting} right?"))
        })?;
        let to = &self.api.address;
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if let Some(value) = &proxy.authorization {
            request.push_str(&format!("Proxy-Authorization: {value}\r\n"));
        }
        request.push_str("\r\n");
        let answer = wire
            .write_all(request.as_bytes())
            .and_then(|()| read_status(&mut wire));
        let status = answer.map_err(|e| {
            format!("the proxy {proxy} did not answer CONNECT as a proxy does: {e}")
        })?;
        match status.as_u16() {
            200..=299 => Ok(wire),
            407 => Err(RouteError::with_fix(
                format!("the proxy {proxy} wants another user name and password ({status})"),
                format!("write them as {setting}=http://user:password@host:port"),
            )),
            _ => Err(RouteError::with_fix(
                format!("the proxy {proxy} refuses to connect to {to} ({status})"),
                "have it allowed there, or name the host in NO_PROXY if it can be reached directly",
            )),
        }
    }
}

fn reach(to: &HostPort, until: Instant) -> io::Result<Wire> {
    let stream = connect(&lookup(to.host(), to.port, until)?, until)?;
    // A small frame, such as a claim, must not wait until the one before it is acknowledged.
    stream.set_nodelay(true)?;
    Ok(Wire::Blocking { stream, until })
}

/// Looks a name up on its own thread. Nobody joins this thread, because a name server may take longer than the time
/// left. The thread owns nothing.
pub fn lookup(host: &str, port: u16, until: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (tell, found) = crossbeam_channel::bounded(1);
    let host = host.to_owned();
    thread::Builder::new()
        .name("lookup".to_owned())
        .spawn(move || {
            // The receiver may have given up.
            let _ = tell.send((host.as_str(), port).to_socket_addrs().map(Vec::from_iter));
        })?;
    found
        .recv_deadline(until)
        .map_err(|_| io::Error::new(ErrorKind::TimedOut, "the name server does not answer"))?
}

/// Connects to the first address that answers. Each address gets a share of the time, so a dead one cannot use it all.
/// One more share remains for what follows.
pub fn connect(addresses: &[SocketAddr], until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for (address, untried) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let share = left(until)?.div_f64((untried + 1) as f64);
        match TcpStream::connect_timeout(address, share.min(CONNECT_LIMIT)) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = io::Error::new(e.kind(), format!("{address}: {e}")),
        }
    }
    Err(last)
}

/// Reads the head of an answer and no byte beyond it: the rest belongs to the tunnel.
fn read_status(wire: &mut Wire) -> io::Result<StatusCode> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_MAX {
            return Err(io::Error::other("its answer has no end"));
        }
        if wire.read(&mut byte)? == 0 {
            return Err(io::Error::other("it hung up"));
        }
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    let version = head.strip_prefix("HTTP/1.");
    let status = version.and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
    status.ok_or_else(|| io::Error::other("its answer is not HTTP"))
}
