//! Puts on disk what the session wants kept, and remembers what could not be written yet.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use log::warn;

use crate::domain::event::{Event, Record};
use crate::domain::message::View;
use crate::domain::outbox::Entry;
use crate::domain::ticket::RunId;
use crate::job::Chores;
use crate::store::Store;
use crate::store::status::Daemon;

/// How often old folders are looked for: a daemon runs for a year.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

pub struct Keeper {
    store: Arc<Store>,
    chores: Chores,
    /// Whose quota is kept.
    cli: String,
    keep_delivered: Duration,
    pruned: Option<SystemTime>,
    told_by: Daemon,
    /// The status that could not be written.
    unkept: Option<Box<View>>,
    /// What is owed to the disk. A ticket that was answered, and looks unanswered there, would be run or answered again
    /// by the next daemon.
    outcomes: Vec<Entry>,
    deliveries: Vec<RunId>,
}

impl Keeper {
    pub fn new(
        store: Arc<Store>,
        chores: Chores,
        cli: String,
        keep_delivered: Duration,
        told_by: Daemon,
    ) -> Self {
        Self {
            store,
            chores,
            cli,
            keep_delivered,
            pruned: None,
            told_by,
            unkept: None,
            outcomes: Vec::new(),
            deliveries: Vec::new(),
        }
    }

    /// For whoever looks with `wf0-agent status`.
    #[expect(clippy::disallowed_methods, reason = "the time of a file is no policy")]
    pub fn keep_status(&mut self, view: Box<View>) {
        let kept = self
            .store
            .keep_status(&self.told_by, &view, SystemTime::now());
        if let (Err(e), None) = (&kept, &self.unkept) {
            warn!("the status cannot be written yet, and wf0-agent status shows an old one: {e}");
        }
        self.unkept = kept.is_err().then_some(view);
    }

    pub fn keep(&mut self, record: Record) -> Option<Event> {
        self.prune_now_and_then();
        self.catch_up();
        match record {
            Record::Ticket { job, claimed_at } => {
                let kept = self
                    .store
                    .keep_ticket(&job, claimed_at)
                    .map_err(|e| e.to_string());
                return Some(Event::Kept(job.run, kept));
            }
            Record::Attempt { run, attempt } => {
                if let Err(e) = self.store.keep_attempt(run, attempt) {
                    warn!("run {run}: its attempt {attempt} cannot be noted: {e}");
                }
            }
            Record::Outcome(entry) => self.keep_outcome(&entry),
            Record::Delivered(run) => {
                // Of what was delivered the outcome itself need no longer be kept.
                self.outcomes.retain(|entry| entry.run != run);
                if let Err(e) = self.store.keep_delivery(run) {
                    warn!(
                        "run {run}: its delivery cannot be noted yet, and it may be sent again: {e}"
                    );
                    self.deliveries.push(run);
                }
                if self.store.has_spent_clone(run) {
                    self.chores.remove_clone(run);
                }
            }
            Record::Dialect(dialect) => {
                if let Err(e) = self.store.keep_dialect(dialect) {
                    warn!(
                        "what the backend speaks cannot be noted, and is found out anew at the next start: {e}"
                    );
                }
            }
            Record::Quota(quota) => {
                if let Err(e) = self.store.keep_quota(&self.cli, quota) {
                    warn!(
                        "the state of the CLI's quota cannot be noted, and is forgotten with this process: {e}"
                    );
                }
            }
        }
        None
    }

    /// Only what is on disk is tidied: else a crash would make a run of it that was cut off, with its diff still to
    /// take.
    pub fn keep_outcome(&mut self, entry: &Entry) {
        match self.store.keep_outcome(entry) {
            Ok(()) => self.chores.tidy(entry.run),
            Err(e) => {
                let id = &entry.id;
                warn!(
                    "ticket {id}: its outcome cannot be written to disk yet, and is sent all the same: {e}"
                );
                self.outcomes.push(entry.clone());
            }
        }
    }

    /// Tries again what could not be written: there is something new to write, and so perhaps room for it.
    pub fn catch_up(&mut self) {
        if let Some(view) = self.unkept.clone() {
            self.keep_status(view);
        }
        let (store, chores) = (&self.store, &self.chores);
        self.outcomes.retain(|entry| {
            let kept = store.keep_outcome(entry);
            kept.iter().for_each(|()| chores.tidy(entry.run));
            kept.is_err()
        });
        self.deliveries
            .retain(|run| store.keep_delivery(*run).is_err());
    }

    /// Has removed what an earlier process left, which ended before it came to it.
    #[expect(
        clippy::disallowed_methods,
        reason = "how old a folder is, is a matter of the disk"
    )]
    pub fn tidy_up(&self) {
        self.store
            .untidied()
            .into_iter()
            .for_each(|run| self.chores.tidy(run));
        let spent = self
            .store
            .spent_clones(self.keep_delivered, SystemTime::now());
        spent
            .into_iter()
            .for_each(|run| self.chores.remove_clone(run));
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "how old a folder is, is a matter of the disk"
    )]
    fn prune_now_and_then(&mut self) {
        let now = SystemTime::now();
        let since = self
            .pruned
            .map(|last| now.duration_since(last).unwrap_or(PRUNE_EVERY));
        if since.is_none_or(|since| since >= PRUNE_EVERY) {
            self.pruned = Some(now);
            self.store.prune(self.keep_delivered, now);
            self.tidy_up();
        }
    }
}
