//! `wf0-agent show` and `wf0-agent logs` are about the newest run of a ticket. `show` prints how the run ended, the
//! prompt, the stdout that was sent, and the diff. `logs` prints everything that the CLI printed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use clap::{ArgGroup, ArgMatches, Command};

use super::past::{TicketRun, any_run, ticket, with_run};
use super::{flag, ignore_closed_pipe};
use crate::domain::outbox::Entry;
use crate::domain::text::{for_terminal, one_line};
use crate::domain::ticket::Exit;
use crate::store::journal::PATCH;

const FACT_MAX: usize = 2000;
/// Each part has a flag of this name, which shows only this part. `show` also prints the names as titles.
const PARTS: [&str; 3] = ["prompt", "stdout", "diff"];
/// How often `logs --follow` reads the files. Nothing tells it that a file has grown.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// `Tail` copies a longer line in parts of this size.
const LINE_MAX: u64 = 1 << 20;

pub fn command() -> Command {
    Command::new("show")
        .about("Shows what became of a ticket: how it ended, its prompt, stdout and diff")
        .long_about(
            "Shows what became of a ticket: how it ended, its prompt, the stdout that was sent, and its diff. Needs only \
             STATE_DIR; a daemon may be running.",
        )
        .arg(ticket())
        .args([
            flag("prompt", "Show only the prompt"),
            flag("stdout", "Show only the stdout that was sent"),
            flag("diff", "Show only the diff"),
        ])
        .group(ArgGroup::new("part").args(PARTS))
}

pub fn logs_command() -> Command {
    Command::new("logs")
        .about("Prints everything that the CLI printed for a ticket")
        .long_about("Prints everything that the CLI printed for a ticket. Needs only STATE_DIR; a daemon may be running.")
        .arg(ticket())
        .arg(flag("follow", "Continue until the run has ended"))
}

pub fn run(matches: &ArgMatches) -> u8 {
    let only = PARTS.into_iter().find(|part| matches.get_flag(part));
    with_run(matches, any_run, |past| {
        let ended = past.outcome()?;
        let mut to = io::stdout().lock();
        let shown = match only {
            Some(part) => show_part(part, &past, ended.as_ref(), &mut to)
                .and_then(|missing| missing.map_or(Ok(()), |why| Err(io::Error::other(why)))),
            None => show_all(&past, ended.as_ref(), &mut to),
        };
        ignore_closed_pipe(shown).map_err(|e| format!("{}: {e}", past.seen.ticket))
    })
}

/// Prints the CLI's standard output to standard output, and its standard error to standard error.
pub fn logs(matches: &ArgMatches) -> u8 {
    let follow = matches.get_flag("follow");
    with_run(matches, any_run, |past| {
        ignore_closed_pipe(print_logs(&past, follow)).map_err(|e| past.unreadable(&e))
    })
}

fn show_all(past: &TicketRun, ended: Option<&Entry>, to: &mut impl Write) -> io::Result<()> {
    for (name, value) in facts(past, ended)? {
        writeln!(to, "{name:<13} {}", one_line(&value, FACT_MAX))?;
    }
    for part in PARTS {
        writeln!(to, "\n== {part}")?;
        if let Some(why) = show_part(part, past, ended, to)? {
            writeln!(to, "({why})")?;
        }
    }
    Ok(())
}

fn facts(past: &TicketRun, ended: Option<&Entry>) -> io::Result<Vec<(&'static str, String)>> {
    let seen = &past.seen;
    let started = seen.started()?;
    let state = match (ended, &started) {
        (Some(_), _) if seen.is_delivered() => "finished, result delivered",
        (Some(_), _) => "finished, result not delivered yet",
        (None, _) if !past.has_daemon() => {
            "interrupted: the daemon stopped; the next one will report it"
        }
        (None, Some(_)) => "running",
        (None, None) => "claimed, not started yet",
    };
    let attempt = ended.map_or(seen.attempt, |entry| entry.attempt);
    let workspace = match started.map(|started| started.clone.is_some()) {
        Some(true) => ", in a clone",
        Some(false) => ", in place",
        None => "",
    };
    let mut facts = vec![
        ("ticket", seen.ticket.to_string()),
        ("run", seen.folder.run.to_string()),
        ("attempt", attempt.to_string()),
        ("state", state.to_owned()),
        ("role", seen.role.clone()),
        ("repository", format!("{}{workspace}", seen.repo.display())),
        ("claimed", date_and_time(seen.claimed_at)),
    ];
    facts.extend(seen.title.clone().map(|title| ("title", title)));
    let Some(outcome) = ended.map(|entry| &*entry.outcome) else {
        return Ok(facts);
    };
    if let Some(span) = &outcome.span {
        facts.push(("started", date_and_time(span.started_at)));
        facts.push(("took", format!("{:.1} s", span.duration.as_secs_f64())));
    }
    match outcome.exit {
        Some(Exit::Code(code)) => facts.push(("exit code", code.to_string())),
        Some(Exit::Signal(signal)) => facts.push(("signal", signal.to_string())),
        None => {}
    }
    if let Some(failure) = &outcome.failure {
        let (code, error) = (failure.code, &failure.error);
        facts.push(("failure", format!("{code}: {error}")));
    }
    let stat = outcome.changes.stat.map(|stat| stat.to_string());
    facts.extend(stat.map(|stat| ("diff", stat)));
    let address = outcome.pull_request.clone();
    facts.extend(address.map(|address| ("pull request", address)));
    let warnings = outcome.warnings.iter().cloned();
    facts.extend(warnings.map(|warning| ("warning", warning)));
    Ok(facts)
}

/// The time in UTC, without fractions of a second.
fn date_and_time(at: SystemTime) -> String {
    format!("{:.0}", jiff::Timestamp::try_from(at).unwrap_or_default())
}

/// Shows this part. If the run has no such part, returns a text that says why.
fn show_part(
    part: &str,
    past: &TicketRun,
    ended: Option<&Entry>,
    to: &mut impl Write,
) -> io::Result<Option<String>> {
    let is_for_terminal = io::stdout().is_terminal();
    let path = match (part, ended) {
        ("prompt", _) => past.seen.path("prompt.md"),
        ("diff", _) => past.seen.path(PATCH),
        // This is the stdout that was sent. The CLI's full output may be lines of JSON; `logs` shows it.
        (_, Some(entry)) => {
            let text = entry.outcome.stdout.render();
            pass_on(text.as_bytes(), is_for_terminal, to)?;
            return Ok(None);
        }
        (_, None) => {
            let ticket = &past.seen.ticket;
            return Ok(Some(format!("not ended yet: see wf0-agent logs {ticket}")));
        }
    };
    if !path.exists() {
        return Ok(Some(format!("there is no {part}")));
    }
    Tail::new(path, is_for_terminal).pass_on(to, true)?;
    Ok(None)
}

fn print_logs(past: &TicketRun, follow: bool) -> io::Result<()> {
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
    let mut out = Tail::new(past.seen.path("stdout.log"), stdout.is_terminal());
    let mut errors = Tail::new(past.seen.path("stderr.log"), stderr.is_terminal());
    loop {
        // This check comes before the last read: no process writes after the end of the run. Without a daemon the run is
        // over too.
        let is_last = !follow || !past.has_daemon() || past.seen.outcome()?.is_some();
        out.pass_on(&mut stdout, is_last)?;
        errors.pass_on(&mut stderr, is_last)?;
        if is_last {
            return Ok(());
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// A file that grows. `at` is the number of bytes that have been copied.
struct Tail {
    path: PathBuf,
    is_for_terminal: bool,
    at: u64,
}

impl Tail {
    fn new(path: PathBuf, is_for_terminal: bool) -> Self {
        Self {
            path,
            is_for_terminal,
            at: 0,
        }
    }

    /// Copies the lines that are new since the last call. A file that does not exist yet counts as empty.
    fn pass_on(&mut self, to: &mut impl Write, is_last: bool) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        file.seek(SeekFrom::Start(self.at))?;
        let mut reader = BufReader::new(file);
        loop {
            let mut line = Vec::new();
            let size = (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line)? as u64;
            let is_whole = line.ends_with(b"\n") || size == LINE_MAX || is_last;
            if line.is_empty() || !is_whole {
                return to.flush();
            }
            pass_on(&line, self.is_for_terminal, to)?;
            self.at += size;
        }
    }
}

/// Writes the text unchanged. For a terminal, writes it line by line without control characters.
fn pass_on(bytes: &[u8], is_for_terminal: bool, to: &mut impl Write) -> io::Result<()> {
    if !is_for_terminal {
        return to.write_all(bytes);
    }
    for line in String::from_utf8_lossy(bytes).lines() {
        writeln!(to, "{}", for_terminal(line))?;
    }
    Ok(())
}
