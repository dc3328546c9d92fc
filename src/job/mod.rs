//! Carries out tickets: payload, prompt, workspace, snapshot, CLI, diff. Nothing here knows the backend's socket.

mod approval;
mod branch;
mod capture;
pub(crate) mod cli;
mod diff;
mod git;
mod payload;
mod process;
mod recover;
mod run;
mod scratch;
pub(crate) mod tool;
mod worker;
mod workspace;

pub(crate) use approval::Approval;
#[cfg(feature = "tools")]
pub(crate) use git::Git;
pub(crate) use git::{GitDirs, origin_slug};
pub(crate) use payload::Downloads;
#[cfg(all(unix, feature = "tools"))]
pub(crate) use process::CallEnd;
#[cfg(feature = "tools")]
pub(crate) use process::Halt;
pub(crate) use recover::recover;
pub(crate) use run::Context;
pub(crate) use worker::{Chores, Worker};
pub(crate) use workspace::{choose, is_writable};
