//! What the black-box tests and the benchmark share: a scriptable backend, the built daemon, repositories, fake CLIs.

#![allow(dead_code, reason = "each user of this module needs a part of it")]

pub mod agent;
pub mod backend;
pub mod contract;
pub mod files;
pub mod hub;
pub mod network;
pub mod processes;
#[cfg(target_os = "linux")]
pub mod tls;
pub mod world;

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Long, because it is never waited out when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until there is something to see; for what nobody tells of, such as the end of somebody else's process.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(3));
    }
}
