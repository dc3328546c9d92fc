//! The connection to the backend: sockets, TLS, WebSocket, frames. Nothing here decides about tickets.

mod connection;
mod dial;
pub mod event_loop;
pub mod protocol;

pub use dial::Dialer;
pub use event_loop::Mailbox;
