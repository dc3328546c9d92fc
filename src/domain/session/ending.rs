//! From the order to stop to the exit: runs may go on for a while, the daemon stops the rest and sends the outcomes.

use std::time::Duration;

use super::{Ending, Session, StopStage};
use crate::domain::event::{Action, DaemonEnd, Effect, Goodbye};
use crate::domain::ticket::{FailCode, Failure, Outcome, StopReason};

/// How long the daemon waits for the backend to confirm the last outcomes.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// How long after its grace a run may still take to end. Then the daemon gives it up.
const STOP_SLACK: Duration = Duration::from_secs(10);

impl Session {
    /// Begins the ending. The first [`DaemonEnd::Asked`] lets runs go on for the drain time. A second one stops them,
    /// and so does any other reason to end.
    pub(super) fn end(&mut self, end: DaemonEnd) {
        let drain = match &self.ending {
            None => end == DaemonEnd::Asked && !self.policy.drain.is_zero(),
            Some(ending) if ending.stage == StopStage::Draining => false,
            Some(_) => return,
        };
        for waiting in self.queue.withdraw_all() {
            // With the hub, a waiting ticket stays on disk as claimed, and the next daemon runs it.
            if !self.dialect.failures_are_final() {
                let failure = StopReason::Shutdown.failure();
                self.conclude(waiting, Outcome::unstarted(failure).into());
            }
        }
        let running = self.queue.running().count();
        if drain && running > 0 {
            let limit = self.policy.drain;
            self.info(format!(
                "stopping once {running} running tickets have ended, at most {limit:?} from now"
            ));
            let stage = StopStage::Draining;
            let until = self.now.mono + limit;
            self.ending = Some(Ending { end, stage, until });
            self.register_again();
            self.beat();
        } else {
            self.info(format!("stopping; {running} running"));
            self.stop_runs(end);
        }
    }

    fn stop_runs(&mut self, end: DaemonEnd) {
        let until = self.now.mono + self.policy.grace + STOP_SLACK;
        let stage = StopStage::Stopping;
        self.ending = Some(Ending { end, stage, until });
        let running = self.queue.running();
        let running = running.map(|(slot, active)| (slot, active.run));
        for (slot, run) in running.collect::<Vec<_>>() {
            self.effect(Effect::Stop(slot, run, StopReason::Shutdown));
        }
    }

    /// Moves the ending forward as many stages as possible now.
    pub(super) fn advance_ending(&mut self) {
        let Some(ending) = &self.ending else { return };
        if ending.until <= self.now.mono && !self.queue.is_empty() {
            match ending.stage {
                StopStage::Draining => self.stop_runs(ending.end),
                StopStage::Stopping => self.abandon_runs(),
                StopStage::Flushing | StopStage::Done => {}
            }
        }
        let Some(ending) = &mut self.ending else {
            return;
        };
        if !self.queue.is_empty() {
            return;
        }
        if matches!(ending.stage, StopStage::Draining | StopStage::Stopping) {
            ending.stage = StopStage::Flushing;
            ending.until = self.now.mono + FLUSH_LIMIT;
        }
        let is_connected = self.liveness.is_connected();
        if is_connected && self.outbox.len() > 0 && self.now.mono < ending.until {
            return;
        }
        ending.stage = StopStage::Done;
        let end = ending.end;
        if self.outbox.len() > 0 {
            self.warn("not every outcome is confirmed; the rest goes out at the next start");
        }
        if is_connected {
            self.actions.push(Action::Disconnect(Goodbye::GoingAway));
        }
        self.actions.push(Action::Exit(end));
    }

    fn abandon_runs(&mut self) {
        for active in self.queue.abandon_all() {
            let error = "the run could not be ended before the agent stopped";
            let failure = Failure::new(FailCode::AgentShutdown, error);
            self.conclude(active, Outcome::unstarted(failure).into());
        }
        self.send_outcomes();
    }
}
