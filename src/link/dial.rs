//! From a stream to an open WebSocket: the upgrade, and what each refusal means (docs/protocol.md section 2).
//!
//! Blocks with a deadline, on a thread of its own, so that the socket thread never waits for a peer.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use tungstenite::client::IntoClientRequest;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::connection::{Connection, Inbound};
use super::protocol::{MAX_INBOUND, SEND_BUFFER, hub};
use crate::config::Token;
use crate::domain::Now;
use crate::domain::dialect::Dialect;
use crate::domain::event::Setback;
use crate::net::{Route, Stream};
use crate::store::Store;

/// From the first packet to the answer to the upgrade.
const DIAL_LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
pub struct Dialer {
    pub route: Route,
    pub token: Token,
    /// `None`: whichever the backend speaks.
    pub only: Option<Dialect>,
    /// Where each sending of the token is noted; `None` for whoever only tries it out, and has no state folder.
    pub store: Option<Arc<Store>>,
}

/// An attempt that came to nothing.
enum Refused {
    /// There is no such endpoint: another dialect's may be there.
    NotHere(Setback),
    /// The peer hung up instead of answering, as some servers do where there is nothing; a proxy before them then says
    /// 502. It may as well be about to restart.
    HungUp(Setback),
    Failed(Setback),
}

impl Refused {
    fn setback(self) -> Setback {
        match self {
            Self::NotHere(setback) | Self::HungUp(setback) | Self::Failed(setback) => setback,
        }
    }
}

impl From<Setback> for Refused {
    fn from(setback: Setback) -> Self {
        Self::Failed(setback)
    }
}

impl Dialer {
    /// One attempt, with the dialect that the backend spoke last; where it is not there, another with the other one.
    pub fn dial(
        &self,
        last: Dialect,
        now: impl Fn() -> Now,
    ) -> Result<(Connection, Dialect), Setback> {
        let first = self.only.unwrap_or(last);
        let refused = match self.attempt(first, now()) {
            Ok(connection) => return Ok((connection, first)),
            Err(refused @ Refused::Failed(_)) => return Err(refused.setback()),
            Err(refused) if self.only.is_some() => return Err(refused.setback()),
            Err(refused) => refused,
        };
        match (self.attempt(first.other(), now()), refused) {
            (Ok(connection), _) => Ok((connection, first.other())),
            (Err(Refused::Failed(other)), Refused::NotHere(_)) => Err(other),
            // What somebody else says there is no word of a backend that restarts.
            (Err(_), refused) => Err(refused.setback()),
        }
    }

    /// One attempt whose connection is given up at once, before anything is registered: which dialect answers, and
    /// whether the token is taken. A refusal may also come as a close after the upgrade, so the answer to a Ping is
    /// waited for. The time is the backend's own, where it tells.
    pub fn try_out(&self, now: impl Fn() -> Now) -> Result<(Dialect, Option<SystemTime>), Setback> {
        let (mut connection, dialect) = self.dial(Dialect::default(), now)?;
        let lost = |e: String| failed(format!("the connection broke after the upgrade: {e}"));
        connection
            .write(Message::Ping("doctor".into()))
            .and_then(|()| connection.flush())
            .map_err(lost)?;
        loop {
            match connection.read() {
                Inbound::Pong(_) => break,
                Inbound::Closed(code, reason) => return Err(closed(code, &reason)),
                Inbound::Broken(e) => return Err(lost(e)),
                Inbound::TooLarge => {
                    return Err(lost("it sent a frame that is too large".to_owned()));
                }
                Inbound::Text(_) | Inbound::Binary(_) | Inbound::Other | Inbound::Idle => {}
            }
        }
        let peer_clock = connection.peer_clock;
        connection.close(Some(CloseFrame {
            code: CloseCode::Normal,
            reason: "doctor".into(),
        }));
        Ok((dialect, peer_clock))
    }

    /// Redirects are not followed: the token would follow them.
    fn attempt(&self, dialect: Dialect, now: Now) -> Result<Connection, Refused> {
        let until = now.mono + DIAL_LIMIT;
        let stream = self.route.open(until).map_err(failed)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(16 << 10)
            .write_buffer_size(16 << 10)
            .max_write_buffer_size(SEND_BUFFER)
            .max_message_size(Some(MAX_INBOUND))
            .max_frame_size(Some(MAX_INBOUND));
        self.store
            .iter()
            .for_each(|store| store.audit().connecting(&self.route.api.shown(dialect)));
        match tungstenite::client::client_with_config(self.request(dialect)?, stream, Some(config))
        {
            Ok((mut socket, answer)) => {
                if dialect == Dialect::Hub {
                    authenticate(&mut socket, &self.token)?;
                }
                Ok(Connection::new(
                    socket,
                    answer.headers().get(header::DATE).and_then(http_date),
                ))
            }
            Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                let setback = refusal(answer.status(), answer.headers(), now.wall);
                Err(match answer.status() {
                    StatusCode::NOT_FOUND => Refused::NotHere(setback),
                    StatusCode::BAD_GATEWAY => Refused::HungUp(setback),
                    _ => setback.into(),
                })
            }
            Err(HandshakeError::Failure(e)) if timed_out(&e) => {
                Err(failed("the backend did not answer the upgrade in time".to_owned()).into())
            }
            Err(HandshakeError::Failure(e)) => {
                let setback = failed(format!("the upgrade failed: {e}"));
                Err(if is_unanswered(&e) {
                    Refused::HungUp(setback)
                } else {
                    setback.into()
                })
            }
            Err(HandshakeError::Interrupted(_)) => {
                Err(failed("the upgrade was interrupted".to_owned()).into())
            }
        }
    }

    fn request(&self, dialect: Dialect) -> Result<http::Request<()>, Setback> {
        let mut request = self
            .route
            .api
            .socket(dialect)
            .into_client_request()
            .map_err(|e| failed(format!("the URL cannot be requested: {e}")))?;
        if dialect == Dialect::Hub {
            return Ok(request);
        }
        let mut bearer = HeaderValue::from_str(&self.token.bearer())
            .map_err(|_| failed("the token cannot stand in a header".to_owned()))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        Ok(request)
    }
}

/// The hub wants the token as the first frame, and says whether it is one.
fn authenticate(socket: &mut WebSocket<Stream>, token: &Token) -> Result<(), Setback> {
    let lost = |e: tungstenite::Error| match e {
        e if timed_out(&e) => failed("the hub did not answer the token in time".to_owned()),
        e => failed(format!(
            "the connection broke before the token was accepted: {e}"
        )),
    };
    socket.send(Message::text(hub::auth(token))).map_err(lost)?;
    // What the hub says of a refusal is for people; the reason of the close that follows is for programs.
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
            Message::Close(None) => closed(1005, ""),
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

fn failed(why: String) -> Setback {
    Setback::Failed(why)
}

/// What an answer other than 101 means.
pub fn refusal(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Setback {
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

/// Seconds or a date (RFC 9110 section 10.2.3).
fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(http_date(value)?.duration_since(now).unwrap_or_default())
}

fn http_date(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?.trim();
    jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()
        .map(SystemTime::from)
}

/// What the code and the reason of a Close frame mean.
pub fn closed(code: u16, reason: &str) -> Setback {
    let why = format!("closed by the backend with {code} {reason:?}");
    match code {
        4401 | 4403 => Setback::TokenRejected(why),
        1008 if reason.starts_with("auth") => Setback::TokenRejected(why),
        _ => Setback::Failed(why),
    }
}
