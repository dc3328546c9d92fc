//! launchd: an agent of the user's session on macOS, made from `contrib/launchd/com.workforce0.agent.plist`.
//!
//! It is not a daemon of the machine: that could not reach the keychain, where some CLIs keep their login.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::{Manager, Plan};
use crate::environment::Environment;
use crate::job::Halt;
use crate::job::{CallEnd, tool};

const TEMPLATE: &str = include_str!("../../../contrib/launchd/com.workforce0.agent.plist");
const LABEL: &str = "com.workforce0.agent";
const LIMIT: Duration = Duration::from_secs(20);
/// `bootout` does not wait for the end, which may come as late as `ExitTimeOut` of the plist says. Until then the agent
/// cannot be loaded again.
const STOP_LIMIT: Duration = Duration::from_secs(100);
const STOP_LOOK: Duration = Duration::from_millis(500);

pub struct Launchd {
    environment: Environment,
    home: PathBuf,
    /// The user's session: `gui/501`.
    domain: String,
}

impl Launchd {
    pub fn new(environment: Environment) -> Result<Self, String> {
        let home = environment.get("HOME").map(PathBuf::from);
        let home = home
            .filter(|path| path.is_absolute())
            .ok_or("HOME is not set, so there is no folder for an agent")?;
        Ok(Self {
            environment,
            home,
            domain: format!("gui/{}", nix::unistd::getuid()),
        })
    }

    fn file(&self) -> PathBuf {
        let folder = self.home.join("Library/LaunchAgents");
        folder.join(format!("{LABEL}.plist"))
    }

    fn target(&self) -> String {
        format!("{}/{LABEL}", self.domain)
    }

    fn ask(&self, args: &[&str]) -> Result<CallEnd, String> {
        let said = tool::ask("launchctl", args, &self.environment, LIMIT);
        said.map_err(|e| format!("launchctl cannot be started ({e}): is /bin on PATH?"))
    }

    fn is_loaded(&self) -> Result<bool, String> {
        Ok(self.ask(&["print", &self.target()])?.is_well())
    }

    /// Stops the agent and waits until launchd has forgotten it.
    fn unload(&self) -> Result<(), String> {
        if !self.is_loaded()? {
            return Ok(());
        }
        let target = self.target();
        let said = self.ask(&["bootout", &target])?;
        let halt = Halt::never();
        for _ in 0..STOP_LIMIT.as_millis() / STOP_LOOK.as_millis() {
            if !self.is_loaded()? {
                return Ok(());
            }
            halt.pause(STOP_LOOK);
        }
        let (words, log) = (said.words(), self.log());
        Err(format!(
            "launchctl bootout {target} failed: {words}; see {log}"
        ))
    }
}

impl Manager for Launchd {
    fn settings(&self) -> PathBuf {
        self.home.join(".config/wf0-agent/settings")
    }

    fn place(&self) -> String {
        self.file().display().to_string()
    }

    fn definition(&self, plan: &Plan) -> String {
        plist(plan, &self.log())
    }

    fn install(&self, plan: &Plan, _stop_limit: Duration) -> Result<String, String> {
        self.unload()?;
        let (file, text) = (self.place(), self.definition(plan));
        // launchd creates the log file, but not its folder.
        for folder in ["Library/Logs", "Library/LaunchAgents"] {
            let folder = self.home.join(folder);
            fs::create_dir_all(&folder)
                .map_err(|e| format!("{} cannot be created: {e}", folder.display()))?;
        }
        fs::write(&file, text).map_err(|e| format!("{file} cannot be written: {e}"))?;
        // An agent that was disabled once stays disabled, however often it is loaded.
        self.ask(&["enable", &self.target()])?;
        let said = self.ask(&["bootstrap", &self.domain, &file])?;
        if said.is_well() {
            return Ok(format!(
                "installed: {file}\nstarted; it starts again whenever you log in"
            ));
        }
        Err(format!(
            "launchctl bootstrap {} {file} failed: {}; it needs a session at the screen: over ssh alone it fails",
            self.domain,
            said.words()
        ))
    }

    fn is_installed(&self) -> Result<bool, String> {
        Ok(self.file().exists())
    }

    fn uninstall(&self) -> Result<(), String> {
        self.unload()?;
        let file = self.file();
        fs::remove_file(&file).map_err(|e| format!("{} cannot be removed: {e}", file.display()))
    }

    fn status(&self) -> Result<(String, bool), String> {
        let said = self.ask(&["print", &self.target()])?;
        // `print` succeeds for each agent that is loaded, also for one that has ended.
        let is_running = said.is_well() && said.stdout.contains("state = running");
        Ok((format!("{}{}", said.stdout, said.stderr), is_running))
    }

    fn log(&self) -> String {
        let file = self.home.join("Library/Logs/wf0-agent.log");
        file.display().to_string()
    }
}

/// The property list: the template without the comment that explains how to install it by hand.
fn plist(plan: &Plan, log: &str) -> String {
    let (head, rest) = TEMPLATE.split_once("<!--").unwrap_or(("", TEMPLATE));
    let (_, body) = rest.split_once("-->\n").unwrap_or(("", rest));
    let mut plist = head.to_owned();
    plist += "<!-- wf0-agent as a launchd agent of your own user. `wf0-agent service install` wrote this file and\n\
              overwrites it. -->\n";
    for line in body.lines() {
        let value = match line {
            line if line.contains("/bin/wf0-agent<") => Some(plan.program.as_str()),
            line if line.contains("/settings<") => Some(plan.settings.as_str()),
            line if line.contains("/opt/homebrew/bin:") => Some(plan.path.as_str()),
            line if line.contains("/wf0-agent.log<") => Some(log),
            _ => None,
        };
        let indent = line.split('<').next().unwrap_or_default();
        plist += &value.map_or_else(
            || format!("{line}\n"),
            |value| format!("{indent}<string>{value}</string>\n"),
        );
    }
    plist
}
