//! The command line, the settings and the exit codes.

use std::fs;

use crate::support::agent::{Launch, TOKEN};
use crate::support::world::World;

/// Every setting that the daemon has.
const SETTINGS: &[(&str, &str)] = &[
    ("WORKFORCE0_API_URL", "required"),
    ("WORKFORCE0_AGENT_TOKEN", "required"),
    ("WORKFORCE0_AGENT_TOKEN_FILE", ""),
    ("REPO_PATHS", "required"),
    ("CLI_COMMAND", "claude"),
    ("CLI_ARGS_TEMPLATE", "depends on the CLI"),
    ("CLI_AUTONOMY", "edits"),
    ("AGENT_ROLES", "dev,qa"),
    ("AGENT_NAME", "host name"),
    ("MAX_CONCURRENT_TICKETS", "1"),
    ("TICKET_TIMEOUT_DEV_SECONDS", "1800"),
    ("TICKET_TIMEOUT_QA_SECONDS", "1800"),
    ("KILL_GRACE_SECONDS", "5"),
    ("PROGRESS_SECONDS", "10"),
    ("PROGRESS_LINES", "1"),
    ("MAX_STDOUT_BYTES", "1048576"),
    ("MAX_DIFF_BYTES", "3145728"),
    ("STATE_DIR", ""),
    ("WORKSPACE_MODE", "auto"),
    ("ALLOW_INSECURE", "0"),
    ("HTTPS_PROXY", ""),
    ("HTTP_PROXY", ""),
    ("ALL_PROXY", ""),
    ("NO_PROXY", ""),
    ("SSL_CERT_FILE", ""),
    ("SSL_CERT_DIR", ""),
    ("LOG_LEVEL", "info"),
];

/// `--help` names every setting with its default and ends with exit code 0.
#[test]
fn help_is_complete() {
    let world = World::new();
    let help = Launch::new(world.dir.path()).arg("--help").output();
    assert_eq!(help.code, 0, "{help:?}");
    for (name, default) in SETTINGS {
        let at = help
            .stdout
            .find(&format!("[env: {name}]"))
            .or_else(|| help.stdout.find(&format!("  {name}\n")))
            .unwrap_or_else(|| panic!("no {name} in:\n{}", help.stdout));
        let entry = help.stdout[at..].split("\n\n").next().unwrap();
        assert!(
            entry.contains(default),
            "the default {default:?} is not in: {entry}"
        );
    }
    assert!(
        help.stdout.contains("[default: 1] [range: 1 to 64]"),
        "{help:?}"
    );
    let mut words = vec!["run", "--version", "--env-file"];
    if cfg!(feature = "tools") {
        words.extend(["apply", "show", "logs", "doctor", "demo"]);
    }
    for command in words {
        assert!(
            help.stdout.contains(command),
            "{command} is not in:\n{}",
            help.stdout
        );
    }
    assert_eq!(help.stderr, "");
}

/// `--version` prints the version of the crate and ends with exit code 0.
#[test]
fn version_is_printed() {
    let world = World::new();
    let version = Launch::new(world.dir.path()).arg("--version").output();
    assert_eq!(version.code, 0, "{version:?}");
    assert_eq!(
        version.stdout.trim(),
        concat!("wf0-agent ", env!("CARGO_PKG_VERSION"))
    );
}

/// Wrong arguments are one line and exit code 2.
#[test]
fn wrong_arguments_are_one_line_and_exit_2() {
    let world = World::new();
    let wrong: &[&[&str]] = &[
        &["--no-such-flag"],
        &["-x"],
        &["no-such-command"],
        &["run", "more"],
        &["run", "--no-such-flag=1"],
        &["--env-file"],
        &["--repo-paths"],
        &["demo", "--no-such-flag"],
        &["run", "--json"],
        &["doctor", "more"],
        &["doctor", "--cli"],
        &["apply"],
        &["show"],
        &["show", "T-1", "more"],
        &["show", "T-1", "--prompt", "--diff"],
        &["show", "T-1", "--follow"],
        &["logs"],
        &["logs", "T-1", "--diff"],
        &["apply", "T-1", "folder", "more"],
        &["service"],
        &["service", "start"],
        &["service", "install", "more"],
        &["service", "install", "--follow"],
        &["doctor", "--system"],
        &[""],
    ];
    for args in wrong {
        let launch = args
            .iter()
            .fold(world.launch("true"), |launch, arg| launch.arg(arg));
        let ended = launch.output();
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
        assert_eq!(
            ended.stderr.trim_end().lines().count(),
            1,
            "{args:?}: {ended:?}"
        );
        assert_eq!(ended.stdout, "", "{args:?}");
    }
}

/// The token cannot be given as a flag, where every user of the machine could read it.
#[test]
fn the_token_is_no_flag() {
    let world = World::new();
    let flag = "--workforce0-agent-token";
    for args in [
        vec![flag.to_owned(), TOKEN.to_owned()],
        vec![format!("{flag}={TOKEN}")],
    ] {
        let launch = world.launch("true").env("WORKFORCE0_AGENT_TOKEN", "");
        let ended = args
            .iter()
            .fold(launch, |launch, arg| launch.arg(arg))
            .output();
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(!ended.stderr.contains(TOKEN), "{}", ended.stderr);
    }
}

/// `wf0-agent run` and `wf0-agent` alone are the same daemon.
#[test]
fn run_is_the_daemon() {
    let world = World::new();
    let mut agent = world.registered(world.launch("true").arg("run"));
    assert_eq!(agent.terminate().code(), Some(0));
}

/// Without any setting each required one is named, with an example, and the exit code is 78.
#[test]
fn missing_settings_are_all_named() {
    let world = World::new();
    let ended = Launch::new(world.dir.path())
        .env("HOME", world.home())
        .output();
    assert_eq!(ended.code, 78, "{ended:?}");
    for name in ["WORKFORCE0_API_URL", "WORKFORCE0_AGENT_TOKEN", "REPO_PATHS"] {
        let lines: Vec<_> = ended
            .stderr
            .lines()
            .filter(|line| line.contains(&format!("{name}:")))
            .collect();
        assert_eq!(lines.len(), 1, "{name}: {}", ended.stderr);
        assert!(lines[0].contains("example"), "{}", lines[0]);
    }
}

/// Several wrong settings are all named at once, one line each, and nothing of the token is shown.
#[test]
fn wrong_settings_are_all_named_at_once() {
    let world = World::new();
    let launch = world
        .launch("true")
        .env("WORKFORCE0_API_URL", "ftp://example.com")
        .env("WORKFORCE0_AGENT_TOKEN", format!("{TOKEN} {TOKEN}"))
        .env("REPO_PATHS", world.path("missing"))
        .env("CLI_ARGS_TEMPLATE", "-p {promt}")
        .env("MAX_CONCURRENT_TICKETS", "many")
        .env("LOG_LEVEL", "loud");
    let ended = launch.output();
    assert_eq!(ended.code, 78, "{ended:?}");
    for name in [
        "WORKFORCE0_API_URL",
        "WORKFORCE0_AGENT_TOKEN",
        "REPO_PATHS",
        "CLI_ARGS_TEMPLATE",
        "MAX_CONCURRENT_TICKETS",
        "LOG_LEVEL",
    ] {
        let lines: Vec<_> = ended
            .stderr
            .lines()
            .filter(|line| line.contains(&format!("{name}:")))
            .collect();
        assert_eq!(lines.len(), 1, "{name}: {}", ended.stderr);
        assert!(
            lines[0].contains(&format!("{name}=")),
            "an example is missing: {}",
            lines[0]
        );
    }
    assert!(!ended.stderr.contains(TOKEN), "{}", ended.stderr);
    assert!(
        !world.state().exists(),
        "nothing is written before the settings are right"
    );
}

/// A setting that cannot be used stops the daemon with exit code 78 and a line that names it.
#[test]
fn each_unusable_value_is_refused() {
    let world = World::new();
    let wrong = [
        ("MAX_CONCURRENT_TICKETS", "0"),
        ("MAX_CONCURRENT_TICKETS", "-1"),
        ("MAX_CONCURRENT_TICKETS", "1.5"),
        ("TICKET_TIMEOUT_DEV_SECONDS", "abc"),
        ("TICKET_TIMEOUT_DEV_SECONDS", "0"),
        ("TICKET_TIMEOUT_QA_SECONDS", "-5"),
        ("KILL_GRACE_SECONDS", "soon"),
        ("PROGRESS_SECONDS", "0"),
        ("PROGRESS_LINES", "perhaps"),
        ("MAX_STDOUT_BYTES", "1 MiB"),
        ("MAX_DIFF_BYTES", "99999999999999999999999"),
        ("ALLOW_INSECURE", "sure"),
        ("WORKSPACE_MODE", "worktree"),
        ("CLI_AUTONOMY", "everything"),
        ("CLI_ARGS_TEMPLATE", "-p 'unclosed"),
        ("CLI_ARGS_TEMPLATE", "{unknown}"),
        ("AGENT_ROLES", "dev,../qa"),
        ("AGENT_ROLES", ","),
        ("REPO_PATHS", ","),
        ("REPO_PATHS", "not a slug=/"),
    ];
    for (name, value) in wrong {
        let ended = world.launch("true").env(name, value).output();
        assert_eq!(ended.code, 78, "{name}={value}: {ended:?}");
        assert!(
            ended.stderr.contains(name),
            "{name}={value}: {}",
            ended.stderr
        );
        assert_eq!(
            ended.stderr.trim_end().lines().count(),
            1,
            "{name}={value}: {}",
            ended.stderr
        );
    }
}

/// A `REPO_PATHS` entry that is a file is refused.
#[test]
fn a_repository_must_be_a_folder() {
    let world = World::new();
    let ended = world
        .launch("true")
        .env("REPO_PATHS", world.repo().join("README.md"))
        .output();
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.stderr.contains("REPO_PATHS"), "{}", ended.stderr);
}

/// A flag counts before the environment, the environment before `.env`, and `.env` before the default.
#[test]
fn flag_then_environment_then_env_file() {
    let world = World::new();
    fs::write(
        world.path(".env"),
        "AGENT_NAME=from-file\nAGENT_ROLES=qa\nMAX_CONCURRENT_TICKETS=7\n",
    )
    .unwrap();
    let launch = world
        .launch("true")
        .env("AGENT_NAME", "from-environment")
        .env("AGENT_ROLES", "docs");
    let _agent = launch.arg("--agent-name").arg("from-flag").start();
    let register = world.backend.frame("agent.register");
    assert_eq!(register["name"], "from-flag");
    assert_eq!(register["roles"], serde_json::json!(["docs"]));
    assert_eq!(register["capacity"]["max"], 7);
}

/// A setting is a flag before and after the command, for any role, and its value can begin with a dash. The last counts.
#[test]
fn flags_can_stand_anywhere() {
    let world = World::new();
    let args = [
        "--agent-roles=docs",
        "--agent-name",
        "first",
        "-q",
        "run",
        "--ticket-timeout-docs-seconds",
        "3",
        "--cli-args-template",
        "-p --x",
        "--agent-name",
        "last",
    ];
    let launch = args
        .iter()
        .fold(world.launch("true"), |launch, arg| launch.arg(arg));
    let mut agent = launch.start();
    let register = world.backend.frame("agent.register");
    assert_eq!(register["name"], "last");
    assert_eq!(register["roles"], serde_json::json!(["docs"]));
    agent.terminate();
    let wrong = world
        .launch("true")
        .arg("--ticket-timeout-docs-seconds=soon")
        .env("AGENT_ROLES", "docs")
        .output();
    assert_eq!(wrong.code, 78, "{wrong:?}");
    assert!(
        wrong.stderr.contains("TICKET_TIMEOUT_DOCS_SECONDS"),
        "{wrong:?}"
    );
}

/// `.env` in the working directory can hold every setting, quoted values and comments included.
#[test]
fn the_env_file_is_enough() {
    let world = World::new();
    let cli = world.cli("true");
    let text = format!(
        "# the agent\nWORKFORCE0_API_URL=\"{}\"\nWORKFORCE0_AGENT_TOKEN='{TOKEN}'\nREPO_PATHS={}\nexport STATE_DIR={}\n\
         CLI_COMMAND={}\nCLI_ARGS_TEMPLATE=\"-p {{prompt}}\"\n",
        world.backend.url(),
        world.repo().display(),
        world.state().display(),
        cli.display(),
    );
    fs::write(world.path(".env"), text).unwrap();
    let _agent = world.registered(Launch::new(world.dir.path()).env("HOME", world.home()));
    let upgrade = &world.backend.requests()[0];
    assert_eq!(upgrade.headers["authorization"], format!("Bearer {TOKEN}"));
}

/// `--env-file` names another file, and `.env` is not read then.
#[test]
fn another_env_file_can_be_named() {
    let world = World::new();
    fs::write(world.path(".env"), "AGENT_NAME=wrong\nAGENT_ROLES=wrong\n").unwrap();
    fs::write(world.path("other.env"), "AGENT_NAME=right\n").unwrap();
    let _agent = world
        .launch("true")
        .arg("--env-file")
        .arg("other.env")
        .start();
    let register = world.backend.frame("agent.register");
    assert_eq!(register["name"], "right");
    assert_eq!(register["roles"], serde_json::json!(["dev", "qa"]));
}

/// A settings file that was named and is not there, or cannot be read as one, stops the daemon and shows none of it.
#[test]
fn an_unusable_env_file_is_refused() {
    let world = World::new();
    let ended = world
        .launch("true")
        .arg("--env-file")
        .arg("missing.env")
        .output();
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.stderr.contains("missing.env"), "{}", ended.stderr);
    fs::write(
        world.path("broken.env"),
        format!("AGENT_NAME=a\n{TOKEN} is here\n"),
    )
    .unwrap();
    let ended = world
        .launch("true")
        .arg("--env-file")
        .arg("broken.env")
        .output();
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(
        ended.stderr.contains("broken.env") && !ended.stderr.contains(TOKEN),
        "{}",
        ended.stderr
    );
}

/// The token can be in a file, with or without a line break after it.
#[test]
fn the_token_can_be_in_a_file() {
    for text in [
        TOKEN.to_owned(),
        format!("{TOKEN}\n"),
        format!("{TOKEN}\r\n"),
    ] {
        let world = World::new();
        fs::write(world.path("token"), text).unwrap();
        let launch = world.launch("true").env("WORKFORCE0_AGENT_TOKEN", "");
        let _agent =
            world.registered(launch.env("WORKFORCE0_AGENT_TOKEN_FILE", world.path("token")));
        assert_eq!(
            world.backend.requests()[0].headers["authorization"],
            format!("Bearer {TOKEN}")
        );
    }
}

/// A token file that is missing, empty or no token is refused, and its content is not shown.
#[test]
fn an_unusable_token_file_is_refused() {
    let world = World::new();
    fs::write(world.path("empty"), "\n").unwrap();
    fs::write(world.path("two"), format!("{TOKEN}\nsecond line\n")).unwrap();
    for name in ["missing", "empty", "two"] {
        let launch = world.launch("true").env("WORKFORCE0_AGENT_TOKEN", "");
        let ended = launch
            .env("WORKFORCE0_AGENT_TOKEN_FILE", world.path(name))
            .output();
        assert_eq!(ended.code, 78, "{name}: {ended:?}");
        assert!(
            ended.stderr.contains("WORKFORCE0_AGENT_TOKEN_FILE"),
            "{name}: {}",
            ended.stderr
        );
        assert!(!ended.stderr.contains(TOKEN), "{name}: {}", ended.stderr);
    }
}

/// The demo needs no settings, shows a diff, ends with exit code 0 and leaves nothing in the temporary folder.
#[cfg(feature = "tools")]
#[test]
fn the_demo_works_and_leaves_nothing() {
    let world = World::new();
    let temporary = world.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let launch = Launch::new(world.dir.path())
        .env("HOME", world.home())
        .env("TMPDIR", &temporary);
    let demo = launch.arg("demo").output();
    assert_eq!(demo.code, 0, "{}\n{}", demo.stdout, demo.stderr);
    assert!(
        demo.stdout.contains("diff --git ") && demo.stdout.contains("\n@@ "),
        "{}",
        demo.stdout
    );
    for message in [
        "agent.register",
        "ticket.assigned",
        "ticket.claim",
        "ticket.result",
    ] {
        assert!(
            demo.stdout.contains(message),
            "{message} is not shown:\n{}",
            demo.stdout
        );
    }
    let left: Vec<_> = fs::read_dir(&temporary)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    let left: Vec<_> = fs::read_dir(world.home())
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(left.is_empty(), "left behind in the home folder: {left:?}");
}

/// The demo is not disturbed by the user's own settings, nor by a reader that goes away, and leaves nothing.
#[cfg(feature = "tools")]
#[test]
fn the_demo_stands_alone() {
    let world = World::new();
    fs::create_dir(world.path("tmp")).unwrap();
    fs::write(
        world.path(".env"),
        "CLI_AUTONOMY=bogus\nMAX_CONCURRENT_TICKETS=many\n",
    )
    .unwrap();
    let launch = Launch::new(world.dir.path())
        .env("HOME", world.home())
        .env("TMPDIR", world.path("tmp"));
    let ended = launch.env("REQUIRE_APPROVAL", "1").arg("demo").output();
    assert_eq!(ended.code, 0, "{ended:?}");
    let status = std::process::Command::new("sh")
        .args([
            "-c",
            "\"$0\" demo | head -n 1 > /dev/null",
            crate::support::agent::BINARY.unwrap(),
        ])
        .env("TMPDIR", world.path("tmp"))
        .status()
        .unwrap();
    assert!(status.success());
    let left: Vec<_> = fs::read_dir(world.path("tmp"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
