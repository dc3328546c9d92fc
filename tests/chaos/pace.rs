//! When something that happens at random happens next.

use std::time::{Duration, Instant};

use fastrand::Rng;

/// Every so often on average, and no moment is likelier than another.
pub struct Pace {
    mean: Duration,
    next: Instant,
    rng: Rng,
}

impl Pace {
    /// With its own sequence: what else is drawn, and how often, changes nothing here.
    pub fn new(mean: Duration, rng: Rng) -> Self {
        let mut pace = Self {
            mean,
            next: Instant::now(),
            rng,
        };
        pace.draw(pace.next);
        pace
    }

    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next <= now;
        if is_due {
            self.draw(now);
        }
        is_due
    }

    /// Not before then.
    pub fn put_off(&mut self, until: Instant) {
        self.next = self.next.max(until);
    }

    /// Then, if it would be later.
    pub fn bring_forward(&mut self, to: Instant) {
        self.next = self.next.min(to);
    }

    fn draw(&mut self, now: Instant) {
        // At most four times the mean.
        let stretch = -(1.0 - self.rng.f64()).max(0.018).ln();
        self.next = now + self.mean.mul_f64(stretch);
    }
}
