//! Who runs and who waits: a fixed number of slots, one run at a time within one work tree, a bounded line.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::repos::Repo;
use super::ticket::{Job, RunId, TicketId};
use super::view::Doing;

/// Tickets that may wait for a slot beyond those that run.
pub const WAITING_LINE: usize = 16;

/// A claimed ticket, as long as it has not ended.
#[derive(Debug)]
pub struct Claimed {
    pub id: TicketId,
    /// The newest attempt: a re-dispatch of a ticket that is still here only raises it.
    pub attempt: u32,
    pub run: RunId,
    pub claimed_at: SystemTime,
    pub started_at: Option<SystemTime>,
    pub doing: Option<Doing>,
    /// Progress messages sent so far.
    pub seq: u64,
    /// It has been told to end: what comes under a newer attempt is another run.
    pub stopping: bool,
    /// The work tree that it shares with other runs, if it does.
    root: Option<PathBuf>,
}

#[derive(Debug)]
struct Waiting {
    claimed: Claimed,
    job: Box<Job>,
}

#[derive(Debug)]
pub struct Queue {
    slots: Vec<Option<Claimed>>,
    waiting: VecDeque<Waiting>,
}

impl Queue {
    pub fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| None).collect(),
            waiting: VecDeque::new(),
        }
    }

    pub fn max(&self) -> usize {
        self.slots.len()
    }

    /// Slots that a new ticket could have at once: who waits although one is free waits for its work tree.
    pub fn free(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_none()).count()
    }

    /// Whether a ticket for that repository can start at once or stand in line.
    pub fn has_room_for(&self, repo: &Repo) -> bool {
        let could_start =
            self.slots.iter().any(Option::is_none) && self.is_idle(repo.shared_root());
        self.waiting.len() < WAITING_LINE || could_start
    }

    /// Whether no run is under way in that work tree.
    fn is_idle(&self, root: Option<&Path>) -> bool {
        let Some(root) = root else { return true };
        self.running()
            .filter_map(|(_, running)| running.root.as_deref())
            .all(|busy| !overlap(busy, root))
    }

    pub fn is_empty(&self) -> bool {
        self.running().next().is_none() && self.waiting.is_empty()
    }

    pub fn running(&self) -> impl Iterator<Item = (usize, &Claimed)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(slot, claimed)| Some((slot, claimed.as_ref()?)))
    }

    /// Those that run, then those that wait.
    pub fn claimed(&self) -> impl Iterator<Item = &Claimed> {
        let waiting = self.waiting.iter().map(|w| &w.claimed);
        self.running().map(|(_, claimed)| claimed).chain(waiting)
    }

    /// The newest attempt of a ticket that is here.
    pub fn find(&mut self, id: &TicketId) -> Option<&mut Claimed> {
        let all = self
            .slots
            .iter_mut()
            .flatten()
            .chain(self.waiting.iter_mut().map(|w| &mut w.claimed));
        all.filter(|claimed| claimed.id == *id)
            .max_by_key(|claimed| claimed.attempt)
    }

    pub fn slot_of(&self, id: &TicketId) -> Option<(usize, RunId)> {
        let runs = self.running().filter(|(_, claimed)| claimed.id == *id);
        runs.max_by_key(|(_, claimed)| claimed.attempt)
            .map(|(slot, claimed)| (slot, claimed.run))
    }

    pub fn find_run(&mut self, run: RunId) -> Option<&mut Claimed> {
        self.slots
            .iter_mut()
            .flatten()
            .find(|claimed| claimed.run == run)
    }

    pub fn push(&mut self, job: Box<Job>, claimed_at: SystemTime) {
        let claimed = Claimed {
            id: job.ticket.id.clone(),
            attempt: job.ticket.attempt,
            run: job.run,
            claimed_at,
            started_at: None,
            doing: None,
            seq: 0,
            root: job.repo.shared_root().map(Path::to_owned),
            stopping: false,
        };
        self.waiting.push_back(Waiting { claimed, job });
    }

    /// The first in line whose work tree is idle, moved into a free slot.
    pub fn start_next(&mut self, now: SystemTime) -> Option<(usize, Box<Job>)> {
        let slot = self.slots.iter().position(Option::is_none)?;
        let next = self
            .waiting
            .iter()
            .position(|w| self.is_idle(w.claimed.root.as_deref()))?;
        let Waiting {
            mut claimed,
            mut job,
        } = self.waiting.remove(next)?;
        claimed.started_at = Some(now);
        job.ticket.attempt = claimed.attempt;
        self.slots[slot] = Some(claimed);
        Some((slot, job))
    }

    /// A run has ended: its slot is free.
    pub fn finish(&mut self, run: RunId) -> Option<Claimed> {
        self.slots
            .iter_mut()
            .find(|slot| slot.as_ref().is_some_and(|claimed| claimed.run == run))?
            .take()
    }

    /// Takes a ticket that has not started out of the line.
    pub fn withdraw(&mut self, id: &TicketId) -> Option<Claimed> {
        let at = self.waiting.iter().position(|w| w.claimed.id == *id)?;
        self.waiting.remove(at).map(|w| w.claimed)
    }

    /// Takes every ticket that has not started out of the line.
    pub fn withdraw_all(&mut self) -> Vec<Claimed> {
        self.waiting.drain(..).map(|w| w.claimed).collect()
    }

    /// Gives up on every run that has not ended.
    pub fn abandon_all(&mut self) -> Vec<Claimed> {
        self.slots.iter_mut().filter_map(Option::take).collect()
    }
}

/// Whether one folder is, or lies in, the other: a run in either would see the other's changes.
fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}
