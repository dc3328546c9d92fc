//! For bash, by its own means: the package bash-completion is not needed.

use super::{Flag, common, own, words};
use crate::commands::usage::COMMANDS;
use crate::config::settings::Kind;

const HEAD: &str = r#"# Completions of wf0-agent for bash. Install:
#   wf0-agent completions bash >~/.local/share/bash-completion/completions/wf0-agent
# or, for one shell: source <(wf0-agent completions bash)

# Names may have spaces in them. The bash of macOS knows neither mapfile nor compopt.
_wf0_agent_files() {
    local IFS=$'\n'
    COMPREPLY=($(compgen "$1" -- "$2"))
    compopt -o filenames 2>/dev/null
}

_wf0_agent() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command= operands=0 at name
    # bash takes --name=value for three words.
    if [[ $word == = ]]; then
        word=
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((at = 1; at < COMP_CWORD; at++)); do
        name=${COMP_WORDS[at]}
        case $name in
            @valued@)
                [[ ${COMP_WORDS[at + 1]} == = ]] && ((at++))
                ((at++)) ;;
            -* | =) ;;
            *)
                if [[ -z $command ]]; then command=$name; else ((operands++)); fi ;;
        esac
    done
    COMPREPLY=()
    case $before in
"#;

pub fn script() -> String {
    let flags = common();
    let valued: Vec<_> = flags
        .iter()
        .filter(|flag| flag.value.is_some())
        .map(|flag| format!("--{}", flag.name))
        .collect();
    let mut text = HEAD.replace("@valued@", &valued.join(" | "));
    for flag in &flags {
        if let Some((_, kind)) = flag.value {
            text += &format!("        --{}) {}; return ;;\n", flag.name, reply(kind));
        }
    }
    let names = |flags: &[Flag]| {
        let short = |flag: &Flag| {
            flag.short
                .map(|short| format!(" -{short}"))
                .unwrap_or_default()
        };
        flags
            .iter()
            .map(|flag| format!("--{}{}", flag.name, short(flag)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    text += &format!(
        "    esac\n    if [[ $word == -* ]]; then\n        local flags='{}'\n",
        names(&flags)
    );
    text += "        case $command in\n";
    for command in COMMANDS {
        // Without a command it is the first.
        let word = if command.name == COMMANDS[0].name {
            format!("'' | {}", command.word)
        } else {
            command.word.into()
        };
        text += &format!(
            "            {word}) flags+=' {}' ;;\n",
            names(&own(command))
        );
    }
    text += "        esac\n        COMPREPLY=($(compgen -W \"$flags\" -- \"$word\"))\n        return\n    fi\n";
    text += "    case $command:$operands in\n";
    text += &format!(
        "        :0) COMPREPLY=($(compgen -W '{}' -- \"$word\")) ;;\n",
        words()
    );
    for command in COMMANDS {
        for (at, operand) in command.operands.iter().enumerate() {
            text += &format!(
                "        {}:{at}) {} ;;\n",
                command.word,
                reply(operand.kind)
            );
        }
    }
    text + "    esac\n}\ncomplete -F _wf0_agent wf0-agent\n"
}

fn reply(kind: Kind) -> String {
    match kind {
        Kind::Text => ":".to_owned(),
        Kind::File => "_wf0_agent_files -f \"$word\"".to_owned(),
        Kind::Folder => "_wf0_agent_files -d \"$word\"".to_owned(),
        Kind::Program => "COMPREPLY=($(compgen -c -- \"$word\"))".to_owned(),
        Kind::OneOf(choices) => format!(
            "COMPREPLY=($(compgen -W '{}' -- \"$word\"))",
            choices.join(" ")
        ),
    }
}
