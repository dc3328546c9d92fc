//! The daemon is killed and started again: nothing is lost, nothing runs twice, nothing is left running.
//!
//! First the steps of a ticket in their order: `killed_before_the_claim`, `killed_after_the_claim`,
//! `killed_while_the_cli_runs`, `killed_once_the_cli_has_ended`, `killed_before_the_outcome_is_sent`,
//! `killed_before_the_outcome_is_proven`. Then what is peculiar.

use std::fs;

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::backend::{Answer, Upgrade};
use crate::support::eventually;
use crate::support::world::{World, ticket_with};

/// Whatever has become of the daemon: the ticket has one outcome, however often it was sent, it ran so many times,
/// and nothing of it is left running.
fn assert_answered_once(world: &World, agent: &Agent, ticket: &str, runs: usize) {
    world.fence();
    let outcomes = world.backend.outcomes_of(ticket);
    assert!(
        !outcomes.is_empty() && outcomes.iter().all(|outcome| *outcome == outcomes[0]),
        "{outcomes:#?}"
    );
    let ran = fs::read_to_string(world.path("ran")).unwrap_or_default();
    assert_eq!(
        ran.lines().filter(|line| *line == ticket).count(),
        runs,
        "{ran}"
    );
    let left = world.processes(agent);
    assert!(left.is_empty(), "still running: {left:?}");
}

/// Notes that it ran, for [`assert_answered_once`].
const NOTE: &str = "echo \"$WF0_TICKET_ID\" >> \"$WORLD/ran\"";

/// A ticket whose payload is downloaded, first in vain, and then well.
fn downloaded(world: &World) -> Value {
    world.backend.answer("/api/tickets/T-1", Answer::never());
    world.backend.answer(
        "/api/tickets/T-1",
        Answer::data(json!({"title": "Do it", "description": "This."})),
    );
    ticket_with("T-1", json!({"title": null, "description": null}))
}

/// The ticket of [`downloaded`] runs now, once.
fn assert_runs_to_its_end(world: &World, agent: &Agent) {
    let result = world.backend.outcome("T-1");
    assert_eq!(
        (result["type"].as_str(), result["stdout"].as_str()),
        (Some("ticket.result"), Some("done\n"))
    );
    assert_answered_once(world, agent, "T-1", 1);
}

/// A run was cut off: its outcome says so, and has its output and its diff so far.
fn assert_cut_off(fail: &Value, stdout: &str) {
    assert_eq!(
        (fail["code"].as_str(), fail["retryable"].as_bool()),
        (Some("agent_restarted"), Some(true)),
        "{fail}"
    );
    assert_eq!(fail["stdout"], stdout);
    assert!(
        fail["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("+changed")),
        "{fail}"
    );
}

/// The download has been asked for.
fn wait_for_the_download(world: &World) {
    eventually("the download", || {
        world.backend.requests_for("/api/tickets/T-1").pop()
    });
}

/// On disk, and the claim never arrived: it runs after the restart, and assigned once more it does not run again.
#[test]
fn killed_before_the_claim() {
    let world = World::new();
    let script = format!("{NOTE}; echo done");
    let mut agent = world.agent(&script);
    let ticket = downloaded(&world);
    world.backend.freeze();
    world.backend.send(&ticket);
    eventually("the ticket on disk", || {
        let folder = fs::read_dir(world.state().join("tickets"))
            .ok()?
            .flatten()
            .next()?;
        folder.path().join("ticket.json").exists().then_some(())
    });
    wait_for_the_download(&world);
    agent.crash();
    assert!(
        world.backend.frames_of("T-1").is_empty(),
        "{:#?}",
        world.backend.frames_of("T-1")
    );

    let agent = world.agent(&script);
    world.backend.send(&ticket);
    assert_runs_to_its_end(&world, &agent);
}

/// Claimed, and its program not started: it runs after the restart.
#[test]
fn killed_after_the_claim() {
    let world = World::new();
    let script = format!("{NOTE}; echo done");
    let mut agent = world.agent(&script);
    world.backend.send(&downloaded(&world));
    world.backend.frame("ticket.claim");
    wait_for_the_download(&world);
    agent.crash();

    let agent = world.agent(&script);
    assert_runs_to_its_end(&world, &agent);
}

/// A run that was cut off is `agent_restarted`, with its output and its diff so far, and its processes are gone;
/// a ticket that had only been claimed runs.
#[test]
fn killed_while_the_cli_runs() {
    let world = World::new();
    let script = format!(
        "{NOTE}; echo partial; echo changed >> README.md; setsid sleep 1000 &
        tell \"up $WF0_TICKET_ID\"; hold \"$WF0_TICKET_ID\""
    );
    let mut agent = world.agent(&script);
    world.assign("T-1");
    world.told("up T-1");
    world.assign("T-2");
    world
        .backend
        .frame_where("ticket.claim", |claim| claim["ticketId"] == "T-2");
    // What is still in the pipe goes with the daemon that reads it.
    eventually("the output on disk", || {
        let runs = fs::read_dir(world.state().join("tickets"))
            .unwrap()
            .flatten();
        runs.map(|run| run.path().join("stdout.log"))
            .find(|log| fs::read(log).is_ok_and(|text| text == b"partial\n"))
    });
    agent.crash();
    assert!(
        !world.processes(&agent).is_empty(),
        "the crash itself ends no run"
    );

    let agent = world.agent(&script);
    let fail = world.backend.outcome("T-1");
    assert_cut_off(&fail, "partial\n");
    assert_eq!(
        fail["baseCommit"],
        world.git(&world.repo(), &["rev-parse", "HEAD"]).trim()
    );
    world.told("up T-2");
    world.release("T-2");
    let result = world.backend.outcome("T-2");
    assert_eq!(result["type"], "ticket.result", "{result}");
    for ticket in ["T-1", "T-2"] {
        assert_answered_once(&world, &agent, ticket, 1);
    }
}

/// The CLI has ended, and its outcome is not yet on disk: it counts as cut off, with all its output and its diff, and
/// the git that took the diff for the daemon of before is gone.
#[cfg(target_os = "linux")]
#[test]
fn killed_once_the_cli_has_ended() {
    let world = World::new();
    let script = format!("{NOTE}; echo done; echo changed >> README.md");
    let search_path = std::env::var("PATH").unwrap();
    let bin = world.path("bin");
    fs::create_dir(&bin).unwrap();
    let git = format!(
        "case \"$*\" in *diff-tree*) tell diff; hold diff;; esac; PATH='{search_path}' exec git \"$@\""
    );
    world.program(&bin.join("git"), &git);
    let path = format!("{}:{search_path}", bin.display());
    let mut agent = world.registered(world.launch(&script).env("PATH", path));
    world.assign("T-1");
    world.told("diff");
    agent.crash();
    assert!(!world.processes(&agent).is_empty(), "git holds");

    let agent = world.agent(&script);
    let fail = world.backend.outcome("T-1");
    assert_cut_off(&fail, "done\n");
    assert_answered_once(&world, &agent, "T-1", 1);
}

/// An outcome that came while nobody listened arrives after the restart, as it was, and is not run again.
#[test]
fn killed_before_the_outcome_is_sent() {
    let world = World::new();
    let script = format!("{NOTE}; tell up; hold go; echo done; echo changed >> README.md");
    let mut agent = world.agent(&script);
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
    let agent = world.agent(&script);
    let result = world.backend.outcome("T-1");
    assert_eq!(
        (result["type"].as_str(), result["stdout"].as_str()),
        (Some("ticket.result"), Some("done\n"))
    );
    assert!(
        result["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("+changed")),
        "{result}"
    );
    assert_answered_once(&world, &agent, "T-1", 1);
}

/// An outcome whose arrival was never proven is sent again after a restart; one whose Pong came is not.
#[test]
fn killed_before_the_outcome_is_proven() {
    for proven in [false, true] {
        let world = World::new();
        let mut agent = world.agent(&format!("{NOTE}; echo done"));
        if !proven {
            world.backend.ignore_pings();
        }
        let first = world.outcome_of("T-1");
        if proven {
            // The Pong to the outcome's own Ping comes before the answer to this.
            world.fence();
        }
        agent.crash();
        let agent = world.agent(&format!("{NOTE}; echo again"));
        world.fence();
        let sent = world.backend.outcomes_of("T-1");
        assert_eq!(sent.len(), if proven { 1 } else { 2 }, "{sent:#?}");
        assert_eq!(sent[0], first);
        assert_answered_once(&world, &agent, "T-1", 1);
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
        (
            "00000000000000000000000000000001",
            "ticket.json",
            "{\"ticket_id\":",
        ),
        ("00000000000000000000000000000002", "ticket.json", "[]"),
        ("00000000000000000000000000000003", "ticket.json", ""),
    ] {
        fs::create_dir(tickets.join(name)).unwrap();
        fs::write(tickets.join(name).join(file), content).unwrap();
    }
    let agent = world.registered(world.launch("echo done"));
    for n in 1..=3 {
        assert!(
            tickets.join(format!("{n:032}.unusable")).is_dir(),
            "{}",
            agent.log()
        );
    }
    assert!(
        agent.log().matches(" WARN ").count() >= 3,
        "{}",
        agent.log()
    );
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
    world
        .backend
        .send(&ticket_with("T-1", json!({"attempt": 2})));
    world
        .backend
        .frame_where("ticket.claim", |claim| claim["attempt"] == 2);
    agent.crash();
    let _agent = world.agent(script);
    let fail = world.backend.outcome("T-1");
    assert_eq!(
        (fail["code"].as_str(), fail["attempt"].as_u64()),
        (Some("agent_restarted"), Some(2)),
        "{fail}"
    );
}
