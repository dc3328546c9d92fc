//! Checks of this machine. The daemon logs the findings at its start. `wf0-agent doctor` shows the same sentences.

use log::{info, warn};

use crate::config::WorkspaceMode;
use crate::domain::repos::{Repo, Repos, Workspace};
use crate::environment::Environment;
use crate::job::cli::Cli;
use crate::job::{self, GitDirs, is_writable, tool};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Ok,
    /// A valid set-up. The finding says what a person could add. The log does not warn of it.
    Note,
    /// The set-up works less well than it could, or the daemon does not know whether it works.
    Warning,
    /// Tickets will fail.
    Problem,
}

/// The result of a check.
#[derive(Debug)]
pub struct Finding {
    /// The thing that was checked.
    pub name: String,
    pub severity: Severity,
    pub what: String,
    /// What a person can do. `None`: nothing is to be done.
    pub fix: Option<String>,
}

impl Finding {
    pub fn ok(name: &str, what: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            severity: Severity::Ok,
            what: what.into(),
            fix: None,
        }
    }

    pub fn warning(name: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            fix: Some(fix.into()),
            ..Self::ok(name, what)
        }
    }

    pub fn problem(name: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            severity: Severity::Problem,
            ..Self::warning(name, what, fix)
        }
    }

    pub fn log(&self) {
        let (name, what) = (&self.name, &self.what);
        match &self.fix {
            Some(fix) if self.severity != Severity::Note => warn!("{name}: {what}; {fix}"),
            _ => info!("{name}: {what}"),
        }
    }
}

pub fn search_path(environment: &Environment) -> String {
    let path = environment.get("PATH").unwrap_or_default();
    path.to_string_lossy().into_owned()
}

/// The path of a program's file; `None` if it is not found.
pub fn program(name: &str, environment: &Environment) -> Option<String> {
    let program = tool::find(name, environment.get("PATH"))?;
    Some(program.display().to_string())
}

pub fn git(environment: &Environment) -> Finding {
    let fix = "install git or correct PATH; without git there are no diffs and no clones";
    match program("git", environment) {
        Some(program) => Finding::ok("git", program),
        None => Finding::problem("git", tool::not_found("git", environment), fix),
    }
}

pub fn cli(cli: &Cli, environment: &Environment) -> Finding {
    let fix = "install it, correct PATH, or set CLI_COMMAND to its path; no tickets are taken until it is found";
    match program(&cli.command, environment) {
        Some(program) => Finding::ok("CLI", format!("{program} ({})", cli.name)),
        None => Finding::problem("CLI", tool::not_found(&cli.command, environment), fix),
    }
}

/// Completes the repositories of the settings. Adds the slug if the settings have none, the root of the work tree, and
/// the place where runs work.
pub fn known_to_git(repos: Vec<Repo>, mode: WorkspaceMode, environment: &Environment) -> Repos {
    let complete = |repo: Repo| Repo {
        slug: repo
            .slug
            .or_else(|| job::origin_slug(environment, &repo.path)),
        root: GitDirs::find(&repo.path).map_or(repo.root, |dirs| dirs.top),
        workspace: job::choose(mode, &repo.path),
        path: repo.path,
    };
    Repos::new(repos.into_iter().map(complete).collect())
}

pub fn repositories(repos: &Repos, mode: WorkspaceMode) -> Vec<Finding> {
    let mut findings: Vec<_> = repos.iter().map(|repo| repository(repo, mode)).collect();
    for slug in repos.shared_slugs() {
        let what = format!("several entries of REPO_PATHS are {slug}: its tickets go to the first");
        let fix = "tell them apart as owner/name=path";
        findings.push(Finding::warning("repository", what, fix));
    }
    findings
}

fn repository(repo: &Repo, mode: WorkspaceMode) -> Finding {
    const NAME: &str = "repository";
    let path = repo.path.display();
    if let Err(e) = std::fs::read_dir(&repo.path) {
        return Finding::problem(
            NAME,
            format!("{path} cannot be read: {e}"),
            format!("make {path} readable for this user"),
        );
    }
    let is_in_git = GitDirs::find(&repo.path).is_some();
    let where_it_runs = match repo.workspace {
        Workspace::Clone if !is_in_git => {
            let or = match mode {
                WorkspaceMode::Auto => "make it writable for this user",
                _ => "set WORKSPACE_MODE=auto",
            };
            let what = "is not a git repository and cannot be cloned: its tickets will fail";
            let fix = format!("git init {path}, or {or}");
            return Finding::problem(NAME, format!("{path} {what}"), fix);
        }
        Workspace::InPlace if !is_writable(&repo.path) => {
            let what = format!("{path} cannot be written to, and its tickets run in it");
            let fix = "set WORKSPACE_MODE=auto to run tickets in clones, or make it writable for this user";
            return Finding::problem(NAME, what, fix);
        }
        Workspace::InPlace => "tickets run in it",
        Workspace::Clone => "each ticket runs in a clone",
    };
    match &repo.slug {
        _ if !is_in_git => Finding::warning(
            NAME,
            format!("{path} is not a git repository: results will have no diff"),
            format!("git init {path}"),
        ),
        None => {
            let what = format!(
                "{path} has no owner/name, because git knows no origin of it: only tickets that name the path find it; \
                 {where_it_runs}"
            );
            let fix = format!("write owner/name={path} in REPO_PATHS");
            Finding {
                severity: Severity::Note,
                ..Finding::warning(NAME, what, fix)
            }
        }
        Some(slug) => Finding::ok(NAME, format!("{path} is {slug}, {where_it_runs}")),
    }
}
