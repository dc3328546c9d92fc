//! `wf0-agent run`: the daemon, until a signal or the backend ends it.

mod console;
mod lines;
mod service_manager;
#[cfg(windows)]
pub(crate) mod windows_service;

use std::io::{IsTerminal, stderr, stdin};

use clap::{Arg, ArgMatches, Command};
use log::{LevelFilter, error, warn};

use super::{exit, flag, given};
use crate::config::{Config, Sources};
use crate::daemon::{self, DaemonError, Stopper};
use crate::domain::event::DaemonEnd;
use crate::environment::Environment;
use crate::job::cli;
use crate::store::StoreError;
pub use console::Console;
use service_manager::ServiceManager;

/// The word by which the Windows service manager starts the daemon. People do not use it.
pub const AS_SERVICE: &str = "run-as-service";

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
    let (config, risky) = match sources.and_then(|sources| check(&sources)) {
        Ok(checked) => checked,
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("wf0-agent: {line}"));
            return exit::CONFIG;
        }
    };
    if config.require_approval && !(stdin().is_terminal() && stderr().is_terminal()) {
        eprintln!(
            "wf0-agent: REQUIRE_APPROVAL: there is no terminal to ask at; start it at one, or leave it out"
        );
        return exit::CONFIG;
    }
    let most = if quiet {
        LevelFilter::Warn
    } else {
        LevelFilter::Trace
    };
    let filter = config.log_filter.clone().at_most(most);
    let console = match Console::on_stderr(config.log_format, &filter, &environment) {
        Ok(console) => console,
        Err(e) => {
            eprintln!("wf0-agent: cannot start the thread of the log: {e}");
            return exit::INTERNAL;
        }
    };
    let mut service_manager = ServiceManager::new(&environment, config.stop_limit());
    // A person who is asked types in the last line.
    let is_shown = !config.require_approval;
    risky.iter().for_each(|why| warn!("{why}"));
    let log = console.clone();
    end_on_panic(move || log.flush());
    let ended = daemon::run(config, environment, stop_on_signals, |view| {
        service_manager.show(view);
        if is_shown {
            console.show(view);
        }
    });
    let code = exit_code(ended);
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

/// What the daemon's end is to whoever started it.
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

/// The settings, with what is risky about them, or every line that says what is wrong with them.
pub fn check(sources: &Sources) -> Result<(Config, Vec<String>), Vec<String>> {
    let config = Config::load(sources).map_err(|e| e.lines())?;
    let (wrong, risky) = cli::check(&config.cli, sources.environment().get("PATH"));
    if wrong.is_empty() {
        Ok((config, risky))
    } else {
        Err(wrong)
    }
}

/// SIGINT, SIGTERM and SIGHUP; on Windows Ctrl-C, Ctrl-Break, closing and shutdown.
pub fn stop_on_signals(stopper: Stopper) {
    if let Err(e) = ctrlc::set_handler(move || stopper.stop()) {
        panic!("signals cannot be handled: {e}");
    }
}

/// A panic in any thread is a bug, and half a daemon is worse than none: the service manager starts a whole one.
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

/// The CLI runs as the same user and could read this process's environment, where the token may be. A process
/// that is not dumpable belongs to root in /proc (prctl(2), PR_SET_DUMPABLE).
#[cfg(target_os = "linux")]
pub fn hide_memory() {
    let _ = nix::sys::prctl::set_dumpable(false);
}

#[cfg(not(target_os = "linux"))]
pub fn hide_memory() {}
