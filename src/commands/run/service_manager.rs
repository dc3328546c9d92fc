//! Tells systemd how the daemon is: ready at the first register, what it does, that it stops (sd_notify(3)). Where nobody
//! wants to hear it, nothing is said.

use std::ffi::OsString;
use std::time::Duration;

use crate::domain::message::{Link, Status, View};
use crate::environment::{Environment, NOTIFY_SOCKET};

/// systemd takes its news at once, unless the machine is starved.
#[cfg(unix)]
const SEND_LIMIT: Duration = Duration::from_secs(1);

pub struct ServiceManager {
    socket: Option<OsString>,
    is_ready: bool,
    is_stopping: bool,
    /// How long stopping may take: more than a unit may allow for.
    stop_limit: Duration,
    told: String,
}

impl ServiceManager {
    pub fn new(environment: &Environment, stop_limit: Duration) -> Self {
        let socket = environment
            .get(NOTIFY_SOCKET)
            .filter(|name| !name.is_empty())
            .map(OsString::from);
        Self {
            socket,
            is_ready: false,
            is_stopping: false,
            stop_limit,
            told: String::new(),
        }
    }

    pub fn show(&mut self, view: &View) {
        let Some(socket) = &self.socket else { return };
        let is_ready = self.is_ready || view.link.is_up();
        let is_stopping = self.is_stopping || view.status == Status::Draining;
        let status = status(view);
        let mut news = String::new();
        if is_ready && !self.is_ready {
            news += "READY=1\n";
        }
        if is_stopping && !self.is_stopping {
            news += &format!(
                "STOPPING=1\nEXTEND_TIMEOUT_USEC={}\n",
                self.stop_limit.as_micros()
            );
        }
        if status != self.told {
            news += &format!("STATUS={status}\n");
        }
        // What does not get through goes with the next news.
        if !news.is_empty() && send(socket, news.as_bytes()).is_ok() {
            (self.is_ready, self.is_stopping, self.told) = (is_ready, is_stopping, status);
        }
    }
}

/// What `systemctl status` shows.
fn status(view: &View) -> String {
    let link = match &view.link {
        Link::Up { .. } => "connected".to_owned(),
        Link::Down { why: None, .. } => "connecting".to_owned(),
        Link::Down { why: Some(why), .. } => format!("not connected ({why})"),
    };
    let running = view
        .active
        .iter()
        .filter(|active| active.started_at.is_some())
        .count();
    format!(
        "{link}; {running} running, {} waiting",
        view.active.len() - running
    )
}

#[cfg(unix)]
fn send(socket: &std::ffi::OsStr, news: &[u8]) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixDatagram;
    let to = UnixDatagram::unbound()?;
    // Its queue may be full for a moment; for longer nobody waits, for this is the socket thread.
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
