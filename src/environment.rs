//! The daemon's environment as it was at the start, and what of it each kind of child gets.

use std::ffi::{OsStr, OsString};

/// A copy of the environment. Taken once, so that nothing that a library sets later reaches a child.
#[derive(Debug, Clone, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    pub fn new(variables: Vec<(OsString, OsString)>) -> Self {
        Self(variables)
    }

    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().find(|(own, _)| is_same(own, name)).map(|(_, value)| value.as_os_str())
    }

    /// For a coding CLI: everything but the daemon's own settings, the token first of all.
    pub fn for_cli(&self) -> Vec<(OsString, OsString)> {
        self.without_prefix("WORKFORCE0_")
    }

    /// For git: without the variables that would lead it to another repository or have it start programs.
    pub fn for_git(&self) -> Vec<(OsString, OsString)> {
        let mut variables = self.for_cli();
        variables.retain(|(name, _)| !has_prefix(name, "GIT_"));
        variables
    }

    fn without_prefix(&self, prefix: &str) -> Vec<(OsString, OsString)> {
        self.0.iter().filter(|(name, _)| !has_prefix(name, prefix)).cloned().collect()
    }
}

/// Windows takes names without regard to case.
fn is_same(own: &OsStr, name: &str) -> bool {
    if cfg!(windows) { own.eq_ignore_ascii_case(name) } else { own == name }
}

fn has_prefix(name: &OsStr, prefix: &str) -> bool {
    name.to_string_lossy().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
