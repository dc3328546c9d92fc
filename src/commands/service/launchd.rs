//! launchd on macOS. Installs an agent of the user's session from `contrib/launchd/com.workforce0.agent.plist`.
//!
//! A daemon of the machine would not work: it cannot reach the keychain, where some CLIs keep their login.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Plan, make_folder_of, plain, remove, write};
use crate::environment::Environment;
use crate::job::Halt;
use crate::job::{CallEnd, tool};

const TEMPLATE: &str = include_str!("../../../contrib/launchd/com.workforce0.agent.plist");
/// `service install` replaces these four texts in the template.
const PROGRAM: &str = "/Users/ME/.cargo/bin/wf0-agent";
const SETTINGS: &str = "/Users/ME/.config/wf0-agent/settings";
const PATH: &str = "/Users/ME/.local/bin:/Users/ME/.cargo/bin:/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
const LOG: &str = "/Users/ME/Library/Logs/wf0-agent.log";
const HEAD: &str = "\
<!-- wf0-agent as a launchd agent of your own user. `wf0-agent service install` wrote this file and overwrites it. -->
";
const LABEL: &str = "com.workforce0.agent";
const LIMIT: Duration = Duration::from_secs(20);
/// How long to wait until the agent has ended. `bootout` does not wait, and launchd cannot load a running agent again.
/// The agent may take as long as `ExitTimeOut` in the plist.
const STOP_LIMIT: Duration = Duration::from_secs(100);
const STOP_LOOK: Duration = Duration::from_millis(500);

pub struct Launchd {
    pub settings: PathBuf,
    pub place: String,
    pub log: String,
    environment: Environment,
    /// The user's session: `gui/501`.
    domain: String,
    /// The agent in this session: `gui/501/com.workforce0.agent`.
    target: String,
}

impl Launchd {
    pub fn new(environment: &Environment) -> Result<Self, String> {
        let home = environment.get("HOME").map(Path::new);
        let home = home.filter(|path| path.is_absolute());
        let home = home.ok_or("HOME is not set, so there is no folder for an agent")?;
        let home_text = plain("HOME", home)?;
        let domain = format!("gui/{}", nix::unistd::getuid());
        Ok(Self {
            settings: home.join(".config/wf0-agent/settings"),
            place: format!("{home_text}/Library/LaunchAgents/{LABEL}.plist"),
            log: format!("{home_text}/Library/Logs/wf0-agent.log"),
            environment: environment.clone(),
            target: format!("{domain}/{LABEL}"),
            domain,
        })
    }

    /// The property list: the template without the comment that explains how to install it by hand.
    pub fn definition(&self, plan: &Plan) -> String {
        let (start, rest) = TEMPLATE.split_once("<!--").unwrap_or(("", TEMPLATE));
        let (_, body) = rest.split_once("-->\n").unwrap_or(("", rest));
        let body = body.replace(PROGRAM, &plan.program);
        let body = body.replace(SETTINGS, &plan.settings);
        let body = body.replace(PATH, &plan.path).replace(LOG, &self.log);
        format!("{start}{HEAD}{body}")
    }

    /// `_stop_limit` is not used: the property list contains the time limit for stopping.
    pub fn install(&self, plan: &Plan, _stop_limit: Duration) -> Result<String, String> {
        self.unload()?;
        let (place, domain) = (&self.place, &self.domain);
        write(place, &self.definition(plan))?;
        // launchd creates the log file, but not its folder.
        make_folder_of(&self.log)?;
        // A disabled agent stays disabled even if launchd loads it again.
        self.ask(&["enable", &self.target])?;
        let said = self.ask(&["bootstrap", domain, place])?;
        if said.is_well() {
            return Ok("started; it starts again whenever you log in".to_owned());
        }
        let words = said.words();
        Err(format!(
            "launchctl bootstrap {domain} {place} failed: {words}; it needs a session at the screen: over ssh alone it fails"
        ))
    }

    /// `false`: no agent is installed.
    pub fn uninstall(&self) -> Result<bool, String> {
        if !Path::new(&self.place).exists() {
            return Ok(false);
        }
        self.unload()?;
        remove(&self.place)?;
        Ok(true)
    }

    /// The text from launchd about the agent, and whether the agent runs. `None`: no agent is installed.
    pub fn status(&self) -> Result<Option<(String, bool)>, String> {
        if !Path::new(&self.place).exists() {
            return Ok(None);
        }
        let said = self.ask(&["print", &self.target])?;
        // `print` succeeds for every loaded agent, even if its process has ended.
        let is_running = said.is_well() && said.stdout.contains("state = running");
        Ok(Some((said.stdout + &said.stderr, is_running)))
    }

    fn ask(&self, args: &[&str]) -> Result<CallEnd, String> {
        let said = tool::ask("launchctl", args, &self.environment, LIMIT, &Halt::never());
        said.map_err(|e| format!("launchctl cannot be started ({e}): is /bin on PATH?"))
    }

    fn is_loaded(&self) -> Result<bool, String> {
        Ok(self.ask(&["print", &self.target])?.is_well())
    }

    /// Stops the agent and waits until launchd has unloaded it.
    fn unload(&self) -> Result<(), String> {
        if !self.is_loaded()? {
            return Ok(());
        }
        let said = self.ask(&["bootout", &self.target])?;
        let halt = Halt::never();
        for _ in 0..STOP_LIMIT.as_millis() / STOP_LOOK.as_millis() {
            if !self.is_loaded()? {
                return Ok(());
            }
            halt.pause(STOP_LOOK);
        }
        let (target, words, log) = (&self.target, said.words(), &self.log);
        Err(format!(
            "launchctl bootout {target} failed: {words}; see {log}"
        ))
    }
}
