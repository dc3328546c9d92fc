//! Reads the pipes of a run until they end, or until it is told to stop: one thread, one poll.
//!
//! A read that blocks could not be called off, and a process out of reach that holds a pipe would hold the
//! thread with it.

use std::io::{self, ErrorKind, Read};
use std::process::{ChildStderr, ChildStdout};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Receiver;
use mio::unix::pipe;
use mio::{Events, Interest, Poll, Token, Waker};

use super::Shared;

const STOP: Token = Token(usize::MAX);
/// As much as a pipe holds (pipe(7)).
const CHUNK: usize = 64 << 10;
const CHUNKS_AT_ONCE: usize = 16;

pub struct Stream(pipe::Receiver);

impl From<ChildStdout> for Stream {
    fn from(pipe: ChildStdout) -> Self {
        Self(pipe.into())
    }
}

impl From<ChildStderr> for Stream {
    fn from(pipe: ChildStderr) -> Self {
        Self(pipe.into())
    }
}

pub struct Drain {
    thread: JoinHandle<()>,
    stop: Waker,
    ended: Receiver<()>,
}

impl Drain {
    pub fn start(mut streams: Vec<(Shared, Stream)>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let stop = Waker::new(poll.registry(), STOP)?;
        for (number, (_, stream)) in streams.iter_mut().enumerate() {
            stream.0.set_nonblocking(true)?;
            poll.registry()
                .register(&mut stream.0, Token(number), Interest::READABLE)?;
        }
        let (end, ended) = crossbeam_channel::bounded(0);
        let body = move || {
            // Dropped at the end, however that comes: that is the signal.
            let _end = end;
            read_all(poll, streams);
        };
        let thread = thread::Builder::new()
            .name("drain".to_owned())
            .spawn(body)?;
        Ok(Self {
            thread,
            stop,
            ended,
        })
    }

    /// Waits until every stream has ended, but not longer than that.
    pub fn wait(&self, limit: Duration) {
        let _ = self.ended.recv_timeout(limit);
    }

    /// Takes what is there and ends.
    pub fn stop(self) {
        // A waker that fails leaves the thread to the end of the streams, which the end of the tree brings.
        let _ = self.stop.wake();
        if self.thread.join().is_err() {
            panic!("the drain thread has panicked");
        }
    }
}

fn read_all(mut poll: Poll, streams: Vec<(Shared, Stream)>) {
    let mut open: Vec<_> = streams.into_iter().map(Some).collect();
    let mut ready = Events::with_capacity(4);
    let mut chunk = vec![0; CHUNK];
    let mut more = false;
    while open.iter().any(Option::is_some) {
        match poll.poll(&mut ready, more.then_some(Duration::ZERO)) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
            Ok(()) => {}
        }
        let stop = ready.iter().any(|event| event.token() == STOP);
        more = false;
        for slot in &mut open {
            match slot
                .as_mut()
                .map(|(capture, stream)| read_some(capture, stream, &mut chunk))
            {
                Some(State::Ended) => *slot = None,
                Some(State::More) => more = true,
                Some(State::Idle) | None => {}
            }
        }
        if stop {
            return;
        }
    }
}

enum State {
    Ended,
    Idle,
    More,
}

/// Reads what is there now, but not for ever: a process out of reach may write without end.
fn read_some(capture: &Shared, stream: &mut Stream, chunk: &mut [u8]) -> State {
    for _ in 0..CHUNKS_AT_ONCE {
        match stream.0.read(chunk) {
            Ok(0) => return State::Ended,
            Ok(n) => capture.lock().feed(&chunk[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return State::Idle,
            Err(_) => return State::Ended,
        }
    }
    State::More
}
