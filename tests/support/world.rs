//! A small world for one test: a temporary folder with a repository, a fake CLI, a state folder, and a backend.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::agent::{Agent, Launch, TOKEN};
use super::backend::Backend;
#[cfg(unix)]
use super::eventually;
use super::processes;

pub struct World {
    pub dir: TempDir,
    pub backend: Backend,
    /// What the fake CLI told and nobody has asked for yet.
    told: RefCell<Vec<String>>,
    #[cfg(unix)]
    ear: Fifo,
    /// Kept open, so that what was written stays until it is read.
    #[cfg(unix)]
    released: RefCell<Vec<Fifo>>,
    fences: Cell<usize>,
}

/// What every fake CLI begins with. `tell WORDS` reaches the test, `hold NAME` waits until the test releases it.
const PREAMBLE: &str = r#"
tell() { echo "$*" > "$WORLD/told"; }
hold() { mkfifo "$WORLD/hold-$1" 2>/dev/null; read -r _ < "$WORLD/hold-$1"; }
commit() { git -c user.name=test -c user.email=test@localhost -c commit.gpgSign=false commit --quiet "$@"; }
"#;

/// The slug under which [`World::repo`] is known.
pub const SLUG: &str = "acme/app";

impl World {
    /// With a repository of one commit.
    pub fn new() -> Self {
        Self::with(Backend::start())
    }

    pub fn with(backend: Backend) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        #[cfg(unix)]
        let ear = Fifo::open(&dir.path().join("told"));
        let world = Self {
            dir,
            backend,
            told: RefCell::default(),
            #[cfg(unix)]
            ear,
            #[cfg(unix)]
            released: RefCell::default(),
            fences: Cell::new(0),
        };
        fs::create_dir(world.home()).expect("a home folder");
        world.make_repo("app");
        world
    }

    /// A folder of this world, with symbolic links resolved, as the daemon will name it.
    pub fn path(&self, name: &str) -> PathBuf {
        wf0_agent::config::canonicalize(self.dir.path())
            .expect("the temporary folder")
            .join(name)
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
            .args([
                "-c",
                "user.name=test",
                "-c",
                "user.email=test@localhost",
                "-c",
                "commit.gpgSign=false",
            ])
            .args(args)
            .current_dir(repo)
            .env("HOME", self.home())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .expect("git starts");
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A fake CLI: a shell script, started in the repository with the prompt on its standard input. `$WORLD` is
    /// this world's folder.
    pub fn cli(&self, script: &str) -> PathBuf {
        let path = self.path("fake-cli");
        // Written aside and renamed: a run that has the old one open keeps it.
        let aside = self.path("fake-cli.new");
        self.program(&aside, script);
        fs::rename(&aside, &path).expect("a script in place");
        path
    }

    /// A script like a fake CLI, wherever it is wanted.
    pub fn program(&self, path: &Path, script: &str) {
        let world = self.path("");
        let world = world.display().to_string();
        let world = world.trim_end_matches('/');
        fs::write(
            path,
            format!("#!/bin/sh\nexport WORLD='{world}'\n{PREAMBLE}\n{script}\n"),
        )
        .expect("a script");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))
                .expect("an executable script");
        }
    }

    /// Puts such a script into a folder that comes before all others on PATH; gives the value of PATH.
    pub fn on_path(&self, program: &str, script: &str) -> String {
        let bin = self.path("bin");
        fs::create_dir_all(&bin).expect("a folder");
        self.program(&bin.join(program), script);
        format!(
            "{}:{}",
            bin.display(),
            std::env::var("PATH").expect("a PATH")
        )
    }

    /// A file that the fake CLI wrote into this world's folder.
    pub fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        String::from_utf8_lossy(&bytes).into_owned()
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
            .env("WORKFORCE0_PROTOCOL", "ticket")
            .env("CLI_COMMAND", cli)
            .env("KILL_GRACE_SECONDS", "1")
            .env("DRAIN_SECONDS", "0")
            .env(processes::MARK, self.dir.path())
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

    /// Assigns a ticket with some fields changed and waits for its outcome.
    pub fn outcome_with(&self, id: &str, fields: Value) -> Value {
        self.backend.send(&ticket_with(id, fields));
        self.backend.outcome(id)
    }

    /// When this returns, everything has been seen that the agent sent in answer to what it was sent before: an
    /// assignment of a role that nobody takes is refused at once, in order.
    pub fn fence(&self) {
        self.fences.set(self.fences.get() + 1);
        let id = format!("fence-{}", self.fences.get());
        self.backend
            .send(&ticket_with(&id, json!({"role": "nobody"})));
        let refusal = self.backend.outcome(&id);
        assert_eq!(refusal["code"], "role_not_allowed", "{refusal}");
    }
}

#[cfg(unix)]
impl World {
    /// Waits until the fake CLI tells just this.
    pub fn told(&self, text: &str) {
        eventually(&format!("the fake CLI to tell {text:?}"), || {
            self.has_told(text).then_some(())
        });
    }

    /// Whether the fake CLI has told this by now. Asking takes it.
    pub fn has_told(&self, text: &str) -> bool {
        self.listen();
        let mut told = self.told.borrow_mut();
        let at = told.iter().position(|line| line == text);
        at.map(|at| told.remove(at)).is_some()
    }

    /// Lets a fake CLI go on that holds, or will hold, by that name.
    pub fn release(&self, name: &str) {
        use std::io::Write;
        let fifo = Fifo::open(&self.path(&format!("hold-{name}")));
        (&fifo.file).write_all(b"go\n").expect("room for a line");
        self.released.borrow_mut().push(fifo);
    }

    fn listen(&self) {
        use std::io::Read;
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        // It ends with "would block": there is always a writer.
        while let Ok(n) = (&self.ear.file).read(&mut chunk) {
            bytes.extend_from_slice(&chunk[..n]);
        }
        let mut unfinished = self.ear.unfinished.borrow_mut();
        unfinished.push_str(&String::from_utf8_lossy(&bytes));
        while let Some((line, rest)) = unfinished
            .split_once('\n')
            .map(|(l, r)| (l.to_owned(), r.to_owned()))
        {
            self.told.borrow_mut().push(line);
            *unfinished = rest;
        }
    }

    /// The living processes that the agent started, with their command lines. Only Linux shows them.
    pub fn processes(&self, agent: &Agent) -> Vec<(u32, String)> {
        processes::marked(&self.dir.path().display().to_string(), Some(agent.pid()))
    }
}

/// What a failed test, or a daemon that was killed, may leave running.
#[cfg(unix)]
impl Drop for World {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, kill};
        for (pid, _) in processes::marked(&self.dir.path().display().to_string(), None) {
            let _ = kill(
                nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid")),
                Signal::SIGKILL,
            );
        }
        // Whoever still holds wakes up when the test's end of the FIFO comes and goes.
        for entry in fs::read_dir(self.dir.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with("hold-") {
                drop(Fifo::open(&entry.path()));
            }
        }
    }
}

/// A FIFO of which this process holds both ends, so that neither opening nor reading ever blocks here.
#[cfg(unix)]
struct Fifo {
    file: fs::File,
    unfinished: RefCell<String>,
}

#[cfg(unix)]
impl Fifo {
    fn open(path: &Path) -> Self {
        use nix::errno::Errno;
        use nix::fcntl::{OFlag, open};
        use nix::sys::stat::Mode;
        match nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o600)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => panic!("{}: {e}", path.display()),
        }
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file =
            open(path, flags, Mode::empty()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self {
            file: file.into(),
            unfinished: RefCell::default(),
        }
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
    let (Value::Object(all), Value::Object(fields)) = (&mut ticket, fields) else {
        panic!("fields are an object")
    };
    for (name, value) in fields {
        if value.is_null() {
            all.remove(&name)
        } else {
            all.insert(name, value)
        };
    }
    ticket
}
