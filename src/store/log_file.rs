//! A log in a file that does not grow for ever: the audit log, and the log of a service without console and journal.
//!
//! At its limit it is set aside as `NAME.1`, in place of an older one: there are never more than two.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    limit: u64,
    /// `None` only while it is being set aside: Windows renames no file that is open.
    file: Option<File>,
    written: u64,
}

impl LogFile {
    /// Goes on where an earlier one ended.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = super::append_to(path)?;
        let written = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), limit, file: Some(file), written })
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.file = None;
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        fs::rename(&self.path, aside)?;
        *self = Self::open(&self.path, self.limit)?;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written > 0 && self.written + bytes.len() as u64 > self.limit {
            // One that cannot be set aside, for somebody has it open, is written on: better too long than lost.
            if self.set_aside().is_err() {
                *self = Self::open(&self.path, self.limit)?;
            }
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let written = file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), File::flush)
    }
}
