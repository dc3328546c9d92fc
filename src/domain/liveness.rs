//! Whether there is a connection, whether it is alive, and when to try the next (docs/protocol.md sections 1 and 7).

use std::time::{Duration, Instant};

use super::backoff::Backoff;

pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// No sign of the peer for this long: the laptop slept, or a NAT forgot the connection. A sign is a byte that comes,
/// or that a full send buffer passes on: a frame of the largest size takes longer on a slow line.
pub const DEAD_AFTER: Duration = Duration::from_secs(25);
/// How long a peer may take to answer once the machine has woken up.
const PROOF_AFTER_SLEEP: Duration = Duration::from_secs(5);
/// The longest wait that a busy backend can ask for (docs/protocol.md section 2).
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The longest absence that a backend which restarts can ask for.
pub const LONGEST_ABSENCE: Duration = Duration::from_secs(3600);

#[derive(Debug)]
enum Phase {
    Waiting {
        until: Instant,
    },
    Dialing,
    Connected {
        since: Instant,
        heard: Instant,
        beat_at: Instant,
    },
}

/// What time alone makes necessary.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    Dial,
    Heartbeat,
    Dead,
}

#[derive(Debug)]
pub struct Liveness {
    phase: Phase,
    backoff: Backoff,
    /// An attempt has succeeded or failed.
    is_tried: bool,
}

impl Liveness {
    pub fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Waiting { until: now },
            backoff: Backoff::default(),
            is_tried: false,
        }
    }

    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected { .. })
    }

    /// Whether it is known if there is a connection to be had.
    pub fn is_tried(&self) -> bool {
        self.is_tried
    }

    pub fn connected(&mut self, now: Instant) {
        self.is_tried = true;
        self.phase = Phase::Connected {
            since: now,
            heard: now,
            beat_at: now + HEARTBEAT_EVERY,
        };
    }

    pub fn heard(&mut self, now: Instant) {
        if let Phase::Connected { heard, .. } = &mut self.phase {
            *heard = now;
        }
    }

    /// There is no connection any more; the next try comes after the backoff, and not before `at_least`.
    /// Says how long the wait is. A second report of the same loss changes nothing.
    pub fn lost(&mut self, now: Instant, at_least: Duration, jitter: f64) -> Option<Duration> {
        if matches!(self.phase, Phase::Waiting { .. }) {
            return None;
        }
        self.is_tried = true;
        self.note_how_long(now);
        let wait = self.backoff.wait(jitter).max(at_least.min(LONGEST_WAIT));
        self.phase = Phase::Waiting { until: now + wait };
        Some(wait)
    }

    /// The backend named a time to come back: that long and a little more, so that not every agent comes at once.
    pub fn come_back(&mut self, now: Instant, after: Duration, jitter: f64) -> Duration {
        self.note_how_long(now);
        let after = after.min(LONGEST_ABSENCE);
        let wait = after
            + (after / 10)
                .max(Duration::from_secs(1))
                .mul_f64(jitter.clamp(0.0, 1.0));
        self.phase = Phase::Waiting { until: now + wait };
        wait
    }

    /// After a sleep: a wait is over, and a connection has to show that it is one within moments.
    pub fn woken(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Waiting { until } => *until = (*until).min(now),
            Phase::Dialing => {}
            Phase::Connected { heard, .. } => {
                *heard = (*heard).min(
                    now.checked_sub(DEAD_AFTER - PROOF_AFTER_SLEEP)
                        .unwrap_or(now),
                );
            }
        }
    }

    /// What is due now, one thing at a time; asking takes it as done.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        match &mut self.phase {
            Phase::Waiting { until } if *until <= now => {
                self.phase = Phase::Dialing;
                Some(Due::Dial)
            }
            Phase::Connected { heard, .. } if *heard + DEAD_AFTER <= now => Some(Due::Dead),
            Phase::Connected { beat_at, .. } if *beat_at <= now => {
                *beat_at = now + HEARTBEAT_EVERY;
                Some(Due::Heartbeat)
            }
            _ => None,
        }
    }

    fn note_how_long(&mut self, now: Instant) {
        if let Phase::Connected { since, .. } = self.phase {
            self.backoff.lasted(now.saturating_duration_since(since));
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Dialing => None,
            Phase::Connected { heard, beat_at, .. } => Some(beat_at.min(heard + DEAD_AFTER)),
        }
    }
}
