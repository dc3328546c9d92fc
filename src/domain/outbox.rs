//! Outcomes on their way to the backend, until it is proven that it has them (PROTOCOL.md section 7).

use std::collections::VecDeque;
use std::sync::Arc;

use super::ticket::{Outcome, RunId, TicketId};

/// As much may be under way at once: more would only grow the send buffer while the peer reads slowly.
/// Escaping makes a text up to six times longer, and the send buffer has to hold it all.
const WINDOW_BYTES: usize = 6 << 20;
/// Delivered outcomes are kept to answer a repeated assignment, the newest within these bounds.
const RECENT_BYTES: usize = 8 << 20;
const RECENT_COUNT: usize = 256;

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it is on disk.
    pub run: RunId,
    pub id: TicketId,
    pub attempt: u32,
    pub outcome: Arc<Outcome>,
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
    recent: VecDeque<Entry>,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
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
        let under_way: usize =
            self.pending.iter().filter(|p| p.fence.is_some()).map(|p| p.entry.outcome.size()).sum();
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
        let meant = |entry: &Entry| entry.id == *id && attempt.is_none_or(|attempt| attempt == entry.attempt);
        self.settle(|pending| pending.fence.is_some() && meant(&pending.entry))
    }

    /// The newest outcome of a ticket that has ended here, delivered or not.
    pub fn find(&self, id: &TicketId) -> Option<&Entry> {
        let all = self.pending.iter().map(|p| &p.entry).chain(&self.recent);
        all.filter(|entry| entry.id == *id).max_by_key(|entry| entry.attempt)
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
        let (settled, open) = std::mem::take(&mut self.pending).into_iter().partition(done);
        self.pending = open;
        let settled: VecDeque<Pending> = settled;
        let runs = settled.iter().map(|pending| pending.entry.run).collect();
        for pending in settled {
            self.remember(pending.entry);
        }
        runs
    }

    /// Keeps a delivered outcome, to answer a repeated assignment.
    pub fn remember(&mut self, entry: Entry) {
        // One that was sent twice is kept once.
        self.recent.retain(|own| own.id != entry.id || own.attempt != entry.attempt);
        self.recent.push_back(entry);
        let mut bytes: usize = self.recent.iter().map(|own| own.outcome.size()).sum();
        // The newest stays, however large.
        while self.recent.len() > 1 && (self.recent.len() > RECENT_COUNT || bytes > RECENT_BYTES) {
            bytes -= self.recent.pop_front().map_or(0, |oldest| oldest.outcome.size());
        }
    }
}
