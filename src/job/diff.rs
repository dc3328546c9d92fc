//! Takes what a run changed, by git, without touching the repository (docs/protocol.md section 5).
//!
//! git works in a scratch git directory (`scratch`), so no hook, filter, monitor or diff program starts that the
//! repository's settings name. A file that such a filter would change is left out with a warning: what the repository
//! keeps encrypted must not be sent in the clear. Filters of the user's own settings, such as git-lfs, work.
//!
//! git never works in a nested repository, such as a submodule, because its settings may name programs. So no tree here
//! has a gitlink: the diff shows neither changes inside it nor that another commit is checked out. A warning names it.
//!
//! Files that the user has marked `assume-unchanged` count as unchanged.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use super::git::{Call, Git, GitError};
use super::process::Halt;
use super::scratch::{
    LIST_SETTINGS, Repository, RunGit, Scratch, Settings, copy_index, copy_with_time, few_names,
    head_of, os_string, take_out_nested,
};
use crate::domain::ticket::{Changes, DiffStat};
use crate::store::journal::{LEFT_OUT, PATCH, RunFolder};

/// The scratch git directory, in the run's scratch folder.
const GIT_DIR: &str = "scratch/git";
/// Each is an argument of git, and arguments are limited.
const LEFT_OUT_MAX: usize = 200;
/// In a partial clone some objects are missing, and are not needed.
const WRITE_TREE: &[&str] = &["write-tree", "--missing-ok"];

/// The work tree as it was before a run.
pub struct Snapshot<'a> {
    at: RunGit<'a>,
    repository: Repository,
    scratch: Scratch,
    base_commit: Option<String>,
    /// Writes the tree of the time before.
    base_tree: Option<Call>,
    /// Filters of the repository's own settings, which do not run.
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
        let settings = Settings::parse(&repository.git.run(LIST_SETTINGS, None, at.halt)?);
        let scratch = Scratch::make(at, folder, &repository.dirs, GIT_DIR, &settings)?;
        copy_index(&scratch.dir, &repository.dirs)?;
        take_out_nested(at, &scratch.git.clone().inside(&repository.dirs.top))?;
        let adding = start_add(&scratch.git, scratch.is_sparse)?;
        let base_commit = head_of(&repository.git, at.halt)?;
        let unreadable = finish_add(adding, at.halt)?;
        Ok(Some(Self {
            at,
            base_commit,
            base_tree: None,
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
            base_tree: None,
            local_filters: settings.local_filters(),
            unreadable: None,
            scratch: Scratch::reopen(at, folder, &repository.dirs, GIT_DIR, &settings)?,
            repository,
        }))
    }

    pub fn base_commit(&self) -> Option<&str> {
        self.base_commit.as_deref()
    }

    /// With another time limit for each git command, and other stop orders.
    pub fn within(mut self, limit: Duration, halt: &'a Halt) -> Self {
        self.scratch.git = self.scratch.git.within(limit);
        self.repository.git = self.repository.git.within(limit);
        self.at.halt = halt;
        self
    }

    /// Starts to write the tree of the time before, while the CLI runs. That also leaves in the index what makes the
    /// second tree cheap.
    pub fn start_base_tree(&mut self) -> Result<(), GitError> {
        self.base_tree = Some(self.scratch.git.start(WRITE_TREE, None, None)?);
        Ok(())
    }

    /// Compares with the work tree of now. The whole diff is on disk; the one that is returned has at most `max` bytes.
    pub fn changes(mut self, max: usize, warnings: &mut Vec<String>) -> Result<Changes, GitError> {
        let (at, git) = (self.at, self.scratch.git.clone());
        let top = self.repository.dirs.top.clone();
        let base_tree = match self.base_tree.take() {
            Some(call) => call,
            None => git.start(WRITE_TREE, None, None)?,
        };
        let mut base_tree = base_tree.finish(at.halt)?;
        // `git add` has added every folder that has a `.git` and a commit.
        let nested_before = take_out_nested(at, &git.clone().inside(&top))?;
        if !nested_before.is_empty() {
            base_tree = git.run(WRITE_TREE, None, at.halt)?;
        }
        let index = self.scratch.dir.join("index-after");
        copy_with_time(&self.scratch.dir.join("index"), &index)?;
        let after = git.with("GIT_INDEX_FILE", &index);
        let adding = start_add(&after, self.scratch.is_sparse)?;
        let head_commit = head_of(&self.repository.git, at.halt)?;
        let unreadable = finish_add(adding, at.halt)?.or(self.unreadable.take());
        let nested = take_out_nested(at, &after.clone().inside(&top))?;
        let tree = after.run(WRITE_TREE, None, at.halt)?;
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
        let mut changes = Changes {
            base_commit: self.base_commit.take(),
            head_commit,
            ..Changes::default()
        };
        let (stat, mut patch) = self.patch(trees, &filtered, max)?;
        if let Patch::NotUtf8(bytes) = &patch {
            // JSON holds only text. git writes files that it takes for binary in letters and digits.
            self.declare_binary(bytes)?;
            patch = self.patch(trees, &filtered, max)?.1;
        }
        changes.stat = Some(stat);
        match patch {
            Patch::Text(text) => changes.diff = Some(text),
            Patch::TooLarge => changes.diff_truncated = true,
            Patch::NotUtf8(_) => {
                warnings.push("the diff is not UTF-8; it is kept on the agent's disk".to_owned())
            }
        }
        Ok(changes)
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
        let mut filtered = Vec::new();
        // `--cached` reads the attributes of the time before: the run may have changed them.
        let before = ["check-attr", "--cached", "--stdin", "-z", "filter"].as_slice();
        let now = ["check-attr", "--stdin", "-z", "filter"].as_slice();
        for (git, command) in [(&self.scratch.git, before), (after, now)] {
            let names = File::open(folder.path(CHANGED))?;
            let answers = folder.create(ATTRIBUTES)?;
            // It takes names from the working directory on, and those of `diff-tree` begin at the top.
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
        filtered.sort();
        filtered.dedup();
        if filtered.len() > LEFT_OUT_MAX {
            return Err(GitError::Failed(format!(
                "{} changed files need a filter that does not run",
                filtered.len()
            )));
        }
        Ok(filtered)
    }

    /// Writes statistics and patch to disk and reads back what may be sent.
    fn patch(
        &self,
        trees: [&str; 2],
        left_out: &[OsString],
        max: usize,
    ) -> Result<(DiffStat, Patch), GitError> {
        const RAW: &str = "scratch/diff-tree";
        // `diff-tree` is `git diff` without the settings that change how a diff looks.
        let command = "diff-tree -r -M --numstat --patch --binary --full-index --no-color \
                       --no-ext-diff --no-textconv";
        let mut command: Vec<OsString> = command.split_whitespace().map(OsString::from).collect();
        command.extend([trees[0], trees[1], "--", ":(top)"].map(OsString::from));
        command.extend(left_out.iter().map(|name| {
            OsString::from_iter([OsStr::new(":(top,exclude,literal)"), name.as_os_str()])
        }));
        let raw = self.at.folder.create(RAW)?;
        self.scratch.git.run(&command, Some(raw), self.at.halt)?;
        Ok(split_output(
            &self.at.folder.path(RAW),
            self.at.folder,
            max,
        )?)
    }

    /// `$GIT_DIR/info/attributes` has precedence over every other attributes file, see gitattributes(5).
    fn declare_binary(&self, patch: &[u8]) -> io::Result<()> {
        let path = self.scratch.dir.join("info/attributes");
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(attributes_of_non_utf8(patch).as_bytes())
    }
}

/// Stages everything below the working directory.
fn start_add(git: &Git, is_sparse: bool) -> Result<Call, GitError> {
    let mut command = vec!["add", "--all", "--ignore-errors"];
    // In a sparse checkout also files outside its patterns that are there.
    command.extend(is_sparse.then_some("--sparse"));
    command.extend(["--", "."]);
    git.start(&command, None, None)
}

/// Returns a warning about files that cannot be read: they are left out.
fn finish_add(adding: Call, halt: &Halt) -> Result<Option<String>, GitError> {
    let output = adding.finish_any(halt)?;
    match output.code {
        0 => Ok(None),
        // git's code for "some files could not be added"; the one for a broken index is 128.
        1 => Ok(Some(format!("not in the diff: {}", output.complaint()))),
        _ => Err(GitError::Failed(output.complaint())),
    }
}

/// The patch, if it may be sent.
enum Patch {
    Text(String),
    TooLarge,
    NotUtf8(Vec<u8>),
}

/// Splits the output into its three parts: lines of numbers, an empty line, the patch. The patch goes to [`PATCH`], and
/// into memory if it has at most `max` bytes.
fn split_output(raw: &Path, folder: &RunFolder, max: usize) -> io::Result<(DiffStat, Patch)> {
    let mut raw = BufReader::new(File::open(raw)?);
    let mut stat = DiffStat::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        raw.read_until(b'\n', &mut line)?;
        if line.is_empty() || line == b"\n" {
            break;
        }
        count(&mut stat, &String::from_utf8_lossy(&line));
    }
    // It gets its own name only when it is complete: nothing else remains of a run in a clone.
    let unfinished = "scratch/diff.patch";
    let mut patch = folder.create(unfinished)?;
    let mut kept = Vec::new();
    raw.by_ref().take(max as u64 + 1).read_to_end(&mut kept)?;
    patch.write_all(&kept)?;
    io::copy(&mut raw, &mut patch)?;
    fs::rename(folder.path(unfinished), folder.path(PATCH))?;
    if kept.len() > max {
        return Ok((stat, Patch::TooLarge));
    }
    let text = String::from_utf8(kept);
    let patch = text.map_or_else(|e| Patch::NotUtf8(e.into_bytes()), Patch::Text);
    Ok((stat, patch))
}

/// `insertions TAB deletions TAB name`, with dashes for a binary file.
fn count(stat: &mut DiffStat, line: &str) {
    let mut numbers = line.split('\t').map(|field| field.parse().unwrap_or(0));
    stat.files += 1;
    stat.insertions += numbers.next().unwrap_or(0);
    stat.deletions += numbers.next().unwrap_or(0);
}

/// The files whose part of the patch is not UTF-8, each as a line for an attributes file.
fn attributes_of_non_utf8(patch: &[u8]) -> String {
    let (mut attributes, mut names, mut in_header) = (String::new(), Vec::new(), false);
    for line in patch.split(|b| *b == b'\n') {
        // A line of a file's content has a sign or a space before it.
        if line.starts_with(b"diff --git ") {
            names.clear();
            in_header = true;
        }
        in_header &= !line.starts_with(b"@@");
        if in_header && (line.starts_with(b"+++ ") || line.starts_with(b"--- ")) {
            names.push(String::from_utf8_lossy(&line[4..]).into_owned());
        }
        if std::str::from_utf8(line).is_err() {
            for name in names.drain(..).filter(|name| name != "/dev/null") {
                attributes += &format!("\n{} -diff\n", attribute_pattern(&name));
            }
        }
    }
    attributes
}

/// `a/src/x.c` or `"a/na\303\257ve.c"` as a pattern, see gitattributes(5). A question mark stands for each character
/// that means something else in a pattern, so the pattern may match other files too.
fn attribute_pattern(name: &str) -> String {
    let (quote, name) = match name.strip_prefix('"') {
        Some(name) => ("\"", name),
        None => ("", name),
    };
    let path = name.get(1..).unwrap_or_default().trim_end_matches('\t');
    let path = path.replace("\\\\", "?").replace(['*', '[', ']', ' '], "?");
    format!("{quote}{path}")
}
