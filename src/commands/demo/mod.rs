//! `wf0-agent demo` runs one ticket from start to end on this machine. It needs no network and no account, and leaves
//! no files behind.
//!
//! The daemon and its WebSocket are real. The backend is a stand-in. Without `--cli`, the CLI is a stand-in too.

mod backend;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use clap::{ArgMatches, Command};
use serde_json::Value;

use super::{exit, fail, flag, given, print, run};
use crate::config::settings::find;
use crate::config::{Config, Given, Sources};
use crate::daemon::{self, Mailbox};
use crate::domain::event::{DaemonEnd, Event};
use crate::environment::Environment;
use crate::job::{Git, Halt};
use backend::{Fallible, serve};

/// The hidden command that stands in for a coding CLI.
const STAND_IN: &str = "demo-stand-in";

const FILE: &str = "greeter.py";
const CONTENT: &str = "def greet():\n    return \"Hello!\"\n";
const CHANGED: &str = "def greet(name=\"world\"):\n    return f\"Hello, {name}!\"\n";

pub fn command() -> Command {
    Command::new("demo")
        .about("Runs a sample ticket from start to end on this machine, without network or account")
        .arg(flag(
            "cli",
            "Use your configured CLI, and its quota, instead of the built-in stand-in",
        ))
}

pub fn stand_in_command() -> Command {
    Command::new(STAND_IN).hide(true)
}

pub fn run(matches: &ArgMatches) -> u8 {
    match try_run(matches.get_flag("cli"), given(matches)) {
        Ok(()) => exit::OK,
        Err(why) => fail(&format!("the demo failed: {why}"), exit::FAILED),
    }
}

fn try_run(own_cli: bool, given: Given) -> Fallible<()> {
    let name = format!("wf0-agent-demo-{:016x}", rand::random::<u64>());
    let scratch = std::env::temp_dir().join(name);
    fs::create_dir(&scratch)?;
    let done = run_in(&scratch, own_cli, given);
    let left = |e| format!("{} is left behind: {e}", scratch.display());
    let removed = fs::remove_dir_all(&scratch).map_err(left);
    done?;
    Ok(removed?)
}

fn run_in(scratch: &Path, own_cli: bool, given: Given) -> Fallible<()> {
    let environment = Environment::of_process();
    let repository = scratch.join("greeter");
    make_repository(&repository, &environment)?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let url = format!("http://{}", listener.local_addr()?);
    let sources = settings(own_cli, given, &url, scratch)?;
    let config = Config::load(&sources)?;
    let shown = repository.display();
    print(&format!("A backend on {url}, a repository in {shown}.\n\n"));

    run::end_on_panic(|| ());
    let (to_backend, mailboxes) = mpsc::channel::<Mailbox>();
    let stop = move || {
        if let Ok(mailbox) = mailboxes.recv() {
            mailbox.post(Event::Stop);
        }
    };
    let serving = thread::Builder::new()
        .name("demo-backend".to_owned())
        .spawn(move || serve(&listener, stop))?;
    let ready = |mailbox: Mailbox| {
        run::stop_on_signals(mailbox.clone());
        let _ = to_backend.send(mailbox);
    };
    match daemon::run(config, environment, ready, |_| {})? {
        DaemonEnd::Asked => {}
        other => return Err(format!("the daemon ended with {other:?}").into()),
    }
    let outcome = serving.join();
    show(&outcome.map_err(|_| "the demo's backend ended with a bug")??)
}

/// The settings of the demo's daemon. With `--cli`, it keeps the user's values of all other settings.
fn settings(own_cli: bool, mut given: Given, url: &str, scratch: &Path) -> Fallible<Sources> {
    let mut variables = Environment::of_process().for_cli();
    let mut repository = OsString::from("demo/greeter=");
    repository.push(scratch.join("greeter"));
    let mut set = |name: &str, value: OsString| given.flags.insert(name.to_owned(), value);
    set("WORKFORCE0_API_URL", url.into());
    set("WORKFORCE0_PROTOCOL", "ticket".into());
    set("REPO_PATHS", repository);
    set("AGENT_ROLES", "dev".into());
    set("STATE_DIR", scratch.join("state").into());
    if !own_cli {
        set("CLI_COMMAND", std::env::current_exe()?.into());
        set("CLI_ARGS_TEMPLATE", STAND_IN.into());
        variables.retain(|(name, _)| find(&name.to_string_lossy()).is_none());
        // An empty settings file keeps the daemon from reading the user's `.env`.
        let empty = scratch.join("settings.env");
        fs::write(&empty, "")?;
        given.env_file = Some(empty);
    }
    variables.push(("WORKFORCE0_AGENT_TOKEN".into(), "wfa_demo".into()));
    Ok(Sources::collect(given, Environment::new(variables))?)
}

fn show(outcome: &Value) -> Fallible<()> {
    let text = |name: &str| outcome[name].as_str().unwrap_or_default().trim_end();
    let (stdout, diff) = (text("stdout"), text("diff"));
    print(&format!("\n── stdout ──\n{stdout}\n\n── diff ──\n{diff}\n"));
    if text("type") != "ticket.result" {
        return Err(format!("the ticket failed: {}", text("error")).into());
    }
    if diff.is_empty() {
        return Err("the result has no diff".into());
    }
    print("\nDone: the backend has the result; the scratch folders are removed.\n");
    Ok(())
}

fn make_repository(repository: &Path, environment: &Environment) -> Fallible<()> {
    fs::create_dir(repository)?;
    fs::write(repository.join(FILE), CONTENT)?;
    let git = Git::new(environment, repository, &repository.join(".git"))?
        .with("GIT_WORK_TREE", repository);
    let user = "-c user.name=demo -c user.email=demo@localhost -c commit.gpgSign=false";
    let commit = format!("{user} commit --quiet --no-verify --message greeter");
    for command in ["init --quiet", "add .", &commit] {
        let words: Vec<&str> = command.split(' ').collect();
        git.run(&words, None, &Halt::never())?;
    }
    Ok(())
}

pub fn stand_in(_: &ArgMatches) -> u8 {
    match work() {
        Ok(()) => exit::OK,
        Err(e) => fail(&format!("the stand-in failed: {e}"), exit::FAILED),
    }
}

fn work() -> io::Result<()> {
    let prompt = io::read_to_string(io::stdin())?;
    // Outside the demo's repository this file does not exist. Then the stand-in fails and changes nothing.
    fs::metadata(FILE)?;
    fs::write(FILE, CHANGED)?;
    let asked = prompt.lines().next().unwrap_or_default();
    println!("I was asked: {asked}\nDone: 1 file changed.");
    Ok(())
}
