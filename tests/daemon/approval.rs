//! With `REQUIRE_APPROVAL` nothing runs before the person at the terminal has said yes.

use serde_json::json;

use crate::support::agent::Agent;
use crate::support::world::{World, ticket_with};

/// An agent at a terminal that asks before each run.
fn asking(world: &World, script: &str) -> Agent {
    world.registered(
        world
            .launch(script)
            .env("REQUIRE_APPROVAL", "1")
            .env("NO_COLOR", "1")
            .at_terminal(),
    )
}

/// Title, role, repository and prompt are shown, and a yes runs the ticket.
#[test]
fn a_yes_runs_it() {
    let world = World::new();
    let agent = asking(&world, "echo ran");
    world.backend.send(&ticket_with(
        "T-1",
        json!({"title": "Mend it", "description": "The whole of it."}),
    ));
    for shown in [
        "Ticket T-1: Mend it",
        "role: dev",
        &world.repo().display().to_string(),
        "| The whole of it.",
    ] {
        agent.logged(shown);
    }
    agent.type_line("y");
    assert_eq!(world.backend.outcome("T-1")["stdout"], "ran\n");
}

/// A no is `rejected`, which another agent may try, and nothing was started; an answer that is none is asked for again.
#[test]
fn a_no_rejects_it() {
    let world = World::new();
    let agent = asking(&world, "echo ran > \"$WORLD/ran\"");
    world.assign("T-1");
    agent.logged("prompt:");
    agent.type_line("perhaps");
    agent.type_line("\u{4}");
    agent.type_line("n");
    let fail = world.backend.outcome("T-1");
    assert_eq!(
        (fail["code"].as_str(), fail["retryable"].as_bool()),
        (Some("rejected"), Some(true)),
        "{fail}"
    );
    assert!(!world.path("ran").exists());
}

/// `REPO_PATHS` with one more repository, `acme/web`.
fn app_and_web(world: &World) -> String {
    let web = world.make_repo("web");
    format!(
        "acme/app={},acme/web={}",
        world.repo().display(),
        web.display()
    )
}

/// "Always" asks no more for that repository, and still does for another.
#[test]
fn always_is_for_one_repository() {
    let world = World::new();
    let paths = app_and_web(&world);
    let launch = world
        .launch("echo ran")
        .env("REPO_PATHS", paths)
        .env("REQUIRE_APPROVAL", "1");
    let agent = world.registered(launch.at_terminal());
    world.assign("T-1");
    agent.logged("prompt:");
    agent.type_line("a");
    world.backend.outcome("T-1");
    assert_eq!(world.outcome_of("T-2")["type"], "ticket.result");
    world
        .backend
        .send(&ticket_with("T-3", json!({"repo": "acme/web"})));
    agent.logged("Ticket T-3");
    agent.logged("prompt:");
    agent.type_line("n");
    assert_eq!(world.backend.outcome("T-3")["code"], "rejected");
}

/// One question at a time; who waits for an answer can be cancelled, and so can who waits for the turn to ask.
#[test]
fn one_question_at_a_time() {
    let world = World::new();
    let paths = app_and_web(&world);
    let launch = world
        .launch("echo ran")
        .env("REPO_PATHS", paths)
        .env("MAX_CONCURRENT_TICKETS", "2");
    let agent = world.registered(launch.env("REQUIRE_APPROVAL", "1").at_terminal());
    world.assign("T-1");
    agent.logged("Ticket T-1");
    world
        .backend
        .send(&ticket_with("T-2", json!({"repo": "acme/web"})));
    world
        .backend
        .frame_where("ticket.claim", |claim| claim["ticketId"] == "T-2");
    world
        .backend
        .send(&json!({"type": "ticket.cancel", "ticketId": "T-2"}));
    assert_eq!(world.backend.outcome("T-2")["code"], "cancelled");
    assert!(
        !agent.log().contains("Ticket T-2"),
        "asked beside another question:\n{}",
        agent.log()
    );
    world
        .backend
        .send(&json!({"type": "ticket.cancel", "ticketId": "T-1"}));
    assert_eq!(world.backend.outcome("T-1")["code"], "cancelled");
    world.assign("T-3");
    agent.logged("Ticket T-3");
    agent.logged("prompt:");
    agent.type_line("yes");
    assert_eq!(world.backend.outcome("T-3")["stdout"], "ran\n");
}

/// What a ticket says cannot move the cursor or hide a line: escape sequences and control characters are not shown.
#[test]
fn a_ticket_cannot_write_over_the_question() {
    let world = World::new();
    let agent = asking(&world, "true");
    let description = format!(
        "harmless\u{1b}[2K\u{1b}[1Ahidden\rover\u{7}\n{}",
        "x".repeat(100_000)
    );
    world.backend.send(&ticket_with(
        "T-1",
        json!({"title": "a\u{1b}[8mb", "description": description}),
    ));
    agent.logged("Ticket T-1");
    let line = agent.logged("harmless");
    assert!(line.contains("harmlesshiddenover"), "{line:?}");
    agent.logged("xxx…");
    assert!(
        !agent.log().contains('\u{1b}') && agent.log().len() < 10_000,
        "{:?}",
        agent.log()
    );
    agent.type_line("n");
    world.backend.outcome("T-1");
}

/// Without a terminal nobody could be asked: the daemon refuses to start.
#[test]
fn without_a_terminal_it_does_not_start() {
    let world = World::new();
    let ended = world.launch("true").env("REQUIRE_APPROVAL", "1").output();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("REQUIRE_APPROVAL"),
        "{}",
        ended.stderr
    );
}
