//! `wf0-agent demo`: one ticket from start to end on this machine: no network, no account, nothing left behind.
//!
//! The daemon is the real one, over a real WebSocket. Only the backend and, unless asked otherwise, the CLI are
//! stand-ins.

/// Prints a line. Whoever closes the pipe early has seen enough, and the demo still cleans up.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

mod backend;
mod scratch;
mod stand_in;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Command};
use serde_json::Value;

use super::{exit, flag, given, run};
use crate::config::{Config, Given, Sources};
use crate::daemon;
use crate::domain::event::DaemonEnd;
use crate::environment::Environment;
use backend::{Backend, Served};
use scratch::Scratch;
pub use stand_in::{NAME as STAND_IN, run as stand_in};

/// Nobody waits longer for the stand-in; a real CLI gets as long as a ticket does.
const STAND_IN_LIMIT: Duration = Duration::from_secs(60);

pub fn command() -> Command {
    Command::new("demo")
        .about("Runs a sample ticket from start to end on this machine, without network or account")
        .arg(flag(
            "cli",
            "Use your configured CLI, and its quota, instead of the built-in stand-in",
        ))
}

/// The demo's built-in CLI; not for people.
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
        stopper
            .recv()
            .into_iter()
            .for_each(|stopper: daemon::Stopper| stopper.stop());
    })?;
    run::end_on_panic(|| ());
    let tell = |stopper: daemon::Stopper| {
        run::stop_on_signals(stopper.clone());
        let _ = ready.send(stopper);
    };
    let ended = daemon::run(config, environment, tell, |_| {});
    match ended {
        Ok(DaemonEnd::Asked) => {}
        Ok(other) => return Err(format!("the daemon ended with {other:?}")),
        Err(e) => return Err(e.to_string()),
    }
    let served = serving
        .join()
        .map_err(|_| "the demo's backend has panicked".to_owned())??;
    show(&served);
    judge(&served, own_cli)
}

/// What makes the daemon the demo's own; everything else is as the user has it.
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
        let program: PathBuf =
            std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
        flags.insert("CLI_COMMAND".to_owned(), program.into());
        flags.insert("CLI_ARGS_TEMPLATE".to_owned(), STAND_IN.into());
    }
    Ok(flags)
}

fn show(served: &Served) {
    let text = |name: &str| {
        served
            .outcome
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    say!("\n── stdout ──\n{}", text("stdout").trim_end());
    say!("\n── diff ──\n{}", text("diff").trim_end());
    let ms = |duration: Duration| format!("{:.1} ms", duration.as_secs_f64() * 1000.0);
    say!("\n── timing ──");
    say!("connected → registered  {}", ms(served.registered));
    say!("assigned → claimed      {}", ms(served.claimed));
    say!("assigned → result       {}", ms(served.answered));
}

/// The result must be right, not only there.
fn judge(served: &Served, own_cli: bool) -> Result<(), String> {
    let outcome = &served.outcome;
    if outcome.get("type").and_then(Value::as_str) != Some("ticket.result") {
        return Err(format!(
            "the ticket failed: {}",
            outcome
                .get("error")
                .and_then(Value::as_str)
                .unwrap_or("no reason")
        ));
    }
    let diff = outcome
        .get("diff")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let stdout = outcome
        .get("stdout")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let right = if own_cli {
        !diff.is_empty()
    } else {
        diff.contains(stand_in::ADDED_LINE)
            && diff.contains(stand_in::NEW_FILE)
            && stdout.contains(stand_in::LAST_LINE)
    };
    if !right {
        return Err("the result does not hold the change that was asked for".to_owned());
    }
    say!("\nDone: the backend has the result; the scratch folders are removed.");
    Ok(())
}
