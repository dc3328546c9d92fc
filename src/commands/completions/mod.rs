//! `wf0-agent completions`: what each shell needs to complete the command line, made from the tables that arguments and
//! settings are read by. A file for each shell, for each has a language of its own.

mod bash;
mod fish;
mod powershell;
mod zsh;

use super::usage::{COMMANDS, Command, GENERAL, HELP};
use crate::config::settings::{Kind, SETTINGS, flag_of_name};

pub fn script(shell: &str) -> String {
    match shell {
        "bash" => bash::script(),
        "zsh" => zsh::script(),
        "fish" => fish::script(),
        _ => powershell::script(),
    }
}

/// An option as a shell sees it.
struct Flag {
    /// Without the dashes.
    name: String,
    short: Option<char>,
    /// Its value's name and kind; `None`: it takes none.
    value: Option<(&'static str, Kind)>,
    about: &'static str,
}

/// Those that go with every command: the general ones, and one for each setting.
fn common() -> Vec<Flag> {
    let general = GENERAL.iter().map(|general| Flag {
        name: general.name.to_owned(),
        short: general.short,
        value: general.value.map(|name| (name, Kind::File)),
        about: general.about,
    });
    let settings = SETTINGS
        .iter()
        .filter(|setting| setting.flag && !setting.name.contains('<'))
        .map(|setting| Flag {
            name: flag_of_name(setting.name),
            short: None,
            value: Some((setting.value, setting.kind)),
            about: first_words(setting.about),
        });
    general.chain(settings).collect()
}

/// Those of one command.
fn own(command: &Command) -> Vec<Flag> {
    let own = command.switches.iter();
    own.map(|switch| Flag {
        name: switch.name.to_owned(),
        short: switch.short,
        value: None,
        about: switch.about,
    })
    .collect()
}

/// A completion has one line: what comes after the first thought is for `--help`.
fn first_words(about: &str) -> &str {
    about.split([';', '(']).next().unwrap_or(about).trim_end()
}

fn words() -> String {
    COMMANDS
        .iter()
        .map(|command| command.word)
        .chain([HELP])
        .collect::<Vec<_>>()
        .join(" ")
}
