//! What is in a folder, to be compared with what is in it later.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file, a folder or a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    /// The permission bits.
    pub mode: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File(Vec<u8>),
    Link(PathBuf),
    Other,
}

pub type Listing = BTreeMap<PathBuf, Entry>;

/// Everything below `root`, by its path from there, with every byte.
pub fn everything(root: &Path) -> Listing {
    let mut listing = Listing::new();
    add(root, root, &mut listing);
    listing
}

/// What git would keep of a work tree: files and links, and whether a file can be executed. Nothing of `.git`.
pub fn work_tree(root: &Path) -> Listing {
    let mut listing = everything(root);
    listing.retain(|path, entry| {
        !path.starts_with(".git") && matches!(entry.kind, Kind::File(_) | Kind::Link(_))
    });
    for entry in listing.values_mut() {
        entry.mode = if entry.kind_is_link() {
            0
        } else {
            entry.mode & 0o100
        };
    }
    listing
}

impl Entry {
    fn kind_is_link(&self) -> bool {
        matches!(self.kind, Kind::Link(_))
    }
}

/// Fails where the two are not the same, and names what differs rather than showing all of it.
pub fn assert_same(before: &Listing, after: &Listing) {
    let names = before.keys().chain(after.keys());
    let differ: std::collections::BTreeSet<_> = names
        .filter(|name| before.get(*name) != after.get(*name))
        .collect();
    assert!(differ.is_empty(), "these differ: {differ:?}");
}

/// A copy with modes, times and links.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .expect("cp starts");
    assert!(
        status.success(),
        "cp -a {} {}",
        from.display(),
        to.display()
    );
}

/// Changes the permissions of everything below `root` and of itself, as chmod does.
pub fn chmod(mode: &str, root: &Path) {
    let status = Command::new("chmod")
        .args(["-R", mode])
        .arg(root)
        .status()
        .expect("chmod starts");
    assert!(status.success(), "chmod -R {mode} {}", root.display());
}

/// Gives everything below `root` and itself to another user, as chown does.
pub fn chown(user: u32, root: &Path) {
    let status = Command::new("chown")
        .args(["-hR", &user.to_string()])
        .arg(root)
        .status()
        .expect("chown starts");
    assert!(status.success(), "chown -hR {user} {}", root.display());
}

/// Whether any file below `root` holds `text`; the first of them.
pub fn holding(root: &Path, text: &[u8]) -> Option<PathBuf> {
    let holds = |entry: &Entry| match &entry.kind {
        Kind::File(content) => content.windows(text.len()).any(|window| window == text),
        Kind::Link(to) => to
            .as_os_str()
            .as_encoded_bytes()
            .windows(text.len())
            .any(|window| window == text),
        Kind::Folder | Kind::Other => false,
    };
    everything(root)
        .into_iter()
        .find(|(_, entry)| holds(entry))
        .map(|(path, _)| path)
}

fn add(root: &Path, folder: &Path, listing: &mut Listing) {
    // A folder that is gone when it is looked into was somebody's scratch.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        let kind = if metadata.is_symlink() {
            Kind::Link(fs::read_link(&path).unwrap_or_default())
        } else if metadata.is_dir() {
            add(root, &path, listing);
            Kind::Folder
        } else if metadata.is_file() {
            Kind::File(fs::read(&path).unwrap_or_default())
        } else {
            Kind::Other
        };
        let name = path
            .strip_prefix(root)
            .expect("a path below the root")
            .to_owned();
        listing.insert(
            name,
            Entry {
                kind,
                mode: mode_of(&metadata),
            },
        );
    }
}

#[cfg(unix)]
fn mode_of(metadata: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o7777
}

#[cfg(not(unix))]
fn mode_of(_: &fs::Metadata) -> u32 {
    0
}
