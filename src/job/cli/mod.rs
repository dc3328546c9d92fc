//! What is known of each coding CLI: its name on the wire and how it is called where the user does not say.

pub mod find;

use std::path::Path;

use crate::config::{Autonomy, CliConfig};
use crate::domain::quota_message::QuotaMessage;
use crate::domain::template::Template;

/// One CLI's row. The prompt goes to standard input wherever that works: as an argument it would be limited.
struct Known {
    /// The file name of the program, without an ending.
    program: &'static str,
    name: &'static str,
    edits: &'static str,
    commands: &'static str,
    all: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        program: "claude",
        name: "claude-code",
        edits: "-p --permission-mode acceptEdits",
        commands: "-p --permission-mode acceptEdits --allowedTools Bash",
        all: "-p --permission-mode bypassPermissions",
    },
    Known {
        program: "codex",
        name: "codex",
        edits: "exec -s workspace-write --skip-git-repo-check -",
        commands: "exec -s workspace-write --skip-git-repo-check -",
        all: "exec --dangerously-bypass-approvals-and-sandbox --skip-git-repo-check -",
    },
    Known { program: "opencode", name: "opencode", edits: "run", commands: "run", all: "run --auto" },
    Known {
        program: "gemini",
        name: "gemini",
        edits: "--skip-trust --approval-mode auto_edit -p ''",
        commands: "--skip-trust -y -p ''",
        all: "--skip-trust -y -p ''",
    },
    Known {
        program: "cursor-agent",
        name: "cursor",
        edits: "--trust --force -p -- {prompt}",
        commands: "--trust --force -p -- {prompt}",
        all: "--trust --force -p -- {prompt}",
    },
];

/// The CLI as it will be called.
#[derive(Debug, Clone)]
pub struct Cli {
    pub command: String,
    /// The subscription's name on the wire.
    pub name: String,
    args: Template,
    offline_args: Option<Template>,
    pub quota: QuotaMessage,
}

impl Cli {
    /// The user's own arguments, else what is usual for the program. One that is not known gets the prompt on
    /// standard input and no arguments.
    pub fn from_config(config: &CliConfig) -> Self {
        let stem = Path::new(&config.command).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let known = KNOWN.iter().find(|known| known.program.eq_ignore_ascii_case(stem));
        let usual = known.map_or("", |known| match config.autonomy {
            Autonomy::Edits => known.edits,
            Autonomy::Commands => known.commands,
            Autonomy::All => known.all,
        });
        let args = config.args.clone().unwrap_or_else(|| match Template::parse(usual) {
            Ok(template) => template,
            Err(e) => panic!("the table of CLIs holds {usual:?}: {e}"),
        });
        let name = known.map_or(stem, |known| known.name).to_owned();
        let offline_args = config.offline_args.clone();
        Self { command: config.command.clone(), name, args, offline_args, quota: config.quota.clone() }
    }

    /// For a run that starts now; `offline`: while the backend cannot be reached.
    pub fn args(&self, offline: bool) -> &Template {
        self.offline_args.as_ref().filter(|_| offline).unwrap_or(&self.args)
    }
}
