//! The settings that name folders, programs and files. At the start, paths of folders and programs become absolute.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf, absolute};

/// The canonical path. On Windows it has no prefix `\\?\`, which many programs do not understand.
#[cfg(windows)]
pub use dunce::canonicalize;
#[cfg(not(windows))]
pub use std::fs::canonicalize;

use native_tls::Certificate;

use super::sources::Reader;
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
        return Err(format!("{path:?} is not UTF-8; the protocol requires it"));
    }
    Ok(Repo {
        root: path.clone(),
        path,
        slug,
        workspace: Workspace::InPlace,
    })
}

/// Makes a command with a path in it absolute, from the working directory of the daemon, not of the run.
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

/// The state folder must lie outside the repositories. Inside one, each diff would include the daemon's files.
pub(super) fn state_dir(r: &mut Reader, repos: &[Repo]) -> Option<PathBuf> {
    const NAME: &str = "STATE_DIR";
    let path = match r.sources.get(NAME) {
        Some(path) => absolute(PathBuf::from(path)).ok(),
        None => default_state_dir(&r.sources.environment),
    };
    let Some(path) = path else {
        return r.wrong(
            NAME,
            "is required here: without HOME or LOCALAPPDATA it has no default",
        );
    };
    if !path.exists() && path.components().any(|part| part == Component::ParentDir) {
        let problem = "does not exist and contains .., so its place is not clear";
        return r.wrong(NAME, problem);
    }
    let path = canonicalize_existing_part(&path);
    if let Some(Repo { path: repo, .. }) = repos.iter().find(|repo| path.starts_with(&repo.path)) {
        let problem = format!("{path:?} lies inside the repository {repo:?}");
        return r.wrong(NAME, problem);
    }
    Some(path)
}

/// The default: in the XDG state directory, or in the usual folder of macOS or Windows.
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

/// Resolves links in the part of the path that exists. The folder itself may not exist yet.
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

/// The files in which Linux distributions keep their root certificates.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Root certificates to trust besides the system's: a company's own CA (`SSL_CERT_FILE`, `SSL_CERT_DIR`).
#[derive(Clone)]
pub struct Roots(pub Vec<Certificate>);

impl Roots {
    pub(super) fn read(r: &mut Reader) -> Self {
        let mut roots = r.value("SSL_CERT_FILE", from_file).unwrap_or_default();
        roots.extend(r.value("SSL_CERT_DIR", from_folders).unwrap_or_default());
        // OpenSSL reads `SSL_CERT_FILE` too, and then ignores the system's certificate file. This code adds the
        // system's file again.
        let replaces_system = r.sources.environment.get("SSL_CERT_FILE").is_some();
        if replaces_system && cfg!(target_os = "linux") {
            let bundle = BUNDLES.iter().find_map(|path| from_file(path).ok());
            roots.extend(bundle.unwrap_or_default());
        }
        let mut seen = HashSet::new();
        // The folders of distributions contain each certificate several times.
        roots.retain(|root| root.to_der().is_ok_and(|der| seen.insert(der)));
        Self(roots)
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

/// Every certificate of a PEM file.
fn from_file(path: &str) -> Result<Vec<Certificate>, String> {
    let pem = fs::read(path).map_err(|e| format!("{path} cannot be read: {e}"))?;
    match Certificate::stack_from_pem(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{path} contains no certificate (PEM)")),
        Err(e) => Err(format!(
            "{path} contains a certificate that cannot be read: {e}"
        )),
    }
}

/// Every certificate of the PEM files in a list of folders. The list has the form of PATH. Skips other files.
fn from_folders(list: &str) -> Result<Vec<Certificate>, String> {
    let mut certificates = Vec::new();
    for folder in std::env::split_paths(list) {
        let entries = fs::read_dir(&folder)
            .map_err(|e| format!("{} cannot be read: {e}", folder.display()))?;
        let paths = entries.flatten().map(|entry| entry.path());
        let found = paths.filter_map(|path| from_file(path.to_str()?).ok());
        certificates.extend(found.flatten());
    }
    if certificates.is_empty() {
        return Err(format!("no file in {list} contains a certificate (PEM)"));
    }
    Ok(certificates)
}
