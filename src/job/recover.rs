//! A run that was cut off because the daemon died: its processes are ended, and what it left is its outcome.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::capture::Capture;
use super::cli::reading::Reading;
use super::diff::Snapshot;
use super::halt::Halt;
use super::output::Output;
use super::process;
use super::worker::Context;
use super::workspace;
use crate::domain::outbox::Entry;
use crate::domain::ticket::{FailCode, Failure, Job, Outcome, Span};
use crate::store::RunFolder;
use crate::store::journal::Started;
use crate::times::from_millis;

/// For each git command.
const GIT_LIMIT: Duration = Duration::from_secs(5);

/// Ends what is left of the run and tells what became of it.
/// The diff is left out where the repository is no longer allowed.
pub fn recover(job: &Job, started: &Started, is_allowed: bool, context: &Context) -> Entry {
    let mut outcome = Outcome {
        failure: Some(Failure::new(
            FailCode::AgentRestarted,
            "the agent died while the ticket ran",
        )),
        ..Outcome::default()
    };
    let marks = [
        context.environment.mark_of(job.run),
        context.environment.mark_of_git(job.run),
    ];
    let survivors: usize = marks
        .into_iter()
        .map(|mark| process::end_marked(mark, context.grace))
        .sum();
    if survivors > 0 {
        outcome.warnings.push(format!(
            "{survivors} processes of the run could not be ended"
        ));
    }
    if !cfg!(any(target_os = "linux", windows)) {
        outcome.warnings.push(
            "this system does not tell whether processes of the run are still there".to_owned(),
        );
    }
    match context.store.run_folder(job.run) {
        Ok(folder) => collect(job, started, is_allowed, context, &folder, &mut outcome),
        Err(e) => outcome
            .warnings
            .push(format!("what the run left cannot be read: {e}")),
    }
    Entry {
        run: job.run,
        id: job.ticket.id.clone(),
        attempt: job.ticket.attempt,
        outcome: Arc::new(outcome.bounded()),
    }
}

fn collect(
    job: &Job,
    started: &Started,
    is_allowed: bool,
    context: &Context,
    folder: &RunFolder,
    outcome: &mut Outcome,
) {
    let max = context.limits.stdout_bytes;
    let stdout = Output::read(Capture::new(max, None), Reading::new(&job.repo.path));
    match read_back(folder, stdout) {
        Ok((mut stdout, last_written)) => {
            outcome.stdout = stdout.message(max);
            outcome.usage = stdout.usage();
            outcome.warnings.extend(stdout.warnings());
            let started_at = from_millis(started.at_ms);
            let duration = last_written
                .duration_since(started_at)
                .unwrap_or(Duration::ZERO);
            outcome.span = Some(Span {
                started_at,
                finished_at: started_at + duration,
                duration,
            });
        }
        Err(e) => outcome
            .warnings
            .push(format!("its output cannot be read: {e}")),
    }
    if !is_allowed {
        return outcome
            .warnings
            .push("no diff: the repository is no longer among REPO_PATHS".to_owned());
    }
    let halt = Halt::never();
    let base = started.base_commit.clone();
    let clone = started
        .clone
        .as_ref()
        .map(|within| folder.clone_path().join(within));
    if folder.clone_path().exists()
        && (clone.is_none() || !folder.clone_path().join(".git").exists())
    {
        // Where it worked is not known for lack of its record, or is no repository any more: another would be looked at.
        return outcome
            .warnings
            .push(format!("no diff: {}", workspace::only_in(folder)));
    }
    let worked_in = clone.as_ref().unwrap_or(&job.repo.path);
    let snapshot = Snapshot::reopen(
        &context.environment,
        job.run,
        worked_in,
        folder,
        base,
        &halt,
    );
    let changes = snapshot.and_then(|snapshot| {
        // The daemon connects only afterwards.
        let snapshot = snapshot.map(|snapshot| snapshot.within(GIT_LIMIT));
        snapshot
            .map(|s| s.changes(context.limits.diff_bytes, &halt, &mut outcome.warnings))
            .transpose()
    });
    // A branch begins elsewhere.
    if clone.is_some() && job.ticket.branch.is_none() {
        let base = started.base_commit.as_deref();
        outcome.warnings.extend(workspace::head_moved(
            &context.environment,
            &job.repo.path,
            base,
            GIT_LIMIT,
        ));
    }
    match changes {
        Ok(Some(changes)) => outcome.changes = changes,
        Ok(None) => outcome
            .warnings
            .push("no diff: there is no snapshot of the time before the run".to_owned()),
        Err(e) => outcome.warnings.push(format!("no diff: {e}")),
    }
    if clone.is_some() && outcome.changes.stat.is_none() {
        outcome.warnings.push(workspace::only_in(folder));
    }
}

/// The output as far as it came, and when the last of it was written.
fn read_back(folder: &RunFolder, mut output: Output) -> io::Result<(Output, SystemTime)> {
    let mut file = std::fs::File::open(folder.path("stdout.log"))?;
    let last_written = file.metadata()?.modified()?;
    let mut chunk = vec![0; 64 << 10];
    loop {
        match file.read(&mut chunk)? {
            0 => {
                output.finish();
                return Ok((output, last_written));
            }
            n => output.feed(&chunk[..n]),
        }
    }
}
