//! Finds programs, and runs small programs of the system (such as `systemctl`) for their output.
//!
//! The daemon searches as a shell would, but does it itself, so that it can say where it searched.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::{Call, CallEnd, Halt, Spec};
use crate::environment::Environment;

/// The endings that Windows adds to a program's name, in its order.
const ENDINGS: &[&str] = if cfg!(windows) {
    &["", ".exe", ".cmd", ".bat", ".com"]
} else {
    &[""]
};
/// A service manager describes one service in a few KiB.
const OUTPUT_MAX: usize = 256 << 10;

/// Whether the program is a script for Windows' command interpreter. npm makes such scripts.
pub fn is_shim(program: &Path) -> bool {
    let ending = program.extension().unwrap_or_default();
    ending.eq_ignore_ascii_case("cmd") || ending.eq_ignore_ascii_case("bat")
}

/// The program that npm's shim starts with all arguments, if it is an `.exe`. The daemon starts it directly: it takes
/// arguments that the command interpreter would refuse, and there is one process less to end. The shim's line looks
/// like `"%dp0%\node_modules\@anthropic-ai\claude-code\bin\claude.exe"   %*`.
fn exe_behind(shim: &str, folder: &Path) -> Option<PathBuf> {
    let mut lines = shim.lines().map(str::trim);
    let call = lines.find(|line| line.ends_with("%*"))?;
    let (_, call) = call.split_once('"')?;
    let (program, arguments) = call.split_once('"')?;
    let relative = program
        .strip_prefix("%dp0%\\")
        .or_else(|| program.strip_prefix("%~dp0\\"))?;
    let is_exe = relative.to_ascii_lowercase().ends_with(".exe") && arguments.trim() == "%*";
    is_exe.then(|| folder.join(PathBuf::from_iter(relative.split('\\'))))
}

/// The program's file: `command` itself if it is a path, else the first one in the folders of `path_variable`.
pub fn find(command: &str, path_variable: Option<&OsStr>) -> Option<PathBuf> {
    if command.contains(std::path::is_separator) {
        return with_ending(Path::new(command));
    }
    // An empty entry would mean the working directory. That is a repository, and its files are not trusted.
    std::env::split_paths(path_variable?)
        .filter(|folder| folder.is_absolute())
        .find_map(|folder| with_ending(&folder.join(command)))
}

/// What to say if [`find`] finds nothing.
pub fn not_found(command: &str, environment: &Environment) -> String {
    let path = environment.get("PATH").unwrap_or_default().display();
    format!("{command} was not found or is not executable (searched PATH: {path})")
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

/// Runs a program on PATH for its output, in English and without the daemon's own settings. The error is
/// [`io::ErrorKind::NotFound`] if there is no program of that name.
pub fn ask(
    program: &str,
    args: &[&str],
    environment: &Environment,
    limit: Duration,
    halt: &Halt,
) -> io::Result<CallEnd> {
    let program = find(program, environment.get("PATH")).ok_or(io::ErrorKind::NotFound)?;
    let mut env = environment.for_cli();
    env.push(("LC_ALL".into(), "C".into()));
    let spec = Spec {
        program: &program,
        args: &args.iter().map(OsString::from).collect::<Vec<_>>(),
        cwd: Path::new(if cfg!(windows) { "\\" } else { "/" }),
        env,
        mark: None,
        stdin: None,
        stdout: None,
        limit,
        grace: Duration::ZERO,
    };
    Ok(Call::start(spec, OUTPUT_MAX)?.finish(halt))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::exe_behind;

    /// The program behind npm's shim for Windows, where that is one that can be started itself.
    #[test]
    fn shims() {
        let head = "@ECHO off\r\nGOTO start\r\n:find_dp0\r\nSET dp0=%~dp0\r\nEXIT /b\r\n:start\r\nSETLOCAL\r\nCALL :find_dp0\r\n";
        let exe = format!(
            "{head}\"%dp0%\\node_modules\\@anthropic-ai\\claude-code\\bin\\claude.exe\"   %*\r\n"
        );
        let script = format!(
            "{head}IF EXIST \"%dp0%\\node.exe\" (\r\n  SET \"_prog=%dp0%\\node.exe\"\r\n)\r\nendLocal & goto #_undefined_# 2>NUL || title %COMSPEC% & \"%_prog%\"  \"%dp0%\\node_modules\\@openai\\codex\\bin\\codex.js\" %*\r\n"
        );
        let folder = Path::new("/npm");
        let wanted = folder.join("node_modules/@anthropic-ai/claude-code/bin/claude.exe");
        assert_eq!(exe_behind(&exe, folder).as_deref(), Some(wanted.as_path()));
        for other in [
            script.as_str(),
            "",
            "claude.exe %*",
            "\"C:\\claude.exe\" %*",
            "\"%dp0%\\a.exe\" --x %*",
        ] {
            assert_eq!(exe_behind(other, folder), None, "{other}");
        }
    }
}
