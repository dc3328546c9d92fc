//! What a person at a terminal sees: short lines with a sign in front, and below them what is going on.

use std::time::SystemTime;

use log::{Level, Record};

use super::console::field;
use crate::commands::style::{Colour, clock, span};
use crate::domain::event::Progress;
use crate::domain::notice::Kind;
use crate::domain::text::{for_terminal, one_line};
use crate::domain::view::{Active, View};

/// What one run may take of the line below.
const DOING_MAX: usize = 60;

/// One line of the log.
pub fn line(record: &Record<'_>, now: SystemTime, colours: bool) -> String {
    let paint = |colour: Colour, text: &str| colour.paint(text, colours);
    let kind = field(record, "event").and_then(|event| Kind::parse(&event.to_string())).unwrap_or_default();
    let sign = match (record.level(), kind) {
        (Level::Error, _) | (_, Kind::Failed) => paint(Colour::Red, "✗"),
        (_, Kind::Connected) => paint(Colour::Green, "●"),
        (_, Kind::Disconnected) => paint(Colour::Yellow, "○"),
        (_, Kind::Claimed) => paint(Colour::Bold, "▸"),
        (_, Kind::Done) => paint(Colour::Green, "✓"),
        (Level::Warn, _) | (_, Kind::Refused) => paint(Colour::Yellow, "!"),
        (Level::Info, Kind::Other) => paint(Colour::Dim, "·"),
        (Level::Debug | Level::Trace, Kind::Other) => paint(Colour::Dim, " "),
    };
    let text = for_terminal(&record.args().to_string());
    let text = match field(record, "ticket").map(|id| id.to_string()) {
        // The attempt is of interest where there is a second.
        Some(id) => {
            let attempt = field(record, "attempt").and_then(|attempt| attempt.to_u64()).unwrap_or(1);
            let text = text.strip_prefix(&format!("ticket {id} (attempt {attempt}): ")).unwrap_or(&text);
            let again = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
            format!("{}{again} {text}", paint(Colour::Bold, &id))
        }
        None => text,
    };
    format!("{} {sign} {text}\n", paint(Colour::Dim, &clock(now)))
}

/// The line below: each run with its time and what it does. `None`: nothing runs.
pub fn going_on(view: &View, now: SystemTime, colours: bool) -> Option<String> {
    let running = view.active.iter().filter_map(|active| Some((active, active.started_at?)));
    let running: Vec<_> = running.map(|(active, since)| doing(active, since, now, colours)).collect();
    let waiting = view.active.len() - running.len();
    let more = if waiting > 0 {
        format!("  {}", Colour::Dim.paint(&format!("+{waiting} waiting"), colours))
    } else {
        String::new()
    };
    (!running.is_empty()).then(|| format!("  {}{more}", running.join("  ")))
}

fn doing(active: &Active, since: SystemTime, now: SystemTime, colours: bool) -> String {
    let elapsed = now.duration_since(since).unwrap_or_default();
    let what = active.progress.as_ref().map_or_else(|| "preparing".to_owned(), Progress::in_words);
    let what = one_line(&for_terminal(&what), DOING_MAX);
    format!(
        "{} {} {}",
        Colour::Bold.paint(active.id.as_str(), colours),
        span(elapsed),
        Colour::Dim.paint(&what, colours)
    )
}
