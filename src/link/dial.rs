//! From a stream to an open WebSocket: the upgrade, and the meaning of each refusal (docs/protocol.md section 2).
//!
//! A dial blocks until a deadline. It has its own thread, so the socket thread never waits for a peer.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use tungstenite::client::IntoClientRequest;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::connection::{Connection, NO_CODE};
use super::protocol::{MAX_INBOUND, SEND_BUFFER, hub};
use crate::config::{Config, Token};
use crate::domain::Now;
use crate::domain::event::Setback;
use crate::domain::message::Dialect;
use crate::net::{Route, Stream};
use crate::store::Store;

/// With these close codes a backend refuses the token (docs/protocol.md section 2).
const TOKEN_CLOSE_CODES: [u16; 2] = [4401, 4403];
/// The longest time from the first packet to the answer to the upgrade.
const DIAL_LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
pub struct Dialer {
    pub route: Route,
    pub token: Token,
    /// The only dialect to try. `None`: the dialect that the backend speaks.
    pub only: Option<Dialect>,
    /// The store's audit log records each use of the token. `None` for `doctor`: it opens no state folder.
    pub store: Option<Arc<Store>>,
}

/// A failed attempt.
struct Refused {
    setback: Setback,
    endpoint: Endpoint,
}

/// What a failed attempt shows about the endpoint.
#[derive(PartialEq, Eq)]
enum Endpoint {
    /// 404: the endpoint does not exist, but the one of the other dialect may.
    Missing,
    /// The peer hung up, or a proxy in front of it answered 502. Some servers hang up instead of answering 404, but a
    /// backend that restarts looks the same.
    Unknown,
    Exists,
}

impl From<Setback> for Refused {
    fn from(setback: Setback) -> Self {
        Self {
            setback,
            endpoint: Endpoint::Exists,
        }
    }
}

impl Dialer {
    pub fn new(config: &Config, store: Option<Arc<Store>>) -> Self {
        Self {
            route: Route::new(config),
            token: config.token.clone(),
            only: config.dialect.or_else(|| config.api.dialect()),
            store,
        }
    }

    /// Tries the dialect that the backend spoke last. If its endpoint does not seem to exist, tries the other dialect.
    pub(super) fn dial(
        &self,
        last: Dialect,
        now: impl Fn() -> Now,
    ) -> Result<(Connection, Dialect), Setback> {
        let first = self.only.unwrap_or(last);
        let refused = match self.attempt(first, now()) {
            Ok(connection) => return Ok((connection, first)),
            Err(refused) => refused,
        };
        if refused.endpoint == Endpoint::Exists || self.only.is_some() {
            return Err(refused.setback);
        }
        let is_missing = refused.endpoint == Endpoint::Missing;
        match self.attempt(first.other(), now()) {
            Ok(connection) => Ok((connection, first.other())),
            Err(other) if is_missing && other.endpoint == Endpoint::Exists => Err(other.setback),
            // A hang-up or a 502 may mean that the backend restarts. Then the second answer is not its own.
            Err(_) => Err(refused.setback),
        }
    }

    /// Connects without registering. Finds the dialect, and whether the backend accepts the token. A backend may refuse
    /// the token only after the upgrade, with a close frame. So this waits for the answer to a Ping.
    #[cfg(feature = "tools")]
    pub(crate) fn try_out(&self, now: impl Fn() -> Now) -> Result<Dialect, Setback> {
        use super::connection::Inbound;
        use tungstenite::protocol::CloseFrame;
        let (mut connection, dialect) = self.dial(Dialect::default(), now)?;
        let lost = |e: &str| failed(format!("the connection broke after the upgrade: {e}"));
        connection
            .write(Message::Ping("doctor".into()))
            .and_then(|()| connection.flush())
            .map_err(|e| lost(&e))?;
        loop {
            match connection.read() {
                Inbound::Pong(_) => break,
                Inbound::Closed(code, reason) => return Err(closed(code, &reason)),
                Inbound::Broken(e) => return Err(lost(&e)),
                Inbound::TooLarge => return Err(lost("it sent a frame that is too large")),
                Inbound::Text(_) | Inbound::Binary(_) | Inbound::Other | Inbound::Idle => {}
            }
        }
        connection.close(Some(CloseFrame {
            code: CloseCode::Normal,
            reason: "doctor".into(),
        }));
        Ok(dialect)
    }

    /// Follows no redirect, because the request would take the token along.
    fn attempt(&self, dialect: Dialect, now: Now) -> Result<Connection, Refused> {
        let until = now.mono + DIAL_LIMIT;
        let stream = self.route.open(until).map_err(|e| failed(e.to_string()))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(16 << 10)
            .write_buffer_size(16 << 10)
            .max_write_buffer_size(SEND_BUFFER)
            .max_message_size(Some(MAX_INBOUND))
            .max_frame_size(Some(MAX_INBOUND));
        if let Some(store) = &self.store {
            store.audit.connecting(&self.route.api.shown(dialect));
        }
        let request = self.request(dialect)?;
        match tungstenite::client::client_with_config(request, stream, Some(config)) {
            Ok((mut socket, _)) => {
                if dialect == Dialect::Hub {
                    authenticate(&mut socket, &self.token)?;
                }
                Ok(Connection::new(socket))
            }
            Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => Err(Refused {
                setback: refusal(answer.status(), answer.headers(), now.wall),
                endpoint: match answer.status() {
                    StatusCode::NOT_FOUND => Endpoint::Missing,
                    StatusCode::BAD_GATEWAY => Endpoint::Unknown,
                    _ => Endpoint::Exists,
                },
            }),
            Err(HandshakeError::Failure(e)) if timed_out(&e) => {
                Err(failed("the backend did not answer the upgrade in time").into())
            }
            Err(HandshakeError::Failure(e)) => Err(Refused {
                setback: failed(format!("the upgrade failed: {e}")),
                endpoint: match is_unanswered(&e) {
                    true => Endpoint::Unknown,
                    false => Endpoint::Exists,
                },
            }),
            Err(HandshakeError::Interrupted(_)) => {
                Err(failed("the upgrade was interrupted").into())
            }
        }
    }

    fn request(&self, dialect: Dialect) -> Result<http::Request<()>, Setback> {
        let request = self.route.api.socket(dialect).into_client_request();
        let mut request =
            request.map_err(|e| failed(format!("the URL cannot be requested: {e}")))?;
        if dialect == Dialect::Hub {
            return Ok(request);
        }
        let why = "the token contains a character that is not allowed in an HTTP header";
        let bearer = HeaderValue::from_str(&self.token.bearer());
        let mut bearer = bearer.map_err(|_| failed(why))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        Ok(request)
    }
}

/// Sends the token as the first frame and waits for the hub's answer.
fn authenticate(socket: &mut WebSocket<Stream>, token: &Token) -> Result<(), Setback> {
    let lost = |e: tungstenite::Error| match e {
        e if timed_out(&e) => failed("the hub did not answer the token in time"),
        e => failed(format!(
            "the connection broke before the token was accepted: {e}"
        )),
    };
    socket.send(Message::text(hub::auth(token))).map_err(lost)?;
    // After a refusal the hub closes the connection. Its close frame may say that the token is the cause.
    let mut refused = None;
    loop {
        let message = match socket.read() {
            Ok(message) => message,
            Err(e) => return Err(refused.unwrap_or_else(|| lost(e))),
        };
        let setback = match message {
            Message::Text(text) => match hub::answer_to_auth(&text) {
                Some(Err(Setback::Failed(why))) => {
                    refused = Some(Setback::Failed(why));
                    continue;
                }
                Some(answer) => return answer,
                None => continue,
            },
            Message::Close(Some(frame)) => closed(frame.code.into(), &frame.reason),
            Message::Close(None) => closed(NO_CODE, ""),
            _ => continue,
        };
        return Err(match setback {
            Setback::Failed(_) => refused.unwrap_or(setback),
            other => other,
        });
    }
}

fn timed_out(e: &tungstenite::Error) -> bool {
    matches!(e, tungstenite::Error::Io(e) if e.kind() == io::ErrorKind::TimedOut)
}

fn is_unanswered(e: &tungstenite::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match e {
        tungstenite::Error::Protocol(e) => *e == ProtocolError::HandshakeIncomplete,
        tungstenite::Error::Io(e) => {
            matches!(e.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
        }
        _ => false,
    }
}

fn failed(why: impl Into<String>) -> Setback {
    Setback::Failed(why.into())
}

/// The meaning of an answer other than 101.
fn refusal(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Setback {
    let why = status.to_string();
    match status.as_u16() {
        401 | 403 => Setback::TokenRejected(why),
        426 => Setback::VersionRefused(why),
        429 | 503 => match headers
            .get(header::RETRY_AFTER)
            .and_then(|value| retry_after(value, now))
        {
            Some(at_least) => Setback::Wait { why, at_least },
            None => Setback::Failed(why),
        },
        404 => Setback::Failed(format!("{why}: there is no agent endpoint at this URL")),
        300..=399 => Setback::Failed(format!(
            "{why}: a redirect is not followed; set the URL it leads to"
        )),
        _ => Setback::Failed(why),
    }
}

/// The value is a number of seconds or a date (RFC 9110 section 10.2.3).
fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text);
    let date = SystemTime::from(date.ok()?);
    Some(date.duration_since(now).unwrap_or_default())
}

/// The meaning of a close frame's code and reason.
pub(super) fn closed(code: u16, reason: &str) -> Setback {
    let why = format!("closed by the backend with {code} {reason:?}");
    let is_policy = code == u16::from(CloseCode::Policy);
    if TOKEN_CLOSE_CODES.contains(&code) || is_policy && reason.starts_with("auth") {
        Setback::TokenRejected(why)
    } else {
        Setback::Failed(why)
    }
}
