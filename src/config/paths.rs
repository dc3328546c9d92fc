//! The settings that name folders and programs. Each becomes absolute once, at the start.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf, absolute};

/// On Windows without `\\?\`, which many programs do not understand.
#[cfg(windows)]
pub use dunce::canonicalize;
#[cfg(not(windows))]
pub use std::fs::canonicalize;

use super::reader::Reader;
use crate::domain::repos::{Repo, Workspace, is_slug};
use crate::environment::Environment;

pub(super) fn parse_repos(text: &str) -> Result<Vec<Repo>, String> {
    let mut repos: Vec<Repo> = Vec::new();
    let entries = text.split(',').map(str::trim);
    for entry in entries.filter(|entry| !entry.is_empty()) {
        let repo = parse_repo(entry)?;
        if !repos.iter().any(|other| other.path == repo.path) {
            repos.push(repo);
        }
    }
    if repos.is_empty() {
        return Err("names no folder".to_owned());
    }
    Ok(repos)
}

fn parse_repo(entry: &str) -> Result<Repo, String> {
    let (slug, path) = match entry.split_once('=') {
        Some((slug, path)) if is_slug(slug.trim()) => (Some(slug.trim().to_owned()), path.trim()),
        Some((slug, path)) if !Path::new(entry).exists() => {
            return Err(format!(
                "{slug:?} before {path:?} is not of the form owner/name"
            ));
        }
        _ => (None, entry),
    };
    let path = canonicalize(path).map_err(|e| format!("{path:?} cannot be used: {e}"))?;
    if !path.is_dir() {
        return Err(format!("{path:?} is not a folder"));
    }
    if path.to_str().is_none() {
        return Err(format!("{path:?} is not UTF-8, as the protocol requires"));
    }
    Ok(Repo {
        root: path.clone(),
        path,
        slug,
        workspace: Workspace::InPlace,
    })
}

/// A command with a path in it is relative to the working directory of the daemon, not of the run.
pub(super) fn parse_command(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if !text.contains(std::path::is_separator) {
        return Ok(text.to_owned());
    }
    let path = absolute(text).map_err(|e| e.to_string())?;
    let text = path.into_os_string().into_string();
    text.map_err(|_| "is not UTF-8".to_owned())
}

/// The state folder must lie outside the repositories: each diff would include what is written there.
pub(super) fn state_dir(r: &mut Reader, repos: &[Repo]) -> Option<PathBuf> {
    const NAME: &str = "STATE_DIR";
    let path = match r.sources.get(NAME) {
        Some(path) => absolute(PathBuf::from(path)).ok(),
        None => default_state_dir(r.sources.environment()),
    };
    let Some(path) = path else {
        return r.wrong(NAME, "is required here: the system has no folder for it");
    };
    if !path.exists() && path.components().any(|part| part == Component::ParentDir) {
        return r.wrong(
            NAME,
            "does not exist and contains .., so its place is not clear",
        );
    }
    let path = canonicalize_existing_part(&path);
    if let Some(Repo { path: repo, .. }) = repos.iter().find(|repo| path.starts_with(&repo.path)) {
        return r.wrong(
            NAME,
            format!("{path:?} lies inside the repository {repo:?}"),
        );
    }
    Some(path)
}

/// The XDG base directories; on macOS and Windows the system's own place.
fn default_state_dir(environment: &Environment) -> Option<PathBuf> {
    let folder = |name| {
        let path = PathBuf::from(environment.get(name)?);
        path.is_absolute().then_some(path)
    };
    let base = if cfg!(windows) {
        folder("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        folder("HOME")?.join("Library/Application Support")
    } else {
        folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?
    };
    Some(base.join("wf0-agent"))
}

/// The folder itself may not exist yet; links above it count all the same.
fn canonicalize_existing_part(path: &Path) -> PathBuf {
    let mut missing: Vec<&OsStr> = Vec::new();
    for existing in path.ancestors() {
        if let Ok(real) = canonicalize(existing) {
            let names = missing.iter().rev();
            return names.fold(real, |path, name| path.join(name));
        }
        missing.extend(existing.file_name());
    }
    path.to_owned()
}
