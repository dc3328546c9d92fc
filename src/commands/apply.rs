//! `wf0-agent apply`: applies the changes that a ticket made in its clone to the developer's checkout, by `git apply`.
//!
//! The command only reads the state folder, so a daemon may be running. git checks the whole patch before it writes.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};

use super::past::{TicketRun, ticket, with_run};
use super::print;
use crate::config::canonicalize;
use crate::domain::text::for_terminal;
use crate::job::{Git, GitDirs, Halt};
use crate::store::inspect::Seen;
use crate::store::journal::PATCH;

pub fn command() -> Command {
    Command::new("apply")
        .about("Applies the changes of a ticket to your checkout")
        .long_about(
            "Applies the changes that a ticket made in its clone to your checkout, or to CHECKOUT, by `git apply`. If \
             not all changes apply, git changes nothing. Needs only STATE_DIR. A daemon may be running.",
        )
        .arg(ticket())
        .arg(
            Arg::new("CHECKOUT")
                .help("The folder to change; default: the repository of the ticket")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::DirPath),
        )
}

pub fn run(matches: &ArgMatches) -> u8 {
    let checkout = matches.get_one::<PathBuf>("CHECKOUT").cloned();
    // Prefers a run that started: a newer run that never started has no changes.
    with_run(matches, Seen::has_started, |past| {
        print(&format!("{}\n", apply(&past, checkout)?));
        Ok(())
    })
}

fn apply(past: &TicketRun, checkout: Option<PathBuf>) -> Result<String, String> {
    let (seen, ticket) = (&past.seen, &past.seen.ticket);
    let entry = past.outcome()?;
    let outcome = &entry
        .ok_or_else(|| format!("{ticket} has not ended yet"))?
        .outcome;
    let failed = outcome.failure.as_ref().map(|failure| &failure.error);
    let Some(started) = seen.started().map_err(|e| past.unreadable(&e))? else {
        let why = failed.map(String::as_str).unwrap_or_default();
        return Err(format!("{ticket} never ran: {why}"));
    };
    if started.clone.is_none() && checkout.is_none() {
        let repo = seen.repo.display();
        return Ok(format!(
            "{ticket} ran directly in {repo}, so its changes are already there"
        ));
    }
    let patch = seen.path(PATCH);
    match fs::metadata(&patch) {
        Ok(found) if found.len() == 0 => return Ok(format!("{ticket} changed nothing")),
        Ok(_) => {}
        Err(_) => {
            let why = outcome.warnings.join("; ");
            return Err(format!("{ticket} has no diff: {why}"));
        }
    }
    let folder = checkout.unwrap_or_else(|| seen.repo.clone());
    let folder = canonicalize(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let dirs = GitDirs::find(&folder)
        .ok_or_else(|| format!("{} is not in a git repository", folder.display()))?;
    let top = dirs.top.display();
    // git runs at the root of the work tree. In a subfolder it would skip all changes outside that subfolder.
    let git = Git::discovering(&past.environment, &dirs.top).map_err(|e| e.to_string())?;
    if let Err(complaints) = git_apply(&git, &patch, &["--check"])? {
        if git_apply(&git, &patch, &["--check", "--reverse"])?.is_ok() {
            return Ok(format!("the changes of {ticket} are already in {top}"));
        }
        let base = outcome.changes.base_commit.as_deref();
        let base = base.unwrap_or("no commit");
        return Err(format!(
            "{ticket} does not apply cleanly to {top}; nothing was changed:\n{complaints}\n\
             base of the run: {base}; compare this with your checkout\n\
             to merge by hand: git -C {top} apply --3way {}",
            patch.display()
        ));
    }
    let stat = git_apply(&git, &patch, &["--apply", "--stat"])?.map_err(|complaints| {
        format!("git failed in the middle of {ticket}; git status in {top} shows what has changed:\n{complaints}")
    })?;
    let mut report = format!("applied {ticket} to {top} (not committed):\n{stat}");
    if let Some(error) = failed {
        report += &format!("\nThe run itself failed: {error}");
    }
    // They tell what is not in the patch.
    for warning in &outcome.warnings {
        report += &format!("\nThe run warned: {warning}");
    }
    Ok(report)
}

/// Runs `git apply`. The inner result is its output or its complaints. The outer error: git did not run to its end.
fn git_apply(git: &Git, patch: &Path, options: &[&str]) -> Result<Result<String, String>, String> {
    // These options override the user's whitespace settings, which could change what the patch does.
    let fixed = ["apply", "--whitespace=nowarn", "--no-ignore-whitespace"];
    let words = fixed.iter().chain(options).map(OsStr::new);
    let words: Vec<&OsStr> = words.chain([OsStr::new("--"), patch.as_os_str()]).collect();
    let call = git.start(&words, None, None);
    let output = call.and_then(|call| call.finish_any(&Halt::never()));
    let output = output.map_err(|e| e.to_string())?;
    // With `core.quotePath=false` git prints the names of files as they are.
    let lines = |text: &str| {
        text.trim_end()
            .lines()
            .map(for_terminal)
            .collect::<Vec<_>>()
    };
    Ok(match output.code {
        0 => Ok(lines(&output.stdout).join("\n")),
        _ => Err(lines(&output.stderr).join("\n")),
    })
}
