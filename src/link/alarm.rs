//! Ends the loop's wait at the session's deadline, even if the machine sleeps in between.
//!
//! A poll's timeout does not count the time that the machine sleeps. On Linux a timer does (timerfd_create(2),
//! CLOCK_BOOTTIME), and ends the wait when the machine wakes up. On other systems the loop looks every few seconds.

use std::io;
use std::time::Duration;

use mio::{Registry, Token};
#[cfg(target_os = "linux")]
use nix::sys::timerfd::TimerFd;

#[cfg(target_os = "linux")]
pub(super) struct Alarm(TimerFd);

#[cfg(target_os = "linux")]
impl Alarm {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        use nix::sys::timerfd::{ClockId, TimerFlags};
        use std::os::fd::{AsFd, AsRawFd};

        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        let fd = timer.as_fd().as_raw_fd();
        registry.register(
            &mut mio::unix::SourceFd(&fd),
            token,
            mio::Interest::READABLE,
        )?;
        Ok(Self(timer))
    }

    /// Sets the alarm. Returns the timeout that the poll needs besides.
    pub(super) fn set(&self, left: Option<Duration>) -> io::Result<Option<Duration>> {
        use nix::sys::time::TimeSpec;
        use nix::sys::timerfd::{Expiration, TimerSetTimeFlags};

        match left {
            None => self.0.unset()?,
            Some(Duration::ZERO) => return Ok(left),
            Some(left) => {
                let at = Expiration::OneShot(TimeSpec::from_duration(left));
                self.0.set(at, TimerSetTimeFlags::empty())?;
            }
        }
        Ok(None)
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) struct Alarm;

#[cfg(not(target_os = "linux"))]
impl Alarm {
    pub(super) fn new(_registry: &Registry, _token: Token) -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) fn set(&self, left: Option<Duration>) -> io::Result<Option<Duration>> {
        /// A sleep is noticed this long after waking up, at the latest.
        const LOOK_EVERY: Duration = Duration::from_secs(3);
        Ok(Some(left.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)))
    }
}
