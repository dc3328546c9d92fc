//! Windows' task scheduler: a task of one user, without an administrator, made from
//! `contrib/windows/wf0-agent-task.xml`; and the other way round, what a task that is there would start.
//!
//! A service of the machine, which needs an administrator, is in `scm.rs`; what is text of it is here too, so that it
//! is tested on every system.

use std::path::PathBuf;
use std::time::Duration;

use super::template::{between, elements, fill, without_comments, xml};
use super::{Definition, Draft, Manager, Plan, Run, State, put};
use crate::commands::exit::MEANINGS;
use crate::environment::Environment;
use crate::job::tool::{self, Said};

const TEMPLATE: &str = include_str!("../../../contrib/windows/wf0-agent-task.xml");
const TASK: &str = "wf0-agent";
const LIMIT: Duration = Duration::from_secs(30);
/// SCHED_S_TASK_RUNNING and SCHED_S_TASK_HAS_NOT_RUN, as `schtasks` shows them where other words depend on the
/// language.
const IS_RUNNING: &str = "267009";
const HAS_NOT_RUN: &str = "267011";

const MACHINE_VARIABLES: &str =
    r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment";
const USER_VARIABLES: &str = r"HKCU\Environment";

/// What every program has on this machine.
pub const OF_MACHINE: &[&str] = &[
    "SystemRoot",
    "SystemDrive",
    "windir",
    "ComSpec",
    "PATHEXT",
    "Path",
    "ProgramData",
    "ProgramFiles",
    "ProgramFiles(x86)",
    "CommonProgramFiles",
    "NUMBER_OF_PROCESSORS",
    "PROCESSOR_ARCHITECTURE",
    "OS",
    "COMPUTERNAME",
];
/// And what every program of this user.
const OF_USER: &[&str] = &[
    "USERPROFILE",
    "USERNAME",
    "USERDOMAIN",
    "HOMEDRIVE",
    "HOMEPATH",
    "APPDATA",
    "LOCALAPPDATA",
    "TEMP",
    "TMP",
];

/// The task scheduler, for this user.
pub struct Tasks {
    environment: Environment,
    /// Where the settings are, and the definition as it was registered: `schtasks` shows it without what its code page
    /// does not have.
    folder: PathBuf,
}

impl Tasks {
    pub fn new(environment: Environment) -> Result<Self, String> {
        let base = environment
            .get("LOCALAPPDATA")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let base =
            base.ok_or("LOCALAPPDATA is not set, and so there is no folder for a task of yours")?;
        Ok(Self {
            environment,
            folder: base.join("wf0-agent-program"),
        })
    }

    fn file(&self) -> PathBuf {
        self.folder.join("wf0-agent-task.xml")
    }

    fn ask(&self, args: &[&str]) -> Result<Said, String> {
        tool::ask("schtasks", args, &self.environment, LIMIT)
            .map_err(|e| format!("schtasks cannot be started ({e}): is System32 on PATH?"))
    }

    fn demand(&self, args: &[&str]) -> Result<(), String> {
        let said = self.ask(args)?;
        let what = args.join(" ");
        let why = || {
            format!(
                "schtasks {what} failed: {}; taskschd.msc shows the task and its history",
                said.words()
            )
        };
        if said.is_well() { Ok(()) } else { Err(why()) }
    }

    fn is_there(&self) -> Result<bool, String> {
        Ok(self.ask(&["/Query", "/TN", TASK])?.is_well())
    }

    /// PATH as a logon makes it: the machine's, then the user's.
    fn path(&self) -> Option<String> {
        let ask = |key: &str| {
            let said = tool::ask(
                "reg",
                &["query", key, "/v", "Path"],
                &self.environment,
                LIMIT,
            )
            .ok()?;
            registry_value(&said.stdout).map(|value| self.expand(&value))
        };
        let parts: Vec<_> = [MACHINE_VARIABLES, USER_VARIABLES]
            .into_iter()
            .filter_map(ask)
            .collect();
        (!parts.is_empty()).then(|| parts.join(";"))
    }

    fn expand(&self, text: &str) -> String {
        expand(text, |name| {
            self.environment
                .get(name)
                .map(|value| value.to_string_lossy().into_owned())
        })
    }
}

impl Manager for Tasks {
    fn settings(&self) -> PathBuf {
        self.folder.join("settings")
    }

    fn environment(&self) -> Result<Environment, String> {
        Ok(self.least())
    }

    /// A task has what the registry holds for its user; only PATH is worth the question.
    fn least(&self) -> Environment {
        let own = self
            .environment
            .clone()
            .only(&[OF_MACHINE, OF_USER].concat());
        match self.path() {
            Some(path) => own.with(&[("Path".to_owned(), path)]),
            None => own,
        }
    }

    /// A task cannot be given variables.
    fn takes_path(&self) -> bool {
        false
    }

    fn draft(&self, plan: &Plan) -> Result<Draft, String> {
        let name = |name: &str| {
            self.environment
                .get(name)
                .map(|value| value.to_string_lossy().into_owned())
        };
        let user =
            name("USERNAME").ok_or("USERNAME is not set, and a task is for a user by name")?;
        let user =
            name("USERDOMAIN").map_or_else(|| user.clone(), |domain| format!("{domain}\\{user}"));
        let folder = self.folder.display().to_string();
        if [&plan.program, &plan.settings, &folder]
            .into_iter()
            .any(|path| path.contains('%'))
        {
            return Err(
                "the task scheduler takes what stands between two % for a variable: use paths without".to_owned()
            );
        }
        let (text, place) = (
            task(plan, &user, &folder),
            format!("the scheduled task {TASK}"),
        );
        Ok(Draft {
            definition: Definition {
                place: place.clone(),
                ..read(&text)
            },
            place,
            text,
            steps: vec![
                format!(
                    "schtasks /Create /F /TN {TASK} /XML {}",
                    self.file().display()
                ),
                format!("schtasks /Run /TN {TASK}"),
            ],
        })
    }

    fn installed(&self) -> Result<Option<Definition>, String> {
        if !self.is_there()? {
            return Ok(None);
        }
        let text = match self.current_text() {
            Some(text) => text,
            None => self.ask(&["/Query", "/TN", TASK, "/XML"])?.stdout,
        };
        let read = read(&text);
        Ok(Some(Definition {
            place: format!("the scheduled task {TASK}"),
            program: self.expand(&read.program),
            args: read.args.iter().map(|arg| self.expand(arg)).collect(),
            ..read
        }))
    }

    fn current_text(&self) -> Option<String> {
        std::fs::read(self.file())
            .ok()
            .map(|bytes| from_utf16(&bytes))
    }

    fn install(&self, draft: &Draft, _stop_limit: Duration) -> Result<Vec<String>, String> {
        put(&self.file(), &to_utf16(&draft.text))?;
        let file = self.file().display().to_string();
        if self.is_there()? {
            self.demand(&["/End", "/TN", TASK])?;
        }
        self.demand(&["/Create", "/F", "/TN", TASK, "/XML", &file])?;
        self.demand(&["/Run", "/TN", TASK])?;
        Ok(vec![
            "it is started, as it will be whenever you log on; for a start with the machine, as administrator: \
             wf0-agent service install --system"
                .to_owned(),
        ])
    }

    fn uninstall(&self) -> Result<(), String> {
        self.demand(&["/End", "/TN", TASK])?;
        self.demand(&["/Delete", "/F", "/TN", TASK])?;
        // It is only a copy, and may be of a task that was registered by hand.
        let _ = std::fs::remove_file(self.file());
        Ok(())
    }

    fn state(&self) -> Result<State, String> {
        let said = self.ask(&["/Query", "/TN", TASK, "/V", "/FO", "CSV", "/NH"])?;
        Ok(if said.is_well() {
            state(&said.stdout)
        } else {
            State::default()
        })
    }

    fn log(&self) -> String {
        "log: the console window in which it runs".to_owned()
    }
}

/// The task for that plan.
pub fn task(plan: &Plan, user: &str, folder: &str) -> String {
    let comment = between(TEMPLATE, "<!--", "-->").unwrap_or_default();
    let new_comment = "\n\
        wf0-agent as a scheduled task of your own user. wf0-agent service install wrote this from its template and writes it\n\
        anew.\n";
    fill(
        TEMPLATE,
        &[
            (comment, new_comment.to_owned()),
            (r"DOMAIN\user", xml(user)),
            (
                r"%LOCALAPPDATA%\wf0-agent-program\wf0-agent.exe<",
                xml(&plan.program) + "<",
            ),
            (
                r#""%LOCALAPPDATA%\wf0-agent-program\settings""#,
                xml(&format!("\"{}\"", plan.settings)),
            ),
            (
                r"<WorkingDirectory>%LOCALAPPDATA%\wf0-agent-program<",
                format!("<WorkingDirectory>{}<", xml(folder)),
            ),
        ],
    )
}

/// What a task starts.
pub fn read(task: &str) -> Definition {
    let task = without_comments(task);
    let one = |name: &str| elements(&task, name).into_iter().next().unwrap_or_default();
    let program = one("Command").trim_matches('"').to_owned();
    Definition {
        program,
        args: split(&one("Arguments")),
        ..Definition::default()
    }
}

/// A service of the machine for people to read: Windows keeps no text of it.
pub fn described(definition: &Definition, account: &str) -> String {
    let Definition {
        program,
        args,
        variables,
        ..
    } = definition;
    let args: Vec<_> = args
        .iter()
        .map(|arg| {
            if arg.contains(' ') {
                format!("\"{arg}\"")
            } else {
                arg.clone()
            }
        })
        .collect();
    let variables: String = variables
        .iter()
        .map(|(name, value)| format!("variable: {name}={value}\n"))
        .collect();
    format!(
        "service:  wf0-agent\naccount:  {account}\n\
         start:    with the machine, delayed; again after a crash, not after 76, 77, 78\ncommand:  \"{program}\" {}\n{variables}",
        args.join(" ")
    )
}

/// A line of `schtasks /Query /V /FO CSV`: the seventh column is the last result, a number in every language.
pub fn state(csv: &str) -> State {
    let columns: Vec<_> = csv
        .lines()
        .next()
        .unwrap_or_default()
        .split("\",\"")
        .collect();
    let result = columns.get(6).copied().unwrap_or_default();
    let meaning = MEANINGS.iter().find(|(code, _)| code.to_string() == result);
    let words = match result {
        IS_RUNNING | HAS_NOT_RUN | "0" | "" => String::new(),
        result => meaning.map_or_else(
            || format!("its last result is {result}"),
            |(code, meaning)| format!("it ended with {code}: {meaning}"),
        ),
    };
    State {
        enabled: true,
        run: if result == IS_RUNNING {
            Run::Running
        } else {
            Run::Not
        },
        words,
    }
}

/// A command line in words, as Windows does it but for quotes within words: no path has one.
pub fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match c {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !is_quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// `%NAME%` replaced where there is such a variable.
pub fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('%') {
        expanded += before;
        match after
            .split_once('%')
            .and_then(|(name, after)| Some((variable(name)?, after)))
        {
            Some((value, after)) => {
                expanded += &value;
                rest = after;
            }
            None => {
                expanded.push('%');
                rest = after;
            }
        }
    }
    expanded + rest
}

/// The value in what `reg query KEY /v NAME` prints: `    Path    REG_EXPAND_SZ    C:\bin`.
pub fn registry_value(printed: &str) -> Option<String> {
    let of_kind = |line: &str| {
        let (_, rest) = line.split_once("    REG_")?;
        rest.split_once("    ")
            .map(|(_, value)| value.trim_end().to_owned())
    };
    printed.lines().find_map(of_kind)
}

/// As the task scheduler wants its files, with the mark by which they are known.
pub fn to_utf16(text: &str) -> Vec<u8> {
    "\u{feff}"
        .encode_utf16()
        .chain(text.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect()
}

pub fn from_utf16(bytes: &[u8]) -> String {
    let units: Vec<_> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&units)
        .trim_start_matches('\u{feff}')
        .to_owned()
}
