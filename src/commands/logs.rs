//! `wf0-agent logs`: what the CLI printed, as it printed it: standard output to standard output, errors to errors.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{ArgMatches, Command};

use super::past::{Past, unreadable, with_run};
use super::{flag, ticket};
use crate::domain::text::for_terminal;
use crate::store::inspect::{Condition, look_at};

/// Nobody tells of a file that grows.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A line that does not end is printed in parts.
const LINE_MAX: usize = 1 << 20;

pub fn command() -> Command {
    Command::new("logs")
        .about("Prints everything that the CLI printed for a ticket")
        .long_about("Prints everything that the CLI printed for a ticket. Needs only STATE_DIR; a daemon may be running.")
        .arg(ticket())
        .arg(flag("follow", "Continue until the run has ended"))
}

pub fn run(matches: &ArgMatches) -> u8 {
    let follow = matches.get_flag("follow");
    with_run(
        matches,
        |_| true,
        |past| match print(&past, follow) {
            // Whoever closes the pipe early has read enough.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
            printed => printed.map_err(unreadable(&past.seen)),
        },
    )
}

fn print(past: &Past, follow: bool) -> io::Result<()> {
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
    let mut out = Tail::new(past.seen.path("stdout.log"), stdout.is_terminal());
    let mut errors = Tail::new(past.seen.path("stderr.log"), stderr.is_terminal());
    loop {
        // Asked before the last look: nothing is written after the end.
        let is_last = !follow || has_ended(past)?;
        out.pass_on(&mut stdout, is_last)?;
        errors.pass_on(&mut stderr, is_last)?;
        if is_last {
            return Ok(());
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Without a daemon the run is over too, whatever the next daemon makes of it.
fn has_ended(past: &Past) -> io::Result<bool> {
    let has_daemon = matches!(look_at(&past.state_dir), Ok(Condition::InUse));
    Ok(!has_daemon || past.seen.outcome()?.is_some())
}

/// A file that is passed on as it grows: raw, or line by line for a terminal, without what that would act on.
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    is_for_terminal: bool,
    unfinished: Vec<u8>,
}

impl Tail {
    pub fn new(path: PathBuf, is_for_terminal: bool) -> Self {
        Self {
            path,
            file: None,
            is_for_terminal,
            unfinished: Vec::new(),
        }
    }

    /// What has come since the last time. A file that is not there yet is empty.
    pub fn pass_on(&mut self, to: &mut impl Write, is_last: bool) -> io::Result<()> {
        if self.file.is_none() {
            self.file = match File::open(&self.path) {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                opened => Some(opened?),
            };
        }
        let mut chunk = vec![0; 64 << 10];
        while let Some(n) = self
            .file
            .as_mut()
            .map(|file| file.read(&mut chunk))
            .transpose()?
            .filter(|n| *n > 0)
        {
            if !self.is_for_terminal {
                to.write_all(&chunk[..n])?;
                continue;
            }
            self.unfinished.extend(&chunk[..n]);
            let whole = self
                .unfinished
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            self.print(
                if self.unfinished.len() > LINE_MAX {
                    self.unfinished.len()
                } else {
                    whole
                },
                to,
            )?;
        }
        if is_last {
            self.print(self.unfinished.len(), to)?;
        }
        to.flush()
    }

    fn print(&mut self, len: usize, to: &mut impl Write) -> io::Result<()> {
        let lines: Vec<u8> = self.unfinished.drain(..len).collect();
        String::from_utf8_lossy(&lines)
            .lines()
            .try_for_each(|line| writeln!(to, "{}", for_terminal(line)))
    }
}
