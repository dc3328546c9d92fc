//! The text of a line of the log, for people and for programs, and of the line below it at a terminal.

use log::kv::{Key, Value};
use log::{Level, Record};
use serde_json::json;

use crate::commands::style::{Colour, clock};
use crate::domain::message::View;
use crate::domain::text::{escaped, for_terminal as plain, one_line};
use crate::domain::ticket::{ActiveTicket, Progress};
use crate::times::{now, rfc3339};

/// The most characters that one run takes in the line below the log.
const DOING_MAX: usize = 60;

fn field<'a>(record: &'a Record<'_>, name: &str) -> Option<Value<'a>> {
    record.key_values().get(Key::from_str(name))
}

pub fn text(record: &Record<'_>) -> String {
    let run = field(record, "run").map(|run| format!(" (run {run})"));
    let (time, level) = (rfc3339(now()), record.level());
    let run = run.unwrap_or_default();
    format!("{time} {level:<5} {}{run}\n", record.args())
}

pub fn json(record: &Record<'_>) -> String {
    let mut line = json!({
        "time": rfc3339(now()),
        "level": record.level().as_str().to_ascii_lowercase(),
        "message": record.args().to_string(),
    });
    for name in ["event", "ticket", "run"] {
        if let Some(value) = field(record, name) {
            line[name] = json!(value.to_string());
        }
    }
    if let Some(attempt) = field(record, "attempt").and_then(|attempt| attempt.to_u64()) {
        line["attempt"] = json!(attempt);
    }
    escaped(&line.to_string()) + "\n"
}

/// For a person: a sign in front, and the ticket without its attempt if that is the first.
pub fn for_terminal(record: &Record<'_>, colours: bool) -> String {
    let paint = |colour: Colour, text: &str| colour.paint(text, colours);
    let event = field(record, "event").map(|event| event.to_string());
    let sign = match (record.level(), event.as_deref()) {
        (Level::Error, _) | (_, Some("failed")) => paint(Colour::Red, "✗"),
        (_, Some("connected")) => paint(Colour::Green, "●"),
        (_, Some("disconnected")) => paint(Colour::Yellow, "○"),
        (_, Some("claimed")) => paint(Colour::Bold, "▸"),
        (_, Some("done")) => paint(Colour::Green, "✓"),
        (Level::Warn, _) | (_, Some("refused")) => paint(Colour::Yellow, "!"),
        (Level::Info, _) => paint(Colour::Dim, "·"),
        (Level::Debug | Level::Trace, _) => paint(Colour::Dim, " "),
    };
    let text = plain(&record.args().to_string());
    let time = paint(Colour::Dim, &clock(now()));
    let Some(id) = field(record, "ticket").map(|id| id.to_string()) else {
        return format!("{time} {sign} {text}\n");
    };
    let attempt = field(record, "attempt").and_then(|attempt| attempt.to_u64());
    let attempt = attempt.unwrap_or(1);
    let start = format!("ticket {id} (attempt {attempt}): ");
    let text = text.strip_prefix(&start).unwrap_or(&text);
    let again = if attempt > 1 {
        format!(" (attempt {attempt})")
    } else {
        String::new()
    };
    let id = paint(Colour::Bold, &id);
    format!("{time} {sign} {id}{again} {text}\n")
}

/// The line below the log: each run with its start and what it does; empty if nothing runs. The terminal cuts it at its
/// own width. It changes only when something happens, so nothing in it depends on the time of now.
pub fn live(view: &View, colours: bool) -> String {
    let running: Vec<_> = view
        .active
        .iter()
        .filter_map(|active| doing(active, colours))
        .collect();
    if running.is_empty() {
        return String::new();
    }
    let waiting = match view.active.len() - running.len() {
        0 => String::new(),
        waiting => Colour::Dim.paint(&format!("  +{waiting} waiting"), colours),
    };
    format!("\x1b[?7l  {}{waiting}\x1b[?7h", running.join("  "))
}

/// `None`: it waits.
fn doing(active: &ActiveTicket, colours: bool) -> Option<String> {
    let since = clock(active.started_at?);
    let what = active
        .progress
        .as_ref()
        .map_or("running", Progress::activity);
    let what = Colour::Dim.paint(&one_line(&plain(what), DOING_MAX), colours);
    let id = Colour::Bold.paint(active.id.as_str(), colours);
    Some(format!("{id} since {since} {what}"))
}
