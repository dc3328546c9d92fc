//! What can lie between an agent and its backend: relays, a proxy, dead addresses.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Serves every connection to `listener` on a thread of its own, for as long as the test runs.
pub fn serve(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
) {
    let accept = move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            let serve = move || {
                let _ = serve(stream);
            };
            thread::Builder::new()
                .name("relay-peer".to_owned())
                .spawn(serve)
                .expect("a thread");
        }
    };
    thread::Builder::new()
        .name("relay".to_owned())
        .spawn(accept)
        .expect("a thread");
}

/// A port of `listener` that leads to `to`.
pub fn relay(listener: TcpListener, to: SocketAddr) {
    serve(listener, move |stream| {
        splice(stream, TcpStream::connect(to)?, |_| {})
    });
}

/// Carries bytes both ways until either side ends; `look` sees those of the first side.
fn splice(one: TcpStream, other: TcpStream, mut look: impl FnMut(&[u8])) -> io::Result<()> {
    let (mut back_from, mut back_to) = (other.try_clone()?, one.try_clone()?);
    let back = thread::Builder::new()
        .name("relay-back".to_owned())
        .spawn(move || {
            let _ = io::copy(&mut back_from, &mut back_to);
            let _ = back_to.shutdown(Shutdown::Both);
        })?;
    let (mut from, mut to) = (one, other);
    let mut chunk = [0; 16 << 10];
    while let Ok(n) = from.read(&mut chunk) {
        if n > 0 {
            look(&chunk[..n]);
        }
        if n == 0 || to.write_all(&chunk[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = back.join();
    Ok(())
}

/// A listener that takes no connection any more: whoever connects gets no answer at all, as from a host that is down.
pub struct Dead {
    pub address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Dead {
    /// `None` where this system answers even so.
    pub fn at(address: &str) -> Option<Self> {
        let listener = TcpListener::bind(address).ok()?;
        let address = listener.local_addr().ok()?;
        let mut waiting = Vec::new();
        while waiting.len() < 10_000 {
            match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
                Ok(stream) => waiting.push(stream),
                Err(_) => {
                    return Some(Self {
                        address,
                        _listener: listener,
                        _waiting: waiting,
                    });
                }
            }
        }
        None
    }
}

/// An HTTP proxy that knows nothing but CONNECT. Whatever host it is asked for, it connects to one address.
pub struct Proxy {
    port: u16,
    state: Arc<ProxyState>,
}

struct ProxyState {
    to: SocketAddr,
    /// The `Proxy-Authorization` that it demands.
    credentials: Mutex<Option<String>>,
    /// What it answers instead of doing as it is asked.
    refusal: Mutex<Option<String>>,
    heads: Mutex<Vec<String>>,
    tunneled: Mutex<Vec<u8>>,
}

impl Proxy {
    pub fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(ProxyState {
            to,
            credentials: Mutex::default(),
            refusal: Mutex::default(),
            heads: Mutex::default(),
            tunneled: Mutex::default(),
        });
        let shared = state.clone();
        serve(listener, move |stream| shared.serve(stream));
        Self { port, state }
    }

    /// Without credentials.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on it demands this header value; `None` lets everybody in.
    pub fn demand(&self, credentials: Option<&str>) {
        *self.state.credentials.lock().unwrap() = credentials.map(str::to_owned);
    }

    /// From now on it answers this, a whole HTTP answer or not; `None` ends that.
    pub fn refuse(&self, answer: Option<&str>) {
        *self.state.refusal.lock().unwrap() = answer.map(str::to_owned);
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.state.heads.lock().unwrap().clone()
    }

    /// What the agent sent through its tunnels so far.
    pub fn tunneled(&self) -> Vec<u8> {
        self.state.tunneled.lock().unwrap().clone()
    }
}

impl ProxyState {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        self.heads.lock().unwrap().push(head.clone());
        let refusal = self.refusal.lock().unwrap().clone();
        let demanded = self.credentials.lock().unwrap().clone();
        let is_welcome = |value: String| {
            head.lines()
                .any(|line| line == format!("Proxy-Authorization: {value}"))
        };
        let answer = match refusal {
            Some(answer) => answer,
            None if !demanded.is_none_or(is_welcome) => {
                "HTTP/1.1 407 Proxy Authentication Required\r\n\
                 Proxy-Authenticate: Basic realm=\"test\"\r\nContent-Length: 0\r\n\r\n"
                    .to_owned()
            }
            None if !head.starts_with("CONNECT ") => {
                "HTTP/1.1 405 Method Not Allowed\r\n\r\n".to_owned()
            }
            None => {
                let to = TcpStream::connect(self.to)?;
                stream
                    .write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")?;
                return splice(stream, to, |bytes| {
                    self.tunneled.lock().unwrap().extend(bytes)
                });
            }
        };
        stream.write_all(answer.as_bytes())?;
        stream.shutdown(Shutdown::Write)
    }
}
