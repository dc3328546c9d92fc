//! What the agent knows about coding CLIs: their names for the backend, their usual arguments, options that they do not
//! have, how to read their output, and how to ask for their version. [`Known`] describes one CLI.

mod json_lines;
pub(super) mod output;
mod report;
mod stream_json;

use std::io;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Sender;
use serde_json::Value;

use super::process::{CallEnd, Halt};
use super::tool;
use crate::config::{Autonomy, CliConfig};
use crate::domain::invocation::Template;
use crate::domain::quota::QuotaMessage;
use crate::domain::text::one_line;
use crate::domain::ticket::{RunId, StopReason};
use crate::environment::Environment;
use report::CliReport;

const VERSION_LIMIT: Duration = Duration::from_secs(20);
const VERSION_MAX: usize = 40;

/// What the agent knows about one CLI.
#[derive(Debug)]
pub struct Known {
    /// The program's file name, without an extension.
    program: &'static str,
    /// The CLI's name in the protocol, as `cli.name`.
    subscription: &'static str,
    /// The usual arguments for each `CLI_AUTONOMY`. They ask for JSON lines if the CLI can print them: such lines tell
    /// what the CLI does and what it costs. The prompt goes to standard input if possible: an argument has a size
    /// limit, and every user of the machine can read it.
    edits: &'static str,
    commands: &'static str,
    all: &'static str,
    /// Whether the CLI fails with `--cwd`, an option that users expect it to have.
    has_no_cwd: bool,
    /// Whether an output that begins with this line comes from this CLI.
    is_own: fn(&Value) -> bool,
    read: fn(&Value, &mut CliReport),
}

/// An output is read by the first entry whose `is_own` accepts it. Claude and Cursor share one `is_own`.
const ALL: &[&Known] = &[
    &stream_json::CLAUDE,
    &json_lines::CODEX,
    &json_lines::OPENCODE,
    &json_lines::GEMINI,
    &stream_json::CURSOR,
];

/// Finds a CLI by its program's name. `None`: a script, aider, an editor's CLI. By default such a program gets no
/// arguments. It reads the prompt from standard input. Its whole output is its message, unless the output is like that
/// of a known CLI.
fn known(command: &str) -> Option<&'static Known> {
    let stem = stem(command);
    let mut all = ALL.iter().copied();
    all.find(|known| known.program.eq_ignore_ascii_case(stem))
}

fn stem(command: &str) -> &str {
    let stem = Path::new(command).file_stem();
    stem.and_then(|stem| stem.to_str()).unwrap_or_default()
}

/// The configured CLI, and how to start it.
#[derive(Debug, Clone)]
pub struct Cli {
    pub command: String,
    /// The CLI's name in the protocol, as `cli.name`.
    pub name: String,
    args: Template,
    offline_args: Option<Template>,
    pub quota: QuotaMessage,
}

impl Cli {
    /// Takes the user's arguments, or else the usual ones.
    pub fn from_config(config: &CliConfig) -> Self {
        let known = known(&config.command);
        let usual = known.map_or("", |known| match config.autonomy {
            Autonomy::Edits => known.edits,
            Autonomy::Commands => known.commands,
            Autonomy::All => known.all,
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

    /// The arguments of a run that starts now. `offline`: the backend cannot be reached.
    pub fn args(&self, offline: bool) -> &Template {
        let offline_args = self.offline_args.as_ref().filter(|_| offline);
        offline_args.unwrap_or(&self.args)
    }

    pub fn is_known(&self) -> bool {
        known(&self.command).is_some()
    }

    /// Asks a known CLI for its version, which may take seconds. It does not ask other programs: with
    /// `--version` they may do anything.
    pub fn version(&self, environment: &Environment, halt: &Halt) -> Option<String> {
        known(&self.command)?;
        let end = tool::ask(
            &self.command,
            &["--version"],
            environment,
            VERSION_LIMIT,
            halt,
        );
        let end = end.ok().filter(CallEnd::is_well)?;
        version_in(&end.stdout)
    }
}

/// Asks for the version on a thread of its own, because some CLIs need seconds to answer.
pub struct VersionProbe {
    questions: Sender<()>,
    /// Nothing is sent on it. Dropping it stops an open question.
    stop: Sender<(RunId, StopReason)>,
    thread: JoinHandle<()>,
}

impl VersionProbe {
    pub fn start(
        cli: Cli,
        environment: Environment,
        post: impl Fn(String) + Send + 'static,
    ) -> io::Result<Self> {
        let (questions, asked) = crossbeam_channel::bounded(1);
        let (stop, orders) = crossbeam_channel::unbounded();
        let body = move || {
            for () in asked {
                let halt = Halt::new(orders.clone(), RunId(0));
                if let Some(version) = cli.version(&environment, &halt) {
                    post(version);
                }
            }
        };
        let thread = thread::Builder::new().name("version".to_owned());
        Ok(Self {
            questions,
            stop,
            thread: thread.spawn(body)?,
        })
    }

    pub fn ask(&self) {
        // If the channel is full, the same question is waiting already.
        let _ = self.questions.try_send(());
    }

    /// Stops an open question and waits for the thread.
    pub fn join(self) {
        drop((self.questions, self.stop));
        if self.thread.join().is_err() {
            panic!("the version thread has panicked");
        }
    }
}

/// The first word that looks like a version: `2.1.0 (Claude Code)`, `codex-cli 0.169.0`.
pub(crate) fn version_in(output: &str) -> Option<String> {
    let words = output.split_whitespace();
    let mut words = words.map(|word| word.trim_start_matches('v'));
    let is_version =
        |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    words
        .find(is_version)
        .map(|word| one_line(word, VERSION_MAX))
}

/// An option in the user's own arguments that the CLI does not have.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {}: {}", self.problem(), Self::FIX)]
pub struct WrongOption {
    setting: &'static str,
    command: String,
}

impl WrongOption {
    pub const FIX: &str = "leave it out; the run starts in the repository anyway";

    pub fn problem(&self) -> String {
        format!("{} has no --cwd", self.command)
    }
}

/// Finds wrong options at the start, before the first ticket fails.
pub fn wrong_options(config: &CliConfig) -> Vec<WrongOption> {
    let is_wrong = |word: &String| word.split('=').next() == Some("--cwd");
    let has_no_cwd = known(&config.command).is_some_and(|known| known.has_no_cwd);
    let mut wrong = Vec::new();
    for (setting, template) in [
        ("CLI_ARGS_TEMPLATE", &config.args),
        ("CLI_OFFLINE_ARGS_TEMPLATE", &config.offline_args),
    ] {
        let words = template.as_ref().map(Template::words).unwrap_or_default();
        if has_no_cwd && words.iter().any(is_wrong) {
            let command = config.command.clone();
            wrong.push(WrongOption { setting, command });
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::{Cli, version_in, wrong_options};
    use crate::config::{Autonomy, CliConfig};
    use crate::domain::invocation::Template;
    use crate::domain::quota::QuotaMessage;

    fn config(command: &str, args: Option<&str>, offline_args: Option<&str>) -> CliConfig {
        let template = |text: &str| Template::parse(text).unwrap();
        CliConfig {
            command: command.to_owned(),
            args: args.map(template),
            offline_args: offline_args.map(template),
            quota: QuotaMessage::default(),
            autonomy: Autonomy::Edits,
        }
    }

    fn wrong(config: &CliConfig) -> Vec<String> {
        let wrong = wrong_options(config);
        wrong.iter().map(ToString::to_string).collect()
    }

    /// An option that the CLI does not have is named with the setting and what to do instead.
    #[test]
    fn options_that_the_cli_does_not_have() {
        let rows = [
            ("claude", "--cwd {cwd} -p", true),
            ("/usr/local/bin/claude", "--cwd={cwd} -p", true),
            ("codex", "exec --cwd {cwd} -", true),
            ("claude", "-p --append-system-prompt 'say {role}'", false),
            ("claude", "-p --add-dir {cwd}", false),
            ("windsurf", "--cwd {cwd} -p {prompt}", false),
            ("cursor-agent", "-p {prompt}", false),
        ];
        for (command, args, is_wrong) in rows {
            for (name, config) in [
                ("CLI_ARGS_TEMPLATE", config(command, Some(args), None)),
                (
                    "CLI_OFFLINE_ARGS_TEMPLATE",
                    config(command, None, Some(args)),
                ),
            ] {
                let fix = "has no --cwd: leave it out; the run starts in the repository anyway";
                let wanted = [format!("{name}: {command} {fix}")];
                let wanted = if is_wrong { &wanted[..] } else { &[] };
                assert_eq!(wrong(&config), wanted, "{command} {args}");
            }
        }
        let both = config("claude", Some("--cwd {cwd} -p"), Some("--cwd x"));
        assert_eq!(wrong(&both).len(), 2, "all at once");
    }

    /// For every `CLI_AUTONOMY`, the default arguments contain no wrong option. Only Cursor's default takes the prompt
    /// as an argument.
    #[test]
    fn the_defaults_can_work() {
        for command in [
            "claude",
            "codex",
            "opencode",
            "gemini",
            "cursor-agent",
            "else",
        ] {
            for autonomy in [Autonomy::Edits, Autonomy::Commands, Autonomy::All] {
                let usual = CliConfig {
                    autonomy,
                    ..config(command, None, None)
                };
                let cli = Cli::from_config(&usual);
                let args = cli.args(false).clone();
                assert_eq!(
                    args.prompt_on_stdin(),
                    command != "cursor-agent",
                    "{command}"
                );
                assert_eq!(cli.is_known(), command != "else");
                let given = CliConfig {
                    args: Some(args),
                    ..usual
                };
                assert_eq!(
                    wrong(&given),
                    Vec::<String>::new(),
                    "{command} {autonomy:?}"
                );
            }
        }
    }

    /// The version is the first word that looks like one.
    #[test]
    fn versions() {
        for (output, version) in [
            ("2.1.197 (Claude Code)\n", Some("2.1.197")),
            ("codex-cli 0.169.0\n", Some("0.169.0")),
            ("v1.2.3-beta\n", Some("1.2.3-beta")),
            ("no version\n", None),
            ("", None),
        ] {
            assert_eq!(version_in(output).as_deref(), version, "{output}");
        }
    }
}
