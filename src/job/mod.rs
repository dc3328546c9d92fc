//! Carries out tickets: payload, prompt, workspace, snapshot, CLI, diff. Nothing here knows the backend's socket.

mod approval;
mod branch;
mod capture;
pub mod cli;
mod diff;
mod git;
mod payload;
mod process;
mod recover;
mod run;
mod scratch;
pub mod tool;
mod worker;
mod workspace;

pub use approval::Approval;
pub use capture::Capture;
pub use git::{Git, GitDirs, GitError, origin_slug};
pub use payload::Downloads;
pub use process::{CallEnd, Halt, set_up_waiting};
pub use recover::recover;
pub use run::{Context, Post};
pub use scratch::os_string;
pub use worker::{Chores, Worker};
pub use workspace::{choose, is_writable};
