//! The daemon's environment as it was at the start, and what of it each kind of child gets.

use std::ffi::{OsStr, OsString};

use crate::domain::ticket::RunId;

/// The variable that a run's processes are known by: one id, or several where runs are nested.
pub const MARK: &str = "WF0_RUN_ID";
/// The variable that tells them their ticket.
pub const TICKET: &str = "WF0_TICKET_ID";

/// Where systemd hears how the service is (sd_notify(3)).
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// A copy of the environment. Taken once, so that nothing that a library sets later reaches a child.
/// It has no `Debug`: the token may be in it.
#[derive(Clone, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    pub fn new(variables: Vec<(OsString, OsString)>) -> Self {
        Self(variables)
    }

    /// With those variables, each instead of one of that name.
    pub fn with(mut self, variables: &[(String, String)]) -> Self {
        for (name, value) in variables {
            self.0.retain(|(own, _)| !is_same(own, name));
            self.0.push((name.into(), value.into()));
        }
        self
    }

    /// Only those of these names.
    pub fn only(mut self, names: &[&str]) -> Self {
        self.0
            .retain(|(own, _)| names.iter().any(|name| is_same(own, name)));
        self
    }

    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0
            .iter()
            .find(|(own, _)| is_same(own, name))
            .map(|(_, value)| value.as_os_str())
    }

    /// The names that are text.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .filter_map(|(name, _)| name.to_str().map(str::to_owned))
    }

    /// For a coding CLI: everything but the daemon's own settings, the token first of all, the way to its service
    /// manager, and the mark, which each run gets anew.
    pub fn for_cli(&self) -> Vec<(OsString, OsString)> {
        let foreign = |name: &OsStr| {
            has_prefix(name, "WORKFORCE0_")
                || [MARK, TICKET, NOTIFY_SOCKET]
                    .iter()
                    .any(|own| is_same(name, own))
        };
        self.0
            .iter()
            .filter(|(name, _)| !foreign(name))
            .cloned()
            .collect()
    }

    /// What a run's processes are marked with: its own id, behind that of the run that this daemon is part of.
    pub fn mark_of(&self, run: RunId) -> OsString {
        let mut mark = self
            .get(MARK)
            .map(|outer| OsString::from_iter([outer, OsStr::new(",")]))
            .unwrap_or_default();
        mark.push(run.to_string());
        mark
    }

    /// What git is marked with while it works for a run. It is not of the run's tree: it goes on when that is ended,
    /// and only the next daemon ends it, should this one die.
    pub fn mark_of_git(&self, run: RunId) -> OsString {
        let mut mark = self.mark_of(run);
        mark.push("-git");
        mark
    }

    /// For git: without the variables that would lead it to another repository or have it start programs.
    pub fn for_git(&self) -> Vec<(OsString, OsString)> {
        let mut variables = self.for_cli();
        variables.retain(|(name, _)| !has_prefix(name, "GIT_"));
        variables
    }
}

/// Windows takes names without regard to case.
fn is_same(own: &OsStr, name: &str) -> bool {
    if cfg!(windows) {
        own.eq_ignore_ascii_case(name)
    } else {
        own == name
    }
}

fn has_prefix(name: &OsStr, prefix: &str) -> bool {
    name.to_string_lossy()
        .get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
