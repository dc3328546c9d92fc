//! The status for people.

use std::time::SystemTime;

use super::{Finished, Overview};
use crate::commands::style::{Colour, clock};
use crate::domain::text::{for_terminal, one_line};
use crate::store::inspect::Seen;
use crate::store::status::{ActiveStatus, CliStatus, StatusRecord};
use crate::times::in_words;

const TEXT_MAX: usize = 100;

pub fn of(overview: &Overview, now: SystemTime, colours: bool) -> String {
    let page = Page { now, colours };
    let mut lines = match overview.current() {
        Some(record) => page.daemon(record),
        None if overview.is_running => vec!["a daemon is starting".to_owned()],
        None => vec![page.no_daemon(overview)],
    };
    if let Some(record) = overview
        .current()
        .filter(|record| !record.active.is_empty())
    {
        lines.push(String::new());
        let active = record.active.iter();
        lines.extend(active.map(|active| page.active(active, overview)));
    }
    let waiting = overview.active.iter().filter(|seen| !seen.has_started());
    let waiting = waiting.count();
    if !overview.is_running && waiting > 0 {
        lines.push(format!("  waiting for the next start: {waiting}"));
    }
    if !overview.results.is_empty() {
        lines.push(format!("\n{}", Colour::Dim.paint("last results", colours)));
        lines.extend(overview.results.iter().map(|result| page.result(result)));
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

    /// How long ago that was.
    fn age(&self, at: SystemTime) -> String {
        in_words(self.now.duration_since(at).unwrap_or_default())
    }

    fn daemon(&self, record: &StatusRecord) -> Vec<String> {
        let status = &record.daemon;
        let (daemon, since) = (&status.daemon, self.age(status.since.0));
        let up = self.paint(Colour::Green, "●");
        let down = self.paint(Colour::Yellow, "○");
        let backend = &daemon.backend;
        let link = match (status.connected, &status.why) {
            (true, _) => format!("{up} connected to {backend} for {since}"),
            (false, Some(why)) => {
                let why = one_line(&for_terminal(why), TEXT_MAX);
                format!("{down} not connected to {backend} for {since}: {why}")
            }
            (false, None) => format!("{down} connecting to {backend}"),
        };
        let (name, version, pid) = (&daemon.name, &daemon.version, daemon.pid);
        let up_for = self.age(daemon.started_at.0);
        let who = format!("  {name} · wf0-agent {version} · pid {pid} · up {up_for}");
        let has_started = |active: &&ActiveStatus| active.started_at.is_some();
        let running = record.active.iter().filter(has_started).count();
        let state = match status.status.as_str() {
            "draining" => "stopping",
            "degraded" => "takes no tickets",
            _ if running == 0 => "idle",
            _ => "working",
        };
        let (max, cli) = (status.capacity.max, self.cli(&status.cli));
        let mut state = format!("  {state} ({running} of {max} running) · {cli}");
        if status.undelivered > 0 {
            state += &format!(" · {} results to deliver", status.undelivered);
        }
        vec![link, self.paint(Colour::Dim, &who), state]
    }

    fn cli(&self, cli: &CliStatus) -> String {
        let name = &cli.name;
        match cli.unavailable.as_deref() {
            None => match &cli.version {
                Some(version) => format!("{name} {version}"),
                None => name.clone(),
            },
            Some("quota_exceeded") => {
                let mut text = format!("the quota of {name} is used up");
                if let Some(until) = cli.quota_until {
                    text += &format!(", next try at {}", clock(until.0));
                }
                self.paint(Colour::Yellow, &text)
            }
            Some(_) => self.paint(Colour::Red, &format!("{name} is not on PATH")),
        }
    }

    fn no_daemon(&self, overview: &Overview) -> String {
        let (sign, folder) = (
            self.paint(Colour::Yellow, "○"),
            overview.state_dir.display(),
        );
        let last = overview.record.as_ref().map_or(String::new(), |record| {
            let what = match record.daemon.status.as_str() {
                "draining" => "stopped",
                _ => "last seen",
            };
            format!(" ({what} {} ago)", self.age(record.daemon.written_at.0))
        });
        format!("{sign} not running{last} with the state folder {folder}. Start it: wf0-agent")
    }

    fn active(&self, active: &ActiveStatus, overview: &Overview) -> String {
        let age = active.started_at.map(|since| self.age(since.0));
        let what = match (age, &active.progress) {
            (None, _) => "waiting".to_owned(),
            (Some(age), None) => age,
            (Some(age), Some(progress)) => {
                let says = one_line(&for_terminal(&progress.says), TEXT_MAX);
                format!("{age}  {}", self.paint(Colour::Dim, &says))
            }
        };
        let sign = self.paint(Colour::Bold, "▸");
        let about = self.about(&active.ticket_id, active.attempt, overview.seen(active));
        format!("{sign} {about}  {what}")
    }

    fn result(&self, Finished { seen, entry, at }: &Finished) -> String {
        let outcome = &entry.outcome;
        let sign = match &outcome.failure {
            None => self.paint(Colour::Green, "✓"),
            Some(_) => self.paint(Colour::Red, "✗"),
        };
        let about = self.about(entry.id.as_str(), entry.attempt, Some(seen));
        let failure = outcome.failure.as_ref();
        let mut facts = Vec::new();
        facts.extend(failure.map(|failure| failure.code.to_string()));
        facts.extend(outcome.span.map(|took| in_words(took.duration)));
        facts.extend(outcome.changes.stat.map(|stat| stat.to_string()));
        facts.extend((!seen.is_delivered()).then(|| "not delivered yet".to_owned()));
        let age = self.paint(Colour::Dim, &format!("{} ago", self.age(*at)));
        format!("{sign} {about}  {}  {age}", facts.join(", "))
    }

    /// The ticket, its role and its folder.
    fn about(&self, ticket: &str, attempt: u32, seen: Option<&Seen>) -> String {
        let again = match attempt {
            0 | 1 => String::new(),
            _ => format!(" (attempt {attempt})"),
        };
        let ticket = self.paint(Colour::Bold, ticket);
        let folder = seen.and_then(|seen| seen.repo.file_name());
        let folder = folder.unwrap_or_default().to_string_lossy();
        let role = seen.map(|seen| seen.role.as_str()).unwrap_or_default();
        format!("{ticket}{again}  {role}  {folder}")
    }
}
