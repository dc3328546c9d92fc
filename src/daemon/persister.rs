//! Writes the session's records to the state folder. If an outcome, a delivery or the status cannot be written, the
//! persister tries again later.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use log::warn;

use crate::domain::event::{Event, Record};
use crate::domain::message::View;
use crate::domain::outbox::Entry;
use crate::domain::ticket::RunId;
use crate::job::{Chores, Context};
use crate::store::status;
use crate::times::now;

/// The time between two removals of old run folders.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Holds in memory what it could not write yet. If an answered ticket is not on disk, the next daemon answers it again.
pub struct Persister {
    context: Arc<Context>,
    chores: Chores,
    daemon: status::DaemonInfo,
    unwritten_status: Option<Box<View>>,
    unwritten_outcomes: Vec<Entry>,
    unwritten_deliveries: Vec<RunId>,
    pruned: Option<SystemTime>,
}

impl Persister {
    pub fn new(context: Arc<Context>, chores: Chores, daemon: status::DaemonInfo) -> Self {
        Self {
            context,
            chores,
            daemon,
            unwritten_status: None,
            unwritten_outcomes: Vec::new(),
            unwritten_deliveries: Vec::new(),
            pruned: None,
        }
    }

    /// Writes the status that `wf0-agent status` shows.
    pub fn keep_status(&mut self, view: Box<View>) {
        let kept = self.context.store.keep_status(&self.daemon, &view, now());
        if let (Err(e), None) = (&kept, &self.unwritten_status) {
            warn!("the status cannot be written yet, and wf0-agent status shows an old one: {e}");
        }
        self.unwritten_status = kept.is_err().then_some(view);
    }

    pub fn keep(&mut self, record: Record) -> Option<Event> {
        self.prune_now_and_then();
        self.catch_up();
        let store = &self.context.store;
        match record {
            Record::Ticket(job, claimed_at) => {
                let kept = store.keep_ticket(&job, claimed_at);
                return Some(Event::Kept(job.run, kept.map_err(|e| e.to_string())));
            }
            Record::Attempt(run, attempt) => {
                if let Err(e) = store.keep_attempt(run, attempt) {
                    warn!("run {run}: attempt {attempt} cannot be written to disk: {e}");
                }
            }
            Record::Outcome(entry) => self.keep_outcome(&entry),
            Record::Delivered(run) => self.keep_delivery(run),
            Record::Dialect(dialect) => {
                if let Err(e) = store.keep_dialect(dialect) {
                    warn!("the backend's dialect cannot be written to disk: {e}");
                }
            }
            Record::Quota(quota) => {
                if let Err(e) = store.keep_quota(&self.context.cli.name, quota) {
                    warn!("the quota cannot be written to disk; a restart forgets it: {e}");
                }
            }
        }
        None
    }

    /// Writes an outcome, and only then queues the removal of the run's scratch files. If the daemon crashes before the
    /// outcome is on disk, the next start needs these files to take the diff.
    pub fn keep_outcome(&mut self, entry: &Entry) {
        match self.context.store.keep_outcome(entry) {
            Ok(()) => self.chores.tidy(entry.run),
            Err(e) => {
                let id = &entry.id;
                warn!("ticket {id}: its outcome is sent, but cannot be written to disk yet: {e}");
                self.unwritten_outcomes.push(entry.clone());
            }
        }
    }

    fn keep_delivery(&mut self, run: RunId) {
        // A delivered outcome need not be written any more.
        self.unwritten_outcomes.retain(|entry| entry.run != run);
        if let Err(e) = self.context.store.keep_delivery(run) {
            warn!(
                "run {run}: its delivery cannot be written to disk yet; a restart may send it again: {e}"
            );
            self.unwritten_deliveries.push(run);
        }
        self.chores.tidy(run);
    }

    /// Tries again to write what is still unwritten: the disk may have space now.
    pub fn catch_up(&mut self) {
        if let Some(view) = self.unwritten_status.clone() {
            self.keep_status(view);
        }
        let (store, chores) = (&self.context.store, &self.chores);
        self.unwritten_outcomes.retain(|entry| {
            let kept = store.keep_outcome(entry);
            if kept.is_ok() {
                chores.tidy(entry.run);
            }
            kept.is_err()
        });
        self.unwritten_deliveries
            .retain(|run| store.keep_delivery(*run).is_err());
    }

    /// Queues the clean-up that an earlier daemon did not finish, and the removal of old clones.
    pub fn tidy_up(&self) {
        let context = &self.context;
        for run in context.store.untidied(context.keep_delivered) {
            self.chores.tidy(run);
        }
    }

    fn prune_now_and_then(&mut self) {
        let now = now();
        let since = self.pruned.and_then(|last| now.duration_since(last).ok());
        if since.is_none_or(|since| since >= PRUNE_EVERY) {
            self.pruned = Some(now);
            self.context.store.prune(self.context.keep_delivered);
            self.tidy_up();
        }
    }
}
