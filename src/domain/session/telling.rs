//! What the session tells of itself: to the backend, and to whoever looks from outside.

use super::{Actions, Session};
use crate::domain::Now;
use crate::domain::event::{Action, CliState, Unavailable};
use crate::domain::message::{ActiveTicket, Capacity, Heartbeat, Register, Status};
use crate::domain::queue::Claimed;
use crate::domain::view::{Active, View};

impl Session {
    pub(super) fn register(&self) -> Register {
        let unavailable = self.unavailable();
        let is_ready = unavailable.is_none() && self.ending.is_none();
        let roles = self
            .policy
            .roles
            .iter()
            .filter(|_| is_ready)
            .map(|(role, _)| role.clone())
            .collect();
        Register {
            roles,
            repos: self.policy.repos.iter().cloned().collect(),
            cli: CliState {
                unavailable,
                ..self.policy.cli.clone()
            },
            capacity: self.capacity(),
            active: self.queue.claimed().map(active).collect(),
        }
    }

    pub(super) fn heartbeat(&self, now: Now) -> Heartbeat {
        let active = self
            .queue
            .claimed()
            .map(|claimed| claimed.id.clone())
            .collect();
        Heartbeat {
            at: now.wall,
            active,
            capacity: self.capacity(),
            status: self.status(),
        }
    }

    fn capacity(&self) -> Capacity {
        let free = if self.ending.is_some() {
            0
        } else {
            self.queue.free()
        };
        Capacity {
            max: self.queue.max(),
            free,
        }
    }

    /// Shows what has changed, if anything has.
    pub(super) fn show(&mut self, out: &mut Actions) {
        let view = self.view();
        if self.shown.as_deref() != Some(&view) {
            let view = Box::new(view);
            self.shown = Some(view.clone());
            out.push(Action::Show(view));
        }
    }

    fn view(&self) -> View {
        View {
            link: self.link.clone(),
            dialect: self.dialect,
            status: self.status(),
            cli: CliState {
                unavailable: self.unavailable(),
                ..self.policy.cli.clone()
            },
            quota: self.quota,
            capacity: self.capacity(),
            active: self.queue.claimed().map(seen).collect(),
            undelivered: self.outbox.len(),
        }
    }

    fn status(&self) -> Status {
        match (&self.ending, self.unavailable()) {
            (Some(_), _) => Status::Draining,
            (None, Some(_)) => Status::Degraded,
            (None, None) => Status::Ready,
        }
    }

    /// Why no CLI could run now.
    fn unavailable(&self) -> Option<Unavailable> {
        let quota = || Unavailable::QuotaExceeded {
            available_at: self.quota.available_at(),
        };
        self.policy
            .cli
            .unavailable
            .or_else(|| self.quota.is_exceeded().then(quota))
    }
}

fn active(claimed: &Claimed) -> ActiveTicket {
    ActiveTicket {
        id: claimed.id.clone(),
        attempt: claimed.attempt,
        started_at: claimed.claimed_at,
    }
}

fn seen(claimed: &Claimed) -> Active {
    Active {
        run: claimed.run,
        id: claimed.id.clone(),
        attempt: claimed.attempt,
        started_at: claimed.started_at,
        doing: claimed.doing.clone(),
    }
}
