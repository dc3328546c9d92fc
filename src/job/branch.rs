//! Works on a branch that the backend names. Checks it out in the run's own clone. After a good run commits and pushes
//! it, and opens a pull request (docs/protocol.md section 8, `implement_prd`).
//!
//! It never touches the developer's checkout: a run that fails, or a daemon that dies, leaves nothing there, and the
//! developer's uncommitted changes are never committed. It forces nothing, pushes no other branch, and runs no hook.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::git::{Git, GitError};
use super::process::{Call, Cause, Spec};
use super::scratch::{IndexListing, RunGit, removal, take_out_nested, update_nested};
use super::tool;
use super::workspace::RunClone;
use crate::domain::repos::{Branch, Remote, is_local_remote};
use crate::domain::text::last_lines;
use crate::domain::ticket::{FailCode, Failure, Job};

/// For git commands that use the network: the fetch of the branch, and the push.
const REMOTE_LIMIT: Duration = Duration::from_secs(120);
const GH_LIMIT: Duration = Duration::from_secs(60);
const OUTPUT_MAX: usize = 64 << 10;
/// git starts no hook, no file monitor, and no remote whose address is a command line.
const NO_PROGRAMS: &str = "-c core.hooksPath=/dev/null -c core.fsmonitor=false \
    -c submodule.recurse=false -c protocol.ext.allow=never -c protocol.fd.allow=never";
/// A remote may be a repository on this machine, and its settings may name programs. git starts a second git there, and
/// the options of the first git do not reach it. So this command line has its own. (`true` is a program that prints
/// nothing.)
const OTHER_END: &str = "GIT_NO_LAZY_FETCH=1 GIT_ALLOW_PROTOCOL=: git -c core.hooksPath=/dev/null \
    -c core.fsmonitor=false -c core.alternateRefsCommand=true -c receive.denyCurrentBranch=refuse \
    -c receive.autogc=false";
/// Variables that git gets from the user: how to reach the remote, and who commits.
const KEPT_VARIABLES: [&str; 7] = [
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
];

/// A clone with the ticket's branch checked out.
pub struct BranchWork<'a> {
    at: RunGit<'a>,
    branch: &'a Branch,
    job: &'a Job,
    /// The title of the commit and of the pull request.
    title: &'a str,
    git: Git,
    top: PathBuf,
    /// The path and the text of the clone's settings before the run. The run may change the file, so that it names
    /// another remote, or programs.
    config: (PathBuf, String),
    /// Where the branch is pushed to.
    remote: Option<String>,
    /// From here git fetches the objects that a partial clone lacks.
    source: Option<String>,
    /// Everything that the run did is on the branch.
    is_whole: Cell<bool>,
}

impl<'a> BranchWork<'a> {
    /// Checks the branch out: the repository's, else the origin's, else a new one from the current commit.
    pub fn check_out(
        at: RunGit<'a>,
        clone: &mut RunClone,
        job: &'a Job,
        branch: &'a Branch,
        title: &'a str,
    ) -> Result<Self, Failure> {
        // A filter may encrypt files. Without it, git would commit and push them in the clear.
        if let Some(filter) = clone.filters.first() {
            return Err(failed(format!(
                "the repository's own filter {filter:?} does not run, so no branch of it can be worked on"
            )));
        }
        let mut git = clone.git(at).map_err(|e| failed(e.to_string()))?;
        for name in KEPT_VARIABLES {
            if let Some(value) = at.environment.get(name) {
                git = git.with(name, value);
            }
        }
        // No program may ask for a password: there is no person to answer.
        let git = git
            .with("SSH_ASKPASS", "false")
            .with("SSH_ASKPASS_REQUIRE", "force")
            .with("GIT_NO_LAZY_FETCH", "0");
        let config = clone.git_dir().join("config");
        let text = fs::read_to_string(&config)
            .map_err(|e| failed(format!("the clone cannot be read: {e}")))?;
        let mut work = Self {
            at,
            branch,
            job,
            title: Some(title)
                .filter(|title| !title.is_empty())
                .unwrap_or(job.ticket.id.as_str()),
            git,
            top: clone.top.clone(),
            config: (config, text),
            remote: None,
            source: None,
            is_whole: Cell::new(true),
        };
        work.remote = work.git(&["remote", "get-url", "--push", "origin"]).ok();
        work.source = work.git(&["remote", "get-url", "origin"]).ok();
        let switched = work.switch().and_then(|()| clone.check_folder());
        match switched {
            Ok(()) => Ok(work),
            Err(GitError::Stopped(reason)) => Err(reason.failure()),
            Err(e) => Err(failed(format!(
                "the branch {branch} cannot be checked out: {e}"
            ))),
        }
    }

    fn switch(&self) -> Result<(), GitError> {
        let name = full_name(self.branch);
        let verify = ["rev-parse", "--verify", "--quiet", &name];
        let is_there = || self.git(&verify).is_ok();
        if let Some(remote) = self.remote.as_deref().filter(|_| !is_there()) {
            // An earlier attempt or another agent may have pushed the branch. If the origin does not have it, it is
            // new.
            let refspec = format!("{name}:{name}");
            let upload_pack = format!("--upload-pack={OTHER_END} upload-pack");
            let mut args = vec!["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
            if is_local_remote(remote) {
                args.push(&upload_pack);
            }
            args.extend(["--", remote, &refspec]);
            if let Err(GitError::Stopped(reason)) = self.git_remote(&args) {
                return Err(GitError::Stopped(reason));
            }
        }
        let mut args = vec!["switch", "--no-guess"];
        args.extend((!is_there()).then_some("--create"));
        args.push(self.branch.as_str());
        self.git(&args).map(|_| ())
    }

    pub fn name(&self) -> &str {
        self.branch.as_str()
    }

    /// Where the branch will be pushed to, without credentials. `None`: it will not be pushed.
    pub fn destination(&self) -> Option<String> {
        let remote = self.remote.as_deref().filter(|_| self.is_whole.get());
        remote.map(without_credentials)
    }

    /// Commits what a good run left uncommitted. If that fails, it warns, and nothing will be pushed.
    pub fn commit(&self, warnings: &mut Vec<String>) {
        if let Err(why) = self.try_commit() {
            self.is_whole.set(false);
            warnings.push(format!("the branch {} was not pushed: {why}", self.branch));
        }
    }

    fn try_commit(&self) -> Result<(), String> {
        let (config, text) = &self.config;
        put_back(config, text).map_err(|e| format!("the clone cannot be written: {e}"))?;
        let failed = |e: GitError| format!("what the run changed is not committed: {e}");
        let head = self.git(&["symbolic-ref", "--quiet", "HEAD"]).ok();
        if head != Some(full_name(self.branch)) {
            return Err("the run has left it".to_owned());
        }
        self.stage().map_err(failed)?;
        let status = "status --porcelain --untracked-files=no --ignore-submodules=dirty";
        let status: Vec<_> = status.split(' ').collect();
        // A space in the first column means that only the work tree differs.
        let status = self.git(&status).map_err(failed)?;
        if status.lines().all(|line| line.starts_with(' ')) {
            return Ok(());
        }
        let message = format!("--message={}", self.title);
        let mut commit = Vec::new();
        // On a server git may not know who commits.
        if self.git(&["var", "GIT_COMMITTER_IDENT"]).is_err() {
            commit.extend(["-c", "user.name=wf0-agent"]);
            commit.extend(["-c", "user.email=wf0-agent@localhost"]);
        }
        commit.extend(["commit", "--quiet", "--no-verify", &message]);
        self.git(&commit).map(|_| ()).map_err(failed)
    }

    /// Stages the run's changes, but no nested repository: git would run `git status` inside it, and the settings there
    /// may name programs. A submodule keeps the commit that the index has, unless files are now in its place.
    fn stage(&self) -> Result<(), GitError> {
        let git = self.git.clone().inside(&self.top);
        let recorded = take_out_nested(self.at, &git)?;
        self.git(&["add", "--all"])?;
        let staged = IndexListing::read(self.at, &git)?;
        let mut entries = recorded.clone();
        entries.retain(|name, _| !staged.has_files_at(name));
        for (name, entry) in staged.nested() {
            if !recorded.contains_key(&name) {
                entries.insert(name, removal(&entry));
            }
        }
        update_nested(self.at, &git, &entries)
    }

    /// Pushes the branch, opens a pull request, and returns its address. Warns about a step that fails. A stopped push
    /// is a failure of the run: else the backend would never hear of the branch.
    pub fn publish(&self, warnings: &mut Vec<String>) -> Result<Option<String>, Failure> {
        let pushed = self.is_whole.get().then(|| self.push());
        match (pushed, self.at.halt.reason()) {
            (Some(Ok(())), _) => match self.pull_request() {
                Ok(address) => return Ok(Some(address)),
                Err(e) => warnings.push(format!("no pull request: {e}")),
            },
            (_, Some(reason)) => return Err(reason.failure()),
            (Some(Err(e)), None) => {
                warnings.push(format!("the branch {} was not pushed: {e}", self.branch));
            }
            (None, None) => {}
        }
        Ok(None)
    }

    fn push(&self) -> Result<(), String> {
        let remote = self.remote.as_deref();
        let remote = remote.ok_or("there is no remote named origin")?;
        let name = full_name(self.branch);
        let refspec = format!("{name}:{name}");
        let receive_pack = format!("--receive-pack={OTHER_END} receive-pack");
        let mut args = vec!["push", "--quiet", "--no-follow-tags"];
        args.push("--recurse-submodules=no");
        if is_local_remote(remote) {
            args.push(&receive_pack);
        }
        args.extend(["--", remote, &refspec]);
        match self.git_remote(&args) {
            Ok(_) => Ok(()),
            Err(e) => Err(without_credentials(&e.to_string())),
        }
    }

    fn pull_request(&self) -> Result<String, String> {
        let slug = self.job.repo.slug.as_deref();
        let slug = slug.filter(|slug| slug.matches('/').count() == 1);
        let slug = slug.ok_or("the repository's owner/name is not known")?;
        // `gh` takes a name without a host for one of github.com.
        let repo = match self.remote.as_deref().and_then(Remote::parse) {
            Some(Remote { host, .. }) if !host.is_empty() => format!("--repo={host}/{slug}"),
            _ => format!("--repo={slug}"),
        };
        let gh = tool::find("gh", self.at.environment.get("PATH")).ok_or("gh is not on PATH")?;
        let head = format!("--head={}", self.branch);
        let title = format!("--title={}", self.title);
        let body = format!("--body=Opened by wf0-agent for {}.", self.job.ticket.id);
        let opened = self.gh(&gh, &["pr", "create", &repo, &head, &title, &body]);
        // An earlier attempt may have opened the pull request already.
        opened.or_else(|e| {
            let mut list = vec!["pr", "list", &repo, &head];
            list.extend(["--state=open", "--json=url", "--jq=.[0].url"]);
            self.gh(&gh, &list).map_err(|_| e)
        })
    }

    /// Runs `gh` and returns the address that it prints last.
    fn gh(&self, program: &Path, args: &[&str]) -> Result<String, String> {
        let environment = self.at.environment;
        let mut env = environment.for_cli();
        env.push(("GH_PROMPT_DISABLED".into(), "1".into()));
        let spec = Spec {
            program,
            args: &args.iter().map(OsString::from).collect::<Vec<_>>(),
            // `gh` runs outside the clone: its arguments say all that it needs.
            cwd: self.top.parent().unwrap_or(&self.top),
            env,
            mark: Some(environment.mark_of_git(self.job.run)),
            stdin: None,
            stdout: None,
            limit: GH_LIMIT,
            grace: Duration::ZERO,
        };
        let call = Call::start(spec, OUTPUT_MAX);
        let call = call.map_err(|e| format!("gh cannot be started: {e}"))?;
        let end = call.finish(self.at.halt);
        let mut lines = end.stdout.lines().rev().map(str::trim);
        let address = lines.find(|line| line.starts_with("https://"));
        match (end.cause, end.code(), address) {
            (_, Some(0), Some(address)) => Ok(address.to_owned()),
            (Cause::Exited, ..) => {
                let complaint = last_lines(500, &end.stderr);
                let complaint = complaint.as_deref().unwrap_or("it names no address");
                Err(format!("gh: {complaint}"))
            }
            (Cause::TimedOut, ..) => Err("gh took too long".to_owned()),
            (Cause::Stopped(_), ..) => Err("the run was stopped".to_owned()),
        }
    }

    fn git(&self, args: &[&str]) -> Result<String, GitError> {
        self.call(&self.git, args)
    }

    /// For commands that use the network.
    fn git_remote(&self, args: &[&str]) -> Result<String, GitError> {
        self.call(&self.git.clone().within(REMOTE_LIMIT), args)
    }

    fn call(&self, git: &Git, args: &[&str]) -> Result<String, GitError> {
        let is_local = |address: &Option<String>| address.as_deref().is_some_and(is_local_remote);
        // git itself may fetch from `source` what a partial clone lacks.
        let upload_pack = format!("remote.origin.uploadpack={OTHER_END} upload-pack");
        let more: &[&str] = match (is_local(&self.source), is_local(&self.remote)) {
            (true, _) => &["-c", &upload_pack],
            (false, true) => &[],
            // The user's settings may rewrite an address. The new one must not lead to this machine.
            (false, false) => &["-c", "protocol.file.allow=never"],
        };
        let mut command: Vec<&str> = NO_PROGRAMS.split_whitespace().collect();
        command.extend(more.iter().chain(args));
        let out = git.run(&command, None, self.at.halt)?;
        Ok(out.trim_end().to_owned())
    }
}

/// Restores a file of a git directory. The run may have put a link in its place: this never writes through a link.
fn put_back(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    if !fs::symlink_metadata(folder)?.is_dir() {
        return Err(io::Error::other("its .git is no folder any more"));
    }
    let aside = path.with_extension("wf0");
    let _ = fs::remove_file(&aside);
    // `create_new` follows no link, and fails if the old file is still there (open(2), O_EXCL).
    File::create_new(&aside)?.write_all(text.as_bytes())?;
    fs::rename(&aside, path)
}

fn failed(why: String) -> Failure {
    Failure::new(FailCode::Internal, why)
}

fn full_name(branch: &Branch) -> String {
    format!("refs/heads/{branch}")
}

/// Removes credentials from addresses: git quotes addresses in its error messages.
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
