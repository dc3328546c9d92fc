//! Where a program is: the search that a shell would do, so that the daemon can say what it searched.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What Windows starts without being told the ending, in that order.
const ENDINGS: &[&str] = if cfg!(windows) { &["", ".exe", ".cmd", ".bat", ".com"] } else { &[""] };

/// The program's file: `command` itself where it is a path, else the first that `path_variable` leads to.
pub fn program(command: &str, path_variable: Option<&OsStr>) -> Option<PathBuf> {
    if command.contains(std::path::is_separator) {
        return with_ending(Path::new(command));
    }
    // An empty entry would be the working directory, which is a repository: what lies there is not trusted.
    let folders = std::env::split_paths(path_variable?).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(command)).find_map(|path| with_ending(&path))
}

fn with_ending(path: &Path) -> Option<PathBuf> {
    ENDINGS.iter().find_map(|ending| {
        let mut name = OsString::from(path);
        name.push(ending);
        let candidate = PathBuf::from(name);
        // On Windows a file without an ending is a script for some other shell.
        let can_start = !cfg!(windows) || candidate.extension().is_some();
        (can_start && is_executable(&candidate)).then_some(candidate)
    })
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use nix::unistd::{AccessFlags, access};
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}
