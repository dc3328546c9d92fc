//! The daemon is killed and started again: nothing is lost, nothing runs twice, nothing is left running.

use std::fs;

use serde_json::{Value, json};

use crate::support::backend::{Upgrade, is_outcome};
use crate::support::world::{World, ticket_with};

/// A run that was cut off is `agent_restarted`, with its output and its diff so far, and its processes are gone;
/// a ticket that had only been claimed runs.
#[test]
fn a_cut_off_run_is_reported_and_a_waiting_ticket_runs() {
    let world = World::new();
    let script = "echo partial; echo changed >> README.md; setsid sleep 1000 &
        tell \"up $WF0_TICKET_ID\"; hold \"$WF0_TICKET_ID\"";
    let mut agent = world.agent(script);
    world.assign("T-1");
    world.told("up T-1");
    world.assign("T-2");
    world.backend.frame_where("ticket.claim", |claim| claim["ticketId"] == "T-2");
    agent.crash();
    assert!(!world.processes(&agent).is_empty(), "the crash itself ends no run");

    let agent = world.agent(script);
    let fail = world.backend.outcome("T-1");
    assert_eq!((fail["code"].as_str(), fail["retryable"].as_bool()), (Some("agent_restarted"), Some(true)), "{fail}");
    assert_eq!(fail["stdout"], "partial\n");
    assert!(fail["diff"].as_str().is_some_and(|diff| diff.contains("+changed")), "{fail}");
    assert_eq!(fail["baseCommit"], world.git(&world.repo(), &["rev-parse", "HEAD"]).trim());
    world.told("up T-2");
    world.release("T-2");
    let result = world.backend.outcome("T-2");
    assert_eq!(result["type"], "ticket.result", "{result}");
    let left = world.processes(&agent);
    assert!(left.is_empty(), "still running: {left:?}");
    for ticket in ["T-1", "T-2"] {
        assert_eq!(world.backend.frames_of(ticket).iter().filter(|frame| is_outcome(frame)).count(), 1, "{ticket}");
    }
}

/// An outcome that came while nobody listened arrives after the restart, as it was, and is not run again.
#[test]
fn an_outcome_survives_the_daemon() {
    let world = World::new();
    let script = "tell up; hold go; echo done; echo ran >> runs.log";
    let mut agent = world.agent(script);
    world.assign("T-1");
    world.told("up");
    for _ in 0..20 {
        world.backend.next_upgrade(Upgrade::Drop);
    }
    world.backend.cut();
    world.backend.refused();
    world.release("go");
    agent.logged("done after");
    agent.crash();

    world.backend.forget_upgrades();
    let _agent = world.registered(world.launch(script));
    let result = world.backend.outcome("T-1");
    assert_eq!((result["type"].as_str(), result["stdout"].as_str()), (Some("ticket.result"), Some("done\n")));
    assert!(result["diff"].as_str().is_some_and(|diff| diff.contains("+ran")), "{result}");
    assert_eq!(fs::read_to_string(world.repo().join("runs.log")).unwrap(), "ran\n");
}

/// An outcome whose arrival was never proven is sent again after a restart; one whose Pong came is not.
#[test]
fn only_what_is_unproven_is_sent_again() {
    for proven in [false, true] {
        let world = World::new();
        let mut agent = world.agent("echo done");
        if !proven {
            world.backend.ignore_pings();
        }
        let first = world.outcome_of("T-1");
        if proven {
            // The Pong to the outcome's own Ping comes before the answer to this.
            world.fence();
        }
        agent.crash();
        let _agent = world.registered(world.launch("echo again"));
        world.fence();
        let sent: Vec<Value> = world.backend.frames_of("T-1").into_iter().filter(is_outcome).collect();
        assert_eq!(sent.len(), if proven { 1 } else { 2 }, "{sent:#?}");
        assert!(sent.iter().all(|outcome| *outcome == first), "{sent:#?}");
    }
}

/// A ticket that was answered before the restart is answered again from disk, and not run again.
#[test]
fn a_repeat_after_the_restart_is_answered_from_disk() {
    let world = World::new();
    let mut agent = world.agent("echo first");
    let first = world.outcome_of("T-1");
    world.fence();
    agent.crash();
    let _agent = world.registered(world.launch("echo second"));
    assert_eq!(world.outcome_of("T-1"), first);
}

/// Files that nobody can read are set aside with a warning; everything else goes on.
#[test]
fn a_torn_file_is_set_aside() {
    let world = World::new();
    let mut agent = world.agent("echo done");
    world.outcome_of("T-1");
    agent.crash();
    let tickets = world.state().join("tickets");
    for (name, file, content) in [
        ("00000000000000000000000000000001", "ticket.json", "{\"ticket_id\":"),
        ("00000000000000000000000000000002", "ticket.json", "[]"),
        ("00000000000000000000000000000003", "ticket.json", ""),
    ] {
        fs::create_dir(tickets.join(name)).unwrap();
        fs::write(tickets.join(name).join(file), content).unwrap();
    }
    let agent = world.registered(world.launch("echo done"));
    for n in 1..=3 {
        assert!(tickets.join(format!("{n:032}.unusable")).is_dir(), "{}", agent.log());
    }
    assert!(agent.log().matches(" WARN ").count() >= 3, "{}", agent.log());
    assert_eq!(world.outcome_of("T-2")["stdout"], "done\n");
}

/// A newer attempt that was claimed before the crash is the one that is answered after it.
#[test]
fn the_newest_attempt_is_answered() {
    let world = World::new();
    let script = "tell up; hold never";
    let mut agent = world.agent(script);
    world.assign("T-1");
    world.told("up");
    world.backend.send(&ticket_with("T-1", json!({"attempt": 2})));
    world.backend.frame_where("ticket.claim", |claim| claim["attempt"] == 2);
    agent.crash();
    let _agent = world.agent(script);
    let fail = world.backend.outcome("T-1");
    assert_eq!((fail["code"].as_str(), fail["attempt"].as_u64()), (Some("agent_restarted"), Some(2)), "{fail}");
}
