//! Reads the values of settings. A value comes from a flag, the environment or `.env`, in this order. Without any of
//! these, the default of the table counts. `Reader` collects the errors, so that the user sees all of them at once.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::settings::{Fallback, Kind, Setting, find};
use crate::environment::Environment;

/// The source of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Flag,
    Environment,
    File,
}

/// The settings that the command line gives.
#[derive(Debug, Default, Clone)]
pub struct Given {
    pub flags: HashMap<String, OsString>,
    /// The file to read instead of `.env` in the working directory.
    pub env_file: Option<PathBuf>,
}

pub struct Sources {
    flags: HashMap<String, OsString>,
    pub environment: Environment,
    env_file: HashMap<String, String>,
}

impl Sources {
    /// Reads the settings file. The error never quotes a value from it, because the file may contain the token.
    pub fn collect(given: Given, environment: Environment) -> Result<Self, String> {
        let default = PathBuf::from(".env");
        let env_file = match given.env_file {
            Some(path) => read_env_file(&path)?,
            None if default.is_file() => read_env_file(&default)?,
            None => HashMap::new(),
        };
        Ok(Self {
            flags: given.flags,
            environment,
            env_file,
        })
    }

    /// The value from the first source that has one.
    pub fn get(&self, name: &str) -> Option<OsString> {
        self.look_up(name).map(|(value, _)| value)
    }

    /// The value from the first source that has one, and that source. An empty value counts as not set: container files
    /// and units often set variables that they do not use.
    pub fn look_up(&self, name: &str) -> Option<(OsString, Origin)> {
        // curl and most other programs read a proxy setting first by its lower-case name, then by its upper-case name.
        let lower = name.ends_with("_PROXY").then(|| name.to_ascii_lowercase());
        for origin in [Origin::Flag, Origin::Environment, Origin::File] {
            for name in lower.as_deref().into_iter().chain([name]) {
                let value: Option<OsString> = match origin {
                    Origin::Flag => self.flags.get(name).cloned(),
                    Origin::Environment => self.environment.get(name).map(Into::into),
                    Origin::File => self.env_file.get(name).map(Into::into),
                };
                if let Some(value) = value.filter(|value| !value.is_empty()) {
                    return Some((value, origin));
                }
            }
        }
        None
    }

    /// The names for `look_up`: the setting's own name, or one name for each role that a source names.
    pub fn names_of(&self, setting: &Setting) -> Vec<String> {
        let given = self.flags.keys().chain(self.env_file.keys()).cloned();
        setting.names(given.chain(self.environment.names()))
    }
}

fn read_env_file(path: &Path) -> Result<HashMap<String, String>, String> {
    let failed = |problem: String| format!("{}: {problem}", path.display());
    let bytes = std::fs::read(path).map_err(|e| failed(format!("cannot be read: {e}")))?;
    // Some editors on Windows put a byte order mark at the start of a file.
    let entries = dotenvy::from_read_iter(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes));
    let mut values = HashMap::new();
    let mut place = "the first entry".to_owned();
    for entry in entries {
        let (name, value) = entry.map_err(|e| match e {
            dotenvy::Error::Io(e) => failed(format!("cannot be read: {e}")),
            _ => failed(format!(
                "{place} is not NAME=value; quote values that contain spaces or #"
            )),
        })?;
        // If a quote is not closed, the value includes the next lines. An error about this value would show the token.
        let mut further = value.lines().skip(1);
        if further.any(|line| line.contains("WORKFORCE0_AGENT_TOKEN")) {
            return Err(failed(format!(
                "the value of {name} includes the line of the token; close its quote"
            )));
        }
        place = format!("the entry after {name}");
        // As in a shell, the last assignment of a name counts.
        values.insert(name, value);
    }
    Ok(values)
}

/// An error in one setting.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{setting}: {problem} (example: {setting}={example})")]
pub struct SettingError {
    pub setting: String,
    pub problem: String,
    /// A correct value.
    pub example: &'static str,
}

pub(super) struct Reader<'a> {
    pub sources: &'a Sources,
    pub errors: Vec<SettingError>,
}

impl Reader<'_> {
    pub fn is_set(&self, name: &str) -> bool {
        self.sources.get(name).is_some()
    }

    /// Adds an error. Always returns `None`, because the setting has no usable value.
    pub fn wrong<T>(&mut self, name: &str, problem: impl Into<String>) -> Option<T> {
        self.errors.push(SettingError {
            setting: name.to_owned(),
            problem: problem.into(),
            example: known(name).example,
        });
        None
    }

    /// Parses the value or else the default. `None`: there is neither, or this call added an error.
    pub fn value<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = match (self.sources.get(name), known(name).fallback) {
            (Some(value), _) => match value.to_str() {
                Some(text) => parse(text),
                None => Err("is not UTF-8".to_owned()),
            },
            (None, Fallback::Value(default)) => parse(default),
            (None, Fallback::Required) => Err("is not set".to_owned()),
            (None, Fallback::Nothing | Fallback::Computed(_)) => return None,
        };
        match parsed {
            Ok(value) => Some(value),
            Err(problem) => self.wrong(name, problem),
        }
    }

    /// Reads a number. After an error the result does not matter, because the settings are refused.
    pub fn number(&mut self, name: &str) -> u64 {
        let Kind::Number(range) = &known(name).kind else {
            panic!("{name} is no number in the table of settings");
        };
        let (least, most) = (range.start(), range.end());
        let parse = |text: &str| match text.trim().parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("must be a whole number from {least} to {most}")),
        };
        self.value(name, parse).unwrap_or_default()
    }

    pub fn seconds(&mut self, name: &str) -> Duration {
        Duration::from_secs(self.number(name))
    }

    /// Reads a choice. `values` have the order of the words in the table. After an error the result does not matter,
    /// because the settings are refused.
    pub fn choice<T: Copy, const N: usize>(&mut self, name: &str, values: [T; N]) -> T {
        let Kind::Choice(words) = known(name).kind else {
            panic!("{name} is no choice in the table of settings");
        };
        let parse = |text: &str| {
            let mut pairs = words.iter().zip(values);
            match pairs.find(|(word, _)| word.eq_ignore_ascii_case(text.trim())) {
                Some((_, value)) => Ok(value),
                None => Err(format!("must be one of {}", words.join(", "))),
            }
        };
        self.value(name, parse).unwrap_or(values[0])
    }

    pub fn switch(&mut self, name: &str) -> bool {
        self.choice(name, [false, true])
    }
}

fn known(name: &str) -> &'static Setting {
    find(name).unwrap_or_else(|| panic!("{name} is not in the table of settings"))
}
