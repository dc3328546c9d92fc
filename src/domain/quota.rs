//! Whether the CLI's subscription has anything left, as far as its runs have told, and when it is worth another try.

use std::time::{Duration, SystemTime};

/// Where the output does not say when the quota is back: the first wait, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(15 * 60);
const LONGEST_WAIT: Duration = Duration::from_secs(4 * 3600);
/// No subscription counts by more than a month: a time beyond that is a mistake, and would take the agent away.
const LONGEST_TOLD: Duration = Duration::from_secs(32 * 24 * 3600);

/// It outlives the daemon: a restart is no reason to try in vain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// No run before that time.
    pub until: Option<SystemTime>,
    /// Whether the CLI itself named that time.
    pub is_told: bool,
    /// How often in a row the wait had to be guessed.
    pub guesses: u32,
}

impl Quota {
    pub fn is_exceeded(&self) -> bool {
        self.until.is_some()
    }

    /// When it is back, where the CLI said so.
    pub fn available_at(&self) -> Option<SystemTime> {
        self.until.filter(|_| self.is_told)
    }

    /// A run has found it used up. Several at once are one finding.
    pub fn exceeded(&mut self, now: SystemTime, told: Option<SystemTime>) {
        if let Some(at) = told.filter(|at| *at > now) {
            self.until = Some(at.min(now + LONGEST_TOLD));
            self.is_told = true;
        } else if !self.is_exceeded() {
            let wait = FIRST_WAIT
                .saturating_mul(1 << self.guesses.min(8))
                .min(LONGEST_WAIT);
            self.guesses = self.guesses.saturating_add(1);
            self.until = Some(now + wait);
            self.is_told = false;
        }
    }

    /// Says whether the wait has just come to its end.
    pub fn is_over(&mut self, now: SystemTime) -> bool {
        // A clock that was set back must not make the wait longer than any can be.
        let over = self
            .until
            .is_some_and(|until| until <= now || until > now + LONGEST_TOLD);
        if over {
            self.until = None;
        }
        over
    }

    /// A run went well. Says whether that is news.
    pub fn worked(&mut self) -> bool {
        std::mem::take(&mut self.guesses) > 0
    }
}
