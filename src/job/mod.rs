//! Carrying out a ticket: payload, prompt, workspace, snapshot, CLI, diff. Nothing here knows the backend's socket.

mod capture;
pub mod cli;
mod diff;
mod git;
mod halt;
mod patch;
mod payload;
mod process;
mod recover;
mod scratch;
mod worker;
mod workspace;

pub use capture::Capture;
pub use git::{Git, GitDirs, GitError, origin_slug};
pub use halt::Halt;
pub use recover::recover;
pub use scratch::os_string;
pub use worker::{Chores, Context, DownloadsFrom, Post, Worker};
pub use workspace::choose;
