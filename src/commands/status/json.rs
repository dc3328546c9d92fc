//! The status for programs. Names are those of the protocol where it has one; times are RFC 3339, UTC.

use serde_json::{Value, json};

use super::{Ended, Sight};
use crate::domain::text::escaped;
use crate::domain::ticket::Exit;
use crate::store::status::ActiveRecord;
use crate::times::{from_millis, millis_of, rfc3339};

/// One line. Nothing in it depends on the time of now, so that it changes only with what it tells.
pub fn of(sight: &Sight) -> String {
    let told = sight.told.as_ref().filter(|_| sight.is_running);
    let daemon = told.map(|told| {
        json!({
            "name": told.daemon.name,
            "version": told.daemon.version,
            "pid": told.daemon.pid,
            "startedAt": at(told.daemon.started_at_ms),
            "backend": told.daemon.backend,
            "connected": told.connected,
            "since": at(told.since_ms),
            "why": told.why,
            "dialect": told.dialect,
            "status": told.status,
            "cli": {
                "name": told.cli.name,
                "version": told.cli.version,
                "unavailable": told.cli.unavailable,
                "quotaUntil": told.cli.quota_until_ms.map(at),
            },
            "capacity": { "max": told.slots.max, "free": told.slots.free },
            "undelivered": told.undelivered,
        })
    });
    let active = told.map(|told| told.active.as_slice()).unwrap_or_default();
    let status = json!({
        "running": sight.is_running,
        "stateDir": sight.state_dir,
        "daemon": daemon,
        "active": active.iter().map(|active| of_active(active, sight)).collect::<Vec<_>>(),
        "results": sight.ended.iter().map(of_result).collect::<Vec<_>>(),
    });
    escaped(&status.to_string()) + "\n"
}

fn of_active(active: &ActiveRecord, sight: &Sight) -> Value {
    let seen = sight
        .active
        .iter()
        .find(|seen| seen.run.to_string() == active.run);
    json!({
        "ticketId": active.ticket,
        "run": active.run,
        "attempt": active.attempt,
        "role": seen.map(|seen| &seen.role),
        "title": seen.and_then(|seen| seen.title.as_ref()),
        "repo": seen.map(|seen| &seen.repo),
        "claimedAt": seen.map(|seen| rfc3339(seen.claimed_at)),
        "startedAt": active.started_at_ms.map(at),
        "progress": active.progress.as_ref().map(|progress| json!({
            "phase": progress.phase,
            "elapsedMs": progress.elapsed_ms,
            "stdoutBytes": progress.stdout_bytes,
            "says": progress.says,
        })),
    })
}

fn of_result(result: &Ended) -> Value {
    let outcome = &result.entry.outcome;
    let failure = outcome.failure.as_ref();
    json!({
        "ticketId": result.entry.id.as_str(),
        "run": result.entry.run.to_string(),
        "attempt": result.entry.attempt,
        "role": result.seen.role,
        "title": result.seen.title,
        "repo": result.seen.repo,
        "ok": failure.is_none(),
        "code": failure.map(|failure| failure.code.as_str()),
        "error": failure.map(|failure| &failure.error),
        "exitCode": outcome.exit.and_then(|exit| match exit {
            Exit::Code(code) => Some(code),
            Exit::Signal(_) => None,
        }),
        "endedAt": rfc3339(result.at),
        "durationMs": outcome.span.map(|span| millis_of(span.duration)),
        "diffStat": outcome.changes.stat.map(|stat| json!({
            "files": stat.files, "insertions": stat.insertions, "deletions": stat.deletions,
        })),
        "pullRequest": outcome.pull_request,
        "delivered": result.is_delivered,
    })
}

fn at(millis: u64) -> String {
    rfc3339(from_millis(millis))
}
