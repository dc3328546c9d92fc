//! What the end of a run means: whether it failed, why, and whether the subscription is used up.

use super::output::Output;
use super::process::{Cause, Ended};
use crate::domain::quota::{Exceeded, QuotaMessage};
use crate::domain::text::last_lines;
use crate::domain::ticket::{Exit, FailCode, Failure, Outcome};

/// How long the line may be that says why the CLI failed.
const ERROR_MAX: usize = 2000;

/// Why the run failed, if it did. A stop or a time limit is the reason whatever the CLI then exited with.
pub fn failure_of(
    ended: &Ended,
    stdout: &mut Output,
    stderr: &mut Output,
    quota: &QuotaMessage,
) -> Option<Failure> {
    match ended.cause {
        Cause::TimedOut => return Some(Failure::new(FailCode::Timeout, "timeout")),
        Cause::Stopped(reason) => return Some(reason.failure()),
        Cause::Exited => {}
    }
    let says_so = stdout.report().is_some_and(|report| report.has_failed());
    if ended.exit == Some(Exit::Code(0)) && !says_so {
        return None;
    }
    let stderr = stderr.bytes.excerpt().render();
    let (own, exceeded) = match stdout.report() {
        Some(report) => {
            let own = report
                .error()
                .and_then(|error| last_lines(ERROR_MAX, error));
            // Only where it speaks of itself: what its tools told may be a file about quotas.
            let words = report.error_in_full().unwrap_or_else(|| stderr.clone());
            let own = own
                .or_else(|| last_lines(ERROR_MAX, &stderr))
                .or_else(|| last_lines(ERROR_MAX, stdout.stray()));
            (own, report.rejected.or_else(|| quota.find(&words)))
        }
        None => {
            let stdout = stdout.bytes.excerpt().render();
            let own = last_lines(ERROR_MAX, &stderr).or_else(|| last_lines(ERROR_MAX, &stdout));
            (own, quota.find(&stderr).or_else(|| quota.find(&stdout)))
        }
    };
    let error = own.unwrap_or_else(|| match ended.exit {
        Some(Exit::Code(code)) => format!("exit code {code}, no output"),
        Some(Exit::Signal(signal)) => format!("ended by signal {signal}, no output"),
        None => "ended, and the system does not say how".to_owned(),
    });
    Some(match exceeded {
        Some(Exceeded { until }) => Failure {
            available_at: until,
            ..Failure::new(FailCode::QuotaExceeded, error)
        },
        None => Failure::new(FailCode::CliExit, error),
    })
}

/// What is odd about a run that went well. A program that is not known (`is_known`) may well have nothing to say.
pub fn oddity(outcome: &Outcome, stdout: &Output, is_known: bool) -> Option<String> {
    let changed_nothing = outcome.changes.stat.is_some_and(|stat| stat.files == 0);
    if is_known && changed_nothing && outcome.stdout.render().trim().is_empty() {
        return Some("the CLI ended well, but said nothing and changed nothing".to_owned());
    }
    let is_cut_off = stdout.report().is_some_and(|report| !report.is_final());
    is_cut_off.then(|| "the CLI ended well, but its output ends before its result".to_owned())
}
