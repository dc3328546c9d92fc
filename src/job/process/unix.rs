//! Unix: a tree of processes is a process group, and on Linux also every process with the run's mark. One thread polls
//! its pipes: a process out of reach may hold a pipe open, and then nothing could end a blocking read.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::unix::pipe;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::{SharedFeed, lock};
use crate::domain::ticket::Exit;

/// The first and the longest pause between two looks whether a tree is gone. There is no event for this: its members
/// are not the daemon's children.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_LAST: Duration = Duration::from_millis(80);

pub fn prepare(command: &mut Command) {
    command.process_group(0);
}

pub fn exit_of(status: ExitStatus) -> Option<Exit> {
    let code = status.code().map(Exit::Code);
    code.or_else(|| status.signal().map(Exit::Signal))
}

/// Call this right after the child was reaped, before the system can give its number to others.
pub fn group_is_gone(child: &Child) -> bool {
    group_of(child).is_none_or(|group| killpg(group, None).is_err())
}

fn group_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().map(Pid::from_raw)
}

/// The processes of one run.
pub struct Tree {
    /// `None`: the group is gone, and its number may belong to others.
    group: Cell<Option<Pid>>,
    mark: Option<OsString>,
}

impl Tree {
    pub fn of(child: &mut Child, mark: Option<OsString>) -> io::Result<Self> {
        Ok(Self {
            group: Cell::new(group_of(child)),
            mark,
        })
    }

    /// The processes with that mark, without a group.
    pub fn marked(mark: OsString) -> Self {
        Self {
            group: Cell::new(None),
            mark: Some(mark),
        }
    }

    pub fn forget_group(&mut self) {
        self.group.set(None);
    }

    /// Sends TERM, waits for `grace`, sends KILL, waits for `limit`. Returns how many processes are left.
    pub fn end(&self, grace: Duration, limit: Duration) -> usize {
        let is_gone = self.living().is_empty()
            || (!grace.is_zero() && self.signal_until_gone(Signal::SIGTERM, grace))
            || self.signal_until_gone(Signal::SIGKILL, limit);
        if is_gone { 0 } else { self.living().len() }
    }

    /// The living processes. If there is no file descriptor or memory left for listing them, the group stands for them:
    /// the result is its number with a minus, see kill(2).
    fn living(&self) -> Vec<Pid> {
        self.members().unwrap_or_else(|_| {
            let group = self.group_if_alive().into_iter();
            group.map(|group| Pid::from_raw(-group.as_raw())).collect()
        })
    }

    fn group_if_alive(&self) -> Option<Pid> {
        let group = self.group.get();
        group.filter(|group| killpg(*group, None).is_ok())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "how long the system takes is no policy"
    )]
    fn signal_until_gone(&self, signal: Signal, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut signalled: Vec<Pid> = Vec::new();
        let mut pause = LOOK_FIRST;
        loop {
            let members = self.living();
            if members.is_empty() {
                return true;
            }
            // New processes get the signal too, but no process gets it twice: some programs react badly to a second
            // TERM.
            for pid in members {
                if !signalled.contains(&pid) {
                    self.signal(signal, pid);
                    signalled.push(pid);
                }
            }
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LOOK_LAST);
        }
    }

    /// The member was alive a moment ago, so its number does not belong to another process yet. The same is true for
    /// the group's number: it is forgotten as soon as the group has no member.
    fn signal(&self, signal: Signal, member: Pid) {
        let send = |signal| match self.group.get() {
            Some(group) if !cfg!(target_os = "linux") => killpg(group, signal),
            _ => kill(member, signal),
        };
        let _ = send(signal);
        if signal != Signal::SIGKILL {
            // A suspended process acts on the signal only after SIGCONT.
            let _ = send(Signal::SIGCONT);
        } else if let Some(group) = self.group.get() {
            // KILL also goes to the whole group at once, so that no member can start another process meanwhile.
            let _ = killpg(group, signal);
        }
    }

    /// The living processes. Zombies do not count: their parent may never reap them, as in a container without an
    /// init.
    #[cfg(target_os = "linux")]
    fn members(&self) -> io::Result<Vec<Pid>> {
        if self.mark.is_none() && self.group_if_alive().is_none() {
            return Ok(Vec::new());
        }
        // A daemon that was started within a run has that run's mark, and must not end itself.
        let own = i32::try_from(std::process::id()).ok();
        let mut members = Vec::new();
        let mut group_is_there = false;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
                continue;
            };
            let group = living_group(pid)?.filter(|_| Some(pid) != own);
            let Some(group) = group else { continue };
            let is_of_group = Some(group) == self.group.get();
            group_is_there |= is_of_group;
            if is_of_group || self.is_marked(pid)? {
                members.push(Pid::from_raw(pid));
            }
        }
        if !group_is_there {
            self.group.set(None);
        }
        Ok(members)
    }

    /// Other systems do not show the environment of a process, so a process that left the group cannot be found. For a
    /// group of zombies macOS answers EPERM.
    #[cfg(not(target_os = "linux"))]
    fn members(&self) -> io::Result<Vec<Pid>> {
        let _ = &self.mark;
        Ok(self.group_if_alive().into_iter().collect())
    }

    #[cfg(target_os = "linux")]
    fn is_marked(&self, pid: i32) -> io::Result<bool> {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::MetadataExt;
        // Of several marks, the last is the run's own.
        let mark = self.mark.as_ref().map(|mark| mark.as_bytes());
        let own = mark.and_then(|mark| mark.rsplit(|b| *b == b',').next());
        let Some(own) = own else { return Ok(false) };
        let of_this_user = std::fs::metadata(format!("/proc/{pid}"))
            .is_ok_and(|process| process.uid() == nix::unistd::geteuid().as_raw());
        if !of_this_user {
            return Ok(false);
        }
        let environment = if_seen(std::fs::read(format!("/proc/{pid}/environ")))?;
        if !environment.is_empty() {
            return Ok(is_mark_in(own, &environment));
        }
        // If the main thread has ended, the other threads still show the environment.
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
        let mut tasks = tasks.into_iter().flatten().flatten();
        Ok(tasks.any(|task| {
            std::fs::read(task.path().join("environ")).is_ok_and(|env| is_mark_in(own, &env))
        }))
    }
}

/// The process's group, or `None` if the process has ended. See proc_pid_stat(5): the name in brackets may hold any
/// character, so the fields are counted from the last bracket.
#[cfg(target_os = "linux")]
fn living_group(pid: i32) -> io::Result<Option<Pid>> {
    let stat = if_seen(std::fs::read(format!("/proc/{pid}/stat")))?;
    let end = stat.iter().rposition(|b| *b == b')').unwrap_or(stat.len());
    let fields = String::from_utf8_lossy(stat.get(end + 1..).unwrap_or_default());
    let mut fields = fields.split_ascii_whitespace();
    let (state, group, threads) = (fields.next(), fields.nth(1), fields.nth(14));
    // A program whose main thread has ended shows as a zombie while its other threads live on.
    let is_alive = match state {
        Some("Z") => !matches!(threads, None | Some("0" | "1")),
        Some("X") | None => false,
        Some(_) => true,
    };
    let group = group.unwrap_or_default().parse().unwrap_or_default();
    Ok(is_alive.then(|| Pid::from_raw(group)))
}

/// Whether an environment has that mark. It may have several: processes of a nested run have the outer run's mark too.
#[cfg(target_os = "linux")]
fn is_mark_in(own: &[u8], environment: &[u8]) -> bool {
    let marks = environment.split(|b| *b == 0).find_map(|variable| {
        let value = variable.strip_prefix(crate::environment::MARK.as_bytes())?;
        value.strip_prefix(b"=")
    });
    marks.is_some_and(|marks| marks.split(|b| *b == b',').any(|mark| mark == own))
}

/// What was read about a process, or nothing if the process is gone or hides it. An error means that this daemon could
/// not look: then the process may be alive.
#[cfg(target_os = "linux")]
fn if_seen(read: io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    use nix::errno::Errno;
    const BLIND: [Errno; 3] = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
    let code = |e: &io::Error| e.raw_os_error().map(Errno::from_raw);
    match read {
        Err(e) if code(&e).is_some_and(|code| BLIND.contains(&code)) => Err(e),
        other => Ok(other.unwrap_or_default()),
    }
}

const STOP: Token = Token(usize::MAX);
/// The size of a pipe, see pipe(7).
const CHUNK: usize = 64 << 10;
/// A process out of reach may write without end, so one look reads at most this many chunks.
const CHUNKS_AT_ONCE: usize = 16;

pub type OutputPipe = pipe::Receiver;

/// The thread that reads the pipes until they end, or until the caller calls `stop`.
pub struct Drain {
    thread: JoinHandle<()>,
    stop: Waker,
    ended: Receiver<()>,
}

impl Drain {
    pub fn start(mut streams: Vec<(SharedFeed, OutputPipe)>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let stop = Waker::new(poll.registry(), STOP)?;
        for (number, (_, stream)) in streams.iter_mut().enumerate() {
            stream.set_nonblocking(true)?;
            let token = Token(number);
            poll.registry()
                .register(stream, token, Interest::READABLE)?;
        }
        let (end, ended) = crossbeam_channel::bounded(0);
        let body = move || {
            // The drop of `_end` signals that the thread has ended.
            let _end = end;
            read_all(poll, streams);
        };
        let thread = thread::Builder::new().name("drain".to_owned());
        Ok(Self {
            thread: thread.spawn(body)?,
            stop,
            ended,
        })
    }

    /// Waits until every stream has ended, but at most that long.
    pub fn wait(&self, limit: Duration) {
        let _ = self.ended.recv_timeout(limit);
    }

    /// Lets the thread read what is there, and ends it.
    pub fn stop(self) {
        // If the waker fails, the thread ends when the streams do. The end of the tree closes them.
        let _ = self.stop.wake();
        if self.thread.join().is_err() {
            panic!("the drain thread has panicked");
        }
    }
}

fn read_all(mut poll: Poll, mut streams: Vec<(SharedFeed, OutputPipe)>) {
    let mut ready = Events::with_capacity(4);
    let mut chunk = vec![0; CHUNK];
    let mut more = false;
    while !streams.is_empty() {
        match poll.poll(&mut ready, more.then_some(Duration::ZERO)) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
            Ok(()) => {}
        }
        let stop = ready.iter().any(|event| event.token() == STOP);
        more = false;
        streams.retain_mut(|(output, stream)| {
            let state = read_some(output, stream, &mut chunk);
            more |= matches!(state, StreamState::More);
            !matches!(state, StreamState::Ended)
        });
        if stop {
            return;
        }
    }
}

enum StreamState {
    Ended,
    Idle,
    More,
}

fn read_some(output: &SharedFeed, stream: &mut OutputPipe, chunk: &mut [u8]) -> StreamState {
    for _ in 0..CHUNKS_AT_ONCE {
        match stream.read(chunk) {
            Ok(0) => return StreamState::Ended,
            Ok(n) => lock(output).feed(&chunk[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return StreamState::Idle,
            Err(_) => return StreamState::Ended,
        }
    }
    StreamState::More
}
