//! The Windows service manager. Registers the daemon as a service of the machine. Only an administrator can do this.
//!
//! The service runs as `NT SERVICE\wf0-agent`. Windows creates this account with the service. It has no password, and
//! only the rights that an administrator gives it. `commands/run/windows_service.rs` answers the manager's calls.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use windows_service::Error;
use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceErrorControl,
    ServiceFailureActions, ServiceFailureResetPeriod, ServiceInfo, ServiceStartType, ServiceState,
    ServiceType,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};

use super::{CLOSING_CALLS, Plan};
use crate::commands::run::AS_SERVICE;
use crate::commands::run::windows_service::{NAME, folder, log_file, state_dir, words};
use crate::environment::Environment;
use crate::job::Halt;
use crate::job::tool;

const ACCOUNT: &str = r"NT SERVICE\wf0-agent";
const KEY: &str = r"HKLM\SYSTEM\CurrentControlSet\Services\wf0-agent";
/// Separates the variables in the one argument that `reg` gets. No path can contain this character.
const SEPARATOR: &str = "|";
const LIMIT: Duration = Duration::from_secs(30);
const STOP_LOOK: Duration = Duration::from_millis(250);
/// Error codes of Windows: ERROR_ACCESS_DENIED, and below it ERROR_SERVICE_DOES_NOT_EXIST.
const ACCESS_DENIED: i32 = 5;
const NO_SUCH_SERVICE: i32 = 1060;

/// The service manager of this machine.
pub struct Services {
    pub settings: PathBuf,
    pub place: String,
    pub log: String,
    environment: Environment,
}

impl Services {
    pub fn new(environment: &Environment) -> Result<Self, String> {
        Ok(Self {
            settings: folder(environment).join("settings"),
            place: format!("the Windows service {NAME}"),
            log: log_file(environment).display().to_string(),
            environment: environment.clone(),
        })
    }

    /// Opens the service. `None`: it is not installed.
    fn open(&self, access: ServiceAccess) -> Result<Option<Service>, String> {
        let manager = ServiceManager::local_computer(None::<&OsStr>, ServiceManagerAccess::CONNECT)
            .map_err(|e| failed("the service manager does not answer", &e))?;
        match manager.open_service(NAME, access) {
            Ok(service) => Ok(Some(service)),
            Err(Error::Winapi(e)) if e.raw_os_error() == Some(NO_SUCH_SERVICE) => Ok(None),
            Err(e) => Err(failed("the service cannot be opened", &e)),
        }
    }

    fn tool(&self, program: &str, args: &[&str]) -> Result<(), String> {
        let said = tool::ask(program, args, &self.environment, LIMIT, &Halt::never())
            .map_err(|e| format!("{program} cannot be started ({e}): is System32 on PATH?"))?;
        if said.is_well() {
            return Ok(());
        }
        let args = args.join(" ");
        Err(format!("{program} {args} failed: {}", said.words()))
    }

    /// Creates the service, or changes an existing one. A change keeps the account: an administrator may have set it.
    fn register(&self, plan: &Plan) -> Result<Service, String> {
        let args = [AS_SERVICE, "--env-file", &plan.settings];
        let info = |account: Option<&str>| ServiceInfo {
            name: NAME.into(),
            display_name: "WorkForce0 agent".into(),
            service_type: ServiceType::OWN_PROCESS,
            start_type: ServiceStartType::AutoStart,
            error_control: ServiceErrorControl::Normal,
            executable_path: PathBuf::from(&plan.program),
            launch_arguments: args.iter().map(OsString::from).collect(),
            dependencies: Vec::new(),
            account_name: account.map(OsString::from),
            account_password: None,
        };
        if let Some(service) = self.open(ServiceAccess::ALL_ACCESS)? {
            let changed = service.change_config(&info(None));
            changed.map_err(|e| failed("the service cannot be changed", &e))?;
            return Ok(service);
        }
        let access = ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE;
        ServiceManager::local_computer(None::<&OsStr>, access)
            .and_then(|manager| {
                manager.create_service(&info(Some(ACCOUNT)), ServiceAccess::ALL_ACCESS)
            })
            .map_err(|e| failed("the service cannot be registered", &e))
    }

    /// Sets how the service starts and when the manager restarts it: after a crash, and while another daemon uses the
    /// state folder. With the exit codes 76, 77 and 78 the service reports its stop, so the manager sees no crash.
    fn configure(service: &Service, stop_limit: Duration) -> windows_service::Result<()> {
        let again = |seconds| ServiceAction {
            action_type: ServiceActionType::Restart,
            delay: Duration::from_secs(seconds),
        };
        service.set_description("Runs WorkForce0 tickets with a coding CLI")?;
        service.set_delayed_auto_start(true)?;
        service.set_preshutdown_timeout(stop_limit)?;
        service.update_failure_actions(ServiceFailureActions {
            reset_period: ServiceFailureResetPeriod::After(Duration::from_secs(24 * 3600)),
            reboot_msg: None,
            command: None,
            actions: Some(vec![again(10), again(60), again(300)]),
        })
    }

    fn stop(&self, service: &Service) -> Result<(), String> {
        let is_stopped = || {
            let status = service.query_status();
            matches!(status, Ok(status) if status.current_state == ServiceState::Stopped)
        };
        if is_stopped() {
            return Ok(());
        }
        let stopping = service.stop();
        let stopping = stopping.map_err(|e| failed("the service cannot be stopped", &e))?;
        let limit = stopping.wait_hint.max(LIMIT);
        let halt = Halt::never();
        for _ in 0..limit.as_millis() / STOP_LOOK.as_millis() {
            if is_stopped() {
                return Ok(());
            }
            halt.pause(STOP_LOOK);
        }
        Err(format!("the service does not stop; see {}", self.log))
    }

    /// The environment variables of the service, in the form that `reg` writes to the registry.
    fn environment_of(&self, plan: &Plan) -> String {
        let (name, folder) = state_dir(&self.environment);
        format!("PATH={}{SEPARATOR}{name}={folder}", plan.path)
    }

    pub fn definition(&self, plan: &Plan) -> String {
        let (program, settings) = (&plan.program, &plan.settings);
        format!(
            "service: {NAME}\naccount: {ACCOUNT}\nstart: with the machine, delayed\n\
             command: \"{program}\" {AS_SERVICE} --env-file \"{settings}\"\n{}\n",
            self.environment_of(plan).replace(SEPARATOR, "\n")
        )
    }

    pub fn install(&self, plan: &Plan, stop_limit: Duration) -> Result<String, String> {
        let service = self.register(plan)?;
        if let Err(e) = Self::configure(&service, stop_limit) {
            eprintln!(
                "wf0-agent: Windows does not take all options of the service: {}",
                words(&e)
            );
        }
        let value = self.environment_of(plan);
        let add = ["add", KEY, "/f", "/v", "Environment", "/t", "REG_MULTI_SZ"];
        self.tool(
            "reg",
            &[&add[..], &["/s", SEPARATOR, "/d", &value]].concat(),
        )?;
        let folder = folder(&self.environment);
        std::fs::create_dir_all(&folder)
            .map_err(|e| format!("{} cannot be created: {e}", folder.display()))?;
        let shown = folder.display().to_string();
        for call in CLOSING_CALLS {
            self.tool("icacls", &[&[shown.as_str()], call].concat())?;
        }
        // cargo installs programs in a user's folder. The account has no access there.
        let grant = format!("{ACCOUNT}:RX");
        self.tool("icacls", &[&plan.program, "/grant", &grant])?;
        self.stop(&service)?;
        service.start(&[] as &[&OsStr]).map_err(|e| {
            let what = failed("the service is registered, but does not start", &e);
            format!("{what}; see {}", self.log)
        })?;
        Ok(format!(
            "started as {ACCOUNT}; it starts again with the machine\n\
             Give that account access (icacls, or the properties of a folder): modify for the repositories, read for \
             the CLI and the folders on PATH. List the repositories in git's safe.directory (git config --system), and \
             log the CLI in for that account.\n\
             To run it as yourself, with your CLI's login: services.msc, WorkForce0 agent, Log On; then give yourself \
             access to {}",
            folder.display()
        ))
    }

    /// `false`: no service is installed.
    pub fn uninstall(&self) -> Result<bool, String> {
        let Some(service) = self.open(ServiceAccess::ALL_ACCESS)? else {
            return Ok(false);
        };
        self.stop(&service)?;
        let deleted = service.delete();
        deleted.map_err(|e| failed("the service cannot be removed", &e))?;
        Ok(true)
    }

    /// The state of the service as text, and whether the service runs. `None`: no service is installed.
    pub fn status(&self) -> Result<Option<(String, bool)>, String> {
        let Some(service) = self.open(ServiceAccess::QUERY_STATUS)? else {
            return Ok(None);
        };
        let status = service.query_status();
        let status = status.map_err(|e| failed("the service manager does not answer", &e))?;
        let (state, code) = (status.current_state, status.exit_code);
        let text = match status.process_id {
            Some(pid) => format!("{state:?}, pid {pid}"),
            None => format!("{state:?}, exit code {code:?}"),
        };
        Ok(Some((text, state != ServiceState::Stopped)))
    }
}

fn failed(what: &str, e: &Error) -> String {
    let is_denied = matches!(e, Error::Winapi(e) if e.raw_os_error() == Some(ACCESS_DENIED));
    let fix = match is_denied {
        true => "; administrators do this: open a shell with \"Run as administrator\"",
        false => "",
    };
    format!("{what}: {}{fix}", words(e))
}
