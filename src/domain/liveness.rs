//! The connection: whether it is open, whether it is alive, when to connect again (docs/protocol.md sections 1 and 7).

use std::time::{Duration, Instant};

pub(crate) const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// A connection is dead after this long without a sign of life: the laptop slept, or a NAT forgot the connection.
/// A sign of life is a byte that arrives, or a byte that leaves a full send buffer. The second kind counts because a
/// large frame takes longer than this on a slow line.
pub const DEAD_AFTER: Duration = Duration::from_secs(25);
/// How long the peer may take to show a sign of life after this machine wakes up.
const PROOF_AFTER_SLEEP: Duration = Duration::from_secs(5);
/// The longest wait that a busy backend can ask for (docs/protocol.md section 2).
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A connection that lasts this long resets the backoff. A shorter one does not: a backend may accept
/// connections and drop them, and the daemon must not hammer it.
const STEADY_AFTER: Duration = Duration::from_secs(30);
/// The longest time that a restarting backend can keep the daemon away.
const LONGEST_ABSENCE: Duration = Duration::from_secs(3600);

#[derive(Debug)]
enum DialState {
    /// The next attempt to connect begins at this time.
    Waiting(Instant),
    Dialing,
    Connected {
        since: Instant,
        heard: Instant,
        beat_at: Instant,
    },
}

/// What to do because its time has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Dial,
    Heartbeat,
    Dead,
}

#[derive(Debug)]
pub(super) struct Liveness {
    state: DialState,
    backoff: Backoff,
    /// At least one attempt to connect has succeeded or failed.
    pub(super) is_tried: bool,
}

impl Liveness {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: DialState::Waiting(now),
            backoff: Backoff::default(),
            is_tried: false,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, DialState::Connected { .. })
    }

    pub(super) fn connect(&mut self, now: Instant) {
        self.is_tried = true;
        self.state = DialState::Connected {
            since: now,
            heard: now,
            beat_at: now + HEARTBEAT_EVERY,
        };
    }

    pub(super) fn note_heard(&mut self, now: Instant) {
        if let DialState::Connected { heard, .. } = &mut self.state {
            *heard = now;
        }
    }

    /// The connection is gone. The next attempt waits for the backoff, or for `asked` if that is longer. Returns the
    /// wait; `None` if this loss was already reported.
    pub(super) fn lose(&mut self, now: Instant, asked: Duration, jitter: f64) -> Option<Duration> {
        if matches!(self.state, DialState::Waiting(_)) {
            return None;
        }
        self.is_tried = true;
        self.note_connection(now);
        let backoff = self.backoff.next_wait(jitter);
        let wait = backoff.max(asked.min(LONGEST_WAIT));
        self.state = DialState::Waiting(now + wait);
        Some(wait)
    }

    /// Stays away for the time that the backend named and a random time more. So agents do not all come back at once.
    pub(super) fn leave(&mut self, now: Instant, after: Duration, jitter: f64) -> Duration {
        self.note_connection(now);
        let after = after.min(LONGEST_ABSENCE);
        let spread = (after / 10).max(Duration::from_secs(1));
        let wait = after + spread.mul_f64(jitter.clamp(0.0, 1.0));
        self.state = DialState::Waiting(now + wait);
        wait
    }

    /// The machine woke up. A wait ends now. A connection must show a sign of life within `PROOF_AFTER_SLEEP`.
    pub(super) fn wake(&mut self, now: Instant) {
        match &mut self.state {
            DialState::Waiting(until) => *until = (*until).min(now),
            DialState::Dialing => {}
            DialState::Connected { heard, .. } => {
                let latest = now.checked_sub(DEAD_AFTER - PROOF_AFTER_SLEEP);
                *heard = (*heard).min(latest.unwrap_or(now));
            }
        }
    }

    /// Takes the next thing that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        match &mut self.state {
            DialState::Waiting(until) if *until <= now => {
                self.state = DialState::Dialing;
                Some(Due::Dial)
            }
            DialState::Connected { heard, .. } if *heard + DEAD_AFTER <= now => Some(Due::Dead),
            DialState::Connected { beat_at, .. } if *beat_at <= now => {
                *beat_at = now + HEARTBEAT_EVERY;
                Some(Due::Heartbeat)
            }
            _ => None,
        }
    }

    fn note_connection(&mut self, now: Instant) {
        if let DialState::Connected { since, .. } = self.state {
            let lasted = now.saturating_duration_since(since);
            self.backoff.note_connection(lasted);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            DialState::Waiting(until) => Some(until),
            DialState::Dialing => None,
            DialState::Connected { heard, beat_at, .. } => Some(beat_at.min(heard + DEAD_AFTER)),
        }
    }
}

/// Exponential backoff with jitter. The value starts at 1 s and doubles up to 30 s. Each wait is a random time between
/// half of the value and the whole value.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    doublings: u32,
}

impl Backoff {
    /// The next wait. `jitter` is drawn evenly from 0 to 1.
    pub fn next_wait(&mut self, jitter: f64) -> Duration {
        let whole = FIRST_WAIT.saturating_mul(1 << self.doublings);
        let whole = whole.min(LONGEST_BACKOFF);
        self.doublings = (self.doublings + 1).min(8);
        whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// Starts again from the first wait if the connection lasted for `STEADY_AFTER`.
    pub fn note_connection(&mut self, connected_for: Duration) {
        if connected_for >= STEADY_AFTER {
            *self = Self::default();
        }
    }
}
