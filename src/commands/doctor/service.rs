//! The installed service: that it is there and runs, and with which settings and environment the other checks are to be
//! made so that they hold for it.

use std::path::Path;

use super::{Check, Status};
use crate::commands::service::{Run, find_installed};
use crate::config::CliConfig;
use crate::config::settings::Given;
use crate::environment::Environment;
use crate::job::cli::find;

const NAME: &str = "service";
const AGAIN: &str = "wf0-agent service install";

/// What is said of the service, and what it starts the daemon with; nothing where there is none.
pub fn look(own: &Environment) -> (Vec<Check>, Option<(Given, Environment)>) {
    let (manager, definition) = match find_installed(own) {
        Ok(Some(found)) => found,
        Ok(None) => return (vec![Check::fail(NAME, "none is installed for this user", AGAIN)], None),
        Err(why) => return (vec![split(&why)], None),
    };
    let place = &definition.place;
    let mut checks = vec![match std::env::current_exe() {
        _ if !Path::new(&definition.program).is_file() => {
            Check::fail(NAME, format!("{place} starts {}, which is not there", definition.program), AGAIN)
        }
        Ok(this) if this != Path::new(&definition.program) => {
            let message = format!("{place} starts {}, and this is {}", definition.program, this.display());
            Check::warn(NAME, message, format!("{AGAIN}, if it is to be this one"))
        }
        _ => Check::ok(NAME, format!("{place} starts {}", definition.program)),
    }];
    if !definition.unread.is_empty() {
        let message = format!("{} of {place} are not looked at here", definition.unread.join(", "));
        checks.push(Check::warn(NAME, message, "what they set may differ from what the checks below say"));
    }
    checks.push(match manager.state() {
        Err(why) => split(&why),
        Ok(state) if state.run == Run::Not => {
            let words = if state.words.is_empty() { String::new() } else { format!(": {}", state.words) };
            Check::fail(NAME, format!("does not run{words}"), format!("{AGAIN} starts it; {}", manager.log()))
        }
        Ok(state) if !state.enabled => Check::warn(NAME, "runs, but does not start by itself", AGAIN),
        Ok(state) if state.run == Run::Starting => {
            Check::warn(NAME, "runs, and has not reached the backend yet", manager.log())
        }
        Ok(state) => Check::ok(NAME, format!("runs ({})", state.words)),
    });
    let base = manager.environment().unwrap_or_else(|why| {
        checks.push(split(&why));
        manager.least()
    });
    match definition.given() {
        Ok(given) => (checks, Some((given, base.with(&definition.variables)))),
        Err(why) => {
            checks.push(Check::fail(NAME, why, AGAIN));
            (checks, None)
        }
    }
}

/// A program that the service does not find and this shell does needs no installing.
pub fn with_this_path(checks: &mut [Check], cli: Option<&CliConfig>, own: &Environment, service: &Environment) {
    let command = cli.map_or("claude", |cli| cli.command.as_str());
    for check in checks.iter_mut().filter(|check| check.status == Status::Fail) {
        let program = match check.name.as_str() {
            "CLI" => command,
            "git" => "git",
            _ => continue,
        };
        let found = find::program(program, own.get("PATH"));
        if let (Some(found), None) = (found, find::program(program, service.get("PATH"))) {
            check.fix = Some(format!("{} is on the PATH of this shell: {AGAIN} takes that over", found.display()));
        }
    }
}

/// Lines of service managers say what to do behind a semicolon.
fn split(text: &str) -> Check {
    let (message, fix) = text.split_once("; ").unwrap_or((text, AGAIN));
    Check::fail(NAME, message, fix)
}
