//! `wf0-agent run` runs the daemon until a signal or the backend ends it. The Windows service and the demo share parts
//! of this module: the handling of settings, signals, panics or exit codes.

mod console;
mod service_manager;
#[cfg(windows)]
pub(crate) mod windows_service;

use std::io::{IsTerminal, stderr, stdin};

use clap::{Arg, ArgMatches, Command};
use log::{LevelFilter, error};

use super::{exit, flag, given};
use crate::config::{Config, Sources};
use crate::daemon::{self, DaemonError, Mailbox};
use crate::domain::event::{DaemonEnd, Event};
use crate::environment::Environment;
use crate::job::cli;
use crate::store::StoreError;
use console::Console;
use service_manager::ServiceManager;

/// The Windows service manager starts the daemon with this command. People do not use it.
pub const AS_SERVICE: &str = "run-as-service";

pub fn command() -> Command {
    Command::new("run")
        .about(
            "Connects to the backend and takes tickets until it is stopped (the default command)",
        )
        .arg(quiet())
}

/// This flag can stand before or after the word `run`, or without that word.
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
    let has_terminal = stdin().is_terminal() && stderr().is_terminal();
    let sources = Sources::collect(given(matches), environment.clone()).map_err(|e| vec![e]);
    let config = match sources.and_then(|sources| check(&sources, has_terminal)) {
        Ok(config) => config,
        Err(lines) => {
            for line in lines {
                eprintln!("wf0-agent: {line}");
            }
            return exit::CONFIG;
        }
    };
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
    let log = console.clone();
    end_on_panic(move || log.flush());
    let show = |view: &_| service_manager.show(view);
    let code = exit_code(daemon::run(config, environment, stop_on_signals, show));
    console.flush();
    code
}

pub fn service_command() -> Command {
    Command::new(AS_SERVICE).hide(true)
}

#[cfg(windows)]
pub fn run_as_service(matches: &ArgMatches) -> u8 {
    windows_service::answer(matches)
}

#[cfg(not(windows))]
pub fn run_as_service(_matches: &ArgMatches) -> u8 {
    eprintln!("wf0-agent: only the Windows service manager can use {AS_SERVICE}");
    exit::USAGE
}

/// The exit code of the process for this end of the daemon. If the end is an error, logs it.
pub fn exit_code(end: Result<DaemonEnd, DaemonError>) -> u8 {
    match end {
        Ok(DaemonEnd::Asked) => exit::OK,
        Ok(DaemonEnd::TokenRejected) => exit::TOKEN_REJECTED,
        Ok(DaemonEnd::VersionRefused) => exit::VERSION_REFUSED,
        Err(e) => {
            error!("{e}");
            match e {
                DaemonError::Store(StoreError::Locked(_)) => exit::LOCKED,
                DaemonError::Store(StoreError::Io(..) | StoreError::Foreign(_)) => exit::CONFIG,
                DaemonError::Poll(_) | DaemonError::Thread(..) => exit::INTERNAL,
            }
        }
    }
}

/// Loads and checks the settings. The error has one line for each problem.
pub fn check(sources: &Sources, has_terminal: bool) -> Result<Config, Vec<String>> {
    let config = Config::load(sources).map_err(|e| e.lines())?;
    let wrong = cli::wrong_options(&config.cli).into_iter();
    let mut lines: Vec<_> = wrong.map(|wrong| wrong.to_string()).collect();
    if config.require_approval && !has_terminal {
        let why = "REQUIRE_APPROVAL=1 needs a terminal, and a service has none: start wf0-agent in a terminal, or unset it";
        lines.push(why.to_owned());
    }
    match lines.is_empty() {
        true => Ok(config),
        false => Err(lines),
    }
}

/// Handles SIGINT, SIGTERM and SIGHUP. On Windows: Ctrl-C, Ctrl-Break, a closed console window and shutdown.
pub fn stop_on_signals(mailbox: Mailbox) {
    if let Err(e) = ctrlc::set_handler(move || mailbox.post(Event::Stop)) {
        panic!("signals cannot be handled: {e}");
    }
}

/// Ends the process after a panic in any thread. A panic is a bug, and a daemon without one of its threads is worse
/// than none. The service manager starts a new daemon.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing can be trusted to unwind after a bug"
)]
pub fn end_on_panic(before: impl Fn() + Send + Sync + 'static) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before();
        print(info);
        std::process::exit(i32::from(exit::INTERNAL));
    }));
}

/// Hides the environment of this process from the CLI, because it may contain the token. The CLI runs as the same user
/// and could read it in /proc. The files of a process that is not dumpable belong to root there (prctl(2),
/// PR_SET_DUMPABLE).
pub fn hide_memory() {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}
