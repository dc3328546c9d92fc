//! The daemon with the real CLIs, which talk to a model's API that stands in for the real one. `scripts/real-cli`
//! installs them and runs this; without them nothing here is run.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic, wait and spawn"
)]

#[path = "../support/mod.rs"]
mod support;

mod api;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use api::{Api, Plan};
use support::agent::Launch;
use support::eventually;
use support::world::World;

/// What the model has the CLI write, and its last words.
const SOURCE: &str = "let secret_line = 1;";
const LAST_WORDS: &str = "All done, in the model's own words.";

/// A program of `REAL_CLI_DIR`, where `scripts/real-cli` has put it.
fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("REAL_CLI_DIR").expect("REAL_CLI_DIR: run scripts/real-cli");
    let program = PathBuf::from(folder).join("node_modules/.bin").join(name);
    assert!(
        program.exists(),
        "{} is not there: run scripts/real-cli",
        program.display()
    );
    program
}

/// The daemon under its default settings with that CLI, all of it pointed at the stand-in.
fn launch(world: &World, cli: &str, api: &Api) -> Launch {
    let home = world.home();
    let launch = world
        .launch("true")
        .env("CLI_COMMAND", program(cli))
        .env("KILL_GRACE_SECONDS", "");
    let launch = launch.env("DRAIN_SECONDS", "").env("PROGRESS_SECONDS", "1");
    let base = api.url();
    match cli {
        "claude" => launch
            .env("ANTHROPIC_BASE_URL", base)
            .env("ANTHROPIC_API_KEY", "a-key")
            .env("CLAUDE_CODE_MAX_RETRIES", "0")
            .env("DISABLE_AUTOUPDATER", "1"),
        "codex" => {
            fs::create_dir(home.join(".codex")).unwrap();
            let settings = format!(
                "model = \"a-model\"\nmodel_provider = \"stand-in\"\n[model_providers.stand-in]\nname = \"stand-in\"\n\
                base_url = \"{base}/v1\"\nenv_key = \"STAND_IN_KEY\"\nwire_api = \"responses\"\n\
                request_max_retries = 0\nstream_max_retries = 0\n"
            );
            fs::write(home.join(".codex/config.toml"), settings).unwrap();
            launch.env("STAND_IN_KEY", "a-key")
        }
        "opencode" => {
            let settings = json!({
                "model": "stand-in/m", "small_model": "stand-in/m", "autoupdate": false,
                "provider": {"stand-in": {
                    "npm": "@ai-sdk/openai-compatible",
                    "options": {"baseURL": format!("{base}/v1"), "apiKey": "a-key"},
                    "models": {"m": {"name": "m", "tool_call": true}},
                }},
            });
            fs::write(home.join("opencode.json"), settings.to_string()).unwrap();
            launch.env("OPENCODE_CONFIG", home.join("opencode.json"))
        }
        "gemini" => {
            // Without a model's name it would ask another model first which one to use.
            let settings = json!({"security": {"auth": {"selectedType": "gemini-api-key"}}, "model": {"name": "gemini-2.5-pro"}});
            fs::create_dir(home.join(".gemini")).unwrap();
            fs::write(home.join(".gemini/settings.json"), settings.to_string()).unwrap();
            launch
                .env("GEMINI_API_KEY", "a-key")
                .env("GOOGLE_GEMINI_BASE_URL", base)
        }
        other => panic!("no settings for {other}"),
    }
}

/// A ticket under default settings: the file is in the diff, the CLI's last words are the output, the usage is told, and
/// no progress holds a line of the file.
fn writes_a_file(cli: &str, settings: &[(&str, &str)]) -> Value {
    let world = World::new();
    let file = world.repo().join("src/new.rs");
    let api = Api::start(
        Plan::Write {
            file,
            text: format!("{SOURCE}\n"),
        },
        LAST_WORDS,
    );
    let launch = settings
        .iter()
        .fold(launch(&world, cli, &api), |launch, (name, value)| {
            launch.env(name, *value)
        });
    let agent = world.registered(launch);
    // Slow enough for progress, so that there is some to look into.
    api.hold_last_answer(Duration::from_millis(1500));
    let result = world.outcome_of("T-1");
    assert_eq!(
        result["type"],
        "ticket.result",
        "{result}\n{}\n{:#?}",
        agent.log(),
        api.requests()
    );
    assert!(
        result["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains(&format!("+{SOURCE}"))),
        "{result}"
    );
    assert_eq!(result["diffStat"]["files"], 1, "{result}");
    assert_eq!(
        result["stdout"].as_str().map(str::trim),
        Some(LAST_WORDS),
        "{result}"
    );
    assert_eq!(result["warnings"], json!([]), "{result}");
    let progress: Vec<_> = world
        .backend
        .frames_of("T-1")
        .into_iter()
        .filter(|frame| frame["type"] == "ticket.progress")
        .collect();
    let lines: Vec<_> = progress
        .iter()
        .flat_map(|frame| frame["lines"].as_array().unwrap().clone())
        .collect();
    assert!(!lines.is_empty(), "no progress at all: {progress:?}");
    assert!(
        !json!(progress).to_string().contains("secret_line"),
        "{progress:?}"
    );
    eprintln!("{cli}: usage {}, progress {lines:?}", result["usage"]);
    // Gemini does not count them.
    assert!(
        cli == "gemini"
            || result["usage"]["turns"]
                .as_u64()
                .is_some_and(|turns| turns > 0),
        "{result}"
    );
    assert!(
        result["usage"]["outputTokens"]
            .as_u64()
            .is_some_and(|tokens| tokens > 0),
        "{result}"
    );
    assert!(result["usage"]["sessionId"].is_string(), "{result}");
    // The version comes by itself, some time after the first register.
    let version = eventually("the CLI's version", || {
        let frames = world.backend.frames();
        frames
            .iter()
            .rev()
            .find_map(|frame| frame["cli"]["version"].as_str().map(str::to_owned))
    });
    eprintln!("{cli}: version {version}");
    result
}

/// Claude Code writes a file under default settings, and says what it cost.
#[test]
#[ignore = "needs the real CLIs: scripts/real-cli"]
fn claude_writes_a_file() {
    let result = writes_a_file("claude", &[]);
    assert!(
        result["usage"]["costUsd"]
            .as_f64()
            .is_some_and(|cost| cost > 0.0),
        "{result}"
    );
}

/// Codex does the same by a command in its sandbox. It tells no cost.
#[test]
#[ignore = "needs the real CLIs: scripts/real-cli"]
fn codex_writes_a_file() {
    writes_a_file("codex", &[]);
}

/// OpenCode does the same. What this model costs it does not know.
#[test]
#[ignore = "needs the real CLIs: scripts/real-cli"]
fn opencode_writes_a_file() {
    writes_a_file("opencode", &[]);
}

/// Gemini does the same.
#[test]
#[ignore = "needs the real CLIs: scripts/real-cli"]
fn gemini_writes_a_file() {
    writes_a_file("gemini", &[]);
}

/// Each `CLI_AUTONOMY` has arguments that the programs take.
#[test]
#[ignore = "needs the real CLIs: scripts/real-cli"]
fn every_autonomy_works() {
    for cli in ["claude", "codex", "opencode", "gemini"] {
        for autonomy in ["commands", "all"] {
            // As root Claude Code refuses `all`, unless it is told that it is in a sandbox.
            writes_a_file(cli, &[("CLI_AUTONOMY", autonomy), ("IS_SANDBOX", "1")]);
        }
    }
}

/// What Claude Code's Bash tool runs depends on `CLI_AUTONOMY`; what it was not allowed is a warning.
#[test]
#[ignore = "needs the real CLIs: scripts/real-cli"]
fn claude_runs_commands_only_where_it_may() {
    for (autonomy, may) in [("edits", false), ("commands", true), ("all", true)] {
        let world = World::new();
        let api = Api::start(
            Plan::Command("cargo --version > ran.txt || touch ran.txt".to_owned()),
            LAST_WORDS,
        );
        let launch = launch(&world, "claude", &api)
            .env("CLI_AUTONOMY", autonomy)
            .env("IS_SANDBOX", "1");
        let _agent = world.registered(launch);
        let result = world.outcome_of("T-1");
        assert_eq!(result["type"], "ticket.result", "{result}");
        assert_eq!(
            world.repo().join("ran.txt").exists(),
            may,
            "{autonomy}: {result}"
        );
        let warned = result["warnings"].to_string().contains("Bash");
        assert_eq!(warned, !may, "{autonomy}: {result}");
    }
}

/// A used-up limit is `quota_exceeded`, and the roles are gone until the time that the API named.
#[test]
#[ignore = "needs the real CLIs: scripts/real-cli"]
fn claude_at_its_limit() {
    let world = World::new();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let reset = now + 3600;
    let api = Api::start(Plan::Limit { reset }, LAST_WORDS);
    let launch = launch(&world, "claude", &api).env("ANTHROPIC_API_KEY", "");
    let _agent = world.registered(launch.env("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-none"));
    world.assign("T-1");
    let register = world
        .backend
        .frame_where("agent.register", |frame| frame["cli"]["available"] == false);
    assert_eq!(
        (&register["roles"], &register["cli"]["unavailableReason"]),
        (&json!([]), &json!("quota_exceeded"))
    );
    let at = jiff::Timestamp::from_second(i64::try_from(reset).unwrap()).unwrap();
    assert_eq!(
        register["cli"]["availableAt"],
        at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string(),
        "{register}"
    );
    let fail = world.backend.outcome("T-1");
    assert_eq!(fail["code"], "quota_exceeded", "{fail}");
    assert!(
        fail["error"]
            .as_str()
            .is_some_and(|error| error.starts_with("You've hit your")),
        "{fail}"
    );
}

/// Any other refusal of the API is the CLI's own failure, in its own words, whatever they hold.
#[test]
#[ignore = "needs the real CLIs: scripts/real-cli"]
fn a_refusal_is_told_in_words() {
    for cli in ["claude", "codex"] {
        let world = World::new();
        let api = Api::start(
            Plan::Refuse("the model is not there".to_owned()),
            LAST_WORDS,
        );
        let _agent = world.registered(launch(&world, cli, &api));
        let fail = world.outcome_of("T-1");
        assert_eq!(fail["code"], "cli_exit", "{cli}: {fail}");
        let error = fail["error"].as_str().unwrap();
        assert!(
            error.ends_with("the model is not there") && !error.contains('{'),
            "{cli}: {error}"
        );
    }
}

/// A command of Claude Code's Bash tool, which has a session of its own, is gone when the run has timed out.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs the real CLIs: scripts/real-cli"]
fn claude_timed_out_leaves_no_command() {
    let world = World::new();
    let api = Api::start(Plan::Command("sleep 300".to_owned()), LAST_WORDS);
    let agent = world.registered(launch(&world, "claude", &api).env("CLI_AUTONOMY", "commands"));
    let sleeping = || {
        world
            .processes(&agent)
            .into_iter()
            .find(|(_, line)| line.trim() == "sleep 300")
    };
    world.backend.send(&support::world::ticket_with(
        "T-1",
        json!({"timeoutSeconds": 8}),
    ));
    eventually("the command to run", sleeping);
    let fail = world.backend.outcome("T-1");
    let left = world.processes(&agent);
    assert!(left.is_empty(), "still running: {left:?}");
    assert_eq!(
        (&fail["code"], &fail["error"]),
        (&json!("timeout"), &json!("timeout")),
        "{fail}"
    );
    // Told to end, it may still say something; its lines of JSON are not sent in any case.
    assert!(!fail["stdout"].as_str().unwrap().contains('{'), "{fail}");
}
