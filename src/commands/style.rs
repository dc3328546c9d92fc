//! Colours and times at a terminal.

use std::time::SystemTime;

use crate::environment::Environment;

/// Each value is the parameter of the escape sequence SGR (ECMA-48 section 8.3.117).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
}

impl Colour {
    pub fn paint(self, text: &str, colours: bool) -> String {
        if colours {
            format!("\x1b[{}m{text}\x1b[0m", self as u8)
        } else {
            text.to_owned()
        }
    }
}

/// Whether to use colours. `NO_COLOR` turns them off (<https://no-color.org>).
pub fn knows_colours(environment: &Environment) -> bool {
    knows_sequences(environment)
        && environment
            .get("NO_COLOR")
            .is_none_or(|value| value.is_empty())
}

/// Whether the terminal understands escape sequences.
pub fn knows_sequences(environment: &Environment) -> bool {
    let has = |name| environment.get(name).is_some_and(|value| !value.is_empty());
    let is_dumb = environment.get("TERM").is_some_and(|term| term == "dumb");
    // A Windows console that sets none of these variables may print the sequences as text.
    let is_known = !cfg!(windows) || has("WT_SESSION") || has("TERM") || has("ANSICON");
    is_known && !is_dumb
}

/// The time of day in UTC: `12:03:04Z`.
pub fn clock(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or_default();
    at.strftime("%H:%M:%SZ").to_string()
}
