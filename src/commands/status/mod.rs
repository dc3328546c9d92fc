//! `wf0-agent status`: what the daemon is doing and what it did last, from the files in its state folder.

mod json;
mod text;

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use clap::{ArgMatches, Command};

use super::past::state_dir;
use super::style::{knows_colours, knows_sequences, now};
use super::{exit, flag, given, json as json_flag, print};
use crate::domain::outbox::Entry;
use crate::domain::text::Excerpt;
use crate::domain::ticket::RunId;
use crate::environment::Environment;
use crate::store::inspect::{Seen, is_in_use, runs_in};
use crate::store::status::{self, StatusRecord};

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
    /// The claimed tickets that have not ended.
    active: Vec<Rc<Seen>>,
    /// Those that ended last, the newest first.
    ended: Vec<Ended>,
}

struct Ended {
    seen: Rc<Seen>,
    entry: Rc<Entry>,
    at: SystemTime,
    is_delivered: bool,
}

pub fn command() -> Command {
    Command::new("status")
        .about("Shows whether the daemon runs and is connected, what it does, and its last results")
        .long_about(
            "Shows whether a daemon runs and is connected, its running tickets, the last results and the CLI's quota. \
             Needs only STATE_DIR.",
        )
        .arg(json_flag())
        .arg(flag("watch", "Show it again whenever something has changed, until Ctrl-C"))
}

pub fn run(matches: &ArgMatches) -> u8 {
    let environment = Environment::of_process();
    let (is_json, is_watched) = (matches.get_flag("json"), matches.get_flag("watch"));
    let state_dir = match state_dir(given(matches), &environment) {
        Ok(state_dir) => state_dir,
        Err(why) => {
            eprintln!("wf0-agent: {why}");
            return exit::CONFIG;
        }
    };
    let is_page = io::stdout().is_terminal() && knows_sequences(&environment) && !is_json;
    let colours = io::stdout().is_terminal() && knows_colours(&environment);
    let mut looker = Looker {
        state_dir,
        seen: HashMap::new(),
        outcomes: HashMap::new(),
    };
    let mut shown = String::new();
    loop {
        let sight = match looker.look() {
            Ok(sight) => sight,
            Err(e) => {
                eprintln!("wf0-agent: STATE_DIR: {}: {e}", looker.state_dir.display());
                return exit::CONFIG;
            }
        };
        let json = json::of(&sight);
        let text = if is_json {
            json.clone()
        } else {
            text::of(&sight, now(), colours)
        };
        if !is_watched {
            print(&text);
            return if sight.is_running {
                exit::OK
            } else {
                exit::FAILED
            };
        }
        // On a page the times go on; elsewhere only what is new is written.
        let told = if is_page { &text } else { &json };
        if *told != shown {
            let text = if is_page { page(&text) } else { text.clone() };
            if io::stdout()
                .write_all(text.as_bytes())
                .and_then(|()| io::stdout().flush())
                .is_err()
            {
                return exit::OK;
            }
            shown.clone_from(told);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Written over the one before, line by line, so that nothing flickers (ECMA-48: CUP, EL, ED).
fn page(text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}

/// Remembers what does not change: there may be thousands of runs.
struct Looker {
    state_dir: PathBuf,
    seen: HashMap<RunId, Rc<Seen>>,
    outcomes: HashMap<RunId, Rc<Entry>>,
}

impl Looker {
    fn look(&mut self) -> io::Result<Sight> {
        let is_running = is_in_use(&self.state_dir)?;
        // One that cannot be read is of a machine that lost its power.
        let told = status::read(&self.state_dir).ok().flatten();
        let runs = self.runs()?;
        let (ended, active): (Vec<_>, Vec<_>) = runs
            .into_iter()
            .map(|seen| (seen.ended_at(), seen))
            .partition(|(at, _)| at.is_some());
        let mut ended: Vec<_> = ended
            .into_iter()
            .filter_map(|(at, seen)| Some((at?, seen)))
            .collect();
        ended.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        ended.truncate(RESULTS);
        self.outcomes
            .retain(|run, _| ended.iter().any(|(_, seen)| seen.run == *run));
        let ended = ended.into_iter().filter_map(|(at, seen)| {
            Some(Ended {
                entry: self.outcome(&seen)?,
                is_delivered: seen.is_delivered(),
                at,
                seen,
            })
        });
        let ended = ended.collect();
        let active = active.into_iter().map(|(_, seen)| seen).collect();
        Ok(Sight {
            state_dir: self.state_dir.clone(),
            is_running,
            told,
            active,
            ended,
        })
    }

    /// Before the first ticket there is no folder of them.
    fn runs(&mut self) -> io::Result<Vec<Rc<Seen>>> {
        let runs = match runs_in(&self.state_dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            runs => runs?,
        };
        let mut before = std::mem::take(&mut self.seen);
        for run in &runs {
            let seen = before
                .remove(run)
                .or_else(|| Seen::of(&self.state_dir, *run).map(Rc::new));
            self.seen.extend(seen.map(|seen| (*run, seen)));
        }
        Ok(self.seen.values().cloned().collect())
    }

    /// Without what was printed and the diff, which nobody asks for here.
    fn outcome(&mut self, seen: &Seen) -> Option<Rc<Entry>> {
        if let Some(known) = self.outcomes.get(&seen.run) {
            return Some(known.clone());
        }
        let mut entry = seen.outcome().ok().flatten()?;
        let outcome = Arc::make_mut(&mut entry.outcome);
        outcome.stdout = Excerpt::default();
        outcome.changes.diff = None;
        let entry = Rc::new(entry);
        self.outcomes.insert(seen.run, entry.clone());
        Some(entry)
    }
}
