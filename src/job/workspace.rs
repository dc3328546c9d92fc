//! Where a run works: in the repository itself, or in a clone of its own in the run's folder.
//!
//! The clone is put together by hand, for `git clone` would start git in the repository: with the repository's own
//! settings, and not at all where the repository belongs to somebody else. It borrows the repository's objects, so it
//! is made quickly and takes little room, and lives no longer than they do: a `git gc` there may take objects away that
//! nothing there leads to any more. It has the repository's branches and tags, starts at its HEAD, and knows neither
//! its uncommitted changes nor its hooks and filters. Submodules are not fetched.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use log::warn;

use super::git::{Call, Git, GitDirs, GitError};
use super::halt::Halt;
use super::process;
use super::scratch::{
    HEAD, LIST_SETTINGS, SPARSE, Setting, args, borrow_objects, copy_if_there, copy_index, entry,
    few_names, is_sparse, local_filters, os_string, parse_settings, scratch_config,
};
use crate::config::WorkspaceMode;
use crate::domain::repos::{Workspace, is_local_remote};
use crate::domain::ticket::RunId;
use crate::environment::{Environment, MARK};
use crate::store::RunFolder;

/// Where the runs of that folder are to work. Asked once, at the start of the daemon: what shares a work tree must not
/// change while runs are under way.
pub fn choose(mode: WorkspaceMode, folder: &Path) -> Workspace {
    match mode {
        WorkspaceMode::InPlace => Workspace::InPlace,
        WorkspaceMode::Clone => Workspace::Clone,
        WorkspaceMode::Auto if is_writable(folder) => Workspace::InPlace,
        WorkspaceMode::Auto => Workspace::Clone,
    }
}

/// The system is asked: it knows modes, access lists and read-only mounts, and nothing has to be written to find out.
#[cfg(unix)]
pub fn is_writable(folder: &Path) -> bool {
    use nix::unistd::{AccessFlags, access};
    access(folder, AccessFlags::W_OK).is_ok()
}

/// Windows tells only whoever tries, and a file that comes and goes would be noticed by editors and builds.
#[cfg(not(unix))]
pub fn is_writable(_folder: &Path) -> bool {
    true
}

/// The settings besides [`Setting::decides_on_changes`] that the clone shares: whose commits they are and where they go.
/// None of them names a program.
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
/// As they stand in a `packed-refs` file.
const REFS: &[&str] = &[
    "for-each-ref",
    "--format=%(objectname) %(refname)",
    "refs/heads",
    "refs/remotes",
    "refs/tags",
];
/// Nothing is asked of submodules: git would look into them with their own settings.
const STATUS: &[&str] = &[
    "-c",
    "core.fsmonitor=false",
    "status",
    "--porcelain",
    "-z",
    "--no-renames",
    "--untracked-files=normal",
    "--ignore-submodules=all",
    "--",
    ".",
];

/// A clone that one run works in.
pub struct OwnClone {
    top: PathBuf,
    cwd: PathBuf,
    within: PathBuf,
    /// Filters of the repository's own, which are not run.
    filters: Vec<String>,
    base: Option<String>,
    checkout: Checkout,
    /// The checkout when the clone was made; `None`: it could not be told.
    before: Option<Uncommitted>,
}

impl OwnClone {
    /// Makes it anew. What of the repository it does not have is said in `warnings`.
    pub fn make(
        environment: &Environment,
        run: RunId,
        repo: &Path,
        folder: &RunFolder,
        halt: &Halt,
        warnings: &mut Vec<String>,
    ) -> Result<Self, GitError> {
        let Some(dirs) = GitDirs::find(repo) else {
            return Err(GitError::Failed(
                "the folder is not in a git repository".to_owned(),
            ));
        };
        // Of a daemon that died while it was at it.
        folder.remove_clone().map_err(clone_failed)?;
        let top = folder.make_clone_folder().map_err(clone_failed)?;
        let git_dir = top.join(".git");
        borrow_objects(&git_dir, &dirs).map_err(clone_failed)?;
        let mark = environment.mark_of_git(run);
        let real = Git::new(environment, repo, &dirs.git_dir)?.with(MARK, &mark);
        let settings = real.start(&args(LIST_SETTINGS), None)?;
        let branch = real.start(&args(BRANCH), None)?;
        let refs = fs::File::create(git_dir.join("packed-refs")).map_err(clone_failed)?;
        let refs = real.start(&args(REFS), Some(refs))?;
        let settings = settings.finish(halt)?;
        let settings: Vec<_> = parse_settings(&settings).collect();
        fs::write(git_dir.join("config"), clone_config(&settings, &dirs.top))
            .map_err(clone_failed)?;
        copy_if_there(&dirs.common_dir.join("shallow"), &git_dir.join("shallow"))
            .map_err(clone_failed)?;
        if is_sparse(&settings) {
            copy_if_there(&dirs.git_dir.join(SPARSE), &git_dir.join(SPARSE))
                .map_err(clone_failed)?;
        }
        let (code, branch, _) = branch.finish_any(halt)?;
        if code == 0 {
            fs::write(git_dir.join("HEAD"), format!("ref: {branch}")).map_err(clone_failed)?;
        }
        refs.finish(halt)?;
        let base = head_of(&real, halt)?;

        let clone = Git::new(environment, &top, &git_dir)?
            .with("GIT_WORK_TREE", &top)
            .with(MARK, &mark);
        // No branch is checked out there, or somebody has just committed to it.
        if let Some(base) = base
            .as_ref()
            .filter(|_| head_of(&clone, halt).ok() != Some(base.clone()))
        {
            fs::write(git_dir.join("HEAD"), format!("{base}\n")).map_err(clone_failed)?;
        }
        // Before the first commit the clone is as empty as the repository.
        let reading = base
            .as_ref()
            .map(|_| start_reading(&clone, folder))
            .transpose()?;
        let checkout = Checkout::open(environment, repo, dirs, folder, &settings, real)?;
        let before = match checkout.uncommitted(base.as_deref(), folder, halt) {
            Ok(before) => Some(before),
            Err(GitError::Stopped(reason)) => return Err(GitError::Stopped(reason)),
            Err(e) => {
                warnings.push(format!(
                    "uncommitted changes of the checkout, if any, were not in this run: {e}"
                ));
                None
            }
        };
        if let Some(Uncommitted(files)) = before.as_ref().filter(|before| !before.0.is_empty()) {
            let names = few_names(files.keys());
            warnings.push(format!(
                "the checkout has uncommitted changes, which this run did not have: {names}"
            ));
        }
        reading.map(|reading| reading.finish(halt)).transpose()?;
        let within = repo
            .strip_prefix(&checkout.dirs.top)
            .unwrap_or(Path::new(""))
            .to_owned();
        let cwd = folder_within(&top, &within)?;
        let filters = local_filters(&settings);
        Ok(Self {
            top,
            cwd,
            within,
            filters,
            base,
            checkout,
            before,
        })
    }

    /// Where the program works.
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    pub fn top(&self) -> &Path {
        &self.top
    }

    pub fn git_dir(&self) -> PathBuf {
        self.top.join(".git")
    }

    pub fn git(&self, environment: &Environment) -> Result<Git, GitError> {
        // Named too, for a file `commondir`, which a run may leave there, leads git to settings elsewhere.
        Ok(Git::new(environment, &self.top, &self.git_dir())?
            .with("GIT_COMMON_DIR", self.git_dir()))
    }

    pub fn filters(&self) -> &[String] {
        &self.filters
    }

    /// To be called when something else was checked out, which may have a link where a folder was.
    pub fn settle(&mut self) -> Result<(), GitError> {
        self.cwd = folder_within(&self.top, &self.within)?;
        Ok(())
    }

    /// The same, from the root of the clone.
    pub fn within(&self) -> &Path {
        &self.within
    }

    /// Whether the checkout is still what the clone was made of: else the diff may not apply to it.
    pub fn compare(&self, folder: &RunFolder, halt: &Halt, warnings: &mut Vec<String>) {
        let compared = head_of(&self.checkout.real, halt).and_then(|head| {
            warnings.extend(moved(self.base.as_deref(), head.as_deref()));
            // After a commit every name in it would differ.
            match &self.before {
                Some(before) if head == self.base => Ok(
                    before.differing(self.checkout.uncommitted(head.as_deref(), folder, halt)?)
                ),
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

/// Removes the clone of a run that has ended and was delivered. Should anything of the run be alive after all, it is
/// ended first, and what cannot be ended keeps its clone.
pub fn remove(folder: &RunFolder, run: RunId, grace: Duration) {
    if !folder.clone_path().exists() {
        return;
    }
    let survivors = process::end_marked(run.to_string().into(), grace);
    if survivors > 0 {
        return warn!(
            "run {run}: {survivors} processes of it could not be ended, so its clone stays"
        );
    }
    if let Err(e) = folder.flush_patch().and_then(|()| folder.remove_clone()) {
        warn!("run {run}: its clone cannot be removed: {e}");
    }
}

/// For an outcome without a diff, where the clone is the only place that has the work.
pub fn only_in(folder: &RunFolder) -> String {
    let clone = folder.clone_path();
    format!(
        "what the run did is kept for KEEP_TICKETS_DAYS on the agent's machine: {}",
        clone.display()
    )
}

/// Whether the repository's HEAD has moved since, as a warning.
pub fn head_moved(
    environment: &Environment,
    repo: &Path,
    base: Option<&str>,
    limit: Duration,
) -> Option<String> {
    let git = Git::new(environment, repo, &GitDirs::find(repo)?.git_dir)
        .ok()?
        .within(limit);
    moved(base, head_of(&git, &Halt::never()).ok()?.as_deref())
}

/// `None`: there is no commit yet.
fn head_of(git: &Git, halt: &Halt) -> Result<Option<String>, GitError> {
    let (code, commit, _) = git.start(&args(HEAD), None)?.finish_any(halt)?;
    Ok((code == 0).then(|| commit.trim().to_owned()))
}

/// Fills the clone's index and work tree.
fn start_reading(clone: &Git, folder: &RunFolder) -> Result<Call, GitError> {
    // The user's own hooks do not run either: nobody has checked anything out.
    let mut hooks = OsString::from("core.hooksPath=");
    hooks.push(folder.path("scratch/no-hooks"));
    let mut command = args(&["-c"]);
    command.push(&hooks);
    command.extend(args(&[
        "read-tree",
        "--no-recurse-submodules",
        "--reset",
        "-u",
        "HEAD",
    ]));
    clone.start(&command, None)
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

/// The developer's own checkout, looked at by way of a scratch git directory.
struct Checkout {
    real: Git,
    scratch: Git,
    scratch_dir: PathBuf,
    dirs: GitDirs,
}

/// The files with uncommitted changes, each with its size and time where it is there.
struct Uncommitted(BTreeMap<OsString, Option<(u64, Option<SystemTime>)>>);

impl Uncommitted {
    fn differing(&self, other: Self) -> Vec<OsString> {
        let mut names: Vec<_> = self
            .0
            .keys()
            .filter(|name| !other.0.contains_key(*name))
            .cloned()
            .collect();
        let changed = other
            .0
            .into_iter()
            .filter(|(name, state)| self.0.get(name) != Some(state));
        names.extend(changed.map(|(name, _)| name));
        names.sort();
        names
    }
}

impl Checkout {
    fn open(
        environment: &Environment,
        repo: &Path,
        dirs: GitDirs,
        folder: &RunFolder,
        settings: &[Setting<'_>],
        real: Git,
    ) -> Result<Self, GitError> {
        let scratch_dir = folder.folder("scratch/checkout").map_err(clone_failed)?;
        borrow_objects(&scratch_dir, &dirs).map_err(clone_failed)?;
        fs::write(
            scratch_dir.join("config"),
            scratch_config(&scratch_dir, settings),
        )
        .map_err(clone_failed)?;
        if is_sparse(settings) {
            copy_if_there(&dirs.git_dir.join(SPARSE), &scratch_dir.join(SPARSE))
                .map_err(clone_failed)?;
        }
        let scratch = Git::new(environment, repo, &scratch_dir)?.with("GIT_WORK_TREE", &dirs.top);
        Ok(Self {
            real,
            scratch,
            scratch_dir,
            dirs,
        })
    }

    fn uncommitted(
        &self,
        head: Option<&str>,
        folder: &RunFolder,
        halt: &Halt,
    ) -> Result<Uncommitted, GitError> {
        copy_index(&self.scratch_dir, &self.dirs).map_err(clone_failed)?;
        if let Some(head) = head {
            fs::write(self.scratch_dir.join("HEAD"), format!("{head}\n")).map_err(clone_failed)?;
        }
        let list = "scratch/uncommitted";
        self.scratch.run(
            &args(STATUS),
            Some(folder.create(list).map_err(clone_failed)?),
            halt,
        )?;
        let list = fs::read(folder.path(list)).map_err(clone_failed)?;
        // Two letters, a space, the name, NUL: see "Porcelain Format Version 1" in git-status(1).
        let names = list
            .split(|b| *b == 0)
            .filter_map(|line| line.get(3..))
            .map(os_string);
        let state = |name: &OsStr| {
            let metadata = self.dirs.top.join(name).symlink_metadata().ok()?;
            Some((metadata.len(), metadata.modified().ok()))
        };
        Ok(Uncommitted(
            names.map(|name| (name.clone(), state(&name))).collect(),
        ))
    }
}

/// The clone's own settings.
fn clone_config(settings: &[Setting<'_>], top: &Path) -> String {
    let is_upstream = |name: &str| {
        name.starts_with("branch.")
            && matches!(name.rsplit_once('.'), Some((_, "remote" | "merge")))
    };
    let is_shared = |setting: &&Setting<'_>| {
        let name = setting.name;
        setting.is_local()
            && (setting.decides_on_changes()
                || SHARED_SETTINGS.contains(&name)
                || is_upstream(name))
    };
    let kept: String = settings
        .iter()
        .filter(is_shared)
        .map(|setting| entry(setting.name, &from_anywhere(setting, top)))
        .collect();
    // An empty filter is none, and by its name the diff knows what it has to leave out: see `diff`.
    let filters: String = local_filters(settings)
        .iter()
        .map(|name| entry(&format!("filter.{name}.clean"), ""))
        .collect();
    let own = [
        ("core.repositoryformatversion", "1"),
        ("core.bare", "false"),
        ("core.logAllRefUpdates", "true"),
        (
            "core.sparseCheckout",
            if is_sparse(settings) { "true" } else { "false" },
        ),
        // Nothing is to go on in the background of a folder that is soon removed.
        ("core.fsmonitor", "false"),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
    ];
    own.iter().fold(kept + &filters, |text, (name, value)| {
        text + &entry(name, value)
    })
}

/// A remote may be named by its way from the repository.
fn from_anywhere(setting: &Setting<'_>, top: &Path) -> String {
    let is_address = matches!(setting.name, "remote.origin.url" | "remote.origin.pushurl");
    if is_address && is_local_remote(setting.value) && !setting.value.starts_with("file://") {
        // An absolute path stays what it is.
        return top.join(setting.value).to_string_lossy().into_owned();
    }
    setting.value.to_owned()
}

/// The folder of the clone that is the entry of `REPO_PATHS`. It need not be in the commit.
fn folder_within(top: &Path, within: &Path) -> Result<PathBuf, GitError> {
    let mut folder = top.to_owned();
    for part in within.components() {
        folder.push(part);
        // A link in the commit could lead anywhere.
        if folder
            .symlink_metadata()
            .is_ok_and(|found| found.is_symlink())
        {
            return Err(GitError::Failed(format!(
                "{} is a link in the commit",
                within.display()
            )));
        }
    }
    fs::create_dir_all(&folder).map_err(clone_failed)?;
    Ok(folder)
}

fn clone_failed(e: io::Error) -> GitError {
    GitError::Failed(format!(
        "the clone below the state folder cannot be written: {e}"
    ))
}
