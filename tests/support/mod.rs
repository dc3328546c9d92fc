//! What the black-box tests and the benchmark share: a scriptable backend, the built daemon, repositories, fake CLIs.

#![allow(dead_code, reason = "each user of this module needs a part of it")]

pub mod agent;
pub mod backend;
pub mod world;

use std::time::Duration;

/// How long anything may take before a test gives up. Long, because it is never waited out when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);
