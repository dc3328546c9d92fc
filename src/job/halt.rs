//! How a run learns that it is to end before its time.

use std::cell::Cell;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, TryRecvError};

use crate::domain::ticket::{RunId, StopReason};

/// The stop orders of one worker, as one of its runs sees them. An order for an earlier run means nothing to it.
pub struct Halt {
    orders: Receiver<(RunId, StopReason)>,
    run: RunId,
    reason: Cell<Option<StopReason>>,
}

impl Halt {
    pub fn new(orders: Receiver<(RunId, StopReason)>, run: RunId) -> Self {
        Self {
            orders,
            run,
            reason: Cell::new(None),
        }
    }

    /// For what nobody calls off.
    pub fn never() -> Self {
        Self::new(crossbeam_channel::never(), RunId(0))
    }

    /// Why the run is to end, if it is. The first reason stays.
    pub fn reason(&self) -> Option<StopReason> {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.note(Ok(order)),
                Err(TryRecvError::Disconnected) => self.note(Err(RecvError)),
                Err(TryRecvError::Empty) => return self.reason.get(),
            }
            if self.reason.get().is_some() {
                return self.reason.get();
            }
        }
    }

    /// For a `select!`; what it yields goes to [`note`](Self::note).
    pub fn orders(&self) -> &Receiver<(RunId, StopReason)> {
        &self.orders
    }

    /// A closed channel means that nobody is left who wants the run.
    pub fn note(&self, order: Result<(RunId, StopReason), RecvError>) {
        let reason = match order {
            Ok((run, reason)) => (run == self.run).then_some(reason),
            Err(RecvError) => Some(StopReason::Shutdown),
        };
        self.reason.set(self.reason.get().or(reason));
    }

    /// Waits that long, or until the run is to end.
    pub fn pause(&self, time: Duration) -> Option<StopReason> {
        if self.reason().is_none() {
            match self.orders.recv_timeout(time) {
                Ok(order) => self.note(Ok(order)),
                Err(RecvTimeoutError::Disconnected) => self.note(Err(RecvError)),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.reason()
    }
}
