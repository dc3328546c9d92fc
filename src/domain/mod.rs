//! Pure policy: this module decides what to do. Others do it.
//!
//! The module reads no clock, does no I/O, starts no thread and no process, and knows no wire format. Callers pass the
//! time as [`Now`] and the randomness as a seed. So a test can invent both.

pub mod event;
pub mod invocation;
pub mod liveness;
pub mod message;
pub mod outbox;
mod queue;
pub mod quota;
pub mod repos;
pub mod session;
pub mod text;
pub mod ticket;

use std::time::{Instant, SystemTime};

/// One moment on two clocks. `mono` measures intervals. `wall` is the time of day for people and the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub mono: Instant,
    pub wall: SystemTime,
}
