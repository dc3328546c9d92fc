//! A ticket from its assignment to its outcome.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::RngExt;

use super::Session;
use crate::domain::event::{Effect, Order, Record};
use crate::domain::message::{CliState, Level, Message, Notice, NoticeKind, Unavailable};
use crate::domain::outbox::Entry;
use crate::domain::repos::Repo;
use crate::domain::text::one_line;
use crate::domain::ticket::{
    ActiveTicket, FailCode, Failure, Job, Outcome, Progress, RunId, StopReason, Ticket, TicketId,
};

/// The most characters that the log shows of the backend's reason for a cancellation.
const REASON_MAX: usize = 200;

impl Session {
    pub(super) fn on_order(&mut self, order: Order) {
        match order {
            Order::Assigned(ticket) => self.on_assigned(*ticket),
            Order::Cancel(id, reason) => self.cancel(&id, &reason),
            Order::Ack(id, attempt) => {
                let delivered = self.outbox.confirm(&id, attempt);
                self.keep_delivered(delivered);
            }
            Order::ServerShutdown(reconnect_after) => self.leave(reconnect_after),
            Order::Unusable(id, attempt, why) => self.on_unusable(&id, attempt, why),
        }
    }

    /// Refuses an unusable assignment, or ignores it. A ticket that is active, or that ended under this attempt or a
    /// newer one, needs no refusal: it has its answer already.
    fn on_unusable(&mut self, id: &TicketId, attempt: u32, why: String) {
        let is_active = self.queue.find(id).is_some();
        let ended = self.outbox.find(id);
        if is_active || ended.is_some_and(|(_, newest)| newest >= attempt) {
            let line = format!("unusable assignment ignored: {why}");
            self.log(Notice::new(Level::Warn, NoticeKind::Other, line).about(id, attempt));
        } else {
            self.refuse(id, attempt, Failure::new(FailCode::InvalidTicket, why));
        }
    }

    fn on_assigned(&mut self, ticket: Ticket) {
        if self.answer_repeated(&ticket) {
            return;
        }
        let (repo, time_limit) = match self.check(&ticket) {
            Ok(accepted) => accepted,
            Err(failure) => return self.refuse(&ticket.id, ticket.attempt, failure),
        };
        let job = Job {
            run: RunId(self.rng.random()),
            ticket,
            repo,
            time_limit,
        };
        let record = Record::Ticket(Box::new(job.clone()), self.now.wall);
        self.accepting.push(job);
        self.keep(record);
    }

    /// Claims the ticket if it is on disk now. Refuses it if it cannot be stored.
    pub(super) fn on_kept(&mut self, run: RunId, kept: Result<(), String>) {
        let Some(at) = self.accepting.iter().position(|job| job.run == run) else {
            return;
        };
        let job = self.accepting.remove(at);
        let (id, attempt) = (&job.ticket.id, job.ticket.attempt);
        if let Err(why) = kept {
            let error = format!("the agent cannot store the ticket: {why}");
            return self.refuse(id, attempt, Failure::new(FailCode::Internal, error));
        }
        let (role, path) = (&job.ticket.role, job.repo.path.display());
        let line = format!("claimed: {role} in {path}");
        let mut notice = Notice::new(Level::Info, NoticeKind::Claimed, line).about(id, attempt);
        notice.run = Some(run);
        self.log(notice);
        self.claim(id, attempt);
        self.queue.push(Box::new(job), self.now.wall);
    }

    fn claim(&mut self, id: &TicketId, attempt: u32) {
        self.send(Message::Claim(id.clone(), attempt, self.now.wall));
    }

    /// Handles an assignment of a known ticket (docs/protocol.md section 4). Returns `false` if the session must treat
    /// the ticket as a new one.
    fn answer_repeated(&mut self, ticket: &Ticket) -> bool {
        let attempt = ticket.attempt;
        if let Some(active) = self.queue.find(&ticket.id) {
            let run = active.run;
            let is_newer = attempt > active.attempt;
            if active.is_stopping && is_newer {
                return false;
            }
            // An older attempt is a late frame, and gets no answer. For a newer attempt, the same run goes on.
            if attempt < active.attempt {
                return true;
            }
            active.attempt = attempt;
            if is_newer {
                self.keep(Record::Attempt(run, attempt));
            }
            self.claim(&ticket.id, attempt);
            return true;
        }
        let Some((run, newest)) = self.outbox.find(&ticket.id) else {
            return false;
        };
        if attempt > newest {
            return false;
        }
        if self.dialect.takes_outcomes_twice()
            && !self.outbox.send_again(run)
            && !self.recalls.contains(&run)
        {
            self.recalls.push_back(run);
        }
        true
    }

    /// Sends a delivered outcome again, now that it was read from disk. Refuses the ticket if the outcome is gone.
    pub(super) fn on_recalled(&mut self, run: RunId, entry: Option<Entry>) {
        if let Some(entry) = entry {
            if !self.outbox.send_again(run) {
                self.outbox.push(entry);
            }
        } else if let Some(ended) = self.outbox.delivered(run).cloned() {
            let error = "the ticket ended before, and its outcome is no longer on disk";
            let failure = Failure::new(FailCode::Internal, error);
            self.refuse(&ended.id, ended.attempt, failure);
        }
    }

    /// Decides whether to accept the ticket. Returns its repository and its time limit.
    fn check(&self, ticket: &Ticket) -> Result<(Repo, Duration), Failure> {
        if self.ending.is_some() {
            return Err(StopReason::Shutdown.failure());
        }
        if self.quota.is_exceeded() {
            return Err(no_quota());
        }
        let mut roles = self.policy.roles.iter();
        let Some((_, limit)) = roles.find(|(role, _)| *role == ticket.role) else {
            let role = ticket.role.as_str();
            let error = format!("this agent does not take the role {role:?}");
            return Err(Failure::new(FailCode::RoleNotAllowed, error));
        };
        let Some(repo) = self.policy.repos.find(&ticket.repo) else {
            let asked = ticket.repo.describe();
            let error = format!("{asked} is not among this agent's REPO_PATHS");
            return Err(Failure::new(FailCode::RepoNotAllowed, error));
        };
        let repo = repo.for_branch(ticket.branch.as_ref());
        if !self.queue.has_room_for(&repo) {
            let error = "no slot is free and the waiting line is full";
            return Err(Failure::new(FailCode::AtCapacity, error));
        }
        let asked = ticket.time_limit.unwrap_or(*limit);
        Ok((repo, asked.min(*limit)))
    }

    /// Refuses a ticket without a claim. The refusal is not stored: if it gets lost, the backend assigns again.
    fn refuse(&mut self, id: &TicketId, attempt: u32, failure: Failure) {
        let line = format!("refused: {}: {}", failure.code, failure.error);
        self.log(Notice::new(Level::Warn, NoticeKind::Refused, line).about(id, attempt));
        // The hub hands out a ticket again if it gets no answer.
        if self.dialect.failures_are_final() && failure.code.is_temporary() {
            return;
        }
        let outcome = Arc::new(Outcome::unstarted(failure));
        self.send_outcome(id.clone(), attempt, outcome);
    }

    fn cancel(&mut self, id: &TicketId, reason: &str) {
        let failure = StopReason::Cancelled.failure();
        if let Some(waiting) = self.queue.withdraw(id) {
            return self.conclude(waiting, Outcome::unstarted(failure).into());
        }
        let Some((slot, active)) = self.queue.find_running(id) else {
            return;
        };
        active.is_stopping = true;
        let (run, attempt) = (active.run, active.attempt);
        let line = format!("cancelled by the backend: {}", one_line(reason, REASON_MAX));
        self.log(Notice::new(Level::Info, NoticeKind::Other, line).about(id, attempt));
        self.effect(Effect::Stop(slot, run, StopReason::Cancelled));
    }

    pub(super) fn on_progress(&mut self, run: RunId, progress: Progress) {
        let Some(active) = self.queue.find_run(run) else {
            return;
        };
        active.progress = Some(progress.in_short(active.progress.as_ref()));
        if self.liveness.is_connected() {
            active.seq += 1;
            let (id, attempt, seq) = (active.id.clone(), active.attempt, active.seq);
            self.send(Message::Progress(id, attempt, seq, progress));
        }
    }

    pub(super) fn on_finished(&mut self, run: RunId, outcome: Arc<Outcome>) {
        // If the daemon gave the run up, its ticket has an outcome already.
        let Some(active) = self.queue.finish(run) else {
            return;
        };
        let failure = outcome.failure.as_ref();
        let end = failure.map(|failure| (failure.code, failure.available_at));
        self.conclude(active, outcome);
        match end {
            None if self.quota.forget_guesses() => self.keep(Record::Quota(self.quota)),
            Some((FailCode::CliNotFound, _)) => self.on_cli(CliState {
                unavailable: Some(Unavailable::NotFound),
                ..self.policy.cli.clone()
            }),
            Some((FailCode::QuotaExceeded, until)) => self.on_quota_exceeded(until),
            _ => {}
        }
    }

    /// Registers without roles until the quota is back.
    fn on_quota_exceeded(&mut self, until: Option<SystemTime>) {
        let before = self.quota;
        self.quota.mark_exceeded(self.now.wall, until);
        if self.quota == before {
            return;
        }
        self.keep(Record::Quota(self.quota));
        let until = self.quota.until.unwrap_or(self.now.wall);
        let wait = until.duration_since(self.now.wall).unwrap_or_default();
        let minutes = wait.as_secs().div_ceil(60);
        let line = format!("the CLI's quota is used up: no roles for {minutes} min");
        self.warn(line);
        self.withdraw_for_quota();
        self.register_again();
    }

    /// Ends the waiting tickets if the quota is used up: another agent may run them sooner.
    pub(super) fn withdraw_for_quota(&mut self) {
        if self.quota.is_exceeded() && !self.dialect.failures_are_final() {
            for waiting in self.queue.withdraw_all() {
                self.conclude(waiting, Outcome::unstarted(no_quota()).into());
            }
        }
    }

    /// Ends a claimed ticket. This happens exactly once for each claimed ticket.
    pub(super) fn conclude(&mut self, ended: ActiveTicket, outcome: Arc<Outcome>) {
        let kind = match outcome.failure {
            Some(_) => NoticeKind::Failed,
            None => NoticeKind::Done,
        };
        let line = describe(&outcome);
        let notice = Notice::new(Level::Info, kind, line).about(&ended.id, ended.attempt);
        let entry = Entry {
            run: ended.run,
            id: ended.id,
            attempt: ended.attempt,
            outcome,
        };
        self.keep(Record::Outcome(entry.clone()));
        self.log(notice);
        self.outbox.push(entry);
    }

    /// Queues a ticket that an earlier process claimed. Ends it if its repository is no longer allowed.
    pub(super) fn restore_waiting(&mut self, job: Box<Job>, claimed_at: SystemTime) {
        let (id, attempt) = (job.ticket.id.clone(), job.ticket.attempt);
        let line = "claimed before the restart, still to be run";
        self.log(Notice::new(Level::Info, NoticeKind::Other, line).about(&id, attempt));
        if let Some(repo) = self.policy.repos.at(&job.repo.path) {
            let repo = repo.for_branch(job.ticket.branch.as_ref());
            self.queue.push(Box::new(Job { repo, ..*job }), claimed_at);
            return;
        }
        let error = "no longer among this agent's REPO_PATHS";
        let failure = Failure::new(FailCode::RepoNotAllowed, error);
        let ticket = ActiveTicket::new(&job, claimed_at);
        self.conclude(ticket, Outcome::unstarted(failure).into());
    }
}

fn no_quota() -> Failure {
    let error = "an earlier run has used up the CLI's quota";
    Failure::new(FailCode::QuotaExceeded, error)
}

fn describe(outcome: &Outcome) -> String {
    let took = outcome.span.map_or(String::new(), |span| {
        format!(" after {:.1} s", span.duration.as_secs_f64())
    });
    match (&outcome.failure, outcome.changes.stat) {
        (Some(failure), _) => format!("failed{took}: {}: {}", failure.code, failure.error),
        (None, Some(stat)) => format!("done{took}: {stat}"),
        (None, None) => format!("done{took}"),
    }
}
