//! Arguments into a [`Line`]: which command, with what. What there is, is in `usage`.

use std::ffi::OsString;

use lexopt::prelude::*;

use super::usage::{COMMANDS, Command, ENV_FILE, HELP, Name, Switch};
use super::{demo, service};
use crate::config::settings::{self, Given, Kind};

#[derive(Debug)]
pub enum Line {
    Command(Request),
    /// About one command, or all.
    Help(Option<&'static Command>),
    Version,
    /// The demo's built-in CLI; not for people.
    StandIn,
    /// The daemon, started by Windows' service manager; not for people.
    ByManager(Given),
}

#[derive(Debug)]
pub struct Request {
    pub name: Name,
    operands: Vec<OsString>,
    switches: Vec<&'static str>,
    pub settings: Given,
}

impl Request {
    pub fn has(&self, switch: &str) -> bool {
        self.switches.contains(&switch)
    }

    pub fn operand(&self, at: usize) -> Option<&OsString> {
        self.operands.get(at)
    }

    /// An operand that the definition demands, and that is text.
    pub fn text(&self, at: usize) -> &str {
        self.operand(at)
            .and_then(|operand| operand.to_str())
            .unwrap_or_default()
    }
}

pub fn parse(mut args: lexopt::Parser) -> Result<Line, lexopt::Error> {
    let mut command: Option<&'static Command> = None;
    let (mut operands, mut given) = (Vec::new(), Vec::new());
    let mut settings = Given::default();
    let mut is_by_manager = false;
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Line::Help(command)),
            Short('V') | Long("version") => return Ok(Line::Version),
            Long(ENV_FILE) => settings.env_file = Some(args.value()?.into()),
            Short(short) => match switches().find(|switch| switch.short == Some(short)) {
                Some(switch) => given.push(switch.name),
                None => return Err(Short(short).unexpected()),
            },
            Long(flag) => {
                if let Some(switch) = switches().find(|switch| switch.name == flag) {
                    given.push(switch.name);
                    continue;
                }
                let name = settings::name_of_flag(flag);
                match settings::find(&name) {
                    Some(setting) if setting.flag => {
                        settings.flags.insert(name, args.value()?);
                    }
                    Some(_) => {
                        return Err(format!(
                            "{name} is a secret and has no flag: use the environment"
                        )
                        .into());
                    }
                    None => return Err(Long(flag).unexpected()),
                }
            }
            Value(word) if command.is_none() => match word.to_str() {
                Some(HELP) => return help(args),
                Some(demo::STAND_IN) => return Ok(Line::StandIn),
                Some(service::BY_MANAGER) => is_by_manager = true,
                word => command = Some(find(word.unwrap_or_default())?),
            },
            Value(word) => operands.push(word),
        }
    }
    let command = command.unwrap_or(&COMMANDS[0]);
    check_operands(command, &operands)?;
    check_switches(command, &given)?;
    if is_by_manager {
        return Ok(Line::ByManager(settings));
    }
    Ok(Line::Command(Request {
        name: command.name,
        operands,
        switches: given,
        settings,
    }))
}

/// `wf0-agent help [COMMAND]`
fn help(mut args: lexopt::Parser) -> Result<Line, lexopt::Error> {
    while let Some(arg) = args.next()? {
        match arg {
            Value(word) if word != HELP => return Ok(Line::Help(Some(find(&word.string()?)?))),
            _ => {}
        }
    }
    Ok(Line::Help(None))
}

fn find(word: &str) -> Result<&'static Command, lexopt::Error> {
    let found = COMMANDS.iter().find(|command| command.word == word);
    found.ok_or_else(|| format!("unknown command {word:?}").into())
}

fn switches() -> impl Iterator<Item = &'static Switch> {
    COMMANDS.iter().flat_map(|command| command.switches)
}

fn check_operands(command: &Command, given: &[OsString]) -> Result<(), lexopt::Error> {
    for (at, operand) in command.operands.iter().enumerate() {
        match (given.get(at), operand.kind, operand.missing) {
            (None, _, Some(missing)) => return Err(missing.into()),
            (Some(word), Kind::OneOf(choices), _)
                if !choices.iter().any(|choice| word == choice) =>
            {
                return Err(format!(
                    "{}: {word:?} is not one of {}",
                    operand.name,
                    choices.join(", ")
                )
                .into());
            }
            (Some(word), Kind::Text, _) if word.to_str().is_none() => {
                return Err(lexopt::Error::NonUnicodeValue(word.clone()));
            }
            _ => {}
        }
    }
    match given.get(command.operands.len()) {
        Some(word) => Err(Value(word.clone()).unexpected()),
        None => Ok(()),
    }
}

fn check_switches(command: &Command, given: &[&str]) -> Result<(), lexopt::Error> {
    for name in given {
        if !command.has(name) {
            let owners: Vec<_> = COMMANDS
                .iter()
                .filter(|owner| owner.has(name))
                .map(|owner| owner.word)
                .collect();
            return Err(format!(
                "--{name} belongs to {}, not to {}",
                owners.join(" and "),
                command.word
            )
            .into());
        }
    }
    let alone: Vec<_> = command
        .switches
        .iter()
        .filter(|switch| switch.alone)
        .map(|switch| switch.name)
        .collect();
    if alone.iter().filter(|name| given.contains(name)).count() > 1 {
        let all: Vec<_> = alone.iter().map(|name| format!("--{name}")).collect();
        return Err(format!("{} takes one of {}", command.word, all.join(", ")).into());
    }
    Ok(())
}
