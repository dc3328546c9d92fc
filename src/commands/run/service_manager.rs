//! Tells systemd how the daemon is: ready at the first register, what it does, that it stops (sd_notify(3)). Where nobody
//! wants to hear it, nothing is said.

use std::ffi::OsString;

use crate::domain::message::Status;
use crate::domain::view::{Link, View};
use crate::environment::{Environment, NOTIFY_SOCKET};

pub struct ServiceManager {
    socket: Option<OsString>,
    is_ready: bool,
    is_stopping: bool,
    told: String,
}

impl ServiceManager {
    pub fn new(environment: &Environment) -> Self {
        let socket = environment.get(NOTIFY_SOCKET).filter(|name| !name.is_empty()).map(OsString::from);
        Self { socket, is_ready: false, is_stopping: false, told: String::new() }
    }

    pub fn show(&mut self, view: &View) {
        let Some(socket) = &self.socket else { return };
        let mut news = String::new();
        if view.link.is_up() && !std::mem::replace(&mut self.is_ready, true) {
            news += "READY=1\n";
        }
        if view.status == Status::Draining && !std::mem::replace(&mut self.is_stopping, true) {
            news += "STOPPING=1\n";
        }
        let status = status(view);
        if status != self.told {
            news += &format!("STATUS={status}\n");
            self.told = status;
        }
        if !news.is_empty() {
            // Who cannot be reached will ask in another way, or end this process.
            let _ = send(socket, news.as_bytes());
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
    let running = view.active.iter().filter(|active| active.started_at.is_some()).count();
    format!("{link}; {running} running, {} waiting", view.active.len() - running)
}

#[cfg(unix)]
fn send(socket: &std::ffi::OsStr, news: &[u8]) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixDatagram;
    let to = UnixDatagram::unbound()?;
    // It must not hold up the socket thread.
    to.set_nonblocking(true)?;
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
