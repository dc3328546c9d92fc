//! Claims, repeats, cancellations, and outcomes that have to arrive.

use serde_json::{Value, json};

use crate::support::backend::{What, is_outcome};
use crate::support::world::{World, ticket_with};

fn attempt(id: &str, attempt: u32) -> Value {
    ticket_with(id, json!({ "attempt": attempt }))
}

fn cancel(id: &str) -> Value {
    json!({"type": "ticket.cancel", "ticketId": id, "reason": "no longer wanted"})
}

/// How often the CLI was started so far, by a script that writes a line each time.
fn runs(world: &World) -> usize {
    world.read("runs").lines().count()
}

/// What the backend does with an outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stored {
    /// It answers neither the outcome nor any Ping.
    Unproven,
    /// It answers no Ping, but sends a `ticket.ack`.
    Acked,
    /// It answers the Ping behind the outcome.
    Ponged,
}

/// Assigns a ticket, waits for its outcome, and until the agent has heard what the backend does with it.
fn finish(world: &World, id: &str, stored: Stored) -> Value {
    if stored != Stored::Ponged {
        world.backend.ignore_pings();
    }
    let outcome = world.outcome_of(id);
    match stored {
        Stored::Unproven => {}
        Stored::Acked => {
            world.backend.send(
                &json!({"type": "ticket.ack", "ticketId": id, "attempt": outcome["attempt"]}),
            );
        }
        Stored::Ponged => {
            world
                .backend
                .wait_for("the Ping behind the outcome", |seen| {
                    matches!(seen.what, What::Ping).then_some(())
                });
        }
    }
    world.fence();
    outcome
}

/// What comes on the next connection after a ticket has ended and the connection is lost.
fn after_a_loss(world: &World, stored: Stored) -> Vec<Value> {
    finish(world, "T-1", stored);
    world.backend.cut();
    world.backend.frame("agent.register");
    world.fence();
    world.backend.frames_on(2)
}

const COUNT: &str = "echo $WF0_TICKET_ID >> \"$WORLD/runs\"";

/// An assignment without an attempt is the first.
#[test]
fn the_first_attempt_need_not_be_named() {
    let world = World::new();
    let _agent = world.agent("true");
    world
        .backend
        .send(&ticket_with("T-1", json!({"attempt": null})));
    assert_eq!(world.backend.frame("ticket.claim")["attempt"], 1);
    assert_eq!(world.backend.outcome("T-1")["attempt"], 1);
}

/// The attempt of the assignment is that of the claim and of the outcome.
#[test]
fn the_attempt_is_echoed() {
    let world = World::new();
    let _agent = world.agent("true");
    world.backend.send(&attempt("T-1", 7));
    assert_eq!(world.backend.frame("ticket.claim")["attempt"], 7);
    assert_eq!(world.backend.outcome("T-1")["attempt"], 7);
}

/// The same ticket again while it runs, or waits, is claimed again and runs once.
#[test]
fn a_repeat_of_an_active_ticket_is_claimed_again() {
    let world = World::new();
    let _agent = world.agent(&format!("{COUNT}; tell up; hold $WF0_TICKET_ID"));
    for id in ["T-1", "T-2"] {
        for _ in 0..2 {
            world.assign(id);
            let claim = world.backend.frame("ticket.claim");
            assert_eq!(
                (claim["ticketId"].as_str(), claim["attempt"].as_u64()),
                (Some(id), Some(1))
            );
        }
    }
    world.told("up");
    for id in ["T-1", "T-2"] {
        world.release(id);
        assert_eq!(world.backend.outcome(id)["type"], "ticket.result");
    }
    world.fence();
    assert_eq!(runs(&world), 2);
    assert_eq!(
        (
            world.backend.outcomes_of("T-1").len(),
            world.backend.outcomes_of("T-2").len()
        ),
        (1, 1)
    );
}

/// A finished ticket that comes again is answered with the same outcome and not run again, whether the outcome was
/// acknowledged, proven by a Pong, or neither.
#[test]
fn a_repeat_of_a_finished_ticket_is_answered_again() {
    for end in ["echo done", "echo broken >&2; exit 4"] {
        for stored in [Stored::Acked, Stored::Ponged] {
            let world = World::new();
            let _agent = world.agent(&format!("{COUNT}; {end}"));
            let first = finish(&world, "T-1", stored);
            assert_eq!(finish(&world, "T-1", stored), first);
            assert_eq!(world.outcome_of("T-1"), first);
            assert_eq!(runs(&world), 1);
            let claims = world
                .backend
                .frames()
                .iter()
                .filter(|frame| frame["type"] == "ticket.claim")
                .count();
            assert_eq!(claims, 1, "a finished ticket is not claimed");
        }
    }
}

/// A finished ticket that comes again is answered again also while nothing proves that its outcome has arrived.
#[test]
fn a_repeat_of_an_unproven_outcome_is_answered_again() {
    let world = World::new();
    let _agent = world.agent(COUNT);
    let first = finish(&world, "T-1", Stored::Unproven);
    world.assign("T-1");
    world.fence();
    assert_eq!(world.backend.outcomes_of("T-1"), [first.clone(), first]);
    assert_eq!(runs(&world), 1);
}

/// A higher attempt of a running ticket is claimed, and the one run answers for both.
#[test]
fn a_higher_attempt_of_a_running_ticket_joins_the_run() {
    let world = World::new();
    let _agent = world.agent(&format!("{COUNT}; tell up; hold end"));
    world.assign("T-1");
    assert_eq!(world.backend.frame("ticket.claim")["attempt"], 1);
    world.told("up");
    world.backend.send(&attempt("T-1", 2));
    assert_eq!(world.backend.frame("ticket.claim")["attempt"], 2);
    world.release("end");
    let last = world
        .backend
        .wait_for("the outcome of attempt 2", |seen| match &seen.what {
            What::Frame(frame) if is_outcome(frame) && frame["attempt"] == 2 => Some(frame.clone()),
            _ => None,
        });
    assert_eq!(last["type"], "ticket.result", "{last}");
    world.fence();
    assert_eq!(runs(&world), 1);
}

/// A higher attempt of a finished ticket is a new run.
#[test]
fn a_higher_attempt_of_a_finished_ticket_is_a_new_run() {
    let world = World::new();
    let _agent = world.agent(COUNT);
    world.outcome_of("T-1");
    world.backend.send(&attempt("T-1", 2));
    assert_eq!(
        world
            .backend
            .frame_where("ticket.claim", |claim| claim["attempt"] == 2)["ticketId"],
        "T-1"
    );
    assert_eq!(world.backend.outcome("T-1")["attempt"], 2);
    assert_eq!(runs(&world), 2);
}

/// A running ticket that is cancelled is ended with its whole tree, and the slot is free again.
#[test]
fn a_running_ticket_is_cancelled() {
    let world = World::new();
    let agent = world.agent(
        "[ $WF0_TICKET_ID = T-2 ] && exit 0
        echo partial; ( trap '' TERM; tell grandchild; hold never ) & tell up; hold never",
    );
    world.assign("T-1");
    world.told("up");
    world.told("grandchild");
    world.backend.send(&cancel("T-1"));
    let fail = world.backend.outcome("T-1");
    let left = world.processes(&agent);
    assert!(left.is_empty(), "still running: {left:?}");
    assert_eq!(
        (fail["type"].as_str(), fail["code"].as_str()),
        (Some("ticket.fail"), Some("cancelled")),
        "{fail}"
    );
    assert_eq!(fail["retryable"], false);
    assert_eq!(fail["stdout"], "partial\n");
    assert_eq!(world.outcome_of("T-2")["type"], "ticket.result");
    assert_eq!(world.backend.outcomes_of("T-1").len(), 1);
}

/// A waiting ticket that is cancelled never runs.
#[test]
fn a_waiting_ticket_is_cancelled() {
    let world = World::new();
    let _agent = world.agent(&format!("{COUNT}; tell up; hold end"));
    world.assign("T-1");
    world.told("up");
    world.assign("T-2");
    world.backend.send(&cancel("T-2"));
    let fail = world.backend.outcome("T-2");
    assert_eq!(fail["code"], "cancelled", "{fail}");
    world.release("end");
    world.backend.outcome("T-1");
    world.release("end");
    assert_eq!(world.outcome_of("T-3")["type"], "ticket.result");
    assert_eq!(world.read("runs"), "T-1\nT-3\n");
}

/// A cancellation of an unknown ticket, and of one that has ended, is ignored.
#[test]
fn a_cancellation_of_nothing_is_ignored() {
    let world = World::new();
    let _agent = world.agent("echo ran");
    world.outcome_of("T-1");
    world.backend.send(&cancel("never-seen"));
    world.backend.send(&cancel("T-1"));
    world.fence();
    assert!(world.backend.frames_of("never-seen").is_empty());
    assert_eq!(world.backend.outcomes_of("T-1").len(), 1);
    // A cancellation is for the ticket that is there, not for one that comes later.
    assert_eq!(world.outcome_of("never-seen")["stdout"], "ran\n");
}

/// A cancelled ticket that comes again is answered with its outcome; a higher attempt of it runs.
#[test]
fn a_cancelled_ticket_can_be_tried_again() {
    let world = World::new();
    let _agent = world.agent("tell up; hold $WF0_TICKET_ID");
    world.assign("T-1");
    world.told("up");
    world.backend.send(&cancel("T-1"));
    assert_eq!(world.backend.outcome("T-1")["code"], "cancelled");
    world
        .backend
        .wait_for("the Ping behind the outcome", |seen| {
            matches!(seen.what, What::Ping).then_some(())
        });
    world.fence();
    assert_eq!(finish(&world, "T-1", Stored::Ponged)["code"], "cancelled");
    world.release("T-1");
    world.backend.send(&attempt("T-1", 2));
    assert_eq!(world.backend.outcome("T-1")["type"], "ticket.result");
}

/// An outcome that nothing proves to have arrived is sent again after the next registration, before anything new.
#[test]
fn an_unproven_outcome_is_sent_again() {
    let world = World::new();
    let _agent = world.agent("echo done");
    let frames = after_a_loss(&world, Stored::Unproven);
    assert_eq!(frames[0]["type"], "agent.register");
    assert_eq!(
        (frames[1]["type"].as_str(), frames[1]["ticketId"].as_str()),
        (Some("ticket.result"), Some("T-1"))
    );
    assert_eq!(world.backend.outcomes_of("T-1").len(), 2);
    assert_eq!(
        world.backend.outcomes_of("T-1")[0],
        frames[1],
        "both times the same"
    );
}

/// An outcome that was acknowledged, or behind which a Ping was answered, is not sent again.
#[test]
fn a_proven_outcome_is_not_sent_again() {
    for (label, stored) in [
        ("acknowledged", Stored::Acked),
        ("by a Pong", Stored::Ponged),
    ] {
        let world = World::new();
        let _agent = world.agent("echo done");
        let frames = after_a_loss(&world, stored);
        assert!(
            frames.iter().all(|frame| frame["ticketId"] != "T-1"),
            "{label}: {frames:#?}"
        );
    }
}

/// Outcomes that were not proven are sent again oldest first.
#[test]
fn unproven_outcomes_are_sent_again_in_order() {
    let world = World::new();
    let _agent = world.agent("true");
    world.backend.ignore_pings();
    let ids = ["T-3", "T-1", "T-2"];
    for id in ids {
        world.outcome_of(id);
    }
    world.backend.cut();
    world.backend.frame("agent.register");
    let again = world.backend.outcomes(&ids);
    assert_eq!(
        again
            .iter()
            .map(|frame| frame["ticketId"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ids
    );
}

/// A newer attempt of a ticket that is being cancelled is another run: it does not end as cancelled.
#[test]
fn a_newer_attempt_outlives_the_cancellation() {
    let world = World::new();
    let script = "[ -e \"$WORLD/second\" ] && { echo second; exit; }; : > \"$WORLD/second\"; trap '' TERM; tell up; hold never";
    let _agent = world.agent(script);
    world.assign("T-1");
    world.told("up");
    world
        .backend
        .send(&json!({"type": "ticket.cancel", "ticketId": "T-1"}));
    world
        .backend
        .send(&ticket_with("T-1", json!({"attempt": 2})));
    let first = world.backend.outcome("T-1");
    assert_eq!(
        (first["code"].as_str(), first["attempt"].as_u64()),
        (Some("cancelled"), Some(1)),
        "{first}"
    );
    let second = world.backend.outcome("T-1");
    assert_eq!(
        (second["stdout"].as_str(), second["attempt"].as_u64()),
        (Some("second\n"), Some(2)),
        "{second}"
    );
}
