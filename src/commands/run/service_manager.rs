//! Tells systemd the state of the daemon (sd_notify(3)): ready (after the first register), its status text, stopping.
//! Without `NOTIFY_SOCKET` this module does nothing.

use std::ffi::OsString;
use std::time::Duration;

use crate::domain::message::{Status, View};
use crate::domain::ticket::ActiveTicket;
use crate::environment::{Environment, NOTIFY_SOCKET};

/// The longest wait for room in systemd's queue. It is short because it holds up the thread of the WebSocket.
#[cfg(unix)]
const SEND_LIMIT: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct ServiceManager {
    socket: Option<OsString>,
    is_ready: bool,
    is_stopping: bool,
    /// The longest time that the daemon needs to stop. It can be longer than the time limit of the unit.
    stop_limit: Duration,
    status: String,
}

impl ServiceManager {
    pub fn new(environment: &Environment, stop_limit: Duration) -> Self {
        let socket = environment.get(NOTIFY_SOCKET);
        let socket = socket.filter(|name| !name.is_empty());
        Self {
            socket: socket.map(OsString::from),
            stop_limit,
            ..Self::default()
        }
    }

    pub fn show(&mut self, view: &View) {
        let Some(socket) = &self.socket else { return };
        let is_ready = self.is_ready || view.link.is_up;
        let is_stopping = self.is_stopping || view.status == Status::Draining;
        let status = status(view);
        let mut news = String::new();
        if is_ready && !self.is_ready {
            news += "READY=1\n";
        }
        if is_stopping && !self.is_stopping {
            let micros = self.stop_limit.as_micros();
            news += &format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\n");
        }
        if status != self.status {
            news += &format!("STATUS={status}\n");
        }
        // If this message cannot be sent, the next one contains its lines.
        if !news.is_empty() && send(socket, news.as_bytes()).is_ok() {
            (self.is_ready, self.is_stopping, self.status) = (is_ready, is_stopping, status);
        }
    }
}

/// The status text that `systemctl status` shows.
fn status(view: &View) -> String {
    let link = match &view.link.why {
        _ if view.link.is_up => "connected".to_owned(),
        None => "connecting".to_owned(),
        Some(why) => format!("not connected ({why})"),
    };
    let is_running = |active: &&ActiveTicket| active.started_at.is_some();
    let running = view.active.iter().filter(is_running).count();
    let waiting = view.active.len() - running;
    format!("{link}; {running} running, {waiting} waiting")
}

#[cfg(unix)]
fn send(socket: &std::ffi::OsStr, news: &[u8]) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixDatagram;
    let to = UnixDatagram::unbound()?;
    to.set_write_timeout(Some(SEND_LIMIT))?;
    match socket.as_bytes().split_first() {
        #[cfg(target_os = "linux")]
        Some((b'@', name)) => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            to.send_to_addr(news, &address).map(|_| ())
        }
        _ => to.send_to(news, socket).map(|_| ()),
    }
}

#[cfg(not(unix))]
fn send(_socket: &std::ffi::OsStr, _news: &[u8]) -> std::io::Result<()> {
    Ok(())
}
