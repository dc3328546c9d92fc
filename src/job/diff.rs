//! Finds out what a run changed, with git, and does not touch the repository (docs/protocol.md section 5).
//!
//! git works in a scratch git directory (`scratch`). So it starts no hook, filter, monitor or diff program that the
//! repository's settings name. If such a filter would change a file, the diff leaves the file out, with a warning: what
//! the repository keeps encrypted must not be sent in the clear. Filters of the user's own settings, such as git-lfs,
//! work.
//!
//! git never works in a nested repository, such as a submodule, because the settings there may name programs. So no
//! tree here has a gitlink (git's entry for a nested repository). The diff does not show changes inside a nested
//! repository, nor that another commit is checked out there. A warning names it.
//!
//! Files that the user has marked `assume-unchanged` count as unchanged.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use super::git::{Git, GitCall, GitError};
use super::process::Halt;
use super::scratch::{
    IndexListing, Repository, RunGit, Scratch, copy_if_there, few_names, finish_head, os_string,
    start_head, take_out, take_out_nested,
};
use crate::domain::ticket::{Changes, DiffStat};
use crate::store::journal::{LEFT_OUT, PATCH};

/// The scratch git directory, in the run's scratch folder.
const GIT_DIR: &str = "scratch/git";
/// The patch while git writes it.
const UNFINISHED: &str = "scratch/diff.patch";
/// What the index lists before the run and after it.
const LISTING_BEFORE: &str = "scratch/listing-before";
const LISTING_AFTER: &str = "scratch/listing-after";
/// Each file that is left out is an argument of git, and the system limits arguments.
const LEFT_OUT_MAX: usize = 200;
/// A partial clone lacks some objects, and the tree does not need them.
const WRITE_TREE: &[&str] = &["write-tree", "--missing-ok"];

/// The work tree as it was before a run.
pub struct Snapshot<'a> {
    at: RunGit<'a>,
    repository: Repository,
    scratch: Scratch,
    base_commit: Option<String>,
    /// The git commands that write the tree from before the run and list its nested repositories. `None`: they have not
    /// been started.
    before: Option<(GitCall, GitCall)>,
    /// Filters that the repository's own settings define. They do not run.
    local_filters: Vec<String>,
    /// A warning about files that git could not read; they are in no diff.
    unreadable: Option<String>,
}

impl<'a> Snapshot<'a> {
    /// `None`: the folder belongs to no git repository.
    pub fn take(at: RunGit<'a>, folder: &Path) -> Result<Option<Self>, GitError> {
        let Some(repository) = Repository::find(at, folder)? else {
            return Ok(None);
        };
        // The CLI waits for all of this, so the two questions are asked at once.
        let head = start_head(&repository.git)?;
        let settings = repository.settings(at.halt)?;
        let scratch = Scratch::make(at, folder, &repository.dirs, GIT_DIR, &settings)?;
        take_out_nested(at, &scratch.git.clone().inside(&repository.dirs.top))?;
        let unreadable = add(&scratch.git, scratch.is_sparse(), at.halt)?;
        let base_commit = finish_head(head, at.halt)?;
        Ok(Some(Self {
            at,
            base_commit,
            before: None,
            local_filters: settings.local_filters(),
            unreadable,
            repository,
            scratch,
        }))
    }

    /// The snapshot that an earlier daemon took before it died.
    pub fn reopen(
        at: RunGit<'a>,
        folder: &Path,
        base_commit: Option<String>,
    ) -> Result<Option<Self>, GitError> {
        let dir = at.folder.path(GIT_DIR);
        // Locks of a git that died with the daemon would keep every other git from the index.
        for name in ["index.lock", "index-after.lock"] {
            let _ = fs::remove_file(dir.join(name));
        }
        let repository = Repository::find(at, folder)?;
        let Some(repository) = repository.filter(|_| dir.join("index").exists()) else {
            return Ok(None);
        };
        let settings = repository.settings(at.halt)?;
        Ok(Some(Self {
            at,
            base_commit,
            before: None,
            local_filters: settings.local_filters(),
            unreadable: None,
            scratch: Scratch::reopen(at, folder, &repository.dirs, GIT_DIR)?,
            repository,
        }))
    }

    /// git writes the tree from before the run while the CLI runs. That also leaves data in the index that makes the second
    /// tree cheap. If git cannot be started, [`Self::changes`] tries again.
    pub fn start_before(&mut self) {
        self.before = start_before(self.at, &self.scratch.git, &self.repository.dirs.top).ok();
    }

    pub fn base_commit(&self) -> Option<&str> {
        self.base_commit.as_deref()
    }

    /// Sets another time limit for each git command, and another source of stop orders.
    pub fn within(mut self, limit: Duration, halt: &'a Halt) -> Self {
        self.scratch.git = self.scratch.git.within(limit);
        self.repository.git = self.repository.git.within(limit);
        self.at.halt = halt;
        self
    }

    /// Compares the snapshot with the work tree as it is now. Writes the whole diff to disk, and returns it if it has
    /// at most `max` bytes.
    pub fn changes(mut self, max: usize, warnings: &mut Vec<String>) -> Result<Changes, GitError> {
        let (at, git) = (self.at, self.scratch.git.clone());
        let top = self.repository.dirs.top.clone();
        let (base_tree, listing) = match self.before.take() {
            Some(calls) => calls,
            None => start_before(at, &git, &top)?,
        };
        let mut base_tree = base_tree.finish(at.halt)?;
        listing.finish(at.halt)?;
        // `git add` has also added nested repositories: folders that have a `.git` and a commit.
        let listing = IndexListing::read_file(at, LISTING_BEFORE)?;
        let nested_before = take_out(at, &git.clone().inside(&top), &listing)?;
        if !nested_before.is_empty() {
            base_tree = git.run(WRITE_TREE, None, at.halt)?;
        }
        let index = self.scratch.dir.join("index-after");
        copy_if_there(&self.scratch.dir.join("index"), &index)?;
        let after = git.with("GIT_INDEX_FILE", &index);
        let unreadable = add(&after, self.scratch.is_sparse(), at.halt)?;
        let unreadable = unreadable.or(self.unreadable.take());
        // Nothing here depends on the others, and the backend waits for all of them.
        let head = start_head(&self.repository.git)?;
        let tree = after.start(WRITE_TREE, None, None)?;
        let at_top = after.clone().inside(&top);
        let listing = IndexListing::start(at, &at_top, LISTING_AFTER)?;
        let mut tree = tree.finish(at.halt)?;
        listing.finish(at.halt)?;
        // Only now: both commands that change the index take its lock.
        let nested = take_out(at, &at_top, &IndexListing::read_file(at, LISTING_AFTER)?)?;
        if !nested.is_empty() {
            tree = after.run(WRITE_TREE, None, at.halt)?;
        }
        let head_commit = finish_head(head, at.halt)?;
        let trees = [base_tree.trim(), tree.trim()];

        let filtered = self.filtered(&after, trees)?;
        if !filtered.is_empty() || unreadable.is_some() || nested != nested_before {
            at.folder.create(LEFT_OUT)?;
        }
        if !nested.is_empty() {
            warnings.push(format!(
                "changes inside submodules and other nested repositories are not in the diff: {}",
                few_names(nested.keys())
            ));
        }
        warnings.extend(unreadable);
        if !filtered.is_empty() {
            let filters = self.local_filters.join(", ");
            let names: Vec<_> = filtered.iter().map(|name| name.to_string_lossy()).collect();
            warnings.push(format!(
                "not in the diff, because the repository's filter {filters} does not run: {}",
                names.join(", ")
            ));
        }
        let stat = self.compare("--shortstat", trees, &filtered, None)?;
        let mut patch = self.patch(trees, &filtered, max)?;
        let stat = stat.finish(at.halt)?;
        if let Some(text) = patch.take_if(|patch| !is_utf8(patch)) {
            // JSON holds only text. If git takes a file for binary, it writes it in letters and digits.
            self.declare_all_binary()?;
            let binary = self.patch(trees, &filtered, max)?;
            patch = binary.map(|binary| without_non_utf8(&text, &binary));
            at.folder
                .write(UNFINISHED, patch.as_deref().unwrap_or(&text))?;
            // Each of the two patches is within the limit, but a mix of their parts may be larger.
            patch.take_if(|patch| patch.len() > max);
        }
        // The patch gets its final name only when it is complete. If the run was in a clone, nothing else remains of
        // it.
        fs::rename(at.folder.path(UNFINISHED), at.folder.path(PATCH))?;
        let diff = patch.and_then(|patch| String::from_utf8(patch).ok());
        Ok(Changes {
            base_commit: self.base_commit.take(),
            head_commit,
            stat: Some(stat_in(&stat)),
            diff_truncated: diff.is_none(),
            diff,
        })
    }

    /// The changed files that need one of the repository's own filters, before the run or after it.
    fn filtered(&self, after: &Git, trees: [&str; 2]) -> Result<Vec<OsString>, GitError> {
        const CHANGED: &str = "scratch/changed";
        const ATTRIBUTES: &str = "scratch/attributes";
        if self.local_filters.is_empty() {
            return Ok(Vec::new());
        }
        let RunGit { folder, halt, .. } = self.at;
        let changed = folder.create(CHANGED)?;
        let command = ["diff-tree", "-r", "--name-only", "-z", trees[0], trees[1]];
        self.scratch.git.run(&command, Some(changed), halt)?;
        let mut filtered = BTreeSet::new();
        // `--cached` reads the attributes from before the run. The run may have changed them.
        let before = ["check-attr", "--cached", "--stdin", "-z", "filter"].as_slice();
        let now = ["check-attr", "--stdin", "-z", "filter"].as_slice();
        for (git, command) in [(&self.scratch.git, before), (after, now)] {
            let names = File::open(folder.path(CHANGED))?;
            let answers = folder.create(ATTRIBUTES)?;
            // `check-attr` takes names relative to the working directory. Those of `diff-tree` are relative to the top.
            let git = git.clone().inside(&self.repository.dirs.top);
            git.start(command, Some(names), Some(answers))?
                .finish(halt)?;
            let answers = fs::read(folder.path(ATTRIBUTES))?;
            // Name, attribute, value, each ended by NUL: see git-check-attr(1).
            let fields: Vec<&[u8]> = answers.split(|b| *b == 0).collect();
            let is_local = |value| self.local_filters.iter().any(|own| own.as_bytes() == value);
            let local = fields.chunks_exact(3).filter(|fields| is_local(fields[2]));
            filtered.extend(local.map(|fields| os_string(fields[0])));
        }
        if filtered.len() > LEFT_OUT_MAX {
            return Err(GitError::Failed(format!(
                "{} changed files need a filter that does not run",
                filtered.len()
            )));
        }
        Ok(filtered.into_iter().collect())
    }

    /// Starts to compare the trees with `git diff-tree OPTIONS`. It is like `git diff`, but without the settings that
    /// change how a diff looks.
    fn compare(
        &self,
        options: &str,
        trees: [&str; 2],
        left_out: &[OsString],
        out: Option<File>,
    ) -> Result<GitCall, GitError> {
        let mut command: Vec<OsString> = ["diff-tree", "-r", "-M"].map(OsString::from).into();
        command.extend(options.split_whitespace().map(OsString::from));
        command.extend([trees[0], trees[1], "--", ":(top)"].map(OsString::from));
        for name in left_out {
            let mut pattern = OsString::from(":(top,exclude,literal)");
            pattern.push(name);
            command.push(pattern);
        }
        self.scratch.git.start(&command, None, out)
    }

    /// Writes the patch to disk. Returns it if it has at most `max` bytes.
    fn patch(
        &self,
        trees: [&str; 2],
        left_out: &[OsString],
        max: usize,
    ) -> Result<Option<Vec<u8>>, GitError> {
        const OPTIONS: &str =
            "--patch --binary --full-index --no-color --no-ext-diff --no-textconv";
        let folder = self.at.folder;
        let out = folder.create(UNFINISHED)?;
        let call = self.compare(OPTIONS, trees, left_out, Some(out))?;
        call.finish(self.at.halt)?;
        let mut patch = Vec::new();
        let file = File::open(folder.path(UNFINISHED))?;
        file.take(max as u64 + 1).read_to_end(&mut patch)?;
        Ok((patch.len() <= max).then_some(patch))
    }

    /// Makes git take every file for binary. `$GIT_DIR/info/attributes` has precedence over every other attributes
    /// file, see gitattributes(5).
    fn declare_all_binary(&self) -> io::Result<()> {
        let path = self.scratch.dir.join("info/attributes");
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(b"\n* -diff\n")
    }
}

/// Starts to write the tree of the index, and to list its nested repositories.
fn start_before(at: RunGit<'_>, git: &Git, top: &Path) -> Result<(GitCall, GitCall), GitError> {
    let tree = git.start(WRITE_TREE, None, None)?;
    let listing = IndexListing::start(at, &git.clone().inside(top), LISTING_BEFORE)?;
    Ok((tree, listing))
}

/// Stages everything below the working directory. Returns a warning if git cannot read some files: it leaves them out.
fn add(git: &Git, is_sparse: bool, halt: &Halt) -> Result<Option<String>, GitError> {
    let mut command = vec!["add", "--all", "--ignore-errors"];
    // In a sparse checkout, this also adds files that are there although its patterns exclude them.
    command.extend(is_sparse.then_some("--sparse"));
    command.extend(["--", "."]);
    let output = git.start(&command, None, None)?.finish_any(halt)?;
    match output.code {
        0 => Ok(None),
        // git exits with 1 if it could not add some files, and with 128 if the index is broken.
        1 => Ok(Some(format!("not in the diff: {}", output.complaint()))),
        _ => Err(GitError::Failed(output.complaint())),
    }
}

/// Reads ` 3 files changed, 10 insertions(+), 2 deletions(-)`. git leaves out a number that is 0, and the whole line if
/// nothing changed.
fn stat_in(line: &str) -> DiffStat {
    let number_of = |unit: &str| {
        let mut parts = line.split(',').map(str::trim);
        let part = parts.find(|part| part.contains(unit))?;
        part.split(' ').next()?.parse().ok()
    };
    DiffStat {
        files: number_of("file").unwrap_or(0),
        insertions: number_of("insertion").unwrap_or(0),
        deletions: number_of("deletion").unwrap_or(0),
    }
}

fn is_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

/// Joins two patches for the same trees. Takes each file's part from `text` if that part is UTF-8, else from `binary`.
fn without_non_utf8(text: &[u8], binary: &[u8]) -> Vec<u8> {
    let (texts, binaries) = (parts(text), parts(binary));
    let first_line = |part: &&[u8]| part.split(|b| *b == b'\n').next().map(<[u8]>::to_vec);
    // The parts may not match: git may find other renames in files that it takes for binary.
    if !texts
        .iter()
        .map(first_line)
        .eq(binaries.iter().map(first_line))
    {
        return binary.to_vec();
    }
    let pairs = texts.into_iter().zip(binaries);
    let chosen = pairs.map(|(text, binary)| if is_utf8(text) { text } else { binary });
    chosen.collect::<Vec<_>>().concat()
}

/// The parts of a patch, one for each file. No line of a file's content looks like a start: a sign or a space precedes
/// it.
fn parts(patch: &[u8]) -> Vec<&[u8]> {
    const START: &[u8] = b"\ndiff --git ";
    let (mut parts, mut start) = (Vec::new(), 0);
    for (at, window) in patch.windows(START.len()).enumerate() {
        if window == START {
            parts.push(&patch[start..=at]);
            start = at + 1;
        }
    }
    parts.push(&patch[start..]);
    parts
}
