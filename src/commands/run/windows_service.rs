//! The daemon as a Windows service: how it answers the service manager that has started it.
//!
//! How the service is registered is in `commands/service/scm.rs`. All that belongs to the service lies in one folder
//! below `%ProgramData%`, which is closed to other users.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use clap::ArgMatches;
use windows_service::service::{
    ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{
    self, ServiceControlHandlerResult, ServiceStatusHandle,
};
use windows_service::{Error, define_windows_service, service_dispatcher};

use super::bootstrap::{AS_SERVICE, check, end_on_panic, exit_code};
use super::console::Console;
use crate::commands::{exit, given};
use crate::config::{Given, Sources};
use crate::daemon::{self, Stopper};
use crate::environment::Environment;
use crate::store::log_file::LogFile;

pub(crate) const NAME: &str = "wf0-agent";
const LOG_LIMIT: u64 = 8 << 20;
/// How long it may take until the state folder is open, which a slow disk may delay.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The manager's call-back gets no arguments, so it finds these here.
static GIVEN: Mutex<Option<Given>> = Mutex::new(None);
static SERVING: OnceLock<Serving> = OnceLock::new();
static CODE: Mutex<u8> = Mutex::new(exit::OK);

define_windows_service!(service_main, serve_and_report);

/// Runs the daemon as the manager's service until it is stopped. A person who calls this gets an error.
pub fn answer(matches: &ArgMatches) -> u8 {
    *GIVEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(given(matches));
    match service_dispatcher::start(NAME, service_main) {
        Ok(()) => *CODE.lock().unwrap_or_else(PoisonError::into_inner),
        Err(e) => {
            eprintln!(
                "wf0-agent: only the Windows service manager can use {}: {}",
                AS_SERVICE,
                words(&e)
            );
            exit::USAGE
        }
    }
}

/// The running service, as the manager's thread reaches it.
struct Serving {
    handle: ServiceStatusHandle,
    /// Set once the daemon is up: how to stop it, and how long that may take.
    stopper: Mutex<Option<(Stopper, Duration)>>,
}

impl Serving {
    fn report(&self, current_state: ServiceState, wait_hint: Duration, exit_code: ServiceExitCode) {
        let controls_accepted = match current_state {
            ServiceState::Running => {
                ServiceControlAccept::STOP
                    | ServiceControlAccept::SHUTDOWN
                    | ServiceControlAccept::PRESHUTDOWN
            }
            _ => ServiceControlAccept::empty(),
        };
        let is_pending = matches!(
            current_state,
            ServiceState::StartPending | ServiceState::StopPending
        );
        // There is nowhere to report a failure of this report.
        let _ = self.handle.set_service_status(ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state,
            controls_accepted,
            exit_code,
            checkpoint: u32::from(is_pending),
            wait_hint,
            process_id: None,
        });
    }

    fn report_stopped(&self, exit_code: ServiceExitCode) {
        self.report(ServiceState::Stopped, Duration::ZERO, exit_code);
    }

    fn stop(&self) {
        let stopper = self.stopper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stopper, limit)) = &*stopper {
            // First the report, after which no control is accepted: the manager must not call again.
            self.report(ServiceState::StopPending, *limit, ServiceExitCode::NO_ERROR);
            stopper.stop();
        }
    }
}

/// A plain function on purpose: the crate would free what a closure holds after the first stop, and a later call would
/// use it after that.
fn on_control(control: ServiceControl) -> ServiceControlHandlerResult {
    match control {
        ServiceControl::Stop | ServiceControl::Shutdown | ServiceControl::Preshutdown => {
            if let Some(serving) = SERVING.get() {
                serving.stop();
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
    let serving = SERVING.get_or_init(|| Serving {
        handle,
        stopper: Mutex::new(None),
    });
    serving.report(
        ServiceState::StartPending,
        START_LIMIT,
        ServiceExitCode::NO_ERROR,
    );
    let given = GIVEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
        .unwrap_or_default();
    let code = serve(serving, given);
    *CODE.lock().unwrap_or_else(PoisonError::into_inner) = code;
    match code {
        exit::OK => serving.report_stopped(ServiceExitCode::NO_ERROR),
        // A restart does not help with these codes, and the manager does not restart a service that reports its end.
        exit::VERSION_REFUSED | exit::TOKEN_REJECTED | exit::CONFIG => {
            serving.report_stopped(ServiceExitCode::ServiceSpecific(u32::from(code)));
        }
        _ => std::process::exit(i32::from(code)),
    }
}

fn serve(serving: &'static Serving, given: Given) -> u8 {
    let environment = Environment::of_process();
    let log = log_file(&environment);
    // The service is registered with a STATE_DIR. If that was lost, the state must not go into a hidden profile.
    let environment = match environment.get("STATE_DIR") {
        Some(_) => environment,
        None => environment.clone().with(&[state_dir(&environment)]),
    };
    let note = {
        let log = log.clone();
        move |line: &str| {
            let _ = LogFile::open(&log, LOG_LIMIT)
                .and_then(|mut file| writeln!(file, "wf0-agent: {line}"));
        }
    };
    let sources = Sources::collect(given, environment.clone()).map_err(|e| vec![e.to_string()]);
    let config = match sources.and_then(|sources| check(&sources)) {
        Ok(config) if config.require_approval => {
            note("REQUIRE_APPROVAL=1 needs a terminal, and a service has none: unset it");
            return exit::CONFIG;
        }
        Ok(config) => config,
        Err(lines) => {
            for line in lines {
                note(&line);
            }
            return exit::CONFIG;
        }
    };
    let Ok(file) = LogFile::open(&log, LOG_LIMIT) else {
        return exit::CONFIG;
    };
    let Ok(console) = Console::start(Box::new(file), config.log_format, &config.log_filter) else {
        return exit::INTERNAL;
    };
    // A service has no console that a panic could be printed to.
    std::panic::set_hook(Box::new(move |info| note(&info.to_string())));
    let log = console.clone();
    end_on_panic(move || log.flush());
    let limit = config.stop_limit();
    let ready = move |stopper| {
        let mut to_stop = serving
            .stopper
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *to_stop = Some((stopper, limit));
        serving.report(
            ServiceState::Running,
            Duration::ZERO,
            ServiceExitCode::NO_ERROR,
        );
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

/// The text of an error. The crate's own text leaves out that of Windows.
pub(crate) fn words(e: &Error) -> String {
    match e {
        Error::Winapi(e) => e.to_string(),
        e => e.to_string(),
    }
}
