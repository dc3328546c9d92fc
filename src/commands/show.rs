//! `wf0-agent show`: what became of a ticket's newest run: how it ended, what the CLI was told, what it answered, what
//! it changed.

use std::io::{self, ErrorKind, IsTerminal, Write};

use clap::{ArgGroup, ArgMatches, Command};

use super::logs::Tail;
use super::past::{Past, unreadable, with_run};
use super::style::date_and_time;
use super::{flag, ticket};
use crate::domain::outbox::Entry;
use crate::domain::text::{for_terminal, one_line};
use crate::domain::ticket::Exit;
use crate::store::inspect::{Condition, look_at};
use crate::store::journal::Started;

const LINE_MAX: usize = 2000;

/// What can be shown by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Prompt,
    Stdout,
    Diff,
}

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
        .group(ArgGroup::new("part").args(["prompt", "stdout", "diff"]))
}

pub fn run(matches: &ArgMatches) -> u8 {
    let part = |(name, part)| matches.get_flag(name).then_some(part);
    let only = [
        ("prompt", Part::Prompt),
        ("stdout", Part::Stdout),
        ("diff", Part::Diff),
    ]
    .into_iter()
    .find_map(part);
    with_run(
        matches,
        |_| true,
        |past| {
            let unreadable = unreadable(&past.seen);
            let started = past.seen.started().map_err(&unreadable)?;
            let ended = past.seen.outcome().map_err(&unreadable)?;
            let shown = match only {
                Some(part) => show_part(part, &past, ended.as_ref(), &mut io::stdout().lock())
                    .and_then(|why| why.map_or(Ok(()), |why| Err(io::Error::other(why)))),
                None => show_all(
                    &past,
                    started.as_ref(),
                    ended.as_ref(),
                    &mut io::stdout().lock(),
                ),
            };
            match shown {
                // Whoever closes the pipe early has read enough.
                Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
                shown => shown.map_err(|e| format!("ticket {}: {e}", past.seen.ticket)),
            }
        },
    )
}

fn show_all(
    past: &Past,
    started: Option<&Started>,
    ended: Option<&Entry>,
    to: &mut impl Write,
) -> io::Result<()> {
    for (name, value) in facts(past, started, ended) {
        writeln!(to, "{name:<13} {}", one_line(&value, LINE_MAX))?;
    }
    for (title, part) in [
        ("prompt", Part::Prompt),
        ("stdout", Part::Stdout),
        ("diff", Part::Diff),
    ] {
        writeln!(to, "\n== {title}")?;
        if let Some(why) = show_part(part, past, ended, to)? {
            writeln!(to, "({why})")?;
        }
    }
    Ok(())
}

fn facts(
    past: &Past,
    started: Option<&Started>,
    ended: Option<&Entry>,
) -> Vec<(&'static str, String)> {
    let Past {
        seen, state_dir, ..
    } = past;
    let has_daemon = || matches!(look_at(state_dir), Ok(Condition::InUse));
    let state = match (ended, started) {
        (Some(_), _) if seen.is_delivered() => "ended, and the backend has the outcome",
        (Some(_), _) => "ended, and the backend may not have the outcome yet",
        (None, _) if !has_daemon() => {
            "cut off: no daemon is running, and the next one goes on with it"
        }
        (None, Some(_)) => "running",
        (None, None) => "claimed, and its program has not been started",
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

/// The part itself, else why there is none.
fn show_part(
    part: Part,
    past: &Past,
    ended: Option<&Entry>,
    to: &mut impl Write,
) -> io::Result<Option<String>> {
    let is_for_terminal = io::stdout().is_terminal();
    let path = match part {
        Part::Prompt => past.seen.path("prompt.md"),
        Part::Diff => past.seen.patch(),
        // What was sent: all that was printed may be lines of JSON, which are for `logs`.
        Part::Stdout => {
            let Some(entry) = ended else {
                return Ok(Some(format!(
                    "not ended yet: see wf0-agent logs {}",
                    past.seen.ticket
                )));
            };
            let text = entry.outcome.stdout.render();
            if is_for_terminal {
                text.lines()
                    .try_for_each(|line| writeln!(to, "{}", for_terminal(line)))?;
            } else {
                to.write_all(text.as_bytes())?;
            }
            return Ok(None);
        }
    };
    if !path.exists() {
        return Ok(Some(format!(
            "there is no {}",
            if part == Part::Diff { "diff" } else { "prompt" }
        )));
    }
    Tail::new(path, is_for_terminal).pass_on(to, true)?;
    Ok(None)
}
