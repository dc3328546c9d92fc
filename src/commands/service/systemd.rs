//! systemd. Installs a service of this user from `contrib/systemd/wf0-agent-user.service`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Plan, plain, remove, write};
use crate::environment::Environment;
use crate::job::{CallEnd, Halt, tool};

const TEMPLATE: &str = include_str!("../../../contrib/systemd/wf0-agent-user.service");
/// `service install` replaces these two texts in the template.
const COMMAND: &str = "%h/.cargo/bin/wf0-agent --env-file %E/wf0-agent/settings";
const PATH: &str = "PATH=%h/.local/bin:%h/.cargo/bin:/usr/local/bin:/usr/bin:/bin";
const HEAD: &str = "\
# wf0-agent as a service of your own user. `wf0-agent service install` wrote this file and overwrites it. Put your changes
# into a drop-in: systemctl --user edit wf0-agent
";
const UNIT: &str = "wf0-agent.service";
const LOG: &str = "journalctl --user -u wf0-agent -f";
/// The time limit for `systemctl`. It is above `TimeoutStopSec=` of the unit, because a command may wait for the stop.
const LIMIT: Duration = Duration::from_secs(120);
/// How long `install` waits for `restart`, which ends when the daemon has registered. After this time the daemon still
/// tries to register.
const START_LIMIT: Duration = Duration::from_secs(30);

pub struct Systemd {
    pub settings: PathBuf,
    pub place: String,
    pub log: String,
    environment: Environment,
}

impl Systemd {
    pub fn new(environment: &Environment) -> Result<Self, String> {
        let folder = |name: &str| {
            let folder = environment.get(name).map(PathBuf::from);
            folder.filter(|path| path.is_absolute())
        };
        let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
        let config = config.ok_or("HOME is not set, so there is no folder for a service")?;
        let file = config.join("systemd/user").join(UNIT);
        Ok(Self {
            settings: config.join("wf0-agent/settings"),
            place: plain("the path of the unit", &file)?,
            log: LOG.to_owned(),
            environment: environment.clone(),
        })
    }

    /// The unit: the template without the part that explains how to install it by hand.
    pub fn definition(&self, plan: &Plan) -> String {
        let (_, unit) = TEMPLATE.split_once("\n[Unit]\n").unwrap_or(("", TEMPLATE));
        let command = format!("\"{}\" --env-file \"{}\"", plan.program, plan.settings);
        let unit = unit.replace(COMMAND, &command);
        let unit = unit.replace(PATH, &format!("\"PATH={}\"", plan.path));
        format!("{HEAD}\n[Unit]\n{unit}")
    }

    /// `_stop_limit` is not used: the unit contains the time limit for stopping.
    pub fn install(&self, plan: &Plan, _stop_limit: Duration) -> Result<String, String> {
        // This only tests that systemd answers. If it does not, `install` leaves no unit behind.
        self.demand(&["show-environment"])?;
        write(&self.place, &self.definition(plan))?;
        self.demand(&["daemon-reload"])?;
        self.demand(&["enable", UNIT])?;
        let said = self.ask(&["restart", UNIT], START_LIMIT)?;
        let started = match said.code() {
            Some(0) => "started, and registered with the backend",
            None => "started, but not registered with the backend yet; it keeps trying",
            Some(_) => {
                let words = said.words();
                return Err(format!(
                    "the service is installed, but does not start: {words}; see {LOG}"
                ));
            }
        };
        Ok(format!(
            "{started}\nIt runs while you are logged in. To start it at boot: loginctl enable-linger"
        ))
    }

    /// `false`: no service is installed.
    pub fn uninstall(&self) -> Result<bool, String> {
        if !Path::new(&self.place).exists() {
            return Ok(false);
        }
        self.demand(&["disable", "--now", UNIT])?;
        remove(&self.place)?;
        self.demand(&["daemon-reload"])?;
        Ok(true)
    }

    /// The text from systemd about the service, and whether the service runs. `None`: no service is installed.
    pub fn status(&self) -> Result<Option<(String, bool)>, String> {
        if !Path::new(&self.place).exists() {
            return Ok(None);
        }
        let said = self.ask(&["status", "--no-pager", UNIT], LIMIT)?;
        let is_running = said.is_well();
        Ok(Some((said.stdout + &said.stderr, is_running)))
    }

    fn ask(&self, args: &[&str], limit: Duration) -> Result<CallEnd, String> {
        let args = [&["--user"], args].concat();
        let said = tool::ask("systemctl", &args, &self.environment, limit, &Halt::never());
        said.map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                "systemctl is not on PATH, so systemd cannot run a service here: start wf0-agent itself, or see \
                 contrib/docker"
                    .to_owned()
            }
            _ => format!("systemctl cannot be started: {e}"),
        })
    }

    fn demand(&self, args: &[&str]) -> Result<(), String> {
        let said = self.ask(args, LIMIT)?;
        if said.is_well() {
            return Ok(());
        }
        let (args, words) = (args.join(" "), said.words());
        Err(format!(
            "systemctl --user {args} failed: {words}\n\
             Usual cause: your systemd does not run. It starts when you log in, not with su or sudo; WSL needs \
             systemd=true in /etc/wsl.conf; most containers have none.\n\
             What to do: log in and try again, or start wf0-agent itself. More may be in {LOG}"
        ))
    }
}
