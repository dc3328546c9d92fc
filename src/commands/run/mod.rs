//! `wf0-agent run`: the daemon, until a signal or the backend ends it.

mod bootstrap;
mod console;
mod service_manager;
#[cfg(windows)]
pub(crate) mod windows_service;

use std::io::{IsTerminal, stderr, stdin};

use clap::{Arg, ArgMatches, Command};
use log::LevelFilter;

use super::{exit, flag, given};
use crate::config::Sources;
use crate::daemon;
use crate::environment::Environment;
use bootstrap::exit_code;
pub use bootstrap::{AS_SERVICE, check, end_on_panic, hide_memory, stop_on_signals};
use console::Console;
use service_manager::ServiceManager;

pub fn command() -> Command {
    Command::new("run")
        .about(
            "Connects to the backend and takes tickets until it is stopped (the default command)",
        )
        .arg(quiet())
}

/// The program without a command has it too.
pub fn quiet() -> Arg {
    flag(
        "quiet",
        "Log only warnings and errors, as with LOG_LEVEL=warn",
    )
    .short('q')
}

pub fn run(matches: &ArgMatches) -> u8 {
    let environment = Environment::of_process();
    let own = matches.subcommand_matches("run");
    let quiet = matches.get_flag("quiet") || own.is_some_and(|own| own.get_flag("quiet"));
    let sources =
        Sources::collect(given(matches), environment.clone()).map_err(|e| vec![e.to_string()]);
    let config = match sources.and_then(|sources| check(&sources)) {
        Ok(config) => config,
        Err(lines) => {
            for line in lines {
                eprintln!("wf0-agent: {line}");
            }
            return exit::CONFIG;
        }
    };
    if config.require_approval && !(stdin().is_terminal() && stderr().is_terminal()) {
        eprintln!(
            "wf0-agent: REQUIRE_APPROVAL=1 needs a terminal to ask on: start wf0-agent in a terminal, or unset it"
        );
        return exit::CONFIG;
    }
    let mut filter = config.log_filter.clone();
    if quiet {
        filter = filter.at_most(LevelFilter::Warn);
    }
    let console = match Console::on_stderr(config.log_format, &filter, &environment) {
        Ok(console) => console,
        Err(e) => {
            eprintln!("wf0-agent: cannot start the thread of the log: {e}");
            return exit::INTERNAL;
        }
    };
    let mut service_manager = ServiceManager::new(&environment, config.stop_limit());
    // A person who is asked types in the last line of the terminal.
    let shows_live = !config.require_approval;
    let log = console.clone();
    end_on_panic(move || log.flush());
    let end = daemon::run(config, environment, stop_on_signals, |view| {
        service_manager.show(view);
        if shows_live {
            console.show(view);
        }
    });
    let code = exit_code(end);
    console.end();
    code
}

pub fn service_command() -> Command {
    Command::new(AS_SERVICE).hide(true)
}

#[cfg(windows)]
pub use windows_service::answer as run_as_service;

#[cfg(not(windows))]
pub fn run_as_service(_matches: &ArgMatches) -> u8 {
    eprintln!("wf0-agent: only the Windows service manager can use {AS_SERVICE}");
    exit::USAGE
}
