//! The audit log: what was started and what has left this machine, by size and SHA-256.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::agent::TOKEN;
use crate::support::backend::Upgrade;
use crate::support::world::{World, ticket_with};

fn lines(world: &World) -> Vec<Value> {
    let log = std::fs::read_to_string(world.state().join("audit.jsonl")).unwrap();
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

fn hash(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Every frame that the daemon sends is in it, with the hash of exactly what went out, but for heartbeats and progress.
#[test]
fn every_frame_is_told() {
    let world = World::new();
    let mut agent = world.registered(
        world
            .launch("echo hi; echo changed >> README.md")
            .env("LOG_LEVEL", "debug"),
    );
    world.outcome_of("T-1");
    world.fence();
    agent.terminate();
    let log = agent.log();
    let sent: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once("→ ").map(|(_, frame)| frame))
        .collect();
    let is_left_out =
        |frame: &&str| frame.contains("agent.heartbeat") || frame.contains("ticket.progress");
    let frames: Vec<_> = sent
        .into_iter()
        .filter(|frame| !is_left_out(frame))
        .collect();
    assert!(
        frames.len() >= 4,
        "register, claim, result and a refusal: {log}"
    );

    let told = lines(&world);
    let told: Vec<_> = told.iter().filter(|line| line["what"] == "sent").collect();
    let hashes: Vec<_> = told
        .iter()
        .map(|line| line["sha256"].as_str().unwrap())
        .collect();
    assert_eq!(
        hashes,
        frames.iter().map(|frame| hash(frame)).collect::<Vec<_>>()
    );
    let outcome = told
        .iter()
        .find(|line| line["frame"] == "outcome" && line["ticket"] == "T-1")
        .unwrap();
    let frame = frames
        .iter()
        .find(|frame| frame.contains("ticket.result"))
        .unwrap();
    assert_eq!(
        (outcome["bytes"].as_u64(), outcome["attempt"].as_u64()),
        (Some(frame.len() as u64), Some(1))
    );
    let result: Value = serde_json::from_str(frame).unwrap();
    for part in ["diff", "stdout"] {
        assert_eq!(
            outcome[part]["sha256"],
            hash(result[part].as_str().unwrap()),
            "{outcome}"
        );
    }
}

/// A run's program, arguments, folder and the hash of its prompt; where the connection leads to; what is downloaded.
#[test]
fn runs_and_downloads_are_told() {
    let world = World::new();
    let launch = world
        .launch("cat > \"$WORLD/prompt\"")
        .env("CLI_ARGS_TEMPLATE", "--flag {title}");
    let mut agent = world.registered(launch);
    let title = "t".repeat(1000);
    world.backend.send(&ticket_with(
        "T-1",
        json!({"title": title, "skills": ["review"]}),
    ));
    world.backend.outcome("T-1");
    agent.terminate();
    let told = lines(&world);
    let of = |what: &str| {
        told.iter()
            .find(|line| line["what"] == what)
            .unwrap_or_else(|| panic!("{what}: {told:?}"))
    };
    let started = of("started");
    assert_eq!(
        started["program"],
        world.path("fake-cli").display().to_string()
    );
    assert_eq!(
        (&started["ticket"], &started["cwd"]),
        (&"T-1".into(), &world.repo().display().to_string().into())
    );
    assert_eq!(started["args"][0], "--flag");
    assert_eq!(
        started["args"][1].as_str().unwrap().chars().count(),
        301,
        "an argument is told in part"
    );
    assert_eq!(started["sha256"], hash(&world.read("prompt")));
    assert!(
        of("connecting")["to"]
            .as_str()
            .unwrap()
            .ends_with("/api/agents/ws")
    );
    assert!(
        of("asked")["for"]
            .as_str()
            .unwrap()
            .ends_with("/api/library/skills/review"),
        "{told:?}"
    );
    assert!(
        told.iter()
            .all(|line| line["at"].as_str().unwrap().ends_with('Z')),
        "{told:?}"
    );
    assert!(!format!("{told:?}").contains(TOKEN));
}

/// It is bounded: what is full becomes the old one, and only one old one is kept. Both are closed to others.
#[test]
fn it_is_bounded() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    std::fs::create_dir(world.state()).unwrap();
    std::fs::write(world.state().join("lock"), "").unwrap();
    std::fs::write(world.state().join("audit.jsonl.1"), "older\n").unwrap();
    std::fs::write(
        world.state().join("audit.jsonl"),
        vec![b'x'; (8 << 20) - 10],
    )
    .unwrap();
    let mut agent = world.agent("true");
    world.outcome_of("T-1");
    agent.terminate();
    let old = std::fs::read(world.state().join("audit.jsonl.1")).unwrap();
    assert!(
        old.starts_with(b"xxx") && old.len() < 8 << 20,
        "{} bytes",
        old.len()
    );
    assert!(lines(&world).len() >= 4);
    let mode = std::fs::metadata(world.state().join("audit.jsonl"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Where it cannot be written that is said once, and tickets run.
#[test]
fn without_it_tickets_run() {
    let world = World::new();
    std::fs::create_dir_all(world.state().join("audit.jsonl")).unwrap();
    std::fs::write(world.state().join("lock"), "").unwrap();
    let agent = world.agent("true");
    assert_eq!(world.outcome_of("T-1")["type"], "ticket.result");
    assert_eq!(
        agent
            .log()
            .matches("the audit log cannot be written")
            .count(),
        1,
        "{}",
        agent.log()
    );
    std::fs::remove_dir(world.state().join("audit.jsonl")).unwrap();
    world.outcome_of("T-2");
    let told = lines(&world);
    assert_eq!(
        told[0]["what"], "missing",
        "it goes on, and says what it lacks: {told:?}"
    );
}

/// The token's way is told before it is known whether the backend takes it, and without what a query may hold.
#[test]
fn each_sending_of_the_token_is_told() {
    let world = World::new();
    world.backend.next_upgrade(Upgrade::Answer(
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ));
    let url = format!(
        "ws://127.0.0.1:{}/api/agents/ws?key=hidden",
        world.backend.port()
    );
    let mut agent = world.launch("true").env("WORKFORCE0_API_URL", url).start();
    assert_eq!(agent.exit_code(), 77);
    let told = lines(&world);
    assert_eq!(told.len(), 1, "{told:?}");
    let address = format!("ws://127.0.0.1:{}/api/agents/ws", world.backend.port());
    assert_eq!(
        (&told[0]["what"], &told[0]["to"]),
        (&"connecting".into(), &address.into())
    );
    assert!(!agent.log().contains("hidden"), "{}", agent.log());
}

/// A line that lost its end with the machine's power costs no other line.
#[test]
fn a_torn_line_is_left_behind() {
    let world = World::new();
    std::fs::create_dir(world.state()).unwrap();
    std::fs::write(world.state().join("lock"), "").unwrap();
    std::fs::write(world.state().join("audit.jsonl"), "{\"at\":\"2026").unwrap();
    let mut agent = world.agent("true");
    agent.terminate();
    let log = std::fs::read_to_string(world.state().join("audit.jsonl")).unwrap();
    let (torn, rest) = log.split_once('\n').unwrap();
    assert_eq!(torn, "{\"at\":\"2026");
    assert!(
        rest.lines().count() >= 2
            && rest
                .lines()
                .all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "{rest}"
    );
}
