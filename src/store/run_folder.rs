//! The folder of one run: its records, its output, its diff, and its clone if it has one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::files::{create, make_folder, remove_all};
use crate::domain::ticket::RunId;

/// The folder of the runs' folders, in the state folder.
pub(super) const TICKETS: &str = "tickets";
/// What only the run itself needs.
pub(super) const SCRATCH: &str = "scratch";
/// The clone that the run works in.
const CLONE: &str = "clone";
/// What the run changed. The file is there only once it is complete.
pub const PATCH: &str = "diff.patch";
/// The file is there if something that the run changed is not in the patch.
pub const LEFT_OUT: &str = "left-out";

#[derive(Debug)]
pub struct RunFolder {
    pub(super) run: RunId,
    pub(super) path: PathBuf,
}

impl RunFolder {
    /// It need not exist.
    pub(super) fn of(state_dir: &Path, run: RunId) -> Self {
        let path = state_dir.join(TICKETS).join(run.to_string());
        Self { run, path }
    }

    /// Those that exist below this state folder, in no order.
    pub(super) fn all(state_dir: &Path) -> io::Result<Vec<Self>> {
        let folder = |path: PathBuf| {
            let run = u128::from_str_radix(path.file_name()?.to_str()?, 16).ok()?;
            let run = RunId(run);
            Some(Self { run, path })
        };
        let entries = fs::read_dir(state_dir.join(TICKETS))?.flatten();
        Ok(entries.filter_map(|entry| folder(entry.path())).collect())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A new file, open for writing.
    pub fn create(&self, name: &str) -> io::Result<File> {
        create(&self.path(name))
    }

    /// A new file with that content, open for reading from its start.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<File> {
        self.create(name)?.write_all(content)?;
        File::open(self.path(name))
    }

    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        make_folder(&path)?;
        Ok(path)
    }

    /// Removes what only the run itself needed. What cannot be removed takes room and does no harm.
    pub fn remove_scratch(&self) {
        let _ = fs::remove_dir_all(self.path(SCRATCH));
    }

    /// Where the run's clone is, if it has one.
    pub fn clone_path(&self) -> PathBuf {
        self.path(CLONE)
    }

    pub fn make_clone_folder(&self) -> io::Result<PathBuf> {
        self.folder(CLONE)
    }

    /// For when no process of the run is alive any more.
    pub fn remove_clone(&self) -> io::Result<()> {
        match remove_all(&self.clone_path()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Before the clone is removed: from then on the patch may be all that is left of the run's work.
    pub fn flush_patch(&self) -> io::Result<()> {
        // Windows flushes only files that are open for writing.
        match File::options().write(true).open(self.path(PATCH)) {
            Ok(patch) => patch.sync_all(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }
}
