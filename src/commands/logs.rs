//! `wf0-agent logs`: what the CLI printed, as it printed it: standard output to standard output, errors to errors.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{ArgMatches, Command};

use super::past::{TicketRun, ticket, with_run};
use super::{flag, ignore_closed_pipe};
use crate::domain::text::for_terminal;

/// The files are looked at again and again, because a growing file announces itself to nobody.
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
        |past| ignore_closed_pipe(print(&past, follow)).map_err(|e| past.unreadable(&e)),
    )
}

fn print(past: &TicketRun, follow: bool) -> io::Result<()> {
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
    let mut out = Tail::new(past.seen.path("stdout.log"), stdout.is_terminal());
    let mut errors = Tail::new(past.seen.path("stderr.log"), stderr.is_terminal());
    loop {
        // Asked before the last look, because nothing is written after the end. Without a daemon the run is over too.
        let is_last = !follow || !past.has_daemon() || past.seen.outcome()?.is_some();
        out.pass_on(&mut stdout, is_last)?;
        errors.pass_on(&mut stderr, is_last)?;
        if is_last {
            return Ok(());
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Passes on a file as it grows: unchanged, or for a terminal line by line without control characters.
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

    /// Passes on what has come since the last time. A file that does not exist yet is empty.
    pub fn pass_on(&mut self, to: &mut impl Write, is_last: bool) -> io::Result<()> {
        if self.file.is_none() {
            self.file = match File::open(&self.path) {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                opened => Some(opened?),
            };
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut chunk = vec![0; 64 << 10];
        loop {
            let n = file.read(&mut chunk)?;
            if n == 0 {
                break;
            }
            if !self.is_for_terminal {
                to.write_all(&chunk[..n])?;
                continue;
            }
            self.unfinished.extend(&chunk[..n]);
            let end = match self.unfinished.iter().rposition(|byte| *byte == b'\n') {
                _ if self.unfinished.len() > LINE_MAX => self.unfinished.len(),
                last => last.map_or(0, |at| at + 1),
            };
            print_lines(self.unfinished.drain(..end), to)?;
        }
        if is_last {
            print_lines(self.unfinished.drain(..), to)?;
        }
        to.flush()
    }
}

fn print_lines(bytes: impl Iterator<Item = u8>, to: &mut impl Write) -> io::Result<()> {
    let bytes: Vec<u8> = bytes.collect();
    for line in String::from_utf8_lossy(&bytes).lines() {
        writeln!(to, "{}", for_terminal(line))?;
    }
    Ok(())
}
