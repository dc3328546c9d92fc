//! Runs the daemon as a Windows service and answers the Windows service manager.
//!
//! `commands/service/scm.rs` registers the service. All files of the service are in one folder below `%ProgramData%`.
//! Other users have no access to this folder.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use clap::ArgMatches;
use windows_service::service::{
    ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{
    self, ServiceControlHandlerResult, ServiceStatusHandle,
};
use windows_service::{Error, define_windows_service, service_dispatcher};

use super::console::Console;
use super::{AS_SERVICE, check, end_on_panic, exit_code};
use crate::commands::{exit, given};
use crate::config::{Given, Sources};
use crate::daemon::{self, Mailbox};
use crate::domain::event::Event;
use crate::environment::Environment;
use crate::store::LogFile;

pub(crate) const NAME: &str = "wf0-agent";
const LOG_LIMIT: u64 = 8 << 20;

/// The manager cannot pass these values to the functions that it calls, so the functions read them here.
static GIVEN: OnceLock<Given> = OnceLock::new();
static HANDLE: OnceLock<ServiceStatusHandle> = OnceLock::new();
/// The mailbox that takes the stop event, and the time limit for stopping. Empty until the daemon is ready.
static STOP: OnceLock<(Mailbox, Duration)> = OnceLock::new();
static CODE: AtomicU8 = AtomicU8::new(exit::OK);

const STARTING: ServiceStatus = ServiceStatus {
    service_type: ServiceType::OWN_PROCESS,
    current_state: ServiceState::StartPending,
    controls_accepted: ServiceControlAccept::empty(),
    exit_code: ServiceExitCode::NO_ERROR,
    checkpoint: 1,
    // A slow disk may delay the start, which opens the state folder.
    wait_hint: Duration::from_secs(60),
    process_id: None,
};
const RUNNING: ServiceStatus = ServiceStatus {
    current_state: ServiceState::Running,
    controls_accepted: ServiceControlAccept::STOP
        .union(ServiceControlAccept::SHUTDOWN)
        .union(ServiceControlAccept::PRESHUTDOWN),
    checkpoint: 0,
    wait_hint: Duration::ZERO,
    ..STARTING
};

define_windows_service!(service_main, serve_and_report);

/// Runs the daemon as a service until the manager stops it. If a person uses the command, it fails with an error.
pub fn answer(matches: &ArgMatches) -> u8 {
    let _ = GIVEN.set(given(matches));
    match service_dispatcher::start(NAME, service_main) {
        Ok(()) => CODE.load(Ordering::SeqCst),
        Err(e) => {
            eprintln!(
                "wf0-agent: only the Windows service manager can use {AS_SERVICE}: {}",
                words(&e)
            );
            exit::USAGE
        }
    }
}

fn report(status: ServiceStatus) {
    if let Some(handle) = HANDLE.get() {
        // Nothing can be done if this report fails.
        let _ = handle.set_service_status(status);
    }
}

/// This must not be a closure that captures values: the crate frees these values after the first stop, and a later call
/// would still use them.
fn on_control(control: ServiceControl) -> ServiceControlHandlerResult {
    match control {
        ServiceControl::Stop | ServiceControl::Shutdown | ServiceControl::Preshutdown => {
            if let Some((mailbox, limit)) = STOP.get() {
                // This report comes first. It accepts no more controls, so the manager does not call again.
                report(ServiceStatus {
                    current_state: ServiceState::StopPending,
                    wait_hint: *limit,
                    ..STARTING
                });
                mailbox.post(Event::Stop);
            }
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the manager restarts a service only if its process ends without a report"
)]
fn serve_and_report(_arguments: Vec<OsString>) {
    let Ok(handle) = service_control_handler::register(NAME, on_control) else {
        std::process::exit(i32::from(exit::INTERNAL));
    };
    let _ = HANDLE.set(handle);
    report(STARTING);
    let code = serve(GIVEN.get().cloned().unwrap_or_default());
    CODE.store(code, Ordering::SeqCst);
    let exit_code = match code {
        exit::OK => ServiceExitCode::NO_ERROR,
        // A restart does not help with these codes. The manager does not restart a service that reports its end.
        exit::VERSION_REFUSED | exit::TOKEN_REJECTED | exit::CONFIG => {
            ServiceExitCode::ServiceSpecific(u32::from(code))
        }
        _ => std::process::exit(i32::from(code)),
    };
    report(ServiceStatus {
        current_state: ServiceState::Stopped,
        controls_accepted: ServiceControlAccept::empty(),
        exit_code,
        ..RUNNING
    });
}

fn serve(given: Given) -> u8 {
    let environment = Environment::of_process();
    let Ok(log) = LogFile::open(&log_file(&environment), LOG_LIMIT) else {
        return exit::CONFIG;
    };
    // `service install` gives the service a STATE_DIR. If it was removed, use the same folder: the default would
    // be in the hidden profile of the service's account.
    let environment = match environment.get("STATE_DIR") {
        Some(_) => environment,
        None => environment.clone().with(&[state_dir(&environment)]),
    };
    let notes = log.clone();
    let note = move |line: &str| {
        let _ = notes.append(format!("wf0-agent: {line}\n").as_bytes());
    };
    let sources = Sources::collect(given, environment.clone()).map_err(|e| vec![e]);
    let config = match sources.and_then(|sources| check(&sources, false)) {
        Ok(config) => config,
        Err(lines) => {
            for line in lines {
                note(&line);
            }
            return exit::CONFIG;
        }
    };
    let Ok(console) = Console::in_file(log, config.log_format, &config.log_filter) else {
        return exit::INTERNAL;
    };
    // A service has no console, so the text of a panic goes to the log file.
    std::panic::set_hook(Box::new(move |info| note(&info.to_string())));
    let log = console.clone();
    end_on_panic(move || log.flush());
    let limit = config.stop_limit();
    let ready = move |mailbox| {
        let _ = STOP.set((mailbox, limit));
        report(RUNNING);
    };
    let code = exit_code(daemon::run(config, environment, ready, |_| {}));
    console.flush();
    code
}

pub(crate) fn folder(environment: &Environment) -> PathBuf {
    let base = environment
        .get("ProgramData")
        .map_or_else(|| PathBuf::from(r"C:\ProgramData"), PathBuf::from);
    base.join("wf0-agent")
}

pub(crate) fn state_dir(environment: &Environment) -> (String, String) {
    let folder = folder(environment).join("state");
    ("STATE_DIR".to_owned(), folder.display().to_string())
}

pub(crate) fn log_file(environment: &Environment) -> PathBuf {
    folder(environment).join("wf0-agent.log")
}

/// The text of an error. The crate's own text for a Windows error does not contain the text from Windows.
pub(crate) fn words(e: &Error) -> String {
    match e {
        Error::Winapi(e) => e.to_string(),
        e => e.to_string(),
    }
}
