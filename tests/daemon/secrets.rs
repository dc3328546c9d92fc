//! Where the token must not be, and what of the environment reaches the CLI.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::agent::TOKEN;
use crate::support::backend::{Answer, Upgrade};
use crate::support::files;
use crate::support::processes;
use crate::support::world::{World, ticket_with};

/// The token is in no argument, child's environment, frame, log line, error or file, from start to end.
#[test]
fn the_token_is_nowhere() {
    let world = World::new();
    let git = String::from_utf8(
        Command::new("sh")
            .args(["-c", "command -v git"])
            .output()
            .unwrap()
            .stdout,
    );
    // Every git that the daemon starts is looked at too.
    let path = world.on_path(
        "git",
        &format!(
            "env >> \"$WORLD/git-env\"; echo \"$@\" >> \"$WORLD/git-args\"; exec {}",
            git.unwrap().trim()
        ),
    );
    let script = "env > \"$WORLD/cli-env\"; tr '\\0' '\\n' < /proc/$$/environ >> \"$WORLD/cli-env\"
        cat > \"$WORLD/cli-stdin\"; echo x > new.txt; tell up; hold look; exit 3";
    world.backend.next_upgrade(Upgrade::Answer(
        "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ));
    let error = json!({"success": false, "error": {"code": "internal", "message": "try again"}});
    world
        .backend
        .answer("/api/tickets/T-2", Answer::json(500, &error));
    let launch = world
        .launch(script)
        .env("LOG_LEVEL", "trace")
        .env("PATH", path);
    let mut agent = world.registered(launch.env("CLI_ARGS_TEMPLATE", "-x {title} {cwd}"));
    world.assign("T-1");
    world.told("up");
    assert!(!processes::command_line(agent.pid()).contains(TOKEN));
    for (_, line) in world.processes(&agent) {
        assert!(!line.contains(TOKEN), "{line}");
    }
    world.backend.send_text("{not json");
    world
        .backend
        .send_anything(&json!({"type": "ticket.teleport", "token": "asked for"}));
    world.release("look");
    assert_eq!(world.backend.outcome("T-1")["code"], "cli_exit");
    world.backend.send(&ticket_with(
        "T-2",
        json!({"title": null, "description": null, "skills": ["missing"]}),
    ));
    assert_eq!(world.backend.outcome("T-2")["code"], "payload_unavailable");
    world.backend.cut();
    world.backend.frame("agent.register");
    assert_eq!(agent.terminate().code(), Some(0));

    assert!(
        agent.log().contains("DEBUG"),
        "the log is at its widest:\n{}",
        agent.log()
    );
    assert!(!agent.log().contains(TOKEN), "the log holds the token");
    let frames = world.backend.frames();
    assert!(
        frames.len() > 5
            && frames
                .iter()
                .all(|frame| !frame.to_string().contains(TOKEN)),
        "{frames:#?}"
    );
    for name in ["cli-env", "git-env", "git-args", "cli-stdin"] {
        let text = world.read(name);
        assert!(
            !text.is_empty() && !text.contains(TOKEN),
            "{name} holds the token, or nothing: {text}"
        );
    }
    assert_eq!(files::holding(&world.state(), TOKEN.as_bytes()), None);
    assert_eq!(files::holding(&world.repo(), TOKEN.as_bytes()), None);
    assert!(
        world
            .backend
            .requests()
            .iter()
            .all(|request| !request.path.contains(TOKEN))
    );
}

/// A rejected token is not shown either.
#[test]
fn a_rejected_token_is_not_shown() {
    let world = World::new();
    let answer = format!("HTTP/1.1 401 {TOKEN}\r\nContent-Length: 0\r\n\r\n");
    world
        .backend
        .next_upgrade(Upgrade::Answer(answer.replace(TOKEN, "Unauthorized")));
    let ended = world.launch("true").env("LOG_LEVEL", "trace").output();
    assert_eq!(ended.code, 77, "{ended:?}");
    assert!(
        !ended.stderr.contains(TOKEN) && !ended.stdout.contains(TOKEN),
        "{ended:?}"
    );
}

/// The CLI gets the daemon's environment without `WORKFORCE0_*`, plus the ticket's id and the run's.
#[test]
fn the_cli_gets_the_environment_without_the_settings() {
    let world = World::new();
    let launch = world
        .launch("env")
        .env("WORKFORCE0_EXTRA", "hidden")
        .env("workforce0_lower", "hidden")
        .env("OWN_VARIABLE", "kept as it is")
        .env("WF0_TICKET_ID", "of the daemon")
        .env("WF0_RUN_ID", "of the daemon");
    let _agent = world.registered(launch);
    let mut runs = Vec::new();
    for id in ["T-1", "T-2"] {
        let result = world.outcome_of(id);
        let stdout = result["stdout"].as_str().unwrap();
        let value = |name: &str| {
            let mut found = stdout
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            let value = found.next().map(str::to_owned);
            assert_eq!(found.next(), None, "{name} is there twice:\n{stdout}");
            value
        };
        assert!(!stdout.contains("WORKFORCE0_"), "{stdout}");
        assert_eq!(value("OWN_VARIABLE").as_deref(), Some("kept as it is"));
        assert_eq!(value("HOME"), world.home().to_str().map(str::to_owned));
        assert!(value("PATH").is_some());
        assert_eq!(value("WF0_TICKET_ID").as_deref(), Some(id));
        let run = value("WF0_RUN_ID").unwrap();
        assert!(run.len() >= 16 && run != "of the daemon", "{run}");
        runs.push(run);
    }
    assert_ne!(runs[0], runs[1], "each run has an id of its own");
}

/// Nothing from `.env` reaches the CLI, settings or not.
#[test]
fn nothing_of_the_env_file_reaches_the_cli() {
    let world = World::new();
    let text = format!(
        "WORKFORCE0_AGENT_TOKEN={TOKEN}\nANTHROPIC_API_KEY=sk-file\nAGENT_NAME=from-file\nFOO=from-file\n"
    );
    fs::write(world.path(".env"), text).unwrap();
    let _agent = world.registered(world.launch("env").env("WORKFORCE0_AGENT_TOKEN", ""));
    let result = world.outcome_of("T-1");
    let stdout = result["stdout"].as_str().unwrap();
    assert!(stdout.contains("WF0_TICKET_ID=T-1"), "{stdout}");
    for text in [TOKEN, "sk-file", "from-file"] {
        assert!(!stdout.contains(text), "{stdout}");
    }
}

/// A CLI of the same user cannot read the token out of the daemon's environment through `/proc`.
#[cfg(target_os = "linux")]
#[test]
fn the_daemons_environment_is_not_readable() {
    let world = World::new();
    let mut launch = world.launch("cat /proc/$PPID/environ; cat /proc/self/environ");
    if nix::unistd::geteuid().is_root() {
        // Root may read everything, so the daemon and its CLI are somebody else here.
        const NOBODY: u32 = 65_534;
        launch = launch.by_user(NOBODY, &world.path("wf0-agent"));
        let status = Command::new("chown")
            .args(["-R", &NOBODY.to_string()])
            .arg(world.dir.path())
            .status()
            .unwrap();
        assert!(status.success());
    }
    let _agent = world.registered(launch);
    let result = world.outcome_of("T-1");
    let stdout = result["stdout"]
        .as_str()
        .unwrap_or_else(|| panic!("{result}"));
    assert!(
        stdout.contains("WF0_TICKET_ID=T-1"),
        "the CLI can read its own: {result}"
    );
    assert!(!result.to_string().contains(TOKEN), "{result}");
}
