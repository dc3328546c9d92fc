//! A tree of processes on Unix: a process group, and on Linux also whoever carries the run's mark.

use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::domain::ticket::Exit;

/// How often it is looked whether a tree is gone. No event tells: its members are not the daemon's children.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_LAST: Duration = Duration::from_millis(80);

pub fn prepare(command: &mut Command) {
    command.process_group(0);
}

pub fn exit_of(status: ExitStatus) -> Option<Exit> {
    status
        .code()
        .map(Exit::Code)
        .or_else(|| status.signal().map(Exit::Signal))
}

/// The processes of one run.
pub struct Tree {
    /// `None`: there is no such group any more, and its number may be anybody's.
    group: Cell<Option<Pid>>,
    mark: Option<OsString>,
}

/// What makes a process part of a tree.
#[cfg(target_os = "linux")]
enum Member {
    OfGroup,
    Marked,
}

/// Asked right after the child has been reaped, before its number can be given away.
pub fn group_is_gone(child: &Child) -> bool {
    group_of(child).is_none_or(|group| killpg(group, None).is_err())
}

fn group_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().map(Pid::from_raw)
}

impl Tree {
    pub fn of(child: &mut Child, mark: Option<OsString>) -> io::Result<Self> {
        Ok(Self {
            group: Cell::new(group_of(child)),
            mark,
        })
    }

    /// Whoever carries the mark, without a group.
    pub fn marked(mark: OsString) -> Self {
        Self {
            group: Cell::new(None),
            mark: Some(mark),
        }
    }

    pub fn forget_group(&mut self) {
        self.group.set(None);
    }

    /// TERM, `grace`, KILL, until none is left. Says how many are, after `limit`.
    pub fn end(&self, grace: Duration, limit: Duration) -> usize {
        if self.living().is_empty() {
            return 0;
        }
        if !grace.is_zero() && self.signal_until_gone(Signal::SIGTERM, grace) {
            return 0;
        }
        if self.signal_until_gone(Signal::SIGKILL, limit) {
            0
        } else {
            self.living().len()
        }
    }

    /// Where the system has no file or memory left to look with, the group stands for whoever is in it: its number
    /// with a minus, see kill(2).
    fn living(&self) -> Vec<Pid> {
        let group = || {
            self.group
                .get()
                .filter(|group| killpg(*group, None).is_ok())
        };
        self.members().unwrap_or_else(|_| {
            group()
                .map(|group| Pid::from_raw(-group.as_raw()))
                .into_iter()
                .collect()
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "how long the system takes is no policy"
    )]
    fn signal_until_gone(&self, signal: Signal, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut told: Vec<Pid> = Vec::new();
        let mut pause = LOOK_FIRST;
        loop {
            let members = self.living();
            if members.is_empty() {
                return true;
            }
            // Who was started meanwhile is told too, but nobody twice: some programs take a second TERM amiss.
            for pid in members {
                if !told.contains(&pid) {
                    self.signal(signal, pid);
                    told.push(pid);
                }
            }
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LOOK_LAST);
        }
    }

    /// A member was seen alive a moment ago, so its number is not anybody else's yet; nor is the group's, which is
    /// forgotten as soon as it has no member.
    fn signal(&self, signal: Signal, member: Pid) {
        let send = |signal| match self.group.get() {
            Some(group) if !cfg!(target_os = "linux") => killpg(group, signal),
            _ => kill(member, signal),
        };
        let _ = send(signal);
        if signal == Signal::SIGKILL {
            // All at once, so that none of them can start another meanwhile.
            let _ = self.group.get().map(|group| killpg(group, signal));
        } else {
            // A stopped process would not hear of it.
            let _ = send(Signal::SIGCONT);
        }
    }

    /// Who is alive: in the group, or with the mark in its environment. Zombies do not count: their parent may
    /// never reap them, as in a container without an init.
    #[cfg(target_os = "linux")]
    fn members(&self) -> io::Result<Vec<Pid>> {
        if self.mark.is_none()
            && self
                .group
                .get()
                .is_none_or(|group| killpg(group, None).is_err())
        {
            return Ok(Vec::new());
        }
        let entries = std::fs::read_dir("/proc")?;
        let pid = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
        let mut members = Vec::new();
        let mut group_is_there = false;
        // A daemon that is started within a run carries that run's mark, and is not to end itself.
        let own = i32::try_from(std::process::id()).ok();
        for pid in entries
            .flatten()
            .filter_map(pid)
            .filter(|pid| Some(*pid) != own)
        {
            match self.membership(pid)? {
                Some(Member::OfGroup) => {
                    group_is_there = true;
                    members.push(Pid::from_raw(pid));
                }
                Some(Member::Marked) => members.push(Pid::from_raw(pid)),
                None => {}
            }
        }
        if !group_is_there {
            // From now on the number may be given to others.
            self.group.set(None);
        }
        Ok(members)
    }

    /// See proc_pid_stat(5): the name in brackets may hold anything, so the fields are counted from the last bracket.
    #[cfg(target_os = "linux")]
    fn membership(&self, pid: i32) -> io::Result<Option<Member>> {
        let stat = if_seen(std::fs::read(format!("/proc/{pid}/stat")))?;
        let Some(end) = stat.iter().rposition(|b| *b == b')') else {
            return Ok(None);
        };
        let fields = String::from_utf8_lossy(&stat[end + 1..]);
        let mut fields = fields.split_ascii_whitespace();
        let (state, group, threads) = (fields.next(), fields.nth(1), fields.nth(14));
        let group = group
            .and_then(|group| group.parse().ok())
            .map(Pid::from_raw);
        Ok(match state {
            // A program whose main thread has ended shows as a zombie while its other threads live on.
            Some("Z") if threads.is_none_or(|threads| threads == "1" || threads == "0") => None,
            Some("X") | None => None,
            _ if group.is_some() && group == self.group.get() => Some(Member::OfGroup),
            _ => self.is_marked(pid)?.then_some(Member::Marked),
        })
    }

    #[cfg(target_os = "linux")]
    fn is_marked(&self, pid: i32) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let of_this_user = std::fs::metadata(format!("/proc/{pid}"))
            .is_ok_and(|process| process.uid() == nix::unistd::geteuid().as_raw());
        if !of_this_user || self.mark.is_none() {
            return Ok(false);
        }
        let environment = if_seen(std::fs::read(format!("/proc/{pid}/environ")))?;
        if !environment.is_empty() {
            return Ok(self.is_mark_in(&environment));
        }
        // The main thread has ended: the others still tell.
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten();
        Ok(tasks
            .filter_map(|task| std::fs::read(task.path().join("environ")).ok())
            .any(|env| self.is_mark_in(&env)))
    }

    /// A nested run's processes carry the outer run's mark too.
    #[cfg(target_os = "linux")]
    fn is_mark_in(&self, environment: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let Some(own) = self
            .mark
            .as_ref()
            .and_then(|mark| mark.as_bytes().split(|b| *b == b',').next_back())
        else {
            return false;
        };
        let marks = environment.split(|b| *b == 0).find_map(|variable| {
            variable
                .strip_prefix(crate::environment::MARK.as_bytes())?
                .strip_prefix(b"=")
        });
        marks.is_some_and(|marks| marks.split(|b| *b == b',').any(|mark| mark == own))
    }

    /// Elsewhere the environment of a process cannot be read: who left the group is out of sight. macOS answers
    /// EPERM for a group of zombies.
    #[cfg(not(target_os = "linux"))]
    fn members(&self) -> io::Result<Vec<Pid>> {
        let _ = &self.mark;
        Ok(self
            .group
            .get()
            .into_iter()
            .filter(|group| killpg(*group, None).is_ok())
            .collect())
    }
}

/// What a process shows, or nothing where it has gone or hides. That this process could not look is another matter:
/// who is not seen then may live all the same.
#[cfg(target_os = "linux")]
fn if_seen(read: io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    use nix::errno::Errno;
    let blind = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
    match read {
        Err(e)
            if blind
                .iter()
                .any(|errno| e.raw_os_error() == Some(*errno as i32)) =>
        {
            Err(e)
        }
        other => Ok(other.unwrap_or_default()),
    }
}
