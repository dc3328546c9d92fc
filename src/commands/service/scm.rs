//! Windows' service manager: the daemon as a service of the machine, with an account of its own. Both sides of it: how
//! it is registered, by an administrator, and how the daemon answers once the manager has started it.
//!
//! The account is `NT SERVICE\wf0-agent`, which Windows makes with the service: no password, no rights but those that
//! it is given. All that is the service's lies in one folder below `%ProgramData%`, which is closed to others.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use clap::ArgMatches;
use log::warn;
use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceControl, ServiceControlAccept,
    ServiceErrorControl, ServiceExitCode, ServiceFailureActions, ServiceFailureResetPeriod,
    ServiceInfo, ServiceStartType, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{
    self, ServiceControlHandlerResult, ServiceStatusHandle,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_service::{Error, define_windows_service, service_dispatcher};

use super::windows::{OF_MACHINE, described, registry_value, split};
use super::{
    BY_MANAGER, Definition, Draft, Manager, Plan, Run, State, WINDOWS_ACCOUNT as ACCOUNT,
    closing_calls,
};
use crate::commands::exit::MEANINGS;
use crate::commands::{exit, given, run};
use crate::config::settings::{Given, Sources};
use crate::daemon::{self, Stopper};
use crate::environment::Environment;
use crate::job::Halt;
use crate::job::tool;
use crate::store::log_file::LogFile;

const NAME: &str = "wf0-agent";
const KEY: &str = r"HKLM\SYSTEM\CurrentControlSet\Services\wf0-agent";
/// Between two variables where `reg` is told several: no path can hold it.
const SEPARATOR: &str = "|";
const LOG_LIMIT: u64 = 8 << 20;
const LIMIT: Duration = Duration::from_secs(30);
/// Until the state folder is open, which a slow disk may delay.
const START_LIMIT: Duration = Duration::from_secs(60);
/// ERROR_ACCESS_DENIED, ERROR_SERVICE_DOES_NOT_EXIST, ERROR_SERVICE_NEVER_STARTED
const ACCESS_DENIED: i32 = 5;
const NO_SUCH_SERVICE: i32 = 1060;
const NEVER_STARTED: u32 = 1077;

/// What the manager's call-back finds: it is given nothing.
static GIVEN: Mutex<Option<Given>> = Mutex::new(None);
static SERVING: OnceLock<Serving> = OnceLock::new();
static CODE: Mutex<u8> = Mutex::new(exit::OK);

define_windows_service!(service_main, serve_and_report);

/// The daemon as the manager's service, until it is stopped. By hand it only says that it is not for people.
pub fn answer(matches: &ArgMatches) -> u8 {
    *GIVEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(given(matches));
    match service_dispatcher::start(NAME, service_main) {
        Ok(()) => *CODE.lock().unwrap_or_else(PoisonError::into_inner),
        Err(e) => {
            eprintln!(
                "wf0-agent: only Windows' service manager starts {BY_MANAGER}: {}",
                words(&e)
            );
            exit::USAGE
        }
    }
}

/// The running service, as the manager's thread reaches it.
struct Serving {
    handle: ServiceStatusHandle,
    /// Once the daemon is up: how it is stopped, and how long that may take.
    stopper: Mutex<Option<(Stopper, Duration)>>,
}

impl Serving {
    fn report(&self, current_state: ServiceState, wait_hint: Duration, exit_code: ServiceExitCode) {
        let all = ServiceControlAccept::STOP
            | ServiceControlAccept::SHUTDOWN
            | ServiceControlAccept::PRESHUTDOWN;
        let is_running = current_state == ServiceState::Running;
        let is_pending = matches!(
            current_state,
            ServiceState::StartPending | ServiceState::StopPending
        );
        // Nobody is left to tell where the manager does not listen.
        let _ = self.handle.set_service_status(ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state,
            controls_accepted: if is_running {
                all
            } else {
                ServiceControlAccept::empty()
            },
            exit_code,
            checkpoint: u32::from(is_pending),
            wait_hint,
            process_id: None,
        });
    }

    fn stop(&self) {
        let stopper = self.stopper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stopper, limit)) = &*stopper {
            // First, and with no control accepted from here on: the manager must not call again.
            self.report(ServiceState::StopPending, *limit, ServiceExitCode::NO_ERROR);
            stopper.stop();
        }
    }
}

/// A plain function on purpose: what a closure held would be freed by the crate after the first stop, and any later
/// call would find it gone.
fn on_control(control: ServiceControl) -> ServiceControlHandlerResult {
    match control {
        ServiceControl::Stop | ServiceControl::Shutdown | ServiceControl::Preshutdown => {
            SERVING.get().into_iter().for_each(Serving::stop);
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the manager starts a service anew only where its process just ends"
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
        exit::OK => serving.report(
            ServiceState::Stopped,
            Duration::ZERO,
            ServiceExitCode::NO_ERROR,
        ),
        // A restart changes none of them, and the manager restarts nothing that says of itself that it has stopped.
        exit::VERSION_REFUSED | exit::TOKEN_REJECTED | exit::CONFIG => {
            serving.report(
                ServiceState::Stopped,
                Duration::ZERO,
                ServiceExitCode::ServiceSpecific(u32::from(code)),
            );
        }
        _ => std::process::exit(i32::from(code)),
    }
}

fn serve(serving: &'static Serving, given: Given) -> u8 {
    let environment = Environment::of_process();
    let log = log_file(&environment);
    // Registered with the service; where that got lost, state must not go into some profile that nobody looks into.
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
    let (config, risky) = match sources.and_then(|sources| run::check(&sources)) {
        Ok((config, _)) if config.require_approval => {
            note("REQUIRE_APPROVAL: a service has no terminal to ask at; leave it out");
            return exit::CONFIG;
        }
        Ok(checked) => checked,
        Err(lines) => {
            lines.iter().for_each(|line| note(line));
            return exit::CONFIG;
        }
    };
    let Ok(file) = LogFile::open(&log, LOG_LIMIT) else {
        return exit::CONFIG;
    };
    let Ok(console) = run::Console::start(Box::new(file), config.log_format, &config.log_filter)
    else {
        return exit::INTERNAL;
    };
    risky.iter().for_each(|why| warn!("{why}"));
    // There is no console that a panic could be printed to.
    std::panic::set_hook(Box::new(move |info| note(&info.to_string())));
    run::end_on_panic(move || console.flush());
    let limit = config.stop_limit();
    let ready = move |stopper| {
        *serving
            .stopper
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some((stopper, limit));
        serving.report(
            ServiceState::Running,
            Duration::ZERO,
            ServiceExitCode::NO_ERROR,
        );
    };
    let code = run::exit_code(daemon::run(config, environment, ready, |_| {}));
    log::logger().flush();
    code
}

fn folder(environment: &Environment) -> PathBuf {
    let base = environment
        .get("ProgramData")
        .map_or_else(|| PathBuf::from(r"C:\ProgramData"), PathBuf::from);
    base.join("wf0-agent")
}

fn state_dir(environment: &Environment) -> (String, String) {
    (
        "STATE_DIR".to_owned(),
        folder(environment).join("state").display().to_string(),
    )
}

fn log_file(environment: &Environment) -> PathBuf {
    folder(environment).join("wf0-agent.log")
}

/// The service manager of this machine.
pub struct Services {
    environment: Environment,
}

impl Services {
    pub fn new(environment: Environment) -> Self {
        Self { environment }
    }

    fn folder(&self) -> PathBuf {
        folder(&self.environment)
    }

    fn open(&self, access: ServiceAccess) -> Result<Option<Service>, String> {
        let manager = ServiceManager::local_computer(None::<&OsStr>, ServiceManagerAccess::CONNECT)
            .map_err(|e| failed("Windows' service manager cannot be reached", &e))?;
        match manager.open_service(NAME, access) {
            Ok(service) => Ok(Some(service)),
            Err(Error::Winapi(e)) if e.raw_os_error() == Some(NO_SUCH_SERVICE) => Ok(None),
            Err(e) => Err(failed("the service cannot be opened", &e)),
        }
    }

    fn tool(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let said = tool::ask(program, args, &self.environment, LIMIT)
            .map_err(|e| format!("{program} cannot be started ({e}): is System32 on PATH?"))?;
        if said.is_well() {
            return Ok(said.stdout);
        }
        Err(format!(
            "{program} {} failed: {}",
            args.join(" "),
            said.words()
        ))
    }

    /// Registers it, or changes what is registered; an account that somebody has given to it stays.
    fn register(&self, program: &str, args: &[String]) -> Result<Service, String> {
        let info = |account: Option<&str>| ServiceInfo {
            name: NAME.into(),
            display_name: "WorkForce0 agent".into(),
            service_type: ServiceType::OWN_PROCESS,
            start_type: ServiceStartType::AutoStart,
            error_control: ServiceErrorControl::Normal,
            executable_path: program.into(),
            launch_arguments: args.iter().map(OsString::from).collect(),
            dependencies: Vec::new(),
            account_name: account.map(OsString::from),
            account_password: None,
        };
        if let Some(service) = self.open(ServiceAccess::ALL_ACCESS)? {
            service
                .change_config(&info(None))
                .map_err(|e| failed("the service cannot be changed", &e))?;
            return Ok(service);
        }
        let access = ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE;
        let manager = ServiceManager::local_computer(None::<&OsStr>, access);
        let service = manager.and_then(|manager| {
            manager.create_service(&info(Some(ACCOUNT)), ServiceAccess::ALL_ACCESS)
        });
        service.map_err(|e| failed("the service cannot be registered", &e))
    }

    /// How it starts, and when it is started again: after a crash, and where another daemon holds the state folder.
    /// With 76, 77 and 78 it says that it has stopped, which is no failure to the manager. What a manager does not take
    /// is told: the service runs without it.
    fn configure(service: &Service, stop_limit: Duration) -> Vec<String> {
        let again = |seconds| ServiceAction {
            action_type: ServiceActionType::Restart,
            delay: Duration::from_secs(seconds),
        };
        let recovery = ServiceFailureActions {
            reset_period: ServiceFailureResetPeriod::After(Duration::from_secs(24 * 3600)),
            reboot_msg: None,
            command: None,
            actions: Some(vec![again(10), again(60), again(300)]),
        };
        let done = [
            (
                "its description",
                service.set_description("Runs WorkForce0 tickets with a coding CLI"),
            ),
            ("a delayed start", service.set_delayed_auto_start(true)),
            (
                "the time to stop in when Windows shuts down",
                service.set_preshutdown_timeout(stop_limit),
            ),
            (
                "to be started again after a crash",
                service.update_failure_actions(recovery),
            ),
        ];
        let not_taken = |(what, done): (&str, windows_service::Result<()>)| {
            done.err()
                .map(|e| format!("Windows does not take {what} for it: {}", words(&e)))
        };
        done.into_iter().filter_map(not_taken).collect()
    }

    fn stop(&self, service: &Service) -> Result<(), String> {
        let state = || service.query_status().map(|status| status.current_state);
        let is_stopped = || matches!(state(), Ok(ServiceState::Stopped));
        if is_stopped() {
            return Ok(());
        }
        let stopping = service
            .stop()
            .map_err(|e| failed("the service cannot be stopped", &e))?;
        let halt = Halt::never();
        let look = Duration::from_millis(250);
        let limit = stopping.wait_hint.max(LIMIT);
        for _ in 0..limit.as_millis() / look.as_millis() {
            if is_stopped() {
                return Ok(());
            }
            halt.pause(look);
        }
        Err(format!("the service does not stop; {}", self.log()))
    }

    fn variables(&self, path: &str) -> Vec<(String, String)> {
        vec![
            ("PATH".to_owned(), path.to_owned()),
            state_dir(&self.environment),
        ]
    }

    fn place() -> String {
        format!("the Windows service {NAME}")
    }
}

impl Manager for Services {
    fn settings(&self) -> PathBuf {
        self.folder().join("settings")
    }

    fn environment(&self) -> Result<Environment, String> {
        Ok(self.least())
    }

    fn least(&self) -> Environment {
        self.environment
            .clone()
            .only(OF_MACHINE)
            .with(&self.variables(""))
    }

    fn command(&self) -> &'static str {
        "wf0-agent service install --system"
    }

    fn draft(&self, plan: &Plan) -> Result<Draft, String> {
        let args = vec![
            BY_MANAGER.to_owned(),
            "--env-file".to_owned(),
            plan.settings.clone(),
        ];
        let definition = Definition {
            place: Self::place(),
            program: plan.program.clone(),
            args,
            variables: self.variables(&plan.path),
            ..Definition::default()
        };
        Ok(Draft {
            text: described(&definition, ACCOUNT),
            steps: vec![format!(
                "{} would be closed to others, and the service started",
                self.folder().display()
            )],
            place: definition.place.clone(),
            definition,
        })
    }

    fn installed(&self) -> Result<Option<Definition>, String> {
        let Some(service) = self.open(ServiceAccess::QUERY_CONFIG)? else {
            return Ok(None);
        };
        let config = service
            .query_config()
            .map_err(|e| failed("the service cannot be read", &e))?;
        let mut words = split(&config.executable_path.to_string_lossy()).into_iter();
        let program = words.next().unwrap_or_default();
        let printed = self
            .tool("reg", &["query", KEY, "/v", "Environment"])
            .unwrap_or_default();
        // reg shows several values with this between them, whatever they were given with.
        let variables = registry_value(&printed).unwrap_or_default();
        let variables = variables
            .split(r"\0")
            .filter_map(|variable| variable.split_once('='));
        let variables = variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Some(Definition {
            place: Self::place(),
            program,
            args: words.collect(),
            variables,
            ..Definition::default()
        }))
    }

    fn current_text(&self) -> Option<String> {
        self.installed()
            .ok()
            .flatten()
            .map(|definition| described(&definition, ACCOUNT))
    }

    fn install(&self, draft: &Draft, stop_limit: Duration) -> Result<Vec<String>, String> {
        let Definition {
            program,
            args,
            variables,
            ..
        } = &draft.definition;
        let service = self.register(program, args)?;
        let mut lines = Self::configure(&service, stop_limit);
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let value = variables.join(SEPARATOR);
        let add = [
            "add",
            KEY,
            "/f",
            "/v",
            "Environment",
            "/t",
            "REG_MULTI_SZ",
            "/s",
            SEPARATOR,
            "/d",
            &value,
        ];
        self.tool("reg", &add)?;
        let folder = self.folder();
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for call in closing_calls(&folder.display().to_string()) {
            let call: Vec<&str> = call.iter().map(String::as_str).collect();
            self.tool("icacls", &call)?;
        }
        // Its account has no way into the folder of a user, where cargo installs.
        self.tool("icacls", &[program, "/grant", &format!("{ACCOUNT}:RX")])?;
        self.stop(&service)?;
        service.start(&[] as &[&OsStr]).map_err(|e| {
            format!(
                "{}; the log may say why: {}",
                failed("the service is registered, and does not start", &e),
                self.log()
            )
        })?;
        lines.extend([
            format!("it is started, as it will be with the machine, as {ACCOUNT}"),
            "that account has to be let in, by icacls or in the properties of the folders: repositories (modify), the \
             CLI and what is on PATH (read); git wants the repositories in safe.directory (git config --system), and \
             the CLI has to be logged in for it"
                .to_owned(),
            "to have it run as you, with your CLI's login: services.msc, WorkForce0 agent, Log On; and let yourself \
             into its folder"
                .to_owned(),
        ]);
        Ok(lines)
    }

    fn uninstall(&self) -> Result<(), String> {
        let Some(service) = self.open(ServiceAccess::ALL_ACCESS)? else {
            return Ok(());
        };
        self.stop(&service)?;
        service
            .delete()
            .map_err(|e| failed("the service cannot be removed", &e))
    }

    fn state(&self) -> Result<State, String> {
        let access = ServiceAccess::QUERY_STATUS | ServiceAccess::QUERY_CONFIG;
        let Some(service) = self.open(access)? else {
            return Ok(State::default());
        };
        let asked = service
            .query_status()
            .and_then(|status| Ok((status, service.query_config()?)));
        let (status, config) = asked.map_err(|e| failed("the service cannot be asked", &e))?;
        let run = match status.current_state {
            ServiceState::Running | ServiceState::StopPending => Run::Running,
            ServiceState::StartPending => Run::Starting,
            _ => Run::Not,
        };
        let words = match (status.process_id, status.exit_code) {
            (Some(pid), _) if run != Run::Not => format!("pid {pid}"),
            (_, ServiceExitCode::ServiceSpecific(code)) => {
                let meaning = MEANINGS.iter().find(|(known, _)| u32::from(*known) == code);
                let meaning = meaning
                    .map(|(_, meaning)| format!(": {meaning}"))
                    .unwrap_or_default();
                format!("it ended with {code}{meaning}")
            }
            (_, ServiceExitCode::Win32(NEVER_STARTED)) => "it was never started".to_owned(),
            (_, ServiceExitCode::Win32(code)) if run == Run::Not && code != 0 => {
                format!("Windows' error {code}")
            }
            _ => String::new(),
        };
        Ok(State {
            enabled: config.start_type == ServiceStartType::AutoStart,
            run,
            words,
        })
    }

    fn log(&self) -> String {
        format!("log: {}", log_file(&self.environment).display())
    }
}

fn failed(what: &str, e: &Error) -> String {
    let is_denied = matches!(e, Error::Winapi(e) if e.raw_os_error() == Some(ACCESS_DENIED));
    let fix = if is_denied {
        "; that is for administrators: open a shell by \"Run as administrator\""
    } else {
        ""
    };
    format!("{what}: {}{fix}", words(e))
}

/// The crate's own words leave out Windows'.
fn words(e: &Error) -> String {
    match e {
        Error::Winapi(e) => e.to_string(),
        e => e.to_string(),
    }
}
