//! The demo's backend: one WebSocket on loopback, one ticket. It shows each message as it passes.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::{Message, WebSocket};

const TICKET: &str = "DEMO-1";

pub struct Backend {
    listener: TcpListener,
    port: u16,
    bearer: String,
}

/// What the backend saw.
pub struct Served {
    /// The `ticket.result` or `ticket.fail`.
    pub outcome: Value,
    /// From the accepted connection.
    pub registered: Duration,
    /// From the assignment.
    pub claimed: Duration,
    pub answered: Duration,
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

    /// Serves one connection on a thread of its own; `finished` is called when the outcome is there, or will not come.
    pub fn serve(
        self,
        limit: Duration,
        finished: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<Result<Served, String>>, String> {
        let body = move || {
            let connected = self.accept(limit);
            let served = connected.and_then(|mut socket| {
                let served = Dialogue::start().run(&mut socket)?;
                Ok((socket, served))
            });
            finished();
            let (mut socket, served) = served?;
            // The daemon says goodbye; reading on answers it.
            while socket.read().is_ok() {}
            Ok(served)
        };
        thread::Builder::new()
            .name("demo-backend".to_owned())
            .spawn(body)
            .map_err(|e| e.to_string())
    }

    fn accept(&self, limit: Duration) -> Result<WebSocket<TcpStream>, String> {
        let (stream, _) = self.listener.accept().map_err(|e| e.to_string())?;
        stream
            .set_read_timeout(Some(limit))
            .map_err(|e| e.to_string())?;
        let bearer = self.bearer.clone();
        // The type of a refusal is the library's own, and large.
        #[expect(clippy::result_large_err, reason = "as the library demands")]
        let check = move |request: &Request, response: Response| {
            let theirs = request
                .headers()
                .get("authorization")
                .and_then(|value| value.to_str().ok());
            if theirs == Some(bearer.as_str()) {
                Ok(response)
            } else {
                Err(ErrorResponse::new(None))
            }
        };
        tungstenite::accept_hdr(stream, check).map_err(|e| format!("the daemon's upgrade: {e}"))
    }
}

/// One ticket's conversation, and when each part of it happened.
struct Dialogue {
    start: Instant,
    assigned: Duration,
    registered: Option<Duration>,
    claimed: Option<Duration>,
}

impl Dialogue {
    #[expect(clippy::disallowed_methods, reason = "the demo shows times")]
    fn start() -> Self {
        Self {
            start: Instant::now(),
            assigned: Duration::ZERO,
            registered: None,
            claimed: None,
        }
    }

    fn run(mut self, socket: &mut WebSocket<TcpStream>) -> Result<Served, String> {
        loop {
            let frame = match socket.read() {
                Ok(Message::Text(text)) => {
                    serde_json::from_str::<Value>(&text).map_err(|e| e.to_string())?
                }
                Ok(_) => continue,
                // Each child of the daemon that ends interrupts what waits with a timeout.
                Err(tungstenite::Error::Io(e)) if e.kind() == io::ErrorKind::Interrupted => {
                    continue;
                }
                Err(tungstenite::Error::Io(e)) if is_timeout(&e) => {
                    return Err("the daemon fell silent".to_owned());
                }
                Err(e) => return Err(format!("the connection to the daemon: {e}")),
            };
            let at = self.start.elapsed();
            show(at, "agent → backend", &frame);
            match (kind(&frame), self.registered) {
                ("agent.register", None) => {
                    self.registered = Some(at);
                    let ticket = ticket();
                    self.assigned = self.start.elapsed();
                    show(self.assigned, "backend → agent", &ticket);
                    socket
                        .send(Message::text(ticket.to_string()))
                        .map_err(|e| e.to_string())?;
                }
                (other, None) => {
                    return Err(format!("the daemon sent {other} before agent.register"));
                }
                ("ticket.claim", _) => self.claimed = Some(at),
                ("ticket.result" | "ticket.fail", Some(registered)) => {
                    let ack = json!({"type": "ticket.ack", "ticketId": TICKET, "attempt": 1});
                    show(self.start.elapsed(), "backend → agent", &ack);
                    socket
                        .send(Message::text(ack.to_string()))
                        .map_err(|e| e.to_string())?;
                    let claimed = self.claimed.ok_or("the daemon answered without a claim")?;
                    let [claimed, answered] =
                        [claimed, at].map(|time| time.saturating_sub(self.assigned));
                    return Ok(Served {
                        outcome: frame,
                        registered,
                        claimed,
                        answered,
                    });
                }
                _ => {}
            }
        }
    }
}

fn is_timeout(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
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

fn kind(frame: &Value) -> &str {
    frame
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("a frame without a type")
}

fn show(at: Duration, direction: &str, frame: &Value) {
    say!(
        "{:>8.1} ms  {direction}  {:<16} {}",
        at.as_secs_f64() * 1000.0,
        kind(frame),
        summary(frame)
    );
}

/// What a person wants to know of a frame, in a line.
fn summary(frame: &Value) -> String {
    let text = |name: &str| frame.get(name).and_then(Value::as_str).unwrap_or("?");
    let at = |path: &str| {
        frame
            .pointer(path)
            .map(Value::to_string)
            .unwrap_or_default()
    };
    match kind(frame) {
        "agent.register" => {
            format!(
                "roles {}, CLI {}, capacity {}",
                at("/roles"),
                at("/cli/name"),
                at("/capacity/max")
            )
        }
        "agent.heartbeat" => format!("{}, active {}", text("status"), at("/activeTickets")),
        "ticket.assigned" => format!(
            "{} {:?} for {}",
            text("ticketId"),
            text("title"),
            text("repo")
        ),
        "ticket.progress" => format!(
            "{} {}, {} bytes",
            text("ticketId"),
            text("phase"),
            at("/stdoutBytes")
        ),
        "ticket.result" => format!(
            "{} exit code {}, {} files, +{} −{}",
            text("ticketId"),
            at("/exitCode"),
            at("/diffStat/files"),
            at("/diffStat/insertions"),
            at("/diffStat/deletions")
        ),
        "ticket.fail" => format!("{} {}: {}", text("ticketId"), text("code"), text("error")),
        _ => text("ticketId").to_owned(),
    }
}
