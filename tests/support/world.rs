//! A small world for one test: a temporary folder with a repository, a fake CLI, a state folder, and a backend.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::agent::{Agent, Launch, TOKEN};
use super::backend::Backend;

pub struct World {
    pub dir: TempDir,
    pub backend: Backend,
}

/// The slug under which [`World::repo`] is known.
pub const SLUG: &str = "acme/app";

impl World {
    /// With a repository of one commit.
    pub fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().expect("a temporary folder"), backend: Backend::start() };
        fs::create_dir(world.home()).expect("a home folder");
        world.make_repo("app");
        world
    }

    /// A folder of this world, with symbolic links resolved, as the daemon will name it.
    pub fn path(&self, name: &str) -> PathBuf {
        dunce::canonicalize(self.dir.path()).expect("the temporary folder").join(name)
    }

    pub fn repo(&self) -> PathBuf {
        self.path("app")
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// The agent's home: no setting of whoever runs the tests reaches git.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// A repository with `README.md` and `src/lib.rs` in one commit.
    pub fn make_repo(&self, name: &str) -> PathBuf {
        let repo = self.path(name);
        fs::create_dir_all(repo.join("src")).expect("a folder");
        fs::write(repo.join("README.md"), "# App\n").expect("a file");
        fs::write(repo.join("src/lib.rs"), "pub fn one() -> u32 {\n    1\n}\n").expect("a file");
        self.git(&repo, &["init", "--quiet", "--initial-branch=main"]);
        self.git(&repo, &["add", "."]);
        self.git(&repo, &["commit", "--quiet", "--message", "first"]);
        repo
    }

    /// Runs git and gives its standard output; a failure fails the test.
    pub fn git(&self, repo: &Path, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgSign=false"])
            .args(args)
            .current_dir(repo)
            .env("HOME", self.home())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .expect("git starts");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A fake CLI: a shell script, started in the repository with the prompt on its standard input. `$WORLD` is
    /// this world's folder.
    pub fn cli(&self, script: &str) -> PathBuf {
        let path = self.path("fake-cli");
        // Written aside and renamed: a run that has the old one open keeps it.
        let aside = self.path("fake-cli.new");
        fs::write(&aside, format!("#!/bin/sh\nWORLD='{}'\n{script}\n", self.path("").display())).expect("a script");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).expect("an executable script");
        }
        fs::rename(&aside, &path).expect("a script in place");
        path
    }

    /// An agent for [`repo`](Self::repo) with every setting that it needs, not yet started.
    pub fn launch(&self, script: &str) -> Launch {
        let cli = self.cli(script);
        Launch::new(self.dir.path())
            .env("HOME", self.home())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("WORKFORCE0_API_URL", self.backend.url())
            .env("WORKFORCE0_AGENT_TOKEN", TOKEN)
            .env("REPO_PATHS", format!("{SLUG}={}", self.repo().display()))
            .env("STATE_DIR", self.state())
            .env("CLI_COMMAND", cli)
            .env("KILL_GRACE_SECONDS", "1")
    }

    /// A started agent that has registered.
    pub fn agent(&self, script: &str) -> Agent {
        self.registered(self.launch(script))
    }

    pub fn registered(&self, launch: Launch) -> Agent {
        let agent = launch.start();
        self.backend.frame("agent.register");
        agent
    }

    /// Assigns a ticket for the repository.
    pub fn assign(&self, id: &str) {
        self.backend.send(&ticket(id));
    }

    /// Assigns a ticket and waits for its outcome.
    pub fn outcome_of(&self, id: &str) -> Value {
        self.assign(id);
        self.backend.outcome(id)
    }
}

/// A ticket that nothing is wrong with.
pub fn ticket(id: &str) -> Value {
    json!({
        "type": "ticket.assigned",
        "ticketId": id,
        "attempt": 1,
        "role": "dev",
        "repo": SLUG,
        "title": "Do it",
        "description": "Do what has to be done.",
    })
}

/// A ticket with some fields changed; `null` removes one.
pub fn ticket_with(id: &str, fields: Value) -> Value {
    let mut ticket = ticket(id);
    let (Value::Object(all), Value::Object(fields)) = (&mut ticket, fields) else { panic!("fields are an object") };
    for (name, value) in fields {
        if value.is_null() {
            all.remove(&name)
        } else {
            all.insert(name, value)
        };
    }
    ticket
}
