//! A log in a file of bounded size: the audit log, and the log of a Windows service.
//!
//! At its limit the file is renamed to `NAME.1`, in place of an older one: there are never more than two.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::files::append_to;

#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    limit: u64,
    /// `None` only while it is renamed: Windows renames no file that is open.
    file: Option<File>,
    written: u64,
    /// The last line has no end, because the machine lost its power or the disk was full.
    is_torn: bool,
}

impl LogFile {
    /// Goes on where an earlier process ended.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = append_to(path)?;
        let written = file.metadata()?.len();
        let is_torn = written > 0 && last_byte(path)? != b'\n';
        Ok(Self {
            path: path.to_owned(),
            limit,
            file: Some(file),
            written,
            is_torn,
        })
    }

    /// Writes the text as a line of its own, even after a torn line. After an error the file is to be opened again.
    pub fn write_line(&mut self, line: &str) -> io::Result<()> {
        self.make_room(line.len() as u64 + 2)?;
        let start = if self.is_torn { "\n" } else { "" };
        self.write_all(format!("{start}{line}\n").as_bytes())?;
        self.is_torn = false;
        Ok(())
    }

    fn make_room(&mut self, len: u64) -> io::Result<()> {
        // A file that cannot be renamed, because another program has it open, grows beyond the limit: no line is lost.
        if self.written > 0 && self.written + len > self.limit && self.set_aside().is_err() {
            *self = Self::open(&self.path, self.limit)?;
        }
        Ok(())
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
        self.make_room(bytes.len() as u64)?;
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let written = file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), File::flush)
    }
}

fn last_byte(path: &Path) -> io::Result<u8> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last[0])
}
