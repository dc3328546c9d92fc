//! The log. `env_logger` filters the records. This module formats them, and its own thread writes them.
//!
//! The format depends on where the log goes: to a terminal, a file, the journal, or a program. The thread takes lines
//! from a bounded channel. So a paused terminal stops only this thread. If the channel is full, the module drops lines
//! and counts them.

use std::io::{self, IsTerminal, Write, stderr};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use log::kv::{Key, Value};
use log::{Level, LevelFilter, Record};
use serde_json::json;

use crate::commands::style::{Colour, clock, knows_colours};
use crate::config::{LogFilter, LogFormat};
use crate::domain::text::{escaped, for_terminal};
use crate::environment::Environment;
#[cfg(windows)]
use crate::store::LogFile;
use crate::times::{now, rfc3339};

/// The maximum number of lines that wait for the thread.
const LINES_MAX: usize = 1024;
/// The maximum time of each of the two waits in `flush`.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogStyle {
    Terminal { colours: bool },
    Text,
    Journal,
    Json,
}

#[derive(Clone)]
pub struct Console(Sender<LogItem>);

enum LogItem {
    Line(String),
    /// The thread drops the sender after it has written all lines before it. `flush` waits for this.
    Mark(Sender<()>),
}

impl Console {
    /// The log on standard error.
    pub fn on_stderr(
        format: LogFormat,
        filter: &LogFilter,
        environment: &Environment,
    ) -> io::Result<Self> {
        let colours = knows_colours(environment);
        let style = match format {
            LogFormat::Json => LogStyle::Json,
            LogFormat::Text => LogStyle::Text,
            LogFormat::Auto if stderr().is_terminal() => LogStyle::Terminal { colours },
            LogFormat::Auto if is_journal(environment) => LogStyle::Journal,
            LogFormat::Auto => LogStyle::Text,
        };
        Self::start(Box::new(stderr()), style, filter)
    }

    /// The log in a file.
    #[cfg(windows)]
    pub fn in_file(file: LogFile, format: LogFormat, filter: &LogFilter) -> io::Result<Self> {
        let style = match format {
            LogFormat::Json => LogStyle::Json,
            LogFormat::Text | LogFormat::Auto => LogStyle::Text,
        };
        Self::start(Box::new(file), style, filter)
    }

    fn start(to: Box<dyn Write + Send>, style: LogStyle, filter: &LogFilter) -> io::Result<Self> {
        let (messages, written) = crossbeam_channel::bounded(LINES_MAX);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(to, &written))?;
        let queue = LineQueue {
            messages: messages.clone(),
            lost: 0,
        };
        let mut logger = env_logger::Builder::new();
        logger
            .filter_level(LevelFilter::Off)
            .format(move |to, record| to.write_all(style.line(record).as_bytes()))
            .target(env_logger::Target::Pipe(Box::new(queue)));
        for (module, level) in &filter.0 {
            logger.filter_module(module, *level);
        }
        // This fails only if the process already has a logger. Then that logger stays.
        let _ = logger.try_init();
        Ok(Self(messages))
    }

    /// Waits until the thread has written all lines so far. The wait is short, because the terminal may be paused.
    pub fn flush(&self) {
        let (mark, passed) = crossbeam_channel::bounded(0);
        let sent = self.0.send_timeout(LogItem::Mark(mark), FLUSH_LIMIT);
        if sent.is_ok() {
            let _ = passed.recv_timeout(FLUSH_LIMIT);
        }
    }
}

/// The target of `env_logger`. Each `write` gets one whole line.
struct LineQueue {
    messages: Sender<LogItem>,
    /// The number of dropped lines that the log has not reported yet.
    lost: u64,
}

impl Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lost > 0 {
            let note = format!(
                "({} lines of the log are missing here: they could not be written in time)\n",
                self.lost
            );
            if self.messages.try_send(LogItem::Line(note)).is_ok() {
                self.lost = 0;
            }
        }
        let text = String::from_utf8_lossy(line).into_owned();
        if self.messages.try_send(LogItem::Line(text)).is_err() {
            self.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(mut to: Box<dyn Write + Send>, messages: &Receiver<LogItem>) {
    for message in messages {
        match message {
            LogItem::Mark(mark) => drop(mark),
            // One write for the whole line. Runs go on even if the log cannot be written.
            LogItem::Line(line) => {
                let _ = to.write_all(line.as_bytes()).and_then(|()| to.flush());
            }
        }
    }
}

impl LogStyle {
    fn line(self, record: &Record<'_>) -> String {
        match self {
            Self::Terminal { colours } => for_person(record, colours),
            Self::Text => as_text(record),
            Self::Json => as_json(record),
            // The journal adds the time itself, and reads the level from the start of the line (sd-daemon(3)).
            Self::Journal => format!("<{}>{}\n", priority(record.level()), record.args()),
        }
    }
}

fn field<'a>(record: &'a Record<'_>, name: &str) -> Option<Value<'a>> {
    record.key_values().get(Key::from_str(name))
}

fn attempt(record: &Record<'_>) -> Option<u64> {
    field(record, "attempt")?.to_u64()
}

fn as_text(record: &Record<'_>) -> String {
    let run = field(record, "run").map(|run| format!(" (run {run})"));
    let (time, level) = (rfc3339(now()), record.level());
    let run = run.unwrap_or_default();
    format!("{time} {level:<5} {}{run}\n", record.args())
}

fn as_json(record: &Record<'_>) -> String {
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
    if let Some(attempt) = attempt(record) {
        line["attempt"] = json!(attempt);
    }
    escaped(&line.to_string()) + "\n"
}

/// A line for a person: it has a sign in front of the text, and no attempt number for the first attempt.
fn for_person(record: &Record<'_>, colours: bool) -> String {
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
    let text = for_terminal(&record.args().to_string());
    let time = paint(Colour::Dim, &clock(now()));
    let Some(id) = field(record, "ticket").map(|id| id.to_string()) else {
        return format!("{time} {sign} {text}\n");
    };
    let attempt = attempt(record).unwrap_or(1);
    let start = format!("ticket {id} (attempt {attempt}): ");
    let text = text.strip_prefix(&start).unwrap_or(&text);
    let again = match attempt {
        0 | 1 => String::new(),
        _ => format!(" (attempt {attempt})"),
    };
    let id = paint(Colour::Bold, &id);
    format!("{time} {sign} {id}{again} {text}\n")
}

/// The level as a priority of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Whether standard error goes to the journal. systemd gives the device and inode of that stream in `JOURNAL_STREAM`
/// (systemd.exec(5)).
#[cfg(unix)]
fn is_journal(environment: &Environment) -> bool {
    let named = environment.get("JOURNAL_STREAM");
    nix::sys::stat::fstat(stderr()).is_ok_and(|stat| {
        let own = format!("{}:{}", stat.st_dev, stat.st_ino);
        named.is_some_and(|named| *named == *own)
    })
}

#[cfg(not(unix))]
fn is_journal(_environment: &Environment) -> bool {
    false
}
