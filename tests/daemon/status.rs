//! `wf0-agent status`: what the daemon does and did, from the files in its state folder alone.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::agent::{BINARY, Ended, Launch};
use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::world::World;

/// With the state folder as the only setting.
fn status(world: &World, args: &[&str]) -> Ended {
    let launch = Launch::new(world.dir.path())
        .env("HOME", world.home())
        .env("STATE_DIR", world.state())
        .arg("status");
    args.iter()
        .fold(launch, |launch, arg| launch.arg(arg))
        .output()
}

fn json(world: &World) -> Value {
    let ended = status(world, &["--json"]);
    assert_eq!(
        (ended.stderr.as_str(), ended.stdout.lines().count()),
        ("", 1),
        "{ended:?}"
    );
    serde_json::from_str(&ended.stdout).unwrap()
}

/// From the start of a run to its delivery: who the daemon is, what runs, what it came to; and after the end of the daemon
/// that there is none. The exit code says the same.
#[test]
fn the_life_of_a_ticket() {
    let world = World::new();
    let mut agent = world.registered(
        world
            .launch("hold end; echo changed >> README.md")
            .env("AGENT_NAME", "box"),
    );
    let idle = eventually("the connection", || {
        Some(json(&world)).filter(|now| now["daemon"]["connected"] == true)
    });
    let daemon = &idle["daemon"];
    assert_eq!(
        (&daemon["name"], &daemon["dialect"], &daemon["status"]),
        (&"box".into(), &"ticket".into(), &"ready".into())
    );
    assert_eq!(
        (daemon["pid"].as_u64(), idle["running"].as_bool()),
        (Some(agent.pid().into()), Some(true))
    );
    assert_eq!(daemon["capacity"], serde_json::json!({"max": 1, "free": 1}));

    world.assign("T-1");
    world.assign("T-2");
    let busy = eventually("both tickets", || {
        Some(json(&world)).filter(|now| now["active"].as_array().unwrap().len() == 2)
    });
    let of = |at: usize, name: &str| busy["active"][at][name].clone();
    assert_eq!(
        (of(0, "ticketId"), of(0, "role"), of(0, "title")),
        ("T-1".into(), "dev".into(), "Do it".into())
    );
    assert!(
        of(0, "startedAt").is_string() && of(1, "startedAt").is_null(),
        "{busy}"
    );
    let text = status(&world, &[]);
    assert_eq!(text.code, 0);
    for words in [
        "● connected to http://127.0.0.1:",
        " for ",
        "box · wf0-agent ",
        "working (1 of 1 running)",
        "T-1  dev  app",
        "T-2  dev  app  waiting",
    ] {
        assert!(
            text.stdout.contains(words),
            "{words:?} is not in:\n{}",
            text.stdout
        );
    }
    assert!(
        !text.stdout.contains('\u{1b}'),
        "colours are for terminals: {text:?}"
    );

    world.release("end");
    world.backend.outcome("T-1");
    world.release("end");
    world.backend.outcome("T-2");
    let done = eventually("the deliveries", || {
        let delivered = |now: &Value| {
            now["results"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|r| r["delivered"] == true)
                .count()
        };
        Some(json(&world)).filter(|now| delivered(now) == 2 && now["daemon"]["undelivered"] == 0)
    });
    let newest = &done["results"][0];
    assert_eq!(
        (&newest["ticketId"], &newest["ok"], &newest["exitCode"]),
        (&"T-2".into(), &true.into(), &0.into()),
        "{done}"
    );
    assert_eq!(
        newest["diffStat"],
        serde_json::json!({"files": 1, "insertions": 1, "deletions": 0})
    );
    let text = status(&world, &[]).stdout;
    assert!(
        text.contains("✓ T-2  dev  app  0 s, 1 file, +1 −0  0 s ago"),
        "{text}"
    );

    assert_eq!(agent.terminate().code(), Some(0));
    let gone = status(&world, &[]);
    assert_eq!(gone.code, 1, "{gone:?}");
    assert!(
        gone.stdout.contains("not running (last seen ") && gone.stdout.contains("✓ T-1"),
        "{gone:?}"
    );
    assert_eq!(
        (&json(&world)["running"], &json(&world)["daemon"]),
        (&false.into(), &Value::Null)
    );
}

/// A backend that cannot be reached: since when, and why.
#[test]
fn no_connection() {
    let world = World::with(Backend::start());
    let _agent = world
        .launch("true")
        .env("WORKFORCE0_API_URL", "http://127.0.0.1:1")
        .start();
    let now = eventually("the first refusal", || {
        Some(json_if_any(&world)?).filter(|now| now["daemon"]["why"].is_string())
    });
    assert_eq!(now["daemon"]["connected"], false);
    assert!(now["daemon"]["since"].is_string());
    let text = status(&world, &[]);
    assert!(
        text.stdout
            .contains("○ not connected to http://127.0.0.1:1 for "),
        "{text:?}"
    );
}

/// Before the daemon has made its folder there is nothing to read.
fn json_if_any(world: &World) -> Option<Value> {
    let ended = status(world, &["--json"]);
    (ended.code == 0).then(|| serde_json::from_str(&ended.stdout).unwrap())
}

/// A failed run shows its code, and one by a used-up quota when the CLI is tried again.
#[test]
fn failures_and_quota() {
    let world = World::new();
    let _agent = world.agent("echo 'Claude AI usage limit reached' >&2; exit 1");
    assert_eq!(world.outcome_of("T-1")["code"], "quota_exceeded");
    let text = eventually("the quota", || {
        Some(status(&world, &[]).stdout).filter(|text| text.contains("is used up"))
    });
    assert!(text.contains("✗ T-1  dev  app  quota_exceeded, "), "{text}");
    assert!(
        text.contains("next try at ") && text.contains("takes no tickets"),
        "{text}"
    );
    let now = json(&world);
    assert_eq!(now["daemon"]["cli"]["unavailable"], "quota_exceeded");
    assert!(now["daemon"]["cli"]["quotaUntil"].is_string(), "{now}");
}

/// Watched as JSON there is a line for each change, and none without.
#[test]
fn it_can_be_watched() {
    let world = World::new();
    let mut agent = world.agent("hold end");
    let mut watcher = Command::new(BINARY.unwrap())
        .args(["status", "--watch", "--json", "--state-dir"])
        .arg(world.state())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    let mut states = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let mut last = Value::Null;
    let mut until = |what: &str, is_it: &dyn Fn(&Value) -> bool| loop {
        let next = states
            .next()
            .unwrap_or_else(|| panic!("the end before {what}"));
        assert_ne!(next, last, "the same again");
        last = next;
        if is_it(&last) {
            return;
        }
    };
    until("the connection", &|now| now["daemon"]["connected"] == true);
    world.assign("T-1");
    until("the ticket", &|now| now["active"][0]["ticketId"] == "T-1");
    world.release("end");
    until("its result", &|now| {
        now["results"][0]["ok"] == true && now["active"] == serde_json::json!([])
    });
    agent.terminate();
    until("the end of the daemon", &|now| now["running"] == false);
    watcher.kill().unwrap();
    watcher.wait().unwrap();
}

/// No secret of the settings is in the file that the daemon writes, nor a query of the backend's address.
#[test]
fn the_file_holds_no_secret() {
    let world = World::new();
    let url = format!(
        "{}/api/agents/ws?key=hidden",
        world.backend.url().replacen("http", "ws", 1)
    );
    let _agent = world.registered(world.launch("true").env("WORKFORCE0_API_URL", url));
    world.fence();
    let file = eventually("the file", || {
        std::fs::read_to_string(world.state().join("status.json")).ok()
    });
    assert!(
        !file.contains("hidden") && !file.contains(crate::support::agent::TOKEN),
        "{file}"
    );
}

/// Where it cannot be written that is said once, and it is written as soon as it can be.
#[test]
fn it_is_written_later() {
    let world = World::new();
    std::fs::create_dir_all(world.state().join("status.new")).unwrap();
    std::fs::write(world.state().join("lock"), "").unwrap();
    let agent = world.agent("true");
    for id in ["T-1", "T-2"] {
        world.outcome_of(id);
    }
    world.fence();
    assert_eq!(
        agent.log().matches("the status cannot be written").count(),
        1,
        "{}",
        agent.log()
    );
    std::fs::remove_dir(world.state().join("status.new")).unwrap();
    world.outcome_of("T-3");
    eventually("the status", || {
        Some(json(&world)).filter(|now| now["daemon"]["connected"] == true)
    });
}

/// A file that cannot be read is of a machine that lost its power: the results are shown all the same.
#[test]
fn a_broken_file_costs_little() {
    let world = World::new();
    let mut agent = world.agent("true");
    world.outcome_of("T-1");
    agent.terminate();
    std::fs::write(world.state().join("status.json"), "{\"daemon\"").unwrap();
    let ended = status(&world, &[]);
    assert!(
        ended.code == 1 && ended.stdout.contains("✓ T-1"),
        "{ended:?}"
    );
}
