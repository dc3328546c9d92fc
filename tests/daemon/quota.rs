//! The CLI's subscription is used up: who hears of it, and when the agent is back.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::world::World;

const USED_UP: &str = "echo 'Claude AI usage limit reached' >&2; exit 1";

/// A CLI whose quota is back that many seconds after it was found used up, and how it says so.
pub fn used_up_for(seconds: u64) -> (String, u64) {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let until = now + seconds;
    let script = format!(
        "[ $(date +%s) -lt {until} ] || exit 0; echo 'usage limit reached|{until}'; exit 1"
    );
    (script, until)
}

/// The next register, as far as the quota goes: roles, reason, time.
fn next_register(world: &World) -> (Value, Value, Value) {
    let register = world.backend.frame("agent.register");
    let cli = &register["cli"];
    assert_eq!(
        cli["available"] == json!(true),
        register["roles"] != json!([]),
        "{register}"
    );
    (
        register["roles"].clone(),
        cli["unavailableReason"].clone(),
        cli["availableAt"].clone(),
    )
}

fn rfc3339(unix: u64) -> Value {
    json!(
        jiff::Timestamp::from_second(i64::try_from(unix).unwrap())
            .unwrap()
            .strftime("%Y-%m-%dT%H:%M:%S.000Z")
            .to_string()
    )
}

/// A failed run that says so is `quota_exceeded`, which another agent may try; this one registers without roles and
/// refuses what comes all the same.
#[test]
fn a_used_up_quota_is_told() {
    let world = World::new();
    let _agent = world.agent(USED_UP);
    world.assign("T-1");
    assert_eq!(
        next_register(&world),
        (json!([]), json!("quota_exceeded"), Value::Null)
    );
    let fail = world.backend.outcome("T-1");
    assert_eq!(
        (fail["code"].as_str(), fail["retryable"].as_bool()),
        (Some("quota_exceeded"), Some(true)),
        "{fail}"
    );
    assert_eq!(
        (&fail["error"], &fail["exitCode"]),
        (&json!("Claude AI usage limit reached"), &json!(1)),
        "{fail}"
    );
    let refusal = world.outcome_of("T-2");
    assert_eq!(
        (refusal["code"].as_str(), &refusal["exitCode"]),
        (Some("quota_exceeded"), &Value::Null),
        "{refusal}"
    );
}

/// At the time that the CLI named, the roles are back.
#[test]
fn the_roles_come_back_in_time() {
    let world = World::new();
    let (script, until) = used_up_for(3);
    let _agent = world.agent(&script);
    world.assign("T-1");
    assert_eq!(
        next_register(&world),
        (json!([]), json!("quota_exceeded"), rfc3339(until))
    );
    assert_eq!(world.backend.outcome("T-1")["code"], "quota_exceeded");
    assert_eq!(
        next_register(&world),
        (json!(["dev", "qa"]), Value::Null, Value::Null)
    );
    assert!(
        SystemTime::now() >= SystemTime::UNIX_EPOCH + Duration::from_secs(until),
        "too early"
    );
    assert_eq!(world.outcome_of("T-2")["type"], "ticket.result");
}

/// A restart forgets neither that the quota is used up nor until when; what was claimed is answered.
#[test]
fn a_used_up_quota_survives_a_restart() {
    for crash in [false, true] {
        let world = World::new();
        let (script, until) = used_up_for(6);
        let mut agent = world.agent(&script);
        world.assign("T-1");
        let gone = (json!([]), json!("quota_exceeded"), rfc3339(until));
        assert_eq!(next_register(&world), gone);
        world.backend.outcome("T-1");
        if crash {
            agent.crash();
        } else {
            assert_eq!(agent.terminate().code(), Some(0));
        }
        let _agent = world.launch(&script).start();
        assert_eq!(next_register(&world), gone);
        assert_eq!(next_register(&world).0, json!(["dev", "qa"]));
        assert_eq!(world.outcome_of("T-2")["type"], "ticket.result");
    }
}

/// The quota of one CLI says nothing about another's, and a state that nobody can read is set aside.
#[test]
fn another_cli_has_a_quota_of_its_own() {
    let world = World::new();
    let mut agent = world.agent(USED_UP);
    world.outcome_of("T-1");
    assert_eq!(agent.terminate().code(), Some(0));
    let other = world.path("other-cli");
    world.program(&other, "echo done");
    let mut agent = world.launch(USED_UP).env("CLI_COMMAND", &other).start();
    assert_eq!(next_register(&world).0, json!(["dev", "qa"]));
    assert_eq!(agent.terminate().code(), Some(0));
    fs::write(world.state().join("quota.json"), "{\"cli\":").unwrap();
    let agent = world.launch("echo done").start();
    assert_eq!(next_register(&world).0, json!(["dev", "qa"]));
    assert!(
        world.state().join("quota.unusable").is_file(),
        "{}",
        agent.log()
    );
    assert_eq!(world.outcome_of("T-2")["stdout"], "done\n");
}

/// The same words mean nothing in a run that went well, and nothing in one that was ended for its time.
#[test]
fn the_words_mean_nothing_elsewhere() {
    let world = World::new();
    let _agent = world.agent(
        "[ $WF0_TICKET_ID = T-1 ] && { echo usage limit reached; exit 0; }
        [ $WF0_TICKET_ID = T-2 ] && { echo usage limit reached; hold never; }
        echo \"the quota is not exceeded\"; exit 1",
    );
    assert_eq!(world.outcome_of("T-1")["type"], "ticket.result");
    assert_eq!(
        world.outcome_with("T-2", json!({"timeoutSeconds": 1}))["code"],
        "timeout"
    );
    assert_eq!(world.outcome_of("T-3")["code"], "cli_exit");
    let registers = world
        .backend
        .frames()
        .iter()
        .filter(|frame| frame["type"] == "agent.register")
        .count();
    assert_eq!(registers, 1);
}

/// A pattern of the user's own replaces the usual words.
#[test]
fn a_pattern_of_ones_own() {
    let world = World::new();
    let script = "[ $WF0_TICKET_ID = T-1 ] && { echo usage limit reached; exit 1; }; echo No More Fuel; exit 1";
    let _agent = world.registered(
        world
            .launch(script)
            .env("CLI_QUOTA_PATTERN", "no more (coins|fuel)"),
    );
    assert_eq!(world.outcome_of("T-1")["code"], "cli_exit");
    assert_eq!(world.outcome_of("T-2")["code"], "quota_exceeded");
}
