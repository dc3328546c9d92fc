//! Whether the CLI is logged in, as far as that can be told without asking its maker. No secret is read: that a file
//! or a variable is there is all there is to see. Some keep their login in the system's keychain, where it is not seen.

use std::path::PathBuf;

use super::known;
use crate::environment::Environment;

/// What is there once somebody has logged in.
#[derive(Debug)]
pub struct Login {
    /// The variable that names the folder, the folder in the home folder otherwise, and the file in either.
    pub file: Option<(&'static str, &'static str, &'static str)>,
    pub variables: &'static [&'static str],
}

/// What says that the CLI is logged in, else everything that would.
pub fn sign_of_login(command: &str, environment: &Environment) -> Result<String, String> {
    let Login { file, variables } = &known(command).login;
    let value = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    if let Some(name) = variables.iter().find(|name| value(name).is_some()) {
        return Ok(format!("{name} is set"));
    }
    let home = || value(if cfg!(windows) { "USERPROFILE" } else { "HOME" });
    let path = file.and_then(|(variable, folder, name)| {
        let folder = value(variable)
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(home()?).join(folder)))?;
        Some(folder.join(name))
    });
    match path {
        Some(path) if path.exists() => Ok(format!("{} is there", path.display())),
        path => {
            let path = path.map(|path| path.display().to_string());
            let signs: Vec<_> = path
                .into_iter()
                .chain(variables.iter().map(|name| (*name).to_owned()))
                .collect();
            Err(signs.join(", "))
        }
    }
}
