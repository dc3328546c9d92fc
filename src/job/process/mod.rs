//! Running a program: in a process group or job object of its own, under a time limit, and gone afterwards.
//!
//! One way for the CLI and for git. Threads of one run: `wait`, which owns the child, and `drain`, where output is
//! captured. Both end with the run. What makes a tree of processes one thing differs: see `unix.rs`, `windows.rs`.

#[cfg_attr(unix, path = "drain_unix.rs")]
#[cfg_attr(not(unix), path = "drain_windows.rs")]
mod drain;
#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(not(unix), path = "windows.rs")]
mod tree;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, never, select};

use super::capture::Capture;
use super::halt::Halt;
use super::output::Output;
use crate::domain::ticket::{Exit, StopReason};
use crate::environment::MARK;
use drain::Drain;
use tree::Tree;

/// After the program's own end, what it left in the pipes is read for so long; then its tree is ended.
const LINGER: Duration = Duration::from_millis(250);
/// How long the kernel may take to end what was killed.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// What to run and how.
pub struct Spec<'a> {
    pub program: &'a Path,
    pub args: &'a [OsString],
    pub cwd: &'a Path,
    /// The whole environment, but for the mark; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// What [`MARK`] is set to, so that descendants are found wherever they go.
    pub mark: Option<OsString>,
    /// `None`: empty.
    pub stdin: Option<File>,
    pub stdout: Sink,
    pub stderr: Sink,
    pub limit: Duration,
    pub grace: Duration,
}

/// Where an output stream goes.
pub enum Sink {
    File(File),
    Capture(Shared),
}

/// Output that the worker looks into while the stream is still coming.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Output>>);

impl Shared {
    pub fn new(capture: Capture) -> Self {
        Self::of(Output::unread(capture))
    }

    pub fn of(output: Output) -> Self {
        Self(Arc::new(Mutex::new(output)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Output> {
        // A panic ends the process, so nobody ever sees a poisoned lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Exited,
    TimedOut,
    Stopped(StopReason),
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub cause: Cause,
    /// `None`: it could not be ended or was never reaped.
    pub exit: Option<Exit>,
    /// Processes of its tree that could not be ended.
    pub survivors: usize,
}

/// The program's own end.
struct Exited {
    status: io::Result<ExitStatus>,
    /// Nobody else was left in its group when it was reaped: from then on the number may be anybody's.
    group_is_gone: bool,
}

/// A running program. Dropped before its end, it takes its tree with it.
pub struct Process {
    tree: Tree,
    exited: Receiver<Exited>,
    /// Tells when its time is up.
    limit: Receiver<Instant>,
    waiter: Option<JoinHandle<()>>,
    drain: Option<Drain>,
    grace: Duration,
    /// The program itself has ended; its tree may not have.
    reaped: bool,
    exit: Option<Exit>,
    finished: bool,
}

/// Starts a program. The errors are the system's own.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where programs are started"
)]
pub fn start(spec: Spec<'_>) -> io::Result<Process> {
    let mut command = Command::new(spec.program);
    command.args(spec.args).current_dir(spec.cwd).env_clear();
    command
        .envs(spec.env)
        .envs(spec.mark.iter().map(|mark| (MARK, mark)));
    command.stdin(spec.stdin.map_or_else(Stdio::null, Stdio::from));
    let stdout = connect(spec.stdout, |stdio| command.stdout(stdio));
    let stderr = connect(spec.stderr, |stdio| command.stderr(stdio));
    tree::prepare(&mut command);
    // The thread that will reap the child comes first: without it a child would be left to itself.
    let (hand_over, handed) = crossbeam_channel::bounded::<Child>(1);
    let (tell, exited) = crossbeam_channel::bounded(1);
    let waiter = thread::Builder::new()
        .name("wait".to_owned())
        .spawn(move || {
            if let Ok(child) = handed.recv() {
                wait(child, &tell);
            }
        })?;
    let mut child = command.spawn()?;
    let tree = match Tree::of(&mut child, spec.mark) {
        Ok(tree) => tree,
        Err(e) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(e);
        }
    };
    let streams = [
        stdout.zip(child.stdout.take().map(drain::Stream::from)),
        stderr.zip(child.stderr.take().map(drain::Stream::from)),
    ];
    let streams: Vec<_> = streams.into_iter().flatten().collect();
    if hand_over.send(child).is_err() {
        panic!("the wait thread is gone");
    }
    // From here on an error drops the process, which ends what was started.
    let mut process = Process {
        tree,
        exited,
        limit: after(spec.limit),
        waiter: Some(waiter),
        drain: None,
        grace: spec.grace,
        reaped: false,
        exit: None,
        finished: false,
    };
    if !streams.is_empty() {
        process.drain = Some(Drain::start(streams)?);
    }
    Ok(process)
}

fn connect<'a>(sink: Sink, set: impl FnOnce(Stdio) -> &'a mut Command) -> Option<Shared> {
    match sink {
        Sink::File(file) => {
            set(Stdio::from(file));
            None
        }
        Sink::Capture(capture) => {
            set(Stdio::piped());
            Some(capture)
        }
    }
}

fn wait(mut child: Child, tell: &Sender<Exited>) {
    let status = child.wait();
    let _ = tell.send(Exited {
        status,
        group_is_gone: tree::group_is_gone(&child),
    });
}

/// Ends whatever carries that mark, long after the daemon that started it has died. Says how many would not go.
pub fn end_marked(mark: OsString, grace: Duration) -> usize {
    Tree::marked(mark).end(grace, KILL_LIMIT)
}

impl Process {
    /// Waits for the end, whatever brings it about, and leaves nothing of the tree running. `tick` is called
    /// every so often meanwhile.
    pub fn wait(mut self, halt: &Halt, every: Option<Duration>, mut tick: impl FnMut()) -> Ended {
        let cause = loop {
            if let Some(reason) = halt.reason() {
                break Cause::Stopped(reason);
            }
            // It may have ended long before anybody looks, and the limit passed since.
            if let Ok(exited) = self.exited.try_recv() {
                self.reaped(exited);
                break Cause::Exited;
            }
            let ticker = every.map_or_else(never, after);
            select! {
                recv(self.exited) -> exited => match exited {
                    Ok(exited) => {
                        self.reaped(exited);
                        break Cause::Exited;
                    }
                    // The thread says how the child ended before it ends itself.
                    Err(_) => panic!("the wait thread is gone"),
                },
                recv(self.limit) -> _ => break Cause::TimedOut,
                recv(halt.orders()) -> order => halt.note(order),
                recv(ticker) -> _ => tick(),
            }
        };
        if let (Cause::Exited, Some(drain)) = (cause, &self.drain) {
            drain.wait(LINGER);
        }
        let survivors = self.finish();
        Ended {
            cause,
            exit: self.exit,
            survivors,
        }
    }

    fn reaped(
        &mut self,
        Exited {
            status,
            group_is_gone,
        }: Exited,
    ) {
        self.reaped = true;
        if group_is_gone {
            self.tree.forget_group();
        }
        self.exit = status.ok().and_then(tree::exit_of);
    }

    /// Ends the tree, reads what is left and joins the threads. Says how many processes would not go.
    fn finish(&mut self) -> usize {
        self.finished = true;
        // It may have ended, long ago even, without anybody having asked.
        if let Ok(exited) = self.exited.try_recv() {
            self.reaped(exited);
        }
        let survivors = self.tree.end(self.grace, KILL_LIMIT);
        if !self.reaped {
            if let Ok(exited) = self.exited.recv_timeout(KILL_LIMIT) {
                self.reaped(exited);
            }
        }
        if let Some(drain) = self.drain.take() {
            drain.stop();
        }
        // A child that even KILL does not end sits in the kernel; its thread is left to it, so that the worker is not.
        if let (true, Some(waiter)) = (self.reaped, self.waiter.take()) {
            if waiter.join().is_err() {
                panic!("the wait thread has panicked");
            }
        }
        survivors
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.finished {
            self.grace = Duration::ZERO;
            self.finish();
        }
    }
}
