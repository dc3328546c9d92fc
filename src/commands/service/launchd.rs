//! launchd: an agent of the user's session on macOS, made from `contrib/launchd/com.workforce0.agent.plist`; and the
//! other way round, what an installed one would start.
//!
//! Not a daemon of the machine: that would not reach the keychain, where some CLIs keep their login.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::template::{between, elements, fill, without_comments, xml};
use super::{Definition, Draft, Manager, Plan, Run, State, put};
use crate::commands::exit::MEANINGS;
use crate::environment::Environment;
use crate::job::Halt;
use crate::job::tool::{self, Said};

const TEMPLATE: &str = include_str!("../../../contrib/launchd/com.workforce0.agent.plist");
const LABEL: &str = "com.workforce0.agent";
/// What launchd gives to an agent.
const USUAL_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";
const LIMIT: Duration = Duration::from_secs(20);
/// `bootout` does not wait for the end, which may come as late as `ExitTimeOut` of the plist, and until then the agent
/// cannot be loaded anew.
const STOP_LIMIT: Duration = Duration::from_secs(100);
const STOP_LOOK: Duration = Duration::from_millis(500);

/// The user's own launchd.
pub struct Launchd {
    environment: Environment,
    home: PathBuf,
    /// `gui/501`
    domain: String,
}

impl Launchd {
    pub fn new(environment: Environment) -> Result<Self, String> {
        let home = environment
            .get("HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let home =
            home.ok_or("HOME is not set, and so there is no folder for an agent of yours")?;
        Ok(Self {
            environment,
            home,
            domain: format!("gui/{}", user()),
        })
    }

    fn file(&self) -> PathBuf {
        self.home
            .join("Library/LaunchAgents")
            .join(format!("{LABEL}.plist"))
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("Library/Logs/wf0-agent.log")
    }

    fn target(&self) -> String {
        format!("{}/{LABEL}", self.domain)
    }

    fn ask(&self, args: &[&str]) -> Result<Said, String> {
        tool::ask("launchctl", args, &self.environment, LIMIT).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => "there is no launchctl on PATH: add /bin to it".to_owned(),
            _ => format!("launchctl cannot be started: {e}"),
        })
    }

    fn is_loaded(&self) -> Result<bool, String> {
        Ok(self.ask(&["print", &self.target()])?.is_well())
    }

    /// Stops it and waits until launchd knows nothing of it any more.
    fn unload(&self) -> Result<(), String> {
        if !self.is_loaded()? {
            return Ok(());
        }
        let said = self.ask(&["bootout", &self.target()])?;
        let halt = Halt::never();
        for _ in 0..STOP_LIMIT.as_millis() / STOP_LOOK.as_millis() {
            if !self.is_loaded()? {
                return Ok(());
            }
            halt.pause(STOP_LOOK);
        }
        Err(format!(
            "launchctl bootout {} failed: {}; {}",
            self.target(),
            said.words(),
            self.log()
        ))
    }
}

impl Manager for Launchd {
    fn settings(&self) -> PathBuf {
        self.home.join(".config/wf0-agent/settings")
    }

    fn environment(&self) -> Result<Environment, String> {
        Ok(self.least())
    }

    fn least(&self) -> Environment {
        let names = [
            "HOME",
            "USER",
            "LOGNAME",
            "SHELL",
            "TMPDIR",
            "SSH_AUTH_SOCK",
        ];
        self.environment
            .clone()
            .only(&names)
            .with(&[("PATH".to_owned(), USUAL_PATH.to_owned())])
    }

    fn draft(&self, plan: &Plan) -> Result<Draft, String> {
        let file = self.file().display().to_string();
        let text = plist(plan, &self.log_file().display().to_string());
        Ok(Draft {
            definition: Definition {
                place: file.clone(),
                ..read(&text)
            },
            text,
            steps: vec![
                format!("launchctl bootout {}", self.target()),
                format!("launchctl enable {}", self.target()),
                format!("launchctl bootstrap {} {file}", self.domain),
            ],
            place: file,
        })
    }

    fn installed(&self) -> Result<Option<Definition>, String> {
        let place = self.file().display().to_string();
        match std::fs::read_to_string(self.file()) {
            Ok(text) => Ok(Some(Definition {
                place,
                ..read(&text)
            })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(format!("{place} cannot be read: {e}")),
        }
    }

    fn current_text(&self) -> Option<String> {
        std::fs::read_to_string(self.file()).ok()
    }

    fn install(&self, draft: &Draft, _stop_limit: Duration) -> Result<Vec<String>, String> {
        self.unload()?;
        // launchd makes the log, not its folder.
        std::fs::create_dir_all(self.home.join("Library/Logs"))
            .map_err(|e| format!("~/Library/Logs: {e}"))?;
        put(&self.file(), draft.text.as_bytes())?;
        // One that was disabled once stays so, however often it is loaded.
        self.ask(&["enable", &self.target()])?;
        let said = self.ask(&["bootstrap", &self.domain, &draft.place])?;
        if said.is_well() {
            return Ok(vec![
                "it is started, as it will be whenever you log in".to_owned(),
            ]);
        }
        let why = format!(
            "launchctl bootstrap {} {} failed: {}",
            self.domain,
            draft.place,
            said.words()
        );
        Err(format!(
            "{why}; it is an agent of a session at the screen, so not over ssh alone: try again there"
        ))
    }

    fn uninstall(&self) -> Result<(), String> {
        self.unload()?;
        std::fs::remove_file(self.file())
            .map_err(|e| format!("{} cannot be removed: {e}", self.file().display()))
    }

    fn state(&self) -> Result<State, String> {
        let said = self.ask(&["print", &self.target()])?;
        Ok(if said.is_well() {
            state(&said.stdout)
        } else {
            State::default()
        })
    }

    fn log(&self) -> String {
        format!("log: {}", self.log_file().display())
    }
}

/// The property list for that plan.
pub fn plist(plan: &Plan, log: &str) -> String {
    let comment = between(TEMPLATE, "<!--", "-->").unwrap_or_default();
    let new_comment = "\n\
        wf0-agent as a launchd agent of your own user. wf0-agent service install wrote this from its template and writes it\n\
        anew.\n";
    let path = elements(TEMPLATE, "string")
        .into_iter()
        .find(|text| text.contains("/homebrew/"))
        .unwrap_or_default();
    fill(
        TEMPLATE,
        &[
            (comment, new_comment.to_owned()),
            ("/Users/ME/.cargo/bin/wf0-agent<", xml(&plan.program) + "<"),
            (
                "/Users/ME/.config/wf0-agent/settings<",
                xml(&plan.settings) + "<",
            ),
            (path.as_str(), xml(&plan.path)),
            ("/Users/ME/Library/Logs/wf0-agent.log", xml(log)),
        ],
    )
}

/// What a property list starts, with which variables.
pub fn read(plist: &str) -> Definition {
    let plist = without_comments(plist);
    let after = |key: &str, end: &str| {
        between(&plist, &format!("<key>{key}</key>"), end).unwrap_or_default()
    };
    let mut words = elements(after("ProgramArguments", "</array>"), "string").into_iter();
    let variables = after("EnvironmentVariables", "</dict>");
    let variables = elements(variables, "key")
        .into_iter()
        .zip(elements(variables, "string"))
        .collect();
    Definition {
        program: words.next().unwrap_or_default(),
        args: words.collect(),
        variables,
        ..Definition::default()
    }
}

/// What `launchctl print` tells of an agent that is loaded.
pub fn state(printed: &str) -> State {
    let value = |name: &str| {
        let of_it = |line: &str| {
            line.trim()
                .strip_prefix(name)?
                .strip_prefix(" = ")
                .map(str::to_owned)
        };
        printed.lines().find_map(of_it)
    };
    let run = if value("state").is_some_and(|state| state == "running") {
        Run::Running
    } else {
        Run::Not
    };
    let ended =
        value("last exit code").and_then(|code| code.split([':', ' ']).next()?.parse::<u8>().ok());
    let meaning = MEANINGS
        .iter()
        .find(|(code, _)| Some(*code) == ended && *code != 0);
    let words = match run {
        Run::Not => meaning.map(|(code, meaning)| format!("it ended with {code}: {meaning}")),
        _ => value("pid").map(|pid| format!("pid {pid}")),
    };
    State {
        enabled: true,
        run,
        words: words.unwrap_or_default(),
    }
}

#[cfg(unix)]
fn user() -> u32 {
    nix::unistd::getuid().as_raw()
}

#[cfg(not(unix))]
fn user() -> u32 {
    0
}
