//! Outcomes on their way to the backend, until it is proven that it has them (docs/protocol.md section 7).

use std::collections::VecDeque;
use std::sync::Arc;

use super::ticket::{Outcome, RunId, TicketId};

/// As much may be under way at once: more would only grow the send buffer while the peer reads slowly.
/// Escaping makes a text up to six times longer, and the send buffer has to hold it all.
const WINDOW_BYTES: usize = 6 << 20;
/// So many delivered outcomes are known, to answer a repeated assignment. What they say is on disk.
pub const DELIVERED_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it is on disk.
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

/// What is known of a ticket that has ended here.
#[derive(Debug, PartialEq)]
pub enum Ended<'a> {
    Pending(&'a Entry),
    Delivered(&'a Delivered),
}

impl Ended<'_> {
    pub fn attempt(&self) -> u32 {
        match self {
            Self::Pending(entry) => entry.attempt,
            Self::Delivered(delivered) => delivered.attempt,
        }
    }
}

#[derive(Debug)]
struct Pending {
    entry: Entry,
    /// The Ping sent after it on this connection; `None` while it has not been sent on this one.
    fence: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Outbox {
    pending: VecDeque<Pending>,
    delivered: VecDeque<Delivered>,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }

    pub fn push(&mut self, entry: Entry) {
        self.pending.push_back(Pending { entry, fence: None });
    }

    /// A new connection: nothing has been sent on it.
    pub fn rewind(&mut self) {
        for pending in &mut self.pending {
            pending.fence = None;
        }
    }

    /// The oldest outcome that is to be sent now, marked as sent with that fence.
    pub fn next_to_send(&mut self, fence: u64) -> Option<Entry> {
        let under_way: usize = self
            .pending
            .iter()
            .filter(|p| p.fence.is_some())
            .map(|p| p.entry.outcome.size())
            .sum();
        let next = self.pending.iter_mut().find(|p| p.fence.is_none())?;
        if under_way > 0 && under_way + next.entry.outcome.size() > WINDOW_BYTES {
            return None;
        }
        next.fence = Some(fence);
        Some(next.entry.clone())
    }

    /// The Pong to that Ping came: everything sent before the Ping has arrived. Says what that was.
    pub fn passed(&mut self, fence: u64) -> Vec<RunId> {
        self.settle(|pending| pending.fence.is_some_and(|f| f <= fence))
    }

    /// The backend has stored it.
    pub fn acked(&mut self, id: &TicketId, attempt: Option<u32>) -> Vec<RunId> {
        let meant = |entry: &Entry| {
            entry.id == *id && attempt.is_none_or(|attempt| attempt == entry.attempt)
        };
        self.settle(|pending| pending.fence.is_some() && meant(&pending.entry))
    }

    /// Whether another outcome may be brought back into memory.
    pub fn has_room(&self) -> bool {
        self.pending
            .iter()
            .map(|p| p.entry.outcome.size())
            .sum::<usize>()
            < WINDOW_BYTES
    }

    /// The newest outcome of a ticket that has ended here; one that is under way rather than the same delivered.
    pub fn find(&self, id: &TicketId) -> Option<Ended<'_>> {
        let delivered = self
            .delivered
            .iter()
            .filter(|own| own.id == *id)
            .map(Ended::Delivered);
        let pending = self
            .pending
            .iter()
            .map(|p| &p.entry)
            .filter(|own| own.id == *id)
            .map(Ended::Pending);
        delivered.chain(pending).max_by_key(Ended::attempt)
    }

    /// The delivered outcome of that run.
    pub fn delivered(&self, run: RunId) -> Option<&Delivered> {
        self.delivered.iter().find(|own| own.run == run)
    }

    /// Sends it once more: the backend asks for it, whatever became of the last time.
    pub fn repeat(&mut self, entry: Entry) {
        let same = |p: &&mut Pending| p.entry.id == entry.id && p.entry.attempt == entry.attempt;
        match self.pending.iter_mut().find(same) {
            Some(pending) => pending.fence = None,
            None => self.push(entry),
        }
    }

    fn settle(&mut self, done: impl Fn(&Pending) -> bool) -> Vec<RunId> {
        let (settled, open) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(done);
        self.pending = open;
        let settled: VecDeque<Pending> = settled;
        let runs = settled.iter().map(|pending| pending.entry.run).collect();
        for Pending {
            entry: Entry {
                run, id, attempt, ..
            },
            ..
        } in settled
        {
            self.remember(Delivered { run, id, attempt });
        }
        runs
    }

    /// To answer a repeated assignment.
    pub fn remember(&mut self, delivered: Delivered) {
        // One that was sent twice is known once.
        self.delivered.retain(|own| own.run != delivered.run);
        self.delivered.push_back(delivered);
        if self.delivered.len() > DELIVERED_MAX {
            self.delivered.pop_front();
        }
    }
}
