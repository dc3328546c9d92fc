//! The installed service: that it is there and runs, and with which settings and environment the other checks are to be
//! made so that they hold for it.

use std::path::Path;

use super::Check;
use crate::commands::service::{Run, find_installed};
use crate::config::Config;
use crate::config::settings::Given;
use crate::environment::Environment;
use crate::job::cli::find;

const NAME: &str = "service";

/// What the service starts the daemon with.
pub struct Service {
    pub given: Given,
    pub environment: Environment,
    /// What people type to have it installed anew.
    again: &'static str,
}

/// What is said of the service; nothing beyond that where there is none.
pub fn look(own: &Environment) -> (Vec<Check>, Option<Service>) {
    let (manager, definition) = match find_installed(own) {
        Ok(Some(found)) => found,
        Ok(None) => {
            return (
                vec![Check::fail(
                    NAME,
                    "none is installed for this user",
                    "wf0-agent service install",
                )],
                None,
            );
        }
        Err(why) => return (vec![split(&why)], None),
    };
    let (place, again) = (&definition.place, manager.command());
    let mut checks = vec![match std::env::current_exe() {
        _ if !Path::new(&definition.program).is_file() => Check::fail(
            NAME,
            format!("{place} starts {}, which is not there", definition.program),
            again,
        ),
        Ok(this) if this != Path::new(&definition.program) => {
            let message = format!(
                "{place} starts {}, and this is {}",
                definition.program,
                this.display()
            );
            Check::warn(NAME, message, format!("{again}, if it is to be this one"))
        }
        _ => Check::ok(NAME, format!("{place} starts {}", definition.program)),
    }];
    if !definition.unread.is_empty() {
        let message = format!(
            "{} of {place} are not looked at here",
            definition.unread.join(", ")
        );
        checks.push(Check::warn(
            NAME,
            message,
            "what they set may differ from what the checks below say",
        ));
    }
    checks.push(match manager.state() {
        Err(why) => split(&why),
        Ok(state) if state.run == Run::Not => {
            let words = if state.words.is_empty() {
                String::new()
            } else {
                format!(": {}", state.words)
            };
            Check::fail(
                NAME,
                format!("does not run{words}"),
                format!("{again} starts it; {}", manager.log()),
            )
        }
        Ok(state) if !state.enabled => {
            Check::warn(NAME, "runs, but does not start by itself", again)
        }
        Ok(state) if state.run == Run::Starting => Check::warn(
            NAME,
            "runs, and has not reached the backend yet",
            manager.log(),
        ),
        Ok(state) => Check::ok(NAME, format!("runs ({})", state.words)),
    });
    let base = manager.environment().unwrap_or_else(|why| {
        checks.push(split(&why));
        manager.least()
    });
    match definition.given() {
        Ok(given) => (
            checks,
            Some(Service {
                given,
                environment: base.with(&definition.variables),
                again,
            }),
        ),
        Err(why) => {
            checks.push(Check::fail(NAME, why, again));
            (checks, None)
        }
    }
}

/// The program of that check is not on the service's PATH, and is on that of this shell: it needs no installing.
pub fn with_this_path(
    check: Check,
    config: Option<&Config>,
    own: &Environment,
    service: &Service,
) -> Check {
    let program = match (check.name.as_str(), config) {
        ("CLI", Some(config)) => config.cli.command.as_str(),
        ("git", _) => "git",
        _ => return check,
    };
    let there = find::program(program, own.get("PATH"));
    match (
        there,
        find::program(program, service.environment.get("PATH")),
    ) {
        (Some(there), None) => {
            let fix = format!(
                "{} is on the PATH of this shell: {} takes that over",
                there.display(),
                service.again
            );
            Check {
                fix: Some(fix),
                ..check
            }
        }
        _ => check,
    }
}

/// Lines of service managers say what to do behind a semicolon.
fn split(text: &str) -> Check {
    let (message, fix) = text
        .split_once("; ")
        .unwrap_or((text, "see what wf0-agent service status says"));
    Check::fail(NAME, message, fix)
}
