//! Runs a program in a process group or job object of its own, under a time limit, and leaves no process of it running.
//!
//! The CLI, git and every other program run in this way. Each has two threads, and they end with it: `wait` owns the
//! child, `drain` reads its output. `unix.rs` and `windows.rs` hold what differs between systems: how to end a tree of
//! processes, and how to read its pipes.

#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(not(unix), path = "windows.rs")]
mod system;

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender, after, never, select};
use log::warn;
use wait_timeout::ChildExt;

use super::capture::Capture;
use crate::domain::ticket::{Exit, RunId, StopReason};
use crate::environment::MARK;
use system::{Drain, Tree};

/// How long to read the pipes after the program has ended. After that, the rest of its tree is ended.
const LINGER: Duration = Duration::from_millis(250);
/// How long the system may take to end a process after KILL.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// The first and the longest pause between two looks at a child, while the crate wait-timeout cannot wait for it.
const LOOK_FIRST: Duration = Duration::from_micros(250);
const LOOK_LAST: Duration = Duration::from_millis(10);

/// Whether wait-timeout may be used, see [`set_up`]. This is unknown until the first program has ended.
static IS_USABLE: OnceLock<bool> = OnceLock::new();

/// What to run and how.
pub struct Spec<'a> {
    pub program: &'a Path,
    pub args: &'a [OsString],
    pub cwd: &'a Path,
    /// The whole environment except the mark. The program inherits nothing.
    pub env: Vec<(OsString, OsString)>,
    /// The value of [`MARK`]. It identifies descendants that left the process group.
    pub mark: Option<OsString>,
    /// `None`: standard input is empty.
    pub stdin: Option<File>,
    /// If set, standard output goes to this file and not to the reader.
    pub stdout: Option<File>,
    pub limit: Duration,
    pub grace: Duration,
}

/// Takes the bytes of an output stream.
pub trait Feed: Send {
    fn feed(&mut self, bytes: &[u8]);
}

/// The `drain` thread fills it while other threads read it.
pub type SharedFeed = Arc<Mutex<dyn Feed>>;

pub fn lock<T: ?Sized>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the process, so no thread ever sees a poisoned lock.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Exited,
    TimedOut,
    Stopped(StopReason),
}

/// How a program ended.
#[derive(Debug)]
pub struct ProcessEnd {
    pub cause: Cause,
    /// `None`: the program could not be ended, or the system does not say how it ended.
    pub exit: Option<Exit>,
    /// Processes of its tree that could not be ended.
    pub survivors: usize,
}

/// What the `wait` thread reports about the child.
enum ChildNews {
    TimeIsUp,
    Reaped {
        status: io::Result<ExitStatus>,
        /// The group had no other member when the child was reaped. From then on the system may give its number to
        /// others.
        group_is_gone: bool,
    },
}

/// A running program. If it is dropped, its tree is killed.
pub struct Process {
    tree: Tree,
    news: Receiver<ChildNews>,
    /// `None`: `finish` has been called.
    waiter: Option<JoinHandle<()>>,
    drain: Option<Drain>,
    grace: Duration,
    /// The program has ended. Other processes of its tree may be alive.
    is_reaped: bool,
    exit: Option<Exit>,
}

/// Starts a program.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where programs are started"
)]
pub fn start(spec: Spec<'_>, stdout: SharedFeed, stderr: SharedFeed) -> io::Result<Process> {
    let mut command = Command::new(spec.program);
    command.args(spec.args).current_dir(spec.cwd).env_clear();
    command.envs(spec.env);
    command.envs(spec.mark.iter().map(|mark| (MARK, mark)));
    command.stdin(spec.stdin.map_or_else(Stdio::null, Stdio::from));
    command.stdout(spec.stdout.map_or_else(Stdio::piped, Stdio::from));
    command.stderr(Stdio::piped());
    system::prepare(&mut command);
    // The thread that reaps the child starts first. If it cannot start, there is no child yet that nobody would reap.
    let (hand_over, handed) = crossbeam_channel::bounded::<Child>(1);
    let (tell, news) = crossbeam_channel::bounded(2);
    let limit = spec.limit;
    let waiter = thread::Builder::new()
        .name("wait".to_owned())
        .spawn(move || {
            if let Ok(child) = handed.recv() {
                wait(child, limit, &tell);
            }
        })?;
    let mut child = command.spawn()?;
    let tree = Tree::of(&mut child, spec.mark).inspect_err(|_| {
        let _ = child.kill();
        let _ = child.wait();
    })?;
    let mut streams = Vec::new();
    streams.extend(child.stdout.take().map(|pipe| (stdout, pipe.into())));
    streams.extend(child.stderr.take().map(|pipe| (stderr, pipe.into())));
    if hand_over.send(child).is_err() {
        panic!("the wait thread is gone");
    }
    // If a later step fails, the drop of this value ends what was started.
    let mut process = Process {
        tree,
        news,
        waiter: Some(waiter),
        drain: None,
        grace: spec.grace,
        is_reaped: false,
        exit: None,
    };
    process.drain = Some(Drain::start(streams)?);
    Ok(process)
}

/// Waits until the child ends. If the time limit passes first, reports that and goes on waiting.
#[expect(
    clippy::disallowed_methods,
    reason = "what is left of a time limit is measured"
)]
fn wait(mut child: Child, limit: Duration, tell: &Sender<ChildNews>) {
    let started = Instant::now();
    let status = loop {
        let left = limit.saturating_sub(started.elapsed());
        if left.is_zero() {
            let _ = tell.send(ChildNews::TimeIsUp);
            break child.wait();
        }
        if IS_USABLE.get() == Some(&true)
            && let Ok(Some(status)) = child.wait_timeout(left)
        {
            break Ok(status);
        }
        // wait-timeout is not set up yet, or there is no file descriptor left for it.
        match child.try_wait() {
            Ok(Some(status)) => {
                set_up(&mut child);
                break Ok(status);
            }
            // A program that has run for long need not be looked at often.
            Ok(None) => thread::sleep(
                (started.elapsed() / 8)
                    .clamp(LOOK_FIRST, LOOK_LAST)
                    .min(left),
            ),
            Err(e) => {
                if IS_USABLE.set(false).is_ok() {
                    warn!(
                        "exit codes are unknown; start wf0-agent so that SIGCHLD is not ignored: {e}"
                    );
                }
                break Err(e);
            }
        }
    };
    let _ = tell.send(ChildNews::Reaped {
        status,
        group_is_gone: system::group_is_gone(&child),
    });
}

/// Sets wait-timeout up when the first program has ended. Its signal handler calls the handler that was there before.
/// If SIGCHLD is ignored, that call would crash the daemon. But then the system reaps children itself, waiting for them
/// is an error, and this function is not called. The set-up panics if no file descriptor is left, so this opens a pipe
/// first as a test.
fn set_up(ended: &mut Child) {
    if IS_USABLE.get().is_none() && io::pipe().is_ok() && ended.wait_timeout(Duration::ZERO).is_ok()
    {
        let _ = IS_USABLE.set(true);
    }
}

/// Ends every process with that mark, for a run whose daemon has died. Returns how many could not be ended.
pub fn end_marked(mark: OsString, grace: Duration) -> usize {
    Tree::marked(mark).end(grace, KILL_LIMIT)
}

impl Process {
    /// Waits until the program exits, its time is up, or `halt` stops it; then ends the rest of its tree. Calls `tick`
    /// once per `every` meanwhile.
    pub fn wait(
        mut self,
        halt: &Halt,
        every: Option<Duration>,
        mut tick: impl FnMut(),
    ) -> ProcessEnd {
        let cause = loop {
            if let Some(reason) = halt.reason() {
                break Cause::Stopped(reason);
            }
            let ticker = every.map_or_else(never, after);
            select! {
                recv(self.news) -> news => match news {
                    Ok(news) => break self.note(news),
                    // The thread reports how the child ended before the thread itself ends.
                    Err(_) => panic!("the wait thread is gone"),
                },
                recv(halt.orders()) -> order => halt.note(order),
                recv(ticker) -> _ => tick(),
            }
        };
        if let (Cause::Exited, Some(drain)) = (cause, &self.drain) {
            drain.wait(LINGER);
        }
        let survivors = self.finish();
        ProcessEnd {
            cause,
            exit: self.exit,
            survivors,
        }
    }

    fn note(&mut self, news: ChildNews) -> Cause {
        let ChildNews::Reaped {
            status,
            group_is_gone,
        } = news
        else {
            return Cause::TimedOut;
        };
        self.is_reaped = true;
        if group_is_gone {
            self.tree.forget_group();
        }
        self.exit = status.ok().and_then(system::exit_of);
        Cause::Exited
    }

    /// Ends the tree, reads what is left and joins the threads. Returns how many processes could not be ended.
    fn finish(&mut self) -> usize {
        let waiter = self.waiter.take();
        // The program may have ended by itself in the meantime.
        while let Ok(news) = self.news.try_recv() {
            self.note(news);
        }
        let survivors = self.tree.end(self.grace, KILL_LIMIT);
        while !self.is_reaped
            && let Ok(news) = self.news.recv_timeout(KILL_LIMIT)
        {
            self.note(news);
        }
        if let Some(drain) = self.drain.take() {
            drain.stop();
        }
        // If KILL does not end a child, the child is stuck in the kernel. Nobody joins its thread, so that the worker
        // goes on.
        if let Some(waiter) = waiter.filter(|_| self.is_reaped)
            && waiter.join().is_err()
        {
            panic!("the wait thread has panicked");
        }
        survivors
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.waiter.is_some() {
            self.grace = Duration::ZERO;
            self.finish();
        }
    }
}

/// A program that runs for its output. Of each stream at most `max` bytes are kept.
pub struct Call {
    process: Process,
    stdout: Arc<Mutex<Capture>>,
    stderr: Arc<Mutex<Capture>>,
}

/// What the program printed and how it ended.
pub struct CallEnd {
    pub cause: Cause,
    pub exit: Option<Exit>,
    pub stdout: String,
    pub stderr: String,
}

impl Call {
    pub fn start(spec: Spec<'_>, max: usize) -> io::Result<Self> {
        let capture = || Arc::new(Mutex::new(Capture::new(max, None)));
        let (stdout, stderr) = (capture(), capture());
        Ok(Self {
            process: start(spec, stdout.clone(), stderr.clone())?,
            stdout,
            stderr,
        })
    }

    pub fn finish(self, halt: &Halt) -> CallEnd {
        let ProcessEnd { cause, exit, .. } = self.process.wait(halt, None, || {});
        CallEnd {
            cause,
            exit,
            stdout: lock(&self.stdout).excerpt().render(),
            stderr: lock(&self.stderr).excerpt().render(),
        }
    }
}

impl Feed for Capture {
    fn feed(&mut self, bytes: &[u8]) {
        Self::feed(self, bytes);
    }
}

impl CallEnd {
    pub fn is_well(&self) -> bool {
        self.code() == Some(0)
    }

    /// What the program says about its end, in one line.
    #[cfg(feature = "tools")]
    pub fn words(&self) -> String {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        match (words(&self.stderr), words(&self.stdout), self.code()) {
            (stderr, ..) if !stderr.is_empty() => stderr,
            (_, stdout, _) if !stdout.is_empty() => stdout,
            (.., Some(code)) => format!("exit code {code}, without a word"),
            (.., None) => "no answer in time".to_owned(),
        }
    }

    /// `None`: the program did not exit by itself.
    pub fn code(&self) -> Option<i32> {
        match (self.cause, self.exit) {
            (Cause::Exited, Some(Exit::Code(code))) => Some(code),
            _ => None,
        }
    }
}

/// The stop orders of one worker, as one run sees them. Orders for earlier runs do not count.
pub struct Halt {
    orders: Receiver<(RunId, StopReason)>,
    run: RunId,
    reason: Cell<Option<StopReason>>,
}

impl Halt {
    pub fn new(orders: Receiver<(RunId, StopReason)>, run: RunId) -> Self {
        Self {
            orders,
            run,
            reason: Cell::new(None),
        }
    }

    /// For work that is never stopped.
    pub fn never() -> Self {
        Self::new(never(), RunId(0))
    }

    /// Why the run has to end, if it has to. The first reason counts.
    pub fn reason(&self) -> Option<StopReason> {
        self.pause(Duration::ZERO)
    }

    /// For a `select!`. The caller must hand what it receives to [`note`](Self::note).
    pub fn orders(&self) -> &Receiver<(RunId, StopReason)> {
        &self.orders
    }

    /// Takes an order. A closed channel means that the daemon is ending.
    pub fn note(&self, order: Result<(RunId, StopReason), RecvError>) {
        let reason = match order {
            Ok((run, reason)) => (run == self.run).then_some(reason),
            Err(RecvError) => Some(StopReason::Shutdown),
        };
        self.reason.set(self.reason.get().or(reason));
    }

    /// Waits that long, or until the run has to end.
    pub fn pause(&self, time: Duration) -> Option<StopReason> {
        while self.reason.get().is_none() {
            match self.orders.recv_timeout(time) {
                Ok(order) => self.note(Ok(order)),
                Err(RecvTimeoutError::Disconnected) => self.note(Err(RecvError)),
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        self.reason.get()
    }
}
