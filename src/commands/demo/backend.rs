//! The demo's backend: one WebSocket on loopback and one ticket. It prints the type of each message.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Error, Message, WebSocket};

use crate::commands::print;

/// The demo only prints these errors, so their type does not matter.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const TICKET: &str = "DEMO-1";
/// How long the backend waits for the next message. The daemon sends heartbeats more often than this.
const LIMIT: Duration = Duration::from_secs(60);

/// Serves one connection and returns the `ticket.result` or `ticket.fail`. Calls `finished` as soon as this message has
/// come, and also after an error.
pub fn serve(listener: &TcpListener, finished: impl FnOnce()) -> Fallible<Value> {
    let served = accept(listener).and_then(|mut socket| Ok((outcome_from(&mut socket)?, socket)));
    finished();
    let (outcome, mut socket) = served?;
    // The daemon closes the connection. These reads answer its close frame.
    while socket.read().is_ok() {}
    Ok(outcome)
}

fn accept(listener: &TcpListener) -> Fallible<WebSocket<TcpStream>> {
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(LIMIT))?;
    tungstenite::accept(stream).map_err(|e| format!("the daemon's upgrade: {e}").into())
}

fn outcome_from(socket: &mut WebSocket<TcpStream>) -> Fallible<Value> {
    loop {
        let message: Value = match socket.read() {
            Ok(Message::Text(text)) => serde_json::from_str(&text)?,
            Ok(_) => continue,
            // The end of any child process of the daemon interrupts a read that has a timeout.
            Err(Error::Io(e)) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(format!("the connection to the daemon: {e}").into()),
        };
        print(&format!("agent → backend  {}\n", kind(&message)));
        match kind(&message) {
            "agent.register" => send(socket, &ticket())?,
            "ticket.result" | "ticket.fail" => {
                let ack = json!({"type": "ticket.ack", "ticketId": TICKET, "attempt": 1});
                send(socket, &ack)?;
                return Ok(message);
            }
            _ => {}
        }
    }
}

fn send(socket: &mut WebSocket<TcpStream>, message: &Value) -> Fallible<()> {
    print(&format!("backend → agent  {}\n", kind(message)));
    Ok(socket.send(Message::text(message.to_string()))?)
}

fn kind(message: &Value) -> &str {
    let kind = message["type"].as_str();
    kind.unwrap_or("a message without a type")
}

fn ticket() -> Value {
    json!({
        "type": "ticket.assigned",
        "ticketId": TICKET,
        "attempt": 1,
        "role": "dev_agent",
        "repo": "demo/greeter",
        "title": "Greet people by name",
        "description": "Give `greet` in greeter.py a parameter `name`.",
        "skills": [{"slug": "small-steps", "body": "Change as little as possible."}],
    })
}
