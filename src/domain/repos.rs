//! The repositories that this agent may touch (the entries of `REPO_PATHS`), and the names by which tickets ask for a
//! repository or a branch.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::text::{checked_text, one_line};

/// A repository that the settings allow. Its path is canonical: no `..`, no symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    pub path: PathBuf,
    /// `owner/name`, if it is known.
    pub slug: Option<String>,
    /// The root of its work tree, or the path itself. Two entries in one work tree share index and HEAD.
    pub root: PathBuf,
    pub workspace: Workspace,
}

/// Where the runs in a repository work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workspace {
    InPlace,
    /// Each run in its own clone.
    Clone,
}

impl Repo {
    /// The repository for a ticket. Work on a branch is never done in the developer's own checkout.
    pub(crate) fn for_branch(&self, branch: Option<&Branch>) -> Self {
        let mut repo = self.clone();
        if branch.is_some() {
            repo.workspace = Workspace::Clone;
        }
        repo
    }

    /// The work tree that its runs share; `None` if each run has a clone.
    pub(crate) fn shared_root(&self) -> Option<&Path> {
        (self.workspace == Workspace::InPlace).then_some(&self.root)
    }
}

/// How a ticket names its repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RepoRef {
    Slug(String),
    /// The codec resolves the path. A path that does not exist stays as it is and matches nothing.
    Path {
        asked: String,
        resolved: PathBuf,
    },
}

impl RepoRef {
    /// The name that the backend used, as one short line. The resolved path would tell where symbolic links lead.
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

    /// The allowed repository with that slug or path. A folder inside a repository is not the repository.
    pub fn find(&self, wanted: &RepoRef) -> Option<&Repo> {
        self.0.iter().find(|repo| match wanted {
            RepoRef::Path { resolved, .. } => repo.path == *resolved,
            // Hosts ignore the case of owner and name.
            RepoRef::Slug(slug) => {
                let own = repo.slug.as_ref();
                own.is_some_and(|own| own.eq_ignore_ascii_case(slug))
            }
        })
    }

    pub fn at(&self, path: &Path) -> Option<&Repo> {
        self.0.iter().find(|repo| repo.path == path)
    }

    /// Slugs that several entries share. Tickets for such a slug go to the first entry.
    pub(crate) fn shared_slugs(&self) -> Vec<&str> {
        let slugs = || self.iter().filter_map(|repo| repo.slug.as_deref());
        let is_shared = |slug: &&str| slugs().filter(|own| own == slug).count() > 1;
        let mut shared: Vec<_> = slugs().filter(is_shared).collect();
        shared.dedup();
        shared
    }
}

/// Whether `text` has the form `owner/name`, or `group/subgroup/name`.
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

/// The parts of a remote's address (`https://host/owner/name.git`, `git@host:owner/name`, `ssh://…`). A path on this
/// machine has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote<'a> {
    pub host: &'a str,
    pub slug: &'a str,
}

impl<'a> Remote<'a> {
    pub fn parse(address: &'a str) -> Option<Self> {
        let address = address.trim();
        let (authority, path) = match address.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("file") => return None,
            Some((_, rest)) => rest.split_once('/')?,
            // The short form of ssh. A Windows drive (`C:\…`) has one letter before the colon; a host has more.
            None => address
                .split_once(':')
                .filter(|(host, _)| host.len() > 1 && !host.contains('/'))?,
        };
        let path = path.trim_matches('/');
        let slug = path.strip_suffix(".git").unwrap_or(path);
        // In a password `@` is escaped, so the last one ends it.
        let host = authority.rsplit('@').next()?.split(':').next()?;
        is_slug(slug).then_some(Self { host, slug })
    }
}

/// Whether git takes a remote's address for a path on this machine, see "GIT URLS" in git-clone(1).
pub(crate) fn is_local_remote(address: &str) -> bool {
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

/// A branch name of `A-Z a-z 0-9 . _ / -` that is valid for git and that no program takes for an option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Branch(String);

impl Branch {
    /// Checks docs/protocol.md section 8 and the rules of git-check-ref-format(1) that these characters can break.
    pub fn parse(text: &str) -> Result<Self, String> {
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
        let component =
            |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
        let is_branch = text.len() <= 200
            && text.chars().all(usable)
            && !text.starts_with('-')
            && !text.ends_with('.')
            && !text.contains("..")
            && text.split('/').all(component)
            && text != "HEAD";
        if is_branch {
            Ok(Self(text.to_owned()))
        } else {
            Err("branch is not a valid git branch name".to_owned())
        }
    }
}

checked_text!(Branch);
