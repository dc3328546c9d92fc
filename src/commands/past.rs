//! What `apply`, `show` and `logs` begin with: the run that is meant, found in the state folder.
//!
//! The folder is only read, so a daemon may be at work in it.

use std::io;
use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::{exit, given};
use crate::config::{Config, Given, Sources};
use crate::domain::text::one_line;
use crate::environment::Environment;
use crate::store::inspect::{Seen, look_into};

/// So many tickets are named to whoever asks for one that is not there.
const NEWEST: usize = 5;

pub struct Past {
    pub seen: Seen,
    pub state_dir: PathBuf,
    pub environment: Environment,
}

/// Carries out a command about the newest run of that ticket, `rather` one of those, or about the run itself.
pub fn with_run(
    matches: &ArgMatches,
    rather: fn(&Seen) -> bool,
    command: impl FnOnce(Past) -> Result<(), String>,
) -> u8 {
    let environment = Environment::of_process();
    let ticket = matches
        .get_one::<String>("TICKET")
        .cloned()
        .unwrap_or_default();
    let runs = state_dir(given(matches), &environment).and_then(|state_dir| {
        let runs = look_into(&state_dir);
        let runs =
            runs.map_err(|e| format!("STATE_DIR: {} holds no tickets: {e}", state_dir.display()))?;
        Ok((state_dir, runs))
    });
    let (state_dir, runs) = match runs {
        Ok(found) => found,
        Err(why) => {
            eprintln!("wf0-agent: {why}");
            return exit::CONFIG;
        }
    };
    let done = find(&ticket, runs, rather, &state_dir).and_then(|seen| {
        command(Past {
            seen,
            state_dir,
            environment,
        })
    });
    match done {
        Ok(()) => exit::OK,
        Err(why) => {
            eprintln!("wf0-agent: {why}");
            exit::FAILED
        }
    }
}

/// Where the daemon's state is, or what is wrong with the setting.
pub fn state_dir(given: Given, environment: &Environment) -> Result<PathBuf, String> {
    let sources = Sources::collect(given, environment.clone()).map_err(|e| e.to_string())?;
    Config::load_state_dir(&sources).map_err(|e| e.to_string())
}

pub fn unreadable(seen: &Seen) -> impl Fn(io::Error) -> String {
    let (ticket, run) = (seen.ticket.clone(), seen.run);
    move |e| format!("ticket {ticket}: what is kept of run {run} cannot be read: {e}")
}

fn find(
    ticket: &str,
    mut runs: Vec<Seen>,
    rather: fn(&Seen) -> bool,
    state_dir: &Path,
) -> Result<Seen, String> {
    let of_ticket = |seen: &Seen| seen.ticket.as_str() == ticket;
    let wanted = runs.iter().position(|seen| of_ticket(seen) && rather(seen));
    let by_ticket = wanted.or_else(|| runs.iter().position(of_ticket));
    if let Some(at) =
        by_ticket.or_else(|| runs.iter().position(|seen| seen.run.to_string() == ticket))
    {
        return Ok(runs.swap_remove(at));
    }
    let mut newest: Vec<&str> = Vec::new();
    for seen in &runs {
        if newest.len() < NEWEST && !newest.contains(&seen.ticket.as_str()) {
            newest.push(seen.ticket.as_str());
        }
    }
    let newest = if newest.is_empty() {
        "there is none".to_owned()
    } else {
        newest.join(", ")
    };
    Err(format!(
        "no ticket {:?} in {}; the newest: {newest}",
        one_line(ticket, 128),
        state_dir.display()
    ))
}
