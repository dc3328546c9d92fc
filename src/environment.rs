//! The daemon's environment at its start, and the part of it that each kind of child process gets.

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};

use crate::domain::ticket::RunId;

/// The variable that identifies the processes of a run. It has one id, or several if runs are nested.
pub(crate) const MARK: &str = "WF0_RUN_ID";
/// The variable that tells a run's processes their ticket.
pub(crate) const TICKET: &str = "WF0_TICKET_ID";

/// The variable that names the socket for reports to systemd (sd_notify(3)).
pub(crate) const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// A copy of the environment. It is taken once, so that no child gets a variable that a library sets later. It has no
/// `Debug`, because it may contain the token.
#[derive(Clone, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    pub(crate) fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    pub fn new(variables: Vec<(OsString, OsString)>) -> Self {
        Self(variables)
    }

    /// Adds the variables. Each replaces one of the same name.
    #[cfg(feature = "tools")]
    pub(crate) fn with(mut self, variables: &[(String, String)]) -> Self {
        for (name, value) in variables {
            self.0.retain(|(own, _)| !is_same(own, name));
            self.0.push((name.into(), value.into()));
        }
        self
    }

    /// Keeps only the variables of these names.
    #[cfg(feature = "tools")]
    pub(crate) fn only(mut self, names: &[&str]) -> Self {
        self.0
            .retain(|(own, _)| names.iter().any(|name| is_same(own, name)));
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0
            .iter()
            .find(|(own, _)| is_same(own, name))
            .map(|(_, value)| value.as_os_str())
    }

    /// The names that are valid UTF-8.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .filter_map(|(name, _)| name.to_str().map(str::to_owned))
    }

    /// For a coding CLI: everything except the daemon's own variables. These are the token and other settings, the socket of
    /// the service manager, and the mark, of which each run gets its own.
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

    /// The mark of a run's processes. If this daemon is itself part of a run, that run's mark comes first.
    pub(crate) fn mark_of(&self, run: RunId) -> OsString {
        let mut mark = self
            .get(MARK)
            .map(|outer| OsString::from_iter([outer, OsStr::new(",")]))
            .unwrap_or_default();
        mark.push(run.to_string());
        mark
    }

    /// The mark of git while it works for a run. It differs from the run's own mark, because the end of the run must not end
    /// git. If this daemon dies, the next one ends git by this mark.
    pub(crate) fn mark_of_git(&self, run: RunId) -> OsString {
        let mut mark = self.mark_of(run);
        mark.push("-git");
        mark
    }

    /// For git: without the variables that would make it use another repository or start programs.
    pub(crate) fn for_git(&self) -> Vec<(OsString, OsString)> {
        let mut variables = self.for_cli();
        variables.retain(|(name, _)| !has_prefix(name, "GIT_"));
        variables
    }
}

/// On Windows names are case-insensitive.
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
