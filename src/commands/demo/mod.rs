//! `wf0-agent demo`: one ticket from start to end on this machine: no network, no account, nothing left behind.
//!
//! The daemon is the real one, over a real WebSocket. Only the backend and, without `--cli`, the CLI are stand-ins.

/// Prints a line. After a reader has closed the pipe, the demo goes on and still cleans up.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

mod backend;
mod greeter;

use std::collections::HashMap;
use std::ffi::OsString;
use std::time::Duration;

use clap::{ArgMatches, Command};
use serde_json::Value;

use super::{exit, flag, given, run};
use crate::config::{Config, Given, Sources};
use crate::daemon;
use crate::domain::event::DaemonEnd;
use crate::environment::Environment;
use backend::Backend;
pub use greeter::stand_in;
use greeter::{STAND_IN, Scratch, is_from_stand_in};

/// The time limit of the stand-in. A real CLI gets the time limit of a ticket besides.
const STAND_IN_LIMIT: Duration = Duration::from_secs(60);

pub fn command() -> Command {
    Command::new("demo")
        .about("Runs a sample ticket from start to end on this machine, without network or account")
        .arg(flag(
            "cli",
            "Use your configured CLI, and its quota, instead of the built-in stand-in",
        ))
}

/// The demo's built-in CLI. People do not call it.
pub fn stand_in_command() -> Command {
    Command::new(STAND_IN).hide(true)
}

pub fn run(matches: &ArgMatches) -> u8 {
    match try_run(matches.get_flag("cli"), given(matches)) {
        Ok(()) => exit::OK,
        Err(why) => {
            eprintln!("wf0-agent: the demo failed: {why}");
            exit::FAILED
        }
    }
}

fn try_run(own_cli: bool, given: Given) -> Result<(), String> {
    let scratch = Scratch::new()?;
    let environment = Environment::of_process();
    scratch.make_repository(&environment)?;
    let token = format!("wfa_demo_{:016x}", rand::random::<u64>());
    let backend = Backend::listen(&token)?;

    let flags = settings(own_cli, given.flags, &backend.url(), &scratch)?;
    let sources = if own_cli {
        let mut variables = environment.for_cli();
        variables.push(("WORKFORCE0_AGENT_TOKEN".into(), token.into()));
        Sources::collect(Given { flags, ..given }, Environment::new(variables))
            .map_err(|e| e.to_string())?
    } else {
        Sources::only(flags, &environment, token.into())
    };
    let config = Config::load(&sources).map_err(|e| e.to_string())?;
    let limit = if own_cli {
        config.roles.iter().map(|(_, limit)| *limit).max()
    } else {
        None
    };

    say!(
        "A backend on {}, a repository in {}.\n",
        backend.url(),
        scratch.repository().display()
    );
    let (ready, stopper) = crossbeam_channel::bounded(1);
    let serving = backend.serve(limit.unwrap_or_default() + STAND_IN_LIMIT, move || {
        if let Ok(stopper) = stopper.recv() {
            daemon::Stopper::stop(&stopper);
        }
    })?;
    run::end_on_panic(|| ());
    let tell = |stopper: daemon::Stopper| {
        run::stop_on_signals(stopper.clone());
        let _ = ready.send(stopper);
    };
    match daemon::run(config, environment, tell, |_| {}) {
        Ok(DaemonEnd::Asked) => {}
        Ok(other) => return Err(format!("the daemon ended with {other:?}")),
        Err(e) => return Err(e.to_string()),
    }
    let outcome = serving.join();
    let outcome = outcome.map_err(|_| "the demo's backend has panicked".to_owned())??;
    judge(&outcome, own_cli)
}

/// The settings that make the daemon the demo's own. Everything else is as the user has it.
fn settings(
    own_cli: bool,
    mut flags: HashMap<String, OsString>,
    url: &str,
    scratch: &Scratch,
) -> Result<HashMap<String, OsString>, String> {
    let mut repository = OsString::from("demo/greeter=");
    repository.push(scratch.repository());
    flags.insert("WORKFORCE0_API_URL".to_owned(), url.into());
    flags.insert("WORKFORCE0_PROTOCOL".to_owned(), "ticket".into());
    flags.insert("REPO_PATHS".to_owned(), repository);
    flags.insert("AGENT_ROLES".to_owned(), "dev".into());
    flags.insert("STATE_DIR".to_owned(), scratch.state().into());
    if !own_cli {
        let program =
            std::env::current_exe().map_err(|e| format!("this program's path is unknown: {e}"))?;
        flags.insert("CLI_COMMAND".to_owned(), program.into());
        flags.insert("CLI_ARGS_TEMPLATE".to_owned(), STAND_IN.into());
    }
    Ok(flags)
}

/// Shows the outcome. It must be right, not only there.
fn judge(outcome: &Value, own_cli: bool) -> Result<(), String> {
    let text = |name: &str| outcome[name].as_str().unwrap_or_default().trim_end();
    let (stdout, diff) = (text("stdout"), text("diff"));
    say!("\n── stdout ──\n{stdout}");
    say!("\n── diff ──\n{diff}");
    if text("type") != "ticket.result" {
        return Err(format!("the ticket failed: {}", text("error")));
    }
    let is_right = match own_cli {
        true => !diff.is_empty(),
        false => is_from_stand_in(stdout, diff),
    };
    if !is_right {
        return Err("the result does not have the change that the ticket asks for".to_owned());
    }
    say!("\nDone: the backend has the result; the scratch folders are removed.");
    Ok(())
}
