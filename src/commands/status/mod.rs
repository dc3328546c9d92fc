//! `wf0-agent status` shows what the daemon does, and its last results. It reads the files in the state folder.

mod text;

use std::cmp::Reverse;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use super::past::state_dir;
use super::style::{knows_colours, knows_sequences};
use super::{exit, fail, flag, given, print};
use crate::domain::outbox::Entry;
use crate::domain::text::escaped;
use crate::domain::ticket::Exit;
use crate::environment::Environment;
use crate::store::inspect::{self, Seen, is_in_use, look_into};
use crate::store::status::{ActiveStatus, StatusRecord};
use crate::times::{millis_of, now, rfc3339};

/// The maximum number of results that `status` shows.
const RESULTS: usize = 20;
/// How often `--watch` reads the files. Nothing tells it that a file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the state folder holds.
struct Overview {
    state_dir: PathBuf,
    is_running: bool,
    /// The last time that a daemon wrote its status.
    last_seen: Option<SystemTime>,
    /// The status of the running daemon. `None` if no daemon runs or if its status cannot be read.
    record: Option<StatusRecord>,
    /// The claimed tickets that have not ended.
    active: Vec<Seen>,
    /// The tickets that ended last. The newest is first.
    results: Vec<(Seen, Entry)>,
}

pub fn command() -> Command {
    Command::new("status")
        .about("Shows whether the daemon runs and is connected, what it does, and its last results")
        .long_about(
            "Shows whether a daemon runs and is connected, its running tickets, the last results and the CLI's quota. \
             Needs only STATE_DIR.",
        )
        .arg(flag("json", "Print JSON, for programs"))
        .arg(flag("watch", "Show it again whenever something has changed, until Ctrl-C"))
}

pub fn run(matches: &ArgMatches) -> u8 {
    let environment = Environment::of_process();
    let shown = state_dir(given(matches), &environment).and_then(|state_dir| {
        show(matches, &state_dir, &environment)
            .map_err(|e| format!("STATE_DIR: {}: {e}", state_dir.display()))
    });
    shown.unwrap_or_else(|why| fail(&why, exit::CONFIG))
}

fn show(matches: &ArgMatches, state_dir: &Path, environment: &Environment) -> io::Result<u8> {
    let (is_json, is_watched) = (matches.get_flag("json"), matches.get_flag("watch"));
    let is_terminal = io::stdout().is_terminal();
    let is_page = is_terminal && knows_sequences(environment) && !is_json;
    let colours = is_terminal && knows_colours(environment);
    let mut last = String::new();
    loop {
        let overview = look(state_dir)?;
        let json = to_json(&overview);
        let text = match is_json {
            true => json.clone(),
            false => text::of(&overview, now(), colours),
        };
        if !is_watched {
            print(&text);
            return Ok(match overview.is_running {
                true => exit::OK,
                false => exit::FAILED,
            });
        }
        // A page shows times that change, so it is written every time. Other output is written only after a change.
        let text = match is_page {
            true => page(&text),
            false if json == last => String::new(),
            false => text,
        };
        last = json;
        let mut to = io::stdout();
        let written = to.write_all(text.as_bytes());
        if written.and_then(|()| to.flush()).is_err() {
            return Ok(exit::OK);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The text with escape sequences that write it over the previous page (ECMA-48: CUP, EL, ED). It goes line by line and
/// does not clear the screen first, so nothing flickers.
fn page(text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}

fn look(state_dir: &Path) -> io::Result<Overview> {
    let is_running = is_in_use(state_dir)?;
    let runs = match look_into(state_dir) {
        // The folder of the tickets does not exist before the first ticket.
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        runs => runs?,
    };
    let runs = runs.into_iter();
    let (mut ended, active): (Vec<_>, _) = runs.partition(|seen| seen.ended_at().is_some());
    ended.sort_by_cached_key(|seen| Reverse(seen.ended_at()));
    ended.truncate(RESULTS);
    let results = ended.into_iter().filter_map(|seen| {
        let entry = seen.outcome().ok()??;
        Some((seen, entry))
    });
    // Ignore an unreadable file: a power failure can leave one behind.
    let record = inspect::status(state_dir).ok().flatten();
    Ok(Overview {
        state_dir: state_dir.to_owned(),
        is_running,
        last_seen: record.as_ref().map(|record| record.daemon.written_at.0),
        record: record.filter(|_| is_running),
        active,
        results: results.collect(),
    })
}

impl Overview {
    fn seen(&self, active: &ActiveStatus) -> Option<&Seen> {
        let mut runs = self.active.iter();
        runs.find(|seen| seen.folder.run.to_string() == active.run)
    }
}

/// The overview as one line of JSON. It does not contain the current time, so it changes only when something happens.
fn to_json(overview: &Overview) -> String {
    let record = overview.record.as_ref();
    let active = record.into_iter().flat_map(|record| &record.active);
    let active = active.map(|active| {
        let mut value = json!(active);
        if let Some(seen) = overview.seen(active) {
            value["role"] = json!(seen.role);
            value["title"] = json!(seen.title);
            value["repo"] = json!(seen.repo);
            value["claimedAt"] = json!(rfc3339(seen.claimed_at));
        }
        value
    });
    let status = json!({
        "running": overview.is_running,
        "stateDir": overview.state_dir,
        "daemon": record.map(|record| &record.daemon),
        "active": active.collect::<Vec<_>>(),
        "results": overview.results.iter().map(of_result).collect::<Vec<_>>(),
    });
    escaped(&status.to_string()) + "\n"
}

fn of_result((seen, entry): &(Seen, Entry)) -> Value {
    let outcome = &entry.outcome;
    let failure = outcome.failure.as_ref();
    let exit_code = match outcome.exit {
        Some(Exit::Code(code)) => Some(code),
        _ => None,
    };
    json!({
        "ticketId": entry.id,
        "run": entry.run.to_string(),
        "attempt": entry.attempt,
        "role": seen.role,
        "title": seen.title,
        "repo": seen.repo,
        "ok": failure.is_none(),
        "code": failure.map(|failure| failure.code),
        "error": failure.map(|failure| &failure.error),
        "exitCode": exit_code,
        "endedAt": seen.ended_at().map(rfc3339),
        "durationMs": outcome.span.map(|span| millis_of(span.duration)),
        "diffStat": outcome.changes.stat,
        "pullRequest": outcome.pull_request,
        "delivered": seen.is_delivered(),
    })
}
