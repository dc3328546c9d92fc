//! How a coding CLI says that its subscription has nothing left. Only to be looked for in a run that failed: the
//! same words in the output of a run that went well are about something else.

use std::time::{Duration, SystemTime};

use regex_lite::{Regex, RegexBuilder};

/// What Claude Code, Codex, OpenCode and Gemini were seen to print. Messages about a moment of too many requests are
/// not among them: those pass by themselves.
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

/// Older versions of it: `Claude AI usage limit reached|1750000000`.
const AFTER_THE_WORDS: &str = "^\\|([0-9]{9,11})\\b";

/// A CLI ends with its reason: what stands far before the end is about something else.
const LOOKED_AT: usize = 16 << 10;

/// The words to look for, in lower or upper case.
#[derive(Debug, Clone)]
pub struct QuotaMessage {
    words: Regex,
    after_the_words: Regex,
}

/// What a failed run said about the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// When it is back, where that is told.
    pub until: Option<SystemTime>,
}

impl QuotaMessage {
    /// From a regular expression.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let build = |pattern: &str| RegexBuilder::new(pattern).case_insensitive(true).build();
        let words = build(pattern).map_err(|e| format!("is not a regular expression: {e}"))?;
        if words.is_match("") {
            return Err("matches everything".to_owned());
        }
        Ok(Self {
            words,
            after_the_words: build(AFTER_THE_WORDS).map_err(|e| e.to_string())?,
        })
    }

    /// Looks at the end of a failed run's own error, or of its output where it has none.
    pub fn find(&self, output: &str) -> Option<Exceeded> {
        let mut start = output.len().saturating_sub(LOOKED_AT);
        while !output.is_char_boundary(start) {
            start += 1;
        }
        let end = &output[start..];
        let words = self.words.find_iter(end).last()?;
        let until = self
            .after_the_words
            .captures(&end[words.end()..])
            .and_then(|found| unix_time(&found[1]));
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

fn unix_time(seconds: &str) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))
}
