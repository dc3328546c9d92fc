//! One open WebSocket: reads and writes that never block, and a close that the peer gets to see.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use mio::{Interest, Registry, Token};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

use crate::net::{Signs, Stream, Wire};

/// How long a peer that is told goodbye may take to answer.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

pub struct Connection {
    socket: WebSocket<Stream>,
    /// The backend's clock when it took the upgrade, where it tells.
    pub(super) peer_clock: Option<SystemTime>,
}

/// What a read brought.
pub enum Inbound {
    Text(String),
    Binary(usize),
    Pong(Vec<u8>),
    Other,
    /// Nothing more for now.
    Idle,
    /// The peer closed it, with that code and reason.
    Closed(u16, String),
    /// A frame larger than is allowed.
    TooLarge,
    Broken(String),
}

impl Connection {
    pub(super) fn new(socket: WebSocket<Stream>, peer_clock: Option<SystemTime>) -> Self {
        Self { socket, peer_clock }
    }

    /// From here on nothing blocks: readiness is told by the poll.
    pub fn open(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let wire = self.socket.get_mut().wire();
        let stream = match std::mem::replace(wire, Wire::Gone) {
            Wire::Blocking { stream, .. } => stream,
            Wire::Open { .. } | Wire::Gone => return Err(ErrorKind::InvalidInput.into()),
        };
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        *wire = Wire::Open {
            stream,
            signs: Signs::default(),
        };
        Ok(())
    }

    pub fn read(&mut self) -> Inbound {
        match self.socket.read() {
            Ok(Message::Text(text)) => Inbound::Text(text.as_str().to_owned()),
            Ok(Message::Binary(bytes)) => Inbound::Binary(bytes.len()),
            Ok(Message::Pong(payload)) => Inbound::Pong(payload.to_vec()),
            Ok(Message::Ping(_) | Message::Frame(_)) => Inbound::Other,
            Ok(Message::Close(None)) => Inbound::Closed(1005, String::new()),
            Ok(Message::Close(Some(frame))) => {
                Inbound::Closed(frame.code.into(), frame.reason.as_str().to_owned())
            }
            Err(Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => Inbound::Idle,
            Err(Error::Capacity(_)) => Inbound::TooLarge,
            Err(e) => Inbound::Broken(e.to_string()),
        }
    }

    /// Puts a frame into the send buffer. What the socket does not take now goes out when it is writable again.
    pub fn write(&mut self, message: Message) -> Result<(), String> {
        pending_is_fine(self.socket.write(message))
    }

    pub fn flush(&mut self) -> Result<(), String> {
        pending_is_fine(self.socket.flush())
    }

    /// Whether the peer has shown life since the last time this was asked.
    pub fn showed_life(&mut self) -> bool {
        match self.socket.get_mut().wire() {
            Wire::Open { signs, .. } => std::mem::take(&mut signs.of_life),
            Wire::Blocking { .. } | Wire::Gone => false,
        }
    }

    /// Says why, sends what is still in the buffer and waits until the peer has closed too, or a second.
    /// Blocks: to be called on a thread of its own. Closing with unread input would reset the connection, and
    /// the peer would never see the last frames.
    pub fn say_goodbye(mut self, registry: &Registry, close: Option<CloseFrame>) {
        let until = goodbye_until();
        let wire = self.socket.get_mut().wire();
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

    /// The same for a connection that no poll watches.
    pub(super) fn close(mut self, close: Option<CloseFrame>) {
        self.socket.get_mut().wire().set_deadline(goodbye_until());
        if self.socket.close(close).is_ok() {
            let wire = self.socket.get_mut().wire();
            wire.shutdown_write();
            let mut rest = [0; 8192];
            while wire.read(&mut rest).is_ok_and(|n| n > 0) {}
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a peer may take to close is no policy"
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
