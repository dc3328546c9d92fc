//! What a run changed, by git, with the repository untouched (docs/protocol.md section 5).
//!
//! git works in a scratch git directory that borrows the repository's objects and has its own index and
//! settings. It is never told of the real one, so nothing there can change, a read-only repository does as well,
//! and no hook, filter, monitor or diff program that the repository's settings name is ever started. A file that
//! such a filter would change on its way into git is left out, with a warning: what git keeps encrypted must not be
//! sent in the clear. Filters in the user's own settings, such as that of git-lfs, work as ever.
//!
//! A run in a clone is compared within its clone, in the same way.
//!
//! git never works in a nested repository, such as a submodule: its settings may name programs. So no tree here has a
//! gitlink, and the diff shows neither what changed inside nor that its commit moved; a warning names it.
//!
//! Files that the user has marked `assume-unchanged` are taken at the user's word.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::git::{Call, Git, GitDirs, GitError};
use super::halt::Halt;
use super::patch::{Patch, attribute_pattern, names_of_non_utf8, split};
use super::scratch::{
    HEAD, LIST_SETTINGS, SPARSE, Setting, args, borrow_objects, copy_if_there, copy_index,
    copy_with_time, few_names, is_sparse, local_filters, os_string, parse_settings, scratch_config,
    scratch_failed, take_out_nested,
};
use crate::domain::ticket::{Changes, DiffStat, RunId};
use crate::environment::{Environment, MARK};
use crate::store::{LEFT_OUT, RunFolder};

/// The work tree as it was before a run.
pub struct Snapshot<'a> {
    /// In the work tree, with the scratch git directory.
    scratch: Git,
    /// In the work tree, with the real git directory; only ever asked for HEAD.
    real: Git,
    scratch_dir: PathBuf,
    /// The root of the work tree.
    top: PathBuf,
    folder: &'a RunFolder,
    base_commit: Option<String>,
    /// The tree of before, on its way.
    base_tree: Option<Call>,
    /// Filters of the repository's own settings, which are not run.
    local_filters: Vec<String>,
    is_sparse: bool,
    /// Files that git could not read; they are in no diff.
    unreadable: Option<String>,
}

impl<'a> Snapshot<'a> {
    /// `None`: the folder belongs to no git repository.
    pub fn take(
        environment: &Environment,
        run: RunId,
        repo: &Path,
        folder: &'a RunFolder,
        halt: &Halt,
    ) -> Result<Option<Self>, GitError> {
        let Some(dirs) = GitDirs::find(repo) else {
            return Ok(None);
        };
        let scratch_dir = folder.folder(GIT_DIR).map_err(scratch_failed)?;
        let real =
            Git::new(environment, repo, &dirs.git_dir)?.with(MARK, environment.mark_of_git(run));
        let scratch = Git::new(environment, repo, &scratch_dir)?
            .with("GIT_WORK_TREE", &dirs.top)
            .with(MARK, environment.mark_of_git(run));
        // The CLI waits for all of this: so both answers are under way while the index is copied.
        let settings = real.start(&args(LIST_SETTINGS), None)?;
        let head = real.start(&args(HEAD), None)?;
        borrow_objects(&scratch_dir, &dirs)
            .and_then(|()| copy_index(&scratch_dir, &dirs))
            .map_err(scratch_failed)?;
        let settings = settings.finish(halt)?;
        let settings: Vec<_> = parse_settings(&settings).collect();
        folder
            .write(SETTINGS, scratch_config(&scratch_dir, &settings).as_bytes())
            .map_err(scratch_failed)?;
        let is_sparse = is_sparse(&settings);
        if is_sparse {
            copy_if_there(&dirs.git_dir.join(SPARSE), &scratch_dir.join(SPARSE))
                .map_err(scratch_failed)?;
        }
        take_out_nested(&scratch.clone().inside(&dirs.top), folder, halt)?;
        let unreadable = finish_add(start_add(&scratch, is_sparse)?, halt)?;
        let (code, commit, _) = head.finish_any(halt)?;
        // Before the first commit there is no HEAD.
        let base_commit = (code == 0).then(|| commit.trim().to_owned());
        let snapshot = Self::new([scratch, real], scratch_dir, dirs, folder, &settings);
        Ok(Some(Self {
            base_commit,
            unreadable,
            ..snapshot
        }))
    }

    fn new(
        [scratch, real]: [Git; 2],
        scratch_dir: PathBuf,
        dirs: GitDirs,
        folder: &'a RunFolder,
        settings: &[Setting<'_>],
    ) -> Self {
        Self {
            scratch,
            real,
            scratch_dir,
            top: dirs.top,
            folder,
            base_commit: None,
            base_tree: None,
            local_filters: local_filters(settings),
            is_sparse: is_sparse(settings),
            unreadable: None,
        }
    }

    /// The snapshot that a daemon took which has died since.
    pub fn reopen(
        environment: &Environment,
        run: RunId,
        repo: &Path,
        folder: &'a RunFolder,
        base_commit: Option<String>,
        halt: &Halt,
    ) -> Result<Option<Self>, GitError> {
        let scratch_dir = folder.path(GIT_DIR);
        remove_locks(&scratch_dir);
        let Some(dirs) = GitDirs::find(repo).filter(|_| scratch_dir.join("index").exists()) else {
            return Ok(None);
        };
        let real =
            Git::new(environment, repo, &dirs.git_dir)?.with(MARK, environment.mark_of_git(run));
        let scratch = Git::new(environment, repo, &scratch_dir)?
            .with("GIT_WORK_TREE", &dirs.top)
            .with(MARK, environment.mark_of_git(run));
        let settings = real.run(&args(LIST_SETTINGS), None, halt)?;
        let settings: Vec<_> = parse_settings(&settings).collect();
        let snapshot = Self::new([scratch, real], scratch_dir, dirs, folder, &settings);
        Ok(Some(Self {
            base_commit,
            ..snapshot
        }))
    }

    pub fn base_commit(&self) -> Option<&str> {
        self.base_commit.as_deref()
    }

    /// Each further git command may take so long.
    pub fn within(self, limit: Duration) -> Self {
        Self {
            scratch: self.scratch.within(limit),
            real: self.real.within(limit),
            ..self
        }
    }

    /// What can be done while the CLI runs: the tree of before is in the index already, and only to be written.
    /// That also leaves in the index what makes the second tree cheap.
    pub fn settle(&mut self) -> Result<(), GitError> {
        if self.base_tree.is_none() {
            self.base_tree = Some(self.scratch.start(&args(WRITE_TREE), None)?);
        }
        Ok(())
    }

    /// Compares with the work tree of now. The diff is on disk whole; what is returned is within `max` bytes.
    pub fn changes(
        mut self,
        max: usize,
        halt: &Halt,
        warnings: &mut Vec<String>,
    ) -> Result<Changes, GitError> {
        self.settle()?;
        let mut base_tree = self
            .base_tree
            .take()
            .map(|call| call.finish(halt))
            .transpose()?
            .unwrap_or_default();
        // Those that `git add` found: a folder with a `.git` and a commit.
        let at_root = self.scratch.clone().inside(&self.top);
        let nested_before = take_out_nested(&at_root, self.folder, halt)?;
        if !nested_before.is_empty() {
            base_tree = self.scratch.run(&args(WRITE_TREE), None, halt)?;
        }
        let index = self.scratch_dir.join("index-after");
        copy_with_time(&self.scratch_dir.join("index"), &index).map_err(scratch_failed)?;
        let after = self.scratch.clone().with("GIT_INDEX_FILE", &index);
        let adding = start_add(&after, self.is_sparse)?;
        let head = self.real.start(&args(HEAD), None)?;
        let unreadable = finish_add(adding, halt)?;
        let nested = take_out_nested(&after.clone().inside(&self.top), self.folder, halt)?;
        let tree = after.run(&args(WRITE_TREE), None, halt)?;
        let trees = [base_tree.trim(), tree.trim()];
        let (code, commit, _) = head.finish_any(halt)?;
        let head_commit = (code == 0).then(|| commit.trim().to_owned());
        let unreadable = self.unreadable.take().or(unreadable);

        if !nested.is_empty() {
            warnings.push(format!(
                "changes inside submodules and other nested repositories are not in the diff: {}",
                few_names(nested.keys())
            ));
        }
        let left_out = self.filtered(&after, trees, halt)?;
        if !left_out.is_empty() || unreadable.is_some() || nested != nested_before {
            self.folder.create(LEFT_OUT).map_err(scratch_failed)?;
        }
        warnings.extend(unreadable);
        if !left_out.is_empty() {
            let filters = self.local_filters.join(", ");
            let names: Vec<_> = left_out.iter().map(|name| name.to_string_lossy()).collect();
            warnings.push(format!(
                "not in the diff, for the filter {filters} is not run: {}",
                names.join(", ")
            ));
        }
        let (stat, patch) = self.patch(trees, &left_out, max, halt)?;
        let base_commit = self.base_commit.take();
        let mut changes = Changes {
            stat: Some(stat),
            base_commit,
            head_commit,
            ..Changes::default()
        };
        match patch {
            Patch::TooLarge => changes.diff_truncated = true,
            Patch::Text(text) => changes.diff = Some(text),
            Patch::NotUtf8(bytes) => {
                // JSON holds text only. Told that these files are binary, git writes them in letters and digits.
                self.declare_binary(&bytes).map_err(scratch_failed)?;
                match self.patch(trees, &left_out, max, halt)?.1 {
                    Patch::Text(text) => changes.diff = Some(text),
                    Patch::TooLarge => changes.diff_truncated = true,
                    Patch::NotUtf8(_) => warnings
                        .push("the diff is not UTF-8; it is kept on the agent's disk".to_owned()),
                }
            }
        }
        Ok(changes)
    }

    /// The changed files that one of the repository's own filters is for, before the run or after it.
    fn filtered(
        &self,
        after: &Git,
        trees: [&str; 2],
        halt: &Halt,
    ) -> Result<Vec<OsString>, GitError> {
        if self.local_filters.is_empty() {
            return Ok(Vec::new());
        }
        let command = ["diff-tree", "-r", "--name-only", "-z", trees[0], trees[1]];
        let changed = self.folder.create(CHANGED).map_err(scratch_failed)?;
        self.scratch.run(&args(&command), Some(changed), halt)?;
        let mut filtered = Vec::new();
        // `--cached` reads the attributes as they were: the run may have changed them.
        // It takes names from the working directory on, and those of `diff-tree` begin at the top.
        let [before, after] = [&self.scratch, after].map(|git| git.clone().inside(&self.top));
        for (git, cached) in [(&before, true), (&after, false)] {
            let names = File::open(self.folder.path(CHANGED)).map_err(scratch_failed)?;
            let answers = self.folder.create(ATTRIBUTES).map_err(scratch_failed)?;
            let mut command = vec!["check-attr", "--stdin", "-z", "filter"];
            if cached {
                command.insert(1, "--cached");
            }
            git.start_with(&args(&command), Some(names), Some(answers))?
                .finish(halt)?;
            let answers = fs::read(self.folder.path(ATTRIBUTES)).map_err(scratch_failed)?;
            // Name, attribute, value, each ended by NUL: see gitattributes(5) and git-check-attr(1).
            let fields: Vec<&[u8]> = answers.split(|b| *b == 0).collect();
            let is_local =
                |value: &[u8]| self.local_filters.iter().any(|own| own.as_bytes() == value);
            filtered.extend(
                fields
                    .chunks_exact(3)
                    .filter(|f| is_local(f[2]))
                    .map(|f| os_string(f[0])),
            );
        }
        filtered.sort();
        filtered.dedup();
        if filtered.len() > LEFT_OUT_MAX {
            return Err(GitError::Failed(format!(
                "{} changed files need a filter that is not run",
                filtered.len()
            )));
        }
        Ok(filtered)
    }

    /// Writes the statistics and the patch to disk and reads back what may be sent.
    fn patch(
        &self,
        trees: [&str; 2],
        left_out: &[OsString],
        max: usize,
        halt: &Halt,
    ) -> Result<(DiffStat, Patch), GitError> {
        let raw = self.folder.create(RAW).map_err(scratch_failed)?;
        // `diff-tree` is `git diff` without the settings that change how a diff looks.
        let command = [
            "diff-tree",
            "-r",
            "-M",
            "--numstat",
            "--patch",
            "--binary",
            "--full-index",
            "--no-color",
            "--no-ext-diff",
            "--no-textconv",
            trees[0],
            trees[1],
            "--",
            ":(top)",
        ];
        let exclude = |name: &OsString| {
            let mut pathspec = OsString::from(":(top,exclude,literal)");
            pathspec.push(name);
            pathspec
        };
        let without: Vec<_> = left_out.iter().map(exclude).collect();
        let command: Vec<_> = args(&command)
            .into_iter()
            .chain(without.iter().map(OsString::as_os_str))
            .collect();
        self.scratch.run(&command, Some(raw), halt)?;
        split(&self.folder.path(RAW), self.folder, max).map_err(scratch_failed)
    }

    /// `$GIT_DIR/info/attributes` comes before every other attributes file, see gitattributes(5).
    fn declare_binary(&self, patch: &[u8]) -> io::Result<()> {
        let path = self.scratch_dir.join("info/attributes");
        let mut attributes = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)?;
        for name in names_of_non_utf8(patch) {
            writeln!(attributes, "\n{} -diff", attribute_pattern(&name))?;
        }
        Ok(())
    }
}

/// In the run's scratch folder, which is removed after the run.
const GIT_DIR: &str = "scratch/git";
const SETTINGS: &str = "scratch/git/config";
const RAW: &str = "scratch/diff-tree";
const CHANGED: &str = "scratch/changed";
const ATTRIBUTES: &str = "scratch/attributes";
/// Each is an argument of git, and arguments are limited.
const LEFT_OUT_MAX: usize = 200;
/// In a partial clone not every object is here, nor needs to be.
const WRITE_TREE: &[&str] = &["write-tree", "--missing-ok"];

/// Stages everything below the working directory.
fn start_add(git: &Git, is_sparse: bool) -> Result<Call, GitError> {
    let mut command = vec![
        "-c",
        "core.fsmonitor=false",
        "add",
        "--all",
        "--ignore-errors",
    ];
    // In a sparse checkout also what lies outside its patterns and is there all the same.
    command.extend(is_sparse.then_some("--sparse"));
    command.extend(["--", "."]);
    git.start(&args(&command), None)
}

/// A file that cannot be read is left out, and said.
fn finish_add(adding: Call, halt: &Halt) -> Result<Option<String>, GitError> {
    match adding.finish_any(halt)? {
        (0, _, _) => Ok(None),
        // git's own code for "some files could not be added"; a broken index is 128.
        (1, _, complaint) => Ok(Some(format!("not in the diff: {complaint}"))),
        (_, _, complaint) => Err(GitError::Failed(complaint)),
    }
}

/// What a git that died with the daemon has left: with it no other would touch the index.
fn remove_locks(scratch: &Path) {
    for name in ["index.lock", "index-after.lock"] {
        let _ = fs::remove_file(scratch.join(name));
    }
}
