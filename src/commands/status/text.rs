//! The status as text for people.

use std::time::SystemTime;

use super::Overview;
use crate::commands::style::{Colour, clock};
use crate::domain::outbox::Entry;
use crate::domain::text::{for_terminal, one_line};
use crate::store::inspect::Seen;
use crate::store::status::{ActiveStatus, CliStatus, StatusRecord};
use crate::times::in_words;

const TEXT_MAX: usize = 100;

pub fn of(overview: &Overview, now: SystemTime, colours: bool) -> String {
    let page = Page { now, colours };
    let mut lines = Vec::new();
    match &overview.record {
        Some(record) => {
            lines.extend(page.daemon(record));
            let active = record.active.iter();
            lines.extend(active.map(|active| page.active(active, overview.seen(active))));
        }
        None if overview.is_running => lines.push("a daemon is starting".to_owned()),
        None => {
            let last = overview.last_seen.map(|at| page.age(at));
            let last = last.map_or(String::new(), |age| format!(" (last seen {age} ago)"));
            let folder = overview.state_dir.display();
            lines.push(format!(
                "○ not running{last} with the state folder {folder}. Start it: wf0-agent"
            ));
        }
    }
    if !overview.results.is_empty() {
        lines.push(format!("\n{}", page.paint(Colour::Dim, "last results")));
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

    /// The time that has passed since `at`.
    fn age(&self, at: SystemTime) -> String {
        in_words(self.now.duration_since(at).unwrap_or_default())
    }

    fn daemon(&self, record: &StatusRecord) -> [String; 3] {
        let status = &record.daemon;
        let daemon = &status.daemon;
        let (backend, since) = (&daemon.backend, self.age(status.since.0));
        let link = match &status.why {
            _ if status.connected => {
                let up = self.paint(Colour::Green, "●");
                format!("{up} connected to {backend} for {since}")
            }
            why => {
                let down = self.paint(Colour::Yellow, "○");
                let why = why.as_deref().unwrap_or("connecting");
                let why = one_line(&for_terminal(why), TEXT_MAX);
                format!("{down} not connected to {backend} for {since}: {why}")
            }
        };
        let (name, version, pid) = (&daemon.name, &daemon.version, daemon.pid);
        let up_for = self.age(daemon.started_at.0);
        let who = format!("  {name} · wf0-agent {version} · pid {pid} · up {up_for}");
        let started = record.active.iter().filter(|run| run.started_at.is_some());
        let running = started.count();
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
        [link, self.paint(Colour::Dim, &who), state]
    }

    fn cli(&self, cli: &CliStatus) -> String {
        let name = &cli.name;
        match cli.unavailable.as_deref() {
            None => {
                let version = cli.version.as_deref().unwrap_or("(version unknown)");
                format!("{name} {version}")
            }
            Some("quota_exceeded") => {
                let until = cli.quota_until.map(|until| clock(until.0));
                let until = until.unwrap_or_else(|| "an unknown time".to_owned());
                let text = format!("the quota of {name} is used up, next try at {until}");
                self.paint(Colour::Yellow, &text)
            }
            Some(_) => self.paint(Colour::Red, &format!("{name} is not on PATH")),
        }
    }

    fn active(&self, active: &ActiveStatus, seen: Option<&Seen>) -> String {
        let mut text = self.about(&active.ticket_id, active.attempt, seen);
        text += "  ";
        text += &match active.started_at {
            Some(since) => self.age(since.0),
            None => "waiting".to_owned(),
        };
        if let Some(progress) = &active.progress {
            let says = one_line(&for_terminal(&progress.says), TEXT_MAX);
            text += &format!("  {}", self.paint(Colour::Dim, &says));
        }
        format!("▸ {text}")
    }

    fn result(&self, (seen, entry): &(Seen, Entry)) -> String {
        let outcome = &entry.outcome;
        let mut facts = Vec::new();
        let sign = match &outcome.failure {
            None => self.paint(Colour::Green, "✓"),
            Some(failure) => {
                facts.push(failure.code.to_string());
                self.paint(Colour::Red, "✗")
            }
        };
        facts.extend(outcome.span.map(|took| in_words(took.duration)));
        facts.extend(outcome.changes.stat.map(|stat| stat.to_string()));
        facts.extend((!seen.is_delivered()).then(|| "not delivered yet".to_owned()));
        let about = self.about(entry.id.as_str(), entry.attempt, Some(seen));
        let age = seen.ended_at().map(|at| self.age(at)).unwrap_or_default();
        let age = self.paint(Colour::Dim, &format!("{age} ago"));
        format!("{sign} {about}  {}  {age}", facts.join(", "))
    }

    /// The ticket, its role and the name of its repository's folder.
    fn about(&self, ticket: &str, attempt: u32, seen: Option<&Seen>) -> String {
        let mut text = self.paint(Colour::Bold, ticket);
        if attempt > 1 {
            text += &format!(" (attempt {attempt})");
        }
        if let Some(seen) = seen {
            let folder = seen.repo.file_name().unwrap_or_default();
            text += &format!("  {}  {}", seen.role, folder.to_string_lossy());
        }
        text
    }
}
