//! The daemon's environment at its start, and the part of it that each kind of child process gets.

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

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{Environment, MARK, TICKET};

    fn environment() -> Environment {
        let names = [
            "PATH",
            "HOME",
            "WORKFORCE0_AGENT_TOKEN",
            "WORKFORCE0_API_URL",
            "workforce0_lower",
            "WORKFORCE",
            "MY_WORKFORCE0_X",
            "GIT_DIR",
            "GIT_SSH_COMMAND",
            "git_index_file",
            "GITHUB_TOKEN",
            "ANTHROPIC_API_KEY",
            MARK,
            TICKET,
        ];
        Environment::new(
            names
                .iter()
                .map(|name| {
                    (
                        OsString::from(name),
                        OsString::from(format!("value of {name}")),
                    )
                })
                .collect(),
        )
    }

    fn names(variables: Vec<(OsString, OsString)>) -> Vec<String> {
        variables
            .into_iter()
            .map(|(name, _)| name.into_string().unwrap())
            .collect()
    }

    /// The CLI gets everything but the daemon's own settings and the marks of a run that the daemon itself is part of.
    #[test]
    fn a_cli_gets_no_setting_of_the_daemon() {
        let wanted = [
            "PATH",
            "HOME",
            "WORKFORCE",
            "MY_WORKFORCE0_X",
            "GIT_DIR",
            "GIT_SSH_COMMAND",
            "git_index_file",
            "GITHUB_TOKEN",
            "ANTHROPIC_API_KEY",
        ];
        assert_eq!(names(environment().for_cli()), wanted);
    }

    /// Git gets neither the daemon's settings nor a variable that leads it elsewhere.
    #[test]
    fn git_gets_no_variable_that_steers_it() {
        let wanted = [
            "PATH",
            "HOME",
            "WORKFORCE",
            "MY_WORKFORCE0_X",
            "GITHUB_TOKEN",
            "ANTHROPIC_API_KEY",
        ];
        assert_eq!(names(environment().for_git()), wanted);
    }

    /// A name that is shorter than the prefix, or no UTF-8, is passed on and breaks nothing.
    #[cfg(unix)]
    #[test]
    fn strange_names_are_passed_on() {
        use std::os::unix::ffi::OsStringExt;
        let strange = [
            b"W".to_vec(),
            b"".to_vec(),
            vec![0xFF, 0xFE],
            "WORKFORCÉ0_".as_bytes().to_vec(),
        ];
        let variables = strange.map(|name| (OsString::from_vec(name), OsString::from("x")));
        let environment = Environment::new(variables.to_vec());
        assert_eq!(environment.for_cli(), variables);
        assert_eq!(environment.for_git(), variables);
    }

    /// A variable is found by its name, and only by that.
    #[test]
    fn variables_are_found_by_name() {
        let environment = environment();
        assert_eq!(environment.get("HOME"), Some("value of HOME".as_ref()));
        assert_eq!(environment.get("HOM"), None);
        assert_eq!(environment.get(""), None);
        assert_eq!(Environment::default().get("HOME"), None);
    }
}
