//! The name of a branch that a backend asks for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A name of `A-Z a-z 0-9 . _ / -` that git takes for a branch and nothing takes for an option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Branch(String);

impl Branch {
    /// docs/protocol.md section 8, and the rules of git-check-ref-format(1) that such characters can break.
    pub fn parse(text: &str) -> Result<Self, String> {
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
        let component =
            |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
        let is_branch = text.len() <= 200
            && text.chars().all(usable)
            && !text.starts_with('-')
            && !text.ends_with('.')
            && !text.contains("..")
            && text.split('/').all(component)
            && text != "HEAD";
        if is_branch {
            Ok(Self(text.to_owned()))
        } else {
            Err("branch is no name that git takes".to_owned())
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Branch {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
