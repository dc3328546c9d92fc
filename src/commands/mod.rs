//! The command line. Each command's module defines its own operands and flags. This module joins them and adds one flag
//! for each setting. Help, completions and the man page use the same definition.

mod run;
mod style;

#[cfg(feature = "tools")]
mod apply;
#[cfg(feature = "tools")]
mod demo;
#[cfg(feature = "tools")]
mod doctor;
#[cfg(feature = "tools")]
mod past;
#[cfg(feature = "tools")]
pub mod service;
#[cfg(feature = "tools")]
mod show;
#[cfg(feature = "tools")]
mod status;

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};

use crate::config::Given;
use crate::config::settings::{
    self, Fallback, Kind, SETTINGS, Setting, flag_of_name, name_of_flag,
};

/// The exit codes of the process. They follow sysexits(3) if it has a code for the case.
pub mod exit {
    pub const OK: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const INTERNAL: u8 = 70;
    pub const LOCKED: u8 = 75;
    pub const VERSION_REFUSED: u8 = 76;
    pub const TOKEN_REJECTED: u8 = 77;
    pub const CONFIG: u8 = 78;

    pub const MEANINGS: &[(u8, &str)] = &[
        (OK, "stopped as requested"),
        (
            FAILED,
            "a command other than run failed, doctor found an error, or status found no running daemon",
        ),
        (USAGE, "wrong arguments"),
        (INTERNAL, "internal error"),
        (LOCKED, "another daemon uses the state folder"),
        (VERSION_REFUSED, "protocol version not supported"),
        (TOKEN_REJECTED, "token rejected"),
        (CONFIG, "wrong settings"),
    ];
}

/// The definition of a command, and the function that runs the command.
type CommandEntry = (fn() -> Command, fn(&ArgMatches) -> u8);

const DAEMON: &[CommandEntry] = &[
    (run::command, run::run),
    (run::service_command, run::run_as_service),
];

/// The commands for people. Without the feature `tools`, the program is only the daemon. A security review has to read
/// only that part.
#[cfg(feature = "tools")]
const TOOLS: &[CommandEntry] = &[
    (status::command, status::run),
    (show::command, show::run),
    (show::logs_command, show::logs),
    (apply::command, apply::run),
    (doctor::command, doctor::run),
    (service::command, service::run),
    (demo::command, demo::run),
    (demo::stand_in_command, demo::stand_in),
];
#[cfg(not(feature = "tools"))]
const TOOLS: &[CommandEntry] = &[];

/// Help and completions name the time limits of these roles. A command line may name other roles.
const USUAL_ROLES: [&str; 2] = ["dev", "qa"];

pub fn main() -> ExitCode {
    run::hide_memory();
    let args: Vec<OsString> = std::env::args_os().collect();
    let code = match definition(&args).try_get_matches_from(&args) {
        Ok(matches) => dispatch(&matches),
        Err(e) if e.use_stderr() => {
            eprintln!("wf0-agent: {} (see wf0-agent --help)", in_one_line(&e));
            exit::USAGE
        }
        Err(help) => print(&help.to_string()),
    };
    ExitCode::from(code)
}

fn dispatch(matches: &ArgMatches) -> u8 {
    let (name, own) = match matches.subcommand() {
        // `run` gets the matches of the whole line, because --quiet can stand before or after the word `run`.
        None | Some(("run", _)) => ("run", matches),
        Some(chosen) => chosen,
    };
    let chosen = DAEMON
        .iter()
        .chain(TOOLS)
        .find(|(definition, _)| definition().get_name() == name);
    chosen.map_or(exit::USAGE, |(_, run)| run(own))
}

/// Defines the whole command line. Uses `args` only to find the roles in the names of flags.
pub fn definition(args: &[OsString]) -> Command {
    let env_file = Arg::new("env-file")
        .long("env-file")
        .value_name("FILE")
        .help("Read settings from FILE instead of .env in the working directory")
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .global(true);
    let given: Vec<_> = args.iter().filter_map(name_in).collect();
    let mut flags = Vec::new();
    for setting in SETTINGS.iter().filter(|setting| setting.has_flag()) {
        // clap has no flags whose names depend on a role.
        let usual = USUAL_ROLES.map(settings::ticket_timeout);
        for name in setting.names(usual.into_iter().chain(given.iter().cloned())) {
            // clap copies a global flag into each command, which takes time at the daemon's start.
            let is_global = args.is_empty() || given.contains(&name);
            flags.push(setting_flag(setting, name).global(is_global));
        }
    }
    // The help of a command lists only its own flags. The many settings would hide them.
    let hidden = flags.iter().map(|flag| flag.clone().hide_long_help(true));
    let commands = DAEMON.iter().chain(TOOLS).map(|(definition, _)| {
        let command = definition().after_help("Each setting is a flag too: see wf0-agent --help.");
        // The daemon starts faster without hundreds of flags of commands that are not used.
        match args.is_empty() || args.iter().any(|arg| arg == command.get_name()) {
            true => command.args(hidden.clone()),
            false => command,
        }
    });
    let secrets = SETTINGS.iter().filter(|setting| !setting.has_flag());
    let secrets: String = secrets
        .map(|secret| format!("  {}\n          {}\n\n", secret.name, secret.about))
        .collect();
    let codes: Vec<_> = exit::MEANINGS
        .iter()
        .map(|(code, meaning)| format!("  {code:>2}  {meaning}"))
        .collect();
    let codes = format!("Exit codes:\n{}", codes.join("\n"));
    Command::new("wf0-agent")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .after_help("Each setting is a flag too: see --help.")
        .after_long_help(format!(
            "A setting is a flag, a variable of the environment, or a line NAME=VALUE in .env. The first of them that \
             is not empty counts.\n\nSettings without a flag:\n{secrets}\
             NO_COLOR in the environment switches colours off.\n\n{codes}"
        ))
        .args_override_self(true)
        .args([env_file, run::quiet()])
        .subcommands(commands)
        .args(flags)
}

/// The settings that the command line gives.
pub fn given(matches: &ArgMatches) -> Given {
    let names = matches
        .ids()
        .map(clap::Id::as_str)
        .filter(|id| settings::find(id).is_some());
    let flags = names
        .filter_map(|name| Some((name.to_owned(), matches.get_one::<OsString>(name)?.clone())));
    Given {
        flags: flags.collect(),
        env_file: matches.get_one::<PathBuf>("env-file").cloned(),
    }
}

/// A flag without a value.
fn flag(name: &'static str, about: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(about)
        .action(ArgAction::SetTrue)
}

/// The name of the setting that an argument such as `--agent-name` or `--agent-name=x` may stand for.
fn name_in(arg: &OsString) -> Option<String> {
    let flag = arg.to_str()?.strip_prefix("--")?.split('=').next();
    flag.map(name_of_flag)
}

fn setting_flag(setting: &'static Setting, name: String) -> Arg {
    let mut facts = format!("[env: {name}]");
    match setting.fallback {
        Fallback::Required => facts += " [required]",
        Fallback::Nothing => {}
        Fallback::Value(default) | Fallback::Computed(default) => {
            facts += &format!(" [default: {default}]")
        }
    }
    if let Kind::Number(range) = &setting.kind {
        facts += &format!(" [range: {} to {}]", range.start(), range.end());
    }
    let arg = Arg::new(name.clone())
        .long(flag_of_name(&name))
        .value_name(setting.value)
        .help(setting.about)
        .long_help(format!("{}\n{facts}", setting.about))
        .help_heading("Settings")
        .hide_short_help(true)
        // A value may begin with a dash: the arguments of the CLI do.
        .allow_hyphen_values(true);
    let hint = match setting.kind {
        Kind::Choice(words) => return arg.value_parser(Choices(words)),
        Kind::Text | Kind::Number(_) | Kind::Secret => ValueHint::Other,
        Kind::File => ValueHint::FilePath,
        Kind::Folder => ValueHint::DirPath,
        Kind::Program => ValueHint::CommandName,
    };
    arg.value_parser(value_parser!(OsString)).value_hint(hint)
}

/// Offers the choices to shells, but accepts any value. `Config::load` reports a wrong value together with all other
/// errors.
#[derive(Clone)]
struct Choices(&'static [&'static str]);

impl TypedValueParser for Choices {
    type Value = OsString;

    fn parse_ref(
        &self,
        _: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<OsString, clap::Error> {
        Ok(value.to_owned())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

/// The error in one line, as a log needs it. clap's own text has several paragraphs.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraphs = text.trim_start_matches("error: ").split("\n\n");
    let own =
        paragraphs.filter(|text| !text.starts_with("Usage:") && !text.starts_with("For more"));
    let lines: Vec<_> = own
        .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    lines.join("; ")
}

fn print(text: &str) -> u8 {
    let mut to = io::stdout();
    match ignore_closed_pipe(to.write_all(text.as_bytes()).and_then(|()| to.flush())) {
        Ok(()) => exit::OK,
        Err(e) => fail(&format!("standard output: {e}"), exit::FAILED),
    }
}

fn fail(why: &str, code: u8) -> u8 {
    eprintln!("wf0-agent: {why}");
    code
}

/// Treats a closed pipe as success: a program that closes it early has read enough.
fn ignore_closed_pipe(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
