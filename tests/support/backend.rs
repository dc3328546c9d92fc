//! An in-process backend on a free port: accepts the agent's WebSocket and its HTTP requests, and lets a test say
//! what is answered, send any frame, drop or freeze a connection, and wait for what the agent does. By itself it
//! answers no frame; a [`Reactor`] does that where a test wants it.
//!
//! What the agent sends is held against the [`contract`], and so is what the test sends or answers: a violation fails
//! the test. What is wrong on purpose has ways of its own: `send_anything`, `send_text`, `answer_anything`.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use serde_json::Value;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};
use wf0_agent::domain::message::Dialect;

use super::PATIENCE;
use super::contract::{self, Side};

/// One thing that the agent did, and when it was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    pub at: Instant,
    /// Counts connections from 1.
    pub connection: usize,
    pub what: What,
}

impl Seen {
    fn frame(self) -> Option<Value> {
        match self.what {
            What::Frame(frame) => Some(frame),
            _ => None,
        }
    }
}

#[derive(Debug, Clone)]
pub enum What {
    /// The upgrade was accepted.
    Connected,
    /// The upgrade was refused, as the test had ordered.
    Refused,
    Frame(Value),
    Ping,
    /// With the payload of the Ping that it answers.
    Pong(Vec<u8>),
    /// With the close code, where there was one.
    Closed(Option<u16>),
}

/// A request that was not for the WebSocket, or the upgrade itself.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
}

/// How the next upgrades are answered; after the last of them, they are accepted again.
#[derive(Debug, Clone)]
pub enum Upgrade {
    Accept,
    /// A whole HTTP answer, head and body.
    Answer(String),
    /// The connection is closed without an answer.
    Drop,
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// 0: nothing is answered, and the connection stays open.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.to_string(),
        }
    }

    /// The envelope of a successful answer.
    pub fn data(data: Value) -> Self {
        Self::json(200, &serde_json::json!({"success": true, "data": data}))
    }

    /// The body, where it is JSON.
    fn parsed(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// The request is taken and never answered.
    pub fn never() -> Self {
        Self {
            status: 0,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    pub fn redirect(to: &str) -> Self {
        Self {
            status: 302,
            headers: vec![("Location".to_owned(), to.to_owned())],
            body: String::new(),
        }
    }
}

/// A backend that speaks by itself. What a test orders goes before that.
pub trait Reactor: Send + Sync {
    /// How an upgrade is answered that nobody has ordered anything for.
    fn upgrade(&self, request: &Request) -> Upgrade;

    /// What is sent in answer to a frame of text on that connection, before the test sees the frame. `None`: the
    /// backend dies, and every connection with it.
    fn react(&self, connection: usize, text: &str) -> Option<Vec<Message>>;

    fn closed(&self, connection: usize);
}

/// Accepts everything and says nothing.
struct Silent;

impl Reactor for Silent {
    fn upgrade(&self, _: &Request) -> Upgrade {
        Upgrade::Accept
    }

    fn react(&self, _: usize, _: &str) -> Option<Vec<Message>> {
        Some(Vec::new())
    }

    fn closed(&self, _: usize) {}
}

#[derive(Default)]
struct Script {
    upgrades: Vec<Upgrade>,
    /// For each path, the answers in order; the last one stays.
    answers: HashMap<String, Vec<Answer>>,
}

struct State {
    script: Mutex<Script>,
    reactor: Arc<dyn Reactor>,
    requests: Mutex<Vec<Request>>,
    connections: Mutex<Connections>,
    seen: Sender<Seen>,
    /// The bytes of the largest frame of text that came.
    largest: AtomicUsize,
}

#[derive(Default)]
struct Connections {
    /// How many there were so far.
    count: usize,
    /// Those that have not ended, by their numbers.
    open: BTreeMap<usize, Connection>,
}

/// The backend's side of one WebSocket.
#[derive(Clone)]
struct Connection {
    write: Arc<Mutex<TcpStream>>,
    answers_pings: Arc<AtomicBool>,
    is_frozen: Arc<AtomicBool>,
}

pub struct Backend {
    port: u16,
    state: Arc<State>,
    news: Receiver<Seen>,
    /// Everything that was taken from `news`.
    pub past: Mutex<Vec<Seen>>,
    /// What is spoken on each connection: the first frame tells.
    dialects: Mutex<HashMap<usize, Dialect>>,
    peer_is_agent: AtomicBool,
}

impl Backend {
    pub fn start() -> Self {
        Self::with(Arc::new(Silent))
    }

    pub fn with(reactor: Arc<dyn Reactor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let (seen, news) = crossbeam_channel::unbounded();
        let state = Arc::new(State {
            script: Mutex::default(),
            reactor,
            requests: Mutex::default(),
            connections: Mutex::default(),
            seen,
            largest: AtomicUsize::new(0),
        });
        let shared = state.clone();
        thread::Builder::new()
            .name("backend".to_owned())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = shared.clone();
                    let serve = move || {
                        let _ = serve(stream, &state);
                    };
                    thread::Builder::new()
                        .name("backend-peer".to_owned())
                        .spawn(serve)
                        .expect("a thread");
                }
            })
            .expect("a thread");
        Self {
            port,
            state,
            news,
            past: Mutex::default(),
            dialects: Mutex::default(),
            peer_is_agent: AtomicBool::new(true),
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Says how the next upgrade is answered; called several times, the next ones in turn.
    pub fn next_upgrade(&self, upgrade: Upgrade) {
        self.state.script.lock().unwrap().upgrades.push(upgrade);
    }

    /// From now on every upgrade is accepted.
    pub fn forget_upgrades(&self) {
        self.state.script.lock().unwrap().upgrades.clear();
    }

    /// The peer is the test itself, which may send what the agent must not.
    pub fn peer_is_no_agent(&self) {
        self.peer_is_agent.store(false, Ordering::SeqCst);
    }

    /// Says how `path` is answered, by the contract; called several times, each answer once, and the last for ever.
    pub fn answer(&self, path: &str, answer: Answer) {
        let definition = if path.contains("/library/skills/") {
            "SkillAnswer"
        } else {
            "PayloadAnswer"
        };
        let is_download = answer.status != 0 && !(300..400).contains(&answer.status);
        if let Some(Err(why)) =
            is_download.then(|| contract::check("http", definition, &answer.parsed()))
        {
            panic!("the test answers {path} as no backend may: {why}");
        }
        self.answer_anything(path, answer);
    }

    /// The same with an answer that may break the contract.
    pub fn answer_anything(&self, path: &str, answer: Answer) {
        self.state
            .script
            .lock()
            .unwrap()
            .answers
            .entry(path.to_owned())
            .or_default()
            .push(answer);
    }

    /// Every HTTP request so far, upgrades included.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    pub fn requests_for(&self, path: &str) -> Vec<Request> {
        self.requests()
            .into_iter()
            .filter(|request| request.path == path)
            .collect()
    }

    /// Sends a frame on the newest connection.
    pub fn send(&self, frame: &Value) {
        if let Err(why) = contract::check_frame(contract::dialect_of(frame), Side::Backend, frame) {
            panic!("the test sends what no backend may: {why}");
        }
        self.send_anything(frame);
    }

    /// The same with a frame that may break the contract.
    pub fn send_anything(&self, frame: &Value) {
        self.send_text(&frame.to_string());
    }

    /// Text as it stands, which need not be a frame.
    pub fn send_text(&self, text: &str) {
        self.send_message(Message::text(text.to_owned()));
    }

    pub fn send_message(&self, message: Message) {
        self.send_raw(&encode(message));
    }

    /// Bytes as they are, which need not be a frame.
    pub fn send_raw(&self, bytes: &[u8]) {
        // The agent may have hung up; whoever waits for its reaction sees that.
        if let Some(connection) = self.newest() {
            let _ = connection.write.lock().unwrap().write_all(bytes);
        }
    }

    pub fn close(&self, code: u16, reason: &str) {
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: reason.to_owned().into(),
        };
        self.send_message(Message::Close(Some(frame)));
    }

    /// Cuts the newest connection, as a network would.
    pub fn cut(&self) {
        if let Some(connection) = self.newest() {
            let _ = connection.write.lock().unwrap().shutdown(Shutdown::Both);
        }
    }

    /// From now on the newest connection answers no Ping.
    pub fn ignore_pings(&self) {
        let connection = self.newest().expect("an open connection");
        connection.answers_pings.store(false, Ordering::SeqCst);
    }

    /// From now on nothing that the agent sends on the newest connection arrives, and nothing is answered.
    pub fn freeze(&self) {
        self.newest()
            .expect("an open connection")
            .is_frozen
            .store(true, Ordering::SeqCst);
    }

    /// The newest connection that has not ended.
    fn newest(&self) -> Option<Connection> {
        let connections = self.state.connections.lock().unwrap();
        assert!(connections.count > 0, "there was no connection yet");
        connections
            .open
            .last_key_value()
            .map(|(_, connection)| connection.clone())
    }

    /// The next thing that the agent does, if it comes so soon. It is not remembered: for long runs.
    pub fn news(&self, patience: Duration) -> Option<Seen> {
        self.news
            .recv_timeout(patience)
            .inspect(|seen| self.inspect(seen))
            .ok()
    }

    /// Holds what the agent did against the contract.
    fn inspect(&self, seen: &Seen) {
        let What::Frame(frame) = &seen.what else {
            return;
        };
        let first = if frame["type"] == "auth" {
            Dialect::Hub
        } else {
            Dialect::Ticket
        };
        let dialect = *self
            .dialects
            .lock()
            .unwrap()
            .entry(seen.connection)
            .or_insert(first);
        let broken = contract::check_frame(dialect, Side::Agent, frame);
        if let (Err(why), true) = (broken, self.peer_is_agent.load(Ordering::SeqCst)) {
            panic!("the agent breaks the contract of contrib/protocol, {why}");
        }
    }

    /// Waits for the next thing that `wanted` makes something of, and skips what it does not.
    pub fn wait_for<T>(&self, what: &str, mut wanted: impl FnMut(&Seen) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            let Ok(seen) = self.news.recv_deadline(until) else {
                let past = self.past.lock().unwrap();
                panic!("waited in vain for {what}; the agent did: {past:#?}");
            };
            self.inspect(&seen);
            let found = wanted(&seen);
            self.past.lock().unwrap().push(seen);
            if let Some(found) = found {
                return found;
            }
        }
    }

    pub fn connected(&self) {
        self.wait_for("a connection", |seen| {
            matches!(seen.what, What::Connected).then_some(())
        });
    }

    pub fn refused(&self) -> Instant {
        self.wait_for("a refused upgrade", |seen| {
            matches!(seen.what, What::Refused).then_some(seen.at)
        })
    }

    pub fn closed(&self) -> Option<u16> {
        self.wait_for("the end of a connection", |seen| match seen.what {
            What::Closed(code) => Some(code),
            _ => None,
        })
    }

    /// The next frame of that type.
    pub fn frame(&self, kind: &str) -> Value {
        self.frame_where(kind, |_| true)
    }

    pub fn frame_where(&self, kind: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        self.timed_frame(kind, |frame| wanted(frame)).1
    }

    /// The next frame of that type, and when it came.
    pub fn timed_frame(
        &self,
        kind: &str,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> (Instant, Value) {
        self.wait_for(kind, |seen| match &seen.what {
            What::Frame(frame) if frame["type"] == kind && wanted(frame) => {
                Some((seen.at, frame.clone()))
            }
            _ => None,
        })
    }

    /// The outcome of that ticket, whichever it is.
    pub fn outcome(&self, ticket: &str) -> Value {
        self.wait_for(&format!("the outcome of {ticket}"), |seen| {
            match &seen.what {
                What::Frame(frame) if is_outcome(frame) && frame["ticketId"] == ticket => {
                    Some(frame.clone())
                }
                _ => None,
            }
        })
    }

    /// The outcomes of these tickets, in the order in which they came.
    pub fn outcomes(&self, tickets: &[&str]) -> Vec<Value> {
        let mut open: Vec<_> = tickets.to_vec();
        let mut outcomes = Vec::new();
        while !open.is_empty() {
            let outcome = self.wait_for(&format!("the outcomes of {open:?}"), |seen| {
                match &seen.what {
                    What::Frame(frame) if is_outcome(frame) => Some(frame.clone()),
                    _ => None,
                }
            });
            if let Some(at) = open.iter().position(|id| outcome["ticketId"] == *id) {
                open.remove(at);
                outcomes.push(outcome);
            }
        }
        outcomes
    }

    /// Everything so far, what nobody waited for included.
    pub fn seen(&self) -> Vec<Seen> {
        let newly: Vec<_> = self
            .news
            .try_iter()
            .inspect(|seen| self.inspect(seen))
            .collect();
        let mut past = self.past.lock().unwrap();
        past.extend(newly);
        past.clone()
    }

    /// Every frame so far, those that nobody waited for included.
    pub fn frames(&self) -> Vec<Value> {
        self.seen().into_iter().filter_map(Seen::frame).collect()
    }

    /// The frames of one connection so far; the first one is number 1.
    pub fn frames_on(&self, connection: usize) -> Vec<Value> {
        let on_it = self
            .seen()
            .into_iter()
            .filter(|seen| seen.connection == connection);
        on_it.filter_map(Seen::frame).collect()
    }

    /// The frames about one ticket so far.
    pub fn frames_of(&self, ticket: &str) -> Vec<Value> {
        self.frames()
            .into_iter()
            .filter(|frame| frame["ticketId"] == ticket)
            .collect()
    }

    /// The outcomes of one ticket so far.
    pub fn outcomes_of(&self, ticket: &str) -> Vec<Value> {
        let mut frames = self.frames_of(ticket);
        frames.retain(is_outcome);
        frames
    }

    /// How many upgrades were accepted so far.
    pub fn connections(&self) -> usize {
        self.state.connections.lock().unwrap().count
    }

    /// The bytes of the largest frame of text that came.
    pub fn largest_frame(&self) -> usize {
        self.state.largest.load(Ordering::SeqCst)
    }
}

/// What nobody waited for has to keep the contract too.
impl Drop for Backend {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.news.try_iter().for_each(|seen| self.inspect(&seen));
        }
    }
}

fn encode(message: Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    let config = WebSocketConfig::default();
    let mut encoder =
        WebSocket::from_raw_socket(io::Cursor::new(&mut bytes), Role::Server, Some(config));
    encoder.send(message).expect("a frame that can be encoded");
    drop(encoder);
    bytes
}

pub fn is_outcome(frame: &Value) -> bool {
    frame["type"] == "ticket.result" || frame["type"] == "ticket.fail"
}

fn serve(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let request = read_request(&mut stream)?;
        state.requests.lock().unwrap().push(request.clone());
        if request
            .headers
            .get("upgrade")
            .is_some_and(|to| to.eq_ignore_ascii_case("websocket"))
        {
            return upgrade(stream, &request, state);
        }
        let answer = {
            let mut script = state.script.lock().unwrap();
            match script.answers.get_mut(&request.path) {
                Some(answers) if answers.len() > 1 => answers.remove(0),
                Some(answers) => answers[0].clone(),
                None => Answer::json(
                    404,
                    &serde_json::json!({"success": false, "error": {"code": "not_found", "message": "no such thing"}}),
                ),
            }
        };
        if answer.status == 0 {
            continue;
        }
        let headers: String = answer
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let Answer { status, body, .. } = &answer;
        write!(
            stream,
            "HTTP/1.1 {status} Scripted\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
    }
}

fn read_request(stream: &mut TcpStream) -> io::Result<Request> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let path = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .unwrap_or_default()
        .to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Ok(Request { path, headers })
}

fn upgrade(mut stream: TcpStream, request: &Request, state: &State) -> io::Result<()> {
    let upgrade = {
        let mut script = state.script.lock().unwrap();
        if script.upgrades.is_empty() {
            state.reactor.upgrade(request)
        } else {
            script.upgrades.remove(0)
        }
    };
    let mut connections = state.connections.lock().unwrap();
    let connection = connections.count + 1;
    let see = |what| {
        let _ = state.seen.send(Seen {
            at: Instant::now(),
            connection,
            what,
        });
    };
    match upgrade {
        Upgrade::Accept => {}
        Upgrade::Drop => {
            drop(stream);
            see(What::Refused);
            return Ok(());
        }
        Upgrade::Answer(answer) => {
            stream.write_all(answer.as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            see(What::Refused);
            return Ok(());
        }
    }
    let key = request
        .headers
        .get("sec-websocket-key")
        .map(String::as_str)
        .unwrap_or_default();
    let accept = derive_accept_key(key.as_bytes());
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    let write = Arc::new(Mutex::new(stream.try_clone()?));
    let answers_pings = Arc::new(AtomicBool::new(true));
    let is_frozen = Arc::new(AtomicBool::new(false));
    let (read, pings, frozen) = (stream, answers_pings.clone(), is_frozen.clone());
    connections.count = connection;
    connections.open.insert(
        connection,
        Connection {
            write: write.clone(),
            answers_pings,
            is_frozen,
        },
    );
    drop(connections);
    see(What::Connected);
    let halves = Halves {
        read,
        write: write.clone(),
        answers_pings: pings,
        is_frozen: frozen,
    };
    let mut socket = WebSocket::from_raw_socket(halves, Role::Server, None);
    let mut code = None;
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                state.largest.fetch_max(text.len(), Ordering::SeqCst);
                match state.reactor.react(connection, &text) {
                    // The agent may have hung up; that shows below.
                    Some(answers) => answers.into_iter().for_each(|answer| {
                        let _ = write.lock().unwrap().write_all(&encode(answer));
                    }),
                    None => {
                        state
                            .connections
                            .lock()
                            .unwrap()
                            .open
                            .values()
                            .for_each(|connection| {
                                let _ = connection.write.lock().unwrap().shutdown(Shutdown::Both);
                            })
                    }
                }
                see(What::Frame(
                    serde_json::from_str(&text).unwrap_or(Value::Null),
                ));
            }
            Ok(Message::Ping(_)) => {
                // The Pong first: whoever sees the Ping may count on it.
                let _ = socket.flush();
                see(What::Ping);
            }
            Ok(Message::Pong(payload)) => see(What::Pong(payload.to_vec())),
            Ok(Message::Close(frame)) => code = frame.map(|frame| u16::from(frame.code)),
            Ok(_) => {}
            Err(_) => {
                // Tests hold copies of the stream; the agent waits for its end.
                let _ = socket.get_mut().read.shutdown(Shutdown::Both);
                state.connections.lock().unwrap().open.remove(&connection);
                state.reactor.closed(connection);
                see(What::Closed(code));
                return Ok(());
            }
        }
    }
}

/// The reader answers Pings by itself; its bytes and those that a test sends must not mix.
struct Halves {
    read: TcpStream,
    write: Arc<Mutex<TcpStream>>,
    answers_pings: Arc<AtomicBool>,
    is_frozen: Arc<AtomicBool>,
}

impl Read for Halves {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            // Looked at after the read: one that was under way brings what a frozen backend never sees.
            match self.read.read(buf) {
                Ok(n) if n > 0 && self.is_frozen.load(Ordering::SeqCst) => {}
                other => return other,
            }
        }
    }
}

impl Write for Halves {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.answers_pings.load(Ordering::SeqCst) {
            self.write.lock().unwrap().write_all(buf)?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
