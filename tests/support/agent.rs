//! The built daemon as a child process, with an environment of its own and its log at hand.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam_channel::Receiver;
use wait_timeout::ChildExt;

use super::PATIENCE;

/// The token that every test's agent has; it must show up nowhere.
pub const TOKEN: &str = "wfa_secret_5c1e0c7e9f";

pub struct Agent {
    child: Child,
    lines: Receiver<String>,
    log: Arc<Mutex<Vec<String>>>,
}

/// How an agent is to be started.
pub struct Launch {
    pub cwd: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(String, OsString)>,
}

impl Launch {
    /// Only what a program needs, and the settings that are given.
    pub fn new(cwd: &Path) -> Self {
        let inherited = ["PATH", "HOME", "SYSTEMROOT", "TMPDIR", "TEMP"];
        let env = inherited.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?))).collect();
        Self { cwd: cwd.to_owned(), args: Vec::new(), env }
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

    pub fn start(self) -> Agent {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wf0-agent"));
        command.args(&self.args).current_dir(&self.cwd).env_clear().envs(self.env);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the built daemon starts");
        let (tell, lines) = crossbeam_channel::unbounded();
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("a pipe");
        let kept = log.clone();
        let read = move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line.clone());
                let _ = tell.send(line);
            }
        };
        thread::Builder::new().name("agent-log".to_owned()).spawn(read).expect("a thread");
        Agent { child, lines, log }
    }
}

impl Agent {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has written to its log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits for a line of the log that holds `text`.
    pub fn logged(&self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
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
        match self.child.wait_timeout(PATIENCE).expect("a child to wait for") {
            Some(status) => status,
            None => panic!("the daemon does not end; its log:\n{}", self.log()),
        }
    }

    pub fn exit_code(&mut self) -> i32 {
        self.exit().code().expect("an exit code, not a signal")
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
