//! Reads the pipes of a run until they end: a thread each. They end with the job, which nobody can leave.

use std::io::{self, ErrorKind, Read};
use std::process::{ChildStderr, ChildStdout};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Shared;

const CHUNK: usize = 64 << 10;
const STOP_LIMIT: Duration = Duration::from_secs(2);

pub struct Stream(Box<dyn Read + Send>);

impl From<ChildStdout> for Stream {
    fn from(pipe: ChildStdout) -> Self {
        Self(Box::new(pipe))
    }
}

impl From<ChildStderr> for Stream {
    fn from(pipe: ChildStderr) -> Self {
        Self(Box::new(pipe))
    }
}

pub struct Drain {
    threads: Vec<JoinHandle<()>>,
    ended: Receiver<()>,
}

impl Drain {
    pub fn start(streams: Vec<(Shared, Stream)>) -> io::Result<Self> {
        let (end, ended) = crossbeam_channel::bounded(0);
        let mut threads = Vec::new();
        for (capture, mut stream) in streams {
            let end = end.clone();
            let body = move || {
                // The last one dropped is the signal.
                let _end = end;
                let mut chunk = vec![0; CHUNK];
                loop {
                    match stream.0.read(&mut chunk) {
                        Ok(0) => return,
                        Ok(n) => capture.lock().feed(&chunk[..n]),
                        Err(e) if e.kind() == ErrorKind::Interrupted => {}
                        Err(_) => return,
                    }
                }
            };
            threads.push(
                thread::Builder::new()
                    .name("drain".to_owned())
                    .spawn(body)?,
            );
        }
        Ok(Self { threads, ended })
    }

    /// Waits until every stream has ended, but not longer than that.
    pub fn wait(&self, limit: Duration) {
        let _ = self.ended.recv_timeout(limit);
    }

    /// To be called once the tree is gone, when the streams end by themselves. A process that was never in the job
    /// may still hold one: its thread is left to it, so that the worker is not.
    pub fn stop(self) {
        if self.ended.recv_timeout(STOP_LIMIT) == Err(RecvTimeoutError::Timeout) {
            return;
        }
        for thread in self.threads {
            if thread.join().is_err() {
                panic!("a drain thread has panicked");
            }
        }
    }
}
