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
#[cfg(target_os = "linux")]
mod service;
mod shell;
mod show;
mod state;
mod status;
mod stop;
mod template;
mod whole_way;
mod workspace;
