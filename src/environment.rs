//! The daemon's environment at its start, and the part of it that each kind of child process gets.

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};

use crate::domain::ticket::RunId;

/// The variable that marks the processes of a run. It holds the run's id. If the daemon itself is part of another run,
/// the other run's id comes first.
pub(crate) const MARK: &str = "WF0_RUN_ID";
/// The variable that tells a run's processes their ticket.
pub(crate) const TICKET: &str = "WF0_TICKET_ID";

/// The variable that holds the path of the socket for reports to systemd (sd_notify(3)).
pub(crate) const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// A copy of the environment. The daemon takes it once, so no child process gets a variable that a library sets later.
/// The type has no `Debug`, because the copy may contain the token.
#[derive(Clone, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    pub(crate) fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    pub fn new(variables: Vec<(OsString, OsString)>) -> Self {
        Self(variables)
    }

    /// Adds variables. A new variable replaces an old one with the same name.
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

    /// The variables for a coding CLI: all except the daemon's own. The daemon's own are its settings with the token,
    /// the socket of the service manager, the ticket and the mark. Each run gets its own ticket and mark.
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

    /// The mark of a run's processes.
    pub(crate) fn mark_of(&self, run: RunId) -> OsString {
        let mut mark = self
            .get(MARK)
            .map(|outer| OsString::from_iter([outer, OsStr::new(",")]))
            .unwrap_or_default();
        mark.push(run.to_string());
        mark
    }

    /// The mark of git processes that work for a run. It differs from the run's mark, because the end of the run must
    /// not end git. If this daemon dies, the next one finds these processes by the mark and ends them.
    pub(crate) fn mark_of_git(&self, run: RunId) -> OsString {
        let mut mark = self.mark_of(run);
        mark.push("-git");
        mark
    }

    /// The variables for git: those for a CLI, without `GIT_*`. These could make git use another repository or start
    /// programs.
    pub(crate) fn for_git(&self) -> Vec<(OsString, OsString)> {
        let mut variables = self.for_cli();
        variables.retain(|(name, _)| !has_prefix(name, "GIT_"));
        variables
    }
}

/// Whether two names are the same. Windows ignores their case.
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
