//! Finds a run in the state folder: the first step of `apply`, `show` and `logs`.
//!
//! This module only reads the folder, so a daemon may be running.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches};

use super::{exit, fail, given};
use crate::config::{Config, Given, Sources};
use crate::domain::outbox::Entry;
use crate::domain::text::one_line;
use crate::environment::Environment;
use crate::store::inspect::{Condition, Seen, look_at, look_into};

/// The number of tickets that the error names if the wanted ticket does not exist.
const NEWEST: usize = 5;

/// The run that a command is about.
pub struct TicketRun {
    pub seen: Seen,
    pub environment: Environment,
    state_dir: PathBuf,
}

impl TicketRun {
    /// `None`: the run has not ended.
    pub fn outcome(&self) -> Result<Option<Entry>, String> {
        self.seen.outcome().map_err(|e| self.unreadable(&e))
    }

    pub fn has_daemon(&self) -> bool {
        matches!(look_at(&self.state_dir), Ok(Condition::InUse))
    }

    pub fn unreadable(&self, e: &io::Error) -> String {
        let (ticket, run) = (&self.seen.ticket, self.seen.folder.run);
        format!("{ticket}: the files of run {run} cannot be read: {e}")
    }
}

pub fn ticket() -> Arg {
    Arg::new("TICKET")
        .help("The id of a ticket, or of one of its runs")
        .required(true)
}

pub fn any_run(_: &Seen) -> bool {
    true
}

/// Runs `command` with the newest run of the ticket. If the ticket has `preferred` runs, takes the newest of these. The
/// operand can also be the id of a run.
pub fn with_run(
    matches: &ArgMatches,
    preferred: fn(&Seen) -> bool,
    command: impl FnOnce(TicketRun) -> Result<(), String>,
) -> u8 {
    let environment = Environment::of_process();
    let ticket = matches.get_one::<String>("TICKET").map(String::as_str);
    let runs = state_dir(given(matches), &environment).and_then(|state_dir| {
        let runs = look_into(&state_dir)
            .map_err(|e| format!("STATE_DIR: {} holds no tickets: {e}", state_dir.display()));
        Ok((runs?, state_dir))
    });
    let (runs, state_dir) = match runs {
        Ok(found) => found,
        Err(why) => return fail(&why, exit::CONFIG),
    };
    let seen = find(ticket.unwrap_or_default(), runs, preferred, &state_dir);
    let past = |seen| TicketRun {
        seen,
        environment,
        state_dir,
    };
    match seen.map(past).and_then(command) {
        Ok(()) => exit::OK,
        Err(why) => fail(&why, exit::FAILED),
    }
}

/// The daemon's state folder. The error says what is wrong with the settings.
pub fn state_dir(given: Given, environment: &Environment) -> Result<PathBuf, String> {
    let sources = Sources::collect(given, environment.clone())?;
    Config::load_state_dir(&sources).map_err(|e| e.to_string())
}

fn find(
    ticket: &str,
    mut runs: Vec<Seen>,
    preferred: fn(&Seen) -> bool,
    state_dir: &Path,
) -> Result<Seen, String> {
    let is_ticket = |seen: &Seen| seen.ticket.as_str() == ticket;
    let found = runs
        .iter()
        .position(|seen| is_ticket(seen) && preferred(seen))
        .or_else(|| runs.iter().position(is_ticket))
        .or_else(|| {
            runs.iter()
                .position(|seen| seen.folder.run.to_string() == ticket)
        });
    if let Some(at) = found {
        return Ok(runs.swap_remove(at));
    }
    let mut newest: Vec<_> = runs.iter().map(|seen| seen.ticket.as_str()).collect();
    newest.dedup();
    newest.truncate(NEWEST);
    let newest = match newest.is_empty() {
        true => format!("{} has no tickets", state_dir.display()),
        false => format!("newest: {}", newest.join(", ")),
    };
    Err(format!("no ticket {:?} ({newest})", one_line(ticket, 128)))
}
