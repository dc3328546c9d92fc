//! The log on standard error, in the form that suits whoever reads it: a person at a terminal, a file, the journal, a
//! program.

use std::io::{IsTerminal, Write, stderr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use log::kv::{Key, Value};
use log::{Level, LevelFilter, Metadata, Record};
use serde_json::json;

use super::terminal;
use crate::commands::style::{knows_colours, now};
use crate::config::LogFormat;
use crate::domain::view::View;
use crate::environment::Environment;
use crate::times::rfc3339;

/// Lines of this program only: what its dependencies log could hold headers.
const OWN: &str = "wf0_agent";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Terminal {
        colours: bool,
    },
    Text,
    /// The journal has the time, and takes the level from the start of a line (sd-daemon(3)).
    Journal,
    Json,
}

pub struct Console {
    form: Form,
    level: LevelFilter,
    out: Mutex<Out>,
}

struct Out {
    to: Box<dyn Write + Send>,
    /// The line below the log that says what is going on, if there is one.
    going_on: Option<String>,
}

impl Console {
    /// The log on standard error.
    pub fn on_stderr(format: LogFormat, level: LevelFilter, environment: &Environment) -> &'static Self {
        let form = match format {
            LogFormat::Json => Form::Json,
            LogFormat::Auto if stderr().is_terminal() => Form::Terminal { colours: knows_colours(environment) },
            LogFormat::Auto | LogFormat::Text if is_journal(environment) => Form::Journal,
            LogFormat::Auto | LogFormat::Text => Form::Text,
        };
        Self::take_over(Box::new(stderr()), form, level)
    }

    /// The log elsewhere, where nobody looks on.
    #[cfg(windows)]
    pub fn start(to: Box<dyn Write + Send>, format: LogFormat, level: LevelFilter) -> &'static Self {
        Self::take_over(to, if format == LogFormat::Json { Form::Json } else { Form::Text }, level)
    }

    /// There is one for the life of the process.
    fn take_over(to: Box<dyn Write + Send>, form: Form, level: LevelFilter) -> &'static Self {
        let out = Mutex::new(Out { to, going_on: None });
        let console: &'static Self = Box::leak(Box::new(Self { form, level, out }));
        log::set_max_level(level);
        // It fails only where there is a log already, and then that one is as good.
        let _ = log::set_logger(console);
        console
    }

    /// At a terminal: what is going on, in place.
    pub fn show(&self, view: &View) {
        if let (Form::Terminal { colours }, true) = (self.form, self.level >= LevelFilter::Info) {
            let line = terminal::going_on(view, now(), colours);
            let mut out = self.lock();
            if out.going_on != line {
                out.put("", line);
            }
        }
    }

    /// Leaves the terminal as it was found.
    pub fn end(&self) {
        self.lock().put("", None);
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        // A panic ends the process, so nobody ever sees a poisoned lock.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Out {
    /// A line of the log in place of what was going on, and below it what is. That is cut by the terminal, for nobody
    /// here knows its width. Where nothing was shown nothing is wiped out: somebody may be typing.
    fn put(&mut self, line: &str, going_on: Option<String>) {
        let clear = if self.going_on.is_some() { "\r\x1b[2K" } else { "" };
        let below = going_on.as_ref().map(|text| format!("\x1b[?7l{text}\x1b[?7h")).unwrap_or_default();
        self.going_on = going_on;
        self.write(&format!("{clear}{line}{below}"));
    }

    /// In one piece. A log that cannot be written to is no reason to end runs.
    fn write(&mut self, text: &str) {
        if !text.is_empty() {
            let _ = self.to.write_all(text.as_bytes()).and_then(|()| self.to.flush());
        }
    }
}

impl log::Log for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let is_own = target.strip_prefix(OWN).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        is_own && metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let at = now();
        let line = match self.form {
            Form::Terminal { colours } => terminal::line(record, at, colours),
            Form::Text => format!("{} {:<5} {}\n", rfc3339(at), record.level(), record.args()),
            Form::Journal => format!("<{}>{}\n", priority(record.level()), record.args()),
            Form::Json => to_json(record, at) + "\n",
        };
        let mut out = self.lock();
        let going_on = out.going_on.clone();
        out.put(&line, going_on);
    }

    fn flush(&self) {}
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
    for name in ["event", "ticket"] {
        if let Some(value) = field(record, name) {
            line[name] = json!(value.to_string());
        }
    }
    if let Some(attempt) = field(record, "attempt").and_then(|attempt| attempt.to_u64()) {
        line["attempt"] = json!(attempt);
    }
    line.to_string()
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
    let Some(named) = environment.get("JOURNAL_STREAM").and_then(|named| named.to_str()) else { return false };
    nix::sys::stat::fstat(stderr()).is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(not(unix))]
fn is_journal(_environment: &Environment) -> bool {
    false
}
