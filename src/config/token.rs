//! The agent token. No log line and no error can contain it.

use std::fmt;

use super::sources::Reader;

/// `Debug` does not show the token.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(
                "contains a space, a control or a non-ASCII character, so it is no token"
                    .to_owned(),
            );
        }
        Ok(Self(text.to_owned()))
    }

    pub(super) fn read(r: &mut Reader) -> Option<Self> {
        const NAME: &str = "WORKFORCE0_AGENT_TOKEN";
        const FILE: &str = "WORKFORCE0_AGENT_TOKEN_FILE";
        const MISSING: &str =
            "is not set: create one in the web UI under Settings → Agents → Create token";
        match (r.is_set(NAME), r.is_set(FILE)) {
            (true, _) => r.value(NAME, Self::new),
            (false, true) => r.value(FILE, |path| {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| format!("{path:?} cannot be read: {e}"))?;
                Self::new(&text).map_err(|problem| format!("the content of {path:?} {problem}"))
            }),
            (false, false) => r.wrong(NAME, MISSING),
        }
    }

    /// The token itself, for the `auth` frame of the hub dialect. No other frame contains the token.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// The value of the `Authorization` header (RFC 6750 section 2.1).
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
