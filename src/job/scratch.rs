//! Makes git directories by hand that borrow a repository's objects, for diffs (`diff`) and clones (`workspace`).
//!
//! git works in such a directory and does not know the repository. So it cannot change the repository, and starts no
//! program that the repository's settings name. Only the few settings listed here are copied.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::git::{Git, GitCall, GitDirs, GitError, open_file};
use super::process::Halt;
use crate::domain::repos::is_local_remote;
use crate::domain::ticket::RunId;
use crate::environment::{Environment, MARK};
use crate::store::journal::RunFolder;

/// The repository's settings that decide what counts as a change.
const KEPT_SETTINGS: &[&str] = &[
    "core.autocrlf",
    "core.eol",
    "core.excludesfile",
    "core.filemode",
    "core.ignorecase",
    "core.longpaths",
    "core.precomposeunicode",
    "core.protecthfs",
    "core.protectntfs",
    "core.sparsecheckoutcone",
    "core.symlinks",
    "extensions.objectformat",
];

/// More settings that a clone gets: who commits, and where to push. None of them names a program.
const SHARED_SETTINGS: &[&str] = &[
    "user.name",
    "user.email",
    "remote.origin.url",
    "remote.origin.pushurl",
    "remote.origin.fetch",
    "remote.origin.promisor",
    "remote.origin.partialclonefilter",
];

const LIST_SETTINGS: &[&str] = &["config", "--list", "--show-scope", "-z"];
const SPARSE: &str = "info/sparse-checkout";
const HEAD: &[&str] = &["rev-parse", "--verify", "--quiet", "HEAD"];

/// What every git command of one run needs.
#[derive(Clone, Copy)]
pub struct RunGit<'a> {
    pub environment: &'a Environment,
    pub run: RunId,
    pub folder: &'a RunFolder,
    pub halt: &'a Halt,
}

impl RunGit<'_> {
    pub fn git(&self, cwd: &Path, git_dir: &Path) -> Result<Git, GitError> {
        let mark = self.environment.mark_of_git(self.run);
        Ok(Git::new(self.environment, cwd, git_dir)?.with(MARK, mark))
    }
}

/// A repository with its real git directory. Only commands that start no program and write nothing may use it.
pub struct Repository {
    pub dirs: GitDirs,
    pub git: Git,
}

impl Repository {
    /// The repository that the folder belongs to, if any.
    pub fn find(at: RunGit<'_>, folder: &Path) -> Result<Option<Self>, GitError> {
        let Some(dirs) = GitDirs::find(folder) else {
            return Ok(None);
        };
        let git = at.git(folder, &dirs.git_dir)?;
        Ok(Some(Self { dirs, git }))
    }

    pub fn settings(&self, halt: &Halt) -> Result<GitSettings, GitError> {
        Ok(GitSettings::parse(&self.git.run(
            LIST_SETTINGS,
            None,
            halt,
        )?))
    }
}

/// The commit that is checked out. `None`: there is no commit yet.
pub fn head_of(git: &Git, halt: &Halt) -> Result<Option<String>, GitError> {
    finish_head(start_head(git)?, halt)
}

pub fn start_head(git: &Git) -> Result<GitCall, GitError> {
    git.start(HEAD, None, None)
}

pub fn finish_head(call: GitCall, halt: &Halt) -> Result<Option<String>, GitError> {
    let output = call.finish_any(halt)?;
    Ok((output.code == 0).then(|| output.stdout.trim().to_owned()))
}

/// A scratch git directory for the work tree of a repository.
pub struct Scratch {
    /// Works in the same folder as the repository's git.
    pub git: Git,
    pub dir: PathBuf,
}

impl Scratch {
    /// Makes a scratch directory with a copy of the work tree's index.
    pub fn make(
        at: RunGit<'_>,
        cwd: &Path,
        dirs: &GitDirs,
        name: &str,
        settings: &GitSettings,
    ) -> Result<Self, GitError> {
        let dir = at.folder.folder(name)?;
        borrow_objects(&dir, dirs)?;
        fs::write(dir.join("config"), settings.for_scratch(&dir))?;
        settings.copy_sparse_patterns(dirs, &dir)?;
        copy_index(&dir, dirs)?;
        Self::reopen(at, cwd, dirs, name)
    }

    /// Opens a scratch directory that exists already.
    pub fn reopen(
        at: RunGit<'_>,
        cwd: &Path,
        dirs: &GitDirs,
        name: &str,
    ) -> Result<Self, GitError> {
        let dir = at.folder.path(name);
        let git = at.git(cwd, &dir)?.with("GIT_WORK_TREE", &dirs.top);
        Ok(Self { git, dir })
    }

    pub fn is_sparse(&self) -> bool {
        self.dir.join(SPARSE).exists()
    }
}

/// Makes everything in a git directory except its settings and its index.
pub fn borrow_objects(git_dir: &Path, dirs: &GitDirs) -> io::Result<()> {
    for folder in ["objects/info", "refs", "info"] {
        fs::create_dir_all(git_dir.join(folder))?;
    }
    fs::write(git_dir.join("HEAD"), "ref: refs/heads/none\n")?;
    let objects = dirs.common_dir.join("objects");
    let mut alternates = objects.into_os_string().into_encoded_bytes();
    if alternates.contains(&b'\n') {
        return Err(io::Error::other(
            "the repository's path has a line break in it",
        ));
    }
    alternates.push(b'\n');
    fs::write(git_dir.join("objects/info/alternates"), alternates)?;
    for name in ["info/exclude", "info/attributes"] {
        copy_if_there(&dirs.common_dir.join(name), &git_dir.join(name))?;
    }
    Ok(())
}

/// Copies the work tree's index. The copy keeps the file's time, so that git trusts it.
fn copy_index(git_dir: &Path, dirs: &GitDirs) -> io::Result<()> {
    for entry in fs::read_dir(&dirs.git_dir)?.flatten() {
        let name = entry.file_name();
        // The larger part of a split index is in files of this name.
        if name.to_string_lossy().starts_with("sharedindex.") {
            copy_if_there(&entry.path(), &git_dir.join(name))?;
        }
    }
    copy_if_there(&dirs.git_dir.join("index"), &git_dir.join("index"))
}

/// The settings that git uses in a repository, as `git config --list --show-scope -z` prints them.
pub struct GitSettings(Vec<GitSetting>);

struct GitSetting {
    name: String,
    value: String,
    /// From the repository's own files rather than the user's or the system's.
    is_local: bool,
}

impl GitSettings {
    fn parse(text: &str) -> Self {
        let mut fields = text.split('\0');
        let setting = std::iter::from_fn(|| {
            let (scope, entry) = (fields.next()?, fields.next()?);
            // A name without a value means that it is true.
            let (name, value) = entry.split_once('\n').unwrap_or((entry, "true"));
            Some(GitSetting {
                name: name.to_owned(),
                value: value.to_owned(),
                is_local: matches!(scope, "local" | "worktree"),
            })
        });
        Self(setting.collect())
    }

    fn is_sparse(&self) -> bool {
        let mut settings = self.0.iter();
        settings.any(|own| own.name == "core.sparsecheckout" && own.value == "true")
    }

    pub fn copy_sparse_patterns(&self, dirs: &GitDirs, git_dir: &Path) -> io::Result<()> {
        if self.is_sparse() {
            copy_if_there(&dirs.git_dir.join(SPARSE), &git_dir.join(SPARSE))?;
        }
        Ok(())
    }

    /// The names of filters that only the repository's own settings define.
    pub fn local_filters(&self) -> Vec<String> {
        let mut filters = BTreeMap::new();
        for GitSetting { name, is_local, .. } in &self.0 {
            let filter = name.strip_prefix("filter.");
            let filter = filter.and_then(|rest| rest.rsplit_once('.'));
            if let Some((filter, "clean" | "process")) = filter {
                *filters.entry(filter.to_owned()).or_insert(true) &= is_local;
            }
        }
        let local = filters.into_iter().filter(|(_, is_local)| *is_local);
        local.map(|(name, _)| name).collect()
    }

    /// The text of a settings file for a scratch directory. The same things count as changes as in the repository, and
    /// git starts no program.
    fn for_scratch(&self, git_dir: &Path) -> String {
        let mut text = String::new();
        for own in &self.0 {
            if KEPT_SETTINGS.contains(&own.name.as_str()) {
                text += &entry(&own.name, &own.value);
            }
        }
        let nowhere = git_dir.join("no-hooks");
        let own = [
            ("core.repositoryformatversion", "1"),
            ("core.bare", "false"),
            ("core.fsmonitor", "false"),
            ("core.hooksPath", &nowhere.to_string_lossy()),
            ("core.quotePath", "true"),
            ("core.sharedRepository", "0600"),
            ("core.safecrlf", "false"),
            // With this, git also looks at files that are marked `skip-worktree` but are there.
            ("core.sparseCheckout", "true"),
            ("core.splitIndex", "false"),
            ("core.untrackedCache", "false"),
            ("advice.addEmbeddedRepo", "false"),
            ("gc.auto", "0"),
        ];
        text + &entries(&own)
    }

    /// The text of a settings file for a clone of the repository whose root is `top`. It also has the upstreams of
    /// branches. The repository's own filters are empty here and do nothing. Their names tell the diff what to leave
    /// out.
    pub fn for_clone(&self, top: &Path) -> String {
        let is_for_clone = |name: &str| {
            KEPT_SETTINGS.contains(&name)
                || SHARED_SETTINGS.contains(&name)
                || name.starts_with("branch.")
                    && (name.ends_with(".remote") || name.ends_with(".merge"))
        };
        let mut text = String::new();
        for own in &self.0 {
            if own.is_local && is_for_clone(&own.name) {
                text += &entry(&own.name, &own.value_for_clone(top));
            }
        }
        for filter in self.local_filters() {
            text += &entry(&format!("filter.{filter}.clean"), "");
        }
        let sparse = if self.is_sparse() { "true" } else { "false" };
        let own = [
            ("core.repositoryformatversion", "1"),
            ("core.bare", "false"),
            ("core.logAllRefUpdates", "true"),
            ("core.sparseCheckout", sparse),
            // git must not start background work in a folder that is soon removed.
            ("core.fsmonitor", "false"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
        ];
        text + &entries(&own)
    }
}

impl GitSetting {
    /// The value in a clone. The address of a remote may be a path that is relative to the repository.
    fn value_for_clone(&self, top: &Path) -> String {
        let is_address = ["remote.origin.url", "remote.origin.pushurl"].contains(&&*self.name);
        if is_address && is_local_remote(&self.value) && !self.value.starts_with("file://") {
            // An absolute path stays as it is.
            return top.join(&self.value).to_string_lossy().into_owned();
        }
        self.value.clone()
    }
}

fn entries(settings: &[(&str, &str)]) -> String {
    let entries = settings.iter().map(|(name, value)| entry(name, value));
    entries.collect()
}

/// One setting as it stands in a settings file, see "Syntax" in git-config(1).
fn entry(name: &str, value: &str) -> String {
    let (section, rest) = name.split_once('.').unwrap_or((name, ""));
    let value = quoted(value);
    match rest.rsplit_once('.') {
        Some((subsection, key)) => {
            format!("[{section} {}]\n\t{key} = {value}\n", quoted(subsection))
        }
        None => format!("[{section}]\n\t{rest} = {value}\n"),
    }
}

fn quoted(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
        .replace('\t', "\\t");
    format!("\"{escaped}\"")
}

/// Copies a file if it is there. The copy keeps the time: git suspects changes in files that are as new as the index.
pub fn copy_if_there(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = match open_file(from) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let time = from.metadata()?.modified()?;
    // `fs::copy` would also copy the mode. Then the time of a read-only copy could not be set.
    let mut copy = File::create(to)?;
    io::copy(&mut from, &mut copy)?;
    copy.set_modified(time)
}

/// A file name from the bytes that git prints.
#[cfg(unix)]
pub fn os_string(bytes: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStrExt;
    OsStr::from_bytes(bytes).to_owned()
}

/// A file name from the bytes that git prints. On Windows they are always UTF-8.
#[cfg(not(unix))]
pub fn os_string(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// The nested repositories that an index names (gitlinks): their paths from the root, with their entries.
pub type Nested = BTreeMap<OsString, Vec<u8>>;

const GITLINK: &[u8] = b"160000 ";
const LISTING: &str = "scratch/listing";

/// The output of `git ls-files --stage -z`: mode, object, stage, TAB, name, NUL.
pub struct IndexListing(Vec<u8>);

impl IndexListing {
    pub fn read(at: RunGit<'_>, git: &Git) -> Result<Self, GitError> {
        Self::start(at, git, LISTING)?.finish(at.halt)?;
        Self::read_file(at, LISTING)
    }

    /// Writes the listing to a file of the run. `git` works at the root of the work tree.
    pub fn start(at: RunGit<'_>, git: &Git, file: &str) -> Result<GitCall, GitError> {
        let out = at.folder.create(file)?;
        git.start(&["ls-files", "--stage", "-z"], None, Some(out))
    }

    pub fn read_file(at: RunGit<'_>, file: &str) -> Result<Self, GitError> {
        Ok(Self(fs::read(at.folder.path(file))?))
    }

    fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.split(|b| *b == 0).filter_map(|entry| {
            let tab = entry.iter().position(|b| *b == b'\t')?;
            Some((&entry[..tab], &entry[tab + 1..]))
        })
    }

    pub fn nested(&self) -> Nested {
        let mut nested = Nested::new();
        for (entry, name) in self.entries() {
            if entry.starts_with(GITLINK) {
                nested.insert(os_string(name), entry.to_vec());
            }
        }
        nested
    }

    /// Whether the index has a file of that path, or files below it.
    pub fn has_files_at(&self, path: &OsStr) -> bool {
        let path = path.as_encoded_bytes();
        self.entries().any(|(entry, name)| {
            let rest = name.strip_prefix(path);
            let is_there = rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
            is_there && !entry.starts_with(GITLINK)
        })
    }
}

/// Removes every nested repository from the index. `git add` would run `git status` inside each of them, and their
/// settings may name programs. `git` works at the root of the work tree.
pub fn take_out_nested(at: RunGit<'_>, git: &Git) -> Result<Nested, GitError> {
    take_out(at, git, &IndexListing::read(at, git)?)
}

/// Removes the nested repositories that the listing names.
pub fn take_out(at: RunGit<'_>, git: &Git, listing: &IndexListing) -> Result<Nested, GitError> {
    let nested = listing.nested();
    let removals = nested
        .iter()
        .map(|(name, entry)| (name.clone(), removal(entry)));
    update_nested(at, git, &removals.collect())?;
    Ok(nested)
}

/// Makes the entry that removes this one: its mode is 0, see "USING --INDEX-INFO" in git-update-index(1).
pub fn removal(entry: &[u8]) -> Vec<u8> {
    [b"0 ", &entry[GITLINK.len()..]].concat()
}

/// Writes these entries into the index.
pub fn update_nested(at: RunGit<'_>, git: &Git, entries: &Nested) -> Result<(), GitError> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut lines = Vec::new();
    for (name, entry) in entries {
        lines.extend([entry, b"\t".as_slice(), name.as_encoded_bytes(), b"\0"].concat());
    }
    let lines = at.folder.write("scratch/entries", &lines)?;
    let command = "-c core.fsmonitor=false update-index -z --index-info";
    let command: Vec<_> = command.split(' ').collect();
    git.start(&command, Some(lines), None)?.finish(at.halt)?;
    Ok(())
}

/// At most five names, and how many more there are.
pub fn few_names<'a>(names: impl ExactSizeIterator<Item = &'a OsString>) -> String {
    const FEW: usize = 5;
    let more = names.len().saturating_sub(FEW);
    let few: Vec<_> = names.take(FEW).map(|name| name.to_string_lossy()).collect();
    match more {
        0 => few.join(", "),
        _ => format!("{} and {more} more", few.join(", ")),
    }
}
