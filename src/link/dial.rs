//! From a stream to an open WebSocket: the upgrade, and what each refusal means (PROTOCOL.md section 2).
//!
//! Blocks with a deadline, on a thread of its own, so that the socket thread never waits for a peer.

use std::io;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::WebSocketConfig;

use super::connection::Connection;
use super::protocol::{MAX_INBOUND, SEND_BUFFER};
use crate::config::Token;
use crate::domain::Now;
use crate::domain::event::Setback;
use crate::net::Route;

/// From the first packet to the answer to the upgrade.
const DIAL_LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
pub struct Dialer {
    pub route: Route,
    pub token: Token,
}

impl Dialer {
    /// One attempt. Redirects are not followed: the token would follow them.
    pub fn dial(&self, now: Now) -> Result<Connection, Setback> {
        let until = now.mono + DIAL_LIMIT;
        let stream = self.route.open(until).map_err(failed)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(16 << 10)
            .write_buffer_size(16 << 10)
            .max_write_buffer_size(SEND_BUFFER)
            .max_message_size(Some(MAX_INBOUND))
            .max_frame_size(Some(MAX_INBOUND));
        match tungstenite::client::client_with_config(self.request()?, stream, Some(config)) {
            Ok((socket, _)) => Ok(Connection::new(socket)),
            Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                Err(refusal(answer.status(), answer.headers(), now.wall))
            }
            Err(HandshakeError::Failure(tungstenite::Error::Io(e))) if e.kind() == io::ErrorKind::TimedOut => {
                Err(failed("the backend did not answer the upgrade in time".to_owned()))
            }
            Err(HandshakeError::Failure(e)) => Err(failed(format!("the upgrade failed: {e}"))),
            Err(HandshakeError::Interrupted(_)) => Err(failed("the upgrade was interrupted".to_owned())),
        }
    }

    fn request(&self) -> Result<http::Request<()>, Setback> {
        let mut request = self
            .route
            .api
            .socket()
            .into_client_request()
            .map_err(|e| failed(format!("the URL cannot be requested: {e}")))?;
        let mut bearer = HeaderValue::from_str(&self.token.bearer())
            .map_err(|_| failed("the token cannot stand in a header".to_owned()))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        Ok(request)
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
        429 | 503 => match headers.get(header::RETRY_AFTER).and_then(|value| retry_after(value, now)) {
            Some(at_least) => Setback::Wait { why, at_least },
            None => Setback::Failed(why),
        },
        404 => Setback::Failed(format!("{why}: there is no agent endpoint at this URL")),
        300..=399 => Setback::Failed(format!("{why}: a redirect is not followed; set the URL it leads to")),
        _ => Setback::Failed(why),
    }
}

/// Seconds or a date (RFC 9110 section 10.2.3).
fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(SystemTime::from(at).duration_since(now).unwrap_or_default())
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
