//! The log on standard error, in the form that suits whoever reads it: a person at a terminal, a file, the journal, a
//! program.

use std::io::{self, IsTerminal, Write, stderr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender};
use log::kv::{Key, Value};
use log::{Level, LevelFilter, Metadata, Record};
use serde_json::json;

use super::terminal;
use crate::commands::style::{knows_colours, knows_sequences, now};
use crate::config::LogFormat;
use crate::domain::text::escaped;
use crate::domain::view::View;
use crate::environment::Environment;
use crate::times::rfc3339;

/// Lines of this program only: what its dependencies log could hold headers.
const OWN: &str = "wf0_agent";
/// So many lines may wait for a terminal that somebody has paused.
const LINES_MAX: usize = 1024;
/// How long the end of the process waits for it.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Terminal {
        colours: bool,
        /// Whether something can be shown in place.
        sequences: bool,
    },
    Text,
    /// The journal has the time, and takes the level from the start of a line (sd-daemon(3)).
    Journal,
    Json,
}

pub struct Console {
    form: Form,
    level: LevelFilter,
    /// To the thread that writes: a terminal that somebody has paused takes nothing, and holds up nobody else.
    lines: Sender<Line>,
    /// Lines that found no room since the last that did.
    lost: AtomicU64,
}

enum Line {
    Log(String),
    /// What is going on, to be shown below the log in place of what was.
    GoingOn(Option<String>),
    /// To be dropped when everything before it is written.
    Mark(Sender<()>),
}

impl Console {
    /// The log on standard error.
    pub fn on_stderr(
        format: LogFormat,
        level: LevelFilter,
        environment: &Environment,
    ) -> io::Result<&'static Self> {
        let form = match format {
            LogFormat::Json => Form::Json,
            LogFormat::Text => Form::Text,
            LogFormat::Auto if stderr().is_terminal() => Form::Terminal {
                colours: knows_colours(environment),
                sequences: knows_sequences(environment),
            },
            LogFormat::Auto if is_journal(environment) => Form::Journal,
            LogFormat::Auto => Form::Text,
        };
        Self::take_over(Box::new(stderr()), form, level)
    }

    /// The log elsewhere, where nobody looks on.
    #[cfg(windows)]
    pub fn start(
        to: Box<dyn Write + Send>,
        format: LogFormat,
        level: LevelFilter,
    ) -> io::Result<&'static Self> {
        Self::take_over(
            to,
            if format == LogFormat::Json {
                Form::Json
            } else {
                Form::Text
            },
            level,
        )
    }

    /// There is one for the life of the process.
    fn take_over(
        to: Box<dyn Write + Send>,
        form: Form,
        level: LevelFilter,
    ) -> io::Result<&'static Self> {
        let (lines, written) = crossbeam_channel::bounded(LINES_MAX);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || Out { to, going_on: None }.write_all(&written))?;
        let console: &'static Self = Box::leak(Box::new(Self {
            form,
            level,
            lines,
            lost: AtomicU64::new(0),
        }));
        log::set_max_level(level);
        // It fails only where there is a log already, and then that one is as good.
        let _ = log::set_logger(console);
        Ok(console)
    }

    /// At a terminal: what is going on, in place.
    pub fn show(&self, view: &View) {
        if let (
            Form::Terminal {
                colours,
                sequences: true,
            },
            true,
        ) = (self.form, self.level >= LevelFilter::Info)
        {
            // Without room it is left out: the next one tells more.
            let _ = self
                .lines
                .try_send(Line::GoingOn(terminal::going_on(view, colours)));
        }
    }

    /// Leaves the terminal as it was found.
    pub fn end(&self) {
        let _ = self.lines.send_timeout(Line::GoingOn(None), FLUSH_LIMIT);
        log::Log::flush(self);
    }

    fn put(&self, line: String) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let note = (lost > 0).then(|| {
            Line::Log(format!(
                "({lost} lines of the log are missing here: nobody took them)\n"
            ))
        });
        let is_noted = note.is_none_or(|note| self.lines.try_send(note).is_ok());
        let is_put = self.lines.try_send(Line::Log(line)).is_ok();
        let still = if is_noted { 0 } else { lost };
        self.lost
            .fetch_add(still + u64::from(!is_put), Ordering::Relaxed);
    }
}

/// The thread that writes.
struct Out {
    to: Box<dyn Write + Send>,
    /// The line below the log, if there is one.
    going_on: Option<String>,
}

impl Out {
    fn write_all(mut self, lines: &Receiver<Line>) {
        for line in lines {
            match line {
                Line::Log(line) => {
                    let going_on = self.going_on.clone();
                    self.put(&line, going_on);
                }
                Line::GoingOn(going_on) if going_on != self.going_on => self.put("", going_on),
                Line::GoingOn(_) => {}
                Line::Mark(mark) => drop(mark),
            }
        }
    }

    /// A line of the log in place of what was going on, and below it what is. That is cut by the terminal, for nobody
    /// here knows its width. Where nothing was shown nothing is wiped out: somebody may be typing.
    fn put(&mut self, line: &str, going_on: Option<String>) {
        let clear = if self.going_on.is_some() {
            "\r\x1b[2K"
        } else {
            ""
        };
        let below = going_on
            .as_ref()
            .map(|text| format!("\x1b[?7l{text}\x1b[?7h"))
            .unwrap_or_default();
        self.going_on = going_on;
        // In one piece. A log that cannot be written to is no reason to end runs.
        let text = format!("{clear}{line}{below}");
        let _ = self
            .to
            .write_all(text.as_bytes())
            .and_then(|()| self.to.flush());
    }
}

impl log::Log for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let is_own = target
            .strip_prefix(OWN)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        is_own && metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let at = now();
        let line = match self.form {
            Form::Terminal { colours, .. } => terminal::line(record, at, colours),
            Form::Text => {
                let run = field(record, "run")
                    .map(|run| format!(" (run {run})"))
                    .unwrap_or_default();
                format!(
                    "{} {:<5} {}{run}\n",
                    rfc3339(at),
                    record.level(),
                    record.args()
                )
            }
            Form::Journal => format!("<{}>{}\n", priority(record.level()), record.args()),
            Form::Json => to_json(record, at) + "\n",
        };
        self.put(line);
    }

    /// Waits until what was logged is written, and not for long: the terminal may be paused.
    fn flush(&self) {
        let (mark, passed) = crossbeam_channel::bounded(0);
        if self
            .lines
            .send_timeout(Line::Mark(mark), FLUSH_LIMIT)
            .is_ok()
        {
            let _ = passed.recv_timeout(FLUSH_LIMIT);
        }
    }
}

pub fn field<'a>(record: &'a Record<'_>, name: &str) -> Option<Value<'a>> {
    record.key_values().get(Key::from_str(name))
}

fn to_json(record: &Record<'_>, now: SystemTime) -> String {
    let mut line = json!({
        "time": rfc3339(now),
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
    escaped(&line.to_string())
}

/// The numbers of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Whether standard error is the journal: systemd names the device and inode of what it connects (systemd.exec(5)).
#[cfg(unix)]
fn is_journal(environment: &Environment) -> bool {
    let Some(named) = environment
        .get("JOURNAL_STREAM")
        .and_then(|named| named.to_str())
    else {
        return false;
    };
    nix::sys::stat::fstat(stderr())
        .is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(not(unix))]
fn is_journal(_environment: &Environment) -> bool {
    false
}
