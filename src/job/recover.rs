//! Recovers a run that was cut off because the daemon died: ends its processes, and makes an outcome from what it left.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use super::capture::Capture;
use super::cli::output::CliOutput;
use super::diff::Snapshot;
use super::process::{self, Feed, Halt};
use super::run::Context;
use super::scratch::RunGit;
use super::workspace;
use crate::domain::outbox::Entry;
use crate::domain::ticket::{FailCode, Failure, Job, Outcome, Span};
use crate::store::journal::{RunFolder, Started};
use crate::times::from_millis;

/// The time limit for each git command.
const GIT_LIMIT: Duration = Duration::from_secs(5);

/// Ends the processes of the run and returns its outcome. `is_allowed`: the settings still list the repository. If they
/// do not, there is no diff.
pub fn recover(job: &Job, started: &Started, is_allowed: bool, context: &Context) -> Entry {
    let why = "the agent died while the ticket ran";
    let mut outcome = Outcome {
        failure: Some(Failure::new(FailCode::AgentRestarted, why)),
        ..Outcome::default()
    };
    let (environment, grace) = (&context.environment, context.grace);
    let survivors = process::end_marked(environment.mark_of(job.run), grace)
        + process::end_marked(environment.mark_of_git(job.run), grace);
    if survivors > 0 {
        outcome.warn(format!(
            "{survivors} processes of the run could not be ended"
        ));
    }
    if !cfg!(any(target_os = "linux", windows)) {
        outcome.warn("this system does not tell whether processes of the run are still there");
    }
    match context.store.run_folder(job.run) {
        Ok(folder) => {
            if let Err(e) = read_stdout(job, started, context, &folder, &mut outcome) {
                outcome.warn(format!("its output cannot be read: {e}"));
            }
            if is_allowed {
                take_diff(job, started, context, &folder, &mut outcome);
            } else {
                outcome.warn("no diff: the repository is no longer among REPO_PATHS");
            }
        }
        Err(e) => outcome.warn(format!("what the run left cannot be read: {e}")),
    }
    Entry {
        run: job.run,
        id: job.ticket.id.clone(),
        attempt: job.ticket.attempt,
        outcome: Arc::new(outcome.bounded()),
    }
}

/// Reads the output as far as it came. The last write to it counts as the end of the run.
fn read_stdout(
    job: &Job,
    started: &Started,
    context: &Context,
    folder: &RunFolder,
    outcome: &mut Outcome,
) -> io::Result<()> {
    let mut file = File::open(folder.path("stdout.log"))?;
    let last_written = file.metadata()?.modified()?;
    let max = context.limits.stdout_bytes;
    let mut stdout = CliOutput::new(Capture::new(max, None), &job.repo.path);
    let mut chunk = vec![0; 64 << 10];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => stdout.feed(&chunk[..n]),
        }
    }
    stdout.finish();
    stdout.tell(outcome, max);
    let started_at = from_millis(started.at_ms);
    let duration = last_written.duration_since(started_at).unwrap_or_default();
    outcome.span = Some(Span {
        started_at,
        finished_at: started_at + duration,
        duration,
    });
    Ok(())
}

fn take_diff(
    job: &Job,
    started: &Started,
    context: &Context,
    folder: &RunFolder,
    outcome: &mut Outcome,
) {
    let warnings = &mut outcome.warnings;
    let clone = folder.clone_path();
    let worked_in = started.clone.as_ref().map(|within| clone.join(within));
    if clone.exists() && (worked_in.is_none() || !clone.join(".git").exists()) {
        // Either no record says where in the clone the run worked, or the clone is no longer a repository. A diff would
        // then be of another repository.
        warnings.push(format!("no diff: {}", workspace::only_in(folder)));
        return;
    }
    let halt = Halt::never();
    let at = RunGit {
        environment: &context.environment,
        run: job.run,
        folder,
        halt: &halt,
    };
    let base = started.base_commit.clone();
    let repo = &job.repo.path;
    let max = context.limits.diff_bytes;
    // The daemon connects only after this, so git gets little time.
    let changes =
        Snapshot::reopen(at, worked_in.as_ref().unwrap_or(repo), base).and_then(|snapshot| {
            let snapshot = snapshot.map(|snapshot| snapshot.within(GIT_LIMIT, &halt));
            let changes = snapshot.map(|snapshot| snapshot.changes(max, warnings));
            changes.transpose()
        });
    match changes {
        Ok(Some(changes)) => outcome.changes = changes,
        Ok(None) => {
            warnings.push("no diff: there is no snapshot of the time before the run".to_owned())
        }
        Err(e) => warnings.push(format!("no diff: {e}")),
    }
    if worked_in.is_some() && outcome.changes.stat.is_none() {
        warnings.push(workspace::only_in(folder));
    }
}
