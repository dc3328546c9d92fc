//! The demo's folders: a repository with one commit, and a place for the daemon's state. Removed at the end.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::job::{Git, GitError, Halt};

pub const FILE: &str = "greeter.py";
const CONTENT: &str = "def greet():\n    return \"Hello!\"\n";

pub struct Scratch {
    root: PathBuf,
}

impl Scratch {
    pub fn new() -> Result<Self, String> {
        let root =
            std::env::temp_dir().join(format!("wf0-agent-demo-{:016x}", rand::random::<u64>()));
        let scratch = Self { root };
        fs::create_dir(&scratch.root).map_err(|e| format!("{}: {e}", scratch.root.display()))?;
        fs::create_dir(scratch.repository()).map_err(|e| e.to_string())?;
        Ok(scratch)
    }

    pub fn repository(&self) -> PathBuf {
        self.root.join("greeter")
    }

    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub fn make_repository(&self, environment: &Environment) -> Result<(), String> {
        let repository = self.repository();
        fs::write(repository.join(FILE), CONTENT).map_err(|e| e.to_string())?;
        let git = Git::new(environment, &repository, &repository.join(".git"))
            .map_err(|e| format!("{e}, and a diff needs it"))?
            .with("GIT_WORK_TREE", &repository);
        let who = [
            "-c",
            "user.name=demo",
            "-c",
            "user.email=demo@localhost",
            "-c",
            "commit.gpgSign=false",
        ];
        call(&git, &["init", "--quiet"])?;
        call(&git, &["add", "."])?;
        call(
            &git,
            &[
                &who[..],
                &["commit", "--quiet", "--no-verify", "--message", "A greeter"],
            ]
            .concat(),
        )
    }
}

fn call(git: &Git, args: &[&str]) -> Result<(), String> {
    let args: Vec<_> = args.iter().map(|arg| OsStr::new(*arg)).collect();
    git.run(&args, None, &Halt::never())
        .map(|_| ())
        .map_err(|e: GitError| e.to_string())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.root);
    }
}

fn remove(root: &Path) {
    if let Err(e) = fs::remove_dir_all(root) {
        eprintln!("wf0-agent: {} is left behind: {e}", root.display());
    }
}
