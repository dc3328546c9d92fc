//! Which version of the CLI is there. Starting some of them takes seconds, so nobody waits for the answer.

use std::ffi::OsString;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use log::warn;

use super::{Cli, find};
use crate::domain::text::one_line;
use crate::domain::ticket::{Exit, RunId, StopReason};
use crate::environment::Environment;
use crate::job::Context;
use crate::job::capture::Capture;
use crate::job::halt::Halt;
use crate::job::process::{self, Cause, Shared, Sink, Spec};

const LIMIT: Duration = Duration::from_secs(20);
const OUTPUT_MAX: usize = 4 << 10;
const VERSION_MAX: usize = 40;

/// Asks on a thread of its own, which lives as long as the question.
pub struct Asker {
    context: Arc<Context>,
    tell: Tell,
    /// Closed when nobody wants to know any more.
    wanted: Sender<(RunId, StopReason)>,
    orders: Receiver<(RunId, StopReason)>,
    asking: Option<JoinHandle<()>>,
}

type Tell = Arc<dyn Fn(String) + Send + Sync>;

impl Asker {
    pub fn new(context: Arc<Context>, tell: Tell) -> Self {
        let (wanted, orders) = crossbeam_channel::unbounded();
        Self {
            context,
            tell,
            wanted,
            orders,
            asking: None,
        }
    }

    /// Not for a second time while the first answer is still to come. Without a thread to spare the version stays
    /// unknown, and the CLI can run all the same.
    pub fn ask(&mut self) {
        let is_asking = self
            .asking
            .as_ref()
            .is_some_and(|thread| !thread.is_finished());
        if is_asking || !self.context.cli.is_known() {
            return;
        }
        self.asking.take().into_iter().for_each(join);
        let (context, tell, orders) =
            (self.context.clone(), self.tell.clone(), self.orders.clone());
        let body = move || {
            let halt = Halt::new(orders, RunId(0));
            ask(&context.cli, &context.environment, &halt)
                .into_iter()
                .for_each(|version| tell(version));
        };
        match thread::Builder::new()
            .name("version".to_owned())
            .spawn(body)
        {
            Ok(thread) => self.asking = Some(thread),
            Err(e) => warn!("the CLI cannot be asked for its version: {e}"),
        }
    }

    /// Ends a question that is not answered yet.
    pub fn join(self) {
        drop((self.wanted, self.orders));
        self.asking.into_iter().for_each(join);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        panic!("the version thread has panicked");
    }
}

/// Of a known CLI. Another program may do anything when it is started with `--version`, and is not.
pub fn ask(cli: &Cli, environment: &Environment, halt: &Halt) -> Option<String> {
    let program = find::program(&cli.command, environment.get("PATH"))?;
    let stdout = Shared::new(Capture::new(OUTPUT_MAX, None));
    let spec = Spec {
        program: &program,
        args: &[OsString::from("--version")],
        cwd: program.parent()?,
        env: environment.for_cli(),
        mark: None,
        stdin: None,
        stdout: Sink::Capture(stdout.clone()),
        stderr: Sink::Capture(Shared::new(Capture::new(OUTPUT_MAX, None))),
        limit: LIMIT,
        grace: Duration::ZERO,
    };
    let ended = process::start(spec).ok()?.wait(halt, None, || {});
    let has_told = ended.cause == Cause::Exited && ended.exit == Some(Exit::Code(0));
    let output = stdout.lock().bytes.excerpt().render();
    if has_told { version_in(&output) } else { None }
}

/// The first word that looks like one: `2.1.0 (Claude Code)`, `codex-cli 0.169.0`.
pub fn version_in(output: &str) -> Option<String> {
    let words = output
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'));
    let looks_like_one =
        |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    words
        .into_iter()
        .find(looks_like_one)
        .map(|word| one_line(word, VERSION_MAX))
}
