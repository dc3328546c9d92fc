//! What can be said on the command line: the one definition that arguments are read by, and that `--help`, the man page
//! and the shells' completions are made from. Settings are in a table of their own, `config/settings.rs`.

use crate::config::settings::Kind;

/// Which command. What it takes is in [`COMMANDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Run,
    Status,
    Show,
    Logs,
    Apply,
    Doctor,
    Service,
    Demo,
    Completions,
    Man,
}

#[derive(Debug)]
pub struct Command {
    pub name: Name,
    pub word: &'static str,
    pub operands: &'static [Operand],
    pub switches: &'static [Switch],
    /// A few words, for the shell.
    pub brief: &'static str,
    pub about: &'static str,
}

#[derive(Debug)]
pub struct Operand {
    pub name: &'static str,
    pub kind: Kind,
    /// What is said to whoever leaves it out; `None`: it may be left out.
    pub missing: Option<&'static str>,
}

/// An option without a value.
#[derive(Debug)]
pub struct Switch {
    pub name: &'static str,
    pub short: Option<char>,
    pub about: &'static str,
    /// Of those of one command that are `alone` only one can be given.
    pub alone: bool,
}

const fn switch(name: &'static str, about: &'static str) -> Switch {
    Switch {
        name,
        short: None,
        about,
        alone: false,
    }
}

const fn alone(name: &'static str, about: &'static str) -> Switch {
    Switch {
        alone: true,
        ..switch(name, about)
    }
}

const TICKET: Operand = Operand {
    name: "TICKET",
    kind: Kind::Text,
    missing: Some("which ticket? Give its id, or a run's"),
};
const JSON: Switch = switch("json", "as JSON, for programs");

/// Every command. The first is the one that is meant where none is named.
pub const COMMANDS: &[Command] = &[
    Command {
        name: Name::Run,
        word: "run",
        operands: &[],
        switches: &[Switch {
            short: Some('q'),
            ..switch("quiet", "only warnings and errors, as with LOG_LEVEL=warn")
        }],
        brief: "connect to the backend and take tickets",
        about: "Connects to the backend and takes tickets until stopped.",
    },
    Command {
        name: Name::Status,
        word: "status",
        operands: &[],
        switches: &[
            JSON,
            switch(
                "watch",
                "again whenever something has changed, until Ctrl-C",
            ),
        ],
        brief: "what the daemon is doing",
        about: "Whether a daemon runs and is connected, its tickets under way, the last results and the CLI's quota. Needs \
                STATE_DIR only.",
    },
    Command {
        name: Name::Show,
        word: "show",
        operands: &[TICKET],
        switches: &[
            alone("prompt", "the prompt alone"),
            alone("stdout", "what was sent as stdout alone"),
            alone("diff", "the diff alone"),
        ],
        brief: "what became of a ticket",
        about: "What became of a ticket: how it ended, its prompt, what was sent as stdout, its diff. TICKET is a ticket's \
                id or a run's. Needs STATE_DIR only; a daemon may be running.",
    },
    Command {
        name: Name::Logs,
        word: "logs",
        operands: &[TICKET],
        switches: &[switch("follow", "until its run has ended")],
        brief: "all that the CLI printed for a ticket",
        about: "All that the CLI printed for a ticket, as it printed it. Needs STATE_DIR only; a daemon may be running.",
    },
    Command {
        name: Name::Apply,
        word: "apply",
        operands: &[
            TICKET,
            Operand {
                name: "CHECKOUT",
                kind: Kind::Folder,
                missing: None,
            },
        ],
        switches: &[],
        brief: "apply what a ticket changed to your checkout",
        about: "Applies what a ticket changed in its clone to your checkout, or to CHECKOUT: all of it or nothing. Needs \
                STATE_DIR only; a daemon may be running.",
    },
    Command {
        name: Name::Doctor,
        word: "doctor",
        operands: &[],
        switches: &[
            JSON,
            switch(
                "service",
                "as the installed service sees it: with its PATH and its settings",
            ),
        ],
        brief: "find out what is wrong, and what to do about it",
        about: "Checks settings, git, repositories, CLI, state folder and the way to the backend, and says what to do about \
                what is wrong. Changes nothing; a daemon may be running.",
    },
    Command {
        name: Name::Service,
        word: "service",
        operands: &[Operand {
            name: "ACTION",
            kind: Kind::OneOf(&["install", "uninstall", "status"]),
            missing: Some("do what? install, uninstall or status"),
        }],
        switches: &[
            switch(
                "print",
                "only show the definition and what would be done; changes nothing",
            ),
            switch(
                "system",
                "of the machine, not of this user; Windows, as administrator (on Linux: how root does it)",
            ),
        ],
        brief: "run the daemon in the background, from log-in on",
        about: "Installs the daemon as a service of this user (systemd, launchd, Windows' task scheduler) with the PATH of \
                now, after its settings were tried out; stops and removes it; says whether it runs. Settings are in the \
                file of --env-file, or in wf0-agent/settings in the folder for configuration (~/.config; on Windows \
                %LOCALAPPDATA%\\wf0-agent-program\\settings), for a service has no .env. State and settings stay.",
    },
    Command {
        name: Name::Demo,
        word: "demo",
        operands: &[],
        switches: &[switch(
            "cli",
            "with your configured CLI instead of the built-in stand-in; uses its quota",
        )],
        brief: "one ticket from start to end, without network or account",
        about: "Shows one ticket from start to end on this machine, without network or account.",
    },
    Command {
        name: Name::Completions,
        word: "completions",
        operands: &[Operand {
            name: "SHELL",
            kind: Kind::OneOf(&["bash", "zsh", "fish", "powershell"]),
            missing: Some("for which shell? bash, zsh, fish or powershell"),
        }],
        switches: &[],
        brief: "print completions for a shell",
        about: "Prints completions for that shell; the text begins with how to install it.",
    },
    Command {
        name: Name::Man,
        word: "man",
        operands: &[],
        switches: &[],
        brief: "print the man page",
        about: "Prints the man page: wf0-agent man | man -l -",
    },
];

/// An option that goes with every command.
pub struct General {
    pub name: &'static str,
    pub short: Option<char>,
    /// `None`: it takes no value.
    pub value: Option<&'static str>,
    pub about: &'static str,
}

pub const ENV_FILE: &str = "env-file";
/// The same as the option, as a word before the command.
pub const HELP: &str = "help";

pub const GENERAL: &[General] = &[
    General {
        name: ENV_FILE,
        short: None,
        value: Some("FILE"),
        about: "read settings from FILE instead of .env in the working directory",
    },
    General {
        name: "help",
        short: Some('h'),
        value: None,
        about: "this text; after a command, about that command",
    },
    General {
        name: "version",
        short: Some('V'),
        value: None,
        about: "the version",
    },
];

/// What the program says of itself.
pub const BRIEF: &str = "runs WorkForce0 tickets with the coding CLI on your own machine";

/// Exit codes as people read them.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (super::exit::OK, "stopped as asked"),
    (
        super::exit::FAILED,
        "a command other than run failed, doctor found something wrong, or status found no daemon",
    ),
    (super::exit::USAGE, "wrong arguments"),
    (super::exit::INTERNAL, "internal error"),
    (super::exit::LOCKED, "another daemon has the state folder"),
    (
        super::exit::VERSION_REFUSED,
        "protocol version not supported",
    ),
    (super::exit::TOKEN_REJECTED, "token rejected"),
    (super::exit::CONFIG, "wrong settings"),
];

impl Command {
    pub fn has(&self, switch: &str) -> bool {
        self.switches.iter().any(|own| own.name == switch)
    }

    /// `wf0-agent show TICKET [--prompt | --stdout | --diff]`
    pub fn synopsis(&self) -> String {
        let mut words = vec!["wf0-agent".to_owned()];
        words.push(if self.name == COMMANDS[0].name {
            format!("[{}]", self.word)
        } else {
            self.word.to_owned()
        });
        words.extend(
            self.operands
                .iter()
                .map(|operand| match (operand.kind, operand.missing) {
                    (Kind::OneOf(choices), _) => choices.join("|"),
                    (_, Some(_)) => operand.name.to_owned(),
                    (_, None) => format!("[{}]", operand.name),
                }),
        );
        let name = |switch: &Switch| format!("--{}", switch.name);
        let alone: Vec<_> = self
            .switches
            .iter()
            .filter(|switch| switch.alone)
            .map(name)
            .collect();
        if !alone.is_empty() {
            words.push(format!("[{}]", alone.join(" | ")));
        }
        words.extend(
            self.switches
                .iter()
                .filter(|switch| !switch.alone)
                .map(|switch| format!("[{}]", name(switch))),
        );
        words.join(" ")
    }
}
