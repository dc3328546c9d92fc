//! One output stream of a run: its bytes, and for standard output also what they say.

use super::capture::Capture;
use super::cli::reading::Reading;
use super::cli::report::Report;
use crate::domain::text::Excerpt;
use crate::domain::ticket::Usage;

#[derive(Debug)]
pub struct Output {
    pub bytes: Capture,
    reading: Option<Reading>,
}

impl Output {
    pub fn unread(bytes: Capture) -> Self {
        Self {
            bytes,
            reading: None,
        }
    }

    pub fn read(bytes: Capture, reading: Reading) -> Self {
        Self {
            bytes,
            reading: Some(reading),
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.feed(bytes);
        if let Some(reading) = &mut self.reading {
            reading.feed(bytes);
        }
    }

    /// What is new for those who watch: the lines of a text, else what the CLI does.
    pub fn take_lines(&mut self) -> Vec<String> {
        match &mut self.reading {
            Some(reading) if !reading.is_text() => reading.take_progress(),
            _ => self.bytes.take_lines(),
        }
    }

    /// The stream has ended.
    pub fn finish(&mut self) {
        self.reading.iter_mut().for_each(Reading::finish);
    }

    /// `None`: what was printed is text.
    pub fn report(&self) -> Option<&Report> {
        self.reading.as_ref().and_then(Reading::report)
    }

    pub fn usage(&self) -> Option<Usage> {
        self.report().and_then(Report::usage)
    }

    pub fn stray(&self) -> &str {
        self.reading
            .as_ref()
            .map(Reading::stray)
            .unwrap_or_default()
    }

    /// What is sent of it: a text as it is; of a CLI that tells more than that, only what it said to its user. What it
    /// was told by its tools is source code.
    pub fn message(&mut self, max: usize) -> Excerpt {
        let Some(report) = self.reading.as_ref().and_then(Reading::report) else {
            return self.bytes.excerpt();
        };
        let mut message = Capture::new(max, None);
        message.feed(report.message().as_bytes());
        message.excerpt()
    }

    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let unread = self.reading.as_ref().map_or(0, Reading::unread);
        if unread > 0 {
            warnings.push(format!(
                "{unread} lines of the CLI's output were too long or broken and were not read: its message, its figures or its error may be missing"
            ));
        }
        if let Some(report) = self.report() {
            if !report.denied.is_empty() {
                let tools = report.denied.join(", ");
                warnings.push(format!(
                    "the CLI was not allowed to use {tools}; CLI_AUTONOMY says what it may do"
                ));
            }
        }
        warnings
    }
}
