//! Carrying out a ticket: payload, prompt, snapshot, CLI, diff. Nothing here knows the backend's socket.

mod capture;
pub mod cli;
mod diff;
mod git;
mod halt;
mod output;
mod patch;
mod payload;
mod process;
mod recover;
mod verdict;
mod worker;

pub use capture::Capture;
pub use git::{Git, GitError, origin_slug, work_tree_of};
pub use halt::Halt;
pub use recover::recover;
pub use worker::{Context, DownloadsFrom, Post, Worker};
