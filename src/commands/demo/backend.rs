//! The demo's backend: one WebSocket on loopback and one ticket. It prints each message as it passes.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::{Error, Message, WebSocket};

const TICKET: &str = "DEMO-1";

pub struct Backend {
    listener: TcpListener,
    port: u16,
    bearer: String,
}

impl Backend {
    pub fn listen(token: &str) -> Result<Self, String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| format!("loopback: {e}"))?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        Ok(Self {
            listener,
            port,
            bearer: format!("Bearer {token}"),
        })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Serves one connection on its own thread. `finished` is called when the outcome has come, or cannot come any more.
    pub fn serve(
        self,
        limit: Duration,
        finished: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<Result<Value, String>>, String> {
        let body = move || {
            let served = self.accept(limit).and_then(|mut socket| {
                let outcome = Conversation::start(&mut socket).run()?;
                Ok((socket, outcome))
            });
            finished();
            let (mut socket, outcome) = served?;
            // The daemon closes the connection; reading on answers that.
            while socket.read().is_ok() {}
            Ok(outcome)
        };
        let thread = thread::Builder::new().name("demo-backend".to_owned());
        thread.spawn(body).map_err(|e| e.to_string())
    }

    fn accept(&self, limit: Duration) -> Result<WebSocket<TcpStream>, String> {
        let (stream, _) = self.listener.accept().map_err(|e| e.to_string())?;
        stream
            .set_read_timeout(Some(limit))
            .map_err(|e| e.to_string())?;
        let bearer = self.bearer.clone();
        #[expect(
            clippy::result_large_err,
            reason = "the library gives the refusal's type"
        )]
        let check = move |request: &Request, response: Response| {
            let theirs = request.headers().get("authorization");
            match theirs.and_then(|value| value.to_str().ok()) == Some(bearer.as_str()) {
                true => Ok(response),
                false => Err(ErrorResponse::new(None)),
            }
        };
        tungstenite::accept_hdr(stream, check).map_err(|e| format!("the daemon's upgrade: {e}"))
    }
}

/// The messages about one ticket.
struct Conversation<'a> {
    socket: &'a mut WebSocket<TcpStream>,
    start: Instant,
}

impl<'a> Conversation<'a> {
    #[expect(clippy::disallowed_methods, reason = "the demo shows times")]
    fn start(socket: &'a mut WebSocket<TcpStream>) -> Self {
        Self {
            socket,
            start: Instant::now(),
        }
    }

    /// Returns the `ticket.result` or `ticket.fail`.
    fn run(mut self) -> Result<Value, String> {
        let register = self.receive()?;
        if kind(&register) != "agent.register" {
            return Err(format!("the first message is {}", kind(&register)));
        }
        self.send(&ticket())?;
        let mut is_claimed = false;
        loop {
            let message = self.receive()?;
            match kind(&message) {
                "ticket.claim" => is_claimed = true,
                "ticket.result" | "ticket.fail" if is_claimed => {
                    self.send(&json!({"type": "ticket.ack", "ticketId": TICKET, "attempt": 1}))?;
                    return Ok(message);
                }
                "ticket.result" | "ticket.fail" => {
                    return Err("the daemon answered without a claim".to_owned());
                }
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> Result<Value, String> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let message = serde_json::from_str(&text).map_err(|e| e.to_string())?;
                    self.show("agent → backend", &message);
                    return Ok(message);
                }
                Ok(_) => {}
                // A read with a timeout is interrupted whenever a child of the daemon ends.
                Err(Error::Io(e)) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(format!("the connection to the daemon: {e}")),
            }
        }
    }

    fn send(&mut self, message: &Value) -> Result<(), String> {
        self.show("backend → agent", message);
        let sent = self.socket.send(Message::text(message.to_string()));
        sent.map_err(|e| e.to_string())
    }

    fn show(&self, direction: &str, message: &Value) {
        let millis = self.start.elapsed().as_secs_f64() * 1000.0;
        let ticket = message["ticketId"].as_str().unwrap_or_default();
        say!(
            "{millis:>8.1} ms  {direction}  {:<16} {ticket}",
            kind(message)
        );
    }
}

fn kind(message: &Value) -> &str {
    message["type"]
        .as_str()
        .unwrap_or("a message without a type")
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
