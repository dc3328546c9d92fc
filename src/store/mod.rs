//! The state folder: the lock, the agent's id, and a folder for each run. Folders are 0700, files 0600.

pub mod audit;
pub mod journal;
pub mod log_file;
mod quota;
pub mod record;
pub mod status;

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit::Audit;

use crate::domain::message::Dialect;
use crate::domain::ticket::RunId;

/// An open state folder. One process at a time has it.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    agent_id: String,
    audit: Audit,
    /// The kernel lets go of the lock when the process ends, however it ends.
    _lock: Lock,
}

#[derive(Debug)]
pub enum StoreError {
    /// Another daemon has this folder.
    Locked(PathBuf),
    /// It holds something, and nothing of an agent.
    Foreign(PathBuf),
    Io(PathBuf, io::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(root) => write!(
                f,
                "another wf0-agent is using {}: stop it, or give this one a STATE_DIR of its own",
                root.display()
            ),
            Self::Foreign(root) => write!(
                f,
                "STATE_DIR: {} is not empty and not an agent's: name a folder of its own, such as {}",
                root.display(),
                root.join("wf0-agent").display()
            ),
            Self::Io(path, e) => {
                write!(
                    f,
                    "{}: {e}: STATE_DIR must be a folder this user can write to",
                    path.display()
                )
            }
        }
    }
}

impl Store {
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |e| StoreError::Io(path, e)
        };
        if root.exists() && is_foreign(root).map_err(at(root))? {
            return Err(StoreError::Foreign(root.to_owned()));
        }
        make_folder(root).map_err(at(root))?;
        close_to_others(root).map_err(at(root))?;
        let lock_path = root.join("lock");
        let lock = match lock_soon(&lock_path) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Err(StoreError::Locked(root.to_owned())),
            Err(e) => return Err(StoreError::Io(lock_path, e)),
        };
        // What an earlier daemon told of itself is not true of this one.
        let _ = fs::remove_file(root.join(status::STATUS));
        let id_path = root.join("agent-id");
        let agent_id = agent_id(&id_path).map_err(at(&id_path))?;
        Ok(Self {
            root: root.to_owned(),
            agent_id,
            audit: Audit::open(root),
            _lock: lock,
        })
    }

    /// A UUID that is made once and then stays.
    pub fn agent_id(&self) -> &str {
        &self.agent_id
    }

    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// What the backend spoke last.
    pub fn dialect(&self) -> Dialect {
        let text = fs::read_to_string(self.root.join("dialect")).unwrap_or_default();
        Dialect::parse(text.trim()).unwrap_or_default()
    }

    pub fn keep_dialect(&self, dialect: Dialect) -> io::Result<()> {
        write_atomically(
            &self.root.join("dialect"),
            format!("{}\n", dialect.name()).as_bytes(),
        )
    }

    fn tickets(&self) -> PathBuf {
        self.root.join(TICKETS)
    }

    /// A new folder for a run.
    pub fn run_folder(&self, run: RunId) -> io::Result<RunFolder> {
        let path = self.tickets().join(run.to_string());
        make_folder(&path)?;
        Ok(RunFolder { run, path })
    }
}

/// Whether a daemon has that folder.
pub fn is_in_use(root: &Path) -> io::Result<bool> {
    is_locked(&root.join("lock"))
}

/// A state folder as somebody finds it who does not open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It would be made.
    Missing,
    Free,
    /// A daemon has it.
    InUse,
}

/// What opening that folder would come to. Nothing is made or changed.
pub fn look_at(root: &Path) -> Result<Condition, StoreError> {
    let at = |e| StoreError::Io(root.to_owned(), e);
    // What is missing would be made in the nearest folder that is there.
    let nearest = root.ancestors().find(|path| path.exists()).unwrap_or(root);
    fs::read_dir(nearest).map_err(at)?;
    check_access(nearest, nearest == root).map_err(at)?;
    if nearest != root {
        return Ok(Condition::Missing);
    }
    if is_foreign(root).map_err(at)? {
        return Err(StoreError::Foreign(root.to_owned()));
    }
    let is_locked = is_locked(&root.join("lock")).map_err(at)?;
    Ok(if is_locked {
        Condition::InUse
    } else {
        Condition::Free
    })
}

/// It holds something, and nothing of an agent.
fn is_foreign(root: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(root)?.next().is_some() && !root.join("lock").exists())
}

/// The folder of the runs' folders.
const TICKETS: &str = "tickets";
/// What only the run itself needs.
const SCRATCH: &str = "scratch";
/// The clone that a run works in, in its folder.
const CLONE: &str = "clone";
/// What the run changed, whole. It is there only once all of it is.
pub const PATCH: &str = "diff.patch";
/// It is there if something that the run changed is not in the patch.
pub const LEFT_OUT: &str = "left-out";

/// Where everything of one run is kept.
#[derive(Debug)]
pub struct RunFolder {
    run: RunId,
    path: PathBuf,
}

impl RunFolder {
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

    /// For when nothing of the run is alive any more.
    pub fn remove_clone(&self) -> io::Result<()> {
        match remove_all(&self.clone_path()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Before the clone is removed: from then on the patch may be all that is left of the run.
    pub fn flush_patch(&self) -> io::Result<()> {
        match File::open(self.path(PATCH)) {
            Ok(patch) => patch.sync_all(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        make_folder(&path)?;
        Ok(path)
    }
}

/// Removes a folder even where somebody has made folders in it read-only, as some package managers do.
fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            make_removable(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

#[cfg(unix)]
fn make_removable(folder: &Path) -> io::Result<()> {
    close_to_others(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A link is no folder here, wherever it leads.
        if entry.file_type()?.is_dir() {
            make_removable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_removable(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Written aside, flushed and renamed, so that a file is there whole or not at all.
fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = create(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Whole or not at all for whoever reads it; not for a machine that loses its power.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    create(&aside)?.write_all(content)?;
    fs::rename(&aside, path)
}

/// What cannot be read is kept under another name, for whoever can make something of it.
fn set_aside(path: &Path, why: &io::Error) {
    let aside = path.with_extension("unusable");
    match fs::rename(path, &aside) {
        Ok(()) => log::warn!(
            "{}: {why}: set aside as {}",
            path.display(),
            aside.display()
        ),
        Err(e) => log::warn!(
            "{}: cannot be read ({why}), nor set aside: {e}",
            path.display()
        ),
    }
}

/// A new name is on disk when its folder is (fsync(2)).
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

fn agent_id(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(256).read_to_end(&mut bytes).map(|_| ())?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    };
    // A crash of the machine can leave bytes that are no text.
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    if is_uuid(text) {
        return Ok(text.to_owned());
    }
    if !bytes.is_empty() {
        log::warn!(
            "{} holds no UUID: set aside, and a new one made",
            path.display()
        );
        fs::rename(path, path.with_extension("unusable"))?;
    }
    let id = uuid_v4(rand::random());
    write_atomically(path, format!("{id}\n").as_bytes())?;
    Ok(id)
}

/// RFC 9562 section 5.4.
fn uuid_v4(random: u128) -> String {
    let bits = (random & !(0xF << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &&str| part.chars().all(|c| c.is_ascii_hexdigit());
    parts.len() == lengths.len()
        && parts.iter().all(hex)
        && parts.iter().zip(lengths).all(|(part, n)| part.len() == n)
}

#[cfg(unix)]
fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The folder may have been there before, with another mode.
#[cfg(unix)]
fn close_to_others(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn close_to_others(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(path)
}

fn create(path: &Path) -> io::Result<File> {
    for_this_user()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
}

fn append_to(path: &Path) -> io::Result<File> {
    for_this_user().append(true).create(true).open(path)
}

#[cfg(unix)]
fn for_this_user() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

#[cfg(not(unix))]
fn for_this_user() -> OpenOptions {
    OpenOptions::new()
}

#[cfg(unix)]
type Lock = nix::fcntl::Flock<File>;
#[cfg(not(unix))]
type Lock = File;

/// Whether this user could work there. Only its owner can close a folder to others.
#[cfg(unix)]
fn check_access(folder: &Path, is_own: bool) -> io::Result<()> {
    use nix::unistd::{AccessFlags, access, geteuid};
    use std::os::unix::fs::MetadataExt;
    access(folder, AccessFlags::W_OK | AccessFlags::X_OK)?;
    let is_strange =
        is_own && !geteuid().is_root() && fs::metadata(folder)?.uid() != geteuid().as_raw();
    if is_strange {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it belongs to another user",
        ))
    } else {
        Ok(())
    }
}

/// Windows tells only whoever tries.
#[cfg(not(unix))]
fn check_access(_folder: &Path, _is_own: bool) -> io::Result<()> {
    Ok(())
}

/// Asked with a shared lock that is let go at once, so that two who ask do not find each other.
#[cfg(unix)]
fn is_locked(path: &Path) -> io::Result<bool> {
    use nix::errno::Errno;
    use nix::fcntl::{Flock, FlockArg};
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, e)) => Err(e.into()),
    }
}

#[cfg(not(unix))]
fn is_locked(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(_) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) if e.raw_os_error() == Some(ERROR_SHARING_VIOLATION) => Ok(true),
        Err(e) => Err(e),
    }
}

#[cfg(not(unix))]
const ERROR_SHARING_VIOLATION: i32 = 32;

/// Whoever looks whether it is locked holds it for a moment.
fn lock_soon(path: &Path) -> io::Result<Option<Lock>> {
    for _ in 0..20 {
        if let Some(lock) = lock(path)? {
            return Ok(Some(lock));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    lock(path)
}

/// `None`: somebody else has it. No child inherits it: the file is closed when a program is started.
#[cfg(unix)]
fn lock(path: &Path) -> io::Result<Option<Lock>> {
    use nix::errno::Errno;
    use nix::fcntl::{Flock, FlockArg};
    match Flock::lock(create(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, e)) => Err(e.into()),
    }
}

/// `None`: somebody else has it. A file that is shared with nobody cannot be opened twice.
#[cfg(not(unix))]
fn lock(path: &Path) -> io::Result<Option<Lock>> {
    use std::os::windows::fs::OpenOptionsExt;
    match OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .share_mode(0)
        .open(path)
    {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.raw_os_error() == Some(ERROR_SHARING_VIOLATION) => Ok(None),
        Err(e) => Err(e),
    }
}
