//! Decides where a run works: in the repository itself, or in a clone of its own in the run's folder.
//!
//! The clone is made by hand, because `git clone` would start git in the repository with the repository's own settings,
//! and refuse repositories of other users. It borrows the repository's objects, so it is quick to make and small. A
//! `git gc` in the repository may remove objects that only the clone needs. The clone has the repository's branches and
//! tags and starts at its HEAD, without its uncommitted changes, hooks and filters. Submodules are not fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use log::warn;

use super::git::{Call, Git, GitDirs, GitError};
use super::process::{self, Halt};
use super::scratch::{
    LIST_SETTINGS, Repository, RunGit, Scratch, Settings, borrow_objects, copy_if_there,
    copy_index, few_names, head_of, os_string,
};
use crate::config::WorkspaceMode;
use crate::domain::repos::{Workspace, is_local_remote};
use crate::domain::ticket::RunId;
use crate::environment::Environment;
use crate::store::journal::RunFolder;

/// Where the runs of that folder work. Chosen once, at the start of the daemon: runs that share a work tree must not
/// change while they run.
pub fn choose(mode: WorkspaceMode, folder: &Path) -> Workspace {
    match mode {
        WorkspaceMode::InPlace => Workspace::InPlace,
        WorkspaceMode::Auto if is_writable(folder) => Workspace::InPlace,
        WorkspaceMode::Clone | WorkspaceMode::Auto => Workspace::Clone,
    }
}

/// Asks the system, which knows modes, access lists and read-only mounts.
#[cfg(unix)]
pub fn is_writable(folder: &Path) -> bool {
    use nix::unistd::{AccessFlags, access};
    access(folder, AccessFlags::W_OK).is_ok()
}

/// Windows tells only by an attempt, and editors and builds would notice a file that comes and goes.
#[cfg(not(unix))]
pub fn is_writable(_folder: &Path) -> bool {
    true
}

/// Settings that the clone has besides those that decide what counts as a change: who commits, and where to push. None
/// of them names a program.
const SHARED_SETTINGS: &[&str] = &[
    "user.name",
    "user.email",
    "remote.origin.url",
    "remote.origin.pushurl",
    "remote.origin.fetch",
    "remote.origin.promisor",
    "remote.origin.partialclonefilter",
];
const BRANCH: &[&str] = &["symbolic-ref", "--quiet", "HEAD"];
/// In the form of a `packed-refs` file.
const REFS: &[&str] = &[
    "for-each-ref",
    "--format=%(objectname) %(refname)",
    "refs/heads",
    "refs/remotes",
    "refs/tags",
];
/// Submodules are ignored: git would look into them with their own settings.
const STATUS: &str = "-c core.fsmonitor=false status --porcelain -z --no-renames \
                      --untracked-files=normal --ignore-submodules=all -- .";

/// A clone that one run works in.
pub struct RunClone {
    pub top: PathBuf,
    /// Where the CLI works.
    pub cwd: PathBuf,
    /// The same, from the root of the clone.
    pub within: PathBuf,
    /// The repository's own filters, which do not run.
    pub filters: Vec<String>,
    base: Option<String>,
    checkout: Checkout,
    /// The state of the checkout when the clone was made, if it is known.
    before: Option<Uncommitted>,
}

impl RunClone {
    /// Warns of what the repository has and the clone has not.
    pub fn make(
        at: RunGit<'_>,
        folder: &Path,
        warnings: &mut Vec<String>,
    ) -> Result<Self, GitError> {
        let Some(repository) = Repository::find(at, folder)? else {
            return Err(GitError::Failed(
                "the folder is not in a git repository".to_owned(),
            ));
        };
        // One that an earlier daemon did not finish.
        at.folder.remove_clone()?;
        let top = at.folder.make_clone_folder()?;
        let git_dir = top.join(".git");
        let settings = fill_git_dir(at, &repository, &git_dir)?;
        let base = head_of(&repository.git, at.halt)?;
        let git = at.git(&top, &git_dir)?.with("GIT_WORK_TREE", &top);
        if let Some(base) = &base {
            // Its branch is missing if no branch is checked out, or is at another commit by now.
            if head_of(&git, at.halt).ok().flatten().as_ref() != Some(base) {
                fs::write(git_dir.join("HEAD"), format!("{base}\n"))?;
            }
        }
        // Before the first commit the clone is as empty as the repository.
        let reading = base.as_ref().map(|_| start_reading(&git, at.folder));
        let reading = reading.transpose()?;
        let checkout = Checkout::open(at, folder, repository, &settings)?;
        let before = match checkout.uncommitted(at, base.as_deref()) {
            Err(GitError::Stopped(reason)) => return Err(GitError::Stopped(reason)),
            Err(e) => {
                warnings.push(format!(
                    "uncommitted changes of the checkout, if any, were not in this run: {e}"
                ));
                None
            }
            Ok(Uncommitted(files)) => {
                if !files.is_empty() {
                    warnings.push(format!(
                        "the checkout has uncommitted changes, which this run did not have: {}",
                        few_names(files.keys())
                    ));
                }
                Some(Uncommitted(files))
            }
        };
        if let Some(reading) = reading {
            reading.finish(at.halt)?;
        }
        let within = folder.strip_prefix(&checkout.repository.dirs.top);
        let within = within.unwrap_or(Path::new("")).to_owned();
        Ok(Self {
            cwd: folder_within(&top, &within)?,
            top,
            within,
            filters: settings.local_filters(),
            base,
            checkout,
            before,
        })
    }

    pub fn git_dir(&self) -> PathBuf {
        self.top.join(".git")
    }

    pub fn git(&self, at: RunGit<'_>) -> Result<Git, GitError> {
        // A file `commondir`, which a run may leave there, would lead git to other settings.
        let git = at.git(&self.top, &self.git_dir())?;
        Ok(git.with("GIT_COMMON_DIR", self.git_dir()))
    }

    /// To be called after another branch was checked out: it may have a link where a folder was.
    pub fn check_folder(&mut self) -> Result<(), GitError> {
        self.cwd = folder_within(&self.top, &self.within)?;
        Ok(())
    }

    /// Warns if the checkout has changed since the clone was made: the diff may not apply to it.
    pub fn compare(&self, at: RunGit<'_>, warnings: &mut Vec<String>) {
        let compared = head_of(&self.checkout.repository.git, at.halt).and_then(|head| {
            warnings.extend(moved(self.base.as_deref(), head.as_deref()));
            // After a commit every name in it would differ.
            match &self.before {
                Some(before) if head == self.base => {
                    let now = self.checkout.uncommitted(at, head.as_deref())?;
                    Ok(before.differing(&now))
                }
                _ => Ok(Vec::new()),
            }
        });
        match compared {
            Ok(names) if names.is_empty() => {}
            Ok(names) => warnings.push(format!(
                "the checkout was changed during the run: {}",
                few_names(names.iter())
            )),
            Err(e) => warnings.push(format!(
                "whether the checkout was changed during the run is not known: {e}"
            )),
        }
    }
}

/// Makes the clone's git directory, but for its index.
fn fill_git_dir(
    at: RunGit<'_>,
    repository: &Repository,
    git_dir: &Path,
) -> Result<Settings, GitError> {
    let Repository { dirs, git } = repository;
    borrow_objects(git_dir, dirs)?;
    let settings = git.start(LIST_SETTINGS, None, None)?;
    let branch = git.start(BRANCH, None, None)?;
    let refs = File::create(git_dir.join("packed-refs"))?;
    let refs = git.start(REFS, None, Some(refs))?;
    let settings = Settings::parse(&settings.finish(at.halt)?);
    let branch = branch.finish_any(at.halt)?;
    let address = |name: &str, value: &str| from_anywhere(name, value, &dirs.top);
    let config = settings.for_clone(SHARED_SETTINGS, address);
    fs::write(git_dir.join("config"), config)?;
    copy_if_there(&dirs.common_dir.join("shallow"), &git_dir.join("shallow"))?;
    if branch.code == 0 {
        fs::write(git_dir.join("HEAD"), format!("ref: {}", branch.stdout))?;
    }
    settings.copy_sparse_patterns(dirs, git_dir)?;
    refs.finish(at.halt)?;
    Ok(settings)
}

/// Removes the clone of a run whose outcome was delivered. Processes of the run that are still alive are ended first; if
/// one cannot be ended, the clone stays.
pub fn remove(folder: &RunFolder, run: RunId, grace: Duration) {
    if !folder.clone_path().exists() {
        return;
    }
    let survivors = process::end_marked(run.to_string().into(), grace);
    if survivors > 0 {
        return warn!(
            "run {run}: {survivors} of its processes could not be ended, so its clone stays"
        );
    }
    if let Err(e) = folder.flush_patch().and_then(|()| folder.remove_clone()) {
        warn!("run {run}: its clone cannot be removed: {e}");
    }
}

/// For an outcome without a diff: only the clone has the work.
pub fn only_in(folder: &RunFolder) -> String {
    format!(
        "what the run did is kept for KEEP_TICKETS_DAYS on the agent's machine: {}",
        folder.clone_path().display()
    )
}

/// A warning if the repository's HEAD has moved since.
pub fn head_moved(
    environment: &Environment,
    repo: &Path,
    base: Option<&str>,
    limit: Duration,
) -> Option<String> {
    let git = Git::new(environment, repo, &GitDirs::find(repo)?.git_dir).ok()?;
    let head = head_of(&git.within(limit), &Halt::never()).ok()?;
    moved(base, head.as_deref())
}

fn moved(from: Option<&str>, to: Option<&str>) -> Option<String> {
    let name = |commit: Option<&str>| commit.unwrap_or("no commit").to_owned();
    (from != to).then(|| {
        format!(
            "the checkout's HEAD moved during the run, from {} to {}",
            name(from),
            name(to)
        )
    })
}

/// Fills the clone's index and work tree.
fn start_reading(git: &Git, folder: &RunFolder) -> Result<Call, GitError> {
    // The user's own hooks do not run either: no person has checked anything out.
    let mut hooks = OsString::from("core.hooksPath=");
    hooks.push(folder.path("scratch/no-hooks"));
    let mut command = vec![OsStr::new("-c"), &hooks];
    let words = "read-tree --no-recurse-submodules --reset -u HEAD";
    command.extend(words.split(' ').map(OsStr::new));
    git.start(&command, None, None)
}

/// The developer's own checkout, looked at through a scratch git directory.
struct Checkout {
    repository: Repository,
    scratch: Scratch,
}

/// The files with uncommitted changes. Each has its size and time, if it exists.
struct Uncommitted(BTreeMap<OsString, Option<(u64, Option<SystemTime>)>>);

impl Uncommitted {
    fn differing(&self, now: &Self) -> Vec<OsString> {
        let mut names: BTreeSet<_> = self.0.keys().chain(now.0.keys()).collect();
        names.retain(|name| self.0.get(*name) != now.0.get(*name));
        names.into_iter().cloned().collect()
    }
}

impl Checkout {
    fn open(
        at: RunGit<'_>,
        folder: &Path,
        repository: Repository,
        settings: &Settings,
    ) -> Result<Self, GitError> {
        let name = "scratch/checkout";
        let scratch = Scratch::make(at, folder, &repository.dirs, name, settings)?;
        Ok(Self {
            repository,
            scratch,
        })
    }

    fn uncommitted(&self, at: RunGit<'_>, head: Option<&str>) -> Result<Uncommitted, GitError> {
        let (dirs, scratch) = (&self.repository.dirs, &self.scratch);
        copy_index(&scratch.dir, dirs)?;
        if let Some(head) = head {
            fs::write(scratch.dir.join("HEAD"), format!("{head}\n"))?;
        }
        let list = "scratch/uncommitted";
        let out = at.folder.create(list)?;
        let command: Vec<_> = STATUS.split_whitespace().collect();
        scratch.git.run(&command, Some(out), at.halt)?;
        let list = fs::read(at.folder.path(list))?;
        let state = |name: &OsStr| {
            let metadata = dirs.top.join(name).symlink_metadata().ok()?;
            Some((metadata.len(), metadata.modified().ok()))
        };
        // Two letters, a space, the name, NUL: see "Porcelain Format Version 1" in git-status(1).
        let names = list.split(|b| *b == 0).filter_map(|line| line.get(3..));
        let files = names.map(|name| (os_string(name), state(&os_string(name))));
        Ok(Uncommitted(files.collect()))
    }
}

/// A setting for the clone. The path of a remote may be relative to the repository.
fn from_anywhere(name: &str, value: &str, top: &Path) -> String {
    let is_address = matches!(name, "remote.origin.url" | "remote.origin.pushurl");
    if is_address && is_local_remote(value) && !value.starts_with("file://") {
        // An absolute path stays as it is.
        return top.join(value).to_string_lossy().into_owned();
    }
    value.to_owned()
}

/// The clone's folder for the entry of `REPO_PATHS`. The commit need not have it.
fn folder_within(top: &Path, within: &Path) -> Result<PathBuf, GitError> {
    let mut folder = top.to_owned();
    for part in within.components() {
        folder.push(part);
        // A link in the commit could lead anywhere.
        if folder.is_symlink() {
            return Err(GitError::Failed(format!(
                "{} is a link in the commit",
                within.display()
            )));
        }
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
