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
}

impl LogFile {
    /// Goes on where an earlier process ended, on a line of its own: the last line has no end if the machine lost its power
    /// or the disk was full.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = append_to(path)?;
        let mut written = file.metadata()?.len();
        if written > 0 && last_byte(path)? != b'\n' {
            file.write_all(b"\n")?;
            written += 1;
        }
        Ok(Self {
            path: path.to_owned(),
            limit,
            file: Some(file),
            written,
        })
    }

    /// After an error the file is to be opened again, because a part of the line may be in it.
    pub fn write_line(&mut self, line: &str) -> io::Result<()> {
        self.write_all(format!("{line}\n").as_bytes())
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
