//! The built daemon as a child process, with an environment of its own and its log at hand.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crossbeam_channel::Receiver;
use wait_timeout::ChildExt;

use super::PATIENCE;

/// The built daemon. Where nothing is linked, as in a check for another system, cargo names none.
pub const BINARY: Option<&str> = option_env!("CARGO_BIN_EXE_wf0-agent");

/// The token that every test's agent has; it must show up nowhere.
pub const TOKEN: &str = "wfa_secret_5c1e0c7e9f";

pub struct Agent {
    child: Child,
    lines: Receiver<String>,
    log: Arc<Mutex<Vec<String>>>,
    /// The other side of its terminal, where it has one.
    terminal: Option<std::fs::File>,
}

/// What a program wrote and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// How an agent is to be started.
pub struct Launch {
    pub cwd: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(String, OsString)>,
    program: PathBuf,
    user: Option<u32>,
    /// What a shell does before it becomes the daemon.
    first: Option<String>,
    at_terminal: bool,
}

impl Launch {
    /// Only what a program needs, and the settings that are given.
    pub fn new(cwd: &Path) -> Self {
        let inherited = ["PATH", "HOME", "SYSTEMROOT", "TMPDIR", "TEMP"];
        let env = inherited
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?)))
            .collect();
        let program = PathBuf::from(BINARY.expect("cargo names the binary for tests"));
        Self {
            cwd: cwd.to_owned(),
            args: Vec::new(),
            env,
            program,
            user: None,
            first: None,
            at_terminal: false,
        }
    }

    /// Started by root as another user, from a copy of the program that this user can reach.
    #[cfg(unix)]
    pub fn by_user(mut self, user: u32, copy: &Path) -> Self {
        self.user = Some(user);
        self.copied_to(copy)
    }

    /// Started from a copy of the program in another place.
    #[cfg(unix)]
    pub fn copied_to(mut self, copy: &Path) -> Self {
        // By another process: a program that this one has open for writing cannot be started, nor while a child that
        // another test is just starting has it open.
        super::files::copy(&self.program, copy);
        self.program = copy.to_owned();
        self
    }

    /// Started by a shell that does `first` and then becomes the daemon, which so has what is inherited: limits,
    /// ignored signals, open files.
    #[cfg(unix)]
    pub fn after(mut self, first: &str) -> Self {
        self.first = Some(first.to_owned());
        self
    }

    /// With a terminal for its input and its log.
    #[cfg(unix)]
    pub fn at_terminal(mut self) -> Self {
        self.at_terminal = true;
        self
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Sets a variable; a later value replaces an earlier one, an empty one removes it.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        let value = value.into();
        self.env.retain(|(own, _)| own != name);
        if !value.is_empty() {
            self.env.push((name.to_owned(), value));
        }
        self
    }

    /// Runs it to its end, for what ends by itself.
    pub fn output(self) -> Ended {
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the built daemon starts");
        let stdout = read_aside(child.stdout.take().expect("a pipe"));
        let stderr = read_aside(child.stderr.take().expect("a pipe"));
        let status = child.wait_timeout(PATIENCE).expect("a child to wait for");
        if status.is_none() {
            let _ = child.kill();
        }
        let text = |reader: thread::JoinHandle<String>| {
            reader.join().expect("a reader that does not panic")
        };
        let (stdout, stderr) = (text(stdout), text(stderr));
        let status =
            status.unwrap_or_else(|| panic!("it does not end; it wrote:\n{stdout}\n{stderr}"));
        Ended {
            code: status.code().expect("an exit code, not a signal"),
            stdout,
            stderr,
        }
    }

    fn command(self) -> Command {
        let mut command = match self.first {
            None => Command::new(self.program),
            Some(first) => {
                let mut shell = Command::new("/bin/sh");
                shell
                    .arg("-c")
                    .arg(format!("{first}; exec \"$0\" \"$@\""))
                    .arg(self.program);
                shell
            }
        };
        command
            .args(&self.args)
            .current_dir(&self.cwd)
            .env_clear()
            .envs(self.env);
        #[cfg(unix)]
        if let Some(user) = self.user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
        }
        command
    }

    pub fn start(self) -> Agent {
        #[cfg(unix)]
        if self.at_terminal {
            return self.start_at_terminal();
        }
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the built daemon starts");
        let stderr = child.stderr.take().expect("a pipe");
        Agent::watch(child, stderr, None)
    }

    #[cfg(unix)]
    fn start_at_terminal(self) -> Agent {
        let terminal = nix::pty::openpty(None, None).expect("a terminal");
        let own = std::fs::File::from(terminal.master);
        let theirs = || Stdio::from(terminal.slave.try_clone().expect("a second handle"));
        let mut command = self.command();
        let child = command
            .stdin(theirs())
            .stdout(Stdio::null())
            .stderr(theirs())
            .spawn();
        let log = own.try_clone().expect("a second handle");
        Agent::watch(child.expect("the built daemon starts"), log, Some(own))
    }
}

impl Agent {
    fn watch(
        child: Child,
        log_of_it: impl Read + Send + 'static,
        terminal: Option<std::fs::File>,
    ) -> Self {
        let (tell, lines) = crossbeam_channel::unbounded();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = log.clone();
        let read = move || {
            for line in BufReader::new(log_of_it).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line.clone());
                let _ = tell.send(line);
            }
        };
        thread::Builder::new()
            .name("agent-log".to_owned())
            .spawn(read)
            .expect("a thread");
        Self {
            child,
            lines,
            log,
            terminal,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types a line at its terminal.
    pub fn type_line(&self, line: &str) {
        use std::io::Write;
        let mut terminal = self.terminal.as_ref().expect("an agent at a terminal");
        terminal
            .write_all(format!("{line}\n").as_bytes())
            .expect("a terminal to type at");
    }

    /// Everything that it has written to its log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits for a line of the log that holds `text`.
    pub fn logged(&self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_deadline(until) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(_) => panic!("waited in vain for {text:?} in the log:\n{}", self.log()),
            }
        }
    }

    #[cfg(unix)]
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("the daemon is there to be signalled");
    }

    /// Asks it to stop and waits for its end.
    #[cfg(unix)]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.exit()
    }

    /// Waits for its end.
    pub fn exit(&mut self) -> ExitStatus {
        match self
            .child
            .wait_timeout(PATIENCE)
            .expect("a child to wait for")
        {
            Some(status) => status,
            None => panic!("the daemon does not end; its log:\n{}", self.log()),
        }
    }

    pub fn exit_code(&mut self) -> i32 {
        self.exit().code().expect("an exit code, not a signal")
    }

    /// Ends the daemon as a crash would, without a word.
    pub fn crash(&mut self) {
        self.child.kill().expect("the daemon is there to be killed");
        self.exit();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child to look at").is_none()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_aside(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    let read = move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    thread::Builder::new()
        .name("output".to_owned())
        .spawn(read)
        .expect("a thread")
}
