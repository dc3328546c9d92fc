//! `wf0-agent demo`: one ticket from start to end on this machine: no network, no account, nothing left behind.
//!
//! The daemon is the real one, over a real WebSocket. Only the backend and, without `--cli`, the CLI are stand-ins.

mod backend;
mod greeter;

use std::collections::HashMap;
use std::ffi::OsString;
use std::thread;
use std::time::Duration;

use clap::{ArgMatches, Command};
use serde_json::Value;

use super::{exit, flag, given, print, run};
use crate::config::settings::find;
use crate::config::{Config, Given, Sources};
use crate::daemon::{self, Mailbox};
use crate::domain::event::{DaemonEnd, Event};
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

    let flags = settings(own_cli, given.flags, &backend.url, &scratch)?;
    let mut variables = environment.for_cli();
    let env_file = if own_cli {
        given.env_file
    } else {
        variables.retain(|(name, _)| find(&name.to_string_lossy()).is_none());
        Some(scratch.empty_settings()?)
    };
    variables.push(("WORKFORCE0_AGENT_TOKEN".into(), token.into()));
    let sources = Sources::collect(Given { flags, env_file }, Environment::new(variables))?;
    let config = Config::load(&sources).map_err(|e| e.to_string())?;
    let ticket_limit = config.roles.iter().map(|(_, limit)| *limit).max();
    let ticket_limit = ticket_limit.filter(|_| own_cli).unwrap_or_default();

    let (url, repository) = (backend.url.clone(), scratch.repository.display());
    print(&format!(
        "A backend on {url}, a repository in {repository}.\n\n"
    ));
    run::end_on_panic(|| ());
    let mut serving = None;
    let ready = |mailbox: Mailbox| {
        run::stop_on_signals(mailbox.clone());
        let own = mailbox.clone();
        let stop = move || own.post(Event::Stop);
        let serve = move || backend.serve(ticket_limit + STAND_IN_LIMIT, stop);
        let thread = thread::Builder::new().name("demo-backend".to_owned());
        serving = thread.spawn(serve).ok();
        if serving.is_none() {
            mailbox.post(Event::Stop);
        }
    };
    match daemon::run(config, environment, ready, |_| {}) {
        Ok(DaemonEnd::Asked) => {}
        Ok(other) => return Err(format!("the daemon ended with {other:?}")),
        Err(e) => return Err(e.to_string()),
    }
    let outcome = serving.and_then(|thread| thread.join().ok());
    judge(
        &outcome.ok_or("the demo's backend could not start")??,
        own_cli,
    )
}

/// The settings that make the daemon the demo's own. Everything else is as the user has it.
fn settings(
    own_cli: bool,
    mut flags: HashMap<String, OsString>,
    url: &str,
    scratch: &Scratch,
) -> Result<HashMap<String, OsString>, String> {
    let mut repository = OsString::from("demo/greeter=");
    repository.push(&scratch.repository);
    let mut set = |name: &str, value: OsString| flags.insert(name.to_owned(), value);
    set("WORKFORCE0_API_URL", url.into());
    set("WORKFORCE0_PROTOCOL", "ticket".into());
    set("REPO_PATHS", repository);
    set("AGENT_ROLES", "dev".into());
    set("STATE_DIR", scratch.state.clone().into());
    if !own_cli {
        let program = std::env::current_exe();
        let program = program.map_err(|e| format!("this program's path is unknown: {e}"))?;
        set("CLI_COMMAND", program.into());
        set("CLI_ARGS_TEMPLATE", STAND_IN.into());
    }
    Ok(flags)
}

/// Shows the outcome. It must be right, not only there.
fn judge(outcome: &Value, own_cli: bool) -> Result<(), String> {
    let text = |name: &str| outcome[name].as_str().unwrap_or_default().trim_end();
    let (stdout, diff) = (text("stdout"), text("diff"));
    print(&format!("\n── stdout ──\n{stdout}\n\n── diff ──\n{diff}\n"));
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
    print("\nDone: the backend has the result; the scratch folders are removed.\n");
    Ok(())
}
