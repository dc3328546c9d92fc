//! The repositories that this agent may touch (the entries of `REPO_PATHS`), and the names that tickets use for a
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
    /// The root of the work tree that contains the path; without git, the path itself. Two entries in one work tree
    /// share index and HEAD.
    pub root: PathBuf,
    pub workspace: Workspace,
}

/// The place where a repository's runs work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workspace {
    InPlace,
    /// Each run works in its own clone.
    Clone,
}

impl Repo {
    /// The repository as a ticket uses it. A ticket with a branch gets a clone: the run must not work on that branch in
    /// the developer's own checkout.
    pub(crate) fn for_branch(&self, branch: Option<&Branch>) -> Self {
        let mut repo = self.clone();
        if branch.is_some() {
            repo.workspace = Workspace::Clone;
        }
        repo
    }

    /// The work tree that the repository's runs share. `None`: each run has a clone.
    pub(crate) fn shared_root(&self) -> Option<&Path> {
        (self.workspace == Workspace::InPlace).then_some(&self.root)
    }
}

/// How a ticket names its repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RepoRef {
    Slug(String),
    /// The codec sets `resolved`. If the path does not exist, `resolved` is the same as `asked` and matches nothing.
    Path {
        asked: String,
        resolved: PathBuf,
    },
}

impl RepoRef {
    /// The name that the backend used, as one short line. It is not the resolved path: that would reveal where symbolic
    /// links lead.
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

    /// The allowed repository with this slug or exactly this path. A folder inside a repository does not match.
    pub fn find(&self, wanted: &RepoRef) -> Option<&Repo> {
        self.0.iter().find(|repo| match wanted {
            RepoRef::Path { resolved, .. } => repo.path == *resolved,
            // Git hosts ignore the case of owner and name.
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
/// machine has no such parts.
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
            // The short form of ssh (`host:path`). A host has more than one letter; a Windows drive (`C:\…`) has one.
            None => address
                .split_once(':')
                .filter(|(host, _)| host.len() > 1 && !host.contains('/'))?,
        };
        let path = path.trim_matches('/');
        let slug = path.strip_suffix(".git").unwrap_or(path);
        // The host starts after the last `@`: in a password each `@` is escaped.
        let host = authority.rsplit('@').next()?.split(':').next()?;
        is_slug(slug).then_some(Self { host, slug })
    }
}

/// Whether git reads a remote's address as a path on this machine (see "GIT URLS" in git-clone(1)).
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

/// A branch name of `A-Z a-z 0-9 . _ / -`. It is valid for git. It does not start with `-`, so no program reads it as
/// an option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Branch(String);

impl Branch {
    /// Checks the rules of docs/protocol.md section 8, and those rules of git-check-ref-format(1) that a text of these
    /// characters can break.
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
