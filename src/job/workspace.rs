//! Decides where a run works: in the repository itself, or in a clone of its own in the run's folder.
//!
//! This module makes the clone without `git clone`, which would start git in the repository with the repository's own
//! settings, and would refuse repositories of other users. The clone borrows the repository's objects, so it is small
//! and quick to make. But a `git gc` in the repository may remove objects that only the clone needs. The clone has the
//! repository's branches and tags and starts at the repository's HEAD. It has no uncommitted changes, hooks, filters or
//! submodules.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::warn;

use super::git::{Git, GitCall, GitError};
use super::process;
use super::scratch::{
    GitSettings, Repository, RunGit, Scratch, borrow_objects, copy_if_there, few_names, head_of,
    os_string,
};
use crate::config::WorkspaceMode;
use crate::domain::repos::Workspace;
use crate::domain::ticket::RunId;
use crate::store::journal::RunFolder;

/// Chooses where the runs of a folder work. The daemon does this once, at its start: which runs share a work tree must
/// not change while they run.
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

/// Assumes yes. On Windows only an attempt to write shows it, and editors and builds would notice the test file.
#[cfg(not(unix))]
pub fn is_writable(_folder: &Path) -> bool {
    true
}

const BRANCH: &[&str] = &["symbolic-ref", "--quiet", "HEAD"];
/// Lists the refs in the form of a `packed-refs` file.
const REFS: &[&str] = &[
    "for-each-ref",
    "--format=%(objectname) %(refname)",
    "refs/heads",
    "refs/remotes",
    "refs/tags",
];
/// Ignores submodules: git would use their own settings to look into them.
const STATUS: &str = "-c core.fsmonitor=false status --porcelain -z --no-renames \
                      --untracked-files=normal --ignore-submodules=all -- .";

/// A clone that one run works in.
pub struct RunClone {
    pub top: PathBuf,
    /// Where the CLI works.
    pub cwd: PathBuf,
    /// `cwd`, relative to `top`.
    pub within: PathBuf,
    /// The filters in the repository's own settings. They do not run in the clone.
    pub filters: Vec<String>,
}

impl RunClone {
    /// Makes the clone. Warns of uncommitted changes in the checkout, because the clone does not have them.
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
        // An earlier daemon may have left an unfinished clone.
        at.folder.remove_clone()?;
        let top = at.folder.make_clone_folder()?;
        let git_dir = top.join(".git");
        let settings = fill_git_dir(at, &repository, &git_dir)?;
        let base = head_of(&repository.git, at.halt)?;
        let git = at.git(&top, &git_dir)?.with("GIT_WORK_TREE", &top);
        let mut reading = None;
        // Before the first commit the clone is as empty as the repository.
        if let Some(base) = &base {
            // The clone's HEAD differs if the repository has no branch checked out, or if its branch has just moved.
            if head_of(&git, at.halt).ok().flatten().as_ref() != Some(base) {
                fs::write(git_dir.join("HEAD"), format!("{base}\n"))?;
            }
            reading = Some(start_reading(&git, at.folder)?);
        }
        match uncommitted(at, folder, &repository, &settings, base.as_deref()) {
            Err(GitError::Stopped(reason)) => return Err(GitError::Stopped(reason)),
            Err(e) => warnings.push(format!(
                "git could not list uncommitted changes of the checkout; this run has none of them: {e}"
            )),
            Ok(names) if names.is_empty() => {}
            Ok(names) => warnings.push(format!(
                "the checkout has uncommitted changes, which this run did not have: {}",
                few_names(names.iter())
            )),
        }
        if let Some(reading) = reading {
            reading.finish(at.halt)?;
        }
        let within = folder.strip_prefix(&repository.dirs.top);
        let within = within.unwrap_or(Path::new("")).to_owned();
        Ok(Self {
            cwd: folder_within(&top, &within)?,
            top,
            within,
            filters: settings.local_filters(),
        })
    }

    pub fn git_dir(&self) -> PathBuf {
        self.top.join(".git")
    }

    pub fn git(&self, at: RunGit<'_>) -> Result<Git, GitError> {
        // A run may leave a file `commondir` there, which would lead git to other settings. This variable overrides it.
        let git = at.git(&self.top, &self.git_dir())?;
        Ok(git.with("GIT_COMMON_DIR", self.git_dir()))
    }

    /// Call this after the checkout of another branch: that branch may have a link where a folder was.
    pub fn check_folder(&mut self) -> Result<(), GitError> {
        self.cwd = folder_within(&self.top, &self.within)?;
        Ok(())
    }
}

/// Makes the clone's git directory, except its index.
fn fill_git_dir(
    at: RunGit<'_>,
    repository: &Repository,
    git_dir: &Path,
) -> Result<GitSettings, GitError> {
    let Repository { dirs, git } = repository;
    borrow_objects(git_dir, dirs)?;
    let settings = repository.settings(at.halt)?;
    fs::write(git_dir.join("config"), settings.for_clone(&dirs.top))?;
    settings.copy_sparse_patterns(dirs, git_dir)?;
    copy_if_there(&dirs.common_dir.join("shallow"), &git_dir.join("shallow"))?;
    let branch = git.start(BRANCH, None, None)?.finish_any(at.halt)?;
    if branch.code == 0 {
        fs::write(git_dir.join("HEAD"), format!("ref: {}", branch.stdout))?;
    }
    let refs = File::create(git_dir.join("packed-refs"))?;
    git.run(REFS, Some(refs), at.halt)?;
    Ok(settings)
}

/// Removes the clone of a run whose outcome was delivered. First ends the processes of the run that are still alive. If
/// one survives, the clone stays.
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

/// The warning for an outcome without a diff: only the clone has the run's work.
pub fn only_in(folder: &RunFolder) -> String {
    format!(
        "the run's work stays on the agent's machine for KEEP_TICKETS_DAYS: {}",
        folder.clone_path().display()
    )
}

/// Starts the git command that fills the clone's index and work tree.
fn start_reading(git: &Git, folder: &RunFolder) -> Result<GitCall, GitError> {
    // The user's own hooks do not run either: the user did not check anything out.
    let mut hooks = OsString::from("core.hooksPath=");
    hooks.push(folder.path("scratch/no-hooks"));
    let mut command = vec![OsStr::new("-c"), &hooks];
    let words = "read-tree --no-recurse-submodules --reset -u HEAD";
    command.extend(words.split(' ').map(OsStr::new));
    git.start(&command, None, None)
}

/// Lists the files with uncommitted changes in the developer's checkout. git reads the checkout through a scratch git
/// directory.
fn uncommitted(
    at: RunGit<'_>,
    folder: &Path,
    repository: &Repository,
    settings: &GitSettings,
    head: Option<&str>,
) -> Result<Vec<OsString>, GitError> {
    const LIST: &str = "scratch/uncommitted";
    let name = "scratch/checkout";
    let scratch = Scratch::make(at, folder, &repository.dirs, name, settings)?;
    if let Some(head) = head {
        fs::write(scratch.dir.join("HEAD"), format!("{head}\n"))?;
    }
    let out = at.folder.create(LIST)?;
    let command: Vec<_> = STATUS.split_whitespace().collect();
    scratch.git.run(&command, Some(out), at.halt)?;
    let list = fs::read(at.folder.path(LIST))?;
    // Two letters, a space, the name, NUL: see "Porcelain Format Version 1" in git-status(1).
    let names = list.split(|b| *b == 0).filter_map(|line| line.get(3..));
    Ok(names.map(os_string).collect())
}

/// The folder in the clone that stands for the `REPO_PATHS` entry. Makes it if the commit does not have it.
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
