//! What keeps this machine from the backend, with what a person can do about it.

/// Why a [`super::Route`] leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.in_one_line())]
pub struct RouteError {
    pub what: String,
    /// What a person can do about it, if that is known.
    pub fix: Option<String>,
}

impl RouteError {
    pub(super) fn new(what: String) -> Self {
        Self { what, fix: None }
    }

    pub(super) fn with_fix(what: String, fix: impl Into<String>) -> Self {
        Self {
            what,
            fix: Some(fix.into()),
        }
    }

    fn in_one_line(&self) -> String {
        match &self.fix {
            Some(fix) => format!("{}; {fix}", self.what),
            None => self.what.clone(),
        }
    }
}
