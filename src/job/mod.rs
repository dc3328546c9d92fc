//! Carrying out a ticket: payload, prompt, workspace, snapshot, CLI, diff. Nothing here knows the backend's socket.

mod approval;
mod branch;
mod capture;
mod chores;
pub mod cli;
mod diff;
mod git;
mod halt;
mod http;
mod output;
mod patch;
mod payload;
mod process;
mod recover;
mod scratch;
pub mod tool;
mod verdict;
mod worker;
mod workspace;

pub use approval::Approval;
pub use capture::Capture;
pub use chores::Chores;
pub use git::{Git, GitDirs, GitError, origin_slug};
pub use halt::Halt;
pub use recover::recover;
pub use scratch::os_string;
pub use worker::{Context, DownloadsFrom, Post, Worker};
pub use workspace::{choose, is_writable};
