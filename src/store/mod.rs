//! The state folder: its lock, what the agent keeps from one start to the next, and a folder for each run. Folders have
//! the mode 0700, files 0600.

pub(crate) mod audit;
mod files;
#[cfg(feature = "tools")]
pub(crate) mod inspect;
pub mod journal;
pub(crate) mod status;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::message::Dialect;
use crate::domain::quota::Quota;
use crate::times::{from_millis, millis};
use audit::Audit;
pub use files::LogFile;
use files::{
    close_to_others, make_folder, open_to_lock, read_json, set_aside, write_atomically, write_json,
};

/// What the daemon is doing, for `wf0-agent status`.
const STATUS: &str = "status.json";
/// The file that the daemon locks. Every state folder has it.
const LOCK: &str = "lock";

/// `wf0-agent status` holds a shared lock for a moment, so the daemon tries several times to get the lock.
const LOCK_TRIES: u32 = 20;
const LOCK_TRY_EVERY: Duration = Duration::from_millis(10);

/// An open state folder. Only one process at a time can have it open.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// A UUID. The daemon makes it once and keeps it.
    pub agent_id: String,
    pub(crate) audit: Audit,
    /// The kernel releases the lock when the process ends, however it ends.
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
#[error("{}: {}", self.problem(), self.fix())]
pub enum StoreError {
    Locked(PathBuf),
    /// The folder has files, but no agent made it.
    Foreign(PathBuf),
    Io(PathBuf, #[source] io::Error),
}

impl StoreError {
    pub fn problem(&self) -> String {
        match self {
            Self::Locked(root) => format!("another wf0-agent is using {}", root.display()),
            Self::Foreign(root) => {
                let root = root.display();
                format!("STATE_DIR: {root} is not empty and was not created by wf0-agent")
            }
            Self::Io(path, e) => format!("{}: {e}", path.display()),
        }
    }

    /// What a person can do about the error.
    pub fn fix(&self) -> String {
        match self {
            Self::Locked(_) => "stop it, or give this one a STATE_DIR of its own".to_owned(),
            Self::Foreign(root) => {
                let own = root.join("wf0-agent");
                format!("choose another folder, such as {}", own.display())
            }
            Self::Io(..) => "STATE_DIR must be a folder that this user can write to".to_owned(),
        }
    }
}

/// `quota.json`. The record is valid only for the CLI that it names, because each CLI has its own quota.
#[derive(Serialize, Deserialize)]
struct QuotaRecord {
    cli: String,
    until_ms: Option<u64>,
    is_told: bool,
    guesses: u32,
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
        // A folder that existed before may be open to other users.
        close_to_others(root).map_err(at(root))?;
        let lock_path = root.join(LOCK);
        let lock = lock_soon(&lock_path).map_err(at(&lock_path))?;
        let lock = lock.ok_or_else(|| StoreError::Locked(root.to_owned()))?;
        // The status of an earlier daemon does not describe this one.
        let _ = fs::remove_file(root.join(STATUS));
        let id_path = root.join("agent-id");
        let agent_id = agent_id(&id_path).map_err(at(&id_path))?;
        Ok(Self {
            root: root.to_owned(),
            agent_id,
            audit: Audit::new(root),
            _lock: lock,
        })
    }

    /// The dialect that the backend spoke last.
    pub fn dialect(&self) -> Dialect {
        let text = fs::read_to_string(self.root.join("dialect")).unwrap_or_default();
        Dialect::parse(text.trim()).unwrap_or_default()
    }

    pub fn keep_dialect(&self, dialect: Dialect) -> io::Result<()> {
        let line = format!("{}\n", dialect.name());
        write_atomically(&self.root.join("dialect"), line.as_bytes())
    }

    /// What was last known about this CLI's quota.
    pub fn quota(&self, cli: &str) -> Quota {
        let path = self.root.join("quota.json");
        let record = read_json::<QuotaRecord>(&path).unwrap_or_else(|e| {
            set_aside(&path, &e);
            None
        });
        let own = record.filter(|record| record.cli == cli);
        own.map_or_else(Quota::default, |record| Quota {
            until: record.until_ms.map(from_millis),
            is_told: record.is_told,
            guesses: record.guesses,
        })
    }

    pub fn keep_quota(&self, cli: &str, quota: Quota) -> io::Result<()> {
        let record = QuotaRecord {
            cli: cli.to_owned(),
            until_ms: quota.until.map(millis),
            is_told: quota.is_told,
            guesses: quota.guesses,
        };
        write_json(&self.root.join("quota.json"), &record)
    }
}

/// Whether the folder has files, but no agent made it.
fn is_foreign(root: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(root)?.next().is_some() && !root.join(LOCK).exists())
}

/// `None`: another process has the lock. No child inherits the lock: the file is closed when a program is started.
fn lock_soon(path: &Path) -> io::Result<Option<File>> {
    let file = open_to_lock(path)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_TRY_EVERY),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    Ok(None)
}

fn agent_id(path: &Path) -> io::Result<String> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    // A crash of the machine can leave bytes that are not text.
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    if is_uuid(text) {
        return Ok(text.to_owned());
    }
    if !bytes.is_empty() {
        let why = "it holds no UUID, so a new one is made";
        set_aside(path, &io::Error::other(why));
    }
    let id = uuid_v4(rand::random());
    write_atomically(path, format!("{id}\n").as_bytes())?;
    Ok(id)
}

/// RFC 9562 section 5.4.
fn uuid_v4(random: u128) -> String {
    let bits = (random & !(0xF << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let mut id = format!("{bits:032x}");
    for at in [20, 16, 12, 8] {
        id.insert(at, '-');
    }
    id
}

fn is_uuid(text: &str) -> bool {
    let is_hex = |part: &str| part.chars().all(|c| c.is_ascii_hexdigit());
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.split('-').all(is_hex)
}
