//! What the demo works on: a folder with a repository of one commit, removed at the end; and the built-in stand-in for a
//! coding CLI, which reads the prompt, changes that repository, and says what it did.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use clap::ArgMatches;

use crate::commands::exit;
use crate::environment::Environment;
use crate::job::{Git, Halt};

/// The hidden command that runs the stand-in.
pub const STAND_IN: &str = "demo-stand-in";

const FILE: &str = "greeter.py";
const CONTENT: &str = "def greet():\n    return \"Hello!\"\n";
const CHANGED: &str = "def greet(name=\"world\"):\n    return f\"Hello, {name}!\"\n";
const NEW_FILE: &str = "test_greeter.py";
const TEST: &str = "from greeter import greet\n\nassert greet(\"Ada\") == \"Hello, Ada!\"\n";
const LAST_LINE: &str = "Done: 1 file changed, 1 file added.";

pub struct Scratch {
    root: PathBuf,
    pub repository: PathBuf,
    pub state: PathBuf,
}

impl Scratch {
    pub fn new() -> Result<Self, String> {
        let name = format!("wf0-agent-demo-{:016x}", rand::random::<u64>());
        let root = std::env::temp_dir().join(name);
        fs::create_dir(&root).map_err(|e| format!("{}: {e}", root.display()))?;
        Ok(Self {
            repository: root.join("greeter"),
            state: root.join("state"),
            root,
        })
    }

    /// An empty file of settings. With it the daemon does not read the user's `.env`.
    pub fn empty_settings(&self) -> Result<PathBuf, String> {
        let path = self.root.join("settings.env");
        fs::write(&path, "").map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }

    pub fn make_repository(&self, environment: &Environment) -> Result<(), String> {
        let repository = &self.repository;
        fs::create_dir(repository)
            .and_then(|()| fs::write(repository.join(FILE), CONTENT))
            .map_err(|e| e.to_string())?;
        let git = Git::new(environment, repository, &repository.join(".git"))
            .map_err(|e| format!("{e}, and a diff needs it"))?
            .with("GIT_WORK_TREE", repository);
        let user = "-c user.name=demo -c user.email=demo@localhost -c commit.gpgSign=false";
        let commit = format!("{user} commit --quiet --no-verify --message greeter");
        for command in ["init --quiet", "add .", &commit] {
            let words: Vec<&str> = command.split(' ').collect();
            let done = git.run(&words, None, &Halt::never());
            done.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.root) {
            eprintln!("wf0-agent: {} is left behind: {e}", self.root.display());
        }
    }
}

/// Whether that result is what the stand-in did.
pub fn is_from_stand_in(stdout: &str, diff: &str) -> bool {
    diff.contains("+def greet(name=\"world\"):")
        && diff.contains(NEW_FILE)
        && stdout.contains(LAST_LINE)
}

pub fn stand_in(_: &ArgMatches) -> u8 {
    match work() {
        Ok(heading) => {
            println!("I was asked: {heading}\nChanging {FILE} …\nAdding {NEW_FILE} …\n{LAST_LINE}");
            exit::OK
        }
        Err(e) => {
            eprintln!("the stand-in failed: {e}");
            exit::FAILED
        }
    }
}

fn work() -> io::Result<String> {
    let mut prompt = String::new();
    io::stdin().read_to_string(&mut prompt)?;
    let heading = prompt.lines().next();
    let heading = heading.and_then(|line| line.strip_prefix("# "));
    let heading =
        heading.ok_or_else(|| io::Error::other("there is no prompt on standard input"))?;
    // Called anywhere else than in the demo's repository, it changes nothing.
    fs::metadata(FILE)?;
    fs::write(FILE, CHANGED)?;
    fs::write(NEW_FILE, TEST)?;
    Ok(heading.to_owned())
}
