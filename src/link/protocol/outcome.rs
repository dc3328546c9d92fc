//! How a ticket ended, as both dialects carry it (docs/protocol.md section 3, `ticket.result` and `ticket.fail`).

use serde::Serialize;

use crate::domain::ticket::{Exit, Outcome, Span, Usage};
use crate::times::{millis_of, rfc3339};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeBody<'a> {
    exit_code: Option<i32>,
    #[serde(flatten)]
    failure: Option<FailureBody<'a>>,
    #[serde(flatten)]
    run: Option<RunBody<'a>>,
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pr_url: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FailureBody<'a> {
    code: &'static str,
    error: &'a str,
    signal: Option<i32>,
    retryable: bool,
}

/// What is only known of a ticket that was started.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunBody<'a> {
    stdout: String,
    stdout_truncated: bool,
    diff: Option<&'a str>,
    diff_truncated: bool,
    diff_stat: Option<DiffStatBody>,
    base_commit: Option<&'a str>,
    head_commit: Option<&'a str>,
    started_at: String,
    finished_at: String,
    duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UsageBody<'a> {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_read_tokens: Option<u64>,
    cost_usd: Option<f64>,
    turns: Option<u64>,
    session_id: Option<&'a str>,
}

#[derive(Serialize)]
struct DiffStatBody {
    files: u64,
    insertions: u64,
    deletions: u64,
}

pub fn outcome_body(outcome: &Outcome) -> OutcomeBody<'_> {
    let (exit_code, signal) = match outcome.exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    OutcomeBody {
        exit_code,
        failure: outcome.failure.as_ref().map(|failure| FailureBody {
            code: failure.code.as_str(),
            error: &failure.error,
            signal,
            retryable: failure.code.retryable(),
        }),
        run: outcome.span.map(|span| run_body(outcome, span)),
        warnings: &outcome.warnings,
        pr_url: outcome.pull_request.as_deref(),
    }
}

fn run_body(outcome: &Outcome, span: Span) -> RunBody<'_> {
    let changes = &outcome.changes;
    RunBody {
        stdout: outcome.stdout.render(),
        stdout_truncated: outcome.stdout.is_cut(),
        diff: changes.diff.as_deref(),
        diff_truncated: changes.diff_truncated,
        diff_stat: changes.stat.map(|stat| DiffStatBody {
            files: stat.files,
            insertions: stat.insertions,
            deletions: stat.deletions,
        }),
        base_commit: changes.base_commit.as_deref(),
        head_commit: changes.head_commit.as_deref(),
        started_at: rfc3339(span.started_at),
        finished_at: rfc3339(span.finished_at),
        duration_ms: millis_of(span.duration),
        usage: outcome.usage.as_ref().map(usage_body),
    }
}

#[expect(clippy::cast_precision_loss, reason = "no run costs so many dollars")]
fn usage_body(usage: &Usage) -> UsageBody<'_> {
    UsageBody {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cache_read_tokens: usage.cache_read_tokens,
        cost_usd: usage.cost_micros.map(|micros| micros as f64 / 1e6),
        turns: usage.turns,
        session_id: usage.session_id.as_deref(),
    }
}
