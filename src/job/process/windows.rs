//! Windows: a tree of processes is a job object. When the job is closed, every process in it ends, also when the daemon
//! dies. Each pipe has a thread that reads it and ends with the job.
//!
//! Programs without a window know no TERM, so there is no grace period. A program joins the job just after its start. A
//! process that it starts before that (in its first microseconds) stays outside.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::os::windows::io::AsRawHandle;
use std::os::windows::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use win32job::Job;

use super::{SharedFeed, lock};
use crate::domain::ticket::Exit;

/// Keeps a console window from opening; see Microsoft's "Process Creation Flags".
const CREATE_NO_WINDOW: u32 = 0x0800_0000;

pub fn prepare(command: &mut Command) {
    command.creation_flags(CREATE_NO_WINDOW);
}

pub fn exit_of(status: ExitStatus) -> Option<Exit> {
    status.code().map(Exit::Code)
}

/// A job object has no number that could be given to others.
pub fn group_is_gone(_child: &Child) -> bool {
    false
}

/// The processes of one run.
pub struct Tree {
    job: Mutex<Option<Job>>,
}

impl Tree {
    pub fn of(child: &mut Child, _mark: Option<OsString>) -> io::Result<Self> {
        let job = Job::create().map_err(io::Error::other)?;
        let mut limits = job.query_extended_limit_info().map_err(io::Error::other)?;
        limits.limit_kill_on_job_close();
        job.set_extended_limit_info(&limits)
            .map_err(io::Error::other)?;
        // A program that has already ended cannot join the job, and need not.
        match job.assign_process(child.as_raw_handle() as isize) {
            Err(e) if child.try_wait()?.is_none() => return Err(io::Error::other(e)),
            _ => {}
        }
        Ok(Self {
            job: Mutex::new(Some(job)),
        })
    }

    /// Nothing is left to find: the system closed the job when the daemon died.
    pub fn marked(_mark: OsString) -> Self {
        Self {
            job: Mutex::new(None),
        }
    }

    pub fn forget_group(&mut self) {}

    pub fn end(&self, _grace: Duration, _limit: Duration) -> usize {
        drop(lock(&self.job).take());
        0
    }
}

const CHUNK: usize = 64 << 10;
const STOP_LIMIT: Duration = Duration::from_secs(2);

pub struct OutputPipe(Box<dyn Read + Send>);

impl From<ChildStdout> for OutputPipe {
    fn from(pipe: ChildStdout) -> Self {
        Self(Box::new(pipe))
    }
}

impl From<ChildStderr> for OutputPipe {
    fn from(pipe: ChildStderr) -> Self {
        Self(Box::new(pipe))
    }
}

/// The threads that read the pipes.
pub struct Drain {
    threads: Vec<JoinHandle<()>>,
    ended: Receiver<()>,
}

impl Drain {
    pub fn start(streams: Vec<(SharedFeed, OutputPipe)>) -> io::Result<Self> {
        let (end, ended) = crossbeam_channel::bounded(0);
        let mut threads = Vec::new();
        for (output, stream) in streams {
            let end = end.clone();
            let body = move || {
                // The last drop of an `_end` signals that all threads have ended.
                let _end = end;
                read_all(&output, stream);
            };
            let thread = thread::Builder::new().name("drain".to_owned());
            threads.push(thread.spawn(body)?);
        }
        Ok(Self { threads, ended })
    }

    /// Waits until every stream has ended, but at most that long.
    pub fn wait(&self, limit: Duration) {
        let _ = self.ended.recv_timeout(limit);
    }

    /// Call this once the tree is gone: then the streams end by themselves. A process that was never in the job may
    /// still hold a stream open. Then nobody joins the threads, so that the worker goes on.
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

fn read_all(output: &SharedFeed, mut stream: OutputPipe) {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.0.read(&mut chunk) {
            Ok(0) => return,
            Ok(n) => lock(output).feed(&chunk[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
