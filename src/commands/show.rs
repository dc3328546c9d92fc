//! `wf0-agent show`: what became of a ticket's newest run: how it ended, what the CLI was told, what it answered, and what
//! it changed.

use std::io::{self, IsTerminal, Write};

use clap::{ArgGroup, ArgMatches, Command};

use super::logs::Tail;
use super::past::{TicketRun, ticket, with_run};
use super::style::date_and_time;
use super::{flag, ignore_closed_pipe};
use crate::domain::outbox::Entry;
use crate::domain::text::{for_terminal, one_line};
use crate::domain::ticket::Exit;
use crate::store::journal::Started;

const LINE_MAX: usize = 2000;

/// What can be shown by itself: the names of flags and titles.
const PARTS: [&str; 3] = ["prompt", "stdout", "diff"];

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

pub fn run(matches: &ArgMatches) -> u8 {
    let only = PARTS.into_iter().find(|part| matches.get_flag(part));
    with_run(
        matches,
        |_| true,
        |past| {
            let (started, ended) = (past.started()?, past.outcome()?);
            let mut to = io::stdout().lock();
            let shown = match only {
                Some(part) => show_part(part, &past, ended.as_ref(), &mut to)
                    .and_then(|missing| missing.map_or(Ok(()), |why| Err(io::Error::other(why)))),
                None => show_all(&past, started.as_ref(), ended.as_ref(), &mut to),
            };
            ignore_closed_pipe(shown).map_err(|e| format!("{}: {e}", past.seen.ticket))
        },
    )
}

fn show_all(
    past: &TicketRun,
    started: Option<&Started>,
    ended: Option<&Entry>,
    to: &mut impl Write,
) -> io::Result<()> {
    for (name, value) in facts(past, started, ended) {
        writeln!(to, "{name:<13} {}", one_line(&value, LINE_MAX))?;
    }
    for part in PARTS {
        writeln!(to, "\n== {part}")?;
        if let Some(why) = show_part(part, past, ended, to)? {
            writeln!(to, "({why})")?;
        }
    }
    Ok(())
}

fn facts(
    past: &TicketRun,
    started: Option<&Started>,
    ended: Option<&Entry>,
) -> Vec<(&'static str, String)> {
    let seen = &past.seen;
    let state = match (ended, started) {
        (Some(_), _) if seen.is_delivered() => "finished, result delivered",
        (Some(_), _) => "finished, result not delivered yet",
        (None, _) if !past.has_daemon() => {
            "interrupted: the daemon stopped; the next one will report it"
        }
        (None, Some(_)) => "running",
        (None, None) => "claimed, not started yet",
    };
    let attempt = ended.map_or(seen.attempt, |entry| entry.attempt);
    let workspace = match started {
        Some(Started { clone: Some(_), .. }) => ", in a clone",
        Some(_) => ", in place",
        None => "",
    };
    let mut facts = vec![
        ("ticket", seen.ticket.to_string()),
        ("run", seen.run.to_string()),
        ("attempt", attempt.to_string()),
        ("state", state.to_owned()),
        ("role", seen.role.clone()),
        ("repository", format!("{}{workspace}", seen.repo.display())),
        ("claimed", date_and_time(seen.claimed_at)),
    ];
    facts.extend(seen.title.clone().map(|title| ("title", title)));
    let Some(outcome) = ended.map(|entry| &*entry.outcome) else {
        return facts;
    };
    if let Some(span) = &outcome.span {
        facts.push(("started", date_and_time(span.started_at)));
        facts.push(("took", format!("{:.1} s", span.duration.as_secs_f64())));
    }
    facts.extend(outcome.exit.map(|exit| match exit {
        Exit::Code(code) => ("exit code", code.to_string()),
        Exit::Signal(signal) => ("signal", signal.to_string()),
    }));
    let failure = outcome.failure.as_ref();
    facts.extend(failure.map(|failure| {
        (
            "failure",
            format!("{}: {}", failure.code.as_str(), failure.error),
        )
    }));
    facts.extend(outcome.changes.stat.map(|stat| ("diff", stat.to_string())));
    facts.extend(
        outcome
            .pull_request
            .clone()
            .map(|address| ("pull request", address)),
    );
    facts.extend(
        outcome
            .warnings
            .iter()
            .map(|warning| ("warning", warning.clone())),
    );
    facts
}

/// Shows that part. If there is none, the text says why.
fn show_part(
    part: &str,
    past: &TicketRun,
    ended: Option<&Entry>,
    to: &mut impl Write,
) -> io::Result<Option<String>> {
    let is_for_terminal = io::stdout().is_terminal();
    let path = match part {
        "prompt" => past.seen.path("prompt.md"),
        "diff" => past.seen.patch(),
        // The stdout that was sent. All that was printed may be lines of JSON, which `logs` shows.
        _ => {
            let Some(entry) = ended else {
                let ticket = &past.seen.ticket;
                return Ok(Some(format!("not ended yet: see wf0-agent logs {ticket}")));
            };
            let text = entry.outcome.stdout.render();
            if is_for_terminal {
                for line in text.lines() {
                    writeln!(to, "{}", for_terminal(line))?;
                }
            } else {
                to.write_all(text.as_bytes())?;
            }
            return Ok(None);
        }
    };
    if !path.exists() {
        return Ok(Some(format!("there is no {part}")));
    }
    Tail::new(path, is_for_terminal).pass_on(to, true)?;
    Ok(None)
}
