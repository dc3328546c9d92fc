//! systemd: a service of this user, made from `contrib/systemd/wf0-agent-user.service`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Manager, Plan};
use crate::environment::Environment;
use crate::job::{CallEnd, tool};

const TEMPLATE: &str = include_str!("../../../contrib/systemd/wf0-agent-user.service");
const UNIT: &str = "wf0-agent.service";
/// Above `TimeoutStopSec=` of the unit, which may be waited for.
const LIMIT: Duration = Duration::from_secs(120);
/// systemd answers when the daemon has registered. The daemon goes on trying after this time.
const START_LIMIT: Duration = Duration::from_secs(30);

pub struct Systemd {
    environment: Environment,
    /// The user's folder for configuration.
    config: PathBuf,
}

impl Systemd {
    pub fn new(environment: Environment) -> Result<Self, String> {
        let folder = |name: &str| {
            let folder = environment.get(name).map(PathBuf::from);
            folder.filter(|path| path.is_absolute())
        };
        let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
        let config = config.ok_or("HOME is not set, so there is no folder for a service")?;
        Ok(Self {
            environment,
            config,
        })
    }

    fn file(&self) -> PathBuf {
        self.config.join("systemd/user").join(UNIT)
    }

    fn ask(&self, args: &[&str], limit: Duration) -> Result<CallEnd, String> {
        let args: Vec<_> = std::iter::once(&"--user").chain(args).copied().collect();
        let said = tool::ask("systemctl", &args, &self.environment, limit);
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
        Err(format!(
            "systemctl --user {} failed: {}\n\
             Usual cause: your systemd does not run. It starts when you log in, not with su or sudo; WSL needs \
             systemd=true in /etc/wsl.conf; most containers have none.\n\
             What to do: log in and try again, or start wf0-agent itself. More may be in {}",
            args.join(" "),
            said.words(),
            self.log()
        ))
    }
}

impl Manager for Systemd {
    fn settings(&self) -> PathBuf {
        self.config.join("wf0-agent/settings")
    }

    fn place(&self) -> String {
        self.file().display().to_string()
    }

    fn definition(&self, plan: &Plan) -> String {
        unit(plan)
    }

    fn install(&self, plan: &Plan, _stop_limit: Duration) -> Result<String, String> {
        // Asked first, so that no unit is left where systemd does not answer.
        self.demand(&["show-environment"])?;
        let file = self.file();
        let failed = |e| format!("{} cannot be written: {e}", file.display());
        fs::create_dir_all(file.parent().unwrap_or(&file)).map_err(failed)?;
        fs::write(&file, unit(plan)).map_err(failed)?;
        self.demand(&["daemon-reload"])?;
        self.demand(&["enable", UNIT])?;
        let said = self.ask(&["restart", UNIT], START_LIMIT)?;
        let started = match said.code() {
            Some(0) => "started, and registered with the backend",
            None => "started, but not registered with the backend yet; it keeps trying",
            Some(_) => {
                let (words, log) = (said.words(), self.log());
                return Err(format!(
                    "the service is installed, but does not start: {words}; see {log}"
                ));
            }
        };
        let environment = &self.environment;
        let user = environment.get("USER").or(environment.get("LOGNAME"));
        let is_lingering =
            user.is_some_and(|user| Path::new("/var/lib/systemd/linger").join(user).exists());
        let boot = if is_lingering {
            ""
        } else {
            "\nIt runs while you are logged in. To start it at boot: loginctl enable-linger"
        };
        Ok(format!("installed: {}\n{started}{boot}", file.display()))
    }

    fn is_installed(&self) -> Result<bool, String> {
        Ok(self.file().exists())
    }

    fn uninstall(&self) -> Result<(), String> {
        self.demand(&["disable", "--now", UNIT])?;
        let file = self.file();
        fs::remove_file(&file).map_err(|e| format!("{} cannot be removed: {e}", file.display()))?;
        self.demand(&["daemon-reload"])
    }

    fn status(&self) -> Result<(String, bool), String> {
        let said = self.ask(&["status", "--no-pager", UNIT], LIMIT)?;
        Ok((format!("{}{}", said.stdout, said.stderr), said.is_well()))
    }

    fn log(&self) -> String {
        "journalctl --user -u wf0-agent -f".to_owned()
    }
}

/// The unit: the template without the part that explains how to install it by hand.
fn unit(plan: &Plan) -> String {
    let Plan {
        program,
        settings,
        path,
    } = plan;
    let mut unit = "\
        # wf0-agent as a service of your own user. `wf0-agent service install` wrote this file and overwrites it. Put\n\
        # your changes into a drop-in: systemctl --user edit wf0-agent\n\n"
        .to_owned();
    for line in TEMPLATE.lines().skip_while(|line| *line != "[Unit]") {
        unit += &match line {
            line if line.starts_with("ExecStart=") => {
                format!("ExecStart=\"{program}\" --env-file \"{settings}\"\n")
            }
            line if line.starts_with("Environment=PATH=") => {
                format!("Environment=\"PATH={path}\"\n")
            }
            line => format!("{line}\n"),
        };
    }
    unit
}
