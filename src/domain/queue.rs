//! Which tickets run and which wait. The number of slots is fixed, a work tree has one run at a time, and the number of
//! waiting tickets is limited.

use std::collections::VecDeque;
use std::path::Path;
use std::time::SystemTime;

use super::repos::Repo;
use super::ticket::{ActiveTicket, Job, RunId, TicketId};

/// How many tickets may wait. Running tickets do not count.
pub(super) const WAITING_LINE: usize = 16;

#[derive(Debug)]
pub(super) struct Queue {
    slots: Vec<Option<ActiveTicket>>,
    waiting: VecDeque<(ActiveTicket, Box<Job>)>,
}

impl Queue {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| None).collect(),
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn max(&self) -> usize {
        self.slots.len()
    }

    /// The number of idle slots. A ticket may wait although a slot is idle: another run may use its work tree.
    pub(super) fn free(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_none()).count()
    }

    /// Whether a ticket for this repository can start at once, or can wait.
    pub(super) fn has_room_for(&self, repo: &Repo) -> bool {
        let could_start = self.free() > 0 && self.is_idle(repo.shared_root());
        self.waiting.len() < WAITING_LINE || could_start
    }

    /// Whether no run uses this work tree, a folder in it, or a folder around it. Two such runs would see each other's
    /// changes. `None` means that the run gets its own clone: a clone is always idle.
    fn is_idle(&self, root: Option<&Path>) -> bool {
        let Some(root) = root else { return true };
        self.running()
            .filter_map(|(_, running)| running.shared_root.as_deref())
            .all(|busy| !busy.starts_with(root) && !root.starts_with(busy))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.active().next().is_none()
    }

    pub(super) fn running(&self) -> impl Iterator<Item = (usize, &ActiveTicket)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, ticket)| Some((slot, ticket.as_ref()?)))
    }

    /// The running tickets, then the waiting ones.
    pub(super) fn active(&self) -> impl Iterator<Item = &ActiveTicket> {
        let waiting = self.waiting.iter().map(|(ticket, _)| ticket);
        self.slots.iter().flatten().chain(waiting)
    }

    /// The newest attempt of a ticket that runs or waits.
    pub(super) fn find(&mut self, id: &TicketId) -> Option<&mut ActiveTicket> {
        let running = self.slots.iter_mut().flatten();
        let waiting = self.waiting.iter_mut().map(|(ticket, _)| ticket);
        running
            .chain(waiting)
            .filter(|ticket| ticket.id == *id)
            .max_by_key(|ticket| ticket.attempt)
    }

    /// The newest attempt of a running ticket, and its slot.
    pub(super) fn find_running(&mut self, id: &TicketId) -> Option<(usize, &mut ActiveTicket)> {
        let slots = self.slots.iter_mut().enumerate();
        slots
            .filter_map(|(slot, ticket)| Some((slot, ticket.as_mut()?)))
            .filter(|(_, ticket)| ticket.id == *id)
            .max_by_key(|(_, ticket)| ticket.attempt)
    }

    pub(super) fn find_run(&mut self, run: RunId) -> Option<&mut ActiveTicket> {
        let mut running = self.slots.iter_mut().flatten();
        running.find(|ticket| ticket.run == run)
    }

    pub(super) fn push(&mut self, job: Box<Job>, claimed_at: SystemTime) {
        let ticket = ActiveTicket::new(&job, claimed_at);
        self.waiting.push_back((ticket, job));
    }

    /// Moves the first waiting ticket whose work tree is idle into a free slot.
    pub(super) fn start_next(&mut self, now: SystemTime) -> Option<(usize, Box<Job>)> {
        let slot = self.slots.iter().position(Option::is_none)?;
        let mut waiting = self.waiting.iter();
        let next = waiting.position(|(next, _)| self.is_idle(next.shared_root.as_deref()))?;
        let (mut ticket, mut job) = self.waiting.remove(next)?;
        ticket.started_at = Some(now);
        job.ticket.attempt = ticket.attempt;
        self.slots[slot] = Some(ticket);
        Some((slot, job))
    }

    /// Frees the slot of a run that has ended.
    pub(super) fn finish(&mut self, run: RunId) -> Option<ActiveTicket> {
        let is_it = |slot: &Option<ActiveTicket>| slot.as_ref().is_some_and(|own| own.run == run);
        self.slots.iter_mut().find(|slot| is_it(slot))?.take()
    }

    /// Removes a waiting ticket.
    pub(super) fn withdraw(&mut self, id: &TicketId) -> Option<ActiveTicket> {
        let mut waiting = self.waiting.iter();
        let at = waiting.position(|(ticket, _)| ticket.id == *id)?;
        self.waiting.remove(at).map(|(ticket, _)| ticket)
    }

    /// Removes every waiting ticket.
    pub(super) fn withdraw_all(&mut self) -> Vec<ActiveTicket> {
        self.waiting.drain(..).map(|(ticket, _)| ticket).collect()
    }

    /// Removes every running ticket.
    pub(super) fn abandon_all(&mut self) -> Vec<ActiveTicket> {
        self.slots.iter_mut().filter_map(Option::take).collect()
    }
}
