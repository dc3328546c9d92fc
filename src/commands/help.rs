//! `--help`: complete, from the same tables that arguments and settings are read by.

use super::usage::{BRIEF, COMMANDS, Command, EXIT_CODES, GENERAL};
use crate::config::settings::{SETTINGS, Setting, flag_of_name};

const WIDTH: usize = 110;

/// About one command, or about everything.
pub fn text(command: Option<&Command>) -> String {
    match command {
        Some(command) => about(command),
        None => everything(),
    }
}

fn everything() -> String {
    let mut text = format!("wf0-agent {BRIEF}.\n\nUsage:\n");
    for command in COMMANDS {
        text += &format!("  {}\n      {}\n", command.synopsis(), command.brief);
    }
    text += "\n  wf0-agent COMMAND --help tells more about a command.\n\nOptions:\n";
    text += &general();
    text +=
        "\nSettings: as a flag, in the environment or in .env, the first that is there counts.\n";
    SETTINGS
        .iter()
        .for_each(|setting| text += &describe(setting));
    text += "\nNO_COLOR in the environment: no colours at a terminal.\n\n";
    let codes: Vec<_> = EXIT_CODES
        .iter()
        .map(|(code, meaning)| format!("{code} {meaning}"))
        .collect();
    text + &wrap(&format!("Exit codes: {}.", codes.join(" · ")))
}

fn about(command: &Command) -> String {
    let mut text = format!(
        "Usage:\n  {}\n\n{}",
        command.synopsis(),
        wrap(command.about)
    );
    text += "\nOptions:\n";
    for switch in command.switches {
        text += &option(switch.name, switch.short, None, switch.about);
    }
    text += &general();
    text + "\nSettings can be given as flags too: wf0-agent --help lists them.\n"
}

fn general() -> String {
    GENERAL
        .iter()
        .map(|general| option(general.name, general.short, general.value, general.about))
        .collect()
}

fn option(name: &str, short: Option<char>, value: Option<&str>, about: &str) -> String {
    let short = short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    let value = value.map(|value| format!(" {value}")).unwrap_or_default();
    format!("  {short}{:<22} {about}\n", format!("--{name}{value}"))
}

fn describe(setting: &Setting) -> String {
    let Setting {
        name,
        value,
        default,
        about,
        flag,
        ..
    } = setting;
    let flag = if *flag {
        format!("\n      --{} {value}", flag_of_name(name))
    } else {
        String::new()
    };
    let default = match *default {
        "" => String::new(),
        "required" => " (required)".to_owned(),
        default => format!(" (default: {default})"),
    };
    format!("\n  {name}={value}{flag}\n      {about}{default}\n")
}

/// In lines that a terminal shows whole.
fn wrap(text: &str) -> String {
    let (mut wrapped, mut width) = (String::new(), 0);
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if width > 0 {
            let fits = width + 1 + len <= WIDTH;
            wrapped.push(if fits { ' ' } else { '\n' });
            width = if fits { width + 1 } else { 0 };
        }
        wrapped += word;
        width += len;
    }
    wrapped + "\n"
}
