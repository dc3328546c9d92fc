//! What is known of each coding CLI: its name on the wire, how it is called where the user does not say, which
//! arguments cannot work, and how its output is read. One file each; what they have in common is [`Known`].

mod claude;
mod codex;
mod cursor;
pub mod find;
mod gemini;
mod login;
mod opencode;
mod plain;
pub mod reading;
pub mod report;
mod template_check;
pub mod version;

use std::path::Path;

use serde_json::Value;

use crate::config::{Autonomy, CliConfig};
use crate::domain::invocation::Template;
use crate::domain::quota::QuotaMessage;
use login::Login;
pub use login::sign_of_login;
use report::Report;
pub use template_check::check;

/// One CLI.
#[derive(Debug)]
pub struct Known {
    /// The file names of the program, without an ending.
    programs: &'static [&'static str],
    /// On the wire.
    subscription: &'static str,
    args: Args,
    /// Options that people take it to have, and that make it fail.
    has_no: &'static [&'static str],
    /// What it refuses without something else.
    needs: &'static [(&'static str, &'static str)],
    /// Options that take every following word up to the next option.
    variadic: &'static [&'static str],
    /// It takes a leading dash for an option, and the prompt on standard input works too.
    is_safer_with_stdin: bool,
    login: Login,
    /// Whether an output begins with this line only where this CLI printed it.
    is_own: fn(&Value) -> bool,
    read: fn(&Value, &mut Report),
}

/// The usual arguments for each `CLI_AUTONOMY`. They ask for lines of JSON where the CLI has them, for those tell what
/// it does and what it cost. The prompt goes to standard input wherever that works: as an argument it would be limited,
/// and everybody on the machine could read it.
#[derive(Debug)]
struct Args {
    edits: &'static str,
    commands: &'static str,
    all: &'static str,
}

/// Claude comes before Cursor, whose lines it reads too.
const ALL: &[&Known] = &[
    &claude::KNOWN,
    &codex::KNOWN,
    &opencode::KNOWN,
    &gemini::KNOWN,
    &cursor::KNOWN,
];

/// By the program's name.
fn known(command: &str) -> &'static Known {
    let stem = stem(command);
    let is_it = |known: &&&Known| {
        known
            .programs
            .iter()
            .any(|program| program.eq_ignore_ascii_case(stem))
    };
    ALL.iter().find(is_it).copied().unwrap_or(&plain::KNOWN)
}

fn stem(command: &str) -> &str {
    Path::new(command)
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default()
}

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
    /// The user's own arguments, else what is usual for the program.
    pub fn from_config(config: &CliConfig) -> Self {
        let known = known(&config.command);
        let usual = match config.autonomy {
            Autonomy::Edits => known.args.edits,
            Autonomy::Commands => known.args.commands,
            Autonomy::All => known.args.all,
        };
        let args = config
            .args
            .clone()
            .unwrap_or_else(|| match Template::parse(usual) {
                Ok(template) => template,
                Err(e) => panic!("the table of CLIs holds {usual:?}: {e}"),
            });
        let name = if known.subscription.is_empty() {
            stem(&config.command)
        } else {
            known.subscription
        };
        let offline_args = config.offline_args.clone();
        let (command, quota) = (config.command.clone(), config.quota.clone());
        Self {
            command,
            name: name.to_owned(),
            args,
            offline_args,
            quota,
        }
    }

    /// For a run that starts now; `offline`: while the backend cannot be reached.
    pub fn args(&self, offline: bool) -> &Template {
        self.offline_args
            .as_ref()
            .filter(|_| offline)
            .unwrap_or(&self.args)
    }

    /// Whether the program is one of those that this module knows.
    pub fn is_known(&self) -> bool {
        !known(&self.command).programs.is_empty()
    }
}
