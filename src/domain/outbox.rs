//! Outcomes on their way to the backend, until a Pong or an ack proves their arrival (docs/protocol.md section 7).

use std::collections::VecDeque;
use std::sync::Arc;

use super::ticket::{Outcome, RunId, TicketId};

/// The most bytes of outcomes that may be sent and not yet confirmed. With a slow peer, more bytes would only fill the
/// daemon's send buffer. That buffer must hold all of them, and escaping can make a text six times longer.
const WINDOW_BYTES: usize = 6 << 20;
/// How many delivered outcomes the outbox remembers. They answer repeated assignments. Their content is read from disk.
pub(crate) const DELIVERED_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The run's folder on disk has this name.
    pub run: RunId,
    pub id: TicketId,
    pub attempt: u32,
    pub outcome: Arc<Outcome>,
}

/// A delivered outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    pub run: RunId,
    pub id: TicketId,
    pub attempt: u32,
}

#[derive(Debug)]
struct Pending {
    entry: Entry,
    /// The number of the Ping that follows the outcome. `None`: the outcome was not sent on this connection.
    fence: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    pending: VecDeque<Pending>,
    delivered: VecDeque<Delivered>,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.pending.push_back(Pending { entry, fence: None });
    }

    /// Marks everything as unsent, for a new connection.
    pub(super) fn rewind(&mut self) {
        for pending in &mut self.pending {
            pending.fence = None;
        }
    }

    /// Returns the oldest unsent outcome if `WINDOW_BYTES` leaves space for it. Marks it as sent before Ping `fence`.
    pub(super) fn take_next(&mut self, fence: u64) -> Option<Entry> {
        let sent = self.pending.iter().filter(|p| p.fence.is_some());
        let sent: usize = sent.map(|p| p.entry.outcome.size()).sum();
        let next = self.pending.iter_mut().find(|p| p.fence.is_none())?;
        if sent > 0 && sent + next.entry.outcome.size() > WINDOW_BYTES {
            return None;
        }
        next.fence = Some(fence);
        Some(next.entry.clone())
    }

    /// The Pong to Ping `fence` came, so everything sent before this Ping has arrived. Returns the runs of the outcomes
    /// that have arrived.
    pub(super) fn confirm_up_to(&mut self, fence: u64) -> Vec<RunId> {
        self.deliver(|pending| pending.fence.is_some_and(|own| own <= fence))
    }

    /// The backend has stored the outcome of this attempt, or of any attempt if `attempt` is `None`.
    pub(super) fn confirm(&mut self, id: &TicketId, attempt: Option<u32>) -> Vec<RunId> {
        self.deliver(|Pending { entry, fence }| {
            let is_attempt = attempt.is_none_or(|attempt| attempt == entry.attempt);
            fence.is_some() && entry.id == *id && is_attempt
        })
    }

    /// Whether memory has space for another outcome from disk.
    pub(super) fn has_room(&self) -> bool {
        let sizes = self.pending.iter().map(|p| p.entry.outcome.size());
        sizes.sum::<usize>() < WINDOW_BYTES
    }

    /// The run and the attempt of the ticket's newest outcome. If a pending and a delivered outcome have the same
    /// attempt, the pending one counts.
    pub(super) fn find(&self, id: &TicketId) -> Option<(RunId, u32)> {
        let delivered = self.delivered.iter().filter(|own| own.id == *id);
        let pending = self.pending.iter().map(|p| &p.entry);
        let pending = pending.filter(|own| own.id == *id);
        delivered
            .map(|own| (own.run, own.attempt))
            .chain(pending.map(|own| (own.run, own.attempt)))
            .max_by_key(|(_, attempt)| *attempt)
    }

    pub(super) fn delivered(&self, run: RunId) -> Option<&Delivered> {
        self.delivered.iter().find(|own| own.run == run)
    }

    /// Marks the run's outcome as unsent if it is pending. Returns whether it is pending.
    pub(super) fn send_again(&mut self, run: RunId) -> bool {
        let pending = self.pending.iter_mut().find(|p| p.entry.run == run);
        pending.map(|pending| pending.fence = None).is_some()
    }

    fn deliver(&mut self, is_delivered: impl Fn(&Pending) -> bool) -> Vec<RunId> {
        let pending = std::mem::take(&mut self.pending).into_iter();
        let (delivered, pending): (VecDeque<_>, VecDeque<_>) = pending.partition(is_delivered);
        self.pending = pending;
        let runs = delivered.iter().map(|own| own.entry.run).collect();
        for pending in delivered {
            let Entry {
                run, id, attempt, ..
            } = pending.entry;
            self.remember(Delivered { run, id, attempt });
        }
        runs
    }

    /// Remembers a delivered outcome: it can answer a repeated assignment.
    pub(super) fn remember(&mut self, delivered: Delivered) {
        // An outcome that was delivered twice gets only one entry.
        self.delivered.retain(|own| own.run != delivered.run);
        self.delivered.push_back(delivered);
        if self.delivered.len() > DELIVERED_MAX {
            self.delivered.pop_front();
        }
    }
}
