//! One open WebSocket. Reads and writes never block. A close waits for the peer, so that it gets the last frames.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

use crate::net::{PeerActivity, Stream, Wire, wire_of};

/// Stands for a close frame without a code (RFC 6455 section 7.4.1).
pub(super) const NO_CODE: u16 = 1005;
/// How long a peer may take to answer a close frame.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

pub(super) struct Connection {
    socket: WebSocket<Stream>,
}

/// The result of a read.
pub(super) enum Inbound {
    Text(String),
    Binary(usize),
    Pong(Vec<u8>),
    Other,
    /// Nothing more has arrived.
    Idle,
    /// The peer closed the connection with that code and reason.
    Closed(u16, String),
    /// A frame is larger than allowed.
    TooLarge,
    Broken(String),
}

impl Connection {
    pub(super) fn new(socket: WebSocket<Stream>) -> Self {
        Self { socket }
    }

    /// Makes the socket nonblocking and registers it. From then on the poll tells when the socket is ready.
    pub(super) fn open(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let wire = wire_of(self.socket.get_mut());
        let stream = match std::mem::replace(wire, Wire::Gone) {
            Wire::Blocking { stream, .. } => stream,
            Wire::Open { .. } | Wire::Gone => return Err(ErrorKind::InvalidInput.into()),
        };
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        *wire = Wire::Open {
            stream,
            activity: PeerActivity::default(),
        };
        Ok(())
    }

    pub(super) fn read(&mut self) -> Inbound {
        match self.socket.read() {
            Ok(Message::Text(text)) => Inbound::Text(text.as_str().to_owned()),
            Ok(Message::Binary(bytes)) => Inbound::Binary(bytes.len()),
            Ok(Message::Pong(payload)) => Inbound::Pong(payload.to_vec()),
            Ok(Message::Ping(_) | Message::Frame(_)) => Inbound::Other,
            Ok(Message::Close(None)) => Inbound::Closed(NO_CODE, String::new()),
            Ok(Message::Close(Some(frame))) => {
                Inbound::Closed(frame.code.into(), frame.reason.as_str().to_owned())
            }
            Err(Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => Inbound::Idle,
            Err(Error::Capacity(_)) => Inbound::TooLarge,
            Err(e) => Inbound::Broken(e.to_string()),
        }
    }

    /// Puts a frame into the send buffer. If the socket does not take all of it now, [`Self::flush`] sends the rest.
    pub(super) fn write(&mut self, message: Message) -> Result<(), String> {
        pending_is_fine(self.socket.write(message))
    }

    pub(super) fn flush(&mut self) -> Result<(), String> {
        pending_is_fine(self.socket.flush())
    }

    /// Whether the peer has shown a sign of life since the last call.
    pub(super) fn take_sign_of_life(&mut self) -> bool {
        match wire_of(self.socket.get_mut()) {
            Wire::Open { activity, .. } => std::mem::take(&mut activity.is_alive),
            Wire::Blocking { .. } | Wire::Gone => false,
        }
    }

    /// Sends the rest of the buffer and a close frame. Then waits up to a second for the peer to close too: a close
    /// with unread input would reset the connection and lose the last frames. This blocks, so it needs its own thread.
    pub(super) fn say_goodbye(mut self, registry: &Registry, close: Option<CloseFrame>) {
        let until = goodbye_until();
        let wire = wire_of(self.socket.get_mut());
        if let Wire::Open { mut stream, .. } = std::mem::replace(wire, Wire::Gone) {
            let _ = registry.deregister(&mut stream);
            let stream = TcpStream::from(stream);
            if stream.set_nonblocking(false).is_err() {
                return;
            }
            *wire = Wire::Blocking { stream, until };
        }
        self.close(close);
    }

    /// Like [`Self::say_goodbye`], for a connection that the poll does not watch.
    pub(super) fn close(mut self, close: Option<CloseFrame>) {
        wire_of(self.socket.get_mut()).set_deadline(goodbye_until());
        if self.socket.close(close).is_ok() {
            let wire = wire_of(self.socket.get_mut());
            wire.shutdown_write();
            let mut rest = [0; 8192];
            while wire.read(&mut rest).is_ok_and(|n| n > 0) {}
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a deadline for a socket, not for policy"
)]
fn goodbye_until() -> Instant {
    Instant::now() + GOODBYE_LIMIT
}

fn pending_is_fine(result: Result<(), Error>) -> Result<(), String> {
    match result {
        Err(Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => Ok(()),
        other => other.map_err(|e| e.to_string()),
    }
}
