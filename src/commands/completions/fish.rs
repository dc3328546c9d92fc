//! For fish.

use super::{Flag, common, own, words};
use crate::commands::usage::COMMANDS;
use crate::config::settings::Kind;

const HEAD: &str = "\
# Completions of wf0-agent for fish. Install:
#   wf0-agent completions fish >~/.config/fish/completions/wf0-agent.fish

complete -c wf0-agent -f
";

pub fn script() -> String {
    let mut text = HEAD.to_owned();
    let no_command = format!("not __fish_seen_subcommand_from {}", words());
    for command in COMMANDS {
        text += &format!(
            "complete -c wf0-agent -n '{no_command}' -a {} -d {}\n",
            command.word,
            quoted(command.brief)
        );
    }
    for flag in common() {
        text += &line(&flag, None);
    }
    for command in COMMANDS {
        let named = format!("__fish_seen_subcommand_from {}", command.word);
        // Without a command it is the first.
        let is_first = command.name == COMMANDS[0].name;
        let condition = if is_first {
            format!("{named}; or {no_command}")
        } else {
            named
        };
        for flag in own(command) {
            text += &line(&flag, Some(&condition));
        }
        for operand in command.operands {
            text += &format!(
                "complete -c wf0-agent -n '{condition}' {}\n",
                value(operand.kind)
            );
        }
    }
    text
}

fn line(flag: &Flag, condition: Option<&str>) -> String {
    let condition = condition
        .map(|condition| format!(" -n '{condition}'"))
        .unwrap_or_default();
    let short = flag
        .short
        .map(|short| format!(" -s {short}"))
        .unwrap_or_default();
    let value = flag
        .value
        .map(|(_, kind)| format!(" -r {}", value(kind)))
        .unwrap_or_default();
    format!(
        "complete -c wf0-agent{condition} -l {}{short}{value} -d {}\n",
        flag.name,
        quoted(flag.about)
    )
}

fn value(kind: Kind) -> String {
    match kind {
        Kind::Text => "-f".to_owned(),
        Kind::File => "-F".to_owned(),
        Kind::Folder => "-f -a '(__fish_complete_directories)'".to_owned(),
        Kind::Program => "-f -a '(__fish_complete_command)'".to_owned(),
        Kind::OneOf(choices) => format!("-f -a '{}'", choices.join(" ")),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}
