//! How a run learns that it is to end before its time.

use std::cell::Cell;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::domain::ticket::{RunId, StopReason};

/// The stop orders of one worker, as one of its runs sees them. An order for an earlier run means nothing to it.
pub struct Halt {
    orders: Receiver<(RunId, StopReason)>,
    run: RunId,
    reason: Cell<Option<StopReason>>,
}

impl Halt {
    pub fn new(orders: Receiver<(RunId, StopReason)>, run: RunId) -> Self {
        Self { orders, run, reason: Cell::new(None) }
    }

    /// For what nobody calls off.
    pub fn never() -> Self {
        Self::new(crossbeam_channel::never(), RunId(0))
    }

    /// Why the run is to end, if it is. The first reason stays.
    pub fn reason(&self) -> Option<StopReason> {
        while let Ok(order) = self.orders.try_recv() {
            self.note(order);
        }
        self.reason.get()
    }

    /// For a `select!`; what it yields goes to [`note`](Self::note).
    pub fn orders(&self) -> &Receiver<(RunId, StopReason)> {
        &self.orders
    }

    pub fn note(&self, (run, reason): (RunId, StopReason)) {
        if run == self.run && self.reason.get().is_none() {
            self.reason.set(Some(reason));
        }
    }

    /// Waits that long, or until the run is to end.
    pub fn pause(&self, time: Duration) -> Option<StopReason> {
        if self.reason().is_none() {
            match self.orders.recv_timeout(time) {
                Ok(order) => self.note(order),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
        self.reason()
    }
}
