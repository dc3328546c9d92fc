//! Where a program is: the search that a shell would do, so that the daemon can say what it searched.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What Windows starts without being told the ending, in that order.
const ENDINGS: &[&str] = if cfg!(windows) {
    &["", ".exe", ".cmd", ".bat", ".com"]
} else {
    &[""]
};

/// Whether the program is a script for Windows' command interpreter, as npm makes them.
pub fn is_shim(program: &Path) -> bool {
    let ending = program.extension().unwrap_or_default();
    ending.eq_ignore_ascii_case("cmd") || ending.eq_ignore_ascii_case("bat")
}

/// The program that npm's shim starts with all arguments, where that is an `.exe`: started itself, it takes arguments
/// that the command interpreter would not, and there is one process less to end. The line looks like
/// `"%dp0%\node_modules\@anthropic-ai\claude-code\bin\claude.exe"   %*`.
pub fn exe_behind(shim: &str, folder: &Path) -> Option<PathBuf> {
    let call = shim
        .lines()
        .map(str::trim)
        .find(|line| line.ends_with("%*"))?;
    let (_, call) = call.split_once('"')?;
    let (program, arguments) = call.split_once('"')?;
    let relative = program
        .strip_prefix("%dp0%\\")
        .or_else(|| program.strip_prefix("%~dp0\\"))?;
    let is_exe = relative.to_ascii_lowercase().ends_with(".exe") && arguments.trim() == "%*";
    is_exe.then(|| {
        relative
            .split('\\')
            .fold(folder.to_owned(), |path, part| path.join(part))
    })
}

/// The program's file: `command` itself where it is a path, else the first that `path_variable` leads to.
pub fn program(command: &str, path_variable: Option<&OsStr>) -> Option<PathBuf> {
    if command.contains(std::path::is_separator) {
        return with_ending(Path::new(command));
    }
    // An empty entry would be the working directory, which is a repository: what lies there is not trusted.
    let folders = std::env::split_paths(path_variable?).filter(|folder| folder.is_absolute());
    folders
        .map(|folder| folder.join(command))
        .find_map(|path| with_ending(&path))
}

fn with_ending(path: &Path) -> Option<PathBuf> {
    let found = ENDINGS.iter().find_map(|ending| {
        let mut name = OsString::from(path);
        name.push(ending);
        let candidate = PathBuf::from(name);
        // On Windows a file without an ending is a script for some other shell.
        let can_start = !cfg!(windows) || candidate.extension().is_some();
        (can_start && is_executable(&candidate)).then_some(candidate)
    })?;
    if !cfg!(windows) || !is_shim(&found) {
        return Some(found);
    }
    let shim = std::fs::read_to_string(&found).unwrap_or_default();
    let behind = found.parent().and_then(|folder| exe_behind(&shim, folder));
    Some(behind.filter(|exe| is_executable(exe)).unwrap_or(found))
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
