//! Pure policy: what is decided, never how it is carried out.
//!
//! This module reads no clock, does no I/O, starts no thread and no process, and knows no wire format. Time comes in as
//! [`Now`] and randomness as a seed, so that each rule can be tested with invented ones.

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

/// One moment on both clocks: `mono` for intervals, `wall` for people and backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub mono: Instant,
    pub wall: SystemTime,
}
