//! Knows the coding CLIs: their names for the backend, their usual arguments, options that they do not have, how their
//! output is read, and which version is installed. Each has a file; [`Known`] is what they have in common.

mod codex;
mod gemini;
mod opencode;
pub mod output;
pub mod report;
mod stream_json;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use log::warn;
use serde_json::Value;

use super::process::{Call, Halt, Spec};
use super::tool;
use crate::config::{Autonomy, CliConfig};
use crate::domain::invocation::Template;
use crate::domain::quota::QuotaMessage;
use crate::domain::text::one_line;
use crate::domain::ticket::{RunId, StopReason};
use crate::environment::Environment;
use report::CliReport;

const VERSION_LIMIT: Duration = Duration::from_secs(20);
const VERSION_OUTPUT_MAX: usize = 4 << 10;
const VERSION_MAX: usize = 40;

/// One CLI.
#[derive(Debug)]
pub struct Known {
    /// The program's file name, without an ending.
    program: &'static str,
    /// The name on the wire.
    subscription: &'static str,
    args: UsualArgs,
    /// Options that people expect, and that make it fail.
    has_no: &'static [&'static str],
    /// Whether an output that begins with this line comes from this CLI.
    is_own: fn(&Value) -> bool,
    read: fn(&Value, &mut CliReport),
}

/// The usual arguments for each `CLI_AUTONOMY`. They ask for JSON lines if the CLI has them, because those tell what it
/// does and what it costs. The prompt goes to standard input if possible: as an argument its size would be limited, and
/// every user of the machine could read it.
#[derive(Debug)]
struct UsualArgs {
    edits: &'static str,
    commands: &'static str,
    all: &'static str,
}

/// The first one whose `is_own` says yes reads an output. Claude and Cursor share theirs.
const ALL: &[&Known] = &[
    &stream_json::CLAUDE,
    &codex::KNOWN,
    &opencode::KNOWN,
    &gemini::KNOWN,
    &stream_json::CURSOR,
];

/// By the program's name. `None`: a script, aider, an editor's CLI. Such a program gets no arguments and the prompt on
/// standard input, and what it prints is its message, unless it prints what a known CLI prints.
fn known(command: &str) -> Option<&'static Known> {
    let stem = stem(command);
    let mut all = ALL.iter().copied();
    all.find(|known| known.program.eq_ignore_ascii_case(stem))
}

fn stem(command: &str) -> &str {
    let stem = Path::new(command).file_stem();
    stem.and_then(|stem| stem.to_str()).unwrap_or_default()
}

/// The CLI as it is called.
#[derive(Debug, Clone)]
pub struct Cli {
    pub command: String,
    /// The subscription's name on the wire.
    pub name: String,
    args: Template,
    offline_args: Option<Template>,
    pub quota: QuotaMessage,
}

impl Cli {
    /// With the user's arguments, else the usual ones.
    pub fn from_config(config: &CliConfig) -> Self {
        let known = known(&config.command);
        let usual = known.map_or("", |known| match config.autonomy {
            Autonomy::Edits => known.args.edits,
            Autonomy::Commands => known.args.commands,
            Autonomy::All => known.args.all,
        });
        let usual = || match Template::parse(usual) {
            Ok(template) => template,
            Err(e) => panic!("the table of CLIs holds {usual:?}: {e}"),
        };
        let name = known.map_or_else(|| stem(&config.command), |known| known.subscription);
        Self {
            command: config.command.clone(),
            name: name.to_owned(),
            args: config.args.clone().unwrap_or_else(usual),
            offline_args: config.offline_args.clone(),
            quota: config.quota.clone(),
        }
    }

    /// For a run that starts now. `offline`: the backend cannot be reached.
    pub fn args(&self, offline: bool) -> &Template {
        let offline_args = self.offline_args.as_ref().filter(|_| offline);
        offline_args.unwrap_or(&self.args)
    }

    pub fn is_known(&self) -> bool {
        known(&self.command).is_some()
    }

    /// Asks a known CLI for its version, which may take seconds. Other programs are not asked: they may do anything when
    /// they are started with `--version`.
    pub fn version(&self, environment: &Environment, halt: &Halt) -> Option<String> {
        known(&self.command)?;
        let program = tool::find(&self.command, environment.get("PATH"))?;
        let spec = Spec {
            program: &program,
            args: &[OsString::from("--version")],
            cwd: program.parent()?,
            env: environment.for_cli(),
            mark: None,
            stdin: None,
            stdout: None,
            limit: VERSION_LIMIT,
            grace: Duration::ZERO,
        };
        let end = Call::start(spec, VERSION_OUTPUT_MAX).ok()?.finish(halt);
        let output = Some(&end.stdout).filter(|_| end.code() == Some(0));
        version_in(output?)
    }
}

/// Asks for the version on a thread that lives as long as the question, because some CLIs need seconds to answer.
pub struct VersionProbe {
    cli: Cli,
    environment: Environment,
    post: Arc<dyn Fn(String) + Send + Sync>,
    /// Closed to stop the question.
    stop: Sender<(RunId, StopReason)>,
    orders: Receiver<(RunId, StopReason)>,
    thread: Option<JoinHandle<()>>,
}

impl VersionProbe {
    pub fn new(
        cli: Cli,
        environment: Environment,
        post: impl Fn(String) + Send + Sync + 'static,
    ) -> Self {
        let (stop, orders) = crossbeam_channel::unbounded();
        Self {
            cli,
            environment,
            post: Arc::new(post),
            stop,
            orders,
            thread: None,
        }
    }

    /// Does nothing while an earlier question is open. Without a thread for it the version stays unknown, and the CLI
    /// can run without it.
    pub fn ask(&mut self) {
        let mut thread = self.thread.iter();
        if thread.any(|thread| !thread.is_finished()) || !self.cli.is_known() {
            return;
        }
        join(self.thread.take());
        let (cli, environment) = (self.cli.clone(), self.environment.clone());
        let (post, orders) = (self.post.clone(), self.orders.clone());
        let body = move || {
            if let Some(version) = cli.version(&environment, &Halt::new(orders, RunId(0))) {
                post(version);
            }
        };
        let thread = thread::Builder::new().name("version".to_owned());
        match thread.spawn(body) {
            Ok(thread) => self.thread = Some(thread),
            Err(e) => warn!("the CLI cannot be asked for its version: {e}"),
        }
    }

    /// Stops an open question.
    pub fn join(self) {
        drop((self.stop, self.orders));
        join(self.thread);
    }
}

fn join(thread: Option<JoinHandle<()>>) {
    if thread.is_some_and(|thread| thread.join().is_err()) {
        panic!("the version thread has panicked");
    }
}

/// The first word that looks like one: `2.1.0 (Claude Code)`, `codex-cli 0.169.0`.
pub fn version_in(output: &str) -> Option<String> {
    let mut words = output
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'));
    let version =
        words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    version.map(|word| one_line(word, VERSION_MAX))
}

/// An option in the user's own arguments that the CLI does not have.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {}: {}", self.problem(), Self::FIX)]
pub struct WrongOption {
    setting: &'static str,
    command: String,
    option: &'static str,
}

impl WrongOption {
    pub const FIX: &str = "leave it out; the run starts in the repository anyway";

    pub fn problem(&self) -> String {
        format!("{} has no {}", self.command, self.option)
    }
}

/// Finds them at the start, before the first ticket fails.
pub fn wrong_options(config: &CliConfig) -> Vec<WrongOption> {
    let CliConfig {
        command,
        args,
        offline_args,
        ..
    } = config;
    let has_no = known(command).map_or(&[][..], |known| known.has_no);
    let mut wrong = Vec::new();
    for (setting, template) in [
        ("CLI_ARGS_TEMPLATE", args),
        ("CLI_OFFLINE_ARGS_TEMPLATE", offline_args),
    ] {
        let words = template.as_ref().map(Template::words).unwrap_or_default();
        let given: Vec<_> = words
            .iter()
            .filter_map(|word| word.split('=').next())
            .collect();
        for option in has_no.iter().filter(|option| given.contains(option)) {
            wrong.push(WrongOption {
                setting,
                command: command.clone(),
                option,
            });
        }
    }
    wrong
}
