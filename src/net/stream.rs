//! The bytes of a connection, with or without TLS: blocking with a deadline, or not blocking at all.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use tungstenite::stream::MaybeTlsStream;

/// The bytes below HTTP and the WebSocket, with or without TLS.
pub type Stream = MaybeTlsStream<Wire>;

/// The TCP connection below a stream.
pub fn wire_of(stream: &mut Stream) -> &mut Wire {
    match stream {
        Stream::Plain(wire) => wire,
        Stream::NativeTls(tls) => tls.get_mut(),
        _ => unreachable!("a route makes no other kind"),
    }
}

/// The TCP connection. It blocks with a deadline until a poll watches it; from then on it does not block.
#[derive(Debug)]
pub enum Wire {
    Blocking {
        stream: TcpStream,
        until: Instant,
    },
    Open {
        stream: mio::net::TcpStream,
        activity: PeerActivity,
    },
    /// There is no connection: one form is being turned into the other, or that has failed.
    Gone,
}

/// Signs of life below the level of frames. They count because a large frame on a slow line can take longer than a peer
/// may be silent.
#[derive(Debug, Default)]
pub struct PeerActivity {
    /// The last write found the system's send buffer full.
    is_blocked: bool,
    /// Bytes arrived, or a full buffer took more bytes, so the peer has acknowledged some of the earlier ones.
    pub is_alive: bool,
}

impl Wire {
    /// Every later read and write ends at that time at the latest. Only for a blocking connection.
    pub fn set_deadline(&mut self, by: Instant) {
        if let Self::Blocking { until, .. } = self {
            *until = by;
        }
    }

    /// Whether a blocking connection can carry another request: it is open, and no unexpected bytes have arrived.
    pub fn is_quiet(&self) -> bool {
        let Self::Blocking { stream, .. } = self else {
            return false;
        };
        let nothing = |e: io::Error| e.kind() == ErrorKind::WouldBlock;
        stream.set_nonblocking(true).is_ok()
            && stream.peek(&mut [0]).is_err_and(nothing)
            && stream.set_nonblocking(false).is_ok()
    }

    pub fn shutdown_write(&self) {
        if let Self::Blocking { stream, .. } = self {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
}

/// The time left until a deadline, as a socket timeout. A peer that sends one byte a second cannot extend the deadline.
#[expect(
    clippy::disallowed_methods,
    reason = "a socket timeout counts from now"
)]
pub fn left(until: Instant) -> io::Result<Duration> {
    match until.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err(ErrorKind::TimedOut.into()),
    }
}

/// Unix reports a socket timeout as `WouldBlock`, like a nonblocking socket. This makes it `TimedOut`.
fn timed_out(e: io::Error) -> io::Error {
    if e.kind() == ErrorKind::WouldBlock {
        ErrorKind::TimedOut.into()
    } else {
        e
    }
}

/// Repeats a call that a signal interrupts. The system itself does not repeat a call with a timeout (signal(7)).
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Blocking { stream, until } => uninterrupted(|| {
                stream.set_read_timeout(Some(left(*until)?))?;
                stream.read(buf).map_err(timed_out)
            }),
            Self::Open { stream, activity } => {
                let n = stream.read(buf)?;
                activity.is_alive |= n > 0;
                Ok(n)
            }
            Self::Gone => Err(ErrorKind::NotConnected.into()),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Blocking { stream, until } => uninterrupted(|| {
                stream.set_write_timeout(Some(left(*until)?))?;
                stream.write(buf).map_err(timed_out)
            }),
            Self::Open { stream, activity } => {
                let written = stream.write(buf);
                match &written {
                    Ok(_) => activity.is_alive |= std::mem::take(&mut activity.is_blocked),
                    Err(e) => activity.is_blocked |= e.kind() == ErrorKind::WouldBlock,
                }
                written
            }
            Self::Gone => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Blocking { stream, .. } => stream.flush(),
            Self::Open { stream, .. } => stream.flush(),
            Self::Gone => Err(ErrorKind::NotConnected.into()),
        }
    }
}
