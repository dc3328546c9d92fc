//! `wf0-agent run`: the daemon, until a signal or the backend ends it.

mod console;
mod service_manager;
mod terminal;

use std::io::{IsTerminal, stderr, stdin};

use console::Console;
use log::{LevelFilter, error, warn};
use service_manager::ServiceManager;

use super::exit;
use super::line::Request;
use crate::config::Config;
use crate::config::settings::{Given, Sources};
use crate::daemon::{self, DaemonError, Stopper};
use crate::domain::event::Exit;
use crate::environment::Environment;
use crate::job::cli;
use crate::store::StoreError;

pub fn run(request: Request) -> u8 {
    let environment = Environment::of_process();
    let quiet = request.has("quiet");
    let config = match load(request.settings, environment.clone()) {
        Ok(config) => config,
        Err(complaint) => {
            eprintln!("{complaint}");
            return exit::CONFIG;
        }
    };
    if config.require_approval && !(stdin().is_terminal() && stderr().is_terminal()) {
        eprintln!("wf0-agent: REQUIRE_APPROVAL: there is no terminal to ask at; start it at one, or leave it out");
        return exit::CONFIG;
    }
    let (wrong, risky) = cli::check(&config.cli, environment.get("PATH"));
    if !wrong.is_empty() {
        wrong.iter().for_each(|why| eprintln!("wf0-agent: {why}"));
        return exit::CONFIG;
    }
    let level = if quiet { config.log_level.min(LevelFilter::Warn) } else { config.log_level };
    let console = Console::start(config.log_format, level, &environment);
    let mut service_manager = ServiceManager::new(&environment);
    // A person who is asked types in the last line.
    let is_shown = !config.require_approval;
    risky.iter().for_each(|why| warn!("{why}"));
    end_on_panic();
    let ended = daemon::run(config, environment, stop_on_signals, |view| {
        service_manager.show(view);
        if is_shown {
            console.show(view);
        }
    });
    console.end();
    match ended {
        Ok(Exit::Asked) => exit::OK,
        Ok(Exit::TokenRejected) => exit::TOKEN_REJECTED,
        Ok(Exit::VersionRefused) => exit::VERSION_REFUSED,
        Err(e) => {
            error!("{e}");
            match e {
                DaemonError::Store(StoreError::Locked(_)) => exit::LOCKED,
                DaemonError::Store(StoreError::Io(..) | StoreError::Foreign(_)) => exit::CONFIG,
                DaemonError::Io(_) => exit::INTERNAL,
            }
        }
    }
}

/// The settings, or every line that says what is wrong with them.
fn load(given: Given, environment: Environment) -> Result<Config, String> {
    let sources = Sources::collect(given, environment).map_err(|e| format!("wf0-agent: {e}"))?;
    Config::load(&sources).map_err(|e| {
        let lines: Vec<_> = e.to_string().lines().map(|line| format!("wf0-agent: {line}")).collect();
        lines.join("\n")
    })
}

/// SIGINT, SIGTERM and SIGHUP; on Windows Ctrl-C, Ctrl-Break, closing and shutdown.
pub fn stop_on_signals(stopper: Stopper) {
    if let Err(e) = ctrlc::set_handler(move || stopper.stop()) {
        panic!("signals cannot be handled: {e}");
    }
}

/// A panic in any thread is a bug, and half a daemon is worse than none: the service manager starts a whole one.
#[expect(clippy::disallowed_methods, reason = "nothing can be trusted to unwind after a bug")]
pub fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
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
