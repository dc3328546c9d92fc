//! `wf0-agent apply`: brings what a run changed in its clone into the developer's own checkout.
//!
//! Only reads the state folder, so a daemon may be at work in it. The checkout gets all of the patch or none of it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};

use super::past::{Past, unreadable, with_run};
use super::ticket;
use crate::config::canonicalize;
use crate::domain::text::one_line;
use crate::domain::ticket::Outcome;
use crate::environment::Environment;
use crate::job::{Git, GitDirs, GitError, Halt, os_string};
use crate::store::inspect::Seen;

pub fn command() -> Command {
    Command::new("apply")
        .about("Applies the changes of a ticket to your checkout")
        .long_about(
            "Applies the changes that a ticket made in its clone to your checkout, or to CHECKOUT: all of them or none. \
             Needs only STATE_DIR; a daemon may be running.",
        )
        .arg(ticket())
        .arg(
            Arg::new("CHECKOUT")
                .help("The folder to change; default: the repository of the ticket")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::DirPath),
        )
}

pub fn run(matches: &ArgMatches) -> u8 {
    let checkout = matches.get_one::<PathBuf>("CHECKOUT").cloned();
    // A later one that never ran has changed nothing.
    with_run(
        matches,
        Seen::has_started,
        |Past {
             seen, environment, ..
         }| {
            let report = apply(&seen, checkout, &environment)?;
            // Whoever closes the pipe early has read enough.
            let _ = io::Write::write_all(&mut io::stdout(), format!("{report}\n").as_bytes());
            Ok(())
        },
    )
}

fn apply(
    seen: &Seen,
    checkout: Option<PathBuf>,
    environment: &Environment,
) -> Result<String, String> {
    let Seen { ticket, .. } = seen;
    let unreadable = unreadable(seen);
    let Some(entry) = seen.outcome().map_err(&unreadable)? else {
        return Err(format!("ticket {ticket} has not ended yet"));
    };
    let outcome = &*entry.outcome;
    let failed = outcome
        .failure
        .as_ref()
        .map(|failure| format!("{}: {}", failure.code.as_str(), failure.error));
    let Some(started) = seen.started().map_err(&unreadable)? else {
        return Err(format!(
            "ticket {ticket} never ran: {}",
            failed.unwrap_or_default()
        ));
    };
    if started.clone.is_none() && checkout.is_none() {
        return Ok(format!(
            "ticket {ticket} ran in place: what it changed is in {} already",
            seen.repo.display()
        ));
    }
    let patch = seen.patch();
    match fs::metadata(&patch) {
        Ok(found) if found.len() == 0 => return Ok(format!("ticket {ticket} changed nothing")),
        Ok(_) => {}
        Err(_) => {
            return Err(format!(
                "ticket {ticket} has no diff: {}",
                outcome.warnings.join("; ")
            ));
        }
    }
    let folder = checkout.unwrap_or_else(|| seen.repo.clone());
    let folder = canonicalize(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let dirs = GitDirs::find(&folder)
        .ok_or_else(|| format!("{} is in no git repository", folder.display()))?;
    let checkout = Checkout::new(environment, dirs, patch, outcome).map_err(|e| e.to_string())?;
    let mut report = checkout.apply(ticket.as_str())?;
    if let Some(failed) = failed {
        report.push_str(&format!("\nThe run itself failed: {failed}"));
    }
    for warning in &outcome.warnings {
        report.push_str(&format!("\nThe run warned: {}", one_line(warning, 500)));
    }
    Ok(report)
}

/// The developer's checkout, and the patch for it.
struct Checkout<'a> {
    top: PathBuf,
    /// At the root of the work tree: in a folder below, it would leave out what is not below that.
    git: Git,
    real: Git,
    patch: PathBuf,
    outcome: &'a Outcome,
    halt: Halt,
}

impl<'a> Checkout<'a> {
    fn new(
        environment: &Environment,
        dirs: GitDirs,
        patch: PathBuf,
        outcome: &'a Outcome,
    ) -> Result<Self, GitError> {
        let git = Git::discovering(environment, &dirs.top)?;
        let real = Git::new(environment, &dirs.top, &dirs.git_dir)?;
        Ok(Self {
            top: dirs.top,
            git,
            real,
            patch,
            outcome,
            halt: Halt::never(),
        })
    }

    fn apply(&self, ticket: &str) -> Result<String, String> {
        let top = self.top.display();
        if let Err(complaints) = self.git_apply(&["--check"]) {
            return match self.git_apply(&["--check", "--reverse"]) {
                Ok(()) => Ok(format!("what ticket {ticket} changed is in {top} already")),
                Err(_) => Err(self.refusal(ticket, &complaints)),
            };
        }
        let scratch =
            Scratch::new().map_err(|e| format!("no room for a copy of what will change: {e}"))?;
        let changed = self.numbers(&scratch, &[])?;
        // Renamed files have their old names only in the patch read backwards.
        let old = self.numbers(&scratch, &["--reverse"])?;
        let names = changed
            .iter()
            .chain(&old)
            .map(|number| self.top.join(&number.name));
        let before = Before::keep(names, &scratch)
            .map_err(|e| format!("a copy of what will change failed: {e}"))?;
        if let Err(complaints) = self.git_apply(&[]) {
            return match before.restore() {
                Ok(()) => Err(format!("{top} is as it was, for git failed:\n{complaints}")),
                Err(e) => Err(format!(
                    "git failed:\n{complaints}\nand not every file could be put back ({e}): copies of what they were are in {}",
                    scratch.keep().display()
                )),
            };
        }
        let mut report = format!("applied what ticket {ticket} changed to {top}, uncommitted:\n");
        let (mut insertions, mut deletions) = (0, 0);
        for Number {
            name,
            added,
            removed,
        } in &changed
        {
            let numbers = match (added, removed) {
                (Some(added), Some(removed)) => format!("+{added} −{removed}"),
                _ => "binary".to_owned(),
            };
            insertions += added.unwrap_or(0);
            deletions += removed.unwrap_or(0);
            report.push_str(&format!(
                "  {}  {numbers}\n",
                one_line(&name.to_string_lossy(), 500)
            ));
        }
        report.push_str(&format!(
            "{} files, +{insertions} −{deletions}",
            changed.len()
        ));
        Ok(report)
    }

    /// All of the patch or nothing, as far as it is up to git; the error is what it said.
    fn git_apply(&self, options: &[&str]) -> Result<(), String> {
        // The user's settings must not make it another patch.
        let mut command = vec![OsStr::new("apply"), OsStr::new("--whitespace=nowarn")];
        command.push(OsStr::new("--no-ignore-whitespace"));
        command.extend(options.iter().map(OsStr::new));
        command.extend([OsStr::new("--"), self.patch.as_os_str()]);
        let call = self.git.start(&command, None).map_err(|e| e.to_string())?;
        match call.finish_said(&self.halt).map_err(|e| e.to_string())? {
            (0, ..) => Ok(()),
            (_, _, stderr) => Err(stderr
                .trim_end()
                .lines()
                .map(|line| format!("  {line}"))
                .collect::<Vec<_>>()
                .join("\n")),
        }
    }

    /// Why the patch does not apply, as far as can be told, and what can be done.
    fn refusal(&self, ticket: &str, complaints: &str) -> String {
        let head = self.real.run(
            &["rev-parse", "--verify", "--quiet", "HEAD"].map(OsStr::new),
            None,
            &self.halt,
        );
        let head = head.map_or_else(|_| "no commit".to_owned(), |head| head.trim().to_owned());
        let base = self
            .outcome
            .changes
            .base_commit
            .as_deref()
            .unwrap_or("no commit");
        let why = if head == base {
            format!(
                "the checkout is still at {base}, where the run began: uncommitted changes are in the way"
            )
        } else {
            format!("the checkout has moved from {base}, where the run began, to {head}")
        };
        let (top, patch) = (self.top.display(), self.patch.display());
        format!(
            "what ticket {ticket} changed does not apply to {top}, which is as it was:\n{complaints}\n{why}\n\
             to merge by hand: git -C {top} apply --3way {patch}"
        )
    }

    fn numbers(&self, scratch: &Scratch, options: &[&str]) -> Result<Vec<Number>, String> {
        let path = scratch.0.join("names");
        let out = fs::File::create(&path).map_err(|e| e.to_string())?;
        let mut command = vec![
            OsStr::new("apply"),
            OsStr::new("--numstat"),
            OsStr::new("-z"),
        ];
        command.extend(options.iter().map(OsStr::new));
        command.extend([OsStr::new("--"), self.patch.as_os_str()]);
        self.git
            .run(&command, Some(out), &self.halt)
            .map_err(|e| e.to_string())?;
        let list = fs::read(&path).map_err(|e| e.to_string())?;
        Ok(list.split(|b| *b == 0).filter_map(Number::parse).collect())
    }
}

/// One line of `git apply --numstat -z`; no numbers where the file is binary.
struct Number {
    name: OsString,
    added: Option<u64>,
    removed: Option<u64>,
}

impl Number {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.splitn(3, |b| *b == b'\t');
        let mut number = || Some(std::str::from_utf8(fields.next()?).ok()?.parse().ok());
        let (added, removed) = (number()?, number()?);
        Some(Self {
            added,
            removed,
            name: os_string(fields.next()?),
        })
    }
}

/// The files that a patch changes, as they were before it: git checks everything first, but a full disk or a folder
/// that cannot be written to would stop it halfway.
struct Before(Vec<(PathBuf, State)>);

enum State {
    Absent,
    /// A copy of it.
    File(PathBuf),
    Link(PathBuf),
    /// A folder, which git does not change.
    Other,
}

impl Before {
    fn keep(names: impl Iterator<Item = PathBuf>, scratch: &Scratch) -> io::Result<Self> {
        let keep = |(n, path): (usize, PathBuf)| {
            let state = match path.symlink_metadata() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => State::Absent,
                // A file stands where a folder is to be.
                Err(e) if e.kind() == io::ErrorKind::NotADirectory => State::Absent,
                Err(e) => return Err(e),
                Ok(found) if found.is_symlink() => State::Link(fs::read_link(&path)?),
                Ok(found) if found.is_file() => {
                    let copy = scratch.0.join(n.to_string());
                    fs::copy(&path, &copy)?;
                    State::File(copy)
                }
                Ok(_) => State::Other,
            };
            Ok((path, state))
        };
        names
            .enumerate()
            .map(keep)
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// Touches only what is not as it was. Goes on where one file fails.
    fn restore(&self) -> io::Result<()> {
        let results: Vec<_> = self
            .0
            .iter()
            .map(|(path, state)| restore(path, state))
            .collect();
        results.into_iter().collect()
    }
}

fn restore(path: &Path, state: &State) -> io::Result<()> {
    let now = path.symlink_metadata().ok();
    let is_same = match (state, &now) {
        (State::Absent, now) => now.is_none(),
        (State::File(copy), Some(found)) if found.is_file() => {
            found.permissions() == fs::metadata(copy)?.permissions()
                && fs::read(path)? == fs::read(copy)?
        }
        (State::Link(to), Some(found)) if found.is_symlink() => fs::read_link(path)? == *to,
        (State::Other, _) => true,
        _ => false,
    };
    if is_same {
        return Ok(());
    }
    if now.is_some() {
        fs::remove_file(path)?;
    }
    if let (State::File(_) | State::Link(_), Some(folder)) = (state, path.parent()) {
        fs::create_dir_all(folder)?;
    }
    match state {
        State::File(copy) => fs::copy(copy, path).map(|_| ()),
        State::Link(to) => link(to, path),
        State::Absent | State::Other => Ok(()),
    }
}

#[cfg(unix)]
fn link(to: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, path)
}

#[cfg(not(unix))]
fn link(to: &Path, path: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(to, path)
}

#[cfg(unix)]
fn make_private(folder: &Path) -> io::Result<()> {
    std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(folder)
}

/// The user's own folder for temporary files is theirs alone there.
#[cfg(not(unix))]
fn make_private(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)
}

/// A folder for copies, which nobody else can read. Removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let path =
            std::env::temp_dir().join(format!("wf0-agent-apply-{:016x}", rand::random::<u64>()));
        make_private(&path)?;
        Ok(Self(path))
    }

    /// Leaves it where it is.
    fn keep(self) -> PathBuf {
        let path = self.0.clone();
        std::mem::forget(self);
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
