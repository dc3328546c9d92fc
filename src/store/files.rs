//! Files and folders that other users cannot read, files that are written completely or not at all, and logs of bounded
//! size.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// A new file, open for writing.
pub fn create(path: &Path) -> io::Result<File> {
    let mut options = for_this_user();
    options.write(true).create(true).truncate(true).open(path)
}

/// Opens a lock file and does not empty it: Windows refuses that while another process holds the lock.
pub fn open_to_lock(path: &Path) -> io::Result<File> {
    let mut options = for_this_user();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

fn for_this_user() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "Windows has no modes"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Windows needs nothing here: the state folder is in the user's own profile.
#[cfg_attr(not(unix), expect(unused_variables, reason = "Windows has no modes"))]
pub fn close_to_others(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}

/// Writes a new file, flushes it and renames it to the old one's name: the machine may lose its power at any moment.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Like [`write_atomically`], but without a flush: a crash of the machine may lose it. No program sees half a file.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    create(&new)?.write_all(content)?;
    fs::rename(&new, path)
}

/// A new file's name is on disk only after a flush of its folder (fsync(2)). Windows cannot open a folder as a file.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(path)?.sync_all(),
        false => Ok(()),
    }
}

pub fn write_json<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    write_atomically(path, &serde_json::to_vec(record)?)
}

/// `None`: there is no such file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Renames a file that cannot be read, so that a person can look at it.
pub fn set_aside(path: &Path, why: &io::Error) {
    let (aside, shown) = (path.with_extension("unusable"), path.display());
    match fs::rename(path, &aside) {
        Ok(()) => log::warn!("{shown}: {why}: set aside as {}", aside.display()),
        Err(e) => log::warn!("{shown}: {why}, and it cannot be set aside: {e}"),
    }
}

/// Removes a folder, if it exists. Also removes read-only folders in it: some package managers make such folders.
pub fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            make_removable(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn make_removable(folder: &Path) -> io::Result<()> {
    close_to_others(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A link to a folder does not count as a folder, so this follows no links.
        if entry.file_type()?.is_dir() {
            make_removable(&entry.path())?;
        }
    }
    Ok(())
}

/// A log in a file of bounded size: the audit log, and the log of a Windows service. At its limit the file is renamed
/// to `NAME.1`, which replaces an older one, so there are at most two files.
#[derive(Debug, Clone)]
pub struct LogFile {
    pub(super) path: PathBuf,
    limit: u64,
}

impl LogFile {
    pub(super) fn new(path: &Path, limit: u64) -> Self {
        let path = path.to_owned();
        Self { path, limit }
    }

    /// Makes the log's folder, and fails if the file cannot be written.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let log = Self::new(path, limit);
        log.append(b"")?;
        Ok(log)
    }

    /// Appends whole lines. The last line in the file may have no end, because the machine lost its power or the disk
    /// was full. Then a newline comes first.
    pub fn append(&self, lines: &[u8]) -> io::Result<()> {
        let written = fs::metadata(&self.path).map_or(0, |meta| meta.len());
        if written > 0 && written + lines.len() as u64 > self.limit {
            let mut aside = self.path.clone().into_os_string();
            aside.push(".1");
            // The rename may fail if another program has the file open. The file then grows, and no line is lost.
            let _ = fs::rename(&self.path, aside);
        }
        let mut options = for_this_user();
        options.read(true).append(true).create(true);
        let mut file = options.open(&self.path)?;
        let mut last = *b"\n";
        if file.metadata()?.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
        file.write_all(lines)
    }
}

/// Each call of `write` must pass whole lines.
impl Write for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.append(lines)?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
