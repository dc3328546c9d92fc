//! How git is called: without the user's or the daemon's git variables, without prompts, with a time limit.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::capture::Capture;
use super::cli::find;
use super::halt::Halt;
use super::process::{self, Cause, Ended, Process, Shared, Sink, Spec};
use crate::domain::repos::Remote;
use crate::domain::ticket::{Exit, StopReason};
use crate::environment::Environment;

/// A repository so large, or a disk so slow, that git needs longer gets no diff.
const LIMIT: Duration = Duration::from_secs(300);
/// Without a slug a repository is known by its path, so nobody waits long for one.
const SLUG_LIMIT: Duration = Duration::from_secs(5);
/// How much of git's own output is kept where it is not a file.
const OUTPUT_MAX: usize = 1 << 20;

/// git as it is called for one repository.
#[derive(Clone)]
pub struct Git {
    program: PathBuf,
    cwd: PathBuf,
    env: Vec<(OsString, OsString)>,
    limit: Duration,
}

#[derive(Debug)]
pub enum GitError {
    NotInstalled,
    Failed(String),
    Stopped(StopReason),
}

impl fmt::Display for GitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled => f.write_str("git was not found on PATH"),
            Self::Failed(why) => f.write_str(why),
            Self::Stopped(_) => f.write_str("the run was stopped"),
        }
    }
}

impl Git {
    /// `git_dir` is named, never discovered: discovery would ask who owns the folder and read settings on the way.
    pub fn new(environment: &Environment, cwd: &Path, git_dir: &Path) -> Result<Self, GitError> {
        Ok(Self::discovering(environment, cwd)?.with("GIT_DIR", git_dir))
    }

    /// As somebody in that folder would call it: with the settings of the repository that it is in, unless it is
    /// somebody else's.
    pub fn discovering(environment: &Environment, cwd: &Path) -> Result<Self, GitError> {
        let program =
            find::program("git", environment.get("PATH")).ok_or(GitError::NotInstalled)?;
        let mut env = environment.for_git();
        let own = [
            ("LC_ALL", "C"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_NO_LAZY_FETCH", "1"),
        ];
        env.extend(own.map(|(name, value)| (name.into(), value.into())));
        Ok(Self {
            program,
            cwd: cwd.to_owned(),
            env,
            limit: LIMIT,
        })
    }

    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// In another working directory: some commands take names relative to it.
    pub fn inside(mut self, folder: &Path) -> Self {
        self.cwd = folder.to_owned();
        self
    }

    /// For when somebody waits who cannot wait long.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts `git ARGS`; its standard output goes to `out`, else it is kept.
    pub fn start(&self, args: &[&OsStr], out: Option<File>) -> Result<Call, GitError> {
        self.start_with(args, None, out)
    }

    /// The same with something on its standard input.
    pub fn start_with(
        &self,
        args: &[&OsStr],
        stdin: Option<File>,
        out: Option<File>,
    ) -> Result<Call, GitError> {
        let is_command = |arg: &&&OsStr| {
            arg.to_string_lossy()
                .starts_with(|c: char| c.is_ascii_lowercase())
        };
        let what = args
            .iter()
            .filter(|arg| !arg.to_string_lossy().contains('='))
            .find(is_command)
            .copied();
        let (stdout, stderr) = (
            Shared::new(Capture::new(OUTPUT_MAX, None)),
            Shared::new(Capture::new(8 << 10, None)),
        );
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let process = process::start(Spec {
            program: &self.program,
            args: &args,
            cwd: &self.cwd,
            env: self.env.clone(),
            mark: None,
            stdin,
            stdout: out.map_or_else(|| Sink::Capture(stdout.clone()), Sink::File),
            stderr: Sink::Capture(stderr.clone()),
            limit: self.limit,
            grace: Duration::ZERO,
        })
        .map_err(|e| GitError::Failed(format!("git cannot be started: {e}")))?;
        Ok(Call {
            what: what.unwrap_or_default().to_string_lossy().into_owned(),
            process,
            stdout,
            stderr,
        })
    }

    pub fn run(&self, args: &[&OsStr], out: Option<File>, halt: &Halt) -> Result<String, GitError> {
        self.start(args, out)?.finish(halt)
    }
}

/// A git command under way.
pub struct Call {
    what: String,
    process: Process,
    stdout: Shared,
    stderr: Shared,
}

impl Call {
    /// Its standard output, or why there is none.
    pub fn finish(self, halt: &Halt) -> Result<String, GitError> {
        let (code, stdout, stderr) = self.finish_any(halt)?;
        if code == 0 {
            Ok(stdout)
        } else {
            Err(GitError::Failed(stderr))
        }
    }

    /// Its exit code, standard output, and a line that says what went wrong.
    pub fn finish_any(self, halt: &Halt) -> Result<(i32, String, String), GitError> {
        let what = self.what.clone();
        let (code, stdout, stderr) = self.finish_said(halt)?;
        Ok((code, stdout, complaint(&what, &stderr)))
    }

    /// Its exit code, standard output, and everything that it said of it.
    pub fn finish_said(self, halt: &Halt) -> Result<(i32, String, String), GitError> {
        let Ended { cause, exit, .. } = self.process.wait(halt, None, || {});
        let stderr = self.stderr.lock().bytes.excerpt().render();
        match (cause, exit) {
            (Cause::Stopped(reason), _) => Err(GitError::Stopped(reason)),
            (Cause::TimedOut, _) => {
                Err(GitError::Failed(format!("git {} took too long", self.what)))
            }
            (Cause::Exited, Some(Exit::Code(code))) => {
                Ok((code, self.stdout.lock().bytes.excerpt().render(), stderr))
            }
            (Cause::Exited, _) => Err(GitError::Failed(complaint(&self.what, &stderr))),
        }
    }
}

fn complaint(what: &str, stderr: &str) -> String {
    let is_said = |line: &&str| !line.starts_with("hint:");
    format!(
        "git {what}: {}",
        stderr.trim().lines().rfind(is_said).unwrap_or("no message")
    )
}

/// Where git keeps what belongs to a folder. Found by looking, without starting git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitDirs {
    /// The root of the work tree.
    pub top: PathBuf,
    /// HEAD and index.
    pub git_dir: PathBuf,
    /// Objects and settings, which linked work trees share.
    pub common_dir: PathBuf,
}

impl GitDirs {
    /// See gitrepository-layout(5): `.git` is a folder, or a file that names one.
    pub fn find(folder: &Path) -> Option<Self> {
        folder.ancestors().find_map(Self::at)
    }

    fn at(top: &Path) -> Option<Self> {
        let dot_git = top.join(".git");
        let git_dir = if dot_git.is_dir() {
            dot_git
        } else {
            top.join(read_line(&dot_git)?.strip_prefix("gitdir: ")?)
        };
        let common_dir = match read_line(&git_dir.join("commondir")) {
            Some(common) => git_dir.join(common),
            None => git_dir.clone(),
        };
        common_dir.join("objects").is_dir().then(|| Self {
            top: top.to_owned(),
            git_dir,
            common_dir,
        })
    }
}

/// Opens what is a file: a pipe of that name would be waited for without end.
pub fn open_file(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::other(format!("{} is no file", path.display())))
    }
}

fn read_line(path: &Path) -> Option<String> {
    let mut text = String::new();
    open_file(path)
        .ok()?
        .take(4096)
        .read_to_string(&mut text)
        .ok()?;
    Some(text.trim_end().to_owned())
}

/// `owner/name` of each folder, from the address of its remote `origin`; all are asked at once.
pub fn origin_slug(environment: &Environment, folders: &[PathBuf]) -> Vec<Option<String>> {
    let halt = Halt::never();
    let ask = |folder: &PathBuf| {
        let git = Git::new(environment, folder, &GitDirs::find(folder)?.git_dir)
            .ok()?
            .within(SLUG_LIMIT);
        git.start(
            &["remote".as_ref(), "get-url".as_ref(), "origin".as_ref()],
            None,
        )
        .ok()
    };
    let asked: Vec<_> = folders.iter().map(ask).collect();
    let answer = |call: Option<Call>| {
        let address = call?.finish(&halt).ok()?;
        Some(Remote::parse(&address)?.slug.to_owned())
    };
    asked.into_iter().map(answer).collect()
}
