//! What every way to start the daemon needs: checked settings, signals, panics and exit codes.

use log::error;

use crate::commands::exit;
use crate::config::{Config, Sources};
use crate::daemon::{DaemonError, Stopper};
use crate::domain::event::DaemonEnd;
use crate::job::cli;
use crate::store::StoreError;

/// The word by which the Windows service manager starts the daemon. People do not use it.
pub const AS_SERVICE: &str = "run-as-service";

/// The process exit code for that end of the daemon. An error is logged.
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

/// The settings, or the lines that say what is wrong with them.
pub fn check(sources: &Sources) -> Result<Config, Vec<String>> {
    let config = Config::load(sources).map_err(|e| e.lines())?;
    let wrong = cli::wrong_options(&config.cli);
    if wrong.is_empty() {
        Ok(config)
    } else {
        Err(wrong.iter().map(ToString::to_string).collect())
    }
}

/// SIGINT, SIGTERM and SIGHUP; on Windows Ctrl-C, Ctrl-Break, closing and shutdown.
pub fn stop_on_signals(stopper: Stopper) {
    if let Err(e) = ctrlc::set_handler(move || stopper.stop()) {
        panic!("signals cannot be handled: {e}");
    }
}

/// A panic in any thread is a bug. It ends the process: half a daemon is worse than none, and the service manager starts
/// a whole one.
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
