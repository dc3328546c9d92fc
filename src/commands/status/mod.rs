//! `wf0-agent status`: what the daemon is doing and what it did last, from the files in its state folder.

mod json;
mod text;

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use super::line::Request;
use super::past::state_dir;
use super::style::{knows_colours, now};
use super::{exit, print};
use crate::domain::outbox::Entry;
use crate::environment::Environment;
use crate::store::journal::{Seen, look_into};
use crate::store::status::{self, StatusRecord};
use crate::store::{Condition, look_at};

/// So many results are shown.
const RESULTS: usize = 20;
/// Nobody tells of a file that changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// All that there is to see.
struct Sight {
    state_dir: PathBuf,
    is_running: bool,
    /// `None`: no daemon has told anything yet.
    told: Option<StatusRecord>,
    /// The claimed tickets that have not ended, the newest first.
    active: Vec<Seen>,
    /// The newest first.
    results: Vec<Result>,
}

struct Result {
    seen: Seen,
    entry: Entry,
    is_delivered: bool,
}

pub fn run(request: Request) -> u8 {
    let environment = Environment::of_process();
    let (is_json, is_watched) = (request.has("json"), request.has("watch"));
    let state_dir = match state_dir(request.settings, &environment) {
        Ok(state_dir) => state_dir,
        Err(why) => {
            eprintln!("wf0-agent: {why}");
            return exit::CONFIG;
        }
    };
    let is_terminal = io::stdout().is_terminal();
    let colours = is_terminal && knows_colours(&environment);
    let mut looker = Looker { state_dir, outcomes: HashMap::new() };
    let mut show = || match looker.look() {
        Ok(sight) if is_json => Ok((json::of(&sight), sight.is_running)),
        Ok(sight) => Ok((text::of(&sight, now(), colours), sight.is_running)),
        Err(e) => Err(format!("STATE_DIR: {}: {e}", looker.state_dir.display())),
    };
    let mut shown = String::new();
    loop {
        let (text, is_running) = match show() {
            Ok(found) => found,
            Err(why) => {
                eprintln!("wf0-agent: {why}");
                return exit::CONFIG;
            }
        };
        if !is_watched {
            print(&text);
            return if is_running { exit::OK } else { exit::FAILED };
        }
        if text != shown {
            // Home, the text, and nothing below it (ECMA-48 section 8.3); elsewhere one after the other.
            let is_page = is_terminal && !is_json;
            let page = if is_page { format!("\x1b[H\x1b[2J{text}") } else { text.clone() };
            if io::stdout().write_all(page.as_bytes()).and_then(|()| io::stdout().flush()).is_err() {
                return exit::OK;
            }
            shown = text;
        }
        thread::sleep(LOOK_EVERY);
    }
}

struct Looker {
    state_dir: PathBuf,
    /// Outcomes are large and do not change.
    outcomes: HashMap<u128, Entry>,
}

impl Looker {
    fn look(&mut self) -> io::Result<Sight> {
        let is_running = match look_at(&self.state_dir) {
            Ok(condition) => condition == Condition::InUse,
            Err(e) => return Err(io::Error::other(e.to_string())),
        };
        let told = status::read(&self.state_dir)?;
        let (mut active, mut results) = (Vec::new(), Vec::new());
        for seen in runs(&self.state_dir)? {
            match self.outcome(&seen) {
                Some(entry) if results.len() < RESULTS => {
                    let is_delivered = seen.is_delivered();
                    results.push(Result { entry, is_delivered, seen });
                }
                Some(_) => break,
                None => active.push(seen),
            }
        }
        let shown: Vec<_> = results.iter().map(|result| result.seen.run.0).collect();
        self.outcomes.retain(|run, _| shown.contains(run));
        results.sort_by_key(|result| std::cmp::Reverse(ended_at(result)));
        Ok(Sight { state_dir: self.state_dir.clone(), is_running, told, active, results })
    }

    /// Without what was printed and the diff, which nobody asks for here.
    fn outcome(&mut self, seen: &Seen) -> Option<Entry> {
        if let Some(known) = self.outcomes.get(&seen.run.0) {
            return Some(known.clone());
        }
        let mut entry = seen.outcome().ok().flatten()?;
        let outcome = std::sync::Arc::make_mut(&mut entry.outcome);
        outcome.stdout = Default::default();
        outcome.changes.diff = None;
        self.outcomes.insert(seen.run.0, entry.clone());
        Some(entry)
    }
}

/// The newest first. Before the first ticket there is no folder of them.
fn runs(state_dir: &Path) -> io::Result<Vec<Seen>> {
    match look_into(state_dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        runs => runs,
    }
}

/// One that never ran ended about when it was claimed.
fn ended_at(result: &Result) -> SystemTime {
    result.entry.outcome.span.map_or(result.seen.claimed_at, |span| span.finished_at)
}
