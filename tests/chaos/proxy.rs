//! A proxy between the agent and the backend that cuts, freezes, refuses and vanishes when it is told to.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::support::eventually;

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToBackend = 0,
    ToAgent = 1,
}

/// What becomes of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Accepted and closed.
    Closing,
    /// Accepted and answered with this.
    Answering(&'static str),
    /// Nobody listens.
    Gone,
}

pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    backend: u16,
    door: Mutex<Door>,
    gate_moved: Condvar,
}

struct Door {
    gate: Gate,
    links: Vec<Weak<Link>>,
    /// The next connection ends after so many bytes that way.
    next_ends: Option<(Way, usize)>,
    rng: Rng,
}

impl Proxy {
    pub fn start(backend: u16, rng: Rng) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let door = Door {
            gate: Gate::Open,
            links: Vec::new(),
            next_ends: None,
            rng,
        };
        let shared = Arc::new(Shared {
            backend,
            door: Mutex::new(door),
            gate_moved: Condvar::new(),
        });
        let attended = shared.clone();
        let attend = move || attend(&attended, listener, address);
        thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(attend)
            .expect("a thread");
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set_gate(&self, gate: Gate) {
        self.door().gate = gate;
        self.shared.gate_moved.notify_all();
        if gate == Gate::Gone {
            // The listener is in the middle of its wait and has to see it.
            let _ = TcpStream::connect(self.address);
        }
    }

    pub fn cut(&self) {
        self.links().iter().for_each(|link| link.cut());
    }

    /// Cuts what is open once so many more bytes have gone that way.
    pub fn cut_after(&self, way: Way, bytes: usize) {
        for link in self.links() {
            link.state.lock().unwrap().left[way as usize] = Some(bytes);
        }
    }

    /// The same for the next connection, from its first byte on.
    pub fn cut_next_after(&self, way: Way, bytes: usize) {
        self.door().next_ends = Some((way, bytes));
    }

    /// Nothing goes that way for a while, and nothing is closed.
    pub fn freeze(&self, way: Way, time: Duration) {
        for link in self.links() {
            link.state.lock().unwrap().frozen_until[way as usize] = Some(Instant::now() + time);
        }
    }

    /// No fault from now on.
    pub fn calm(&self) {
        self.set_gate(Gate::Open);
        self.door().next_ends = None;
        for link in self.links() {
            let mut state = link.state.lock().unwrap();
            state.frozen_until = [None; 2];
            state.left = [None; 2];
            link.changed.notify_all();
        }
    }

    fn door(&self) -> MutexGuard<'_, Door> {
        self.shared.door.lock().unwrap()
    }

    fn links(&self) -> Vec<Arc<Link>> {
        self.door().links.iter().filter_map(Weak::upgrade).collect()
    }
}

fn attend(shared: &Arc<Shared>, mut listener: TcpListener, address: SocketAddr) {
    loop {
        let Ok((agent, _)) = listener.accept() else {
            continue;
        };
        let mut door = shared.door.lock().unwrap();
        match door.gate {
            Gate::Open => {
                if let Ok(backend) = TcpStream::connect(("127.0.0.1", shared.backend)) {
                    let link = Arc::new(Link::new(agent, backend, door.next_ends.take()));
                    door.links.retain(|link| link.strong_count() > 0);
                    door.links.push(Arc::downgrade(&link));
                    for way in [Way::ToBackend, Way::ToAgent] {
                        let (link, rng) = (link.clone(), door.rng.fork());
                        let pump = move || link.pump(way, rng);
                        thread::Builder::new()
                            .name("proxy-pump".to_owned())
                            .spawn(pump)
                            .expect("a thread");
                    }
                }
            }
            Gate::Closing => drop(agent),
            Gate::Answering(answer) => {
                let answer = move || answer_once(agent, answer);
                thread::Builder::new()
                    .name("proxy-answer".to_owned())
                    .spawn(answer)
                    .expect("a thread");
            }
            Gate::Gone => {
                drop((agent, listener));
                drop(
                    shared
                        .gate_moved
                        .wait_while(door, |door| door.gate == Gate::Gone)
                        .unwrap(),
                );
                listener = eventually("the proxy's port", || TcpListener::bind(address).ok());
            }
        }
    }
}

fn answer_once(mut agent: TcpStream, answer: &str) {
    // Unread bytes at the close would take the answer with them.
    let mut head = [0; 4096];
    let _ = agent.read(&mut head);
    let _ = agent.write_all(answer.as_bytes());
    let _ = agent.shutdown(Shutdown::Write);
    let _ = agent.read(&mut head);
}

/// One connection, both its halves.
struct Link {
    /// The agent's end and the backend's: where a [`Way`] begins.
    ends: [TcpStream; 2],
    state: Mutex<State>,
    changed: Condvar,
}

/// For each [`Way`].
#[derive(Default)]
struct State {
    frozen_until: [Option<Instant>; 2],
    /// How many more bytes may go before the cut.
    left: [Option<usize>; 2],
    is_cut: bool,
}

impl Link {
    fn new(agent: TcpStream, backend: TcpStream, ends: Option<(Way, usize)>) -> Self {
        for end in [&agent, &backend] {
            end.set_nodelay(true).expect("an option of a socket");
        }
        let mut state = State::default();
        if let Some((way, bytes)) = ends {
            state.left[way as usize] = Some(bytes);
        }
        Self {
            ends: [agent, backend],
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn cut(&self) {
        self.state.lock().unwrap().is_cut = true;
        self.changed.notify_all();
        for end in &self.ends {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Carries bytes one way, in pieces of any length.
    fn pump(&self, way: Way, mut rng: Rng) {
        let (mut from, mut to) = (&self.ends[way as usize], &self.ends[1 - way as usize]);
        let mut buffer = vec![0; 16 << 10];
        loop {
            let longest = rng.usize(1..=buffer.len());
            let Ok(n) = from.read(&mut buffer[..longest]) else {
                return self.cut();
            };
            let Some(allowed) = self.admit(way, n) else {
                return;
            };
            if to.write_all(&buffer[..allowed]).is_err() || allowed < n {
                return self.cut();
            }
            if n == 0 {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        }
    }

    /// Waits while that way is frozen, then says how many of `n` bytes may go; none at all once it is cut.
    fn admit(&self, way: Way, n: usize) -> Option<usize> {
        let mut state = self.state.lock().unwrap();
        while let Some(until) = state.frozen_until[way as usize] {
            let left = until.saturating_duration_since(Instant::now());
            if state.is_cut || left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
        if state.is_cut {
            return None;
        }
        let Some(left) = &mut state.left[way as usize] else {
            return Some(n);
        };
        let allowed = n.min(*left);
        *left -= allowed;
        Some(allowed)
    }
}
