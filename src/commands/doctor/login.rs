//! Looks whether the CLI is logged in, without asking its vendor. It only looks whether a file or a variable exists and
//! reads no secret. It cannot see a login in the system's keychain.

use std::path::{Path, PathBuf};

use crate::environment::Environment;

/// What exists once a person has logged in to a CLI.
struct Login {
    program: &'static str,
    /// The variable that names the folder.
    folder_variable: &'static str,
    /// The folder in the home folder, if that variable is not set.
    folder: &'static str,
    file: &'static str,
    variables: &'static [&'static str],
}

const LOGINS: &[Login] = &[
    Login {
        program: "claude",
        folder_variable: "CLAUDE_CONFIG_DIR",
        folder: ".claude",
        file: ".credentials.json",
        variables: &[
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "CLAUDE_CODE_OAUTH_TOKEN",
        ],
    },
    Login {
        program: "codex",
        folder_variable: "CODEX_HOME",
        folder: ".codex",
        file: "auth.json",
        variables: &["CODEX_API_KEY", "OPENAI_API_KEY"],
    },
    Login {
        program: "opencode",
        folder_variable: "XDG_DATA_HOME",
        folder: ".local/share",
        file: "opencode/auth.json",
        variables: &["ANTHROPIC_API_KEY", "OPENAI_API_KEY"],
    },
    Login {
        program: "gemini",
        folder_variable: "GEMINI_CLI_HOME",
        folder: "",
        file: ".gemini/oauth_creds.json",
        variables: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
    },
    Login {
        program: "cursor-agent",
        folder_variable: "XDG_CONFIG_HOME",
        folder: ".config",
        file: "cursor/auth.json",
        variables: &["CURSOR_API_KEY"],
    },
];

/// The sign that the CLI is logged in, or all signs that were looked for.
pub fn sign_of_login(command: &str, environment: &Environment) -> Result<String, String> {
    let stem = Path::new(command).file_stem().unwrap_or_default();
    let mut logins = LOGINS.iter();
    let Some(login) = logins.find(|login| stem.eq_ignore_ascii_case(login.program)) else {
        return Err(String::new());
    };
    let value = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    if let Some(name) = login.variables.iter().find(|name| value(name).is_some()) {
        return Ok(format!("{name} is set"));
    }
    let home = value(if cfg!(windows) { "USERPROFILE" } else { "HOME" });
    let own = value(login.folder_variable).map(PathBuf::from);
    let folder = own.or_else(|| Some(PathBuf::from(home?).join(login.folder)));
    let path = folder.map(|folder| folder.join(login.file));
    let mut signs: Vec<_> = login
        .variables
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    if let Some(path) = path {
        if path.exists() {
            return Ok(format!("{} is there", path.display()));
        }
        signs.insert(0, path.display().to_string());
    }
    Err(signs.join(", "))
}
