//! What the session has to say to whoever looks after the daemon: a line each, for the log or a terminal.

use std::fmt;

use super::ticket::{RunId, TicketId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub level: Level,
    pub kind: Kind,
    /// With its attempt.
    pub ticket: Option<(TicketId, u32)>,
    /// Where a folder of it is meant.
    pub run: Option<RunId>,
    pub text: String,
}

/// README.md says what each is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// What has happened, for those that tell lines apart: a terminal by a sign, a program by a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Other,
    Connected,
    Disconnected,
    Claimed,
    Done,
    Failed,
    Refused,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Other,
        Self::Connected,
        Self::Disconnected,
        Self::Claimed,
        Self::Done,
        Self::Failed,
        Self::Refused,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Claimed => "claimed",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Notice {
    fn new(level: Level, text: impl Into<String>) -> Self {
        Self {
            level,
            kind: Kind::Other,
            ticket: None,
            run: None,
            text: text.into(),
        }
    }

    pub fn info(text: impl Into<String>) -> Self {
        Self::new(Level::Info, text)
    }

    pub fn warn(text: impl Into<String>) -> Self {
        Self::new(Level::Warn, text)
    }

    pub fn error(text: impl Into<String>) -> Self {
        Self::new(Level::Error, text)
    }

    pub fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    pub fn run(self, run: RunId) -> Self {
        Self {
            run: Some(run),
            ..self
        }
    }

    pub fn of(self, id: &TicketId, attempt: u32) -> Self {
        Self {
            ticket: Some((id.clone(), attempt)),
            ..self
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((id, attempt)) = &self.ticket {
            write!(f, "ticket {id} (attempt {attempt}): ")?;
        }
        f.write_str(&self.text)
    }
}
