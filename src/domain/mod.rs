//! Pure policy: what is decided, never how it is carried out.
//!
//! Nothing here reads a clock, opens a file or a socket, starts a thread or a process, or knows a wire format.
//! Time comes in as [`Now`], randomness as a seed, so every rule can be tested with invented ones.

pub mod backoff;
pub mod branch;
pub mod dialect;
pub mod ending;
pub mod event;
pub mod excerpt;
pub mod liveness;
pub mod message;
pub mod notice;
pub mod outbox;
pub mod prompt;
pub mod queue;
pub mod quota;
pub mod quota_message;
pub mod repos;
pub mod session;
pub mod template;
pub mod text;
pub mod ticket;
pub mod view;

use std::time::{Instant, SystemTime};

/// One moment on both clocks: `mono` for intervals, `wall` for what people and backends are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub mono: Instant,
    pub wall: SystemTime,
}
