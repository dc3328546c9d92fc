//! Checks what a ticket needs besides the settings: git, the CLI, the state folder, a daemon that finds the same
//! programs, and a backend that accepts the token.

use std::path::Path;
use std::time::Duration;

use crate::checks::{self, Finding, Severity};
use crate::config::Config;
use crate::domain::event::Setback;
use crate::environment::Environment;
use crate::job::cli::{self, Cli, WrongOption, version_in};
use crate::job::{Git, Halt};
use crate::link::Dialer;
use crate::link::event_loop::now;
use crate::net::lookup;
use crate::store::inspect::{self, Condition, look_at};

/// The first version with `git config --show-scope`. Diffs and clones need that option.
const GIT_LEAST: (u32, u32) = (2, 26);
/// The time limit of each step of the connection to the backend.
const LIMIT: Duration = Duration::from_secs(15);
const ONLINE: &str = "is WORKFORCE0_API_URL right, is the backend up, and is this machine online?";

pub fn git(environment: &Environment) -> Finding {
    let found = checks::git(environment);
    if found.severity != Severity::Ok {
        return found;
    }
    let (major, minor) = GIT_LEAST;
    let newer = format!("install git {major}.{minor} or later");
    let printed = Git::discovering(environment, Path::new("/"))
        .and_then(|git| git.run(&["version"], None, &Halt::never()));
    match printed.map(|printed| version_in(&printed).unwrap_or(printed)) {
        Ok(version) if is_enough(&version) => Finding::ok("git", version),
        Ok(version) => {
            let what = format!("{version}: too old to take diffs and make clones");
            Finding::warning("git", what, newer)
        }
        Err(e) => Finding::problem("git", e.to_string(), newer),
    }
}

fn is_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= GIT_LEAST
}

pub fn cli(config: &Config, environment: &Environment) -> Vec<Finding> {
    const NAME: &str = "CLI";
    let cli = Cli::from_config(&config.cli);
    let mut findings = vec![match checks::program(&cli.command, environment) {
        None => checks::cli(&cli, environment),
        Some(program) if !cli.is_known() => Finding::ok(
            NAME,
            format!(
                "{program} (wf0-agent does not know this CLI, so it does not ask for its version)"
            ),
        ),
        Some(program) => match cli.version(environment, &Halt::never()) {
            Some(version) => Finding::ok(NAME, format!("{program} is {} {version}", cli.name)),
            None => {
                let what = format!("`{program} --version` failed or printed no version");
                Finding::warning(NAME, what, format!("run {program} --version yourself"))
            }
        },
    }];
    for wrong in cli::wrong_options(&config.cli) {
        findings.push(Finding::problem(NAME, wrong.problem(), WrongOption::FIX));
    }
    findings
}

pub fn state(folder: &Path) -> Finding {
    const NAME: &str = "state folder";
    let condition = match look_at(folder) {
        Ok(Condition::Missing) => "does not exist yet and will be created",
        Ok(Condition::Free) => "is not in use",
        Ok(Condition::InUse) => "is in use by the running daemon",
        Err(e) => return Finding::problem(NAME, e.problem(), e.fix()),
    };
    Finding::ok(NAME, format!("{} {condition}", folder.display()))
}

/// Compares the programs that the running daemon found with those that this shell finds. A service has its own PATH, so
/// it may miss a program that this shell finds.
pub fn daemon(config: &Config, environment: &Environment) -> Vec<Finding> {
    const NAME: &str = "daemon";
    const FIX: &str = "restart the daemon with this PATH; for a service: wf0-agent service install";
    let is_running = matches!(look_at(&config.state_dir), Ok(Condition::InUse));
    let record = inspect::status(&config.state_dir).ok().flatten();
    let Some(record) = record.filter(|_| is_running) else {
        return Vec::new();
    };
    // The daemon records its CLI program only at its start. It may have found a missing CLI since then.
    let has_cli = record.daemon.cli.unavailable.as_deref() != Some("not_found");
    let theirs = &record.daemon.daemon;
    let subject = format!("the running daemon (pid {})", theirs.pid);
    let mut findings = Vec::new();
    for (name, program) in [
        ("git", &theirs.git_program),
        (config.cli.command.as_str(), &theirs.cli_program),
    ] {
        let ours = checks::program(name, environment);
        let is_found_later = program.is_none() && name != "git" && has_cli;
        if ours == *program || is_found_later {
            continue;
        }
        let here = ours.unwrap_or_else(|| format!("no {name}"));
        let mut found = match program {
            Some(program) => Finding::warning(NAME, format!("{subject} uses {program}"), FIX),
            None => {
                let path = &theirs.search_path;
                let what = format!("{subject} did not find {name} at its start (its PATH: {path})");
                Finding::problem(NAME, what, FIX)
            }
        };
        found.what += &format!("; this shell finds {here}");
        findings.push(found);
    }
    if findings.is_empty() {
        let what = format!("{subject} finds the same git and CLI");
        findings.push(Finding::ok(NAME, what));
    }
    findings
}

/// The connection to the backend, step by step, and whether it accepts the token. Registers no agent.
pub fn backend(config: &Config) -> Vec<Finding> {
    let api = &config.api;
    let (first, setting, proxy) = match &config.proxy {
        Some(proxy) => {
            let shown = format!("{proxy} ({})", proxy.setting);
            (&proxy.address, proxy.setting, shown)
        }
        None => (&api.address, "WORKFORCE0_API_URL", "none".to_owned()),
    };
    let host = first.host();
    let mut findings = vec![Finding::ok("proxy", proxy)];
    match lookup(host, first.port, now().mono + LIMIT) {
        Ok(addresses) => {
            let addresses = addresses.iter().map(|address| address.ip().to_string());
            let addresses = addresses.collect::<Vec<_>>().join(", ");
            findings.push(Finding::ok("DNS", format!("{host} → {addresses}")));
        }
        Err(e) => {
            let fix = format!("is the host in {setting} right, and is this machine online?");
            findings.push(Finding::problem("DNS", format!("{host}: {e}"), fix));
            return findings;
        }
    }
    let dialer = Dialer::new(config, None);
    if let Err(e) = dialer.route.open(now().mono + LIMIT) {
        let fix = e.fix.unwrap_or_else(|| ONLINE.to_owned());
        findings.push(Finding::problem("connection", e.what, fix));
        return findings;
    }
    let kind = match api.secure {
        true => "over TLS, certificate trusted",
        false => "unencrypted",
    };
    let reachable = format!("{} is reachable ({kind})", api.address);
    findings.push(Finding::ok("connection", reachable));
    findings.push(match dialer.try_out(now) {
        Ok(dialect) => {
            let what = format!("token accepted, protocol {:?}", dialect.name());
            Finding::ok("backend", what)
        }
        Err(setback) => refusal(setback),
    });
    findings
}

fn refusal(setback: Setback) -> Finding {
    const NAME: &str = "backend";
    match setback {
        Setback::Failed(why) => Finding::problem(NAME, why, ONLINE),
        Setback::Wait { why, at_least } => {
            let seconds = at_least.as_secs();
            let fix = format!("try again in {seconds} s; the daemon tries again by itself");
            Finding::warning(NAME, format!("not ready: {why}"), fix)
        }
        Setback::TokenRejected(why) => Finding::problem(
            "token",
            format!("rejected by the backend: {why}"),
            "create a new one under Settings → Agents → Create token, and set WORKFORCE0_AGENT_TOKEN to it",
        ),
        Setback::VersionRefused(why) => {
            let what = format!("does not speak this version of the protocol: {why}");
            Finding::problem(NAME, what, "install a newer wf0-agent")
        }
    }
}
