//! The built daemon, black box: against an in-process backend and a scriptable fake CLI.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic, wait and spawn"
)]

mod support;

#[path = "daemon/whole_way.rs"]
mod whole_way;
