//! Reads what the CLI prints. Recognises the CLI by this output, not by its name or flags: so it reads the output of a
//! wrapper like that of the CLI inside. Decides whether the run failed, why, and whether the subscription is used up.

#[cfg(test)]
#[path = "../../../tests/beside/cli_output.rs"]
mod tests;

use std::path::Path;

use serde_json::Value;

use super::report::CliReport;
use super::{ALL, Known};
use crate::domain::quota::{Exceeded, QuotaMessage};
use crate::domain::text::{Excerpt, last_lines};
use crate::domain::ticket::{Exit, FailCode, Failure, Outcome};
use crate::job::capture::Capture;
use crate::job::process::{Cause, Feed, ProcessEnd};

/// A longer line is not read: a parsed line takes several times its size in memory.
const LINE_MAX: usize = 1 << 20;
/// How many bytes may come before the first recognised line. After more bytes the whole output counts as plain text,
/// even if JSON follows: the program may be printing a file.
const PRELUDE_MAX: usize = 64 << 10;
/// Limit on the text between the CLI's own lines. The only error message may be in it.
const STRAY_MAX: usize = 2000;
/// Limit on the line that says why the CLI failed.
const ERROR_MAX: usize = 2000;

/// The kind of output.
#[derive(Debug, Default)]
enum OutputForm {
    /// Not known yet.
    #[default]
    Open,
    /// Lines of that CLI.
    Lines(&'static Known),
    /// Perhaps one JSON object over several lines, as Gemini prints it.
    Object,
    /// Text, which is sent unchanged.
    Plain,
    /// The output begins with a line that is too long to read. Nothing of it is sent.
    Unread,
}

#[derive(Debug, Default)]
pub struct OutputReader {
    /// Number of lines that look like the CLI's own but could not be read.
    pub unread: usize,
    /// The end of the text between the lines.
    pub stray: String,
    form: OutputForm,
    line: Vec<u8>,
    /// The line is longer than [`LINE_MAX`]. The rest of it is dropped.
    overlong: bool,
    prelude: usize,
    report: CliReport,
}

impl OutputReader {
    /// Reads the output of a run in `cwd`.
    pub fn new(cwd: &Path) -> Self {
        Self {
            report: CliReport::new(cwd),
            ..Self::default()
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            if matches!(self.form, OutputForm::Plain | OutputForm::Unread) {
                return;
            }
            self.extend(&rest[..end]);
            self.end_line();
            rest = &rest[end + 1..];
        }
        self.extend(rest);
    }

    /// Call this when the output has ended.
    pub fn finish(&mut self) {
        if let OutputForm::Object = self.form {
            // The object is read as if it were one line. If it is too long, it counts as text.
            self.form = OutputForm::Open;
            self.overlong = false;
        }
        if !self.line.is_empty() {
            self.end_line();
        }
    }

    /// Whether the output counts as text so far. Lines of a text may go into progress reports.
    pub fn is_text(&self) -> bool {
        matches!(self.form, OutputForm::Open | OutputForm::Plain)
    }

    /// The progress lines since the last call.
    pub fn take_progress(&mut self) -> Vec<String> {
        self.report.progress.take()
    }

    /// `None`: the output is text.
    pub fn report(&self) -> Option<&CliReport> {
        matches!(self.form, OutputForm::Lines(_) | OutputForm::Unread).then_some(&self.report)
    }

    fn extend(&mut self, bytes: &[u8]) {
        match self.form {
            OutputForm::Plain | OutputForm::Unread => return,
            OutputForm::Open if !self.line.first().or(bytes.first()).is_some_and(looks_own) => {
                self.before(bytes.len());
                // This line is not the CLI's own, so only its first byte is kept.
                self.line
                    .extend(bytes.first().filter(|_| self.line.is_empty()));
                return;
            }
            _ => {}
        }
        let room = LINE_MAX - self.line.len();
        self.overlong |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self) {
        if let OutputForm::Object = self.form {
            // No CLI prints an object as large as this.
            if std::mem::take(&mut self.overlong) || self.line.len() == LINE_MAX {
                return self.become_plain();
            }
            return self.line.push(b'\n');
        }
        let line = std::mem::take(&mut self.line);
        let overlong = std::mem::take(&mut self.overlong);
        let objects = if overlong { None } else { parse(&line) };
        match (&self.form, objects) {
            (OutputForm::Lines(known), Some(objects)) => self.read(known, &objects),
            (OutputForm::Lines(_), None)
                if line.trim_ascii_start().first().is_some_and(looks_own) =>
            {
                self.unread += 1
            }
            (OutputForm::Lines(_), None) => self.keep_stray(&line),
            (OutputForm::Open, Some(objects)) => match owner(&objects) {
                Some(known) => {
                    self.form = OutputForm::Lines(known);
                    self.read(known, &objects);
                }
                None => self.before(line.len()),
            },
            (OutputForm::Open, None) if overlong => {
                self.unread += 1;
                self.form = OutputForm::Unread;
            }
            (OutputForm::Open, None) if line.trim_ascii() == b"{" => {
                self.form = OutputForm::Object;
                self.line = b"{\n".to_vec();
            }
            (OutputForm::Open, None) => self.before(line.len()),
            (OutputForm::Object | OutputForm::Plain | OutputForm::Unread, _) => {}
        }
    }

    fn read(&mut self, known: &Known, objects: &[Value]) {
        for object in objects {
            (known.read)(object, &mut self.report);
        }
    }

    fn before(&mut self, bytes: usize) {
        self.prelude += bytes;
        if self.prelude > PRELUDE_MAX {
            self.become_plain();
        }
    }

    fn become_plain(&mut self) {
        self.form = OutputForm::Plain;
        self.line = Vec::new();
    }

    fn keep_stray(&mut self, line: &[u8]) {
        let from = line.len().saturating_sub(STRAY_MAX);
        self.stray.push_str(&String::from_utf8_lossy(&line[from..]));
        self.stray.push('\n');
        let mut over = self.stray.len().saturating_sub(STRAY_MAX);
        while !self.stray.is_char_boundary(over) {
            over += 1;
        }
        self.stray.drain(..over);
    }
}

/// Whether a line with this first byte may be an object or a list of objects. Claude Code prints a list with
/// `--output-format json --verbose`.
fn looks_own(first: &u8) -> bool {
    matches!(first, b'{' | b'[')
}

/// Deep nesting does no harm: serde_json limits the depth.
fn parse(line: &[u8]) -> Option<Vec<Value>> {
    let line = line.trim_ascii();
    if !line.first().is_some_and(looks_own) {
        return None;
    }
    match serde_json::from_str(&String::from_utf8_lossy(line)).ok()? {
        Value::Array(objects) => Some(objects),
        object => Some(vec![object]),
    }
}

/// The CLI whose output begins like this.
fn owner(objects: &[Value]) -> Option<&'static Known> {
    let first = objects.first()?;
    ALL.iter().copied().find(|known| (known.is_own)(first))
}

/// The CLI's standard output: its bytes, and what they say.
#[derive(Debug)]
pub struct CliOutput {
    pub bytes: Capture,
    reader: OutputReader,
}

impl Feed for CliOutput {
    fn feed(&mut self, bytes: &[u8]) {
        self.bytes.feed(bytes);
        self.reader.feed(bytes);
    }
}

impl CliOutput {
    pub fn new(bytes: Capture, cwd: &Path) -> Self {
        Self {
            bytes,
            reader: OutputReader::new(cwd),
        }
    }

    /// Call this when the output has ended.
    pub fn finish(&mut self) {
        self.reader.finish();
    }

    /// New lines for progress reports: the lines of a text, else lines that say what the CLI does.
    pub fn take_lines(&mut self) -> Vec<String> {
        if self.reader.is_text() {
            self.bytes.take_lines()
        } else {
            self.reader.take_progress()
        }
    }

    /// Puts the part of the output that is sent into the outcome. Text is sent unchanged. From a known CLI only the
    /// final message is sent, because tool results contain source code.
    pub fn tell(&mut self, outcome: &mut Outcome, max: usize) {
        let unread = self.reader.unread;
        if unread > 0 {
            outcome.warnings.push(format!(
                "{unread} lines of the CLI's output were too long or broken and were not read: its message, its figures or its error may be missing"
            ));
        }
        let Some(report) = self.reader.report() else {
            outcome.stdout = self.bytes.excerpt();
            return;
        };
        let mut message = Capture::new(max, None);
        message.feed(report.message.as_bytes());
        outcome.stdout = message.excerpt();
        outcome.usage = report.usage();
        if !report.denied.is_empty() {
            let tools = report.denied.join(", ");
            outcome.warnings.push(format!(
                "the CLI was not allowed to use {tools}; CLI_AUTONOMY says what it may do"
            ));
        }
    }

    /// Why the run failed, if it did. After a stop or a time limit, that is the reason, whatever the exit code is.
    pub fn failure(
        &mut self,
        end: &ProcessEnd,
        stderr: &Excerpt,
        quota: &QuotaMessage,
    ) -> Option<Failure> {
        match end.cause {
            Cause::TimedOut => return Some(Failure::new(FailCode::Timeout, "timeout")),
            Cause::Stopped(reason) => return Some(reason.failure()),
            Cause::Exited => {}
        }
        let report = self.reader.report();
        if end.exit == Some(Exit::Code(0)) && !report.is_some_and(|report| report.has_failed) {
            return None;
        }
        let stderr = stderr.render();
        let last = |text: &str| last_lines(ERROR_MAX, text);
        let (error, exceeded) = if let Some(report) = report {
            let error = report
                .error
                .as_deref()
                .and_then(last)
                .or_else(|| last(&stderr));
            // Looks for a used-up quota only in the CLI's own words: its tools may have printed a file about quotas.
            let words = report.error_in_full();
            let found = quota.find(words.as_deref().unwrap_or(&stderr));
            let error = error.or_else(|| last(&self.reader.stray));
            (error, report.rejected.or(found))
        } else {
            let stdout = self.bytes.excerpt().render();
            let error = last(&stderr).or_else(|| last(&stdout));
            (error, quota.find(&stderr).or_else(|| quota.find(&stdout)))
        };
        let error = error.unwrap_or_else(|| match end.exit {
            Some(Exit::Code(code)) => format!("exit code {code}, no output"),
            Some(Exit::Signal(signal)) => format!("ended by signal {signal}, no output"),
            None => "ended, and the system does not say how".to_owned(),
        });
        Some(match exceeded {
            Some(Exceeded { until }) => Failure {
                available_at: until,
                ..Failure::new(FailCode::QuotaExceeded, error)
            },
            None => Failure::new(FailCode::CliExit, error),
        })
    }

    /// A warning about a run that went well but looks wrong. A program that is not known may have nothing to say.
    pub fn oddity(&self, outcome: &Outcome, is_known: bool) -> Option<&'static str> {
        let changed_nothing = outcome.changes.stat.is_some_and(|stat| stat.files == 0);
        if is_known && changed_nothing && outcome.stdout.render().trim().is_empty() {
            return Some("the CLI ended well, but said nothing and changed nothing");
        }
        let report = self.reader.report()?;
        (!report.is_final).then_some("the CLI ended well, but its output ends before its result")
    }
}
