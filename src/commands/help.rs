//! `--help`: complete, from the same table that the settings are read by.

use std::io::Write;

use super::exit;
use crate::config::settings::{SETTINGS, Setting, flag_of_name};

const HEAD: &str = "\
wf0-agent runs WorkForce0 tickets with the coding CLI on your own machine.

Usage:
  wf0-agent [run] [OPTIONS]    connect to the backend and take tickets until stopped
  wf0-agent apply TICKET [CHECKOUT]
                               apply what a ticket changed in its clone to your checkout, or to CHECKOUT; TICKET is
                               a ticket's id or a run's. Needs STATE_DIR only; a daemon may be running
  wf0-agent demo [--cli]       show one ticket from start to end, without network or account;
                               --cli: with your configured CLI instead of the built-in stand-in
  wf0-agent show TICKET [--prompt | --stdout | --diff]
                               what became of a ticket: how it ended, its prompt, what was sent as stdout, its diff, or
                               one of the three alone
  wf0-agent logs TICKET [--follow]
                               all that the CLI printed for a ticket; --follow: until its run has ended. Both need
                               STATE_DIR only; a daemon may be running
  wf0-agent doctor [--json]    check settings, git, repositories, CLI, state folder and the way to the backend, and say
                               what to do about what is wrong. Changes nothing; a daemon may be running
  wf0-agent --help | --version

Options:
      --env-file FILE          read settings from FILE instead of .env in the working directory
  -h, --help                   this text
  -V, --version                the version

Settings: as a flag, in the environment or in .env, the first that is there counts.
";

const TAIL: &str = "
Exit codes: 0 stopped as asked, 1 demo, apply, show or logs failed, or doctor found a ✗, 2 wrong arguments, 70 internal error,
75 another daemon has the state folder, 76 protocol version not supported, 77 token rejected, 78 wrong settings.
";

pub fn print() -> u8 {
    let mut text = HEAD.to_owned();
    for setting in SETTINGS {
        text.push_str(&describe(setting));
    }
    text.push_str(TAIL);
    // Whoever closes the pipe early has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    exit::OK
}

fn describe(setting: &Setting) -> String {
    let Setting { name, value, default, about, flag } = setting;
    let flag = if *flag { format!("\n      --{} {value}", flag_of_name(name)) } else { String::new() };
    let default = match *default {
        "" => String::new(),
        "required" => " (required)".to_owned(),
        default => format!(" (default: {default})"),
    };
    format!("\n  {name}={value}{flag}\n      {about}{default}\n")
}
