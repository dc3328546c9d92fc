//! The status for people.

use std::path::Path;
use std::time::SystemTime;

use super::{Ended, Sight};
use crate::commands::style::{Colour, clock, span};
use crate::domain::text::{for_terminal, one_line};
use crate::store::inspect::Seen;
use crate::store::status::{ActiveRecord, StatusRecord};
use crate::times::from_millis;

const TEXT_MAX: usize = 100;

pub fn of(sight: &Sight, now: SystemTime, colours: bool) -> String {
    let page = Page { now, colours };
    let mut lines = match &sight.told {
        Some(told) if sight.is_running => page.daemon(told),
        _ if sight.is_running => vec!["a daemon is starting".to_owned()],
        told => vec![page.no_daemon(told.as_ref(), &sight.state_dir)],
    };
    let active = sight
        .told
        .as_ref()
        .filter(|_| sight.is_running)
        .map(|told| told.active.as_slice());
    let active = active.unwrap_or_default();
    if !active.is_empty() {
        lines.push(String::new());
        lines.extend(active.iter().map(|active| page.active(active, sight)));
    }
    let waiting = sight
        .active
        .iter()
        .filter(|seen| !seen.has_started())
        .count();
    if !sight.is_running && waiting > 0 {
        lines.push(format!("  waiting for the next start: {waiting}"));
    }
    if !sight.ended.is_empty() {
        lines.push(format!("\n{}", Colour::Dim.paint("last results", colours)));
        lines.extend(sight.ended.iter().map(|result| page.result(result)));
    }
    lines.join("\n") + "\n"
}

struct Page {
    now: SystemTime,
    colours: bool,
}

impl Page {
    fn paint(&self, colour: Colour, text: &str) -> String {
        colour.paint(text, self.colours)
    }

    fn ago(&self, at: SystemTime) -> String {
        span(self.now.duration_since(at).unwrap_or_default())
    }

    fn daemon(&self, told: &StatusRecord) -> Vec<String> {
        let since = self.ago(from_millis(told.since_ms));
        let link = match (told.connected, &told.why) {
            (true, _) => {
                format!(
                    "{} connected to {} ({}) for {since}",
                    self.paint(Colour::Green, "●"),
                    told.daemon.backend,
                    told.dialect
                )
            }
            (false, Some(why)) => {
                let why = one_line(&for_terminal(why), TEXT_MAX);
                format!(
                    "{} not connected to {} for {since}: {why}",
                    self.paint(Colour::Yellow, "○"),
                    told.daemon.backend
                )
            }
            (false, None) => format!(
                "{} connecting to {}",
                self.paint(Colour::Yellow, "○"),
                told.daemon.backend
            ),
        };
        let daemon = &told.daemon;
        let up = self.ago(from_millis(daemon.started_at_ms));
        let who = format!(
            "  {} · wf0-agent {} · pid {} · up {up}",
            daemon.name, daemon.version, daemon.pid
        );
        let cli = told
            .cli
            .version
            .as_ref()
            .map_or(told.cli.name.clone(), |v| format!("{} {v}", told.cli.name));
        let cli = match told.cli.unavailable.as_deref() {
            None => cli,
            Some("quota_exceeded") => {
                let until = told
                    .cli
                    .quota_until_ms
                    .map(|until| format!(", tried again at {}", clock(from_millis(until))));
                let until = until.unwrap_or_default();
                self.paint(
                    Colour::Yellow,
                    &format!("{cli}: its quota is used up{until}"),
                )
            }
            Some(_) => self.paint(Colour::Red, &format!("{cli}: not found")),
        };
        let slots = format!("{} of {} slots free", told.slots.free, told.slots.max);
        let mut state = format!("  {} · {slots} · {cli}", told.status);
        if told.undelivered > 0 {
            state += &format!(" · to deliver: {}", told.undelivered);
        }
        vec![link, self.paint(Colour::Dim, &who), state]
    }

    fn no_daemon(&self, told: Option<&StatusRecord>, state_dir: &Path) -> String {
        let last = told.map(|told| {
            format!(
                "; the last sign of one is {} old",
                self.ago(from_millis(told.written_at_ms))
            )
        });
        let sign = self.paint(Colour::Yellow, "○");
        format!(
            "{sign} no daemon is running with {}{}",
            state_dir.display(),
            last.unwrap_or_default()
        )
    }

    fn active(&self, active: &ActiveRecord, sight: &Sight) -> String {
        let seen = sight
            .active
            .iter()
            .find(|seen| seen.run.to_string() == active.run);
        let what = match (active.started_at_ms, &active.progress) {
            (None, _) => "waiting".to_owned(),
            (Some(since), None) => self.ago(from_millis(since)),
            (Some(since), Some(progress)) => {
                let says = one_line(&for_terminal(&progress.says), TEXT_MAX);
                format!(
                    "{}  {}",
                    self.ago(from_millis(since)),
                    self.paint(Colour::Dim, &says)
                )
            }
        };
        let sign = self.paint(Colour::Bold, "▸");
        let about = self.about(&active.ticket, active.attempt, seen.map(|seen| &**seen));
        format!("{sign} {about}  {what}")
    }

    fn result(&self, result: &Ended) -> String {
        let outcome = &result.entry.outcome;
        let sign = match &outcome.failure {
            None => self.paint(Colour::Green, "✓"),
            Some(_) => self.paint(Colour::Red, "✗"),
        };
        let about = self.about(
            result.entry.id.as_str(),
            result.entry.attempt,
            Some(&result.seen),
        );
        let mut facts = Vec::new();
        facts.extend(
            outcome
                .failure
                .as_ref()
                .map(|failure| failure.code.as_str().to_owned()),
        );
        facts.extend(outcome.span.map(|took| span(took.duration)));
        facts.extend(outcome.changes.stat.map(|stat| stat.to_string()));
        facts.extend((!result.is_delivered).then(|| "not delivered yet".to_owned()));
        let ago = self.paint(Colour::Dim, &format!("{} ago", self.ago(result.at)));
        format!("{sign} {about}  {}  {ago}", facts.join(", "))
    }

    /// Which ticket, of which role, where.
    fn about(&self, ticket: &str, attempt: u32, seen: Option<&Seen>) -> String {
        let again = if attempt > 1 {
            format!(" (attempt {attempt})")
        } else {
            String::new()
        };
        let folder = seen
            .and_then(|seen| seen.repo.file_name())
            .unwrap_or_default()
            .to_string_lossy();
        let role = seen.map(|seen| seen.role.as_str()).unwrap_or_default();
        format!(
            "{}{again}  {role}  {folder}",
            self.paint(Colour::Bold, ticket)
        )
    }
}
