//! Work on a branch that the backend names: checked out before the run; after a good one committed, pushed, and
//! offered as a pull request (PROTOCOL.md section 8, `implement_prd`).
//!
//! Nothing is ever forced, no other branch is pushed, no hook of the repository is started, and what the developer had
//! not committed is not committed for them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::capture::Capture;
use super::cli::find;
use super::git::{Git, GitDirs, GitError};
use super::halt::Halt;
use super::process::{self, Cause, Shared, Sink, Spec};
use crate::domain::branch::Branch;
use crate::domain::text::last_lines;
use crate::domain::ticket::{Exit, FailCode, Failure, Job};
use crate::environment::Environment;

/// A push goes over the network.
const PUSH_LIMIT: Duration = Duration::from_secs(120);
const GH_LIMIT: Duration = Duration::from_secs(60);
/// Hooks and monitors are programs of the repository's choice.
const NO_PROGRAMS: [&str; 4] = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"];

/// A repository with the ticket's branch checked out.
pub struct OnBranch<'a> {
    branch: &'a Branch,
    job: &'a Job,
    environment: &'a Environment,
    git: Git,
    top: PathBuf,
    /// Where the branch will be pushed: asked before the run, which could name another place.
    remote: Option<String>,
    /// What was checked out before.
    before: Option<Head>,
    /// Nothing was uncommitted before the run: what is so afterwards is the run's.
    was_clean: bool,
}

/// What is checked out.
#[derive(PartialEq, Eq)]
enum Head {
    Branch(String),
    /// No branch.
    Commit(String),
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(name) => write!(f, "the branch {name}"),
            Self::Commit(commit) => write!(f, "the commit {commit}"),
        }
    }
}

impl<'a> OnBranch<'a> {
    /// Checks the branch out, made from the current commit if it is not there.
    pub fn check_out(
        environment: &'a Environment,
        folder: &Path,
        job: &'a Job,
        branch: &'a Branch,
        halt: &Halt,
    ) -> Result<Self, Failure> {
        let no_repository = || failed("the folder is in no git repository".to_owned());
        let dirs = GitDirs::find(folder).ok_or_else(no_repository)?;
        // The user's own way to the remote counts; nothing asks anybody, for nobody is there.
        let mut git = Git::new(environment, &dirs.top, &dirs.git_dir).map_err(|e| failed(e.to_string()))?;
        for name in ["GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT"] {
            if let Some(value) = environment.get(name) {
                git = git.with(name, value);
            }
        }
        git = git.with("SSH_ASKPASS", "false").with("SSH_ASKPASS_REQUIRE", "force");
        let mut own =
            Self { branch, job, environment, git, top: dirs.top, remote: None, before: None, was_clean: false };
        own.remote = own.git(&["remote", "get-url", "--push", "origin"], halt).ok();
        own.before = own.head(halt);
        if !own.is_checked_out(own.before.as_ref()) {
            let there = own.git(&["rev-parse", "--verify", "--quiet", &full_name(branch)], halt).is_ok();
            let switch: &[&str] =
                if there { &["switch", "--no-guess"] } else { &["switch", "--no-guess", "--create"] };
            own.git(&[switch, &[branch.as_str()]].concat(), halt).map_err(|e| own.cannot_check_out(&e))?;
        }
        // What the developer had not committed has come along; so has a submodule whose commit is another one here.
        own.was_clean = own.is_clean(halt).map_err(|e| own.cannot_check_out(&e))?;
        Ok(own)
    }

    /// Commits what a good run left uncommitted. What cannot be done is a warning.
    pub fn commit(&self, title: &str, halt: &Halt, warnings: &mut Vec<String>) {
        match self.is_clean(halt) {
            Ok(true) => {}
            Ok(false) if !self.was_clean => warnings.push(
                "there were uncommitted changes before the run: what it left uncommitted is not on the branch"
                    .to_owned(),
            ),
            Ok(false) if !self.is_checked_out(self.head(halt).as_ref()) => warnings
                .push(format!("what the run changed is not committed: it has left the branch {}", self.branch)),
            Ok(false) => {
                let message = if title.is_empty() { self.job.ticket.id.as_str() } else { title };
                let message = format!("--message={message}");
                let committed = self
                    .git(&["add", "--all"], halt)
                    .and_then(|_| self.git(&["commit", "--quiet", "--no-verify", &message], halt));
                if let Err(e) = committed {
                    warnings.push(format!("what the run changed is not committed: {e}"));
                }
            }
            Err(e) => warnings.push(format!("what the run changed is not committed: {e}")),
        }
    }

    /// Pushes the branch and opens a pull request. Gives its address; what cannot be done is a warning.
    pub fn publish(&self, title: &str, halt: &Halt, warnings: &mut Vec<String>) -> Option<String> {
        if let Err(e) = self.push(halt) {
            warnings.push(format!("the branch {} was not pushed: {e}", self.branch));
            return None;
        }
        self.pull_request(title, halt).map_err(|e| warnings.push(format!("no pull request: {e}"))).ok()
    }

    /// Gives the developer back what was checked out before, where nothing would be carried along.
    pub fn leave(self, warnings: &mut Vec<String>) {
        let never = Halt::never();
        let (Some(before), Some(head)) = (&self.before, self.head(&never)) else { return };
        if *before == head {
            return;
        }
        let back: &[&str] = match before {
            Head::Branch(name) => &["switch", "--no-guess", name],
            Head::Commit(commit) => &["switch", "--detach", commit],
        };
        let back = match self.is_clean(&never) {
            Ok(true) => self.git(back, &never).map_err(|e| e.to_string()),
            Ok(false) => Err("there are uncommitted changes".to_owned()),
            Err(e) => Err(e.to_string()),
        };
        if let Err(why) = back {
            warnings.push(format!("the checkout is still on {head}, not back on {before}: {why}"));
        }
    }

    fn push(&self, halt: &Halt) -> Result<(), String> {
        let remote = self.remote.as_deref().ok_or("there is no remote named origin")?;
        let name = full_name(self.branch);
        let refspec = format!("{name}:{name}");
        let args = ["push", "--quiet", "--no-follow-tags", "--recurse-submodules=no", "--", remote, &refspec];
        let pushed = call(&self.git.clone().within(PUSH_LIMIT), &args, halt);
        pushed.map(|_| ()).map_err(|e| without_credentials(&e.to_string()))
    }

    fn pull_request(&self, title: &str, halt: &Halt) -> Result<String, String> {
        let slug = self.job.repo.slug.as_deref().ok_or("the repository's owner/name is not known")?;
        let gh = find::program("gh", self.environment.get("PATH")).ok_or("gh is not on PATH")?;
        let id = &self.job.ticket.id;
        let title = if title.is_empty() { id.as_str() } else { title };
        let (head, title) = (format!("--head={}", self.branch), format!("--title={title}"));
        let (repo, body) = (format!("--repo={slug}"), format!("--body=Opened by wf0-agent for {id}."));
        let opened = self.gh(&gh, &["pr", "create", &repo, &head, &title, &body], halt);
        // There may be one already, from an earlier attempt.
        opened.or_else(|e| {
            let asked = ["pr", "view", self.branch.as_str(), &repo, "--json=url", "--jq=.url"];
            self.gh(&gh, &asked, halt).map_err(|_| e)
        })
    }

    /// The address that `gh` prints last.
    fn gh(&self, program: &Path, args: &[&str], halt: &Halt) -> Result<String, String> {
        let (stdout, stderr) = (Shared::new(Capture::new(64 << 10, None)), Shared::new(Capture::new(8 << 10, None)));
        let mut env = self.environment.for_cli();
        env.push(("GH_PROMPT_DISABLED".into(), "1".into()));
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let process = process::start(Spec {
            program,
            args: &args,
            cwd: &self.top,
            env,
            mark: None,
            stdin: None,
            stdout: Sink::Capture(stdout.clone()),
            stderr: Sink::Capture(stderr.clone()),
            limit: GH_LIMIT,
            grace: Duration::ZERO,
        });
        let ended = process.map_err(|e| format!("gh cannot be started: {e}"))?.wait(halt, None, || {});
        let said = stdout.lock().bytes.excerpt().render();
        let address = said.lines().rev().map(str::trim).find(|line| line.starts_with("https://"));
        match (ended.cause, ended.exit, address) {
            (Cause::Exited, Some(Exit::Code(0)), Some(address)) => Ok(address.to_owned()),
            (Cause::Exited, ..) => {
                let complaint = last_lines(500, &stderr.lock().bytes.excerpt().render());
                Err(format!("gh: {}", complaint.as_deref().unwrap_or("it names no address")))
            }
            (Cause::TimedOut, ..) => Err("gh took too long".to_owned()),
            (Cause::Stopped(_), ..) => Err("the run was stopped".to_owned()),
        }
    }

    fn head(&self, halt: &Halt) -> Option<Head> {
        let name = self.git(&["symbolic-ref", "--quiet", "HEAD"], halt);
        match name.as_deref().map(|name| name.strip_prefix("refs/heads/")) {
            Ok(Some(branch)) => Some(Head::Branch(branch.to_owned())),
            _ => self.git(&["rev-parse", "--verify", "--quiet", "HEAD"], halt).ok().map(Head::Commit),
        }
    }

    fn is_checked_out(&self, head: Option<&Head>) -> bool {
        matches!(head, Some(Head::Branch(name)) if name == self.branch.as_str())
    }

    /// Of all that `git add --all` would add, whatever the settings hide.
    fn is_clean(&self, halt: &Halt) -> Result<bool, GitError> {
        let args = ["status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=dirty"];
        self.git(&args, halt).map(|changes| changes.is_empty())
    }

    fn git(&self, args: &[&str], halt: &Halt) -> Result<String, GitError> {
        call(&self.git, args, halt)
    }

    fn cannot_check_out(&self, e: &GitError) -> Failure {
        match e {
            GitError::Stopped(reason) => reason.failure(),
            e => failed(format!("the branch {} cannot be checked out: {e}", self.branch)),
        }
    }
}

fn call(git: &Git, args: &[&str], halt: &Halt) -> Result<String, GitError> {
    let args: Vec<&OsStr> = NO_PROGRAMS.iter().chain(args).map(OsStr::new).collect();
    git.run(&args, None, halt).map(|out| out.trim_end().to_owned())
}

fn failed(why: String) -> Failure {
    Failure::new(FailCode::Internal, why)
}

fn full_name(branch: &Branch) -> String {
    format!("refs/heads/{branch}")
}

/// git quotes the address in its complaints, and some addresses hold a password.
fn without_credentials(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(['/', ' ', '\'']).unwrap_or(part.len());
        let host = part[..end].rfind('@').map_or(part, |at| &part[at + 1..]);
        shown.push_str("://");
        shown.push_str(host);
    }
    shown
}
