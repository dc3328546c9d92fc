//! Ends the loop's wait at the session's deadline, also where the machine has slept through it.
//!
//! A wait with a timeout counts the time that the machine is awake. On Linux a timer can count the rest too, and
//! goes off the moment the machine wakes up (timerfd_create(2), CLOCK_BOOTTIME). Elsewhere the loop looks every few
//! seconds.

use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

#[cfg(target_os = "linux")]
pub use linux::Alarm;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::Alarm;

#[cfg(target_os = "linux")]
mod linux {
    use super::{Duration, Instant, Registry, Token, io};
    use std::os::fd::{AsFd, AsRawFd};

    use mio::Interest;
    use mio::unix::SourceFd;
    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

    pub struct Alarm {
        timer: TimerFd,
        set_for: Option<Instant>,
    }

    impl Alarm {
        pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
            registry.register(
                &mut SourceFd(&timer.as_fd().as_raw_fd()),
                token,
                Interest::READABLE,
            )?;
            Ok(Self {
                timer,
                set_for: None,
            })
        }

        /// Sets the alarm. How long the poll itself may wait besides: as long as it takes.
        pub fn set(&mut self, at: Option<Instant>, now: Instant) -> io::Result<Option<Duration>> {
            let left = at.map(|at| at.saturating_duration_since(now));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(left);
            }
            if self.set_for != at {
                self.set_for = at;
                match left {
                    Some(left) => self.timer.set(
                        Expiration::OneShot(TimeSpec::from_duration(left)),
                        TimerSetTimeFlags::empty(),
                    )?,
                    None => self.timer.unset()?,
                }
            }
            Ok(None)
        }

        /// It has gone off, or may have.
        pub fn rang(&mut self) {
            // The next one is set anew, which also makes the timer quiet.
            self.set_for = None;
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::{Duration, Instant, Registry, Token, io};

    /// Within so long after waking up the sleep is noticed.
    const LOOK_EVERY: Duration = Duration::from_secs(3);

    pub struct Alarm;

    impl Alarm {
        pub fn new(_registry: &Registry, _token: Token) -> io::Result<Self> {
            Ok(Self)
        }

        pub fn set(&mut self, at: Option<Instant>, now: Instant) -> io::Result<Option<Duration>> {
            Ok(Some(
                at.map_or(LOOK_EVERY, |at| at.saturating_duration_since(now))
                    .min(LOOK_EVERY),
            ))
        }

        pub fn rang(&mut self) {}
    }
}
