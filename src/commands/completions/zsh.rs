//! For zsh, by its `_arguments`.

use super::{Flag, common, own};
use crate::commands::usage::{COMMANDS, Command, Operand};
use crate::config::settings::Kind;

const HEAD: &str = "\
#compdef wf0-agent
# Completions of wf0-agent for zsh. Install into a folder of $fpath, such as:
#   wf0-agent completions zsh >/usr/local/share/zsh/site-functions/_wf0-agent
# or, for one shell, after compinit: source <(wf0-agent completions zsh)

_wf0-agent() {
    local -a common
    local context state state_descr line
    typeset -A opt_args
    common=(
";

const MIDDLE: &str = "    )
    _arguments -C -A '-*' $common @first@ '1: :->command' '*:: :->rest' && return
    case $state in
        command)
            local -a commands
            commands=(
";

pub fn script() -> String {
    let mut text = HEAD.to_owned();
    text.extend(
        common()
            .iter()
            .flat_map(specs)
            .map(|spec| format!("        {spec}\n")),
    );
    // Without a command it is the first.
    let first: Vec<_> = own(&COMMANDS[0]).iter().flat_map(specs).collect();
    text += &MIDDLE.replace("@first@", &first.join(" "));
    for Command { word, brief, .. } in COMMANDS {
        text += &format!(
            "                {}\n",
            quoted(&format!("{word}:{}", brief.replace(':', "\\:")))
        );
    }
    text += "            )\n            _describe command commands ;;\n        rest)\n            case $words[1] in\n";
    for command in COMMANDS {
        let flags = own(command).iter().flat_map(specs).collect::<Vec<_>>();
        let operands = command
            .operands
            .iter()
            .enumerate()
            .map(|(at, operand)| spec_of(at + 1, operand));
        let own: Vec<_> = flags.into_iter().chain(operands).collect();
        text += &format!(
            "                {}) _arguments $common {} ;;\n",
            command.word,
            own.join(" ")
        );
    }
    // Installed as a file it is the function's body; sourced, it has to be announced.
    text + "            esac ;;
    esac
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _wf0-agent \"$@\"
else
    compdef _wf0-agent wf0-agent
fi
"
}

/// One for the long name, one for the short.
fn specs(flag: &Flag) -> Vec<String> {
    let about = flag.about.replace('[', "\\[").replace(']', "\\]");
    let value = flag
        .value
        .map(|(name, kind)| format!(":{name}:{}", action(kind)))
        .unwrap_or_default();
    let equals = if flag.value.is_some() { "=" } else { "" };
    let long = quoted(&format!("--{}{equals}[{about}]{value}", flag.name));
    let short = flag
        .short
        .map(|short| quoted(&format!("-{short}[{about}]")));
    [long].into_iter().chain(short).collect()
}

fn spec_of(position: usize, operand: &Operand) -> String {
    quoted(&format!(
        "{position}:{}:{}",
        operand.name,
        action(operand.kind)
    ))
}

fn action(kind: Kind) -> String {
    match kind {
        Kind::Text => " ".to_owned(),
        Kind::File => "_files".to_owned(),
        Kind::Folder => "_files -/".to_owned(),
        Kind::Program => "_command_names -e".to_owned(),
        Kind::OneOf(choices) => format!("({})", choices.join(" ")),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
