//! The dialects that a backend may speak, as far as policy can tell them apart (docs/protocol.md section 8).

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The documented protocol.
    #[default]
    Ticket,
    /// The hub inside the backend as it ships today.
    Hub,
}

impl Dialect {
    pub const ALL: [Self; 2] = [Self::Ticket, Self::Hub];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Hub => "hub",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == text)
    }

    pub fn other(self) -> Self {
        match self {
            Self::Ticket => Self::Hub,
            Self::Hub => Self::Ticket,
        }
    }

    /// A heartbeat goes with each so many Pings: the hub wants one every 30 s.
    pub fn pings_per_heartbeat(self) -> u32 {
        match self {
            Self::Ticket => 1,
            Self::Hub => 3,
        }
    }

    /// Whether work that waits at the backend is only handed out when the agent registers.
    pub fn registers_after_outcome(self) -> bool {
        self == Self::Hub
    }

    /// Whether a failure is the end of a ticket, however retryable it is called.
    pub fn failures_are_final(self) -> bool {
        self == Self::Hub
    }

    /// Whether an outcome that the backend has may be sent to it once more: the hub would start a second QA job.
    pub fn takes_outcomes_twice(self) -> bool {
        self == Self::Ticket
    }
}
