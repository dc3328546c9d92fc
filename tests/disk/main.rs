//! What needs a disk or git, but no daemon: settings with their files and folders, and the state folder.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and start git"
)]

mod branch;
mod config;
mod fuzzed;
mod log_file;
mod paths;
mod proxy;
#[path = "../pure/support.rs"]
#[allow(dead_code, reason = "the pure tests need the rest")]
mod support;
mod untrusted;
