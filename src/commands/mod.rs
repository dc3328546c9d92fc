//! The command line: which command, with which flags.

mod apply;
mod demo;
mod doctor;
mod help;
mod logs;
mod past;
mod run;
mod show;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::prelude::*;

use crate::config::settings;
use show::Part;

/// See SETTINGS.md; the numbers of sysexits(3) where it has one.
pub mod exit {
    pub const OK: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const INTERNAL: u8 = 70;
    pub const LOCKED: u8 = 75;
    pub const VERSION_REFUSED: u8 = 76;
    pub const TOKEN_REJECTED: u8 = 77;
    pub const CONFIG: u8 = 78;
}

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run,
    Apply {
        ticket: Option<String>,
        checkout: Option<PathBuf>,
    },
    Demo {
        own_cli: bool,
    },
    Doctor {
        json: bool,
    },
    Show {
        ticket: Option<String>,
        only: Option<Part>,
    },
    Logs {
        ticket: Option<String>,
        follow: bool,
    },
    /// The demo's built-in CLI; not for people.
    StandIn,
    Help,
    Version,
}

#[derive(Debug)]
struct Line {
    command: Command,
    flags: HashMap<String, OsString>,
    env_file: Option<PathBuf>,
}

pub fn main() -> ExitCode {
    run::hide_memory();
    let code = match parse(lexopt::Parser::from_env()) {
        Err(e) => {
            eprintln!("wf0-agent: {e} (see wf0-agent --help)");
            exit::USAGE
        }
        Ok(line) => match line.command {
            Command::Help => help::print(),
            Command::Version => {
                // Whoever closes the pipe early has read enough.
                let _ = writeln!(std::io::stdout(), "wf0-agent {}", env!("CARGO_PKG_VERSION"));
                exit::OK
            }
            Command::StandIn => demo::stand_in(),
            Command::Apply { ticket, checkout } => {
                apply::run(&ticket.unwrap_or_default(), checkout, line.flags, line.env_file)
            }
            Command::Demo { own_cli } => demo::run(own_cli, line.flags, line.env_file),
            Command::Show { ticket, only } => show::run(&ticket.unwrap_or_default(), only, line.flags, line.env_file),
            Command::Logs { ticket, follow } => {
                logs::run(&ticket.unwrap_or_default(), follow, line.flags, line.env_file)
            }
            Command::Doctor { json } => doctor::run(json, line.flags, line.env_file),
            Command::Run => run::run(line.flags, line.env_file),
        },
    };
    ExitCode::from(code)
}

fn parse(mut args: lexopt::Parser) -> Result<Line, lexopt::Error> {
    let mut line = Line { command: Command::Run, flags: HashMap::new(), env_file: None };
    let mut named = false;
    let mut switches = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Line { command: Command::Help, ..line }),
            Short('V') | Long("version") => return Ok(Line { command: Command::Version, ..line }),
            Long("env-file") => line.env_file = Some(args.value()?.into()),
            Long(flag) if SWITCHES.iter().any(|(switch, _)| *switch == flag) => {
                switches.extend(SWITCHES.iter().find(|(switch, _)| *switch == flag));
            }
            Long(flag) => {
                let name = settings::name_of_flag(flag);
                match settings::find(&name) {
                    Some(setting) if setting.flag => {
                        line.flags.insert(name, args.value()?);
                    }
                    Some(_) => return Err(format!("{name} is a secret and has no flag: use the environment").into()),
                    None => return Err(Long(flag).unexpected()),
                }
            }
            Value(word) if !named => {
                named = true;
                line.command = match word.to_str() {
                    Some("run") => Command::Run,
                    Some("apply") => Command::Apply { ticket: None, checkout: None },
                    Some("demo") => Command::Demo { own_cli: false },
                    Some("show") => Command::Show { ticket: None, only: None },
                    Some("logs") => Command::Logs { ticket: None, follow: false },
                    Some("doctor") => Command::Doctor { json: false },
                    Some("help") => Command::Help,
                    Some(demo::STAND_IN) => Command::StandIn,
                    _ => return Err(format!("unknown command {word:?}").into()),
                };
            }
            Value(word) => match &mut line.command {
                Command::Apply { ticket: ticket @ None, .. }
                | Command::Show { ticket: ticket @ None, .. }
                | Command::Logs { ticket: ticket @ None, .. } => *ticket = Some(word.string()?),
                Command::Apply { checkout: checkout @ None, .. } => *checkout = Some(word.into()),
                _ => return Err(Value(word).unexpected()),
            },
            other => return Err(other.unexpected()),
        }
    }
    if let Command::Apply { ticket: None, .. }
    | Command::Show { ticket: None, .. }
    | Command::Logs { ticket: None, .. } = line.command
    {
        return Err("which ticket? Give its id, or a run's".into());
    }
    set(line, switches)
}

/// Options without a value, each of one command.
const SWITCHES: &[(&str, &str)] = &[
    ("cli", "demo"),
    ("json", "doctor"),
    ("prompt", "show"),
    ("stdout", "show"),
    ("diff", "show"),
    ("follow", "logs"),
];

fn set(mut line: Line, switches: Vec<&(&str, &str)>) -> Result<Line, lexopt::Error> {
    for (switch, command) in switches {
        match (&mut line.command, *switch) {
            (Command::Demo { own_cli }, "cli") => *own_cli = true,
            (Command::Doctor { json }, "json") => *json = true,
            (Command::Logs { follow, .. }, "follow") => *follow = true,
            (Command::Show { only: only @ None, .. }, "prompt") => *only = Some(Part::Prompt),
            (Command::Show { only: only @ None, .. }, "stdout") => *only = Some(Part::Stdout),
            (Command::Show { only: only @ None, .. }, "diff") => *only = Some(Part::Diff),
            (Command::Show { only: Some(_), .. }, "prompt" | "stdout" | "diff") => {
                return Err("show takes one of --prompt, --stdout and --diff".into());
            }
            _ => return Err(format!("--{switch} belongs to the {command} command").into()),
        }
    }
    Ok(line)
}
