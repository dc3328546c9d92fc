//! The daemon's end: what runs is ended, what was claimed is answered, nothing is left.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::agent::Agent;
use crate::support::backend::{Answer, Upgrade};
use crate::support::world::{World, ticket_with};

/// On SIGTERM and SIGINT the running and the waiting tickets are `agent_shutdown`, the tree is gone, the exit code is 0.
#[test]
fn a_signal_ends_the_runs_and_the_daemon() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let world = World::new();
        let script = "echo partial; ( trap '' TERM INT HUP; tell grandchild; hold never ) & trap '' TERM INT; tell up; hold never";
        let mut agent = world.agent(script);
        world.assign("T-1");
        world.told("up");
        world.told("grandchild");
        world.assign("T-2");
        world.fence();
        agent.signal(signal);
        let fails = world.backend.outcomes(&["T-1", "T-2"]);
        assert_eq!(agent.exit_code(), 0, "{signal}: {}", agent.log());
        let left = world.processes(&agent);
        assert!(left.is_empty(), "still running: {left:?}");
        for fail in fails {
            assert_eq!(fail["type"], "ticket.fail", "{fail}");
            assert_eq!(fail["code"], "agent_shutdown", "{fail}");
            assert_eq!(fail["retryable"], true);
            if fail["ticketId"] == "T-1" {
                assert_eq!(fail["stdout"], "partial\n");
            }
        }
        assert_eq!(world.backend.closed(), Some(1001));
    }
}

/// An idle daemon ends at once, with exit code 0.
#[test]
fn an_idle_daemon_ends() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let world = World::new();
        let mut agent = world.agent("true");
        agent.signal(signal);
        assert_eq!(agent.exit_code(), 0, "{signal}");
        world.backend.closed();
    }
}

/// A daemon that is waiting to connect ends with exit code 0.
#[test]
fn a_daemon_without_a_connection_ends() {
    let world = World::new();
    for _ in 0..50 {
        world.backend.next_upgrade(Upgrade::Drop);
    }
    let mut agent = world.launch("true").start();
    world.backend.refused();
    assert_eq!(agent.terminate().code(), Some(0));
}

/// A run that goes on without a connection is ended with the daemon.
#[test]
fn a_run_without_a_connection_is_ended() {
    let world = World::new();
    let mut agent = world.agent("tell up; hold never");
    world.assign("T-1");
    world.told("up");
    for _ in 0..50 {
        world.backend.next_upgrade(Upgrade::Drop);
    }
    world.backend.cut();
    world.backend.refused();
    assert_eq!(agent.terminate().code(), Some(0));
    let left = world.processes(&agent);
    assert!(left.is_empty(), "still running: {left:?}");
}

/// A download that hangs does not keep the daemon from ending, nor the ticket from being answered.
#[test]
fn a_hanging_download_does_not_keep_the_daemon() {
    let world = World::new();
    world.backend.answer("/api/tickets/T-1", Answer::never());
    let mut agent = world.agent("tell ran");
    world.backend.send(&ticket_with(
        "T-1",
        json!({"title": null, "description": null}),
    ));
    crate::support::eventually("the request", || {
        world.backend.requests_for("/api/tickets/T-1").pop()
    });
    agent.signal(Signal::SIGTERM);
    assert_eq!(world.backend.outcome("T-1")["code"], "agent_shutdown");
    assert_eq!(agent.exit_code(), 0, "{}", agent.log());
    assert!(!world.has_told("ran"));
}

/// While it ends, the daemon takes no further ticket.
#[test]
fn no_ticket_is_taken_while_ending() {
    let world = World::new();
    let mut agent = world.agent(
        "[ $WF0_TICKET_ID = T-1 ] || tell ran; trap 'tell asked; hold end; exit 0' TERM; tell up; hold never & wait",
    );
    world.assign("T-1");
    world.told("up");
    agent.signal(Signal::SIGTERM);
    world.told("asked");
    world.assign("T-2");
    world.release("end");
    assert_eq!(agent.exit_code(), 0);
    let claims = world
        .backend
        .frames()
        .into_iter()
        .filter(|frame| frame["type"] == "ticket.claim");
    assert_eq!(
        claims
            .map(|claim| claim["ticketId"].clone())
            .collect::<Vec<_>>(),
        ["T-1"]
    );
    assert!(!world.has_told("ran"));
}

/// An agent that runs T-1, has got a signal, and drains.
fn draining(world: &World, script: &str, seconds: &str) -> Agent {
    let launch = world.launch(script).env("DRAIN_SECONDS", seconds);
    let agent = world.registered(launch);
    world.assign("T-1");
    world.told("up");
    agent.signal(Signal::SIGTERM);
    world
        .backend
        .frame_where("agent.heartbeat", |beat| beat["status"] == "draining");
    agent
}

/// With time to drain, a run goes on to its own result after the signal, and then the daemon ends.
#[test]
fn a_drain_waits_for_the_run() {
    let world = World::new();
    let mut agent = draining(&world, "tell up; hold go; echo done", "60");
    let refused = world.outcome_of("T-2");
    assert_eq!(
        (refused["code"].as_str(), refused["retryable"].as_bool()),
        (Some("agent_shutdown"), Some(true))
    );
    world.release("go");
    let result = world.backend.outcome("T-1");
    assert_eq!(
        (result["type"].as_str(), result["stdout"].as_str()),
        (Some("ticket.result"), Some("done\n"))
    );
    assert_eq!(agent.exit_code(), 0);
}

/// A second signal ends the drain and the run with it.
#[test]
fn a_second_signal_ends_the_run() {
    let world = World::new();
    let mut agent = draining(&world, "tell up; hold never", "3600");
    agent.signal(Signal::SIGINT);
    assert_eq!(world.backend.outcome("T-1")["code"], "agent_shutdown");
    assert_eq!(agent.exit_code(), 0);
    assert!(world.processes(&agent).is_empty());
}
