//! The built daemon, black box: against an in-process backend and a scriptable fake CLI.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic, wait and spawn"
)]

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "tools")]
mod apply;
mod approval;
mod audit;
mod branch;
mod cli_output;
mod commands;
mod connect;
mod console;
mod crash;
mod delivery;
mod dialect;
mod diff;
#[cfg(feature = "tools")]
mod doctor;
mod frames;
mod hub;
mod limits;
mod network;
mod parallel;
mod payload;
mod process;
mod quota;
mod reconnect;
mod records;
mod refusals;
mod secrets;
// Services of the other systems are installed by other tools.
#[cfg(all(target_os = "linux", feature = "tools"))]
mod service;
#[cfg(feature = "tools")]
mod shell;
#[cfg(feature = "tools")]
mod show;
mod state;
#[cfg(feature = "tools")]
mod status;
mod stop;
mod template;
mod whole_way;
mod workspace;
