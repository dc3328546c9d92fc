//! A small program of the system's own, such as `systemctl`: asked once, within a time limit, for what it says.
//!
//! Not for git (`git.rs`) nor for the CLI (`worker.rs`), which are told more and watched more closely.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::capture::Capture;
use super::cli::find;
use super::halt::Halt;
use super::process::{self, Cause, Shared, Sink, Spec};
use crate::domain::ticket::Exit;
use crate::environment::Environment;

/// A service manager tells of one service in a few KiB.
const OUTPUT_MAX: usize = 256 << 10;

/// What it said and how it ended.
#[derive(Debug)]
pub struct Said {
    /// `None`: it took too long and was ended, or a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    pub fn is_well(&self) -> bool {
        self.code == Some(0)
    }

    /// Its own words, in one line.
    pub fn words(&self) -> String {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        match (words(&self.stderr), words(&self.stdout), self.code) {
            (stderr, ..) if !stderr.is_empty() => stderr,
            (_, stdout, _) if !stdout.is_empty() => stdout,
            (.., Some(code)) => format!("exit code {code}, without a word"),
            (.., None) => "no answer in time".to_owned(),
        }
    }
}

/// Asks a program on PATH; [`io::ErrorKind::NotFound`] where there is none of that name. It speaks English, and gets no
/// setting of the daemon's.
pub fn ask(
    program: &str,
    args: &[&str],
    environment: &Environment,
    limit: Duration,
) -> io::Result<Said> {
    let program = find::program(program, environment.get("PATH")).ok_or(io::ErrorKind::NotFound)?;
    let (stdout, stderr) = (shared(), shared());
    let args: Vec<_> = args.iter().map(OsString::from).collect();
    let mut env = environment.for_cli();
    env.push(("LC_ALL".into(), "C".into()));
    let process = process::start(Spec {
        program: &program,
        args: &args,
        cwd: Path::new(if cfg!(windows) { "\\" } else { "/" }),
        env,
        mark: None,
        stdin: None,
        stdout: Sink::Capture(stdout.clone()),
        stderr: Sink::Capture(stderr.clone()),
        limit,
        grace: Duration::ZERO,
    })?;
    let ended = process.wait(&Halt::never(), None, || {});
    let code = match (ended.cause, ended.exit) {
        (Cause::Exited, Some(Exit::Code(code))) => Some(code),
        _ => None,
    };
    let text = |stream: &Shared| stream.lock().bytes.excerpt().render();
    Ok(Said {
        code,
        stdout: text(&stdout),
        stderr: text(&stderr),
    })
}

fn shared() -> Shared {
    Shared::new(Capture::new(OUTPUT_MAX, None))
}
