//! The state folder as the commands read it. They make and change nothing, so a daemon may be using the folder. Each
//! file is complete or missing.

use std::cmp::Reverse;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

use super::files::read_json;
use super::journal::{RunFolder, Started, modified};
use super::status::StatusRecord;
use super::{LOCK, STATUS, StoreError, is_foreign, journal};
use crate::domain::outbox::Entry;
use crate::domain::ticket::TicketId;
use crate::times::millis_since_1970;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// There is no such folder. The daemon would make it.
    Missing,
    Free,
    /// A daemon is using it.
    InUse,
}

/// What the daemon would find if it opened this folder.
pub fn look_at(root: &Path) -> Result<Condition, StoreError> {
    let at = |e| StoreError::Io(root.to_owned(), e);
    // The daemon would make a missing folder inside the nearest one that exists.
    let nearest = root.ancestors().find(|path| path.exists()).unwrap_or(root);
    fs::read_dir(nearest).map_err(at)?;
    // On Windows only a real write would tell.
    #[cfg(unix)]
    check_access(nearest, nearest == root).map_err(at)?;
    if nearest != root {
        return Ok(Condition::Missing);
    }
    if is_foreign(root).map_err(at)? {
        return Err(StoreError::Foreign(root.to_owned()));
    }
    match is_in_use(root).map_err(at)? {
        true => Ok(Condition::InUse),
        false => Ok(Condition::Free),
    }
}

/// Fails if this user could not use the folder. The daemon closes its own folder to other users: only its owner can.
#[cfg(unix)]
fn check_access(folder: &Path, is_own: bool) -> io::Result<()> {
    use nix::unistd::{AccessFlags, access, geteuid};
    use std::os::unix::fs::MetadataExt;
    access(folder, AccessFlags::W_OK | AccessFlags::X_OK)?;
    let user = geteuid();
    if is_own && !user.is_root() && fs::metadata(folder)?.uid() != user.as_raw() {
        let why = "it belongs to another user";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

/// Whether a daemon has this folder open. Tries the lock for a moment. It is a shared lock, so two commands do not take
/// each other for a daemon.
pub fn is_in_use(root: &Path) -> io::Result<bool> {
    let file = match File::open(root.join(LOCK)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// `None`: no daemon has written a status in this folder. The daemon that wrote the status may have ended.
pub fn status(state_dir: &Path) -> io::Result<Option<StatusRecord>> {
    read_json(&state_dir.join(STATUS))
}

/// A run as its files show it: its folder, and `ticket.json` without the long texts.
#[derive(Deserialize)]
pub struct Seen {
    #[serde(rename = "ticket_id")]
    pub ticket: TicketId,
    pub attempt: u32,
    #[serde(rename = "claimed_at_ms", with = "millis_since_1970")]
    pub claimed_at: SystemTime,
    pub role: String,
    /// The title that came with the assignment. The payload may have another title.
    pub title: Option<String>,
    /// The entry of `REPO_PATHS`.
    #[serde(rename = "repo_path")]
    pub repo: PathBuf,
    #[serde(skip)]
    pub folder: RunFolder,
}

/// The runs in a state folder, newest first, without those that cannot be read.
pub fn look_into(state_dir: &Path) -> io::Result<Vec<Seen>> {
    let folders = RunFolder::all(state_dir)?.into_iter();
    let mut runs: Vec<_> = folders.filter_map(Seen::in_folder).collect();
    runs.sort_by_key(|seen| Reverse(seen.claimed_at));
    Ok(runs)
}

impl Seen {
    /// `None`: the run was never claimed, or cannot be read.
    fn in_folder(folder: RunFolder) -> Option<Self> {
        let mut seen: Self = read_json(&folder.path(journal::TICKET)).ok()??;
        seen.attempt = folder.attempt().ok()?.unwrap_or(seen.attempt);
        seen.folder = folder;
        Some(seen)
    }

    /// Whether its program was started, or was about to start.
    pub fn has_started(&self) -> bool {
        self.path(journal::STARTED).exists()
    }

    /// When its outcome was written; `None`: it has not ended.
    pub fn ended_at(&self) -> Option<SystemTime> {
        modified(&self.path(journal::OUTCOME))
    }

    /// `None`: its program has not been started.
    pub fn started(&self) -> io::Result<Option<Started>> {
        read_json(&self.path(journal::STARTED))
    }

    /// `None`: it has not ended.
    pub fn outcome(&self) -> io::Result<Option<Entry>> {
        self.folder.outcome()
    }

    pub fn is_delivered(&self) -> bool {
        self.path(journal::DELIVERED).exists()
    }

    /// The path of a file in the run's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }
}
