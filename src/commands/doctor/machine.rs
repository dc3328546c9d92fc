//! What has to be there on this machine: git, the repositories, the CLI, the state folder.

use std::path::Path;

use super::{Check, Status};
use crate::config::{Config, WorkspaceMode};
use crate::daemon::known_to_git;
use crate::domain::repos::{Repo, Workspace};
use crate::environment::Environment;
use crate::job::cli::{self, Cli, find, version};
use crate::job::{Git, GitDirs, GitError, Halt, is_writable};
use crate::store::inspect::{Condition, look_at};

/// `git config --show-scope`, which diffs and clones need.
const GIT_LEAST: (u32, u32) = (2, 26);
const FREE_LEAST: u64 = 1 << 30;

pub fn git(environment: &Environment) -> Check {
    const NAME: &str = "git";
    let ask = || {
        let git = Git::discovering(environment, Path::new("/"))?;
        git.run(&["version".as_ref()], None, &Halt::never())
    };
    let (major, minor) = GIT_LEAST;
    let newer = format!("install git {major}.{minor} or later");
    match ask().map(|said| version::version_in(&said)) {
        Ok(Some(version)) if is_enough(&version) => Check::ok(NAME, version),
        Ok(version) => {
            let version = version.unwrap_or_else(|| "of an unknown version".to_owned());
            Check::warn(
                NAME,
                format!("{version}: too old to take diffs and make clones"),
                newer,
            )
        }
        Err(e @ GitError::NotInstalled) => Check::fail(
            NAME,
            format!("{e}, which is {}", searched(environment)),
            newer + ", or correct PATH",
        ),
        Err(e) => Check::fail(NAME, e.to_string(), newer),
    }
}

fn is_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= GIT_LEAST
}

fn searched(environment: &Environment) -> String {
    environment
        .get("PATH")
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

pub fn repositories(config: &Config, environment: &Environment) -> Vec<Check> {
    let repos = known_to_git(config.repos.clone(), config.workspace, environment);
    let mut checks: Vec<_> = repos
        .iter()
        .map(|repo| repository(repo, config.workspace))
        .collect();
    checks.extend(repos.shared_slugs().into_iter().map(|slug| {
        let message =
            format!("several entries of REPO_PATHS are {slug}: its tickets go to the first");
        Check::warn("repository", message, "tell them apart as owner/name=path")
    }));
    checks
}

fn repository(repo: &Repo, mode: WorkspaceMode) -> Check {
    const NAME: &str = "repository";
    let path = repo.path.display();
    if let Err(e) = std::fs::read_dir(&repo.path) {
        return Check::fail(
            NAME,
            format!("{path} cannot be read: {e}"),
            format!("make {path} readable for this user"),
        );
    }
    let is_in_git = GitDirs::find(&repo.path).is_some();
    let where_it_runs = match repo.workspace {
        Workspace::Clone if !is_in_git => {
            let why = format!(
                "{path} is in no git repository and cannot be cloned: its tickets will fail"
            );
            let fix = match mode {
                WorkspaceMode::Auto => {
                    format!("git init {path}, or make it writable for this user")
                }
                _ => format!("git init {path}, or WORKSPACE_MODE=auto"),
            };
            return Check::fail(NAME, why, fix);
        }
        Workspace::InPlace if !is_writable(&repo.path) => {
            let fix =
                "WORKSPACE_MODE=auto has tickets run in clones, or make it writable for this user";
            return Check::fail(
                NAME,
                format!("{path} cannot be written to, where its tickets run"),
                fix,
            );
        }
        Workspace::InPlace => "tickets run in it",
        Workspace::Clone => "each ticket runs in a clone",
    };
    match &repo.slug {
        _ if !is_in_git => Check::warn(
            NAME,
            format!("{path} is in no git repository: its tickets have no diff"),
            format!("git init {path}"),
        ),
        None => {
            let message = format!(
                "{path} has no slug: only tickets that name it by its path find it; {where_it_runs}"
            );
            Check::warn(
                NAME,
                message,
                format!("write it as owner/name={path} in REPO_PATHS"),
            )
        }
        Some(slug) => Check::ok(NAME, format!("{path} is {slug}, {where_it_runs}")),
    }
}

pub fn cli(config: &Config, environment: &Environment) -> Vec<Check> {
    const NAME: &str = "CLI";
    let cli = Cli::from_config(&config.cli);
    let command = &cli.command;
    let mut checks = Vec::new();
    match find::program(command, environment.get("PATH")) {
        None => {
            let searched = searched(environment);
            let why =
                format!("{command} was not found or is not executable (searched PATH: {searched})");
            checks.push(Check::fail(
                NAME,
                why,
                "install it, correct PATH, or set CLI_COMMAND to its path",
            ));
        }
        Some(path) if !cli.is_known() => checks.push(Check::ok(
            NAME,
            format!(
                "{} (not one that is known: its version is not asked)",
                path.display()
            ),
        )),
        Some(path) => {
            checks.push(match version::ask(&cli, environment, &Halt::never()) {
                Some(version) => Check::ok(
                    NAME,
                    format!("{} is {} {version}", path.display(), cli.name),
                ),
                None => {
                    let fix = format!("see what {} --version says", path.display());
                    Check::warn(
                        NAME,
                        format!("{} does not tell its version", path.display()),
                        fix,
                    )
                }
            });
            checks.push(match cli::sign_of_login(command, environment) {
                Ok(sign) => Check::ok("login", format!("{command} seems logged in: {sign}")),
                Err(signs) => {
                    let why = format!(
                        "whether {command} is logged in cannot be told: none of {signs} is there"
                    );
                    Check::warn(
                        "login",
                        why,
                        format!("start {command} once as this user and log in"),
                    )
                }
            });
        }
    }
    let (wrong, risky) = cli::check(&config.cli, environment.get("PATH"));
    let advice = |status: Status| {
        move |text: String| Check {
            status,
            ..split(NAME, &text)
        }
    };
    checks.extend(wrong.into_iter().map(advice(Status::Fail)));
    checks.extend(risky.into_iter().map(advice(Status::Warn)));
    checks
}

/// What the daemon would say, which ends with what to do.
fn split(name: &str, text: &str) -> Check {
    let (message, fix) = text.rsplit_once(": ").unwrap_or((text, "see the README"));
    Check::fail(name, message, fix)
}

pub fn state(folder: &Path) -> Vec<Check> {
    const NAME: &str = "state folder";
    let shown = folder.display();
    let condition = match look_at(folder) {
        Ok(condition) => condition,
        Err(e) => return vec![split(NAME, &e.to_string())],
    };
    let what = match condition {
        Condition::Missing => "will be made",
        Condition::Free => "is free",
        Condition::InUse => "is in use: a daemon is running",
    };
    let mut checks = vec![Check::ok(NAME, format!("{shown} {what}"))];
    checks.extend(free(folder).map(|free| {
        let message = format!("{} MiB are free at {shown}", free >> 20);
        if free < FREE_LEAST {
            Check::warn(
                "disk space",
                message,
                "make room, 1 GiB at least, or name a STATE_DIR elsewhere",
            )
        } else {
            Check::ok("disk space", message)
        }
    }));
    checks
}

#[cfg(unix)]
fn free(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|path| path.exists())?;
    let found = nix::sys::statvfs::statvfs(there).ok()?;
    // Their types differ from system to system.
    #[allow(clippy::useless_conversion, reason = "not everywhere")]
    let (blocks, size) = (
        u64::from(found.blocks_available()),
        u64::from(found.fragment_size()),
    );
    Some(blocks.saturating_mul(size))
}

#[cfg(not(unix))]
fn free(_folder: &Path) -> Option<u64> {
    None
}
