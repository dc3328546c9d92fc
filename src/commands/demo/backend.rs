//! The demo's backend: one WebSocket on loopback and one ticket. It prints the type of each message.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::{Error, Message, WebSocket};

use crate::commands::print;

const TICKET: &str = "DEMO-1";

pub struct Backend {
    listener: TcpListener,
    bearer: String,
    pub url: String,
}

impl Backend {
    pub fn listen(token: &str) -> Result<Self, String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| format!("loopback: {e}"))?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        Ok(Self {
            listener,
            bearer: format!("Bearer {token}"),
            url: format!("http://{address}"),
        })
    }

    /// Serves one connection and returns the `ticket.result` or `ticket.fail`. `finished` is called when it has come, or
    /// cannot come any more.
    pub fn serve(&self, limit: Duration, finished: impl FnOnce()) -> Result<Value, String> {
        let served = self.accept(limit).and_then(|mut socket| {
            let outcome = converse(&mut socket)?;
            Ok((outcome, socket))
        });
        finished();
        let (outcome, mut socket) = served?;
        // The daemon closes the connection; reading on answers that.
        while socket.read().is_ok() {}
        Ok(outcome)
    }

    fn accept(&self, limit: Duration) -> Result<WebSocket<TcpStream>, String> {
        let accepted = self.listener.accept().and_then(|(stream, _)| {
            stream.set_read_timeout(Some(limit))?;
            Ok(stream)
        });
        #[expect(
            clippy::result_large_err,
            reason = "the library gives the refusal's type"
        )]
        let check = |request: &Request, response: Response| {
            let theirs = request.headers().get("authorization");
            match theirs.is_some_and(|theirs| *theirs == *self.bearer) {
                true => Ok(response),
                false => Err(ErrorResponse::new(None)),
            }
        };
        let stream = accepted.map_err(|e| e.to_string())?;
        tungstenite::accept_hdr(stream, check).map_err(|e| format!("the daemon's upgrade: {e}"))
    }
}

fn converse(socket: &mut WebSocket<TcpStream>) -> Result<Value, String> {
    let register = receive(socket)?;
    if kind(&register) != "agent.register" {
        return Err(format!("the first message is {}", kind(&register)));
    }
    send(socket, &ticket())?;
    let mut is_claimed = false;
    loop {
        let message = receive(socket)?;
        match kind(&message) {
            "ticket.claim" => is_claimed = true,
            "ticket.result" | "ticket.fail" if is_claimed => {
                let ack = json!({"type": "ticket.ack", "ticketId": TICKET, "attempt": 1});
                send(socket, &ack)?;
                return Ok(message);
            }
            "ticket.result" | "ticket.fail" => {
                return Err("the daemon answered without a claim".to_owned());
            }
            _ => {}
        }
    }
}

fn receive(socket: &mut WebSocket<TcpStream>) -> Result<Value, String> {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                let message = serde_json::from_str(&text).map_err(|e| e.to_string())?;
                print(&format!("agent → backend  {}\n", kind(&message)));
                return Ok(message);
            }
            Ok(_) => {}
            // A read with a timeout is interrupted whenever a child of the daemon ends.
            Err(Error::Io(e)) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(format!("the connection to the daemon: {e}")),
        }
    }
}

fn send(socket: &mut WebSocket<TcpStream>, message: &Value) -> Result<(), String> {
    print(&format!("backend → agent  {}\n", kind(message)));
    let sent = socket.send(Message::text(message.to_string()));
    sent.map_err(|e| e.to_string())
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
        "description": "Give `greet` in greeter.py a parameter `name`, and add a test for it in test_greeter.py.",
        "skills": [{"slug": "small-steps", "body": "Change as little as possible."}],
    })
}
