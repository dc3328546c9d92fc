//! Which repositories this agent may touch: the entries of `REPO_PATHS`, and nothing else.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::branch::Branch;
use super::text::one_line;

/// A repository that the settings allow. Its path is canonical: no `..`, no symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    pub path: PathBuf,
    /// `owner/name`, where it is known.
    pub slug: Option<String>,
    /// The root of the work tree that it is in, or itself: two entries of one work tree share index and HEAD.
    pub root: PathBuf,
    pub workspace: Workspace,
}

/// Where the runs of a repository work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workspace {
    InPlace,
    /// Each in a clone of its own.
    Clone,
}

impl Repo {
    /// As a ticket has it: work on a branch is never done in the developer's own checkout.
    pub fn for_branch(&self, branch: Option<&Branch>) -> Self {
        match branch {
            Some(_) => Self {
                workspace: Workspace::Clone,
                ..self.clone()
            },
            None => self.clone(),
        }
    }

    /// What its runs would change under each other's feet; `None` where each has a clone.
    pub fn shared_root(&self) -> Option<&Path> {
        (self.workspace == Workspace::InPlace).then_some(&self.root)
    }
}

/// How a ticket names its repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RepoRef {
    Slug(String),
    /// Resolved by whoever read the frame. A path that does not exist stays as it was written and matches nothing.
    Path {
        asked: String,
        resolved: PathBuf,
    },
}

impl RepoRef {
    /// What the backend called it, in one short line. Never what a path leads to: that would be telling.
    pub fn describe(&self) -> String {
        match self {
            Self::Slug(slug) if slug.is_empty() => "(no repository named)".to_owned(),
            Self::Slug(slug) => one_line(slug, 256),
            Self::Path { asked, .. } => one_line(asked, 256),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Repos(Vec<Repo>);

impl Repos {
    pub fn new(entries: Vec<Repo>) -> Self {
        Self(entries)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Repo> {
        self.0.iter()
    }

    /// The allowed repository that is meant, if it is one. A folder inside a repository is not the repository.
    pub fn find(&self, wanted: &RepoRef) -> Option<&Repo> {
        self.0.iter().find(|repo| match wanted {
            RepoRef::Path { resolved, .. } => repo.path == *resolved,
            // Hosts treat owner and name without regard to case.
            RepoRef::Slug(slug) => repo
                .slug
                .as_ref()
                .is_some_and(|own| own.eq_ignore_ascii_case(slug)),
        })
    }

    pub fn at(&self, path: &Path) -> Option<&Repo> {
        self.0.iter().find(|repo| repo.path == path)
    }

    /// Slugs that several entries have: a ticket for one of them always goes to the first.
    pub fn shared_slugs(&self) -> Vec<&str> {
        let slugs: Vec<&str> = self
            .0
            .iter()
            .filter_map(|repo| repo.slug.as_deref())
            .collect();
        let mut shared: Vec<_> = slugs
            .iter()
            .filter(|slug| slugs.iter().filter(|own| own == slug).count() > 1)
            .copied()
            .collect();
        shared.dedup();
        shared
    }
}

/// Whether `text` has the form `owner/name`. A group within a group (`group/sub/name`) is one too.
pub fn is_slug(text: &str) -> bool {
    let segment = |s: &str| {
        !s.is_empty()
            && s != "."
            && s != ".."
            && s.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    text.len() <= 256 && text.contains('/') && text.split('/').all(segment)
}

/// The host of a remote's address; a local path has none.
pub fn host_from_remote(url: &str) -> Option<&str> {
    slug_from_remote(url)?;
    let url = url.trim();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = &rest[..rest.find(['/', ':'])?];
    // A password may hold an @ only in its escaped form, so the last one ends it.
    let host = url
        .split_once("://")
        .and_then(|(_, rest)| rest.split('/').next())
        .unwrap_or(authority);
    let host = host.rsplit('@').next()?;
    host.split(':').next().filter(|host| !host.is_empty())
}

/// `owner/name` from a remote's address: `https://host/owner/name.git`, `git@host:owner/name`, `ssh://…`.
/// A local path has none.
pub fn slug_from_remote(url: &str) -> Option<String> {
    let url = url.trim();
    let path = if let Some((scheme, rest)) = url.split_once("://") {
        if scheme.eq_ignore_ascii_case("file") {
            return None;
        }
        rest.split_once('/')?.1
    } else {
        // The short form of ssh. A Windows drive (`C:\…`) has one letter before the colon; a host has more.
        let (host, path) = url.split_once(':')?;
        if host.len() < 2 || host.contains('/') {
            return None;
        }
        path
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    is_slug(path).then(|| path.to_owned())
}

/// Whether git takes a remote's address for a path on this machine, see "GIT URLS" in git-clone(1).
pub fn is_local_remote(address: &str) -> bool {
    if let Some((scheme, _)) = address.split_once("://") {
        return scheme == "file";
    }
    let is_drive = || {
        let bytes = address.as_bytes();
        cfg!(windows) && bytes[0].is_ascii_alphabetic() && bytes.get(1) == Some(&b':')
    };
    match (address.find(':'), address.find('/')) {
        (None, _) => true,
        (Some(colon), slash) => {
            slash.is_some_and(|slash| slash < colon) || (colon == 1 && is_drive())
        }
    }
}
