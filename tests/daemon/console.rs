//! What the log looks like: to a person at a terminal, in a file, in the journal, to a program; and what systemd is told.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use serde_json::Value;

use crate::support::PATIENCE;
use crate::support::agent::{Agent, TOKEN};
use crate::support::world::World;

const CHANGES: &str = "hold end; echo changed >> README.md";

/// A ticket that runs, is held for a while and changes a line; everything that was logged until the daemon's end.
fn log_of_a_ticket(world: &World, agent: &mut Agent) -> String {
    world.assign("T-1");
    world.backend.frame("ticket.claim");
    world.release("end");
    world.backend.outcome("T-1");
    agent.terminate();
    agent.log()
}

/// At a terminal lines are short, each with a sign, with colours, without levels.
#[test]
fn at_a_terminal() {
    let world = World::new();
    let mut agent = world.registered(world.launch(CHANGES).env("TERM", "xterm").at_terminal());
    let log = log_of_a_ticket(&world, &mut agent);
    for words in [
        "\u{1b}[32m●\u{1b}[0m connected and registered",
        "\u{1b}[1m▸\u{1b}[0m \u{1b}[1mT-1\u{1b}[0m claimed: dev in ",
        "\u{1b}[32m✓\u{1b}[0m \u{1b}[1mT-1\u{1b}[0m done after ",
        "1 file, +1 −0",
    ] {
        assert!(log.contains(words), "{words:?} is not in:\n{log:?}");
    }
    assert!(
        !log.contains("INFO") && !log.contains("(attempt 1)"),
        "{log}"
    );
}

/// `NO_COLOR` takes the colours away, and so does a terminal that knows no escape sequences.
#[test]
fn without_colours() {
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let world = World::new();
        let launch = world.launch(CHANGES).env("TERM", "xterm").env(name, value);
        let mut agent = world.registered(launch.at_terminal());
        let log = log_of_a_ticket(&world, &mut agent);
        assert!(
            log.contains("● connected and registered") && log.contains("✓ T-1 done after "),
            "{log}"
        );
        assert!(!log.contains('\u{1b}'), "{log:?}");
    }
}

/// Somebody who pauses the terminal (Ctrl-S) pauses nothing else: tickets run and are answered, and the daemon stops.
#[test]
fn a_paused_terminal_holds_up_nothing() {
    let world = World::new();
    let launch = world
        .launch("echo said; sleep 0.2")
        .env("PROGRESS_SECONDS", "1")
        .env("LOG_LEVEL", "debug");
    let mut agent = world.registered(launch.at_terminal());
    agent.type_line("\u{13}");
    for id in ["T-1", "T-2", "T-3"] {
        // More than a terminal takes in while it is paused.
        let description = "x".repeat(10_000);
        world.outcome_with(id, serde_json::json!({"description": description}));
    }
    assert_eq!(agent.terminate().code(), Some(0));
}

/// A module has a level of its own. What libraries log is left out unless it is asked for by name, and the token is not
/// in it.
#[test]
fn modules_have_levels() {
    for (level, own, library) in [
        ("debug", true, false),
        ("debug,wf0_agent::link=info", false, false),
        ("info,tungstenite=debug,wf0_agent::link=debug", true, true),
    ] {
        let world = World::new();
        let mut agent = world.registered(world.launch("true").env("LOG_LEVEL", level));
        agent.terminate();
        let log = agent.log();
        assert_eq!(log.contains("Z DEBUG → "), own, "{level}:\n{log}");
        let handshake = "Client handshake done";
        assert_eq!(log.contains(handshake), library, "{level}:\n{log}");
        assert!(!log.contains(TOKEN), "{level}:\n{log}");
    }
}

/// `--quiet` leaves warnings and errors, at a terminal and elsewhere.
#[test]
fn quiet() {
    for at_terminal in [false, true] {
        let world = World::new();
        let launch = world.launch(CHANGES).arg("--quiet");
        let launch = if at_terminal {
            launch.at_terminal()
        } else {
            launch
        };
        let mut agent = world.registered(launch);
        world.fence();
        let log = log_of_a_ticket(&world, &mut agent);
        assert_eq!(log.lines().count(), 1, "{log:?}");
        assert!(log.contains("refused: role_not_allowed"), "{log:?}");
    }
}

/// `LOG_FORMAT=json` is an object a line, with what it is about in fields; `text` is for people, at a terminal too.
#[test]
fn for_programs() {
    let world = World::new();
    let mut agent = world.registered(world.launch(CHANGES).env("LOG_FORMAT", "json"));
    let log = log_of_a_ticket(&world, &mut agent);
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let done = lines
        .iter()
        .find(|line| line["event"] == "done")
        .unwrap_or_else(|| panic!("{log}"));
    assert_eq!(
        (&done["ticket"], &done["attempt"], &done["level"]),
        (&"T-1".into(), &1.into(), &"info".into())
    );
    assert!(
        done["message"]
            .as_str()
            .unwrap()
            .starts_with("ticket T-1 (attempt 1): done after "),
        "{done}"
    );
    assert!(
        lines
            .iter()
            .all(|line| line["time"].as_str().unwrap().ends_with('Z')),
        "{log}"
    );
    assert!(
        lines.iter().any(|line| line["event"] == "connected"),
        "{log}"
    );

    let world = World::new();
    let mut agent = world.registered(
        world
            .launch(CHANGES)
            .env("LOG_FORMAT", "text")
            .at_terminal(),
    );
    let log = log_of_a_ticket(&world, &mut agent);
    assert!(
        log.contains("Z INFO  ticket T-1 (attempt 1): done after ") && !log.contains('\u{1b}'),
        "{log:?}"
    );
}

/// In the journal, which has the time, a line begins with its priority (sd-daemon(3)); another stream is not taken for it.
#[test]
fn in_the_journal() {
    let world = World::new();
    let path = world.path("journal");
    let file = std::fs::File::create(&path).unwrap();
    let stream = file
        .metadata()
        .map(|meta| format!("{}:{}", meta.dev(), meta.ino()))
        .unwrap();
    let first = format!("exec 2>'{}'", path.display());
    let launch = world
        .launch(CHANGES)
        .env("JOURNAL_STREAM", stream.as_str())
        .after(&first);
    let mut agent = world.registered(launch);
    world.fence();
    agent.terminate();
    let log = world.read("journal");
    assert!(
        log.contains("\n<6>connected and registered\n") && log.contains("\n<4>ticket fence-1 "),
        "{log}"
    );

    let mut agent = world.registered(world.launch(CHANGES).env("JOURNAL_STREAM", stream.as_str()));
    agent.terminate();
    assert!(
        agent.log().contains("Z INFO  connected and registered"),
        "{}",
        agent.log()
    );
}

/// systemd is told when the daemon has registered, what it does, and that it stops (sd_notify(3)); the CLI does not see
/// where.
#[test]
fn systemd_is_told() {
    let world = World::new();
    let path = world.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut news = [0; 4096];
        let length = socket.recv(&mut news).expect("news for systemd");
        String::from_utf8(news[..length].to_vec()).unwrap()
    };
    let script = "env > \"$WORLD/env\"; hold end";
    let mut agent = world
        .launch(script)
        .env("NOTIFY_SOCKET", &path)
        .env("DRAIN_SECONDS", "60")
        .start();
    assert_eq!(
        next(),
        "STATUS=connecting; 0 running, 0 waiting\n",
        "not ready before it has registered"
    );
    assert_eq!(next(), "READY=1\nSTATUS=connected; 0 running, 0 waiting\n");
    world.assign("T-1");
    assert_eq!(next(), "STATUS=connected; 1 running, 0 waiting\n");
    world.backend.frame("ticket.claim");
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(
        next(),
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=81000000\n",
        "drain, grace and 20 s"
    );
    world.release("end");
    world.backend.outcome("T-1");
    agent.exit();
    assert!(
        !world.read("env").contains("NOTIFY_SOCKET"),
        "{}",
        world.read("env")
    );
}
