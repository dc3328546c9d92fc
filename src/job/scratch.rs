//! A git directory put together by hand, which borrows a repository's objects and is never told of the repository.
//!
//! Nothing that works in it can change the repository, and nothing that the repository's settings name is started:
//! of those only the few that are listed here are taken over. What it is for is said in `diff` and `workspace`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::git::{Git, GitDirs, GitError, open_file};
use super::halt::Halt;
use crate::store::RunFolder;

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

pub const LIST_SETTINGS: &[&str] = &["config", "--list", "--show-scope", "-z"];
pub const SPARSE: &str = "info/sparse-checkout";
pub const HEAD: &[&str] = &["rev-parse", "--verify", "--quiet", "HEAD"];

pub fn args<'a>(words: &[&'a str]) -> Vec<&'a OsStr> {
    words.iter().map(|word| OsStr::new(*word)).collect()
}

pub fn scratch_failed(e: io::Error) -> GitError {
    GitError::Failed(format!(
        "the scratch folder for the diff cannot be used: {e}"
    ))
}

/// Everything of a git directory but its settings and its index.
pub fn borrow_objects(git_dir: &Path, dirs: &GitDirs) -> io::Result<()> {
    for folder in ["objects/info", "refs", "info"] {
        fs::create_dir_all(git_dir.join(folder))?;
    }
    fs::write(git_dir.join("HEAD"), "ref: refs/heads/none\n")?;
    let mut alternates = dirs
        .common_dir
        .join("objects")
        .into_os_string()
        .into_encoded_bytes();
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

/// A copy of the work tree's index, with what makes git trust it.
pub fn copy_index(git_dir: &Path, dirs: &GitDirs) -> io::Result<()> {
    for entry in fs::read_dir(&dirs.git_dir)?.flatten() {
        // Where the index is split, the larger part is in files of this name.
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("sharedindex.")
        {
            copy_with_time(&entry.path(), &git_dir.join(entry.file_name()))?;
        }
    }
    let index = dirs.git_dir.join("index");
    if index.exists() {
        copy_with_time(&index, &git_dir.join("index"))
    } else {
        Ok(())
    }
}

/// One line of `git config --list --show-scope -z`.
pub struct Setting<'a> {
    pub scope: &'a str,
    pub name: &'a str,
    pub value: &'a str,
}

impl Setting<'_> {
    /// In the repository's own files rather than the user's or the system's.
    pub fn is_local(&self) -> bool {
        matches!(self.scope, "local" | "worktree")
    }

    pub fn decides_on_changes(&self) -> bool {
        KEPT_SETTINGS.contains(&self.name)
    }
}

pub fn parse_settings(text: &str) -> impl Iterator<Item = Setting<'_>> {
    let mut fields = text.split('\0');
    std::iter::from_fn(move || {
        let (scope, entry) = (fields.next()?, fields.next()?);
        // A name without a value means that it is true.
        let (name, value) = entry.split_once('\n').unwrap_or((entry, "true"));
        Some(Setting { scope, name, value })
    })
}

pub fn is_sparse(settings: &[Setting<'_>]) -> bool {
    settings
        .iter()
        .any(|setting| setting.name == "core.sparsecheckout" && setting.value == "true")
}

/// Names of filters that only the repository's own settings define.
pub fn local_filters(settings: &[Setting<'_>]) -> Vec<String> {
    let filter = |setting: &Setting<'_>| {
        let (name, key) = setting.name.strip_prefix("filter.")?.rsplit_once('.')?;
        matches!(key, "clean" | "process").then(|| (setting.is_local(), name.to_owned()))
    };
    let filters: Vec<_> = settings.iter().filter_map(filter).collect();
    let users_own = |name: &str| {
        filters
            .iter()
            .any(|(is_local, own)| own == name && !is_local)
    };
    let mut local: Vec<_> = filters
        .iter()
        .map(|(_, name)| name.clone())
        .filter(|name| !users_own(name))
        .collect();
    local.sort();
    local.dedup();
    local
}

/// A settings file for a scratch directory: what counts as a change is as in the repository, and nothing is started.
pub fn scratch_config(git_dir: &Path, settings: &[Setting<'_>]) -> String {
    let kept = settings
        .iter()
        .filter(|setting| setting.decides_on_changes());
    let kept: String = kept
        .map(|setting| entry(setting.name, setting.value))
        .collect();
    let nowhere = git_dir.join("no-hooks");
    let own = [
        ("core.repositoryformatversion", "1"),
        ("core.bare", "false"),
        ("core.fsmonitor", "false"),
        ("core.hooksPath", &nowhere.to_string_lossy()),
        ("core.quotePath", "true"),
        ("core.sharedRepository", "0600"),
        ("core.safecrlf", "false"),
        // With it git looks at files marked `skip-worktree` that are there all the same.
        ("core.sparseCheckout", "true"),
        ("core.splitIndex", "false"),
        ("core.untrackedCache", "false"),
        ("advice.addEmbeddedRepo", "false"),
        ("gc.auto", "0"),
    ];
    own.iter()
        .fold(kept, |text, (name, value)| text + &entry(name, value))
}

/// One setting as it stands in a settings file, see "Syntax" in git-config(1).
pub fn entry(name: &str, value: &str) -> String {
    let (section, rest) = name.split_once('.').unwrap_or((name, ""));
    match rest.rsplit_once('.') {
        Some((subsection, key)) => format!(
            "[{section} {}]\n\t{key} = {}\n",
            quoted(subsection),
            quoted(value)
        ),
        None => format!("[{section}]\n\t{rest} = {}\n", quoted(value)),
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

pub fn copy_if_there(from: &Path, to: &Path) -> io::Result<()> {
    // Not `fs::copy`: it would copy the mode too, and what comes from a read-only repository is written to here.
    match open_file(from) {
        Ok(mut from) => io::copy(&mut from, &mut File::create(to)?).map(|_| ()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// git takes a file that is as new as the index for one that may have changed since: so the copy keeps the time.
pub fn copy_with_time(from: &Path, to: &Path) -> io::Result<()> {
    let time = fs::metadata(from)?.modified()?;
    // Not `fs::copy`: it would copy the mode too, and a read-only file cannot be given its time.
    let mut copy = File::create(to)?;
    io::copy(&mut open_file(from)?, &mut copy)?;
    copy.set_modified(time)
}

/// A name as git has it.
#[cfg(unix)]
pub fn os_string(bytes: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStrExt;
    OsStr::from_bytes(bytes).to_owned()
}

/// A name as git has it: on Windows always UTF-8.
#[cfg(not(unix))]
pub fn os_string(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// The repositories within the work tree that an index names (gitlinks): paths from the root, with their entries.
pub type Nested = BTreeMap<OsString, Vec<u8>>;

/// `git ls-files --stage -z`: mode, object, stage, TAB, name, NUL.
pub struct Listing(Vec<u8>);

impl Listing {
    /// `git` works at the root of the work tree.
    pub fn read(git: &Git, folder: &RunFolder, halt: &Halt) -> Result<Self, GitError> {
        const LISTING: &str = "scratch/listing";
        let listing = folder.create(LISTING).map_err(scratch_failed)?;
        git.run(&args(&["ls-files", "--stage", "-z"]), Some(listing), halt)?;
        fs::read(folder.path(LISTING))
            .map(Self)
            .map_err(scratch_failed)
    }

    fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.split(|b| *b == 0).filter_map(|entry| {
            let tab = entry.iter().position(|b| *b == b'\t')?;
            Some((&entry[..tab], &entry[tab + 1..]))
        })
    }

    pub fn nested(&self) -> Nested {
        self.entries()
            .filter(|(entry, _)| entry.starts_with(GITLINK))
            .map(|(entry, name)| (os_string(name), entry.to_vec()))
            .collect()
    }

    /// Whether the index has a file of that path, or files below it.
    pub fn has_files_at(&self, path: &OsStr) -> bool {
        let path = path.as_encoded_bytes();
        let is_there = |(entry, name): (&[u8], &[u8])| {
            let rest = name.strip_prefix(path);
            !entry.starts_with(GITLINK)
                && rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        self.entries().any(is_there)
    }
}

const GITLINK: &[u8] = b"160000 ";

/// Takes every nested repository out of the index. `git add` would run `git status` inside each of them, and their
/// settings may name programs.
pub fn take_out_nested(git: &Git, folder: &RunFolder, halt: &Halt) -> Result<Nested, GitError> {
    let nested = Listing::read(git, folder, halt)?.nested();
    let without = nested.iter().map(|(name, entry)| (name, removal(entry)));
    update_nested(git, folder, without, halt)?;
    Ok(nested)
}

/// Mode 0 removes an entry, see "USING --INDEX-INFO" in git-update-index(1).
pub fn removal(entry: &[u8]) -> Vec<u8> {
    [b"0 ", &entry[GITLINK.len()..]].concat()
}

/// Gives the index these entries.
pub fn update_nested<'a>(
    git: &Git,
    folder: &RunFolder,
    entries: impl Iterator<Item = (&'a OsString, Vec<u8>)>,
    halt: &Halt,
) -> Result<(), GitError> {
    const ENTRIES: &str = "scratch/entries";
    let lines: Vec<u8> = entries
        .flat_map(|(name, entry)| [&entry, &b"\t"[..], name.as_encoded_bytes(), b"\0"].concat())
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let lines = folder
        .create(ENTRIES)
        .and_then(|mut file| file.write_all(&lines))
        .and_then(|()| File::open(folder.path(ENTRIES)))
        .map_err(scratch_failed)?;
    let command = [
        "-c",
        "core.fsmonitor=false",
        "update-index",
        "-z",
        "--index-info",
    ];
    git.start_with(&args(&command), Some(lines), None)?
        .finish(halt)
        .map(|_| ())
}

/// At most five of them.
pub fn few_names<'a>(names: impl ExactSizeIterator<Item = &'a OsString>) -> String {
    const FEW: usize = 5;
    let more = names.len().saturating_sub(FEW);
    let few: Vec<_> = names.take(FEW).map(|name| name.to_string_lossy()).collect();
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    few.join(", ") + &more
}
