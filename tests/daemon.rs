//! The built daemon, black box: against an in-process backend and a scriptable fake CLI.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic, wait and spawn"
)]

mod support;

#[path = "daemon/apply.rs"]
mod apply;
#[path = "daemon/approval.rs"]
mod approval;
#[path = "daemon/audit.rs"]
mod audit;
#[path = "daemon/branch.rs"]
mod branch;
#[path = "daemon/cli_output.rs"]
mod cli_output;
#[path = "daemon/commands.rs"]
mod commands;
#[path = "daemon/connect.rs"]
mod connect;
#[path = "daemon/console.rs"]
mod console;
#[path = "daemon/crash.rs"]
mod crash;
#[path = "daemon/delivery.rs"]
mod delivery;
#[path = "daemon/dialect.rs"]
mod dialect;
#[path = "daemon/diff.rs"]
mod diff;
#[path = "daemon/doctor.rs"]
mod doctor;
#[path = "daemon/frames.rs"]
mod frames;
#[path = "daemon/hub.rs"]
mod hub;
#[path = "daemon/limits.rs"]
mod limits;
#[path = "daemon/network.rs"]
mod network;
#[path = "daemon/parallel.rs"]
mod parallel;
#[path = "daemon/payload.rs"]
mod payload;
#[path = "daemon/process.rs"]
mod process;
#[path = "daemon/quota.rs"]
mod quota;
#[path = "daemon/reconnect.rs"]
mod reconnect;
#[path = "daemon/refusals.rs"]
mod refusals;
#[path = "daemon/secrets.rs"]
mod secrets;
// Services of the other systems are installed by other tools.
#[cfg(target_os = "linux")]
#[path = "daemon/service.rs"]
mod service;
#[path = "daemon/shell.rs"]
mod shell;
#[path = "daemon/show.rs"]
mod show;
#[path = "daemon/state.rs"]
mod state;
#[path = "daemon/status.rs"]
mod status;
#[path = "daemon/stop.rs"]
mod stop;
#[path = "daemon/template.rs"]
mod template;
#[path = "daemon/whole_way.rs"]
mod whole_way;
#[path = "daemon/workspace.rs"]
mod workspace;
