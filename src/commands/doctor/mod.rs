//! `wf0-agent doctor` checks whether this machine can run tickets. It prints one line for each check. The
//! line of a problem also says what to do.
//!
//! The checks use the daemon's own code. They write nothing, take no lock and register no agent, so a daemon may be
//! running. No line contains a secret.

mod machine;
mod settings;

use clap::{ArgMatches, Command};
use serde_json::json;

use super::{exit, flag, given, print};
use crate::checks::{self, Finding, Severity};
use crate::config::{Config, Given, Sources};
use crate::domain::text::one_line;
use crate::environment::Environment;

/// The maximum length of a line. It leaves room for a whole PATH, which is long.
const LINE_MAX: usize = 4000;

pub fn command() -> Command {
    Command::new("doctor")
        .about("Checks everything that a ticket needs, and says how to fix what is wrong")
        .long_about(
            "Checks settings, git, repositories, CLI, state folder and the connection to the backend, and says how to fix \
             what is wrong. Changes nothing; a daemon may be running.",
        )
        .arg(flag("json", "Print JSON, for programs"))
}

pub fn run(matches: &ArgMatches) -> u8 {
    let json = matches.get_flag("json");
    let own = Environment::of_process();
    let findings = check_all(given(matches), &own);
    let text = if json {
        json!(findings.iter().map(to_json).collect::<Vec<_>>()).to_string()
    } else {
        findings.iter().map(to_line).collect::<Vec<_>>().join("\n")
    };
    print(&format!("{text}\n"));
    match findings
        .iter()
        .any(|found| found.severity == Severity::Problem)
    {
        true => exit::FAILED,
        false => exit::OK,
    }
}

fn check_all(given: Given, environment: &Environment) -> Vec<Finding> {
    let file = given.env_file.clone().unwrap_or_else(|| ".env".into());
    let mut findings = vec![machine::git(environment)];
    let sources = match Sources::collect(given, environment.clone()) {
        Ok(sources) => sources,
        Err(e) => {
            let fix = format!("correct {}", file.display());
            findings.push(Finding::problem("settings file", e, fix));
            return findings;
        }
    };
    let config = Config::load(&sources);
    findings.extend(settings::all(&sources, &file, config.as_ref().err()));
    let Ok(config) = &config else {
        let what = "repositories, CLI, state folder and backend were not checked";
        let fix = "fix the settings above, then run wf0-agent doctor again";
        findings.push(Finding::warning("skipped", what, fix));
        return findings;
    };
    let repos = checks::known_to_git(config.repos.clone(), config.workspace, environment);
    findings.extend(checks::repositories(&repos, config.workspace));
    findings.extend(machine::cli(config, environment));
    findings.push(machine::state(&config.state_dir));
    findings.extend(machine::daemon(config, environment));
    findings.extend(machine::backend(config));
    findings
}

fn to_line(finding: &Finding) -> String {
    let (sign, _) = sign_and_status(finding.severity);
    let mut line = format!("{sign} {}: {}", finding.name, finding.what);
    if let Some(fix) = &finding.fix {
        line += &format!(" → {fix}");
    }
    one_line(&line, LINE_MAX)
}

fn to_json(finding: &Finding) -> serde_json::Value {
    let (_, status) = sign_and_status(finding.severity);
    json!({"check": finding.name, "status": status, "message": finding.what, "fix": finding.fix})
}

fn sign_and_status(severity: Severity) -> (char, &'static str) {
    match severity {
        Severity::Ok => ('✓', "ok"),
        Severity::Note | Severity::Warning => ('!', "warn"),
        Severity::Problem => ('✗', "fail"),
    }
}
