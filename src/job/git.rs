//! Calls git: without the user's or the daemon's git variables, without prompts, with a time limit.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::{Call, Cause, Halt, Spec};
use super::tool;
use crate::domain::repos::Remote;
use crate::domain::ticket::StopReason;
use crate::environment::Environment;

/// If git needs longer, in a very large repository or on a slow disk, the run has no diff.
const LIMIT: Duration = Duration::from_secs(300);
/// Limit on the search for a repository's slug, which delays the start of the daemon. Without a slug the repository is
/// known by its path.
const SLUG_LIMIT: Duration = Duration::from_secs(5);
/// Limit on git's output, unless it goes to a file.
const OUTPUT_MAX: usize = 1 << 20;

/// How git is called for one repository.
#[derive(Clone)]
pub struct Git {
    program: PathBuf,
    cwd: PathBuf,
    env: Vec<(OsString, OsString)>,
    limit: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("git was not found on PATH")]
    NotInstalled,
    #[error("{0}")]
    Failed(String),
    #[error("the run's folder cannot be used: {0}")]
    Folder(#[from] io::Error),
    #[error("the run was stopped")]
    Stopped(StopReason),
}

impl Git {
    /// The caller names the git directory. If git looked for it, git would check who owns the folder, and read
    /// settings.
    pub fn new(environment: &Environment, cwd: &Path, git_dir: &Path) -> Result<Self, GitError> {
        Ok(Self::discovering(environment, cwd)?.with("GIT_DIR", git_dir))
    }

    /// Calls git as a person in that folder would: git finds the repository around the folder and uses its settings,
    /// unless another user owns the repository.
    pub fn discovering(environment: &Environment, cwd: &Path) -> Result<Self, GitError> {
        let program = tool::find("git", environment.get("PATH")).ok_or(GitError::NotInstalled)?;
        let git = Self {
            program,
            cwd: cwd.to_owned(),
            env: environment.for_git(),
            limit: LIMIT,
        };
        Ok(git
            .with("LC_ALL", "C")
            .with("GIT_TERMINAL_PROMPT", "0")
            .with("GIT_OPTIONAL_LOCKS", "0")
            .with("GIT_NO_LAZY_FETCH", "1"))
    }

    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets another working directory: some commands take names relative to it.
    pub fn inside(mut self, folder: &Path) -> Self {
        self.cwd = folder.to_owned();
        self
    }

    /// Sets another time limit for each command.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts `git ARGS`. Its standard output goes to `out`. Without `out` it is kept in memory.
    pub fn start(
        &self,
        args: &[impl AsRef<OsStr>],
        stdin: Option<File>,
        out: Option<File>,
    ) -> Result<GitCall, GitError> {
        let args: Vec<OsString> = args.iter().map(|arg| arg.as_ref().to_owned()).collect();
        // Finds the name of the command. Settings (`-c NAME=VALUE`) come before it.
        let command = args
            .iter()
            .map(|arg| arg.to_string_lossy())
            .find(|arg| arg.starts_with(|c: char| c.is_ascii_lowercase()) && !arg.contains('='));
        let what = command.unwrap_or_default().into_owned();
        let spec = Spec {
            program: &self.program,
            args: &args,
            cwd: &self.cwd,
            env: self.env.clone(),
            mark: None,
            stdin,
            stdout: out,
            limit: self.limit,
            grace: Duration::ZERO,
        };
        let call = Call::start(spec, OUTPUT_MAX)
            .map_err(|e| GitError::Failed(format!("git cannot be started: {e}")))?;
        Ok(GitCall { what, call })
    }

    pub fn run(
        &self,
        args: &[impl AsRef<OsStr>],
        out: Option<File>,
        halt: &Halt,
    ) -> Result<String, GitError> {
        self.start(args, None, out)?.finish(halt)
    }
}

/// A git command that is running.
pub struct GitCall {
    what: String,
    call: Call,
}

/// What a git command printed, and its exit code.
pub struct GitOutput {
    what: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl GitCall {
    /// Waits for the command and returns its standard output. Any exit code but 0 is an error.
    pub fn finish(self, halt: &Halt) -> Result<String, GitError> {
        let output = self.finish_any(halt)?;
        if output.code == 0 {
            Ok(output.stdout)
        } else {
            Err(GitError::Failed(output.complaint()))
        }
    }

    /// Waits for the command and accepts every exit code.
    pub fn finish_any(self, halt: &Halt) -> Result<GitOutput, GitError> {
        let Self { what, call } = self;
        let end = call.finish(halt);
        match (end.cause, end.code()) {
            (Cause::Stopped(reason), _) => Err(GitError::Stopped(reason)),
            (Cause::TimedOut, _) => Err(GitError::Failed(format!("git {what} took too long"))),
            (Cause::Exited, None) => Err(GitError::Failed(format!("git {what} was killed"))),
            (Cause::Exited, Some(code)) => Ok(GitOutput {
                what,
                code,
                stdout: end.stdout,
                stderr: end.stderr,
            }),
        }
    }
}

impl GitOutput {
    /// One line that says what went wrong.
    pub fn complaint(&self) -> String {
        let mut lines = self.stderr.trim().lines();
        let last = lines.rfind(|line| !line.starts_with("hint:"));
        format!("git {}: {}", self.what, last.unwrap_or("no message"))
    }
}

/// The directories of the repository that a folder belongs to. They are found without starting git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitDirs {
    /// The root of the work tree.
    pub top: PathBuf,
    /// Holds HEAD and the index.
    pub git_dir: PathBuf,
    /// Holds the objects and the settings. Linked work trees share them.
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

/// Opens a regular file and nothing else: a read from a pipe of that name would never end.
pub fn open_file(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::other(format!("{} is no file", path.display())))
    }
}

fn read_line(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = open_file(path).ok()?;
    file.take(4096).read_to_string(&mut text).ok()?;
    Some(text.trim_end().to_owned())
}

/// `owner/name` of the repository, from the address of its remote `origin`.
pub fn origin_slug(environment: &Environment, folder: &Path) -> Option<String> {
    let git = Git::new(environment, folder, &GitDirs::find(folder)?.git_dir).ok()?;
    let git = git.within(SLUG_LIMIT);
    let args = ["remote", "get-url", "origin"];
    let address = git.run(&args, None, &Halt::never()).ok()?;
    Some(Remote::parse(&address)?.slug.to_owned())
}
