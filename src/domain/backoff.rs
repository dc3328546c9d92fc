//! How long to wait before the next attempt to connect (docs/protocol.md section 7).

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that lasted this long was a good one: the next wait starts from the beginning. Resetting at
/// once would hammer a backend that accepts connections and drops them.
pub const STEADY_AFTER: Duration = Duration::from_secs(30);

/// Exponential backoff with jitter: from 1 s, doubling to 30 s, each wait between half and the whole of it.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The next wait. `jitter` is drawn evenly from 0 to 1.
    pub fn wait(&mut self, jitter: f64) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// To be told how long each connection lasted.
    pub fn lasted(&mut self, connected_for: Duration) {
        if connected_for >= STEADY_AFTER {
            *self = Self::default();
        }
    }
}
