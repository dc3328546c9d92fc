//! Work on a branch that the backend names: checked out in the run's own clone; after a good run committed, pushed, and
//! offered as a pull request (docs/protocol.md section 8, `implement_prd`).
//!
//! The developer's checkout has no part in it: a run that fails, or a daemon that dies, leaves nothing behind there, and
//! what the developer has not committed is never committed. Nothing is ever forced, no other branch is pushed, and no
//! hook is started.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::capture::Capture;
use super::cli::find;
use super::git::{Git, GitError};
use super::halt::Halt;
use super::process::{self, Cause, Shared, Sink, Spec};
use super::scratch::{Listing, removal, take_out_nested, update_nested};
use super::workspace::OwnClone;
use crate::domain::repos::{Branch, Remote, is_local_remote};
use crate::domain::text::last_lines;
use crate::domain::ticket::{Exit, FailCode, Failure, Job};
use crate::environment::{Environment, MARK};
use crate::store::RunFolder;

/// A push goes over the network, and so does a look for the branch.
const REMOTE_LIMIT: Duration = Duration::from_secs(120);
const GH_LIMIT: Duration = Duration::from_secs(60);
/// No hook and no monitor is started, and no remote that is a command line.
const NO_PROGRAMS: [&str; 10] = [
    "-c",
    "submodule.recurse=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "protocol.fd.allow=never",
];
/// A remote may be a repository on this machine, with settings that name programs. git starts the other end there, and
/// what is switched off on this side's command line does not reach it. (`true` is a program without output.)
const OTHER_END: &str = "GIT_NO_LAZY_FETCH=1 GIT_ALLOW_PROTOCOL=: git -c core.hooksPath=/dev/null \
    -c core.fsmonitor=false -c core.alternateRefsCommand=true -c receive.denyCurrentBranch=refuse \
    -c receive.autogc=false";
/// The user's own way to the remote, and whose commits they are.
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
pub struct OnBranch<'a> {
    branch: &'a Branch,
    job: &'a Job,
    environment: &'a Environment,
    git: Git,
    top: PathBuf,
    /// The clone's settings as they were before the run, which could name another remote, or programs.
    config: (PathBuf, String),
    /// Where the branch is pushed to.
    remote: Option<String>,
    /// Where objects come from that a partial clone lacks.
    source: Option<String>,
    /// All that the run did is on the branch.
    is_whole: Cell<bool>,
}

impl<'a> OnBranch<'a> {
    /// Checks the branch out: that of the repository, else that of the origin, else a new one from the current commit.
    pub fn check_out(
        environment: &'a Environment,
        clone: &mut OwnClone,
        job: &'a Job,
        branch: &'a Branch,
        halt: &Halt,
    ) -> Result<Self, Failure> {
        // What git keeps encrypted would be committed, and pushed, in the clear.
        if let Some(filter) = clone.filters().first() {
            return Err(failed(format!(
                "the repository's own filter {filter:?} is not run, so no branch of it can be worked on"
            )));
        }
        let mut git = clone.git(environment).map_err(|e| failed(e.to_string()))?;
        let kept = KEPT_VARIABLES
            .into_iter()
            .filter_map(|name| Some((name, environment.get(name)?)));
        git = kept.fold(git, |git, (name, value)| git.with(name, value));
        // Nothing asks anybody, for nobody is there.
        git = git
            .with("SSH_ASKPASS", "false")
            .with("SSH_ASKPASS_REQUIRE", "force")
            .with("GIT_NO_LAZY_FETCH", "0");
        git = git.with(MARK, environment.mark_of_git(job.run));
        let config = clone.git_dir().join("config");
        let text = fs::read_to_string(&config)
            .map_err(|e| failed(format!("the clone cannot be read: {e}")))?;
        let (top, is_whole) = (clone.top().to_owned(), Cell::new(true));
        let config = (config, text);
        let mut own = Self {
            branch,
            job,
            environment,
            git,
            top,
            config,
            remote: None,
            source: None,
            is_whole,
        };
        own.remote = own
            .git(&["remote", "get-url", "--push", "origin"], halt)
            .ok();
        own.source = own.git(&["remote", "get-url", "origin"], halt).ok();
        own.switch(halt)
            .and_then(|()| clone.settle())
            .map_err(|e| match e {
                GitError::Stopped(reason) => reason.failure(),
                e => failed(format!("the branch {branch} cannot be checked out: {e}")),
            })?;
        Ok(own)
    }

    fn switch(&self, halt: &Halt) -> Result<(), GitError> {
        let name = full_name(self.branch);
        let is_there = || {
            self.git(&["rev-parse", "--verify", "--quiet", &name], halt)
                .is_ok()
        };
        if let Some(remote) = self.remote.as_deref().filter(|_| !is_there()) {
            // Of an earlier attempt, or another agent's. Where it is not there either, it is new.
            let refspec = format!("{name}:{name}");
            let upload_pack = format!("--upload-pack={OTHER_END} upload-pack");
            let mut args = vec!["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
            if is_local_remote(remote) {
                args.push(&upload_pack);
            }
            args.extend(["--", remote, &refspec]);
            if let Err(GitError::Stopped(reason)) = self.git_remote(&args, halt) {
                return Err(GitError::Stopped(reason));
            }
        }
        let create: &[&str] = if is_there() { &[] } else { &["--create"] };
        self.git(
            &[&["switch", "--no-guess"], create, &[self.branch.as_str()]].concat(),
            halt,
        )
        .map(|_| ())
    }

    pub fn name(&self) -> &str {
        self.branch.as_str()
    }

    /// Where it will be pushed to, if it will: without credentials.
    pub fn destination(&self) -> Option<String> {
        self.remote
            .as_deref()
            .filter(|_| self.is_whole.get())
            .map(without_credentials)
    }

    /// Commits what a good run left uncommitted. What cannot be done is a warning, and then nothing is pushed.
    pub fn commit(&self, title: &str, folder: &RunFolder, halt: &Halt, warnings: &mut Vec<String>) {
        if let Err(why) = self.try_commit(title, folder, halt) {
            self.is_whole.set(false);
            warnings.push(format!("the branch {} was not pushed: {why}", self.branch));
        }
    }

    fn try_commit(&self, title: &str, folder: &RunFolder, halt: &Halt) -> Result<(), String> {
        let (config, text) = &self.config;
        put_back(config, text).map_err(|e| format!("the clone cannot be written: {e}"))?;
        let said = |e: GitError| format!("what the run changed is not committed: {e}");
        if self.git(&["symbolic-ref", "--quiet", "HEAD"], halt).ok() != Some(full_name(self.branch))
        {
            return Err("the run has left it".to_owned());
        }
        self.stage(folder, halt).map_err(said)?;
        let status = [
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--ignore-submodules=dirty",
        ];
        // A space in the first column: only the work tree differs.
        let status = self.git(&status, halt).map_err(said)?;
        if status.lines().all(|line| line.starts_with(' ')) {
            return Ok(());
        }
        let message = if title.is_empty() {
            self.job.ticket.id.as_str()
        } else {
            title
        };
        let message = format!("--message={message}");
        let mut commit = vec!["commit", "--quiet", "--no-verify", message.as_str()];
        // On a server nobody may have told git who they are.
        if self.git(&["var", "GIT_COMMITTER_IDENT"], halt).is_err() {
            commit.splice(
                ..0,
                [
                    "-c",
                    "user.name=wf0-agent",
                    "-c",
                    "user.email=wf0-agent@localhost",
                ],
            );
        }
        self.git(&commit, halt).map(|_| ()).map_err(said)
    }

    /// Stages the run's changes, and no nested repository: git would run `git status` inside it, and its settings may
    /// name programs. A submodule keeps the commit that the index has, unless files are now in its place.
    fn stage(&self, folder: &RunFolder, halt: &Halt) -> Result<(), GitError> {
        let git = self.git.clone().inside(&self.top);
        let recorded = take_out_nested(&git, folder, halt)?;
        self.git(&["add", "--all"], halt)?;
        let staged = Listing::read(&git, folder, halt)?;
        let found = staged.nested();
        let added = found
            .iter()
            .filter(|(name, _)| !recorded.contains_key(*name))
            .map(|(name, entry)| (name, removal(entry)));
        let kept = recorded
            .iter()
            .filter(|(name, _)| !staged.has_files_at(name))
            .map(|(name, entry)| (name, entry.clone()));
        update_nested(&git, folder, added.chain(kept), halt)
    }

    /// Pushes the branch and opens a pull request. Gives its address; what cannot be done is a warning. A push that was
    /// called off is none: nobody would hear of it again.
    pub fn publish(
        &self,
        title: &str,
        halt: &Halt,
        warnings: &mut Vec<String>,
    ) -> Result<Option<String>, Failure> {
        let pushed = if self.is_whole.get() {
            self.push(halt)
        } else {
            Ok(false)
        };
        match (pushed, halt.reason()) {
            (Ok(true), _) => {
                let opened = self.pull_request(title, halt);
                Ok(opened
                    .map_err(|e| warnings.push(format!("no pull request: {e}")))
                    .ok())
            }
            (_, Some(reason)) => Err(reason.failure()),
            (Ok(false), None) => Ok(None),
            (Err(e), None) => {
                warnings.push(format!("the branch {} was not pushed: {e}", self.branch));
                Ok(None)
            }
        }
    }

    fn push(&self, halt: &Halt) -> Result<bool, String> {
        let remote = self
            .remote
            .as_deref()
            .ok_or("there is no remote named origin")?;
        let name = full_name(self.branch);
        let refspec = format!("{name}:{name}");
        let receive_pack = format!("--receive-pack={OTHER_END} receive-pack");
        let mut args = vec![
            "push",
            "--quiet",
            "--no-follow-tags",
            "--recurse-submodules=no",
        ];
        if is_local_remote(remote) {
            args.push(&receive_pack);
        }
        args.extend(["--", remote, &refspec]);
        self.git_remote(&args, halt)
            .map(|_| true)
            .map_err(|e| without_credentials(&e.to_string()))
    }

    fn pull_request(&self, title: &str, halt: &Halt) -> Result<String, String> {
        let slug = self
            .job
            .repo
            .slug
            .as_deref()
            .filter(|slug| slug.matches('/').count() == 1);
        let slug = slug.ok_or("the repository's owner/name is not known")?;
        // The name alone would be one of github.com.
        let repo = match self.remote.as_deref().and_then(Remote::parse) {
            Some(Remote { host, .. }) if !host.is_empty() => format!("--repo={host}/{slug}"),
            _ => format!("--repo={slug}"),
        };
        let gh = find::program("gh", self.environment.get("PATH")).ok_or("gh is not on PATH")?;
        let id = &self.job.ticket.id;
        let title = if title.is_empty() { id.as_str() } else { title };
        let (head, title) = (
            format!("--head={}", self.branch),
            format!("--title={title}"),
        );
        let body = format!("--body=Opened by wf0-agent for {id}.");
        let opened = self.gh(&gh, &["pr", "create", &repo, &head, &title, &body], halt);
        // There may be one already, from an earlier attempt.
        opened.or_else(|e| {
            let asked = [
                "pr",
                "list",
                &repo,
                &head,
                "--state=open",
                "--json=url",
                "--jq=.[0].url",
            ];
            self.gh(&gh, &asked, halt).map_err(|_| e)
        })
    }

    /// The address that `gh` prints last.
    fn gh(&self, program: &Path, args: &[&str], halt: &Halt) -> Result<String, String> {
        let (stdout, stderr) = (
            Shared::new(Capture::new(64 << 10, None)),
            Shared::new(Capture::new(8 << 10, None)),
        );
        let mut env = self.environment.for_cli();
        env.push(("GH_PROMPT_DISABLED".into(), "1".into()));
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let process = process::start(Spec {
            program,
            args: &args,
            // Outside of the clone: it is told all that it needs.
            cwd: self.top.parent().unwrap_or(&self.top),
            env,
            mark: Some(self.environment.mark_of_git(self.job.run)),
            stdin: None,
            stdout: Sink::Capture(stdout.clone()),
            stderr: Sink::Capture(stderr.clone()),
            limit: GH_LIMIT,
            grace: Duration::ZERO,
        });
        let ended = process
            .map_err(|e| format!("gh cannot be started: {e}"))?
            .wait(halt, None, || {});
        let said = stdout.lock().bytes.excerpt().render();
        let address = said
            .lines()
            .rev()
            .map(str::trim)
            .find(|line| line.starts_with("https://"));
        match (ended.cause, ended.exit, address) {
            (Cause::Exited, Some(Exit::Code(0)), Some(address)) => Ok(address.to_owned()),
            (Cause::Exited, ..) => {
                let complaint = last_lines(500, &stderr.lock().bytes.excerpt().render());
                Err(format!(
                    "gh: {}",
                    complaint.as_deref().unwrap_or("it names no address")
                ))
            }
            (Cause::TimedOut, ..) => Err("gh took too long".to_owned()),
            (Cause::Stopped(_), ..) => Err("the run was stopped".to_owned()),
        }
    }

    fn git(&self, args: &[&str], halt: &Halt) -> Result<String, GitError> {
        self.call(&self.git, args, halt)
    }

    /// For what goes over the network.
    fn git_remote(&self, args: &[&str], halt: &Halt) -> Result<String, GitError> {
        self.call(&self.git.clone().within(REMOTE_LIMIT), args, halt)
    }

    fn call(&self, git: &Git, args: &[&str], halt: &Halt) -> Result<String, GitError> {
        let is_local = |address: &Option<String>| address.as_deref().is_some_and(is_local_remote);
        // git fetches from there by itself what a partial clone lacks.
        let upload_pack = format!("remote.origin.uploadpack={OTHER_END} upload-pack");
        let more: &[&str] = match (is_local(&self.source), is_local(&self.remote)) {
            (true, _) => &["-c", &upload_pack],
            (false, true) => &[],
            // An address that the user's settings rewrite must not lead to a repository here after all.
            (false, false) => &["-c", "protocol.file.allow=never"],
        };
        let args: Vec<&OsStr> = NO_PROGRAMS
            .iter()
            .chain(more)
            .chain(args)
            .map(OsStr::new)
            .collect();
        git.run(&args, None, halt)
            .map(|out| out.trim_end().to_owned())
    }
}

/// A file of a git directory as it was before the run, wherever the run has made a link to.
fn put_back(path: &Path, text: &str) -> io::Result<()> {
    let is_own = path
        .parent()
        .is_some_and(|folder| fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir()));
    if !is_own {
        return Err(io::Error::other("its .git is no folder any more"));
    }
    let aside = path.with_extension("wf0");
    match fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // A new file is never somebody's link (open(2), O_EXCL).
    File::create_new(&aside)?.write_all(text.as_bytes())?;
    fs::rename(&aside, path)
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
