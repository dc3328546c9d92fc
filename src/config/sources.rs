//! Where the values of settings come from: a flag, the environment, `.env`, in this order. Values are not checked here.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::settings::{Setting, find};
use crate::environment::Environment;

/// Where a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Flag,
    Environment,
    File,
}

/// What the command line says about settings.
#[derive(Debug, Default, Clone)]
pub struct Given {
    pub flags: HashMap<String, OsString>,
    /// Instead of `.env` in the working directory.
    pub env_file: Option<PathBuf>,
}

#[derive(Default)]
pub struct Sources {
    flags: HashMap<String, OsString>,
    environment: Environment,
    env_file: HashMap<String, String>,
}

impl Sources {
    /// `environment` is that of this process.
    pub fn collect(given: Given, environment: Environment) -> Result<Self, EnvFileError> {
        let Given { flags, env_file } = given;
        let default = || Some(PathBuf::from(".env")).filter(|path| path.is_file());
        let env_file = match env_file.or_else(default) {
            Some(path) => read_env_file(&path)?,
            None => HashMap::new(),
        };
        Ok(Self {
            flags,
            environment,
            env_file,
        })
    }

    /// These flags and this token alone: no file, and no setting of the user's environment.
    pub fn only(
        flags: HashMap<String, OsString>,
        environment: &Environment,
        token: OsString,
    ) -> Self {
        let mut variables = environment.for_cli();
        variables.retain(|(name, _)| find(&name.to_string_lossy()).is_none());
        variables.push(("WORKFORCE0_AGENT_TOKEN".into(), token));
        Self {
            flags,
            environment: Environment::new(variables),
            env_file: HashMap::new(),
        }
    }

    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The value that counts.
    pub fn get(&self, name: &str) -> Option<OsString> {
        self.look_up(name).map(|(value, _)| value)
    }

    /// The value that counts, and where it was found. An empty value counts as none: container files and units often set
    /// what they do not use.
    pub fn look_up(&self, name: &str) -> Option<(OsString, Origin)> {
        // curl and most other programs read proxies in lower case too, and before those in upper case.
        let lower = name.ends_with("_PROXY").then(|| name.to_ascii_lowercase());
        let names = || lower.as_deref().into_iter().chain([name]);
        let flag = self
            .flags
            .get(name)
            .map(|value| (value.clone(), Origin::Flag));
        let variables = names()
            .filter_map(|name| Some((self.environment.get(name)?.into(), Origin::Environment)));
        let lines =
            names().filter_map(|name| Some((self.env_file.get(name)?.into(), Origin::File)));
        flag.into_iter()
            .chain(variables)
            .chain(lines)
            .find(|(value, _)| !value.is_empty())
    }

    /// The names by which a setting can be looked up: its own, or one for each role that a source names.
    pub fn names_of(&self, setting: &Setting) -> Vec<String> {
        if !setting.is_for_roles() {
            return vec![setting.name.to_owned()];
        }
        let names = self
            .flags
            .keys()
            .chain(self.env_file.keys())
            .cloned()
            .chain(self.environment.names());
        let mut names: Vec<_> = names
            .filter(|name| find(name).is_some_and(|found| found.name == setting.name))
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Why the file of settings cannot be read. It never quotes the file, which may contain the token.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .path.display())]
pub struct EnvFileError {
    path: PathBuf,
    problem: String,
}

fn read_env_file(path: &Path) -> Result<HashMap<String, String>, EnvFileError> {
    let failed = |problem: String| EnvFileError {
        path: path.to_owned(),
        problem,
    };
    let bytes = std::fs::read(path).map_err(|e| failed(format!("cannot be read: {e}")))?;
    // Some editors of Windows begin a file with a byte order mark.
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
        // A quote that is not closed takes the next lines into the value, and an error about that value would show the token.
        if value
            .lines()
            .skip(1)
            .any(|line| line.contains("WORKFORCE0_AGENT_TOKEN"))
        {
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
