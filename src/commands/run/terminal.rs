//! What a person at a terminal sees: short lines with a sign in front, and below them what is going on.

use std::time::SystemTime;

use log::{Level, Record};

use super::console::field;
use crate::commands::style::{Colour, clock};
use crate::domain::notice::Kind;
use crate::domain::text::{for_terminal, one_line};
use crate::domain::view::{Active, Doing, View};

/// What one run may take of the line below.
const DOING_MAX: usize = 60;

/// One line of the log.
pub fn line(record: &Record<'_>, now: SystemTime, colours: bool) -> String {
    let paint = |colour: Colour, text: &str| colour.paint(text, colours);
    let kind = field(record, "event")
        .and_then(|event| Kind::parse(&event.to_string()))
        .unwrap_or_default();
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
            let attempt = field(record, "attempt")
                .and_then(|attempt| attempt.to_u64())
                .unwrap_or(1);
            let text = text
                .strip_prefix(&format!("ticket {id} (attempt {attempt}): "))
                .unwrap_or(&text);
            let again = if attempt > 1 {
                format!(" (attempt {attempt})")
            } else {
                String::new()
            };
            format!("{}{again} {text}", paint(Colour::Bold, &id))
        }
        None => text,
    };
    format!("{} {sign} {text}\n", paint(Colour::Dim, &clock(now)))
}

/// The line below: each run with its start and what it does. `None`: nothing runs. It is shown when something changes, so
/// nothing in it grows old by itself.
pub fn going_on(view: &View, colours: bool) -> Option<String> {
    let running = view
        .active
        .iter()
        .filter_map(|active| Some((active, active.started_at?)));
    let running: Vec<_> = running
        .map(|(active, since)| doing(active, since, colours))
        .collect();
    let waiting = view.active.len() - running.len();
    let more = match waiting {
        0 => String::new(),
        waiting => format!(
            "  {}",
            Colour::Dim.paint(&format!("+{waiting} waiting"), colours)
        ),
    };
    (!running.is_empty()).then(|| format!("  {}{more}", running.join("  ")))
}

fn doing(active: &Active, since: SystemTime, colours: bool) -> String {
    let what = active.doing.as_ref().map_or("running", Doing::in_words);
    let what = one_line(&for_terminal(what), DOING_MAX);
    let id = Colour::Bold.paint(active.id.as_str(), colours);
    format!(
        "{id} since {} {}",
        clock(since),
        Colour::Dim.paint(&what, colours)
    )
}
