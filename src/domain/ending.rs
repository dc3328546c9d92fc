//! The stages of a daemon that is told to stop: drain, stop the runs, flush the outbox, done.

use std::time::{Duration, Instant};

use super::event::Exit;

/// How long the last outcomes may take to be confirmed.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// How much longer than its grace a run may take to end before the daemon ends without it.
const STOP_SLACK: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Runs go on to their own end.
    Draining,
    /// Runs have been told to end.
    Stopping,
    /// No run is left; outcomes are on their way.
    Flushing,
    Done,
}

#[derive(Debug)]
pub struct Ending {
    pub exit: Exit,
    stage: Stage,
    until: Instant,
}

impl Ending {
    pub fn drain(now: Instant, exit: Exit, time: Duration) -> Self {
        Self {
            exit,
            stage: Stage::Draining,
            until: now + time,
        }
    }

    pub fn stop(now: Instant, exit: Exit, grace: Duration) -> Self {
        Self {
            exit,
            stage: Stage::Stopping,
            until: now + grace + STOP_SLACK,
        }
    }

    /// The runs are over.
    pub fn flush(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Draining | Stage::Stopping) {
            self.stage = Stage::Flushing;
            self.until = now + FLUSH_LIMIT;
        }
    }

    pub fn done(&mut self) {
        self.stage = Stage::Done;
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    pub fn is_overdue(&self, now: Instant) -> bool {
        self.until <= now
    }

    pub fn deadline(&self) -> Option<Instant> {
        (self.stage != Stage::Done).then_some(self.until)
    }
}
