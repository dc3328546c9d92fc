//! Tickets that are not for this agent: refused at once, without a claim.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::world::{World, ticket, ticket_with};

/// Fails unless the ticket was refused with that code: one `ticket.fail`, no claim, nothing run.
fn assert_refused(world: &World, id: &str, fail: &Value, code: &str, retryable: bool) {
    assert_eq!(fail["type"], "ticket.fail", "{fail}");
    assert_eq!(fail["code"], code, "{fail}");
    assert_eq!(fail["retryable"], retryable, "{fail}");
    assert_eq!(fail["attempt"], 1);
    let error = fail["error"].as_str().unwrap();
    assert!(
        !error.is_empty() && !error.contains('\n'),
        "{error:?} is not one line"
    );
    world.fence();
    assert_eq!(
        world.backend.frames_of(id).len(),
        1,
        "{:#?}",
        world.backend.frames_of(id)
    );
}

fn as_text(path: &Path) -> Value {
    Value::from(path.to_str().unwrap())
}

/// A repository is found by its slug and by every path that leads to it.
#[test]
fn a_repository_has_several_names() {
    let world = World::new();
    symlink(world.repo(), world.path("link")).unwrap();
    symlink(world.path("link"), world.path("link-to-link")).unwrap();
    let _agent = world.agent("pwd -P");
    let names = [
        json!("acme/app"),
        as_text(&world.repo()),
        as_text(&world.path("app/")),
        as_text(&world.path("app/.")),
        as_text(&world.path("app/src/..")),
        as_text(&world.path("home/../app")),
        as_text(&world.path("link")),
        as_text(&world.path("link-to-link")),
    ];
    for (n, name) in names.into_iter().enumerate() {
        let result = world.outcome_with(&format!("T-{n}"), json!({ "repo": name }));
        assert_eq!(result["type"], "ticket.result", "{name}: {result}");
        assert_eq!(
            result["stdout"].as_str().unwrap().trim(),
            world.repo().to_str().unwrap(),
            "{name}"
        );
    }
}

/// A folder inside a repository, the one above, a neighbour and whatever else is not an entry of `REPO_PATHS` is refused.
#[test]
fn only_the_exact_entries_are_allowed() {
    let world = World::new();
    world.make_repo("app2");
    world.make_repo("app/nested");
    symlink(world.path("app2"), world.repo().join("way-out")).unwrap();
    let _agent = world.agent("tell ran");
    let names = [
        as_text(&world.path("app/src")),
        as_text(&world.path("app/nested")),
        as_text(&world.path("app/.git")),
        as_text(&world.path("app/README.md")),
        as_text(&world.path("app/way-out")),
        as_text(&world.path("app/..")),
        as_text(&world.path("")),
        as_text(&world.path("app2")),
        as_text(&world.path("app/../app2")),
        as_text(&world.path("ap")),
        as_text(&world.path("missing")),
        as_text(&world.path("missing/../missing")),
        json!("/"),
        json!("app"),
        json!("./app"),
        json!("acme/app/src"),
        json!("acme/other"),
        json!("acme"),
        json!("acme/app/.."),
        json!("acme/*"),
        json!(""),
    ];
    for (n, name) in names.into_iter().enumerate() {
        let id = format!("T-{n}");
        world
            .backend
            .send_anything(&ticket_with(&id, json!({ "repo": name })));
        let fail = world.backend.outcome(&id);
        assert_refused(&world, &id, &fail, "repo_not_allowed", true);
    }
    assert!(!world.has_told("ran"));
}

/// A link that leads out of its old place since the start leads nowhere: what it names now is checked.
#[test]
fn a_link_is_followed_when_the_ticket_comes() {
    let world = World::new();
    let secret = world.make_repo("secret");
    symlink(world.repo(), world.path("link")).unwrap();
    let _agent = world.agent("pwd -P");
    fs::remove_file(world.path("link")).unwrap();
    symlink(&secret, world.path("link")).unwrap();
    let fail = world.outcome_with("T-1", json!({"repo": as_text(&world.path("link"))}));
    assert_refused(&world, "T-1", &fail, "repo_not_allowed", true);
}

/// The long form of a role means the same as the short one.
#[test]
fn long_roles_are_short_roles() {
    let world = World::new();
    let launch = world
        .launch(r#"printf %s "$1""#)
        .env("CLI_ARGS_TEMPLATE", "{role}");
    let _agent = world.registered(launch);
    for (n, (role, short)) in [
        ("dev", "dev"),
        ("dev_agent", "dev"),
        ("qa", "qa"),
        ("qa_agent", "qa"),
    ]
    .into_iter()
    .enumerate()
    {
        let result = world.outcome_with(&format!("T-{n}"), json!({ "role": role }));
        assert_eq!(result["stdout"], short, "{role}: {result}");
    }
}

/// A role that the agent did not register is refused.
#[test]
fn other_roles_are_refused() {
    let world = World::new();
    let _agent = world.registered(world.launch("tell ran").env("AGENT_ROLES", "dev"));
    for (n, role) in [
        "qa",
        "qa_agent",
        "docs",
        "developer",
        "dev_agent_agent",
        "d",
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("T-{n}");
        let fail = world.outcome_with(&id, json!({ "role": role }));
        assert_refused(&world, &id, &fail, "role_not_allowed", true);
    }
    assert!(!world.has_told("ran"));
}

/// Every id of the allowed letters is run, also one that looks like a path or an option.
#[test]
fn every_allowed_id_is_run() {
    let world = World::new();
    let _agent = world.agent(r#"printf %s "$WF0_TICKET_ID""#);
    for id in [
        "a",
        "..",
        ".",
        "-rf",
        "--help",
        "A:b_c.d-9",
        "CON",
        &"x".repeat(128),
    ] {
        let result = world.outcome_of(id);
        assert_eq!(result["type"], "ticket.result", "{id}: {result}");
        assert_eq!(result["stdout"], id);
    }
}

/// An id beyond the allowed letters is never run, and no file is named by it.
#[test]
fn other_ids_are_never_run() {
    let world = World::new();
    let _agent = world.agent("tell ran");
    for id in [
        "",
        "a/b",
        "../../escape",
        "a b",
        "a\0b",
        "é",
        "a\\b",
        "a%2e",
        "a;b",
        "a$b",
        &"x".repeat(129),
    ] {
        world.backend.send_anything(&ticket(id));
    }
    world.fence();
    assert!(!world.has_told("ran"));
    assert!(
        world
            .backend
            .frames()
            .iter()
            .all(|frame| frame["type"] != "ticket.claim")
    );
    assert!(!world.path("escape").exists());
}

/// Sixteen tickets wait beyond the one that runs; the next is refused, and is welcome once there is room.
#[test]
fn a_full_waiting_line_refuses() {
    let world = World::new();
    let _agent = world.agent("tell started; hold go-on-$WF0_TICKET_ID");
    world.assign("T-0");
    world.told("started");
    for n in 1..=16 {
        world.assign(&format!("T-{n}"));
    }
    let fail = world.outcome_of("late");
    assert_refused(&world, "late", &fail, "at_capacity", true);
    let claims = world
        .backend
        .frames()
        .iter()
        .filter(|frame| frame["type"] == "ticket.claim")
        .count();
    assert_eq!(claims, 17);

    world.release("go-on-T-0");
    assert_eq!(world.backend.outcome("T-0")["type"], "ticket.result");
    world.told("started");
    world.assign("late");
    let claim = world.backend.frame("ticket.claim");
    assert_eq!(claim["ticketId"], "late");
}
