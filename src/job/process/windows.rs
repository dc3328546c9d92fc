//! A tree of processes on Windows: a job object. Closing it ends every process in it, also when the daemon dies.
//!
//! There is no TERM for programs without a window, so there is no grace either. A process started by the program
//! before it is in the job, in its first microseconds, would not be in it.

use std::ffi::OsString;
use std::io;
use std::os::windows::io::AsRawHandle;
use std::os::windows::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::time::Duration;

use win32job::Job;

use crate::domain::ticket::Exit;

/// Keeps a console window from opening; see Microsoft's "Process Creation Flags".
const CREATE_NO_WINDOW: u32 = 0x0800_0000;

pub fn prepare(command: &mut Command) {
    command.creation_flags(CREATE_NO_WINDOW);
}

pub fn exit_of(status: ExitStatus) -> Option<Exit> {
    status.code().map(Exit::Code)
}

/// A job object is no number that could be somebody else's.
pub fn group_is_gone(_child: &Child) -> bool {
    false
}

/// The processes of one run.
pub struct Tree {
    job: Mutex<Option<Job>>,
}

impl Tree {
    pub fn of(child: &mut Child, _mark: Option<OsString>) -> io::Result<Self> {
        let job = Job::create().map_err(io::Error::other)?;
        let mut limits = job.query_extended_limit_info().map_err(io::Error::other)?;
        limits.limit_kill_on_job_close();
        job.set_extended_limit_info(&limits)
            .map_err(io::Error::other)?;
        // A program that has ended already cannot be assigned, and needs not be.
        match job.assign_process(child.as_raw_handle() as isize) {
            Err(e) if child.try_wait()?.is_none() => return Err(io::Error::other(e)),
            _ => {}
        }
        Ok(Self {
            job: Mutex::new(Some(job)),
        })
    }

    /// Nothing is left to find: the job was closed when the daemon died.
    pub fn marked(_mark: OsString) -> Self {
        Self {
            job: Mutex::new(None),
        }
    }

    pub fn forget_group(&mut self) {}

    pub fn end(&self, _grace: Duration, _limit: Duration) -> usize {
        let mut job = self
            .job
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(job.take());
        0
    }
}
