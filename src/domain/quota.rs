//! The quota of the CLI's subscription: how the daemon sees that it is used up, and when it tries again.

use std::time::{Duration, SystemTime};

use regex_lite::{Regex, RegexBuilder};

use super::text::last_bytes;

/// The first wait and the longest wait, if the CLI does not say when the quota is back.
const FIRST_WAIT: Duration = Duration::from_secs(15 * 60);
const LONGEST_WAIT: Duration = Duration::from_secs(4 * 3600);
/// The longest wait if the CLI names a time. A quota is for a month at most, so a later time is a mistake. Without this
/// limit, the agent would take no work until then.
const LONGEST_TOLD: Duration = Duration::from_secs(32 * 24 * 3600);

/// The state of the quota. It is stored on disk, so a restarted daemon does not try in vain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// No run starts before this time. `None`: as far as the daemon knows, the quota is not used up.
    pub until: Option<SystemTime>,
    /// Whether the CLI named the time `until`. If not, the time is a guess.
    pub is_told: bool,
    /// How many times in a row the daemon guessed the time.
    pub guesses: u32,
}

impl Quota {
    pub fn is_exceeded(&self) -> bool {
        self.until.is_some()
    }

    /// When the quota is back, if the CLI said so.
    pub fn available_at(&self) -> Option<SystemTime> {
        self.until.filter(|_| self.is_told)
    }

    /// A run has found the quota used up. If several runs find it at the same time, a guessed wait grows only once.
    pub fn mark_exceeded(&mut self, now: SystemTime, told: Option<SystemTime>) {
        if let Some(at) = told.filter(|at| *at > now) {
            self.until = Some(at.min(now + LONGEST_TOLD));
            self.is_told = true;
        } else if !self.is_exceeded() {
            let wait = FIRST_WAIT.saturating_mul(1 << self.guesses.min(8));
            self.guesses = self.guesses.saturating_add(1);
            self.until = Some(now + wait.min(LONGEST_WAIT));
            self.is_told = false;
        }
    }

    /// Ends the wait if it is over. Returns whether it did.
    pub fn end_wait(&mut self, now: SystemTime) -> bool {
        // If someone set the clock back, the end may be further away than the longest wait. Such a wait ends now.
        let is_over = |until: &mut SystemTime| *until <= now || *until > now + LONGEST_TOLD;
        self.until.take_if(is_over).is_some()
    }

    /// Called after a successful run. Returns whether there were guesses.
    pub(crate) fn forget_guesses(&mut self) -> bool {
        std::mem::take(&mut self.guesses) > 0
    }
}

/// The messages of Claude Code, Codex, OpenCode and Gemini about a used-up quota. Messages about too many requests at a
/// time are not in the list: that state passes by itself.
const USUAL: &str = "you['’]ve (hit|reached) your [^\n]{0,40}limit\
    |usage limit reached\
    |(5-hour|weekly|opus|sonnet|session) limit reached\
    |you['’]re out of (usage credits|extra usage|credits)\
    |your (org|workspace) is out of (usage|credits)\
    |credit balance is too low\
    |quota exceeded\
    |exceeded your current quota\
    |exhausted your (daily )?quota\
    |insufficient_quota\
    |usage_limit_reached\
    |TerminalQuotaError";

/// How many bytes at the end of a text are searched. A CLI prints the reason for its failure last. The same words far
/// before the end are about something else.
const SEARCHED_BYTES: usize = 16 << 10;

/// Finds the message that the quota is used up. It ignores case. Use it only for a failed run: in the output of a
/// successful run the same words are about something else.
#[derive(Debug, Clone)]
pub struct QuotaMessage(Regex);

/// A failed run said that the quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// When the quota is back, if the message says so.
    pub until: Option<SystemTime>,
}

impl QuotaMessage {
    /// `pattern` is a regular expression. It must not match an empty text.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let words = RegexBuilder::new(pattern).case_insensitive(true).build();
        let words = words.map_err(|e| format!("is not a regular expression: {e}"))?;
        if words.is_match("") {
            return Err("matches everything".to_owned());
        }
        Ok(Self(words))
    }

    /// Searches the end of `output`: a failed run's error, or its output if there is no error. Older versions of Claude
    /// Code add the time when the quota is back: `Claude AI usage limit reached|1750000000`.
    pub fn find(&self, output: &str) -> Option<Exceeded> {
        let end = last_bytes(output, SEARCHED_BYTES);
        let words = self.0.find_iter(end).last()?;
        let time = end[words.end()..].strip_prefix('|');
        let until = time.and_then(unix_time);
        Some(Exceeded { until })
    }
}

impl Default for QuotaMessage {
    fn default() -> Self {
        match Self::parse(USUAL) {
            Ok(usual) => usual,
            Err(e) => panic!("the usual words: {e}"),
        }
    }
}

/// The time at the start of a text: a number of 9 to 11 digits, in seconds since 1970.
fn unix_time(text: &str) -> Option<SystemTime> {
    let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    let word = words.next().filter(|word| (9..=11).contains(&word.len()))?;
    let since_1970 = Duration::from_secs(word.parse().ok()?);
    SystemTime::UNIX_EPOCH.checked_add(since_1970)
}
